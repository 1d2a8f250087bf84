//! A router that forgets, or changes, what it knows of a connection.

use std::io::Write;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use super::pair::{self, Before, Flow, PORT, Pair, Produced};
use super::router;
use super::wire::Wire;
use crate::LabError;
use crate::error::During;
use crate::story::PATIENCE;
use crate::topology::{Point, Topology};

const REQUEST: usize = 100;
const RESPONSE: usize = 2000;
const VIP_PORT: u16 = 80;

/// A reset after silence says nothing of idle timers before this.
const IDLE_BAR: Duration = Duration::from_secs(50);

/// S26: a strict stateful firewall (only a SYN opens a connection) forgets idle ones after 50 s.
/// A real wait: nothing is scaled.
pub fn idle_timeout(topology: &Topology) -> Result<Produced, LabError> {
    let router = &topology.router;
    // Not to be loose: what is in the middle of an unknown connection is invalid.
    router.sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")?;
    router.sysctl("net.netfilter.nf_conntrack_tcp_timeout_established", &IDLE_BAR.as_secs().to_string())?;
    router::filter(router, "meta l4proto tcp ct state invalid counter reject with tcp reset")?;
    let mut pair = Pair::connect(topology)?;
    // An observer knows the server's TTL after these.
    for _ in 0..6 {
        pair.exchange(REQUEST, RESPONSE)?;
    }
    pair::all_acknowledged(&pair.server)?;
    thread::sleep(IDLE_BAR + Duration::from_secs(3));
    let mut wire = Wire::open(topology, Point::Client)?;
    pair.client.write_all(&[b'x'; REQUEST]).during("send after a long silence")?;
    pair::ends_with("the client", &mut pair.client, libc::ECONNRESET)?;
    let rst = wire.wait_for("the reset", PATIENCE, |s| s.flags.rst)?;
    if (rst.source, rst.ttl) != (pair.flow.server, 64) {
        return Err(LabError::Plot(format!("the reset is not the router's, one hop away: {rst:?}")));
    }
    if router::counted(router)? != 1
        || super::socket::info(&pair.server)?.tcpi_state != super::socket::state::ESTABLISHED
    {
        return Err(LabError::Plot("the server was to know nothing of it".into()));
    }
    Ok(Produced::one(pair.flow, (pair.client, pair.server, pair.listener)))
}

/// S27: a masquerading router forgets, and gives the connection another port when the client goes on.
/// The connection in question: what the server sees then.
pub fn rebind(topology: &Topology) -> Result<Produced, LabError> {
    let (pair, seen) = rebound(topology)?;
    Ok(Produced::one(seen, pair))
}

/// S27C: the same as the client sees it, which knows of no other address.
pub fn rebind_unseen(topology: &Topology) -> Result<Produced, LabError> {
    let (pair, _) = rebound(topology)?;
    Ok(Produced::one(pair.flow, pair))
}

/// The connection as the client knows it, and what the server sees after the change.
fn rebound(topology: &Topology) -> Result<(Pair, Flow), LabError> {
    let router = &topology.router;
    router.nft(
        "table ip whyrst_nat {
            chain postrouting {
                type nat hook postrouting priority srcnat;
                oifname \"rs\" meta l4proto tcp masquerade random
            }
        }",
    )?;
    let mut pair = Pair::connect(topology)?;
    pair.exchange(REQUEST, RESPONSE)?;
    pair::all_acknowledged(&pair.server)?;
    let known = pair.server.peer_addr().during("learn the client's translated address")?;
    let mut wire = Wire::open(topology, Point::Server)?;
    router::forget_connections(router)?;
    pair.client.write_all(&[b'x'; REQUEST]).during("send through a router that has forgotten")?;
    pair::ends_with("the client", &mut pair.client, libc::ECONNRESET)?;
    let data = wire.wait_for("the translated segment", PATIENCE, |s| !s.payload.is_empty())?;
    if data.source == known {
        return Err(LabError::Plot(format!("the router chose the same port again: {known}")));
    }
    let rst = wire.wait_for("the server's reset", PATIENCE, |s| s.flags.rst)?;
    if rst.destination != data.source || rst.seq != data.ack {
        return Err(LabError::Plot(format!("the server's reset answers something else: {rst:?}")));
    }
    let server = pair.flow.server;
    Ok((pair, Flow { client: data.source, server }))
}

/// S28: translation is removed from under a connection, and the server's FIN leaves untranslated.
/// The connection in question is that of
/// the server, of which the client knows nothing.
pub fn bypass(topology: &Topology) -> Result<Produced, LabError> {
    let router = &topology.router;
    let inside = topology.server_socket(PORT);
    let vip = SocketAddr::new(topology.addresses.vip, VIP_PORT);
    router.nft(&format!(
        "table ip whyrst_nat {{
            chain prerouting {{
                type nat hook prerouting priority dstnat;
                ip daddr {} tcp dport {VIP_PORT} dnat to {inside}
            }}
        }}",
        vip.ip()
    ))?;
    let mut pair = Pair::connect_to(topology, vip, Before::default())?;
    pair.exchange(REQUEST, RESPONSE)?;
    pair::all_acknowledged(&pair.server)?;
    let mut wire = Wire::open(topology, Point::Client)?;
    router.nft("delete table ip whyrst_nat")?;
    router::forget_connections(router)?;
    pair::finish_sending(&pair.server)?;
    let fin = wire.wait_for("the untranslated FIN", PATIENCE, |s| s.flags.fin)?;
    if fin.source != inside {
        return Err(LabError::Plot(format!("the FIN was translated: {}", fin.source)));
    }
    let rst = wire.wait_for("the client's reset", PATIENCE, |s| s.flags.rst)?;
    if (rst.destination, rst.seq) != (inside, fin.ack) {
        return Err(LabError::Plot(format!("the reset answers something else: {rst:?}")));
    }
    pair::ends_with("the server", &mut pair.server, libc::ECONNRESET)?;
    Ok(Produced::one(Flow { client: pair.flow.client, server: inside }, (pair.client, pair.server, pair.listener)))
}
