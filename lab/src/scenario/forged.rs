//! Resets that nobody sent who they claim to be from, and one that is genuine.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::apps::{self, End, Pace, Reader, Writer};
use super::check::View;
use super::real::socket;
use super::{Happened, Kind, Scenario, Side, Stage, at, cause};
use crate::LabError;
use crate::app::App;
use crate::error::During;
use crate::forwarder::{Delay, Device, Outbox, Plain};
use crate::frame::{Flags, Options, Segment};
use crate::packet::{ACK, Packet, RST};
use crate::seq::SeqNum;
use crate::story::PATIENCE;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "S18B",
        title: "a firewall 40 ms nearer than the server refuses the first request",
        topology: Kind::Wire,
        run: refused,
        checks: || {
            vec![
                at(View::Client)
                    .accept(cause("policy_reset").culprits(&["middlebox"]).mechanisms(&["netfilter_reject"]))
                    .shows(&["rtt_impossible"])
                    .sent_by("server"),
            ]
        },
    },
    Scenario {
        id: "S51",
        title: "a device throws one RST (TTL 57, ID 54321) into a bulk transfer",
        topology: Kind::Wire,
        run: thrown_in,
        checks: || {
            vec![
                at(View::Server)
                    .accept(
                        cause("rst_injected").variants(&["on_path"]).culprits(&["middlebox"]).mechanisms(&["forged"]),
                    )
                    .shows(&["rst_seq_data"])
                    .sent_by("client"),
                // The victim's host does not know the connection any more; why, the sender cannot see.
                at(View::Client)
                    .accept(cause("peer_lost_state").culprits(&["server"]))
                    .accept(cause("rst_injected"))
                    .sent_by("server"),
            ]
        },
    },
    Scenario {
        id: "S52",
        title: "a device answers a keyword with three RSTs at 0, 1460 and 4380, both ways",
        topology: Kind::Wire,
        run: keyword,
        checks: || {
            vec![
                at(View::Client)
                    .accept(
                        cause("rst_injected")
                            .variants(&["on_path", "inline"])
                            .culprits(&["middlebox"])
                            .mechanisms(&["forged"]),
                    )
                    .shows(&["rtt_impossible", "rst_seq_change", "live_after_rst"])
                    .sent_by("server"),
                at(View::Server)
                    .accept(cause("rst_injected").culprits(&["middlebox", "third_party"]).mechanisms(&["forged"]))
                    .shows(&["rst_seq_change"])
                    .sent_by("client"),
            ]
        },
    },
    Scenario {
        id: "S53",
        title: "a device sends a RST 4552 bytes too late",
        topology: Kind::Wire,
        run: stale,
        checks: || {
            vec![
                at(View::Server)
                    .kinds(&["rst_ineffective"])
                    .accept(cause("rst_injected").culprits(&["middlebox", "third_party"]))
                    .accept(cause("rst_ineffective"))
                    .shows(&["data_seq_rst"])
                    .alone(),
                at(View::Client).nothing(),
            ]
        },
    },
    Scenario {
        id: "S57",
        title: "a device ends a connection after 52 s of silence with RSTs to both ends",
        topology: Kind::Wire,
        run: expired,
        checks: || {
            let both = |view| {
                at(view)
                    .accept(cause("middlebox_idle_timeout").variants(&["at_expiry"]).culprits(&["middlebox"]))
                    .shows(&["idle_gap"])
            };
            vec![both(View::Client).sent_by("server"), both(View::Server).sent_by("client")]
        },
    },
    Scenario {
        id: "S62",
        title: "a server 20 ms away has forgotten the connection and says so itself",
        topology: Kind::Wire,
        run: genuine,
        checks: || {
            vec![
                at(View::Client)
                    .accept(cause("peer_lost_state").culprits(&["server"]).mechanisms(&["reply_to_ack"]))
                    .shows_not(&["rtt_impossible", "live_after_rst", "rst_seq_data", "rst_seq_change", "data_seq_rst"])
                    .sound()
                    .sent_by("server"),
                at(View::Server)
                    .accept(cause("peer_lost_state").culprits(&["server"]).mechanisms(&["reply_to_ack"]))
                    .kernel("NO_SOCKET")
                    .sound()
                    .sent_by("server"),
            ]
        },
    },
];

const PORT: u16 = 5005;

fn between(client: &TcpStream, server: &TcpStream) -> Result<Happened, LabError> {
    Ok(Happened { client: apps::local(client)?, server: apps::local(server)?, told: String::new() })
}

/// What a device says in somebody else's name.
struct Forgery {
    ends: [SocketAddr; 2],
    ttl: u8,
    ip_id: u16,
}

impl Forgery {
    /// As if `from` had sent it.
    fn rst(&self, from: Side, seq: SeqNum, ack: Option<SeqNum>) -> Segment {
        Segment {
            source: self.ends[from as usize],
            destination: self.ends[from.other() as usize],
            seq,
            ack: ack.unwrap_or_default(),
            flags: if ack.is_some() { Flags::RST_ACK } else { Flags::RST },
            wnd: 0,
            options: Options::default(),
            payload: Vec::new(),
            ttl: self.ttl,
            ip_id: self.ip_id,
        }
    }
}

fn ends_of(from: Side, packet: &Packet) -> Option<[SocketAddr; 2]> {
    let segment = Segment::from_frame(&packet.clone().into_frame())?;
    Some(match from {
        Side::Client => [segment.source, segment.destination],
        Side::Server => [segment.destination, segment.source],
    })
}

fn reset_of(stream: &mut TcpStream, who: &str) -> Result<(), LabError> {
    stream.set_read_timeout(Some(PATIENCE)).during("set a read timeout")?;
    match stream.read(&mut [0; 16]) {
        Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => Ok(()),
        other => Err(LabError::Plot(format!("{who} should have been reset, but got {other:?}"))),
    }
}

/// Three exchanges, so that the round trip is known.
fn converse(client: &mut TcpStream, server: &mut TcpStream) -> Result<(), LabError> {
    let mut buffer = [0; 64];
    for stream in [&*client, &*server] {
        stream.set_read_timeout(Some(PATIENCE)).during("set a read timeout")?;
        stream.set_nodelay(true).during("set TCP_NODELAY")?;
    }
    for _ in 0..4 {
        client.write_all(b"ping\n").during("write")?;
        server.read_exact(&mut buffer[..5]).during("read")?;
        server.write_all(b"pong\n").during("write")?;
        client.read_exact(&mut buffer[..5]).during("read")?;
    }
    Ok(())
}

const KEYWORD: &[u8] = b"GET /forbidden";

fn refused(stage: &mut Stage) -> Result<Happened, LabError> {
    let device = stage.device(Delay::FAR, |from: Side, packet: Packet, out: &mut Outbox| {
        if from == Side::Client && packet.payload().starts_with(KEYWORD) {
            // As nft does: the answer to a segment with ACK, and the segment is gone.
            if let Some(ends) = ends_of(from, &packet) {
                let forgery = Forgery { ends, ttl: 64, ip_id: 0 };
                out.inject(Side::Client, &forgery.rst(Side::Server, packet.ack(), None));
            }
            return;
        }
        out.forward(from, packet);
    })?;
    let (mut client, mut server) = stage.pair(PORT)?;
    let mut happened = between(&client, &server)?;
    converse(&mut client, &mut server)?;
    // The last answer is acknowledged, or the server would send it again after the reset; and the
    // request follows at once, so that only what left within half a round trip can have been answered.
    socket::quick_ack(&client, true)?;
    let started = Instant::now();
    client.write_all(KEYWORD).during("write")?;
    reset_of(&mut client, "the client")?;
    let took = started.elapsed();
    if took > Duration::from_millis(15) {
        return Err(LabError::Plot(format!("the reset took {took:?}")));
    }
    happened.told = format!(
        "the reset came {:.2} ms after the request; the server is 20 ms away and got nothing",
        took.as_secs_f64() * 1e3
    );
    // The server's end stays as it is.
    stage.keep(Box::new((server, device)));
    Ok(happened)
}

/// Resets the server in the client's name, in the middle of the client's upload.
struct Thrower {
    after: u64,
    passed: u64,
    thrown: bool,
    answers: Arc<AtomicU64>,
}

impl Device for Thrower {
    fn pass(&mut self, from: Side, packet: Packet, out: &mut Outbox) {
        if from == Side::Server && packet.has(RST) {
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
        self.passed += if from == Side::Client { u64::from(packet.len()) } else { 0 };
        let seq = packet.seq_end();
        let due = from == Side::Client && self.passed >= self.after && !self.thrown;
        let ends = ends_of(from, &packet);
        out.forward(from, packet);
        if let (true, Some(ends)) = (due, ends) {
            self.thrown = true;
            let forgery = Forgery { ends, ttl: 57, ip_id: 54321 };
            out.inject(Side::Server, &forgery.rst(Side::Client, seq, None));
        }
    }
}

/// The client is far enough away to go on sending for a while, and sends often enough for what follows
/// the RST not to be mistaken for what the RST overtook.
fn thrown_in(stage: &mut Stage) -> Result<Happened, LabError> {
    let answers = Arc::new(AtomicU64::new(0));
    let thrower = Thrower { after: 150_000, passed: 0, thrown: false, answers: Arc::clone(&answers) };
    let device = stage.device(Delay::FAR, thrower)?;
    let (client, server) = stage.pair(PORT)?;
    let mut happened = between(&client, &server)?;
    let writer = Writer::start(client, 4_000_000, Pace { chunk: 1448, pause: Duration::from_millis(12) })?;
    let reader = Reader::start(server)?;
    apps::expect("the server", End::Error(libc::ECONNRESET), reader.finish(PATIENCE)?)?;
    apps::expect("the client", End::Error(libc::ECONNRESET), writer.finish(PATIENCE)?)?;
    stage.sleep(Duration::from_millis(200));
    let answers = answers.load(Ordering::Relaxed);
    let _ = device.stop()?;
    if answers < 2 {
        return Err(LabError::Plot(format!("the server refused only {answers} segments afterwards")));
    }
    happened.told = format!("one RST ended the server's side; the client's data went on and got {answers} answers");
    Ok(happened)
}

/// Sends one RST in the client's name when it is told to, so far below the newest data.
struct Latecomer {
    behind: u32,
    newest: SeqNum,
    ends: Option<[SocketAddr; 2]>,
    now: Arc<AtomicBool>,
}

impl Device for Latecomer {
    fn pass(&mut self, from: Side, packet: Packet, out: &mut Outbox) {
        if from == Side::Client {
            self.newest = packet.seq_end();
        }
        self.ends = self.ends.or_else(|| ends_of(from, &packet));
        out.forward(from, packet);
    }

    fn tick(&mut self, out: &mut Outbox) {
        if let (Some(ends), true) = (self.ends, self.now.swap(false, Ordering::Relaxed)) {
            let forgery = Forgery { ends, ttl: 64, ip_id: 54321 };
            out.inject(Side::Server, &forgery.rst(Side::Client, self.newest.minus(self.behind), None));
        }
    }
}

fn stale(stage: &mut Stage) -> Result<Happened, LabError> {
    const HALF: u64 = 400_000;
    let now = Arc::new(AtomicBool::new(false));
    let latecomer = Latecomer { behind: 4552, newest: SeqNum(0), ends: None, now: Arc::clone(&now) };
    let device = stage.device(Delay::NONE, latecomer)?;
    let (client, server) = stage.pair(PORT)?;
    let mut happened = between(&client, &server)?;
    let reader = Reader::start(server)?;
    let first = Writer::start(client.try_clone().during("share a socket")?, HALF, Pace::BULK)?;
    reader.reached(HALF, PATIENCE)?;
    first.stop()?;
    // All of it is acknowledged by now; the RST belongs to data that has long been read.
    stage.sleep(Duration::from_millis(100));
    now.store(true, Ordering::Relaxed);
    stage.sleep(Duration::from_millis(100));
    if now.load(Ordering::Relaxed) {
        return Err(LabError::Plot("no RST was sent".into()));
    }
    let second = Writer::start(client, HALF, Pace::BULK)?;
    reader.reached(2 * HALF, PATIENCE)?;
    second.stop()?;
    apps::expect("the server", End::Eof, reader.finish(PATIENCE)?)?;
    stage.sleep(Duration::from_millis(300));
    let _ = device.stop()?;
    happened.told =
        format!("a RST 4552 bytes below the newest data had no effect: {} bytes arrived, closed in order", 2 * HALF);
    Ok(happened)
}

/// Lets the keyword pass and answers it for both ends.
struct Censor {
    server_next: SeqNum,
    done: bool,
    /// Times of its RSTs and of what the server really said afterwards.
    fired: Arc<Mutex<Option<Instant>>>,
    real: Arc<AtomicU64>,
}

impl Device for Censor {
    fn pass(&mut self, from: Side, packet: Packet, out: &mut Outbox) {
        if from == Side::Server {
            self.server_next = packet.seq_end();
            if self.done && !packet.has(RST) && packet.has(ACK) {
                self.real.fetch_add(1, Ordering::Relaxed);
            }
        }
        let trigger = from == Side::Client && packet.payload().starts_with(KEYWORD) && !self.done;
        let (end, ends) = (packet.seq_end(), ends_of(from, &packet));
        out.forward(from, packet);
        if let (true, Some(ends)) = (trigger, ends) {
            self.done = true;
            *self.fired.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Instant::now());
            for (number, step) in [0, 1460, 4380].into_iter().enumerate() {
                let forgery = Forgery { ends, ttl: 101, ip_id: 20_000 + 977 * number as u16 };
                out.inject(Side::Client, &forgery.rst(Side::Server, self.server_next.plus(step), Some(end)));
                // The server answers faster than this, which shows at the client that it was alive.
                let to_server = forgery.rst(Side::Client, end.plus(step), Some(self.server_next));
                out.inject_later(Side::Server, &to_server, Duration::from_millis(9));
            }
        }
    }
}

fn keyword(stage: &mut Stage) -> Result<Happened, LabError> {
    let (fired, real) = (Arc::new(Mutex::new(None)), Arc::new(AtomicU64::new(0)));
    let censor = Censor { server_next: SeqNum(0), done: false, fired: Arc::clone(&fired), real: Arc::clone(&real) };
    let device = stage.device(Delay::FAR, censor)?;
    let (mut client, mut server) = stage.pair(PORT)?;
    let mut happened = between(&client, &server)?;
    converse(&mut client, &mut server)?;
    stage.sleep(Duration::from_millis(300));
    let answering = App::start("the server's application", move || {
        let mut request = [0; 64];
        let read = server.read(&mut request)?;
        server.write_all(b"HTTP/1.0 200 OK\r\n")?;
        std::io::Result::Ok((read, server.read(&mut request)))
    });
    client.write_all(KEYWORD).during("write")?;
    reset_of(&mut client, "the client")?;
    let (read, end) = answering.finish(PATIENCE)?.during("answer the request")?;
    match end {
        Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => {}
        other => return Err(LabError::Plot(format!("the server should have been reset, but got {other:?}"))),
    }
    stage.sleep(Duration::from_millis(200));
    let _ = device.stop()?;
    let real = real.load(Ordering::Relaxed);
    if real == 0 {
        return Err(LabError::Plot("the real server said nothing after the forged resets".into()));
    }
    happened.told = format!(
        "both ends were reset at once; the server had read {read} bytes of the request, and {real} of its own segments came 40 ms later"
    );
    Ok(happened)
}

/// Forgets connections that are silent for too long, and tells both ends.
struct Expirer {
    after: Duration,
    next: [SeqNum; 2],
    ends: Option<[SocketAddr; 2]>,
    last: Instant,
    done: bool,
}

impl Device for Expirer {
    fn pass(&mut self, from: Side, packet: Packet, out: &mut Outbox) {
        self.last = Instant::now();
        self.next[from as usize] = packet.seq_end();
        self.ends = self.ends.or_else(|| ends_of(from, &packet));
        out.forward(from, packet);
    }

    fn tick(&mut self, out: &mut Outbox) {
        if let (Some(ends), false, true) = (self.ends, self.done, self.last.elapsed() > self.after) {
            self.done = true;
            let forgery = Forgery { ends, ttl: 64, ip_id: 0 };
            for from in [Side::Client, Side::Server] {
                let (seq, ack) = (self.next[from as usize], self.next[from.other() as usize]);
                out.inject(from.other(), &forgery.rst(from, seq, Some(ack)));
            }
        }
    }
}

fn expired(stage: &mut Stage) -> Result<Happened, LabError> {
    let expirer =
        Expirer { after: Duration::from_secs(52), next: [SeqNum(0); 2], ends: None, last: Instant::now(), done: false };
    let device = stage.device(Delay::NONE, expirer)?;
    let (mut client, mut server) = stage.pair(PORT)?;
    let mut happened = between(&client, &server)?;
    converse(&mut client, &mut server)?;
    let silent = Instant::now();
    for (stream, who) in [(&mut client, "the client"), (&mut server, "the server")] {
        stream.set_read_timeout(Some(Duration::from_secs(60))).during("set a read timeout")?;
        match stream.read(&mut [0; 16]) {
            Err(error) if error.raw_os_error() == Some(libc::ECONNRESET) => {}
            other => return Err(LabError::Plot(format!("{who} should have been reset, but got {other:?}"))),
        }
    }
    let silent = silent.elapsed();
    let _ = device.stop()?;
    happened.told = format!("after {:.1} s of silence both applications got ECONNRESET at once", silent.as_secs_f64());
    Ok(happened)
}

fn genuine(stage: &mut Stage) -> Result<Happened, LabError> {
    let device = stage.device(Delay::FAR, Plain)?;
    let (mut client, mut server) = stage.pair(PORT)?;
    let mut happened = between(&client, &server)?;
    converse(&mut client, &mut server)?;
    stage.sleep(Duration::from_millis(300));
    socket::vanish(server)?;
    let started = Instant::now();
    client.write_all(b"are you there?\n").during("write")?;
    reset_of(&mut client, "the client")?;
    let took = started.elapsed();
    if took < Duration::from_millis(39) {
        return Err(LabError::Plot(format!("the answer took only {took:?}")));
    }
    let _ = device.stop()?;
    happened.told = format!(
        "the server's socket vanished in silence; its kernel's RST came {:.1} ms after the next data",
        took.as_secs_f64() * 1e3
    );
    Ok(happened)
}
