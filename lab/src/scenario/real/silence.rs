//! Connections that end because an answer does not come.

use std::io::{Read, Write};
use std::time::Duration;

use super::counters::Counters;
use super::pair::{self, Before, Pair, Produced};
use super::router;
use super::socket;
use crate::LabError;
use crate::error::During;
use crate::story::PATIENCE;
use crate::topology::Topology;
use crate::wait;

const REQUEST: usize = 100;
const RESPONSE: usize = 2000;
const SMALL_BUFFER: i32 = 65536;

/// Everything that passes the router is lost, in both directions.
const NOTHING_PASSES: &str = "counter drop";

/// S14: the client's keepalive, one second and two probes, while the router drops everything.
pub fn keepalive(topology: &Topology) -> Result<Produced, LabError> {
    let second = Duration::from_secs(1);
    let mut pair = Pair::connect(topology)?;
    pair.exchange(REQUEST, RESPONSE)?;
    pair::all_acknowledged(&pair.server)?;
    router::filter(&topology.router, NOTHING_PASSES)?;
    socket::keepalive(&pair.client, second, second, 2)?;
    pair::ends_with("the client", &mut pair.client, libc::ETIMEDOUT)?;
    let counted = Counters::read(&topology.client)?;
    let probes = counted.get("TcpExtTCPKeepAlive")?;
    if probes != 2 {
        return Err(LabError::Plot(format!("{probes} probes instead of 2")));
    }
    Counters::expect(&topology.client, &[("TcpExtTCPAbortOnTimeout", 1), ("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, (pair.client, pair.server, pair.listener)))
}

/// S15: the client retransmits until the kernel gives up (`tcp_retries2` 3 rather than 15, for time);
/// then the network heals and the server, who knows nothing, sends.
pub fn retransmissions_exhausted(topology: &Topology) -> Result<Produced, LabError> {
    topology.client.sysctl("net.ipv4.tcp_retries2", "3")?;
    blackhole(topology, None)
}

/// S16: the same with TCP_USER_TIMEOUT.
pub fn user_timeout(topology: &Topology) -> Result<Produced, LabError> {
    blackhole(topology, Some(Duration::from_millis(1500)))
}

fn blackhole(topology: &Topology, limit: Option<Duration>) -> Result<Produced, LabError> {
    let mut pair = Pair::connect(topology)?;
    pair.exchange(REQUEST, RESPONSE)?;
    pair::all_acknowledged(&pair.server)?;
    if let Some(limit) = limit {
        socket::user_timeout(&pair.client, limit)?;
    }
    router::filter(&topology.router, NOTHING_PASSES)?;
    pair.client.write_all(&[b'l'; REQUEST]).during("send into the void")?;
    pair::ends_with("the client", &mut pair.client, libc::ETIMEDOUT)?;
    // No reset: the kernel gives up in silence.
    Counters::expect(&topology.client, &[("TcpExtTCPAbortOnTimeout", 1), ("TcpOutRsts", 0)])?;
    router::pass(&topology.router)?;
    pair.server.write_all(&[b's'; REQUEST]).during("send from the server")?;
    pair::ends_with("the server", &mut pair.server, libc::ECONNRESET)?;
    Counters::expect(&topology.client, &[("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, (pair.client, pair.server, pair.listener)))
}

/// S17: the client fills the window of a server that does not read, and has TCP_USER_TIMEOUT; when
/// the server reads at last, the client is gone.
pub fn zero_window(topology: &Topology) -> Result<Produced, LabError> {
    let before = Before { server_buffer: Some(SMALL_BUFFER), ..Before::default() };
    let mut pair = Pair::connect_with(topology, before)?;
    pair.exchange(REQUEST, RESPONSE)?;
    let written = pair::fill(&mut pair.client)?;
    // Set now, since the time counts from the first unanswered byte or probe. Long enough for
    // three probes, which start after 0.2 s and double their distance.
    socket::user_timeout(&pair.client, Duration::from_millis(3500))?;
    wait::until("the client to give up", PATIENCE, || {
        Ok((socket::info(&pair.client)?.tcpi_state == socket::state::CLOSE).then_some(()))
    })?;
    let error = pair.client.take_error().during("learn why the client ended")?;
    if error.as_ref().and_then(std::io::Error::raw_os_error) != Some(libc::ETIMEDOUT) {
        return Err(LabError::Plot(format!("the client ended with {error:?}, not with ETIMEDOUT")));
    }
    Counters::expect(&topology.client, &[("TcpOutRsts", 0)])?;
    // Reading opens the window, which the server tells a client that is gone.
    let mut read = 0;
    let mut buffer = [0; 4096];
    let error = loop {
        match pair.server.read(&mut buffer) {
            Ok(0) => return Err(LabError::Plot("the server saw the end of the stream".into())),
            Ok(count) => read += count,
            Err(error) => break error,
        }
    };
    if error.raw_os_error() != Some(libc::ECONNRESET) {
        return Err(LabError::Plot(format!("the server got \"{error}\" instead of a reset")));
    }
    if read >= written {
        return Err(LabError::Plot(format!("all {written} bytes reached the server: the window was not closed")));
    }
    Counters::expect(&topology.client, &[("TcpOutRsts", 1)])?;
    Ok(Produced::one(pair.flow, (pair.client, pair.server, pair.listener)))
}
