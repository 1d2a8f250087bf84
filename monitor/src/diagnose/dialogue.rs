//! Dialogues for tests: two ends talk, the real tracker listens, a history comes out.
//!
//! Numbers are relative to each end's ISN, as capture tools print them; every segment goes through
//! `monitor_common::engine` in the order that its documentation gives.

use super::Verdict;
use crate::history::{End, History, KernelFact};
use crate::later::{Followed, LATER_NS};
use bytemuck::Zeroable;
use monitor_common::engine::{self, Admission};
use monitor_common::event::{Event, FullEvent, tag, why};
use monitor_common::evidence::Evidence;
use monitor_common::flow::{Direction, FlowKey, v4};
use monitor_common::recorder::{RECORDS, Recorder};
use monitor_common::segment::{Segment, flags, opt, packet};
use monitor_common::seq::SeqNum;
use monitor_common::tracker::close::Effect;
use monitor_common::tracker::notes::{NO_RESET, Notes};
use monitor_common::tracker::state::{Connection, Hook};
use monitor_common::tracker::{self, MS};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Client,
    Server,
}

pub use Who::{Client, Server};

impl Who {
    pub fn other(self) -> Who {
        match self {
            Client => Server,
            Server => Client,
        }
    }
}

/// What must not matter to any verdict.
#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub client_iss: u32,
    pub server_iss: u32,
    /// The client stands first in the canonical key.
    pub client_first: bool,
}

/// Ordinary numbers, numbers that wrap soon or in mid-dialogue, and both key orders.
pub const SETUPS: [Setup; 6] = [
    Setup { client_iss: 1_890_800_000, server_iss: 700_000_000, client_first: true },
    Setup { client_iss: 1_890_800_000, server_iss: 700_000_000, client_first: false },
    Setup { client_iss: u32::MAX - 100, server_iss: u32::MAX, client_first: true },
    Setup { client_iss: u32::MAX - 100, server_iss: u32::MAX, client_first: false },
    Setup { client_iss: u32::MAX - 15_000, server_iss: u32::MAX - 2_000, client_first: true },
    Setup { client_iss: 0, server_iss: u32::MAX - 30_000, client_first: false },
];

/// Runs a dialogue in every setup.
pub fn everywhere(test: impl Fn(&mut Dialogue)) {
    for setup in SETUPS {
        test(&mut Dialogue::new(setup));
    }
}

/// A segment as a test writes it; what is left out is what the speaker's stack would put there.
#[derive(Clone, Debug, Default)]
pub struct Draft {
    seq: Option<u32>,
    absolute_seq: Option<u32>,
    ack: Option<u32>,
    flags: u16,
    len: u32,
    wnd: Option<u16>,
    sack: Vec<(u32, u32)>,
    tsval: Option<u32>,
    tsecr: u32,
    ip_id: Option<u16>,
    ttl: Option<u8>,
    no_options: bool,
    mptcp_reset: bool,
    no_wscale: bool,
    wscale: Option<u8>,
}

/// A bare ACK.
pub fn ack() -> Draft {
    Draft { flags: flags::ACK, ..Draft::default() }
}

pub fn data(len: u32) -> Draft {
    Draft { flags: flags::ACK | flags::PSH, len, ..Draft::default() }
}

pub fn fin() -> Draft {
    Draft { flags: flags::ACK | flags::FIN, ..Draft::default() }
}

pub fn syn() -> Draft {
    Draft { flags: flags::SYN, seq: Some(0), ..Draft::default() }
}

pub fn syn_ack() -> Draft {
    Draft { flags: flags::SYN | flags::ACK, seq: Some(0), ..Draft::default() }
}

/// Linux' active reset: RST+ACK at SND.NXT with a real window, options and IP-ID (DIAGNOSIS 3.1).
pub fn abort() -> Draft {
    Draft { flags: flags::RST | flags::ACK, ..Draft::default() }
}

/// Linux' reply to a segment with ACK: RST alone, no options, window 0, ID 0.
pub fn reply(seq: u32) -> Draft {
    Draft { flags: flags::RST, seq: Some(seq), wnd: Some(0), ip_id: Some(0), no_options: true, ..Draft::default() }
}

/// Linux' reply to a segment without ACK: RST+ACK with number 0.
pub fn refuse() -> Draft {
    Draft {
        flags: flags::RST | flags::ACK,
        absolute_seq: Some(0),
        wnd: Some(0),
        ip_id: Some(0),
        no_options: true,
        ..Draft::default()
    }
}

impl Draft {
    pub fn seq(mut self, seq: u32) -> Draft {
        self.seq = Some(seq);
        self
    }

    pub fn acking(mut self, ack: u32) -> Draft {
        self.ack = Some(ack);
        self
    }

    pub fn wnd(mut self, wnd: u16) -> Draft {
        self.wnd = Some(wnd);
        self
    }

    pub fn sack(mut self, left: u32, right: u32) -> Draft {
        self.sack.push((left, right));
        self
    }

    pub fn tsval(mut self, tsval: u32) -> Draft {
        self.tsval = Some(tsval);
        self
    }

    pub fn tsecr(mut self, tsecr: u32) -> Draft {
        self.tsecr = tsecr;
        self
    }

    pub fn id(mut self, ip_id: u16) -> Draft {
        self.ip_id = Some(ip_id);
        self
    }

    /// Without options, as from a raw socket.
    pub fn bare(mut self) -> Draft {
        self.no_options = true;
        self
    }

    pub fn ttl(mut self, ttl: u8) -> Draft {
        self.ttl = Some(ttl);
        self
    }

    /// With MP_TCPRST or MP_FASTCLOSE (RFC 8684).
    pub fn mptcp_reset(mut self) -> Draft {
        self.mptcp_reset = true;
        self
    }

    pub fn no_wscale(mut self) -> Draft {
        self.no_wscale = true;
        self
    }

    pub fn wscale(mut self, shift: u8) -> Draft {
        self.wscale = Some(shift);
        self
    }
}

/// One end's own idea of the connection.
#[derive(Clone, Copy, Debug)]
struct Stack {
    iss: u32,
    /// Relative to `iss`.
    snd_nxt: u32,
    /// Relative to the other end's.
    rcv_nxt: u32,
    wnd: u16,
    ip_id: u16,
    hook: Hook,
}

/// Shift that both ends offer.
const WSCALE: u8 = 7;

pub struct Dialogue {
    key: FlowKey,
    client: Direction,
    connection: Connection,
    evidence: Evidence,
    recorder: Recorder,
    begun: bool,
    now_ns: u64,
    stack: [Stack; 2],
    /// Histories of RSTs and of closes, in order.
    pub histories: Vec<History>,
    /// Everything that the tracker reports, as the pipeline gets it.
    pub reports: Vec<FullEvent>,
}

impl Dialogue {
    pub fn new(setup: Setup) -> Dialogue {
        let (low, high) = (v4(0x0a00_0001), v4(0x0a00_0002));
        let (client, server) = if setup.client_first { (low, high) } else { (high, low) };
        let (key, direction) = FlowKey::canonical(client, 40_001, server, 9_000);
        let stack = |iss, ip_id| Stack { iss, snd_nxt: 0, rcv_nxt: 0, wnd: 500, ip_id, hook: Hook::Ingress };
        Dialogue {
            key,
            client: direction,
            connection: Connection::zeroed(),
            evidence: Evidence::zeroed(),
            recorder: Recorder::zeroed(),
            begun: false,
            now_ns: 1_000 * MS,
            stack: [stack(setup.client_iss, 1_000), stack(setup.server_iss, 30_000)],
            histories: Vec::new(),
            reports: Vec::new(),
        }
    }

    pub fn direction(&self, who: Who) -> Direction {
        match who {
            Client => self.client,
            Server => self.client.other(),
        }
    }

    /// The absolute number of a relative one.
    pub fn absolute(&self, who: Who, relative: u32) -> u32 {
        self.stack[who as usize].iss.wrapping_add(relative)
    }

    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    pub fn wait_ms(&mut self, ms: u64) -> &mut Self {
        self.now_ns += ms * MS;
        self
    }

    /// The tracker's state.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Where segments of `who` are observed from here on.
    pub fn observed_at(&mut self, who: Who, hook: Hook) -> &mut Self {
        self.stack[who as usize].hook = hook;
        self
    }

    /// SND.NXT of `who`, relative.
    pub fn snd_nxt(&self, who: Who) -> u32 {
        self.stack[who as usize].snd_nxt
    }

    /// `who` moves on without sending what lies between.
    pub fn skip(&mut self, who: Who, bytes: u32) -> &mut Self {
        self.stack[who as usize].snd_nxt += bytes;
        self
    }

    /// Forgets everything seen so far, as an observer does that comes later.
    pub fn observe_from_here(&mut self) -> &mut Self {
        self.begun = false;
        self.histories.clear();
        self
    }

    /// SYN, SYN-ACK, ACK at a millisecond each.
    pub fn handshake(&mut self) -> &mut Self {
        self.send(Client, syn()).send(Server, syn_ack()).send(Client, ack())
    }

    /// `who` sends and the other end acknowledges at once.
    pub fn exchange(&mut self, who: Who, len: u32) -> &mut Self {
        self.send(who, data(len)).send(who.other(), ack())
    }

    /// Sends a segment; the other end takes it in if it is what it expects.
    pub fn send(&mut self, who: Who, draft: Draft) -> &mut Self {
        let segment = self.build(who, &draft);
        let (me, other) = (who as usize, who.other() as usize);
        if !segment.has(flags::RST) {
            let seq = segment.seq.0.wrapping_sub(self.stack[me].iss);
            let end = seq.wrapping_add(segment.seq_len());
            if end.wrapping_sub(self.stack[me].snd_nxt) as i32 > 0 {
                self.stack[me].snd_nxt = end;
            }
            let fits = segment.has(flags::SYN) || seq.wrapping_sub(self.stack[other].rcv_nxt) as i32 <= 0;
            if fits && end.wrapping_sub(self.stack[other].rcv_nxt) as i32 > 0 {
                self.stack[other].rcv_nxt = end;
            }
        }
        self.now_ns += MS;
        self.observe(who, &segment);
        self
    }

    /// Sends a segment that is lost before it reaches the other end.
    pub fn send_lost(&mut self, who: Who, draft: Draft) -> &mut Self {
        let before = self.stack[who.other() as usize].rcv_nxt;
        self.send(who, draft);
        self.stack[who.other() as usize].rcv_nxt = before;
        self
    }

    /// A stranger sends in `who`'s name, who knows nothing of it; the other end takes it in.
    pub fn send_foreign(&mut self, who: Who, draft: Draft) -> &mut Self {
        let before = self.stack[who as usize].snd_nxt;
        self.send(who, draft);
        self.stack[who as usize].snd_nxt = before;
        self
    }

    fn build(&mut self, who: Who, draft: &Draft) -> Segment {
        let (me, other) = (self.stack[who as usize], self.stack[who.other() as usize]);
        let mut s = Segment {
            seq: SeqNum(draft.absolute_seq.unwrap_or(me.iss.wrapping_add(draft.seq.unwrap_or(me.snd_nxt)))),
            payload_len: draft.len,
            flags: draft.flags,
            wnd: draft.wnd.unwrap_or(me.wnd),
            ttl: draft.ttl.unwrap_or(64),
            packet: packet::DF,
            ..Segment::default()
        };
        if draft.flags & flags::ACK != 0 {
            s.ack = SeqNum(other.iss.wrapping_add(draft.ack.unwrap_or(me.rcv_nxt)));
        }
        s.ip_id = draft.ip_id.unwrap_or_else(|| {
            let id = &mut self.stack[who as usize].ip_id;
            *id = id.wrapping_add(1);
            *id
        });
        if draft.no_options {
            return s;
        }
        s.options = opt::TIMESTAMPS;
        if draft.mptcp_reset {
            s.options |= opt::MPTCP | opt::MPTCP_RESET;
        }
        s.tsval = draft.tsval.unwrap_or((self.now_ns / MS) as u32);
        s.tsecr = draft.tsecr;
        if s.has(flags::SYN) {
            s.options |= opt::MSS | opt::SACK_PERMITTED;
            s.mss = 1460;
            s.wnd = draft.wnd.unwrap_or(64_240);
            if !draft.no_wscale {
                s.options |= opt::WSCALE;
                s.wscale = draft.wscale.unwrap_or(WSCALE);
            }
        }
        for (i, (left, right)) in draft.sack.iter().take(4).enumerate() {
            s.options |= opt::SACK;
            s.sack[i] = [SeqNum(other.iss.wrapping_add(*left)), SeqNum(other.iss.wrapping_add(*right))];
            s.sack_count = i as u8 + 1;
        }
        s
    }

    /// The shell of `monitor_common::engine`.
    fn observe(&mut self, who: Who, s: &Segment) {
        let dir = self.direction(who);
        let hook = self.stack[who as usize].hook;
        if !self.begun {
            self.begun = true;
            self.connection = Connection::zeroed();
            self.connection.key = self.key;
            let key = self.connection.key;
            tracker::begin(&mut self.connection.core, &key, s, 0, self.now_ns);
            self.evidence.created_ns = self.connection.created_ns;
            self.recorder = Recorder::zeroed();
        }
        if engine::admit(&mut self.connection, dir, hook as u8, s) != Admission::Track {
            return;
        }
        if engine::starts_new_life(&self.connection.parts(), dir, s) {
            let former = engine::Former::of(&mut self.connection.parts(), &mut self.recorder, dir);
            if engine::is_broken_off(&self.connection) && !engine::ended_well(&self.connection) {
                let event = Event {
                    tag: tag::FULL,
                    time_ns: self.now_ns,
                    why: why::REUSED,
                    effect: NO_RESET,
                    phase: self.connection.phase() as u8,
                    connection: self.connection,
                    ..Event::default()
                };
                self.reports.push(FullEvent { event, evidence: self.evidence, recorder: self.recorder });
            }
            self.connection = Connection::default();
            engine::restart(&mut self.connection.parts(), &former, dir, s, self.now_ns);
            self.evidence = Evidence { created_ns: self.connection.created_ns, ..Evidence::default() };
        }
        let number = self.connection.half[dir.index()].segments;
        let mut notes = Notes::default();
        engine::track(&mut self.connection.parts(), &mut self.recorder, dir, hook as u8, s, self.now_ns, &mut notes);
        if notes.count > 0 {
            self.evidence.enter(dir, &mut notes, self.now_ns);
        }
        self.follow(dir, number, &notes);
        let why = engine::why(&self.connection, dir, &notes);
        let record = self.recorder.record[dir.index()][number as usize % RECORDS];
        if why != 0 {
            let event = Event {
                tag: tag::FULL,
                time_ns: self.now_ns,
                why,
                direction: dir as u8,
                hook: hook as u8,
                effect: notes.effect,
                phase: notes.before,
                identity: notes.identity,
                record,
                connection: self.connection,
                ..Event::default()
            };
            self.reports.push(FullEvent { event, evidence: self.evidence, recorder: self.recorder });
        }
        if why & (why::RESET | why::CLOSE) == 0 {
            return;
        }
        let end = if why & why::RESET != 0 {
            End::Reset {
                sender: dir,
                record,
                effect: Effect::from_number(notes.effect),
                number: self.connection.half[dir.index()].rst_count,
            }
        } else {
            End::Closed
        };
        let mut history = self.open(end);
        (history.identity, history.hook) = (notes.identity, hook as u8);
        crate::derive::anomalies(&mut history);
        self.histories.push(history);
    }

    /// Adds the segment to what followed the resets before it, as the pipeline does.
    fn follow(&mut self, speaker: Direction, number: u32, notes: &Notes) {
        let record = self.recorder.record[speaker.index()][number as usize % RECORDS];
        let effect = (record.flags & flags::RST != 0).then(|| Effect::from_number(notes.effect));
        for h in self.histories.iter_mut().filter(|h| h.connection.created_ns == self.connection.created_ns) {
            if matches!(h.end, End::Reset { .. }) && record.time_ns <= h.time_ns + LATER_NS {
                h.later.add(Followed { speaker, record, identity: notes.identity, effect });
            }
        }
    }

    /// The verdict on the first RST, with what followed it.
    pub fn first_verdict(&self) -> Verdict {
        let mut history = self.first_history();
        crate::derive::anomalies(&mut history);
        super::diagnose(&history)
    }

    /// The history of the last RST or close.
    pub fn history(&self) -> History {
        self.histories.last().expect("a RST or a close is part of the dialogue").clone()
    }

    /// The history of the first.
    pub fn first_history(&self) -> History {
        self.histories.first().expect("a RST or a close is part of the dialogue").clone()
    }

    pub fn verdict(&self) -> Verdict {
        super::diagnose(&self.history())
    }

    /// The verdict when the kernel of `who`'s host traced its `tcp_send_reset`.
    pub fn verdict_with_reason(&self, who: Who, reason: &str, has_trigger: bool, state: u8) -> Verdict {
        let mut history = self.history();
        history.kernel.push(self.fact("tcp_send_reset", who, reason, has_trigger, state));
        super::diagnose(&history)
    }

    pub fn fact(&self, source: &'static str, who: Who, reason: &str, has_trigger: bool, state: u8) -> KernelFact {
        KernelFact {
            source,
            reason: reason.into(),
            local: self.direction(who),
            has_trigger,
            state,
            netns: 4_026_531_840,
            pid: Some(4242),
            command: Some("app".into()),
            cgroup: None,
            container: None,
            unit: None,
            cookie: None,
            dropped: None,
            time_ns: self.now_ns,
        }
    }

    /// The connection as a sweep of the table finds it.
    pub fn open(&self, end: End) -> History {
        let mut history = History::from_parts(&self.connection, &self.evidence, &self.recorder);
        history.end = end;
        history.time_ns = self.now_ns;
        crate::derive::anomalies(&mut history);
        history
    }
}

/// Asserts the parts of a verdict that a scenario fixes.
#[track_caller]
pub fn expect(verdict: &Verdict, cause: &str, variant: Option<&str>, culprit: &str) {
    assert_eq!((verdict.cause, verdict.variant, verdict.culprit), (cause, variant, culprit), "{verdict:#?}");
}
