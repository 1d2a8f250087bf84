//! Connections that an end ends by itself: closes, aborts, and data that comes after them.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use super::counters::Counters;
use super::pair::{self, Before, Flow, PORT, Pair, Produced};
use super::socket::{self, state};
use crate::LabError;
use crate::cleanup;
use crate::error::During;
use crate::topology::Topology;
use crate::wait;

const REQUEST: usize = 100;
const RESPONSE: usize = 2000;
/// SO_RCVBUF of a reader whose window is to close soon; the kernel doubles it. With a few kilobytes
/// the kernel would run out of buffer before the window is used up, and take window back.
const SMALL_BUFFER: i32 = 65536;

/// S02: the server closes while 1000 bytes lie unread.
pub fn unread_data(topology: &Topology) -> Result<Produced, LabError> {
    const UNREAD: usize = 1000;
    let mut pair = Pair::connect(topology)?;
    pair.client.write_all(&[b'u'; UNREAD]).during("send a request")?;
    pair::arrived(&pair.server, UNREAD)?;
    pair::all_acknowledged(&pair.client)?;
    drop(pair.server);
    pair::ends_with("the client", &mut pair.client, libc::ECONNRESET)?;
    Counters::expect(&topology.server, &[("TcpExtTCPAbortOnClose", 1), ("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, (pair.client, pair.listener)))
}

/// S03: the client has its response and closes with SO_LINGER 0.
pub fn linger_after_response(topology: &Topology) -> Result<Produced, LabError> {
    let mut pair = Pair::connect(topology)?;
    pair.exchange(REQUEST, RESPONSE)?;
    pair::all_acknowledged(&pair.server)?;
    socket::linger_zero(&pair.client)?;
    drop(pair.client);
    pair::ends_with("the server", &mut pair.server, libc::ECONNRESET)?;
    // Despite its name it counts aborts by SO_LINGER 0, too.
    Counters::expect(&topology.client, &[("TcpExtTCPAbortOnData", 1), ("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, (pair.server, pair.listener)))
}

/// S04: SO_LINGER 0 while data waits behind a closed window.
pub fn linger_behind_closed_window(topology: &Topology) -> Result<Produced, LabError> {
    let mut pair = Pair::connect_with(topology, Before { server_buffer: Some(SMALL_BUFFER), ..Before::default() })?;
    pair::fill(&mut pair.client)?;
    if socket::outstanding(&pair.client)? == 0 {
        return Err(LabError::Plot("nothing waits behind the window".into()));
    }
    socket::linger_zero(&pair.client)?;
    drop(pair.client);
    pair::ends_with("the server", &mut pair.server, libc::ECONNRESET)?;
    Counters::expect(&topology.client, &[("TcpExtTCPAbortOnData", 1)])?;
    // The server's answer to a probe of its window may cross the reset, and draws another one.
    Counters::at_least(&topology.client, &[("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, (pair.server, pair.listener)))
}

/// S05: the server has closed; 0.2 s later the client sends.
pub fn data_after_close(topology: &Topology) -> Result<Produced, LabError> {
    let mut pair = Pair::connect(topology)?;
    pair.exchange(REQUEST, RESPONSE)?;
    pair::all_acknowledged(&pair.server)?;
    drop(pair.server);
    pair::reaches(&pair.client, state::CLOSE_WAIT)?;
    thread::sleep(Duration::from_millis(200));
    pair.client.write_all(b"late").during("send after the server's FIN")?;
    // The response to a write after the peer's FIN is EPIPE for the next write, ECONNRESET elsewhere.
    gone("the client", &mut pair.client, libc::EPIPE)?;
    Counters::expect(&topology.server, &[("TcpExtTCPAbortOnData", 0), ("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, (pair.client, pair.listener)))
}

/// S06: the server closes while its data waits behind the client's closed window, so that its FIN
/// has not left; then the client sends.
pub fn data_after_close_unsent(topology: &Topology) -> Result<Produced, LabError> {
    let mut pair = Pair::connect_with(topology, Before { client_buffer: Some(SMALL_BUFFER), ..Before::default() })?;
    pair::fill(&mut pair.server)?;
    if socket::outstanding(&pair.server)? == 0 {
        return Err(LabError::Plot("nothing waits behind the window".into()));
    }
    drop(pair.server);
    thread::sleep(Duration::from_millis(200));
    pair.client.write_all(b"late").during("send after the server's close")?;
    pair::ends_with("the client", &mut pair.client, libc::ECONNRESET)?;
    Counters::expect(&topology.server, &[("TcpExtTCPAbortOnData", 1), ("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, (pair.client, pair.listener)))
}

/// S07: the server forgets the connection without a word, and nobody listens any more.
pub fn vanished(topology: &Topology) -> Result<Produced, LabError> {
    lost_state(topology, false)
}

/// S08: the same, but the listener is back.
pub fn vanished_with_listener(topology: &Topology) -> Result<Produced, LabError> {
    lost_state(topology, true)
}

fn lost_state(topology: &Topology, listening: bool) -> Result<Produced, LabError> {
    let mut pair = Pair::connect(topology)?;
    pair.exchange(REQUEST, RESPONSE)?;
    pair::all_acknowledged(&pair.server)?;
    socket::vanish(pair.server)?;
    let listener = listening.then_some(pair.listener);
    Counters::expect(&topology.server, &[("TcpOutRsts", 0)])?;
    thread::sleep(Duration::from_millis(200));
    pair.client.write_all(&[b'x'; REQUEST]).during("send to a server that has forgotten")?;
    pair::ends_with("the client", &mut pair.client, libc::ECONNRESET)?;
    Counters::expect(&topology.server, &[("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, (pair.client, listener)))
}

/// S09: an administrator's tool destroys the server's socket.
pub fn destroyed(topology: &Topology) -> Result<Produced, LabError> {
    let mut pair = Pair::connect(topology)?;
    pair.exchange(REQUEST, RESPONSE)?;
    pair::all_acknowledged(&pair.server)?;
    let peer = pair.flow.client.to_string();
    topology.server.output("ss", &["--kill", "--tcp", "--numeric", "dst", &peer])?;
    pair::ends_with("the client", &mut pair.client, libc::ECONNRESET)?;
    pair::ends_with("the server", &mut pair.server, libc::ECONNABORTED)?;
    Counters::expect(&topology.server, &[("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, (pair.client, pair.server, pair.listener)))
}

/// S10: TCP_LINGER2 -1, FIN, and close while the client still owes its FIN.
pub fn linger2(topology: &Topology) -> Result<Produced, LabError> {
    let mut pair = Pair::connect(topology)?;
    pair.exchange(REQUEST, RESPONSE)?;
    socket::linger2(&pair.server, -1)?;
    pair::finish_sending(&pair.server)?;
    pair::reaches(&pair.server, state::FIN_WAIT2)?;
    drop(pair.server);
    // The client knows the server's FIN: its reader saw the end, its writer is told EPIPE.
    gone("the client", &mut pair.client, libc::EPIPE)?;
    Counters::expect(&topology.server, &[("TcpExtTCPAbortOnLinger", 1), ("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, (pair.client, pair.listener)))
}

/// S11: the listener closes before anyone has accepted the connection.
pub fn listener_closed(topology: &Topology) -> Result<Produced, LabError> {
    let listener = socket::listen(&topology.server, PORT, pair::BACKLOG)?;
    let remote = topology.server_socket(PORT);
    let mut client = socket::impatient(socket::Unconnected::create(&topology.client)?.connect(remote)?)?;
    let flow = Flow { client: client.local_addr().during("learn the client's address")?, server: remote };
    // The listener must have the handshake's last segment, else this is a closed port.
    wait::until("the connection to wait for accept", crate::story::PATIENCE, || {
        Ok((topology.server.connected_sockets(PORT)? == 1).then_some(()))
    })?;
    drop(listener);
    pair::ends_with("the client", &mut client, libc::ECONNRESET)?;
    Counters::expect(&topology.server, &[("TcpOutRsts", 1)])?;
    Ok(Produced::one(flow, client))
}

/// S23: the server's process is killed while data lies unread.
pub fn killed(topology: &Topology) -> Result<Produced, LabError> {
    const UNREAD: usize = 1000;
    let Pair { mut client, server, listener, flow } = Pair::connect(topology)?;
    // Its standard input is the connection, and after this nobody else has it.
    let mut command = Command::new("sleep");
    command.arg("60").stdin(Stdio::from(std::os::fd::OwnedFd::from(server)));
    let mut process = cleanup::enter_child(&mut command).during("start a process that owns the connection")?;
    // `Command` keeps its copy of the descriptor until it is dropped.
    drop(command);
    client.write_all(&[b'u'; UNREAD]).during("send a request")?;
    pair::all_acknowledged(&client)?;
    process.kill().during("kill the server's process")?;
    wait::until("the server's process to end", crate::story::PATIENCE, || {
        cleanup::try_reap(&mut process).during("wait for the server's process")
    })?;
    pair::ends_with("the client", &mut client, libc::ECONNRESET)?;
    Counters::expect(&topology.server, &[("TcpExtTCPAbortOnClose", 1), ("TcpOutRsts", 1)])?;
    Ok(Produced::one(flow, (client, listener)))
}

/// S24: the server has answered and closed; the client closes without reading the answer.
pub fn closed_without_reading(topology: &Topology) -> Result<Produced, LabError> {
    let mut pair = Pair::connect(topology)?;
    pair::carry(&mut pair.client, &mut pair.server, REQUEST)?;
    pair.server.write_all(&[b'r'; RESPONSE]).during("send a response")?;
    drop(pair.server);
    pair::reaches(&pair.client, state::CLOSE_WAIT)?;
    pair::arrived(&pair.client, RESPONSE)?;
    drop(pair.client);
    Counters::expect(&topology.client, &[("TcpExtTCPAbortOnClose", 1), ("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, pair.listener))
}

/// S25: both ends have closed, the server's data and FIN wait behind the client's closed window; the
/// server dissolves the connection.
pub fn disconnected_in_last_ack(topology: &Topology) -> Result<Produced, LabError> {
    let mut pair = Pair::connect_with(topology, Before { client_buffer: Some(SMALL_BUFFER), ..Before::default() })?;
    pair::finish_sending(&pair.client)?;
    pair::reaches(&pair.server, state::CLOSE_WAIT)?;
    pair::fill(&mut pair.server)?;
    pair::finish_sending(&pair.server)?;
    pair::reaches(&pair.server, state::LAST_ACK)?;
    socket::disconnect(&pair.server)?;
    pair::ends_with("the client", &mut pair.client, libc::ECONNRESET)?;
    Counters::expect(&topology.server, &[("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, (pair.client, pair.server, pair.listener)))
}

/// A reset after the peer's FIN: reading has ended before, so it is the writer who is told.
fn gone(who: &str, stream: &mut std::net::TcpStream, errno: i32) -> Result<(), LabError> {
    pair::reaches(stream, state::CLOSE)?;
    let error = match stream.write(b"x") {
        Ok(_) => return Err(LabError::Plot(format!("{who} could still write"))),
        Err(error) => error,
    };
    match error.raw_os_error() == Some(errno) {
        true => Ok(()),
        false => Err(LabError::Plot(format!("{who} got \"{error}\" instead of errno {errno}"))),
    }
}
