//! The tracker against tshark 4.0, frame by frame.
//!
//! Where both have a notion of the same thing their words must be equal. Where they are not, the frame falls into a
//! class with a reason; the number of frames of each class is exact. A frame without a reason fails the test.

use crate::files::{Captured, Row, corpus, entries, packets, rows, truth};
use crate::reading::{Marks, Reading};
use crate::{generate, wire};
use monitor::capture::host::Engine;
use monitor_common::Anomaly;
use monitor_common::flow::{Direction, FlowKey};
use monitor_common::segment::{Segment, flags};
use monitor_common::tracker::state::{Connection, Half, Hook, Phase, half};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::process::Command;

/// Frames of one class: how many, and the first of them to look at.
#[derive(Default)]
pub struct Tally(BTreeMap<String, (usize, Vec<String>)>);

impl Tally {
    fn add(&mut self, class: String, example: impl FnOnce() -> String) {
        let (count, examples) = self.0.entry(class).or_default();
        *count += 1;
        if examples.len() < 4 {
            examples.push(example());
        }
    }
}

/// What one capture gave.
#[derive(Default)]
pub struct Result {
    pub frames: usize,
    /// Frames with each mark, where both say so.
    pub both: [usize; 8],
    /// Frames that begin a new life for both.
    pub reused: usize,
    pub differences: Tally,
    /// Marks that our reading of tshark's rules did not foretell.
    pub misread: Tally,
}

impl Result {
    /// Holds the classes against the table in `docs/verification.md`, whose column `column` has their counts.
    fn check(&self, column: usize) {
        println!("{} frames, {} new lives for both; both say:", self.frames, self.reused);
        for (name, count) in Marks::NAMES.iter().zip(self.both) {
            println!("    {name} {count}");
        }
        let expected = documented(column);
        let mut wrong = Vec::new();
        for (name, count) in Marks::NAMES.iter().zip(self.both).chain([(&"reused_ports", self.reused)]) {
            assert_eq!(agreed(name, column), count, "frames with {name} by both, in docs/verification.md");
        }
        for (class, (count, examples)) in self.differences.0.iter().chain(&self.misread.0) {
            println!("{class} | {count}");
            if expected.get(class) != Some(count) {
                wrong.push(class);
                examples.iter().for_each(|line| println!("    {line}"));
            }
        }
        let gone = expected.keys().filter(|class| !self.differences.0.contains_key(*class));
        wrong.extend(gone.inspect(|class| println!("{class} | 0, documented {}", expected[*class])));
        assert!(wrong.is_empty(), "not as in docs/verification.md: {wrong:#?}");
    }
}

/// Frames with a flag by both, by the documentation: flag, our term, and the frames of the corpus and of those generated.
fn agreed(flag: &str, column: usize) -> usize {
    let text = include_str!("../../../docs/verification.md");
    let row = text.lines().find(|l| l.starts_with(&format!("| `{flag}` |"))).expect("a row for each flag");
    let counts = row.trim_matches('|').rsplit('|').next().expect("a last cell");
    counts.split(',').nth(column - 3).and_then(|n| n.trim().parse().ok()).expect("two numbers of frames")
}

/// Classes and their counts by the documentation: flag, who says it, class, frames of the corpus, frames generated.
/// Every class has a reason there.
fn documented(column: usize) -> BTreeMap<String, usize> {
    let text = include_str!("../../../docs/verification.md");
    let cells = |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>();
    let table: Vec<Vec<&str>> = text.lines().filter(|l| l.starts_with('|')).map(cells).collect();
    let mut rows = BTreeMap::new();
    for row in table.iter().filter(|r| r.len() == 5 && (r[1] == "tshark" || r[1] == "whyrst")) {
        let reason = table.iter().find(|r| r.len() == 2 && r[0] == row[2]);
        assert!(reason.is_some_and(|r| r[1].len() > 20), "no reason for {row:?}");
        let count = row[column].parse().expect("a number of frames");
        if count > 0 {
            let before = rows.insert(format!("{} | {} | {}", row[0], row[1], row[2]), count);
            assert!(before.is_none(), "twice: {row:?}");
        }
    }
    rows
}

/// Compares one capture, and adds up.
pub fn compare(name: &str, captured: &[Captured], rows: &BTreeMap<u64, Row>, result: &mut Result) {
    let mut by_frame: BTreeMap<u64, &Captured> = captured.iter().map(|c| (c.frame, c)).collect();
    let mut reading = Reading::default();
    let mut openers: BTreeMap<u32, (String, u16)> = BTreeMap::new();
    let mut engine = Engine::new();
    let mut drifts: HashMap<(FlowKey, usize), &'static str> = HashMap::new();
    let mut keys: HashMap<u32, FlowKey> = HashMap::new();
    let mut numbers: Vec<u64> = rows.keys().chain(by_frame.keys()).copied().collect();
    numbers.sort_unstable();
    numbers.dedup();
    for frame in numbers {
        let row = rows.get(&frame).filter(|r| !r.note.contains("icmp"));
        let ours = by_frame.remove(&frame);
        let theirs = row.map(|row| {
            let opener = openers.entry(row.stream).or_insert_with(|| row.source.clone());
            let direction = usize::from(*opener != row.source);
            let before = [reading.side(row.stream, direction), reading.side(row.stream, 1 - direction)];
            let foretold = reading.hear(row, direction);
            let printed = Marks::of(row);
            // Behind a header that the capture cuts off nothing is printed.
            let cut = row.note.contains("trunc") && row.analysis.is_empty();
            if foretold != printed && !cut {
                result.misread.add("misread".to_owned(), || format!("{name} {frame} {row:?} {foretold:?} {before:?}"));
            }
            (row, direction, before, if cut { foretold } else { printed })
        });
        let Some(ours) = ours else {
            if let Some((row, ..)) = &theirs
                && let Some(key) = keys.get(&row.stream)
            {
                for direction in [Direction::Forward, Direction::Reverse] {
                    drifts.entry((*key, direction.index())).or_insert("seen there alone");
                }
            }
            continue;
        };
        let dir = ours.packet.direction();
        let before = engine.get(&ours.packet.key).map(|s| s.connection).unwrap_or_default();
        let tracked = engine.on_packet(&ours.packet, Hook::Ingress, ours.time_ns);
        let reused = tracked.ended.is_some();
        let c = engine.get(&ours.packet.key).expect("just tracked").connection;
        let noted: Vec<Anomaly> = engine.notes().iter().filter_map(|n| Anomaly::from_number(n.anomaly)).collect();
        let Some((row, direction, sides, theirs)) = theirs else {
            for d in [Direction::Forward, Direction::Reverse] {
                drifts.entry((ours.packet.key, d.index())).or_insert("seen here alone");
            }
            continue;
        };
        keys.insert(row.stream, ours.packet.key);
        result.frames += 1;
        let scene = Scene {
            before: if reused { Connection::default() } else { before },
            after: c,
            dir,
            segment: ours.packet.segment,
            noted,
            reused,
            copy: !reused && c.half[dir.index()].segments == before.half[dir.index()].segments,
        };
        let mine = scene.marks();
        let key = |d: Direction| (ours.packet.key, d.index());
        for i in 0..8 {
            let (a, b) = (theirs.all()[i], mine.all()[i]);
            result.both[i] += usize::from(a && b);
            if a == b {
                continue;
            }
            let own = drifts.get(&key(dir)).copied();
            let peers = drifts.get(&key(dir.other())).copied();
            let why = scene.why(i, a, &theirs, &sides, own, peers);
            let class = format!("{} | {} | {why}", Marks::NAMES[i], if a { "tshark" } else { "whyrst" });
            result.differences.add(class, || {
                let numbers = |d: Direction| scene.before.half[d.index()].snd_nxt.0;
                let (ours, theirs) = ([numbers(dir), numbers(dir.other())], [sides[0].next, sides[1].next]);
                format!("{name} {frame}, next {ours:?}, there {theirs:?}: {:?} {:?}", scene.noted, scene.segment)
            });
        }
        let same_reused = row.analysis.contains("reused_ports");
        result.reused += usize::from(same_reused && reused);
        if same_reused != reused {
            let who = if same_reused { "tshark" } else { "whyrst" };
            result.differences.add(format!("reused_ports | {who} | {}", scene.why_reused()), || {
                format!("{name} {frame} {:?}", scene.segment)
            });
        }
        for d in [Direction::Forward, Direction::Reverse] {
            let side = reading.side(row.stream, if d == dir { direction } else { 1 - direction });
            let me = &c.half[d.index()];
            if side.next == me.snd_nxt.0 || side.next == 0 || !me.has(half::SEEN) {
                drifts.remove(&key(d));
            } else if !drifts.contains_key(&key(d)) || reused || same_reused {
                let reason = if same_reused || reused { "new life" } else { scene.drift(d == dir, side.next, me) };
                drifts.insert(key(d), reason);
            }
        }
    }
}

/// One segment at the tracker.
struct Scene {
    before: Connection,
    after: Connection,
    dir: Direction,
    segment: Segment,
    noted: Vec<Anomaly>,
    reused: bool,
    /// The tracker took it for a copy of the speaker's last packet.
    copy: bool,
}

impl Scene {
    fn me(&self) -> &Half {
        &self.before.half[self.dir.index()]
    }

    fn peer(&self) -> &Half {
        &self.before.half[self.dir.other().index()]
    }

    fn noted(&self, anomaly: Anomaly) -> bool {
        self.noted.contains(&anomaly)
    }

    /// The tracker's word in tshark's terms.
    fn marks(&self) -> Marks {
        use Anomaly::*;
        let s = &self.segment;
        let control = s.has(flags::SYN) || s.has(flags::FIN) || s.has(flags::RST);
        let (me, peer) = (self.me(), self.peer());
        let again_syn = s.has(flags::SYN) && me.has(half::SYN) && me.iss == s.seq;
        let probe_of_byte = self.noted(ZeroWindowProbe) && s.payload_len == 1 && s.seq == me.snd_nxt;
        Marks {
            lost_segment: self.noted(SeqGap),
            again: self.noted(Rexmit)
                || self.noted(RexmitAcked)
                || self.noted(SeqBelowWindow)
                || self.noted(SynInEstablished) && again_syn,
            zero_window: s.wnd == 0 && !control && self.after.half[self.dir.index()].has(half::ZERO_WINDOW),
            window_full: s.payload_len > 0 && !control && peer.has(half::EDGE) && s.end() == peer.edge_cur,
            keep_alive: self.noted(KeepaliveProbe) || self.noted(ZeroWindowProbe) && !probe_of_byte,
            zero_window_probe: probe_of_byte,
            duplicate_ack: self.noted(DupAck),
            ack_lost_segment: s.has(flags::ACK) && peer.has(half::SEEN) && s.ack.after(peer.snd_nxt),
        }
    }

    fn why_reused(&self) -> &'static str {
        let s = &self.segment;
        let answer = s.has(flags::ACK);
        if self.reused {
            if answer { "its SYN was not believed at once" } else { "a SYN with the same number after a RST" }
        } else if answer {
            "a SYN-ACK with another number"
        } else if self.noted(Anomaly::SynInEstablished) {
            "the old connection lives until its SYN is answered"
        } else if self.before.phase() == Phase::SynSent {
            "another SYN before any answer"
        } else {
            "unexplained"
        }
    }

    /// Why tshark's and the tracker's next number of the segment's speaker (or of the other end) part here.
    fn drift(&self, speaker: bool, theirs: u32, me: &Half) -> &'static str {
        use Anomaly::*;
        let s = &self.segment;
        let ahead = me.snd_nxt.0.wrapping_sub(theirs) as i32 > 0;
        if !speaker {
            return "unexplained";
        }
        if s.has(flags::RST) {
            return "a RST with ACK counts as sent";
        }
        if ahead {
            return "acknowledged, so sent";
        }
        for (anomaly, reason) in [
            (SeqBeyondWindow, "not acceptable"),
            (DataBeyondWindow, "not acceptable"),
            (SeqJump, "not acceptable"),
            (DataAfterOwnFin, "not acceptable"),
            (SynInEstablished, "new life"),
            (SynackBadAck, "a SYN-ACK with another number"),
            (SynackIsnChange, "a SYN-ACK with another number"),
        ] {
            if self.noted(anomaly) {
                return reason;
            }
        }
        if self.before.half[self.dir.index()].has(half::NEXT_SYN) {
            return "a SYN-ACK with another number";
        }
        if self.before.half[self.dir.index()].has(half::FIN) {
            return "behind the own FIN";
        }
        "unexplained"
    }

    fn why(
        &self,
        mark: usize,
        theirs: bool,
        all: &Marks,
        sides: &[crate::reading::Side; 2],
        own: Option<&'static str>,
        peers: Option<&'static str>,
    ) -> &'static str {
        let s = &self.segment;
        let (me, peer) = (self.me(), self.peer());
        let drift = match mark {
            LOST | AGAIN | KEEP_ALIVE | PROBE => own,
            FULL | UNSEEN => peers,
            DUPLICATE => own.or(peers),
            _ => None,
        };
        if s.has(flags::RST) {
            return "a RST is judged by its effect";
        }
        if let Some(reason) = drift {
            return reason;
        }
        use Anomaly::*;
        let sent = if peer.has(half::ACKED) { peer.ack.max(me.snd_nxt) } else { me.snd_nxt };
        let lifted = me.has(half::SEEN) && sent != me.snd_nxt;
        let refused = self.noted(SeqJump) || self.noted(SeqBeyondWindow) || self.noted(DataBeyondWindow);
        let unscaled = !self.before.scale_known();
        match (mark, theirs) {
            _ if self.reused => "new life",
            (AGAIN | DUPLICATE | KEEP_ALIVE | PROBE, true) if self.copy => "the same packet again",
            (ZERO, false) if all.zero_window_probe => "a probe is called nothing else",
            (AGAIN, false) if sides[0].next == 0 => "another stream there",
            (AGAIN, true) if me.has(half::NEXT_SYN) => "a SYN-ACK with another number",
            (LOST | AGAIN | KEEP_ALIVE, _) if lifted => "acknowledged, so sent",
            (LOST, true) if self.noted(CaptureGap) => "settled as missed",
            (LOST, true) if refused => "not acceptable",
            (LOST | AGAIN, true) if s.has(flags::SYN) => "a SYN-ACK with another number",
            (UNSEEN, false) if sides[1].duplicates != 0 => "said once",
            (UNSEEN, true) if sides[1].unbroken != sides[1].next => "past a gap that was not seen filled",
            (AGAIN, true) if s.end().after(me.snd_nxt) => "partly new",
            (AGAIN, false) if all.keep_alive => "a keep-alive with a byte",
            (KEEP_ALIVE, true) if s.payload_len == 1 => "a keep-alive with a byte",
            (KEEP_ALIVE, true) if me.has(half::FIN) => "behind the own FIN",
            (DUPLICATE, false) if s.wnd == 0 => "a closed window",
            (DUPLICATE, false) if s.wnd != me.wnd && s.sack_count > 0 => "a new SACK block",
            (DUPLICATE, false) if s.seq != me.snd_nxt => "not at SND.NXT",
            (DUPLICATE, false) if sides[0].last_ack != s.ack.0 => "older than an acknowledgement before",
            (DUPLICATE, _) if !peer.has(half::SEEN) => "the other end was not seen",
            (DUPLICATE, true) if s.ack.at_or_after(peer.snd_nxt) => "nothing is outstanding",
            (DUPLICATE, true) if self.noted(AckOld) => "older than an acknowledgement before",
            (PROBE, true) if peer.ack != me.snd_nxt => "data is outstanding",
            (ZERO | FULL | PROBE, _) if unscaled => "the scale is not known",
            (FULL, _) if sides[1].last_ack.wrapping_add(sides[1].scaled_window as u32) != peer.edge_cur.0 => {
                "older than an acknowledgement before"
            }
            _ => "unexplained",
        }
    }
}

const LOST: usize = 0;
const AGAIN: usize = 1;
const ZERO: usize = 2;
const FULL: usize = 3;
const KEEP_ALIVE: usize = 4;
const PROBE: usize = 5;
const DUPLICATE: usize = 6;
const UNSEEN: usize = 7;

/// The one version whose rules were read, and which the corpus was made with. Fails when there is another.
fn tshark() -> Command {
    const VERSION: &str = "4.0.17";
    let shown = Command::new("tshark").arg("--version").output();
    let shown = shown.expect("tshark is missing: `cargo xtask setup --for test` installs Debian 12's package");
    let text = String::from_utf8_lossy(&shown.stdout);
    let found = text.lines().next().unwrap_or_default().to_owned();
    assert!(
        found.contains(VERSION),
        "this test holds the tracker against tshark {VERSION} (Debian 12), whose rules change between versions; found: {found}"
    );
    Command::new("tshark")
}

/// What tshark says of a capture, in the columns of the corpus.
pub fn ask(capture: &Path) -> BTreeMap<u64, Row> {
    const FIELDS: [&str; 12] = [
        "frame.number",
        "tcp.stream",
        "ip.src",
        "tcp.srcport",
        "tcp.seq",
        "tcp.ack",
        "tcp.len",
        "tcp.flags",
        "tcp.window_size_value",
        "tcp.window_size",
        "tcp.window_size_scalefactor",
        "tcp.options.wscale.shift",
    ];
    const MARKS: [&str; 12] = [
        "lost_segment",
        "retransmission",
        "fast_retransmission",
        "spurious_retransmission",
        "out_of_order",
        "zero_window",
        "window_full",
        "keep_alive",
        "zero_window_probe",
        "duplicate_ack",
        "ack_lost_segment",
        "reused_ports",
    ];
    let mut command = tshark();
    command.args(["-n", "-o", "tcp.relative_sequence_numbers:FALSE", "-r"]).arg(capture).args(["-T", "fields"]);
    for field in FIELDS {
        command.args(["-e", field]);
    }
    for mark in MARKS {
        command.arg("-e").arg(format!("tcp.analysis.{mark}"));
    }
    let output = command.output().expect("tshark runs");
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let mut text = String::from(
        "frame\tstream\tsrc\tsport\tseq\tack\tlen\tflags\twin_raw\twin\twin_scale\twscale_opt\tanalysis\n",
    );
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let set = MARKS.iter().zip(&fields[12..]).filter(|(_, value)| !value.is_empty()).map(|(mark, _)| *mark);
        text.push_str(&format!("{}\t{}\n", fields[..12].join("\t"), set.collect::<Vec<_>>().join(",")));
    }
    rows(&text)
}

#[test]
fn corpus_agrees() {
    let Some(corpus) = corpus() else { return };
    let mut result = Result::default();
    for entry in entries(&corpus) {
        compare(&entry.name, &packets(&entry.path), &truth(&entry.truth), &mut result);
    }
    result.check(3);
}

#[test]
fn generated_conversations_agree() {
    let folder = tempfile::tempdir().expect("a temporary directory");
    let mut result = Result::default();
    for seed in 1..=4 {
        let path = folder.path().join(format!("{seed}.pcap"));
        wire::write(&path, wire::RAW, &generate::capture(seed, 250));
        compare(&format!("seed {seed}"), &packets(&path), &ask(&path), &mut result);
    }
    result.check(4);
}
