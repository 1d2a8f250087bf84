//! The tracker's acceptance against the kernel's: segments at the edges of everything that makes one acceptable go
//! through a router that drops what conntrack calls INVALID, and the tracker sees the same bytes. Needs root.
//!
//! Both follow RFC 9293 with different aims: conntrack must not drop what an end could accept, so it errs towards
//! accepting; the tracker must not believe what an end would drop. Where they differ the probe falls into a class with
//! a reason and an exact count, in `docs/verification.md`.

mod common;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use common::permitted;
use etherparse::PacketBuilder;
use monitor::capture::host::Engine;
use monitor_common::Anomaly;
use monitor_common::parse::{self, Packet};
use monitor_common::tracker::close::Effect;
use monitor_common::tracker::notes::NO_RESET;
use monitor_common::tracker::state::{Connection, Hook, candidate};
use whyrst_lab::frame::{Flags, Options, Segment};
use whyrst_lab::netns::Namespace;
use whyrst_lab::offload;
use whyrst_lab::packet_socket::{MAX_FRAME, PacketSocket};
use whyrst_lab::seq::SeqNum;

const LEFT: usize = 0;
const RIGHT: usize = 1;
const ADDRESS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 72, 1, 2), Ipv4Addr::new(10, 72, 2, 2)];
const GATEWAY: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 72, 1, 1), Ipv4Addr::new(10, 72, 2, 1)];
/// Where the frames that mark the end of a probe go.
const MARKER_PORT: u16 = 9;
const PATIENCE: Duration = Duration::from_secs(5);

/// Two silent hosts and a router between them.
struct Path {
    sockets: [PacketSocket; 2],
    gateway_mac: [[u8; 6]; 2],
    buffer: Vec<u8>,
    ip_id: u16,
    // Dropped last: the sockets live in them.
    _namespaces: [Namespace; 3],
}

impl Path {
    fn create() -> Self {
        let [left, right, router] = ["left", "right", "router"].map(|role| Namespace::create(role).unwrap());
        for namespace in [&left, &right, &router] {
            for scope in ["all", "default"] {
                namespace.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "1").unwrap();
            }
        }
        left.veth("p0", &router, "r0").unwrap();
        right.veth("p1", &router, "r1").unwrap();
        router.sysctl("net.ipv4.ip_forward", "1").unwrap();
        for (namespace, interface) in [(&left, "p0"), (&right, "p1"), (&router, "r0"), (&router, "r1")] {
            offload::set(namespace, interface, false).unwrap();
        }
        let sockets = [PacketSocket::open(&left, "p0").unwrap(), PacketSocket::open(&right, "p1").unwrap()];
        let gateway_mac = ["r0", "r1"].map(|name| PacketSocket::open(&router, name).unwrap().mac());
        for side in [LEFT, RIGHT] {
            let interface = format!("r{side}");
            router.address(&interface, IpAddr::V4(GATEWAY[side])).unwrap();
            let mac = sockets[side].mac().map(|byte| format!("{byte:02x}")).join(":");
            let address = ADDRESS[side].to_string();
            router.ip(&["neigh", "replace", &address, "lladdr", &mac, "dev", &interface, "nud", "permanent"]).unwrap();
        }
        router
            .nft("table ip filter {\n chain forward {\n type filter hook forward priority 0;\n ct state invalid drop\n }\n}\n")
            .unwrap();
        // What the host or an image may have set for its own purposes.
        router.sysctl("net.netfilter.nf_conntrack_tcp_be_liberal", "0").unwrap();
        router.sysctl("net.netfilter.nf_conntrack_tcp_loose", "1").unwrap();
        router.sysctl("net.netfilter.nf_conntrack_checksum", "1").unwrap();
        Self { sockets, gateway_mac, buffer: vec![0; MAX_FRAME], ip_id: 0, _namespaces: [left, right, router] }
    }

    /// Whether a frame from `side` comes out on the other side. A marker goes behind it; frames keep their order.
    fn passes(&mut self, side: usize, frame: &[u8], ip_id: u16) -> bool {
        let builder = PacketBuilder::ethernet2(self.sockets[side].mac(), self.gateway_mac[side])
            .ipv4(ADDRESS[side].octets(), ADDRESS[1 - side].octets(), 64)
            .udp(MARKER_PORT, MARKER_PORT);
        let mut marker = Vec::new();
        builder.write(&mut marker, &ip_id.to_be_bytes()).unwrap();
        self.sockets[side].send(frame).unwrap();
        self.sockets[side].send(&marker).unwrap();
        let mut passed = false;
        loop {
            let received = self.sockets[1 - side].receive(&mut self.buffer, PATIENCE).unwrap().expect("the marker");
            let bytes = &self.buffer[..received.len];
            if received.outgoing || bytes.len() < 44 {
                continue;
            }
            match bytes[23] {
                6 => passed |= bytes[18..20] == ip_id.to_be_bytes(),
                17 if bytes[42..44] == ip_id.to_be_bytes() => return passed,
                _ => {}
            }
        }
    }

    fn next_id(&mut self) -> u16 {
        self.ip_id = self.ip_id.checked_add(1).unwrap_or(1);
        self.ip_id
    }
}

/// A segment in relative numbers: 0 is the SYN, 1 the first byte.
#[derive(Clone, Debug)]
struct Say {
    seq: i64,
    ack: i64,
    len: u32,
    flags: Flags,
    /// Raw; the talk's own if not given.
    wnd: Option<u16>,
    sack: Option<[i64; 2]>,
}

const FIN: Flags = Flags { fin: true, ..Flags::ACK };
const RST: Flags = Flags { rst: true, ack: false, ..Flags::RST_ACK };
const SYN_ACK: Flags = Flags { syn: true, ..Flags::ACK };

fn bare(seq: i64, ack: i64) -> Say {
    Say { seq, ack, len: 0, flags: Flags::ACK, wnd: None, sack: None }
}

fn data(seq: i64, len: u32, ack: i64) -> Say {
    Say { len, flags: Flags::PSH_ACK, ..bare(seq, ack) }
}

fn with(flags: Flags, seq: i64, ack: i64) -> Say {
    Say { flags, ..bare(seq, ack) }
}

const SYN_WINDOW: u16 = 64_000;

/// Of one segment.
#[derive(Clone, Debug)]
struct Judged {
    kernel: bool,
    tracker: bool,
    /// The tracker's words for it.
    words: Vec<&'static str>,
}

/// One connection through the router, on a port of its own.
struct Talk<'a> {
    path: &'a mut Path,
    engine: Engine,
    port: u16,
    iss: [u32; 2],
    shift: Option<u8>,
    now_ns: u64,
}

impl Talk<'_> {
    fn say(&mut self, side: usize, say: &Say) -> Judged {
        let id = self.path.next_id();
        let number = |of: usize, relative: i64| SeqNum(self.iss[of].wrapping_add(relative as u32));
        let sockets = [SocketAddr::from((ADDRESS[LEFT], self.port)), SocketAddr::from((ADDRESS[RIGHT], 80))];
        let syn = say.flags.syn;
        let segment = Segment {
            source: sockets[side],
            destination: sockets[1 - side],
            seq: number(side, say.seq),
            ack: if say.flags.ack { number(1 - side, say.ack) } else { SeqNum(0) },
            flags: say.flags,
            wnd: say.wnd.unwrap_or(self.window()),
            options: Options {
                mss: syn.then_some(1460),
                wscale: self.shift.filter(|_| syn),
                sack_permitted: syn,
                timestamps: None,
                sack: say.sack.iter().map(|[l, r]| (number(1 - side, *l), number(1 - side, *r))).collect(),
            },
            payload: vec![0x55; say.len as usize],
            ttl: 64,
            ip_id: id,
        };
        let frame = segment.to_frame(self.path.sockets[side].mac(), self.path.gateway_mac[side]);
        let kernel = self.path.passes(side, &frame, id);
        let mut packet = Packet::default();
        parse::ip(&frame[..], 14, frame.len() as u32 - 14, &mut packet).expect("a frame of ours");
        let before = self.engine.get(&packet.key).map(|slot| slot.connection).unwrap_or_default();
        self.now_ns += 1_000_000;
        let tracked = self.engine.on_packet(&packet, Hook::Ingress, self.now_ns);
        let after = self.engine.get(&packet.key).expect("just tracked").connection;
        let notes = self.engine.notes();
        let mut words: Vec<&str> =
            notes.iter().filter_map(|n| Anomaly::from_number(n.anomaly)).map(Anomaly::name).collect();
        let mut tracker = !notes.iter().filter_map(|n| Anomaly::from_number(n.anomaly)).any(is_refusal);
        if notes.effect != NO_RESET {
            let effect = Effect::from_number(notes.effect);
            words.push(effect.name());
            tracker &= effect != Effect::OutOfWindow;
        }
        for (index, word) in [(candidate::ACK_UNSENT, "ack unsent?"), (candidate::SACK_UNSENT, "sack unsent?")] {
            let mine = |c: &Connection| c.fault[packet.direction as usize].candidates[index].generation;
            if mine(&before) != mine(&after) && tracked.ended.is_none() {
                words.push(word);
                tracker = false;
            }
        }
        Judged { kernel, tracker, words }
    }

    /// A step of the way to a probe, which nobody may refuse.
    fn step(&mut self, side: usize, say: &Say) {
        let judged = self.say(side, say);
        assert!(judged.kernel && judged.tracker, "{say:?} from {side}: {judged:?}");
    }

    fn open(&mut self) {
        self.step(LEFT, &Say { wnd: Some(SYN_WINDOW), ..with(Flags::SYN, 0, 0) });
        self.step(RIGHT, &Say { wnd: Some(SYN_WINDOW), ..with(SYN_ACK, 0, 1) });
        self.step(LEFT, &bare(1, 1));
    }

    /// Opens, sends 1000 bytes one way and 500 the other, all acknowledged. Then both offer a window.
    fn establish(&mut self) {
        self.open();
        self.step(LEFT, &data(1, 1000, 1));
        self.step(RIGHT, &bare(1, 1001));
        self.step(RIGHT, &data(1, 500, 1001));
        self.step(LEFT, &bare(1001, 501));
    }

    /// Raw window of every segment unless a probe says otherwise: at least what the SYNs offered.
    fn window(&self) -> u16 {
        match self.shift {
            None | Some(0) => SYN_WINDOW,
            Some(2) => SYN_WINDOW / 4,
            _ => 501,
        }
    }

    fn bytes(&self, raw: u16) -> i64 {
        i64::from(raw) << self.shift.unwrap_or(0)
    }
}

/// Anomalies that mean: the other end would not take this segment.
fn is_refusal(anomaly: Anomaly) -> bool {
    use Anomaly::*;
    matches!(
        anomaly,
        SeqBeyondWindow
            | DataBeyondWindow
            | SeqBelowWindow
            | SeqJump
            | DataAfterOwnFin
            | AckTooOld
            | SynInEstablished
            | SynackIsnChange
            | SynackBadAck
            | SackInverted
            | SackBeyondOwnWindow
    )
}

/// The way to the state that a probe is sent in.
type Setup = fn(&mut Talk);
/// Name of the edge, sender, and probes with their distance from the edge.
type Probes = Vec<(&'static str, usize, i64, Say)>;

fn nothing(_: &mut Talk) {}

/// A state's name, the way to it, and what is tried there.
type State = (&'static str, Setup, fn(&Talk) -> Probes);

fn probes() -> Vec<State> {
    vec![
        ("established", |t| t.establish(), established),
        (
            "window closed",
            |t| {
                t.establish();
                t.step(RIGHT, &Say { wnd: Some(0), ..bare(501, 1001) });
            },
            closed,
        ),
        (
            "window withdrawn",
            |t| {
                t.establish();
                t.step(RIGHT, &Say { wnd: Some(t.window() / 4), ..bare(501, 1001) });
            },
            withdrawn,
        ),
        (
            "hole",
            |t| {
                t.establish();
                t.step(LEFT, &data(1101, 100, 501));
            },
            hole,
        ),
        (
            "fin sent",
            |t| {
                t.establish();
                t.step(LEFT, &with(FIN, 1001, 501));
            },
            fin_sent,
        ),
        (
            "closed",
            |t| {
                t.establish();
                t.step(LEFT, &with(FIN, 1001, 501));
                t.step(RIGHT, &with(FIN, 501, 1002));
                t.step(LEFT, &bare(1002, 502));
            },
            both_closed,
        ),
        (
            "syn sent",
            |t| {
                t.step(LEFT, &Say { wnd: Some(SYN_WINDOW), ..with(Flags::SYN, 0, 0) });
            },
            syn_sent,
        ),
        (
            "syn received",
            |t| {
                t.step(LEFT, &Say { wnd: Some(SYN_WINDOW), ..with(Flags::SYN, 0, 0) });
                t.step(RIGHT, &Say { wnd: Some(SYN_WINDOW), ..with(SYN_ACK, 0, 1) });
            },
            syn_received,
        ),
        ("unknown", nothing, unknown),
    ]
}

/// Distances from an edge at which a segment is put: the edge itself, one beside it, a unit of the shift beside it.
fn beside(t: &Talk) -> Vec<i64> {
    let unit = 1 << t.shift.unwrap_or(0);
    let mut all = vec![-unit - 1, -unit, -unit + 1, -1, 0, 1, unit - 1, unit, unit + 1];
    all.sort_unstable();
    all.dedup();
    all
}

fn established(t: &Talk) -> Probes {
    let mut probes = Vec::new();
    let window = t.bytes(t.window());
    let edge = 1001 + window;
    for d in beside(t) {
        probes.push(("data of 1 at the edge", LEFT, d, data(edge + d, 1, 501)));
        probes.push(("data that ends at the edge", LEFT, d, data(edge + d - 100, 100, 501)));
        probes.push(("data half beyond the edge", LEFT, d, data(edge + d - 50, 100, 501)));
        probes.push(("bare at the edge", LEFT, d, bare(edge + d, 501)));
        probes.push(("fin at the edge", LEFT, d, with(FIN, edge + d, 501)));
        probes.push(("rst at the edge", LEFT, d, with(RST, edge + d, 0)));
        probes.push(("rst with ack at the edge", LEFT, d, with(Flags::RST_ACK, edge + d, 501)));
        probes.push(("data a window beyond the edge", LEFT, d, data(edge + window + d, 100, 501)));
    }
    for d in [-2, -1, 0, 1, 2] {
        probes.push(("rst at SND.NXT", LEFT, d, with(RST, 1001 + d, 0)));
        probes.push(("rst with ack at SND.NXT", LEFT, d, with(Flags::RST_ACK, 1001 + d, 501)));
        probes.push(("rst with an ack at SND.NXT", LEFT, d, with(Flags::RST_ACK, 1001, 501 + d)));
        probes.push(("ack at SND.NXT", LEFT, d, bare(1001, 501 + d)));
        probes.push(("data with ack at SND.NXT", LEFT, d, data(1001, 100, 501 + d)));
        probes.push(("bare at SND.NXT", LEFT, d, bare(1001 + d, 501)));
        let sack = |l: i64| Some([l, 501 + d]);
        probes.push(("sack to SND.NXT", LEFT, d, Say { sack: sack(401), ..bare(1001, 301) }));
        probes.push(("retransmission", LEFT, d, data(1 + d, 1000, 501)));
        // The oldest acknowledgement: 66000 bytes or the largest window back.
        let span = t.bytes(t.window()).max(66_000).max(i64::from(SYN_WINDOW));
        probes.push(("ack at the lower bound", LEFT, d, bare(1001, 501 - span + d)));
        probes.push(("data with ack at the lower bound", LEFT, d, data(1001, 100, 501 - span + d)));
        probes.push((
            "old data at the lower bound of a window",
            LEFT,
            d,
            data(1001 - t.bytes(t.window()) - 100 + d, 100, 501),
        ));
        probes.push(("old data at the lower bound", LEFT, d, data(1001 - span - 100 + d, 100, 501)));
        probes.push(("old data at the lower bound from the right", RIGHT, d, data(501 - span - 100 + d, 100, 1001)));
        probes.push(("syn in the window", LEFT, d, with(Flags::SYN, 1001 + d, 0)));
        probes.push(("syn-ack in the window", RIGHT, d, with(SYN_ACK, 501 + d, 1)));
        probes.push(("the syn again", LEFT, d, with(Flags::SYN, d, 0)));
        probes.push(("the syn-ack again", RIGHT, d, with(SYN_ACK, d, 1)));
    }
    for d in [100_000, 1 << 20, 1 << 30, (1 << 31) - 1, 1 << 31, -(1 << 30), -100_000] {
        probes.push(("data far away", LEFT, d, data(1001 + d, 100, 501)));
        probes.push(("bare far away", LEFT, d, bare(1001 + d, 501)));
        probes.push(("ack far away", LEFT, d, bare(1001, 501 + d)));
        probes.push(("rst far away", LEFT, d, with(RST, 1001 + d, 0)));
        probes.push(("sack far away", LEFT, d, Say { sack: Some([501 + d, 601 + d]), ..bare(1001, 501) }));
    }
    probes.push(("syn from the server", RIGHT, 0, with(Flags::SYN, 100_000, 0)));
    probes.push(("data in order", LEFT, 0, data(1001, 100, 501)));
    probes
}

fn closed(t: &Talk) -> Probes {
    let mut probes = Vec::new();
    for d in [-2, -1, 0, 1, 2] {
        probes.push(("bare at a closed window", LEFT, d, bare(1001 + d, 501)));
        probes.push(("byte at a closed window", LEFT, d, data(1001 + d, 1, 501)));
    }
    let edge = 1001 + t.bytes(t.window());
    for d in beside(t) {
        probes.push(("data at the former edge", LEFT, d, data(edge + d - 100, 100, 501)));
    }
    probes
}

fn withdrawn(t: &Talk) -> Probes {
    let mut probes = Vec::new();
    let (now, before) = (1001 + t.bytes(t.window() / 4), 1001 + t.bytes(t.window()));
    for d in beside(t) {
        probes.push(("data at the withdrawn edge", LEFT, d, data(now + d - 50, 100, 501)));
        probes.push(("data at the former edge", LEFT, d, data(before + d - 100, 100, 501)));
        probes.push(("rst at the withdrawn edge", LEFT, d, with(RST, now + d, 0)));
    }
    probes
}

fn hole(_: &Talk) -> Probes {
    let mut probes = Vec::new();
    for d in [-1, 0, 1] {
        probes.push(("filling a hole", LEFT, d, data(1001 + d, 100, 501)));
        probes.push(("ack beyond a hole", RIGHT, d, bare(501, 1101 + d)));
        probes.push(("ack at the end", RIGHT, d, bare(501, 1201 + d)));
        probes.push(("sack of what is there", RIGHT, d, Say { sack: Some([1101, 1201 + d]), ..bare(501, 1001) }));
        probes.push(("sack upside down", RIGHT, d, Say { sack: Some([1201, 1101 + d]), ..bare(501, 1001) }));
        probes.push(("rst at a hole", LEFT, d, with(RST, 1001 + d, 0)));
        probes.push(("rst at the end", LEFT, d, with(RST, 1201 + d, 0)));
    }
    probes
}

fn fin_sent(_: &Talk) -> Probes {
    let mut probes = Vec::new();
    for d in [-1, 0, 1, 2] {
        probes.push(("the fin again", LEFT, d, with(FIN, 1001 + d, 501)));
        probes.push(("data behind the fin", LEFT, d, data(1001 + d, 10, 501)));
        probes.push(("ack of the fin", RIGHT, d, bare(501, 1001 + d)));
        probes.push(("data against the fin", RIGHT, d, data(501, 100, 1001 + d)));
        probes.push(("rst behind the fin", LEFT, d, with(RST, 1001 + d, 0)));
    }
    probes
}

fn both_closed(_: &Talk) -> Probes {
    let mut probes = Vec::new();
    for d in [-1, 0, 1] {
        probes.push(("rst after the close", LEFT, d, with(RST, 1002 + d, 0)));
        probes.push(("ack after the close", RIGHT, d, bare(502, 1002 + d)));
        probes.push(("data after the close", RIGHT, d, data(502 + d, 100, 1002)));
    }
    for d in [-1_000_000, -1, 0, 1, 1_000_000] {
        probes.push(("syn after the close", LEFT, d, with(Flags::SYN, 1002 + d, 0)));
    }
    probes
}

fn syn_sent(t: &Talk) -> Probes {
    let mut probes = Vec::new();
    for d in [-1, 0, 1, 1000, -100_000] {
        probes.push(("syn-ack of a syn", RIGHT, d, with(SYN_ACK, 0, 1 + d)));
        probes.push(("rst of a syn", RIGHT, d, with(Flags::RST_ACK, -i64::from(t.iss[RIGHT]), 1 + d)));
        probes.push(("ack of a syn", RIGHT, d, bare(5000, 1 + d)));
    }
    probes.push(("the syn again", LEFT, 0, with(Flags::SYN, 0, 0)));
    probes.push(("another syn", LEFT, 1000, with(Flags::SYN, 1000, 0)));
    probes.push(("another syn", LEFT, -1000, with(Flags::SYN, -1000, 0)));
    probes.push(("syn from the other side", RIGHT, 0, with(Flags::SYN, 0, 0)));
    probes.push(("data behind a syn", LEFT, 0, data(1, 100, 1)));
    probes
}

fn syn_received(_: &Talk) -> Probes {
    let mut probes = Vec::new();
    for d in [-1, 0, 1, 1000, -100_000] {
        probes.push(("third segment", LEFT, d, bare(1, 1 + d)));
        probes.push(("third segment's number", LEFT, d, bare(1 + d, 1)));
        probes.push(("the syn-ack again", RIGHT, d, with(SYN_ACK, d, 1)));
        probes.push(("rst in the handshake", LEFT, d, with(RST, 1 + d, 0)));
    }
    probes.push(("data at once", LEFT, 0, data(1, 100, 1)));
    probes.push(("the syn again", LEFT, 0, with(Flags::SYN, 0, 0)));
    probes.push(("another syn", LEFT, 1000, with(Flags::SYN, 1000, 0)));
    probes
}

fn unknown(_: &Talk) -> Probes {
    vec![
        ("data out of nowhere", LEFT, 0, data(1001, 100, 501)),
        ("ack out of nowhere", LEFT, 0, bare(1001, 501)),
        ("rst out of nowhere", LEFT, 0, with(RST, 1001, 0)),
        ("fin out of nowhere", LEFT, 0, with(FIN, 1001, 501)),
        ("syn-ack out of nowhere", RIGHT, 0, with(SYN_ACK, 0, 1)),
    ]
}

#[test]
fn acceptance_agrees_with_the_kernels() {
    if !permitted() {
        return;
    }
    let mut path = Path::create();
    let mut port = 10_000;
    let (mut probed, mut accepted, mut refused) = (0, 0, 0);
    let mut differences: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for shift in [None, Some(0), Some(2), Some(7), Some(14)] {
        for iss in [[1_000_000, 2_000_000], [u32::MAX - 1100, u32::MAX - 560], [5, u32::MAX - 20_000]] {
            for (state, setup, list) in probes() {
                let mut n = 0;
                loop {
                    let mut talk =
                        Talk { path: &mut path, engine: Engine::new(), port, iss, shift, now_ns: 1_000_000_000 };
                    let all = list(&talk);
                    let Some((name, side, distance, say)) = all.get(n) else { break };
                    n += 1;
                    port += 1;
                    setup(&mut talk);
                    let judged = talk.say(*side, say);
                    probed += 1;
                    match (judged.kernel, judged.tracker) {
                        (true, true) => accepted += 1,
                        (false, false) => refused += 1,
                        (kernel, _) => {
                            let who = if kernel { "kernel" } else { "tracker" };
                            let class = format!("{state}: {name} | {who}");
                            let example = format!("shift {shift:?}, {iss:?}, {distance}: {:?}", judged.words);
                            differences.entry(class).or_default().push(example);
                        }
                    }
                }
            }
        }
    }
    println!("{probed} probes: both accept {accepted}, both refuse {refused}");
    assert!(accepted > 2_000 && refused > 400, "the probes no longer reach both sides of the edges");
    let told = include_str!("../../docs/verification.md");
    for told_so in [format!("sends {probed} segments"), format!("Both accept {accepted}, both refuse {refused}.")] {
        assert!(told.contains(&told_so), "docs/verification.md does not say: {told_so}");
    }
    let expected = documented();
    let mut wrong = Vec::new();
    for (class, examples) in &differences {
        println!("{class} | {}", examples.len());
        if expected.get(class) != Some(&examples.len()) {
            examples.iter().take(6).for_each(|line| println!("    {line}"));
            wrong.push(class);
        }
    }
    let gone = expected.keys().filter(|class| !differences.contains_key(*class));
    wrong.extend(gone.inspect(|class| println!("{class} | 0, documented {}", expected[*class])));
    assert!(wrong.is_empty(), "not as in docs/verification.md: {wrong:#?}");
}

/// Classes and their counts by the documentation: probe, who accepts it, how many, why. Every reason is told there.
fn documented() -> BTreeMap<String, usize> {
    let text = include_str!("../../docs/verification.md");
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let table: Vec<Vec<&str>> = text.lines().filter(|l| l.starts_with('|')).map(cells).collect();
    let rows = table.iter().filter(|r| r.len() == 4 && (r[1] == "kernel" || r[1] == "tracker"));
    let counted = rows.map(|row| {
        let reason = table.iter().find(|r| r.len() == 2 && r[0] == row[3]);
        assert!(reason.is_some_and(|r| r[1].len() > 20), "no reason for {row:?}");
        (format!("{} | {}", row[0], row[1]), row[2].parse().expect("a number of probes"))
    });
    counted.collect()
}
