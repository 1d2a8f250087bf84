//! A segment that connection tracking calls invalid slips past address translation
//! (kubernetes/kubernetes#74839).
//!
//! The router translates a virtual address to the server. During a healthy download one segment
//! leaves the server with a sequence number far outside the window. Connection tracking marks it
//! INVALID, and packets marked so are not translated: it reaches the client with the server's real
//! address, which the client has never heard of. The client answers with RST, whose sequence number
//! is what that segment acknowledged. The RST is not translated either, reaches the server, fits
//! exactly, and kills the healthy connection. The client learns of it when it sends something.
//!
//! Since kernel commit 6e250dcbff1d (Linux 6.1) a segment *below* the window ([`Stray::Late`]) is no
//! longer INVALID but taken for an overdue duplicate and translated; one *above* the window
//! ([`Stray::Ahead`]) still is. Both seen on 6.18; older kernels were not tried.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::{App, Narrator, Outcome, PATIENCE, Story, any_address, expect_reset, relative};
use crate::LabError;
use crate::error::During;
use crate::frame::Segment;
use crate::packet_socket::{MAX_FRAME, PacketSocket};
use crate::seq::SeqNum;
use crate::topology::{Addresses, ClientStack, Point, Topology};

const SERVER_PORT: u16 = 8080;
const VIP_PORT: u16 = 80;
const REQUEST: &[u8] = b"GET /big HTTP/1.0\r\n\r\n";
/// The stray segment comes when the server has sent this much.
const BYTES_BEFORE_STRAY: u32 = 256_000;
/// How far it is ahead of the server: beyond any window of this transfer.
const AHEAD_BYTES: u32 = 100_000_000;
const STRAY_BYTES: usize = 20;
/// The server sends in pieces with pauses, so that the download lasts and captures stay small.
const CHUNK_BYTES: usize = 4096;
const CHUNK_PAUSE: Duration = Duration::from_millis(2);
/// A client that has received nothing for this long asks again.
const CLIENT_IMPATIENCE: Duration = Duration::from_millis(500);

/// Which segment goes astray.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stray {
    /// Far above the window.
    #[default]
    Ahead,
    /// The first data segment once more, long after it was acknowledged. Translated, and so
    /// harmless, since Linux 6.1: there this story fails.
    Late,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    pub stray: Stray,
}

#[derive(Clone, Debug)]
pub struct Facts {
    pub client: SocketAddr,
    /// What the client connected to.
    pub vip: SocketAddr,
    /// What that was translated to.
    pub server: SocketAddr,
    /// The server's initial sequence number and its SND.NXT when the stray segment was sent.
    pub server_iss: SeqNum,
    pub server_snd_nxt: SeqNum,
    pub stray_seq: SeqNum,
    pub stray_ack: SeqNum,
    /// The stray segment was seen at the client with the server's own address.
    pub seen_untranslated: bool,
    /// Sequence number of the RST that arrived at the server; equals `stray_ack`.
    pub rst_seq: SeqNum,
    /// Packets that the router's connection tracking called invalid.
    pub invalid_packets: u64,
    pub bytes_downloaded: u64,
}

pub struct Nat {
    topology: Topology,
    options: super::Options,
}

pub fn prepare(options: &super::Options) -> Result<Nat, LabError> {
    let topology = Topology::create(ClientStack::Kernel, options.wiring())?;
    topology.router.nft(&ruleset(&topology.addresses))?;
    // The default, but the story depends on it.
    topology.router.sysctl("net.netfilter.nf_conntrack_tcp_be_liberal", "0")?;
    Ok(Nat { topology, options: *options })
}

/// Translation, and a counter as evidence; nothing is dropped.
fn ruleset(addresses: &Addresses) -> String {
    let (vip, server) = (addresses.vip, SocketAddr::new(addresses.server, SERVER_PORT));
    let family = if vip.is_ipv4() { "ip" } else { "ip6" };
    format!(
        "table inet whyrst {{
            counter invalid {{ }}
            chain prerouting {{
                type nat hook prerouting priority dstnat;
                {family} daddr {vip} tcp dport {VIP_PORT} dnat {family} to {server}
            }}
            chain forward {{
                type filter hook forward priority filter;
                ct state invalid counter name invalid
            }}
        }}"
    )
}

impl Story for Nat {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    fn agent_points(&self) -> &'static [Point] {
        &[Point::RouterToClient, Point::RouterToServer]
    }

    fn capture_points(&self) -> &'static [Point] {
        &Point::ALL
    }

    fn tell(&self, narrator: &mut Narrator) -> Result<Outcome, LabError> {
        let topology = &self.topology;
        let server = topology.server_socket(SERVER_PORT);
        let vip = SocketAddr::new(topology.addresses.vip, VIP_PORT);
        let address = SocketAddr::new(any_address(self.options.ipv6), SERVER_PORT);
        let mut at_server = Observer::open(topology, Point::Server)?;
        let mut at_client = Observer::open(topology, Point::Client)?;

        let listener =
            topology.server.run(|| TcpListener::bind(address))?.during(format!("listen on port {SERVER_PORT}"))?;
        let server_app = App::start("the server's application", move || serve(&listener));
        let mut download =
            topology.client.run(|| TcpStream::connect_timeout(&vip, PATIENCE))?.during(format!("connect to {vip}"))?;
        let client = download.local_addr().during("learn the client's address")?;
        narrator.step(format!("the client {client} is connected to {vip}, which the router translates to {server}"));
        download.write_all(REQUEST).during("send the request")?;
        let kicked_out = Arc::new(AtomicBool::new(false));
        let kicked = Arc::clone(&kicked_out);
        let client_app = App::start("the client's application", move || fetch(download, &kicked));
        narrator.step("the client starts a download");

        let view = at_server.watch_download(server, client)?;
        let stray = view.stray(self.options.nat.stray);
        at_server.send_like(&stray, &view)?;
        narrator.step(format!(
            "after {} bytes a segment leaves the server with sequence number {}, {} it should be; it acknowledges {}, as all others do",
            relative(view.snd_nxt, view.iss) - 1,
            stray.seq,
            placement(stray.seq, view.snd_nxt),
            stray.ack,
        ));

        let rst = at_server
            .wait_for(|segment| segment.flags.rst && segment.source == client && segment.destination == server);
        let seen_untranslated = at_client.saw(|segment| segment.source == server && segment.seq == stray.seq)?;
        let invalid_packets = self.invalid_packets()?;
        let rst = rst.map_err(|error| {
            LabError::Plot(format!(
                "no RST came to the server ({error}); the stray segment {}, and connection tracking called {invalid_packets} packets invalid",
                if seen_untranslated { "was seen untranslated at the client" } else { "was not seen untranslated at the client" }
            ))
        })?;
        if !seen_untranslated {
            return Err(LabError::Plot("the stray segment was not seen untranslated at the client".into()));
        }
        narrator.step(format!("the router's connection tracking calls it invalid and does not translate it: the client sees a segment from {server}"));
        narrator.step(format!(
            "the client has no connection with {server} and answers with RST, sequence number {}",
            rst.seq
        ));

        let error = server_app.finish(PATIENCE)??;
        let server_saw = expect_reset("the server's application", &error)?;
        narrator.step(format!(
            "the RST fits the server's healthy connection exactly; the server's application gets \"{error}\""
        ));
        if topology.server.connected_sockets(SERVER_PORT)? != 0 {
            return Err(LabError::Plot("the server's socket outlived the RST".into()));
        }
        kicked_out.store(true, Ordering::Relaxed);
        let (bytes_downloaded, error) = client_app.finish(PATIENCE)?;
        let client_saw = expect_reset("the client", &error)?;
        narrator.step(format!("the client, {bytes_downloaded} bytes into its download, sends something and gets \"{error}\" as well: the server no longer knows the connection"));

        Ok(Outcome {
            steps: narrator.take_steps(),
            client_saw,
            server_saw,
            facts: super::Facts::Nat(Facts {
                client,
                vip,
                server,
                server_iss: view.iss,
                server_snd_nxt: view.snd_nxt,
                stray_seq: stray.seq,
                stray_ack: stray.ack,
                seen_untranslated,
                rst_seq: rst.seq,
                invalid_packets,
                bytes_downloaded,
            }),
        })
    }
}

impl Nat {
    fn invalid_packets(&self) -> Result<u64, LabError> {
        let listing = self.topology.router.output("nft", &["list", "counter", "inet", "whyrst", "invalid"])?;
        // "... packets 2 bytes 112"
        let mut words = listing.split_whitespace().skip_while(|&word| word != "packets");
        words
            .nth(1)
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| LabError::Plot(format!("nft printed no packet count: {listing}")))
    }
}

fn placement(stray: SeqNum, snd_nxt: SeqNum) -> String {
    match stray.distance(snd_nxt) {
        ahead @ 0.. => format!("{ahead} ahead of where"),
        behind => format!("{} behind where", behind.unsigned_abs()),
    }
}

/// Serves one endless download; the result is the error that ends it.
fn serve(listener: &TcpListener) -> Result<io::Error, LabError> {
    let (mut stream, _) = listener.accept().during("accept")?;
    stream.set_read_timeout(Some(PATIENCE)).during("set a read timeout")?;
    stream.set_write_timeout(Some(PATIENCE)).during("set a write timeout")?;
    stream.read_exact(&mut [0; REQUEST.len()]).during("read the request")?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        if let Err(error) = stream.write_all(&[b'd'; CHUNK_BYTES]) {
            return Ok(error);
        }
        thread::sleep(CHUNK_PAUSE);
    }
    Err(LabError::Plot("the download was never interrupted".into()))
}

/// Downloads until an error. A pause in the download is met with another request, but only after
/// the server is known to be gone: a slow machine must not make the client spoil the story.
fn fetch(mut stream: TcpStream, server_is_gone: &AtomicBool) -> (u64, io::Error) {
    let mut total = 0;
    let mut buffer = vec![0; 65536];
    let started = Instant::now();
    let mut attempt = || {
        stream.set_read_timeout(Some(CLIENT_IMPATIENCE))?;
        while started.elapsed() < PATIENCE {
            match stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => total += count as u64,
                Err(pause) if pause.kind() == io::ErrorKind::WouldBlock => {
                    if server_is_gone.load(Ordering::Relaxed) {
                        stream.write_all(REQUEST)?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err::<(), _>(io::ErrorKind::TimedOut.into())
    };
    let error = attempt().expect_err("the loop above ends only with an error");
    (total, error)
}

/// Listens at one interface, and can speak there as well.
struct Observer {
    socket: PacketSocket,
    buffer: Vec<u8>,
}

/// The server's side of the download as seen on its wire.
struct View {
    iss: SeqNum,
    snd_nxt: SeqNum,
    first_data: Segment,
    last_data: Segment,
    router_mac: [u8; 6],
}

impl Observer {
    fn open(topology: &Topology, point: Point) -> Result<Self, LabError> {
        Ok(Self {
            socket: PacketSocket::open(topology.namespace(point), point.interface())?,
            buffer: vec![0; MAX_FRAME],
        })
    }

    /// Follows the server's segments until enough has been sent.
    fn watch_download(&mut self, server: SocketAddr, client: SocketAddr) -> Result<View, LabError> {
        let mut iss = None;
        let mut view: Option<View> = None;
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            let Some(segment) = self.next()? else {
                continue;
            };
            if segment.source != server || segment.destination != client {
                continue;
            }
            if segment.flags.syn {
                iss = Some(segment.seq);
            }
            let (Some(iss), false) = (iss, segment.payload.is_empty()) else {
                continue;
            };
            let router_mac = std::array::from_fn(|n| self.buffer[n]);
            let view = view.get_or_insert_with(|| View {
                iss,
                snd_nxt: segment.end(),
                first_data: segment.clone(),
                last_data: segment.clone(),
                router_mac,
            });
            if segment.end().after(view.snd_nxt) {
                view.snd_nxt = segment.end();
                view.last_data = segment;
            }
            // PSH ends a piece: the server pauses now, so nothing overtakes the stray segment.
            if relative(view.snd_nxt, iss) > BYTES_BEFORE_STRAY && view.last_data.flags.psh {
                return Ok(View { first_data: view.first_data.clone(), last_data: view.last_data.clone(), ..*view });
            }
        }
        Err(LabError::Timeout {
            what: format!("{server} to send {BYTES_BEFORE_STRAY} bytes"),
            waited: started.elapsed(),
        })
    }

    fn send_like(&self, segment: &Segment, view: &View) -> Result<(), LabError> {
        self.socket.send(&segment.to_frame(self.socket.mac(), view.router_mac))
    }

    fn wait_for(&mut self, wanted: impl Fn(&Segment) -> bool) -> Result<Segment, LabError> {
        // Short: the answer takes less than a millisecond, or it never comes.
        const LIMIT: Duration = Duration::from_secs(3);
        let started = Instant::now();
        while started.elapsed() < LIMIT {
            match self.next()? {
                Some(segment) if wanted(&segment) => return Ok(segment),
                _ => {}
            }
        }
        Err(LabError::Timeout { what: "the segment".into(), waited: started.elapsed() })
    }

    /// Whether it is among the segments seen so far.
    fn saw(&mut self, wanted: impl Fn(&Segment) -> bool) -> Result<bool, LabError> {
        while let Some(received) = self.socket.receive(&mut self.buffer, Duration::ZERO)? {
            let frame = &self.buffer[..received.len.min(self.buffer.len())];
            if Segment::from_frame(frame).is_some_and(|segment| wanted(&segment)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn next(&mut self) -> Result<Option<Segment>, LabError> {
        let received = self.socket.receive(&mut self.buffer, Duration::from_millis(100))?;
        Ok(received.and_then(|r| Segment::from_frame(&self.buffer[..r.len.min(self.buffer.len())])))
    }
}

impl View {
    /// Made from a real segment of the server: same options, TTL, window and acknowledgement.
    fn stray(&self, kind: Stray) -> Segment {
        match kind {
            Stray::Late => self.first_data.clone(),
            Stray::Ahead => {
                let mut segment = self.last_data.clone();
                segment.seq = self.snd_nxt.plus(AHEAD_BYTES);
                segment.ip_id = segment.ip_id.wrapping_add(1);
                segment.payload = vec![b's'; STRAY_BYTES];
                segment
            }
        }
    }
}
