//! Connections that end before they carry data.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use super::counters::Counters;
use super::pair::{self, Flow, PORT, Produced};
use super::router;
use super::socket::{self, Unconnected};
use super::wire::Wire;
use crate::LabError;
use crate::error::During;
use crate::one_cpu::OneCpu;
use crate::story::PATIENCE;
use crate::topology::{Point, Topology};
use crate::wait;

/// Nobody listens here.
pub const CLOSED_PORT: u16 = 8081;

/// S01: nobody listens on the port.
pub fn port_closed(topology: &Topology) -> Result<Produced, LabError> {
    let flow = refused(topology, CLOSED_PORT)?;
    Counters::expect(&topology.server, &[("TcpOutRsts", 1)])?;
    Ok(Produced::one(flow, ()))
}

/// A connection attempt that must be refused.
pub fn refused(topology: &Topology, port: u16) -> Result<Flow, LabError> {
    let server = topology.server_socket(port);
    let mut wire = Wire::open(topology, Point::Client)?;
    match Unconnected::create(&topology.client)?.connect(server) {
        Ok(_) => return Err(LabError::Plot(format!("{server} accepted"))),
        Err(LabError::Io { source, .. }) if source.raw_os_error() == Some(libc::ECONNREFUSED) => {}
        Err(error) => return Err(error),
    }
    // The port of a socket that was refused is gone; the wire still knows it.
    let syn = wire.wait_for("the SYN", PATIENCE, |s| s.flags.syn && !s.flags.ack && s.destination == server)?;
    Ok(Flow { client: syn.source, server })
}

const BACKLOG: i32 = 3;
/// A backlog of 3 lets four connections wait, and as many handshakes be under way. These wait
/// already,
const WAITING: usize = 3;
/// these come together,
const TOGETHER: usize = 4;
/// and for so many there is no room.
const REFUSED: i64 = 3;

/// S12: four handshakes end at once, the accept queue has room for one, and the rest is reset.
pub fn accept_queue_reset(topology: &Topology) -> Result<Produced, LabError> {
    topology.server.sysctl("net.ipv4.tcp_abort_on_overflow", "1")?;
    let waiting = overflow(topology)?;
    let flow = waiting.loser(libc::ECONNRESET)?;
    Counters::expect(&topology.server, &[("TcpExtListenOverflows", REFUSED), ("TcpOutRsts", REFUSED)])?;
    Ok(Produced::one(flow, waiting))
}

/// S13: the same with the default setting: those who find no room are left without an answer, and
/// give up by themselves.
pub fn accept_queue_silence(topology: &Topology) -> Result<Produced, LabError> {
    let mut waiting = overflow(topology)?;
    wait::until("the accept queue to overflow", PATIENCE, || {
        Ok((Counters::read(&topology.server)?.get("TcpExtListenOverflows")? >= REFUSED).then_some(()))
    })?;
    let taken = topology.server.connected_sockets(PORT)?;
    if taken != WAITING + 1 {
        return Err(LabError::Plot(format!("the accept queue took {taken} connections, not {}", WAITING + 1)));
    }
    for (_, client) in &mut waiting.clients {
        // By default it would be tcp_retries2, a quarter of an hour.
        socket::user_timeout(client, Duration::from_secs(5))?;
        client.write_all(&[b'r'; 100]).during("send a request")?;
    }
    let flow = waiting.loser(libc::ETIMEDOUT)?;
    Counters::expect(&topology.server, &[("TcpOutRsts", 0)])?;
    Ok(Produced::one(flow, waiting))
}

/// Clients that have connected to a listener with too little room for them.
struct Waiting {
    clients: Vec<(Flow, TcpStream)>,
    /// Nobody accepts.
    _listener: TcpListener,
}

impl Waiting {
    /// One of those for whom there was no room, once all have ended; each must have this error.
    fn loser(&self, errno: i32) -> Result<Flow, LabError> {
        let losers = wait::until("the connections that find no room to end", PATIENCE, || {
            let ended = |(_, client): &&(Flow, TcpStream)| {
                socket::info(client).is_ok_and(|info| info.tcpi_state == socket::state::CLOSE)
            };
            let ended: Vec<_> = self.clients.iter().filter(ended).collect();
            Ok((ended.len() as i64 >= REFUSED).then_some(ended))
        })?;
        if losers.len() as i64 != REFUSED {
            return Err(LabError::Plot(format!("{} connections ended, not {REFUSED}", losers.len())));
        }
        for (flow, client) in &losers {
            let error = client.take_error().during("learn why a connection ended")?;
            if error.as_ref().and_then(std::io::Error::raw_os_error) != Some(errno) {
                return Err(LabError::Plot(format!("{} ended with {error:?}, not with errno {errno}", flow.client)));
            }
        }
        Ok(losers[0].0)
    }
}

/// Clients whose handshakes all end in the same moment at a listener with little room.
fn overflow(topology: &Topology) -> Result<Waiting, LabError> {
    // A cookie would be checked only when there is room, and the overflow not be told.
    topology.server.sysctl("net.ipv4.tcp_syncookies", "0")?;
    let listener = socket::listen(&topology.server, PORT, BACKLOG)?;
    let server = topology.server_socket(PORT);
    let mut clients = Vec::new();
    let mut connect = |count| {
        for _ in 0..count {
            let client = socket::impatient(Unconnected::create(&topology.client)?.connect(server)?)?;
            clients.push((Flow { client: client.local_addr().during("learn a client's address")?, server }, client));
        }
        Ok(())
    };
    connect(WAITING)?;
    wait::until("the first connections to wait for accept", PATIENCE, || {
        Ok((topology.server.connected_sockets(PORT)? == WAITING).then_some(()))
    })?;
    // Two handshakes that end on two CPUs at once can both find the last place free: the queue is checked without a lock
    // (`tcp_v4_syn_recv_sock`), and there would be one place less to refuse.
    let _one_cpu = OneCpu::here()?;
    // The router drops what would end the handshakes. The server repeats its SYN-ACKs after one
    // second, and then all clients answer at once.
    router::filter(&topology.router, &format!("tcp dport {PORT} tcp flags & (syn | ack) == ack counter drop"))?;
    connect(TOGETHER)?;
    if topology.server.connected_sockets(PORT)? != WAITING {
        return Err(LabError::Plot("a handshake ended too early".into()));
    }
    router::pass(&topology.router)?;
    Ok(Waiting { clients, _listener: listener })
}

/// S21: the SYN-ACK is lost, the client withdraws, and the SYN-ACK comes again.
pub fn late_syn_ack(topology: &Topology) -> Result<Produced, LabError> {
    let listener = socket::listen(&topology.server, PORT, pair::BACKLOG)?;
    let server = topology.server_socket(PORT);
    let mut wire = Wire::open(topology, Point::Server)?;
    router::filter(&topology.router, &format!("tcp sport {PORT} tcp flags & (syn | ack) == (syn | ack) counter drop"))?;
    let client = Unconnected::create(&topology.client)?;
    client.begin(server)?;
    let syn_ack = wire.wait_for("the SYN-ACK", PATIENCE, |s| s.flags.syn && s.flags.ack)?;
    drop(client);
    router::pass(&topology.router)?;
    let rst = wire.wait_for("the reset", PATIENCE, |s| s.flags.rst && s.source == syn_ack.destination)?;
    if rst.flags.ack || rst.seq != syn_ack.ack {
        return Err(LabError::Plot(format!("a reset of another shape: {rst:?}")));
    }
    Counters::expect(&topology.client, &[("TcpOutRsts", 1)])?;
    Ok(Produced::one(Flow { client: syn_ack.destination, server }, listener))
}

/// S22: a health check: connect, and close with SO_LINGER 0 before the handshake's last segment.
pub fn health_check(topology: &Topology) -> Result<Produced, LabError> {
    let listener = socket::listen(&topology.server, PORT, pair::BACKLOG)?;
    let server = topology.server_socket(PORT);
    let mut wire = Wire::open(topology, Point::Server)?;
    let unconnected = Unconnected::create(&topology.client)?;
    socket::quick_ack(&unconnected, false)?;
    let client = unconnected.connect(server)?;
    let address = client.local_addr().during("learn the client's address")?;
    socket::linger_zero(&client)?;
    drop(client);
    wire.wait_for("the reset", PATIENCE, |s| s.flags.rst && s.source == address)?;
    let flags: Vec<_> = wire.segments()?.iter().map(|s| (s.flags.syn, s.flags.ack, s.flags.rst)).collect();
    if flags != [(true, false, false), (true, true, false), (false, true, true)] {
        return Err(LabError::Plot(format!("not SYN, SYN-ACK, RST-ACK (as syn, ack, rst): {flags:?}")));
    }
    // Time for a server that would do something about it.
    thread::sleep(Duration::from_millis(50));
    Counters::expect(&topology.client, &[("TcpOutRsts", 1)])?;
    Ok(Produced::one(Flow { client: address, server }, listener))
}
