//! Ten million spoofed SYNs, and floods of ACKs and RSTs with random tuples, while connections live.

use crate::bed;
use crate::frames::{ACK, CLIENT_ISS, From, PSH, RST, SERVER_ISS, SYN, Segment, establish, key, play};
use capture_file::Reader;
use monitor::capture::bed::Bed;
use monitor::capture::loader::Sizes;
use monitor::capture::player::{Client, Kind, Player, Script, client_of};
use monitor::finding::Finding;
use monitor::pipeline::{Pipeline, Settings};
use monitor_common::event::{Ended, Event, FullEvent, tag};
use monitor_common::flow::FlowKey;
use monitor_common::parse::{self, Packet};
use monitor_common::segment::flags;
use monitor_common::tracker::state::Phase;
use std::collections::HashMap;
use std::path::Path;

/// What the agent has unless told otherwise.
const SIZES: Sizes = Sizes { connections: 65_536, ring_bytes: 4 << 20 };
const LIVE: u32 = 10_000;
const PORT: u16 = 80;
/// Floods, each to a port of its own: name, segment, packets.
const FLOODS: [(&str, u16, u8, u32); 3] =
    [("SYN", 1001, SYN, 10_000_000), ("ACK", 1002, ACK, 2_500_000), ("RST", 1003, RST, 2_500_000)];

/// Calls into the kernel; each waits for some milliseconds, because it patches the kernel's dispatcher.
const BURSTS: usize = 40;

struct Flood {
    player: Player,
    frame: Vec<u8>,
    sent: u64,
    most: u64,
    ns: u64,
    name: &'static str,
}

impl Flood {
    fn all(bed: &mut Bed) -> Vec<Flood> {
        let flood = |(name, port, flags, count): (&'static str, u16, u8, u32)| {
            // An odd step visits all sequence numbers, in no order that means anything.
            let script = Script {
                client: Some(Client::Source),
                seq_step: 0x85eb_ca6b,
                ack_step: 0xc2b2_ae35,
                clock_step: 1_000,
            };
            Flood {
                player: bed.player(Kind::Xdp, script).unwrap_or_else(|e| panic!("{e}")),
                frame: Segment::new(From::Client, port, flags, 0x1234_5678, 0x9abc_def0).frame(client_of(0)),
                sent: 0,
                most: u64::from(count),
                ns: 0,
                name,
            }
        };
        FLOODS.into_iter().map(flood).collect()
    }

    /// Its next packets, one share of `shares`.
    fn go_on(&mut self, shares: u64) {
        let some = self.most.div_ceil(shares).min(self.most - self.sent);
        let ns = self.player.play(&self.frame, self.sent, some as u32).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        self.sent += some;
        self.ns += some * u64::from(ns);
    }
}

/// Reports of one connection, kept apart from those of the flood.
struct Listener {
    pipeline: Pipeline,
    about: FlowKey,
    reports: u64,
    others: u64,
    findings: Vec<Finding>,
}

impl Listener {
    fn new(about: FlowKey) -> Listener {
        let settings = Settings { hold_ns: 30_000_000, kernel_watched: false, report_desync_at_once: true };
        Listener { pipeline: Pipeline::new(settings, 1, None), about, reports: 0, others: 0, findings: Vec::new() }
    }

    fn drain(&mut self, bed: &mut Bed) {
        while let Some(item) = bed.events.next() {
            let about = match item[..4].try_into().map(u32::from_ne_bytes) {
                Ok(tag::FULL) => {
                    let full = FullEvent::read(&item).expect("a whole report");
                    let about = full.event.connection.key;
                    if about == self.about {
                        self.pipeline.on_full(&full, &mut |_, _, _| {});
                    }
                    about
                }
                Ok(tag::BRIEF) => {
                    let event = Event::read(&item).expect("a whole report");
                    if event.connection.key == self.about {
                        self.pipeline.on_brief(&event);
                    }
                    event.connection.key
                }
                Ok(tag::ENDED) => Ended::read(&item).expect("a whole report").key,
                other => panic!("a report of the kind {other:?}"),
            };
            self.reports += u64::from(about == self.about);
            self.others += u64::from(about != self.about);
        }
    }

    fn finish(mut self, bed: &Bed) -> Vec<Finding> {
        let lookup = &mut |slot, _: &_| Some((bed.table.connection(slot), bed.table.recorder(slot)));
        let findings = &mut self.findings;
        self.pipeline.finish(lookup, &|t| t, &mut |f| findings.push(f));
        self.findings
    }
}

/// A real conversation whose client skips 3000 bytes for good (`fixtures/README.md`): frames and times.
fn story() -> Vec<(u64, Vec<u8>)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/story-sequence-s0.pcap");
    let mut reader = Reader::open(&path).unwrap();
    let mut frames = Vec::new();
    while let Some(p) = reader.next().unwrap() {
        frames.push((p.time_ns, p.data.to_vec()));
    }
    frames
}

fn parsed(frame: &[u8]) -> Option<Packet> {
    let mut packet = Packet::default();
    parse::ethernet(frame, 0, &mut packet).is_ok().then_some(packet)
}

#[test]
fn floods_cost_no_live_connection_its_place_or_its_verdict() {
    let Some(mut bed) = bed(SIZES) else { return };
    establish(&mut bed, PORT, 0, LIVE);
    let request =
        Segment { payload: 100, ..Segment::new(From::Client, PORT, ACK | PSH, CLIENT_ISS + 1, SERVER_ISS + 1) };
    play(&mut bed, &request, 0, LIVE);

    // The story goes on as the floods do.
    let story = story();
    assert!(story.len() > 50, "the story is missing");
    let mut listener = Listener::new(story.iter().find_map(|(_, f)| parsed(f)).expect("a TCP segment").key);
    let mut floods = Flood::all(&mut bed);
    let (began, offset) = (story[0].0, bed.time().unwrap());
    let pause = story.len() / BURSTS;
    for (i, (time_ns, frame)) in story.iter().enumerate() {
        bed.set_time(offset + time_ns - began).unwrap();
        bed.frame(Kind::Xdp, frame).unwrap();
        if i % pause == 0 {
            floods.iter_mut().for_each(|f| f.go_on(BURSTS as u64));
        }
        listener.drain(&mut bed);
    }
    for f in &floods {
        assert_eq!(f.sent, f.most);
        println!("{}: {} packets, {} ns each", f.name, f.sent, f.ns / f.sent);
    }

    // Not one is lost, and each goes on where it was.
    let answer =
        Segment { payload: 200, ..Segment::new(From::Server, PORT, ACK | PSH, SERVER_ISS + 1, CLIENT_ISS + 101) };
    play(&mut bed, &answer, 0, LIVE);
    let live: HashMap<FlowKey, _> = bed.table.connections().map(|(_, c)| (c.key, c)).collect();
    for n in 0..u64::from(LIVE) {
        let c = live.get(&key(client_of(n), PORT)).unwrap_or_else(|| panic!("connection {n} is lost"));
        assert_eq!(c.phase(), Phase::Established);
        assert_eq!(c.half[0].bytes + c.half[1].bytes, 300, "{c:?}");
        assert_eq!(c.half[0].segments + c.half[1].segments, 5, "{c:?}");
    }

    // What went is counted, to the last entry.
    let c = bed.counters();
    let evicted: u64 = c.evictions.iter().map(|(_, n)| n).sum();
    println!(
        "opened {}, evicted {:?}, rejected {}; events sent {}, withheld {}, lost {}; of others {}",
        c.connections_opened,
        c.evictions,
        c.table_full,
        c.events_sent,
        c.events_withheld,
        c.events_lost,
        listener.others
    );
    assert_eq!(c.connections_opened - evicted, live.len() as u64);
    let packets: u64 = FLOODS.iter().map(|f| u64::from(f.3)).sum();
    assert_eq!(c.connections_opened + c.table_full, packets + u64::from(LIVE) + 1);
    assert_eq!(c.events_lost, 0, "the other half of the ring is the connections'");
    assert_eq!(c.resets_effective, c.events_sent + c.events_withheld - listener.reports + resets(&story));

    let findings = listener.finish(&bed);
    let verdict: Vec<_> =
        findings.iter().map(|f| (f.cause.as_str(), f.variant.as_deref(), f.culprit.as_str())).collect();
    assert!(verdict.contains(&("endpoint_sequence_fault", Some("gap_never_sent"), "client")), "{verdict:?}");
}

/// Resets of the story itself.
fn resets(story: &[(u64, Vec<u8>)]) -> u64 {
    story.iter().filter_map(|(_, f)| parsed(f)).filter(|p| p.segment.has(flags::RST)).count() as u64
}
