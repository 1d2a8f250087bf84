//! Nothing is wrong here: what a tool must keep quiet about.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, sockopt};

use super::apps::{self, End, Pace, Reader, Writer};
use super::check::View;
use super::real::socket;
use super::views::{Chance, Variation};
use super::{Check, Happened, Kind, Scenario, Side, Stage, at};
use crate::LabError;
use crate::app::App;
use crate::error::During;
use crate::forwarder::{Delay, Device, Outbox};
use crate::offload;
use crate::packet::{FIN, Packet};
use crate::story::PATIENCE;
use crate::topology::Point;

pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "S54",
        title: "2 % loss, 3 % reordering, 2 % duplication, and a clean close",
        topology: Kind::Wire,
        run: rough,
        checks: quiet,
    },
    Scenario {
        id: "S55",
        title: "bulk with segmentation offload, slow readers, keepalive, half and simultaneous close, short flows",
        topology: Kind::Routed,
        run: ordinary,
        checks: quiet,
    },
    Scenario {
        id: "S56",
        title: "the captures of S54 with 1 % and 10 % of the packets missing",
        topology: Kind::Wire,
        run: rough,
        checks: thinned,
    },
    Scenario {
        id: "S56B",
        title: "the captures of S55 with 1 % and 10 % of the packets missing",
        topology: Kind::Routed,
        run: ordinary,
        checks: thinned,
    },
];

/// Live, whole, from the middle, and one way only.
fn quiet() -> Vec<Check> {
    let views = [View::Client, View::Server];
    let poorer = [Variation::From(40), Variation::OnlyClient, Variation::OnlyServer];
    let whole = views.map(|view| at(view).nothing()).into_iter();
    whole
        .chain(views.into_iter().flat_map(|view| poorer.map(|variation| at(view).nothing().varied(variation))))
        .collect()
}

/// Also used for S61.
pub fn thinned() -> Vec<Check> {
    let mut checks = Vec::new();
    for view in [View::Client, View::Server] {
        for (percent, seed) in [(1, 1), (1, 2), (10, 3), (10, 4)] {
            checks.push(at(view).nothing().varied(Variation::Thinned { percent, seed }));
        }
    }
    checks
}

/// A path as bad as a radio link; which segments suffer is the same in every run. Once an end closes it still loses some, but neither
/// doubles nor delays: a doubled FIN is acknowledged twice, and a closed socket answers the second with a RST (RFC 9293 3.5.2).
struct Rough {
    chance: Chance,
    lost: u32,
    closing: bool,
}

impl Device for Rough {
    fn pass(&mut self, from: Side, packet: Packet, out: &mut Outbox) {
        self.closing |= packet.has(FIN);
        match self.chance.draw() % 100 {
            0..2 => self.lost += 1,
            2..7 if self.closing => out.forward(from, packet),
            2..5 => out.forward_later(from, packet, Duration::from_millis(2)),
            5..7 => {
                out.forward(from, packet.clone());
                out.forward(from, packet);
            }
            _ => out.forward(from, packet),
        }
    }
}

const PORT: u16 = 5010;

fn rough(stage: &mut Stage) -> Result<Happened, LabError> {
    const BYTES: u64 = 800_000;
    const LIMIT: Duration = Duration::from_secs(50);
    let device = stage.device(Delay::NONE, Rough { chance: Chance::new(5), lost: 0, closing: false })?;
    let (client, server) = stage.pair(PORT)?;
    let happened = Happened { client: apps::local(&client)?, server: apps::local(&server)?, told: String::new() };
    let writer = Writer::start(client, BYTES, Pace::BULK)?;
    let reader = Reader::start(server)?;
    reader.reached(BYTES, LIMIT)?;
    // What is late arrives before the end.
    stage.sleep(Duration::from_millis(20));
    writer.stop()?;
    apps::expect("the server", End::Eof, reader.finish(PATIENCE)?)?;
    // FINs may be lost as well, and are sent again.
    stage.sleep(Duration::from_millis(1500));
    let lost = device.stop()?.lost;
    if lost < 5 {
        return Err(LabError::Plot(format!("only {lost} segments were lost")));
    }
    Ok(Happened {
        told: format!("{BYTES} bytes arrived whole although {lost} segments were lost; closed in order"),
        ..happened
    })
}

/// Everything that real stacks do all day, one after the other.
fn ordinary(stage: &mut Stage) -> Result<Happened, LabError> {
    // At the ends. XDP on an interface takes it from the peer of a veth pair, here the router's ports.
    for point in [Point::Client, Point::Server] {
        offload::set(stage.net.namespace(point)?, point.interface(), true)?;
    }
    let happened = bulk(stage, PORT, true)?;
    bulk(stage, PORT + 1, false)?;
    slow_reader(stage, PORT + 2, Duration::from_millis(400))?;
    stage.net.server.sysctl("net.ipv4.tcp_shrink_window", "1")?;
    slow_reader(stage, PORT + 3, Duration::from_millis(700))?;
    idle_keepalive(stage, PORT + 4)?;
    half_close(stage, PORT + 5)?;
    simultaneous_close(stage, PORT + 6)?;
    simultaneous_open(stage, PORT + 7)?;
    fast_open(stage, PORT + 8)?;
    for _ in 0..60 {
        short(stage, PORT + 9)?;
    }
    stage.sleep(Duration::from_millis(500));
    Ok(Happened {
        told: "8 MB each way, two slow readers (one with shrinking windows), idle keepalive, half close, simultaneous close and open, fast open, 60 short flows; all closed in order".into(),
        ..happened
    })
}

/// Ends both sides in order.
fn close_both(first: TcpStream, second: TcpStream) -> Result<(), LabError> {
    let mut buffer = [0; 65536];
    for (closes, reads) in [(&first, &second), (&second, &first)] {
        closes.shutdown(Shutdown::Write).during("shut a connection down")?;
        let mut reads: &TcpStream = reads;
        reads.set_read_timeout(Some(PATIENCE)).during("set a read timeout")?;
        while reads.read(&mut buffer).during("read to the end")? > 0 {}
    }
    Ok(())
}

fn bulk(stage: &Stage, port: u16, upload: bool) -> Result<Happened, LabError> {
    const BYTES: u64 = 8_000_000;
    let (client, server) = stage.pair(port)?;
    let happened = Happened { client: apps::local(&client)?, server: apps::local(&server)?, told: String::new() };
    let (from, to) = if upload { (client, server) } else { (server, client) };
    let writer = Writer::start(from, BYTES, Pace::BULK)?;
    let reader = Reader::start(to)?;
    reader.reached(BYTES, Duration::from_secs(30))?;
    writer.stop()?;
    apps::expect("a reader", End::Eof, reader.finish(PATIENCE)?)?;
    Ok(happened)
}

fn slow_reader(stage: &Stage, port: u16, pause: Duration) -> Result<(), LabError> {
    const BYTES: u64 = 600_000;
    let listener = stage.listen(port)?;
    socket::receive_buffer(&listener, 32_768)?;
    let client = stage.connect(port)?;
    let mut server = apps::accept(&listener)?;
    server.set_read_timeout(Some(PATIENCE)).during("set a read timeout")?;
    let writer = Writer::start(client, BYTES, Pace::BULK)?;
    let mut buffer = [0; 16_384];
    let mut read = 0;
    for round in 0.. {
        if round < 4 {
            stage.sleep(pause);
        }
        match server.read(&mut buffer).during("read slowly")? {
            0 => break,
            len => read += len as u64,
        }
        if read == BYTES {
            writer.stop()?;
        }
    }
    if read != BYTES {
        return Err(LabError::Plot(format!("a slow reader read {read} bytes")));
    }
    Ok(())
}

fn idle_keepalive(stage: &Stage, port: u16) -> Result<(), LabError> {
    let (mut client, server) = stage.pair(port)?;
    socket::keepalive(&client, Duration::from_secs(1), Duration::from_secs(1), 5)?;
    client.write_all(b"hello\n").during("write")?;
    stage.sleep(Duration::from_millis(3500));
    close_both(client, server)
}

fn half_close(stage: &Stage, port: u16) -> Result<(), LabError> {
    let (mut client, mut server) = stage.pair(port)?;
    client.write_all(b"request\n").during("write")?;
    client.shutdown(Shutdown::Write).during("shut a connection down")?;
    stage.sleep(Duration::from_millis(100));
    server.write_all(&apps::pattern(0, 100_000)).during("write")?;
    let request = Reader::start(server.try_clone().during("share a socket")?)?;
    apps::expect("the other end", End::Eof, request.finish(PATIENCE)?)?;
    let reader = Reader::start(client)?;
    drop(server);
    apps::expect("a half-closed client", End::Eof, reader.finish(PATIENCE)?)
}

fn simultaneous_close(stage: &Stage, port: u16) -> Result<(), LabError> {
    let (client, server) = stage.pair(port)?;
    // Both before either has heard of the other, or nearly so; any order is in order.
    let both = [client.try_clone().during("share a socket")?, server.try_clone().during("share a socket")?];
    let threads = both.map(|stream| std::thread::spawn(move || stream.shutdown(Shutdown::Write)));
    for thread in threads {
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).during("shut a connection down")?;
    }
    for stream in [client, server] {
        apps::expect("a closing end", End::Eof, Reader::start(stream)?.finish(PATIENCE)?)?;
    }
    Ok(())
}

/// A socket bound to its port that connects to the other's; what std has no call for.
fn open_towards(from: SocketAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let fd: OwnedFd = nix::sys::socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(from))?;
    // Refused where the other is not there yet: again, as in any simultaneous open.
    for _ in 0..2000 {
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
            Ok(()) => return Ok(TcpStream::from(fd)),
            Err(Errno::ECONNREFUSED) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::ECONNREFUSED.into())
}

/// Both hosts connect at once. The router holds the SYNs back until both are on their way.
fn simultaneous_open(stage: &Stage, port: u16) -> Result<(), LabError> {
    let router = stage.net.router()?;
    let (one, two) = (stage.net.socket(Side::Client, port), stage.net.socket(Side::Server, port));
    router.nft(&format!(
        "table ip hold {{ chain forward {{ type filter hook forward priority 0; tcp dport {port} tcp flags syn / syn,ack drop\n}}\n}}\n"
    ))?;
    let start = |side: Side, from, to| {
        let host = stage.net.host(side).clone();
        App::start("an application that opens towards another", move || host.run(|| open_towards(from, to)))
    };
    let apps = [start(Side::Client, one, two), start(Side::Server, two, one)];
    stage.sleep(Duration::from_millis(300));
    // Their first retransmissions, a second after the SYNs, cross.
    router.nft("delete table ip hold")?;
    let mut streams = Vec::new();
    for app in apps {
        streams.push(app.finish(PATIENCE)??.during("open towards each other")?);
    }
    match (streams.pop(), streams.pop()) {
        (Some(second), Some(first)) => close_both(first, second),
        _ => Err(LabError::Plot("two streams were opened".into())),
    }
}

fn fast_open(stage: &Stage, port: u16) -> Result<(), LabError> {
    const TCP_FASTOPEN: i32 = 23;
    const TCP_FASTOPEN_CONNECT: i32 = 30;
    for host in [&stage.net.client, &stage.net.server] {
        host.sysctl("net.ipv4.tcp_fastopen", "3")?;
    }
    let listener = stage.listen(port)?;
    apps::tcp_option(&listener, TCP_FASTOPEN, 16)?;
    let server = stage.server(port);
    // The first one gets the cookie, the second one uses it.
    for _ in 0..2 {
        let mut client = stage
            .net
            .client
            .run(|| -> std::io::Result<TcpStream> {
                // SAFETY: a plain system call; the descriptor is owned by nobody else.
                let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
                Errno::result(fd)?;
                // SAFETY: just opened, and owned by nobody else.
                let fd = unsafe { OwnedFd::from_raw_fd(fd) };
                let on = 1i32;
                // SAFETY: the kernel reads four bytes of `on`.
                let set = unsafe {
                    libc::setsockopt(fd.as_raw_fd(), libc::IPPROTO_TCP, TCP_FASTOPEN_CONNECT, (&raw const on).cast(), 4)
                };
                Errno::result(set)?;
                connect(fd.as_raw_fd(), &SockaddrStorage::from(server))?;
                Ok(TcpStream::from(fd))
            })?
            .during("connect with fast open")?;
        client.write_all(b"early data\n").during("write")?;
        let accepted = apps::accept(&listener)?;
        close_both(client, accepted)?;
    }
    Ok(())
}

fn short(stage: &Stage, port: u16) -> Result<(), LabError> {
    let (mut client, mut server) = stage.pair(port)?;
    client.write_all(b"GET /\n").during("write")?;
    server.write_all(b"200\n").during("write")?;
    close_both(client, server)
}
