//! Multipath TCP: a subflow is refused, the connection lives on.
//!
//! Removing an address (`ip mptcp endpoint delete`) would not do: it closes the subflow with FIN.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::SockaddrStorage;

use super::counters::Counters;
use super::pair::{self, Flow, PORT, Produced};
use super::socket::impatient;
use super::wire::Wire;
use crate::LabError;
use crate::error::During;
use crate::netns::Namespace;
use crate::story::PATIENCE;
use crate::topology::{Point, Topology};

/// The client's second address, on the same link: a second subflow needs no more.
const SECOND: Ipv4Addr = Ipv4Addr::new(10, 71, 1, 3);
const REQUEST: usize = 100;

/// S58: the client joins a second subflow; the server's limit allows none and refuses it with
/// MP_TCPRST (RFC 8684 3.6), reason "administratively prohibited".
pub fn subflow_refused(topology: &Topology) -> Result<Produced, LabError> {
    topology.client.address("c0", IpAddr::V4(SECOND))?;
    topology.client.ip(&["mptcp", "limits", "set", "subflows", "2"])?;
    topology.client.ip(&["mptcp", "endpoint", "add", &SECOND.to_string(), "subflow"])?;
    topology.server.ip(&["mptcp", "limits", "set", "subflows", "0"])?;

    let mut wire = Wire::open(topology, Point::Client)?;
    let server = topology.server_socket(PORT);
    let listening = socket(&topology.server)?;
    let address = SockaddrStorage::from(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT));
    nix::sys::socket::bind(listening.as_raw_fd(), &address).during("bind an MPTCP socket")?;
    // SAFETY: a plain call on a descriptor that `listening` keeps open.
    Errno::result(unsafe { libc::listen(listening.as_raw_fd(), pair::BACKLOG) }).during("listen with MPTCP")?;
    let listener = TcpListener::from(listening);
    let connecting = socket(&topology.client)?;
    nix::sys::socket::connect(connecting.as_raw_fd(), &SockaddrStorage::from(server)).during("connect with MPTCP")?;
    let mut client = impatient(connecting.into())?;
    let (accepted, _) = listener.accept().during("accept")?;
    let mut accepted = impatient(accepted)?;
    // The server has spoken and been answered: only now may the client join.
    pair::carry(&mut client, &mut accepted, REQUEST)?;
    pair::carry(&mut accepted, &mut client, REQUEST)?;

    let rst = wire.wait_for("the refusal", PATIENCE, |s| s.flags.rst && s.source == server)?;
    if rst.destination.ip() != IpAddr::V4(SECOND) {
        return Err(LabError::Plot(format!("a reset of another subflow: {rst:?}")));
    }
    // The first subflow carries on.
    pair::carry(&mut client, &mut accepted, REQUEST)?;
    pair::carry(&mut accepted, &mut client, REQUEST)?;
    Counters::expect(&topology.server, &[("MPTcpExtMPJoinRejected", 1)])?;
    Ok(Produced::one(Flow { client: rst.destination, server }, (client, accepted, listener)))
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
