//! A conversation between two endpoints, A (who opens it) and B, told segment by segment to the tracker.
//!
//! Numbers are relative: 0 is the SYN, 1 the first byte. The same conversation is told with several initial sequence
//! numbers, some just below 2^32, and with both orders of the key: what is noted must not depend on either.
#![allow(dead_code, reason = "each test binary uses its part")]

use monitor_common::anomaly::Anomaly;
use monitor_common::engine::{self, Predicted};
use monitor_common::event::why;
use monitor_common::evidence::Evidence;
use monitor_common::flow::{Direction, FlowKey, v4};
use monitor_common::recorder::Recorder;
use monitor_common::segment::{Segment, flags, opt};
use monitor_common::seq::SeqNum;
use monitor_common::tracker;
use monitor_common::tracker::notes::{HARD, Note, Notes};
use monitor_common::tracker::settled;
use monitor_common::tracker::state::{Connection, Core, Fault, Half, Hook, Phase, Reach, half, sync_state};

pub const MS: u64 = 1_000_000;
/// Any time that is not 0.
pub const START_NS: u64 = 1_700_000_000_000 * MS;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    A,
    B,
}
pub use Who::{A, B};

impl Who {
    pub fn other(self) -> Who {
        match self {
            A => B,
            B => A,
        }
    }
}

/// A segment in relative numbers. Fields left alone: ACK set, window 1000, the next IP ID, TTL 64.
#[derive(Clone, Copy, Debug)]
pub struct Seg {
    pub seq: i64,
    pub ack: i64,
    pub len: u32,
    pub flags: u16,
    pub wnd: u16,
    pub sack: [[i64; 2]; 4],
    pub sacks: u8,
    pub wscale: Option<u8>,
    /// TSval in milliseconds from the start; without it the clock's, where timestamps are in use.
    pub ts: Option<u32>,
    pub no_ts: bool,
    /// TSecr in milliseconds from the start, as `ts`; 0 on the wire without it.
    pub tsecr: Option<u32>,
    pub ip_id: Option<u16>,
    pub ttl: u8,
    pub packet: u16,
    pub options: u16,
    pub l2: u16,
    pub tos: u8,
    pub flow_label: u32,
}

const TEMPLATE: Seg = Seg {
    seq: 1,
    ack: 1,
    len: 0,
    flags: flags::ACK,
    wnd: 1000,
    sack: [[0; 2]; 4],
    sacks: 0,
    wscale: None,
    ts: None,
    no_ts: false,
    tsecr: None,
    ip_id: None,
    ttl: 64,
    packet: 0,
    options: 0,
    l2: 0,
    tos: 0,
    flow_label: 0,
};

pub fn data(seq: i64, len: u32, ack: i64) -> Seg {
    Seg { seq, len, ack, flags: flags::ACK | flags::PSH, ..TEMPLATE }
}

pub fn bare(seq: i64, ack: i64) -> Seg {
    Seg { seq, ack, ..TEMPLATE }
}

pub fn fin(seq: i64, ack: i64) -> Seg {
    Seg { seq, ack, flags: flags::ACK | flags::FIN, ..TEMPLATE }
}

/// A SYN with a window scale of 3.
pub fn syn() -> Seg {
    Seg { seq: 0, ack: 0, flags: flags::SYN, wscale: Some(3), wnd: 8000, ..TEMPLATE }
}

pub fn syn_ack() -> Seg {
    Seg { seq: 0, ack: 1, flags: flags::SYN | flags::ACK, wscale: Some(3), wnd: 8000, ..TEMPLATE }
}

/// A reset that acknowledges nothing, as a stack answers a segment with ACK set.
pub fn rst(seq: i64) -> Seg {
    Seg { seq, ack: 0, flags: flags::RST, wnd: 0, no_ts: true, ..TEMPLATE }
}

pub fn rst_ack(seq: i64, ack: i64) -> Seg {
    Seg { seq, ack, flags: flags::RST | flags::ACK, wnd: 0, no_ts: true, ..TEMPLATE }
}

impl Seg {
    pub fn wnd(self, wnd: u16) -> Seg {
        Seg { wnd, ..self }
    }
    pub fn flags(self, flags: u16) -> Seg {
        Seg { flags, ..self }
    }
    pub fn scale(self, wscale: Option<u8>) -> Seg {
        Seg { wscale, ..self }
    }
    pub fn ts(self, ts: u32) -> Seg {
        Seg { ts: Some(ts), ..self }
    }
    pub fn tsecr(self, ts: u32) -> Seg {
        Seg { tsecr: Some(ts), ..self }
    }
    pub fn options(self, options: u16) -> Seg {
        Seg { options, ..self }
    }
    pub fn l2(self, l2: u16) -> Seg {
        Seg { l2, ..self }
    }
    pub fn tos(self, tos: u8) -> Seg {
        Seg { tos, ..self }
    }
    pub fn flow_label(self, flow_label: u32) -> Seg {
        Seg { flow_label, ..self }
    }
    pub fn no_ts(self) -> Seg {
        Seg { no_ts: true, ..self }
    }
    pub fn ip_id(self, ip_id: u16) -> Seg {
        Seg { ip_id: Some(ip_id), ..self }
    }
    pub fn ttl(self, ttl: u8) -> Seg {
        Seg { ttl, ..self }
    }
    pub fn packet(self, packet: u16) -> Seg {
        Seg { packet, ..self }
    }
    pub fn sack(mut self, left: i64, right: i64) -> Seg {
        self.sack[self.sacks as usize] = [left, right];
        self.sacks += 1;
        self
    }
}

/// The conversation so far.
pub struct Talk {
    pub c: Connection,
    pub evidence: Evidence,
    pub recorder: Recorder,
    /// The same conversation with header prediction.
    pub live: Live,
    pub notes: Notes,
    pub now_ns: u64,
    /// Direction of A.
    pub dir_a: Direction,
    pub iss: [u32; 2],
    /// Whether segments carry timestamps.
    pub timestamps: bool,
    /// Lives of the flow begun.
    pub lives: u32,
    /// Hard notes so far.
    pub hard: u32,
    pub why: u8,
    /// Segments that the short cut would have taken; each is checked to give the same as the full checks.
    pub predicted: u32,
    /// Of these, those that [`settled`] takes alone; each is checked to give the same.
    pub settled: u32,
    /// All segments of this life so far were predicted.
    pub bare: bool,
    next_id: [u16; 2],
    /// Where each end is observed.
    pub hook: [Hook; 2],
}

/// What a shell with header prediction has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    pub c: Connection,
    pub recorder: Recorder,
}

/// Takes the segment without header prediction. True if it begins a new life.
fn check_fully(
    c: &mut Connection,
    recorder: &mut Recorder,
    dir: Direction,
    hook: u8,
    segment: &Segment,
    now_ns: u64,
    notes: &mut Notes,
) -> bool {
    assert_eq!(engine::admit(c, dir, hook, segment), engine::Admission::Track);
    let begins = engine::starts_new_life(&c.parts(), dir, segment);
    if begins {
        let former = engine::Former::of(&mut c.parts(), recorder, dir);
        *c = Connection::default();
        engine::restart(&mut c.parts(), &former, dir, segment, now_ns);
    }
    engine::track(&mut c.parts(), recorder, dir, hook, segment, now_ns, notes);
    begins
}

impl Talk {
    pub fn new(iss: [u32; 2], a_first: bool) -> Talk {
        let (low, high) = ((v4(0x0a00_0001), 40_000), (v4(0x0a00_0002), 80));
        let (a, b) = if a_first { (low, high) } else { (high, low) };
        let (key, dir_a) = FlowKey::canonical(a.0, a.1, b.0, b.1);
        let c = Connection { core: Core { key, ..Core::default() }, ..Connection::default() };
        Talk {
            c,
            live: Live { c, recorder: Recorder::default() },
            evidence: Evidence::default(),
            recorder: Recorder::default(),
            notes: Notes::default(),
            now_ns: START_NS,
            dir_a,
            iss,
            timestamps: false,
            lives: 0,
            hard: 0,
            why: 0,
            predicted: 0,
            settled: 0,
            bare: true,
            next_id: [100, 40_000],
            hook: [Hook::Ingress; 2],
        }
    }

    /// Tells the same conversation in every numbering.
    pub fn each(tell: impl Fn(&mut Talk)) {
        for iss in [
            [1_000, 3_000_000_000],
            [u32::MAX, u32::MAX - 1],
            [u32::MAX - 700, 0x7fff_fe00],
            [0x7fff_ff00, u32::MAX - 5_000],
            [0, 0],
        ] {
            for a_first in [true, false] {
                for timestamps in [false, true] {
                    let mut talk = Talk::new(iss, a_first);
                    talk.timestamps = timestamps;
                    tell(&mut talk);
                }
            }
        }
    }

    /// As [`Talk::each`], after a handshake (window scale 3 both ways, windows of 8000 bytes).
    pub fn each_open(tell: impl Fn(&mut Talk)) {
        Talk::each(|t| {
            t.open();
            tell(t);
        });
    }

    /// As [`Talk::each_open`], without timestamps or with them.
    pub fn each_open_with(timestamps: bool, tell: impl Fn(&mut Talk)) {
        Talk::each(|t| {
            if t.timestamps == timestamps {
                t.open();
                tell(t);
            }
        });
    }

    pub fn open(&mut self) {
        assert_eq!(self.a(syn()), "");
        assert_eq!(self.b(syn_ack()), "");
        assert_eq!(self.a(bare(1, 1)), "");
        assert_eq!(self.phase(), "established");
    }

    pub fn a(&mut self, s: Seg) -> String {
        self.send(A, s)
    }

    pub fn b(&mut self, s: Seg) -> String {
        self.send(B, s)
    }

    /// Silence before the next segment, beyond the 10 ms that each takes.
    pub fn wait(&mut self, ms: u64) -> &mut Talk {
        self.now_ns += ms * MS;
        self
    }

    pub fn dir(&self, who: Who) -> Direction {
        if who == A { self.dir_a } else { self.dir_a.other() }
    }

    fn who(&self, direction: u8) -> Who {
        if direction == self.dir_a as u8 { A } else { B }
    }

    pub fn half(&self, who: Who) -> &Half {
        &self.c.half[self.dir(who).index()]
    }

    pub fn reach(&self, who: Who) -> &Reach {
        &self.c.reach[self.dir(who).index()]
    }

    pub fn fault(&self, who: Who) -> &Fault {
        &self.c.fault[self.dir(who).index()]
    }

    /// State of `who`'s data: `in_sync`, `suspect`, `desynced KIND`, `recovered`.
    pub fn sync(&self, who: Who) -> String {
        let sync = &self.fault(who).sync;
        match sync.state {
            sync_state::IN_SYNC => "in_sync".into(),
            sync_state::SUSPECT => "suspect".into(),
            sync_state::DESYNCED => format!("desynced {}", tracker::state::kind::name(sync.kind)),
            _ => "recovered".into(),
        }
    }

    pub fn phase(&self) -> &'static str {
        self.c.phase().name()
    }

    /// A number of `who`'s stream, relative to its SYN.
    pub fn rel(&self, who: Who, n: SeqNum) -> i64 {
        n.0.wrapping_sub(self.iss[who as usize]) as i32 as i64
    }

    pub fn nxt(&self, who: Who) -> i64 {
        self.rel(who, self.half(who).snd_nxt)
    }

    /// What `who` acknowledged of the other's stream.
    pub fn acked(&self, who: Who) -> i64 {
        self.rel(who.other(), self.half(who).ack)
    }

    pub fn edge(&self, who: Who) -> i64 {
        self.rel(who.other(), self.half(who).edge_max)
    }

    pub fn absolute(&mut self, who: Who, s: &Seg) -> Segment {
        let number = |who: Who, n: i64| SeqNum(self.iss[who as usize].wrapping_add(n as u32));
        let id = &mut self.next_id[who as usize];
        let ip_id = s.ip_id.unwrap_or_else(|| {
            *id = id.wrapping_add(1);
            *id
        });
        let mut out = Segment {
            seq: number(who, s.seq),
            ack: if s.flags & flags::ACK != 0 { number(who.other(), s.ack) } else { SeqNum(0) },
            payload_len: s.len,
            wnd: s.wnd,
            flags: s.flags,
            options: s.options,
            packet: s.packet,
            ip_id,
            ttl: s.ttl,
            sack_count: s.sacks,
            l2: s.l2,
            tos: s.tos,
            flow_label: s.flow_label,
            ..Segment::default()
        };
        for i in 0..s.sacks as usize {
            out.sack[i] = [number(who.other(), s.sack[i][0]), number(who.other(), s.sack[i][1])];
            out.options |= opt::SACK;
        }
        if s.flags & flags::SYN != 0 {
            out.mss = 1460;
            out.options |= opt::MSS | opt::SACK_PERMITTED;
        }
        if let Some(wscale) = s.wscale {
            out.wscale = wscale;
            out.options |= opt::WSCALE;
        }
        if self.timestamps && !s.no_ts {
            out.tsval = s.ts.unwrap_or(((self.now_ns - START_NS) / MS) as u32).wrapping_sub(1_000);
            out.tsecr = s.tsecr.map_or(0, |ms| ms.wrapping_sub(1_000));
            out.options |= opt::TIMESTAMPS;
        }
        out
    }

    /// Tells one segment, 10 ms after the one before. Gives what was noted: `B ack_unsent!` is hard, by B.
    pub fn send(&mut self, who: Who, s: Seg) -> String {
        self.now_ns += 10 * MS;
        let segment = self.absolute(who, &s);
        self.tell(who, &segment, self.now_ns);
        self.words()
    }

    /// Does with one segment what the kernel programs and the offline reader do.
    pub fn tell(&mut self, who: Who, segment: &Segment, now_ns: u64) {
        let dir = self.dir(who);
        if self.lives == 0 {
            let key = self.c.key;
            tracker::begin(&mut self.c.core, &key, segment, 0, now_ns);
            tracker::begin(&mut self.live.c.core, &key, segment, 0, now_ns);
            self.lives = 1;
        }
        let hook = self.hook[who as usize] as u8;
        let (before, mut moved) = (self.live, Notes::default());
        let mut alone = before;
        let settled = settled::on_segment(&mut alone.c.core, &mut alone.recorder, dir, hook, segment, now_ns);
        let Live { c, recorder } = &mut self.live;
        let mut general = before;
        let generally = engine::predict_unsettled(
            &mut general.c.parts(),
            &mut general.recorder,
            dir,
            hook,
            segment,
            now_ns,
            &mut moved.clone(),
        );
        let predicted = engine::predict(&mut c.parts(), recorder, dir, hook, segment, now_ns, &mut moved);
        if predicted == Predicted::No {
            assert_eq!(self.live, before, "what is not predicted is left alone");
        }
        if settled {
            self.settled += 1;
            assert_eq!((generally, general), (Predicted::Yes, alone), "settled: {segment:?}");
        } else {
            assert_eq!(alone, before, "what is not settled is left alone: {segment:?}");
        }
        if self.bare {
            // The kernel's table holds the faults of some former connection then.
            let fault: [Fault; 2] = bytemuck::pod_read_unaligned(&[0xa5; size_of::<[Fault; 2]>()]);
            let (mut c, mut recorder, mut notes) =
                (Connection { fault, ..before.c }, before.recorder, Notes::default());
            let again = engine::predict(&mut c.parts(), &mut recorder, dir, hook, segment, now_ns, &mut notes);
            let Live { c: live, recorder: last } = &self.live;
            assert_eq!((again, c.core, &recorder, notes), (predicted, live.core, last, moved), "{segment:?}");
            assert_eq!(c.fault, fault, "{segment:?}");
        }
        self.bare &= predicted != Predicted::No;
        if predicted == Predicted::No {
            let (mut notes, Live { c, recorder }) = (Notes::default(), &mut self.live);
            check_fully(c, recorder, dir, hook, segment, now_ns, &mut notes);
        }
        if check_fully(&mut self.c, &mut self.recorder, dir, hook, segment, now_ns, &mut self.notes) {
            self.evidence = Evidence::default();
            self.lives += 1;
        }
        self.evidence.enter(dir, &mut self.notes, now_ns);
        self.hard += self.notes.hard as u32;
        self.why = engine::why(&self.c, dir, &self.notes);
        if predicted != Predicted::No {
            self.predicted += 1;
            if predicted == Predicted::Yes {
                moved.clear();
                // A FIN, or what acknowledges one: nothing is counted, and the entry is as live as before.
                let (before, after) = (self.notes.before, self.notes.after);
                let closing = [Phase::FinWait as u8, Phase::Closing as u8].contains(&after);
                assert!(before == after || closing && before >= Phase::Established as u8, "{before} to {after}");
                (moved.before, moved.after) = (before, after);
            }
            moved.note = self.notes.note;
            assert_eq!(moved, self.notes, "{segment:?} was predicted");
            let closed = self.notes.after == Phase::TimeWait as u8 && self.notes.before != self.notes.after;
            let allowed = if segment.has(flags::RST) { why::RESET } else { 0 };
            assert_eq!(self.why & !allowed, if closed { why::CLOSE } else { 0 }, "{segment:?} was predicted");
        }
        if engine::ended_well(&self.c) {
            let sound = |f: &Fault| f.sync.state == sync_state::IN_SYNC;
            assert!(self.c.fault.iter().all(sound), "{segment:?}");
            assert!(self.c.half.iter().all(|h| !h.has(half::COLLAPSED) && h.rst_count == 0), "{segment:?}");
        }
        // The full checks record at once.
        let mut live = self.live;
        live.recorder.settle_all(&mut live.c);
        assert_eq!(live, Live { c: self.c, recorder: self.recorder }, "{segment:?}");
    }

    /// Whether the last segment was worth a report for this reason.
    pub fn reported(&self, reason: u8) -> bool {
        self.why & reason != 0
    }

    pub fn reset_reported(&self) -> bool {
        self.reported(why::RESET)
    }

    /// Effect of the RST that was told last.
    pub fn effect(&self) -> &'static str {
        tracker::close::Effect::from_number(self.notes.effect).name()
    }

    pub fn noted(&self, anomaly: Anomaly) -> Option<Note> {
        self.notes.iter().find(|n| n.anomaly == anomaly as u8).copied()
    }

    pub fn words(&self) -> String {
        let word = |n: &Note| {
            let name = Anomaly::from_number(n.anomaly).map_or("?", Anomaly::name);
            format!("{:?} {name}{}", self.who(n.direction), if n.flags & HARD != 0 { "!" } else { "" })
        };
        self.notes.iter().map(word).collect::<Vec<_>>().join(", ")
    }
}

/// Data sent without a word.
#[macro_export]
macro_rules! quiet {
    ($said:expr) => {
        assert_eq!($said, "")
    };
}
