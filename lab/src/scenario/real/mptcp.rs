//! Multipath TCP: a subflow is refused or reset, the connection lives on.
//!
//! Removing an address (`ip mptcp endpoint delete`) would not do: it closes the subflow with FIN.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::SockaddrStorage;

use super::counters::Counters;
use super::pair::{self, Flow, PORT, Produced};
use super::router;
use super::socket::impatient;
use super::wire::Wire;
use crate::LabError;
use crate::error::During;
use crate::frame::Segment;
use crate::netns::Namespace;
use crate::story::PATIENCE;
use crate::topology::{Point, Topology};

/// The client's second address, on the same link: a second subflow needs no more.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 71, 1, 3);
const REQUEST: usize = 100;

/// S58: the client joins a second subflow; the server's limit allows none and refuses it with
/// MP_TCPRST (RFC 8684 3.6), reason "administratively prohibited".
pub fn subflow_refused(topology: &Topology) -> Result<Produced, LabError> {
    let mut wire = Wire::open(topology, Point::Client)?;
    let mut ends = Ends::connect(topology, 0)?;
    let rst = wire.wait_for("the refusal", PATIENCE, |s| s.flags.rst && s.source == ends.address)?;
    if rst.destination.ip() != IpAddr::V4(SECOND) {
        return Err(LabError::Plot(format!("a reset of another subflow: {rst:?}")));
    }
    // The first subflow carries on.
    ends.exchange()?;
    Counters::expect(&topology.server, &[("MPTcpExtMPJoinRejected", 1)])?;
    Ok(Produced::one(Flow { client: rst.destination, server: ends.address }, ends))
}

/// S58E: the second subflow is established when the router begins to strip MPTCP options from it and to
/// drop the first one. Data moves to the second, arrives without its mapping, and the server resets
/// that subflow with MP_TCPRST.
pub fn subflow_stripped(topology: &Topology) -> Result<Produced, LabError> {
    const DATA: usize = 3000;
    let mut wire = Wire::open(topology, Point::Client)?;
    let mut ends = Ends::connect(topology, 2)?;
    let answer = |s: &Segment| s.flags.ack && !s.flags.syn && s.destination.ip() == IpAddr::V4(SECOND);
    wire.wait_for("the second subflow to be established", PATIENCE, answer)?;
    let first = topology.addresses.client;
    let rules = format!("ip saddr {first} counter drop\nip saddr {SECOND} reset tcp option mptcp");
    router::filter(&topology.router, &rules)?;
    ends.client.write_all(&[b'm'; DATA]).during("send while the first subflow is dead")?;
    let rst = wire.wait_for("the reset", PATIENCE, |s| s.flags.rst && s.source == ends.address)?;
    if rst.destination.ip() != IpAddr::V4(SECOND) {
        return Err(LabError::Plot(format!("a reset of another subflow: {rst:?}")));
    }
    // The connection lives, and delivers when its first subflow does.
    router::pass(&topology.router)?;
    ends.server.read_exact(&mut [0; DATA]).during("receive over the first subflow")?;
    Counters::expect(&topology.server, &[("MPTcpExtMPRstTx", 1)])?;
    Ok(Produced::one(Flow { client: rst.destination, server: ends.address }, ends))
}

/// Both ends of an MPTCP connection whose client wants to join its second address.
struct Ends {
    client: TcpStream,
    server: TcpStream,
    address: SocketAddr,
    _listener: TcpListener,
}

impl Ends {
    /// The server accepts so many subflows besides the first.
    fn connect(topology: &Topology, accepts: u8) -> Result<Self, LabError> {
        topology.client.address("c0", IpAddr::V4(SECOND))?;
        topology.client.ip(&["mptcp", "limits", "set", "subflows", "2"])?;
        topology.client.ip(&["mptcp", "endpoint", "add", &SECOND.to_string(), "subflow"])?;
        topology.server.ip(&["mptcp", "limits", "set", "subflows", &accepts.to_string()])?;
        let address = topology.server_socket(PORT);
        let listening = socket(&topology.server)?;
        let any = SockaddrStorage::from(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT));
        nix::sys::socket::bind(listening.as_raw_fd(), &any).during("bind an MPTCP socket")?;
        // SAFETY: a plain call on a descriptor that `listening` keeps open.
        Errno::result(unsafe { libc::listen(listening.as_raw_fd(), pair::BACKLOG) }).during("listen with MPTCP")?;
        let listener = TcpListener::from(listening);
        let connecting = socket(&topology.client)?;
        nix::sys::socket::connect(connecting.as_raw_fd(), &SockaddrStorage::from(address))
            .during("connect with MPTCP")?;
        let client = impatient(connecting.into())?;
        let (server, _) = listener.accept().during("accept")?;
        let mut ends = Self { client, server: impatient(server)?, address, _listener: listener };
        // The client joins its second address when the server has answered data.
        ends.exchange()?;
        Ok(ends)
    }

    fn exchange(&mut self) -> Result<(), LabError> {
        pair::carry(&mut self.client, &mut self.server, REQUEST)?;
        pair::carry(&mut self.server, &mut self.client, REQUEST)
    }
}

fn socket(namespace: &Namespace) -> Result<OwnedFd, LabError> {
    let make = || {
        // SAFETY: a plain call; the descriptor is checked before use.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, libc::IPPROTO_MPTCP) };
        // SAFETY: checked to be open, and nobody else has it.
        Errno::result(fd).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
    };
    namespace.run(make)?.during("make an MPTCP socket; is CONFIG_MPTCP in this kernel?")
}
