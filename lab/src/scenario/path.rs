//! Paths that lose or damage some segments, always the same ones.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use super::apps::{self, End, Pace, Reader, Writer};
use super::check::View;
use super::real::socket;
use super::{Happened, Kind, Scenario, Side, Stage, at, cause};
use crate::LabError;
use crate::error::During;
use crate::forwarder::{Delay, Outbox};
use crate::packet::Packet;
use crate::story::PATIENCE;
use crate::wait;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "S45",
        title: "packets above 1300 bytes vanish, and no ICMP says so",
        topology: Kind::Wire,
        run: black_hole,
        checks: || {
            vec![
                at(View::Client)
                    .accept(cause("pmtu_blackhole").culprits(&["network"]))
                    .shows(&["size_dependent_loss"])
                    .sent_by("server"),
                // What the server's host knows for certain is why its kernel refused the late data.
                at(View::Server)
                    .live()
                    .accept(cause("peer_lost_state"))
                    .accept(cause("data_after_close"))
                    .accept(cause("post_close_cleanup"))
                    .kernel("NO_SOCKET")
                    .sent_by("server"),
            ]
        },
    },
    Scenario {
        id: "S45C",
        title: "the same path and small writes: nothing is wrong",
        topology: Kind::Wire,
        run: small_writes,
        checks: || vec![at(View::Client).nothing(), at(View::Server).nothing()],
    },
    Scenario {
        id: "S46",
        title: "a device damages every payload after the third",
        topology: Kind::Wire,
        run: damaged,
        checks: || {
            vec![
                at(View::Server)
                    .kinds(&["reset", "degraded"])
                    .accept(cause("segment_corruption").culprits(&["network"]))
                    .shows(&["csum_bad"]),
                at(View::Client)
                    .kinds(&["reset", "degraded"])
                    .accept(cause("path_blackhole").culprits(&["network", "network_or_peer"])),
            ]
        },
    },
];

const PORT: u16 = 5006;

fn between(client: &TcpStream, server: &TcpStream) -> Result<Happened, LabError> {
    Ok(Happened { client: apps::local(client)?, server: apps::local(server)?, told: String::new() })
}

/// IPv4 header and TCP header with timestamps.
const HEADERS: u32 = 20 + 32;

fn black_hole(stage: &mut Stage) -> Result<Happened, LabError> {
    // So that the server's kernel has really forgotten when late data comes.
    stage.net.server.sysctl("net.ipv4.tcp_fin_timeout", "1")?;
    let (dropped, healed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (count, open) = (Arc::clone(&dropped), Arc::clone(&healed));
    let device = stage.device(Delay::NONE, move |from: Side, packet: Packet, out: &mut Outbox| {
        if packet.len() + HEADERS > 1300 && !open.load(Ordering::Relaxed) {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        out.forward(from, packet);
    })?;
    let (mut client, server) = stage.pair(PORT)?;
    let mut happened = between(&client, &server)?;
    let reader = Reader::start(server)?;
    for part in 0..3 {
        client.write_all(&apps::pattern(part * 200, 200)).during("write")?;
        reader.reached((part + 1) * 200, PATIENCE)?;
    }
    let writer = Writer::start(client, 200_000, Pace::BULK)?;
    let read = reader.stalled(Duration::from_millis(4500), PATIENCE)?;
    if read != 600 {
        return Err(LabError::Plot(format!("the server read {read} bytes, not 600")));
    }
    reader.stop()?;
    stage.sleep(Duration::from_millis(1800));
    healed.store(true, Ordering::Relaxed);
    let end = writer.finish(PATIENCE)?;
    apps::expect("the client", End::Error(libc::EPIPE), end)?;
    let _ = device.stop()?;
    let dropped = dropped.load(Ordering::Relaxed);
    happened.told = format!(
        "600 bytes in small segments passed, {dropped} full ones vanished; the server closed, and late data was refused"
    );
    Ok(happened)
}

fn small_writes(stage: &mut Stage) -> Result<Happened, LabError> {
    const BYTES: u64 = 60_000;
    let dropped = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&dropped);
    let device = stage.device(Delay::NONE, move |from: Side, packet: Packet, out: &mut Outbox| {
        if packet.len() + HEADERS > 1300 {
            count.fetch_add(1, Ordering::Relaxed);
            return;
        }
        out.forward(from, packet);
    })?;
    let (client, server) = stage.pair(PORT)?;
    let mut happened = between(&client, &server)?;
    client.set_nodelay(true).during("set TCP_NODELAY")?;
    let reader = Reader::start(server)?;
    let writer = Writer::start(client, BYTES, Pace { chunk: 500, pause: Duration::from_millis(4) })?;
    reader.reached(BYTES, PATIENCE)?;
    writer.stop()?;
    apps::expect("the server", End::Eof, reader.finish(PATIENCE)?)?;
    stage.sleep(Duration::from_millis(300));
    let _ = device.stop()?;
    let dropped = dropped.load(Ordering::Relaxed);
    if dropped != 0 {
        return Err(LabError::Plot(format!("{dropped} segments were large after all")));
    }
    happened.told = format!("{BYTES} bytes passed in segments of 500, closed in order");
    Ok(happened)
}

fn damaged(stage: &mut Stage) -> Result<Happened, LabError> {
    let mut segments = 0;
    let count = Arc::new(AtomicU64::new(0));
    let damaged = Arc::clone(&count);
    let device = stage.device(Delay::NONE, move |from: Side, mut packet: Packet, out: &mut Outbox| {
        if from == Side::Client && !packet.is_empty() {
            segments += 1;
            if segments > 3 {
                damaged.fetch_add(1, Ordering::Relaxed);
                if let Some(byte) = packet.payload_mut().last_mut() {
                    *byte ^= 0x20;
                }
                return out.forward_damaged(from, packet);
            }
        }
        out.forward(from, packet);
    })?;
    let (mut client, mut server) = stage.pair(PORT)?;
    let mut happened = between(&client, &server)?;
    socket::user_timeout(&client, Duration::from_millis(6000))?;
    let reader = Reader::start(server.try_clone().during("share a socket")?)?;
    for part in 0..4 {
        client.write_all(&apps::pattern(part * 500, 500)).during("write")?;
        stage.sleep(Duration::from_millis(30));
    }
    let error = wait::until("the client to give up", PATIENCE, || client.take_error().during("ask a socket"))?;
    apps::expect("the client", End::Error(libc::ETIMEDOUT), End::Error(error.raw_os_error().unwrap_or(libc::EIO)))?;
    if reader.bytes() != 1500 {
        return Err(LabError::Plot(format!("the server read {} bytes, not 1500", reader.bytes())));
    }
    // The server knows nothing of it until it speaks.
    server.write_all(b"anybody?\n").during("write")?;
    apps::expect("the server", End::Error(libc::ECONNRESET), reader.finish(PATIENCE)?)?;
    let _ = device.stop()?;
    let count = count.load(Ordering::Relaxed);
    happened.told = format!(
        "1500 bytes passed; {count} segments came with a wrong checksum; the client got ETIMEDOUT after 6 s, the server ECONNRESET when it spoke"
    );
    Ok(happened)
}
