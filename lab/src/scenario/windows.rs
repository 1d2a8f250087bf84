//! Windows that the ends, or a device between them, do not agree about.

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
use crate::forwarder::{Delay, Device, Outbox};
use crate::frame::Flags;
use crate::packet::{OPTION_WSCALE, Packet, SYN};
use crate::raw::{Manner, RawPeer};
use crate::seq::SeqNum;
use crate::story::PATIENCE;
use crate::wait;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "S40",
        title: "a device strips the window scale from the SYN-ACK",
        topology: Kind::Wire,
        run: stripped,
        checks: || {
            let stripped = cause("window_scale_fault").variants(&["stripped"]).culprits(&["middlebox"]);
            vec![
                at(View::Client)
                    .accept(stripped)
                    .shows(&["window_collapse_postsyn", "data_beyond_window"])
                    .kernel("TCP_ABORT_ON_CLOSE")
                    .sent_by("client"),
                // From here the client scales with a factor that it never learnt to be in force.
                at(View::Server)
                    .accept(cause("window_scale_fault").culprits(&["middlebox", "network_or_peer"]))
                    .shows(&["window_unscaled_suspect"])
                    .sent_by("client"),
            ]
        },
    },
    Scenario {
        id: "S41",
        title: "a device changes the window scale from 10 to 2 in the SYN-ACK",
        topology: Kind::Wire,
        run: altered,
        checks: || {
            vec![
                at(View::Client)
                    .kinds(&["degraded"])
                    .accept(cause("window_scale_fault").variants(&["altered"]).culprits(&["middlebox"]))
                    .shows(&["window_collapse_postsyn", "tiny_segment_stall"])
                    .alone(),
            ]
        },
    },
    Scenario {
        id: "S42",
        title: "a firewall that missed the window scale drops bulk data beyond the bare number",
        topology: Kind::Wire,
        run: |stage| tracked_unscaled(stage, false),
        checks: || {
            vec![
                at(View::Client)
                    .accept(cause("window_scale_fault").variants(&["tracked_unscaled"]).culprits(&["middlebox"]))
                    // Same sizes on both sides of the limit would decide; bulk data has one size.
                    .accept(cause("pmtu_blackhole").culprits(&["network"]))
                    .shows_one_of(&["window_dependent_loss", "size_dependent_loss"])
                    .sent_by("server"),
                refused_late(),
            ]
        },
    },
    Scenario {
        id: "S42B",
        title: "the same firewall and ten writes of 20 bytes",
        topology: Kind::Wire,
        run: |stage| tracked_unscaled(stage, true),
        checks: || {
            vec![
                at(View::Client)
                    .accept(cause("window_scale_fault").variants(&["tracked_unscaled"]).culprits(&["middlebox"]))
                    .shows(&["window_dependent_loss"])
                    .shows_not(&["size_dependent_loss"])
                    .sent_by("server"),
                refused_late(),
            ]
        },
    },
    Scenario {
        id: "S49",
        title: "a peer takes back a window of 20000 that is in use, then resets",
        topology: Kind::Raw(Side::Server),
        run: |stage| shrunk(stage, false),
        checks: || {
            vec![
                at(View::Client)
                    .accept(cause("window_shrink_stranding").culprits(&["server"]))
                    .desync("shrink", None)
                    .shows(&["window_shrink"])
                    .shows_not(&["window_collapse_postsyn"])
                    .sent_by("server"),
            ]
        },
    },
    Scenario {
        id: "S49B",
        title: "a peer takes back its window, and the local application aborts",
        topology: Kind::Raw(Side::Server),
        run: |stage| shrunk(stage, true),
        checks: || {
            vec![
                at(View::Client)
                    .accept(cause("window_shrink_stranding").culprits(&["server"]).mechanisms(&["active_abort"]))
                    .desync("shrink", None)
                    .shows(&["window_shrink"])
                    .shows_not(&["window_collapse_postsyn"])
                    .kernel("TCP_STATE")
                    // The reason says who ended it, not who took the window back: 65 and 10.
                    .least(55, 65)
                    .sent_by("client"),
            ]
        },
    },
];

/// What the server's host sees of S42: late data for a connection that it had closed. Only its
/// kernel's reason is certain there.
fn refused_late() -> super::Check {
    at(View::Server).live().accept(cause("data_after_close")).kernel("TCP_TIMEWAIT_SOCKET").sent_by("server")
}

const PORT: u16 = 5002;
/// Linux chooses the smallest scale with which the largest buffer fits 16 bits.
const BUFFERS_FOR_SCALE_10: &str = "4096 131072 33554432";

fn between(client: &TcpStream, server: &TcpStream) -> Result<Happened, LabError> {
    Ok(Happened { client: apps::local(client)?, server: apps::local(server)?, told: String::new() })
}

/// Changes the window scale of the SYN-ACK, and remembers what it was.
struct Rescale {
    to: Option<u8>,
    was: Arc<AtomicU64>,
}

impl Device for Rescale {
    fn pass(&mut self, from: Side, mut packet: Packet, out: &mut Outbox) {
        if from == Side::Server && packet.has(SYN) {
            if let Some(was) = packet.wscale() {
                self.was.store(was.into(), Ordering::Relaxed);
            }
            match self.to {
                Some(shift) => packet.set_wscale(shift),
                None => packet.strip_option(OPTION_WSCALE),
            }
        }
        out.forward(from, packet);
    }
}

fn expect_scale_10(was: &AtomicU64) -> Result<(), LabError> {
    match was.load(Ordering::Relaxed) {
        10 => Ok(()),
        other => Err(LabError::Plot(format!("the server offered a window scale of {other}, not 10"))),
    }
}

/// Ten segments, which the window of the SYN-ACK lets out before the collapse.
const BURST: u64 = 10 * 1448;
/// Two kilobytes more than the burst; they take seconds.
const UPLOAD: u64 = BURST + 2000;

fn stripped(stage: &mut Stage) -> Result<Happened, LabError> {
    stage.net.server.sysctl("net.ipv4.tcp_rmem", BUFFERS_FOR_SCALE_10)?;
    // The client reads nothing: its window closes soon, of which the server hears far too much.
    stage.net.client.sysctl("net.ipv4.tcp_rmem", "4096 65536 6291456")?;
    let was = Arc::new(AtomicU64::new(0));
    let device = stage.device(Delay::NONE, Rescale { to: None, was: Arc::clone(&was) })?;
    let (client, server) = stage.pair(PORT)?;
    expect_scale_10(&was)?;
    let mut happened = between(&client, &server)?;
    let upload = Writer::start(client.try_clone().during("share a socket")?, UPLOAD, Pace::BULK)?;
    let uploaded = Reader::start(server.try_clone().during("share a socket")?)?;
    stage.sleep(Duration::from_millis(2500));
    let slowly = uploaded.bytes();
    if !(BURST..UPLOAD).contains(&slowly) {
        return Err(LabError::Plot(format!("{slowly} bytes were uploaded in 2.5 s")));
    }
    // The writer also reads whatever comes, which must not happen here.
    upload.stop()?;
    let download = Writer::start(server, 4_000_000, Pace::BULK)?;
    stage.sleep(Duration::from_millis(4000));
    let unread = socket::unread(&client)?;
    if unread == 0 {
        return Err(LabError::Plot("nothing lies unread at the client".into()));
    }
    drop(client);
    // Its two applications share one error: the first to ask gets it, the other a broken pipe.
    let ends = [download.finish(PATIENCE)?, uploaded.finish(PATIENCE)?];
    if !ends.contains(&End::Error(libc::ECONNRESET)) {
        return Err(LabError::Plot(format!("the server should have been reset, but got {} and {}", ends[0], ends[1])));
    }
    let _ = device.stop()?;
    happened.told = format!(
        "in 2.5 s only {slowly} bytes of {UPLOAD} reached the server; the client closed with {unread} bytes unread, beyond a window that the server multiplied"
    );
    Ok(happened)
}

/// The original took 104 s for 174 kB. Here 4 kB follow the first burst: the same stall, only shorter.
fn altered(stage: &mut Stage) -> Result<Happened, LabError> {
    const BYTES: u64 = BURST + 4000;
    stage.net.server.sysctl("net.ipv4.tcp_rmem", BUFFERS_FOR_SCALE_10)?;
    let was = Arc::new(AtomicU64::new(0));
    let device = stage.device(Delay::NONE, Rescale { to: Some(2), was: Arc::clone(&was) })?;
    let (client, server) = stage.pair(PORT)?;
    expect_scale_10(&was)?;
    let mut happened = between(&client, &server)?;
    let started = std::time::Instant::now();
    let writer = Writer::start(client, BYTES, Pace::BULK)?;
    let reader = Reader::start(server)?;
    reader.reached(BYTES, Duration::from_secs(50))?;
    let took = started.elapsed();
    if took < Duration::from_secs(1) {
        return Err(LabError::Plot(format!("{BYTES} bytes took only {took:?}")));
    }
    writer.stop()?;
    apps::expect("the server", End::Eof, reader.finish(PATIENCE)?)?;
    stage.sleep(Duration::from_millis(500));
    let _ = device.stop()?;
    happened.told = format!("{BYTES} bytes took {:.1} s; both ends closed in order", took.as_secs_f64());
    Ok(happened)
}

/// A firewall that tracks windows and did not see the scale.
struct WindowTracker {
    /// Right edge of what the server offered, read without its scale.
    edge: Option<SeqNum>,
    lifted: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
}

impl Device for WindowTracker {
    fn pass(&mut self, from: Side, packet: Packet, out: &mut Outbox) {
        if from == Side::Server && !packet.has(SYN) {
            let edge = packet.ack().plus(packet.window().into());
            if self.edge.is_none_or(|old| edge.after(old)) {
                self.edge = Some(edge);
            }
        }
        let beyond = self.edge.is_some_and(|edge| packet.seq_end().after(edge));
        if from == Side::Client && !packet.is_empty() && beyond && !self.lifted.load(Ordering::Relaxed) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        out.forward(from, packet);
    }
}

fn tracked_unscaled(stage: &mut Stage, small: bool) -> Result<Happened, LabError> {
    stage.net.server.sysctl("net.ipv4.tcp_rmem", BUFFERS_FOR_SCALE_10)?;
    let (lifted, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let tracker = WindowTracker { edge: None, lifted: Arc::clone(&lifted), dropped: Arc::clone(&dropped) };
    // Far enough away that no acknowledgement moves the edge while the ten writes leave.
    let device = stage.device(Delay::FAR, tracker)?;
    let (mut client, mut server) = stage.pair(PORT)?;
    let mut happened = between(&client, &server)?;
    // A greeting, whose acknowledgement tells nothing yet; the device learns the window from it.
    server.write_all(b"220 ready\r\n").during("write")?;
    stage.sleep(Duration::from_millis(200));
    let reader = Reader::start(server)?;
    if !small {
        // Something that passes, as in any connection: a request that fits the bare number.
        client.write_all(&apps::pattern(0, 50)).during("write")?;
        reader.reached(50, PATIENCE)?;
        stage.sleep(Duration::from_millis(200));
    }
    client.set_nodelay(true).during("set TCP_NODELAY")?;
    let writer = if small {
        for number in 0..10 {
            client.write_all(&apps::pattern(number * 20, 20)).during("write")?;
        }
        None
    } else {
        Some(Writer::start(client.try_clone().during("share a socket")?, 500_000, Pace::BULK)?)
    };
    let read = reader.stalled(Duration::from_millis(5000), PATIENCE)?;
    let expected = if small { 60 } else { 50 };
    if read != expected {
        return Err(LabError::Plot(format!("the server read {read} bytes, not {expected}")));
    }
    reader.stop()?;
    stage.sleep(Duration::from_millis(200));
    // Somebody mends the firewall; too late.
    lifted.store(true, Ordering::Relaxed);
    let end = match &writer {
        Some(writer) => writer.finish(PATIENCE)?,
        None => {
            wait::until("the client to be reset", PATIENCE, || match client.take_error().during("ask a socket")? {
                Some(error) => Ok(Some(End::Error(error.raw_os_error().unwrap_or(libc::EIO)))),
                None => Ok(None),
            })?
        }
    };
    apps::expect("the client", End::Error(libc::EPIPE), end)?;
    let _ = device.stop()?;
    let dropped = dropped.load(Ordering::Relaxed);
    happened.told =
        format!("{read} bytes passed, {dropped} segments were dropped; the server closed, and late data was refused");
    Ok(happened)
}

/// Just below the wrap, as the row wants it; so S60 has this part of it, too.
const BELOW_WRAP: SeqNum = SeqNum(u32::MAX - 50);

fn shrunk(stage: &mut Stage, local: bool) -> Result<Happened, LabError> {
    const IN_FLIGHT: u64 = 10 * 1460;
    let mut peer: RawPeer = stage.raw(Side::Server, PORT)?;
    peer.manner = Manner { window: 20_000, syn_window: 20_000, ..Manner::OLD };
    let server = stage.server(PORT);
    let host = stage.net.client.clone();
    let connecting = crate::app::App::start("the client's application", move || apps::connect(&host, server));
    peer.accept(BELOW_WRAP, PATIENCE)?;
    let client = connecting.finish(PATIENCE)??;
    let mut happened = Happened { client: apps::local(&client)?, server, told: String::new() };
    let first = peer.rcv_nxt();
    let writer = Writer::start(client.try_clone().during("share a socket")?, IN_FLIGHT, Pace::BULK)?;
    // All of it is on its way before the window goes.
    let mut seen = first;
    while seen.distance(first) < IN_FLIGHT as i32 {
        match peer.receive(PATIENCE)? {
            Some(segment) if segment.end().after(seen) => seen = segment.end(),
            Some(_) => {}
            None => return Err(LabError::Plot(format!("only {} bytes came", seen.distance(first)))),
        }
    }
    peer.set_rcv_nxt(first.plus(1460));
    peer.manner.window = 2000;
    peer.transmit(peer.snd_nxt(), Flags::ACK, Vec::new())?;
    let started = std::time::Instant::now();
    let mut again = 0;
    while started.elapsed() < Duration::from_millis(1600) {
        if let Some(segment) = peer.receive(Duration::from_millis(50))?
            && !segment.payload.is_empty()
        {
            again += 1;
            peer.transmit(peer.snd_nxt(), Flags::ACK, Vec::new())?;
        }
    }
    if again < 2 {
        return Err(LabError::Plot(format!("only {again} segments were sent again")));
    }
    if local {
        socket::linger_zero(&client)?;
        writer.stop()?;
        drop(client);
        let rst = loop {
            match peer.receive(PATIENCE)? {
                Some(segment) if segment.flags.rst => break segment,
                Some(_) => {}
                None => return Err(LabError::Plot("the client sent no RST".into())),
            }
        };
        // tcp_acceptable_seq(): not SND.NXT, which is outside the window now, but its edge.
        let relative = rst.seq.distance(first) + 1;
        if relative != 3461 {
            return Err(LabError::Plot(format!("the RST has the relative number {relative}, not 3461")));
        }
        happened.told =
            format!("14600 bytes in flight, the window ended at 3460; {again} retransmissions; a local RST at 3461");
    } else {
        peer.abort()?;
        let end = writer.finish(PATIENCE)?;
        apps::expect("the client", End::Error(libc::ECONNRESET), end)?;
        happened.told =
            format!("14600 bytes in flight, the window ended at 3460; {again} retransmissions; then a RST and {end}");
    }
    Ok(happened)
}
