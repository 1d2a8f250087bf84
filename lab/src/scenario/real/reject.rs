//! A firewall refuses with a reset.

use std::io::Write;
use std::thread;
use std::time::Duration;

use super::counters::Counters;
use super::handshake::refused;
use super::pair::{self, Before, PORT, Pair, Produced};
use super::router;
use crate::LabError;
use crate::error::During;
use crate::topology::Topology;

/// Small exchanges before the forbidden one: an observer knows the server's TTL after these.
const EXCHANGES: usize = 10;
const ALLOWED: usize = 100;
const FORBIDDEN: usize = 700;
/// The port behind the firewall.
const FORBIDDEN_PORT: u16 = 8443;

/// S18: the router refuses a payload (here by its length) with a reset towards the client.
pub fn payload(topology: &Topology) -> Result<Produced, LabError> {
    let rule = format!("tcp dport {PORT} meta length > 600 counter reject with tcp reset");
    router::filter(&topology.router, &rule)?;
    let mut pair = Pair::connect(topology)?;
    for _ in 0..EXCHANGES {
        pair.exchange(ALLOWED, ALLOWED)?;
        thread::sleep(Duration::from_millis(20));
    }
    // Or its acknowledgement would travel with what is refused, and the server send again.
    pair::all_acknowledged(&pair.server)?;
    pair.client.write_all(&[b'F'; FORBIDDEN]).during("send what is forbidden")?;
    pair::ends_with("the client", &mut pair.client, libc::ECONNRESET)?;
    let hits = router::counted(&topology.router)?;
    if hits != 1 {
        return Err(LabError::Plot(format!("the router refused {hits} packets, not one")));
    }
    // The server knows nothing of all this.
    if super::socket::info(&pair.server)?.tcpi_state != super::socket::state::ESTABLISHED {
        return Err(LabError::Plot("the server's connection did not stay up".into()));
    }
    Counters::expect(&topology.server, &[("TcpOutRsts", 0)])?;
    Ok(Produced::one(pair.flow, (pair.client, pair.server, pair.listener)))
}

/// S19: the router refuses SYNs to a port, before anything is known of the server.
pub fn syn(topology: &Topology) -> Result<Produced, LabError> {
    refuse_syns(topology)?;
    let flow = refused(topology, FORBIDDEN_PORT)?;
    only_by_the_router(topology)?;
    Ok(Produced::one(flow, ()))
}

/// S19T: the same after connections to another port have shown the server's TTL.
pub fn syn_of_known_server(topology: &Topology) -> Result<Produced, LabError> {
    refuse_syns(topology)?;
    let pair = Pair::connect(topology)?;
    for _ in 0..3 {
        let mut other = pair.another(topology, Before::default())?;
        for _ in 0..EXCHANGES {
            pair::carry(&mut other.client, &mut other.server, ALLOWED)?;
            pair::carry(&mut other.server, &mut other.client, ALLOWED)?;
        }
        pair::finish_sending(&other.client)?;
        pair::reads_to_end("the server", &mut other.server)?;
        drop(other.server);
        pair::reads_to_end("the client", &mut other.client)?;
    }
    let flow = refused(topology, FORBIDDEN_PORT)?;
    only_by_the_router(topology)?;
    Ok(Produced::one(flow, pair))
}

fn refuse_syns(topology: &Topology) -> Result<(), LabError> {
    router::filter(&topology.router, &format!("tcp dport {FORBIDDEN_PORT} counter reject with tcp reset"))
}

fn only_by_the_router(topology: &Topology) -> Result<(), LabError> {
    let hits = router::counted(&topology.router)?;
    if hits != 1 {
        return Err(LabError::Plot(format!("the router refused {hits} packets, not one")));
    }
    Counters::expect(&topology.server, &[("TcpOutRsts", 0)])
}

/// S20: the server's own firewall refuses.
pub fn own_firewall(topology: &Topology) -> Result<Produced, LabError> {
    let rule = format!("tcp dport {FORBIDDEN_PORT} counter reject with tcp reset");
    router::filter_input(&topology.server, &rule)?;
    let listener = super::socket::listen(&topology.server, FORBIDDEN_PORT, pair::BACKLOG)?;
    let flow = refused(topology, FORBIDDEN_PORT)?;
    // Made by netfilter, so TCP knows nothing of it.
    let hits = router::counted(&topology.server)?;
    if hits != 1 {
        return Err(LabError::Plot(format!("the server's firewall refused {hits} packets, not one")));
    }
    Ok(Produced::one(flow, listener))
}
