//! From reports to findings: joins what belongs together, then diagnoses. The same for live and offline.

use crate::derive;
use crate::diagnose;
use crate::diagnose::shape::ResetView;
use crate::diagnose::silent;
use crate::finding::{Finding, FindingKind};
use crate::history::{End, History, KernelFact, PayloadFacts, Relative, in_order};
use crate::later::{Followed, LATER_NS};
use crate::relatives;
use crate::report::{self, FirstReset};
use crate::surroundings::aftermath::Aftermath;
use crate::surroundings::flows::Flows;
use crate::surroundings::ttl::Ttls;
use monitor_common::event::{Ended, Event, FullEvent, why};
use monitor_common::flow::{Addr, Direction, FlowKey};
use monitor_common::recorder::Recorder;
use monitor_common::segment::flags;
use monitor_common::tracker::close::Effect;
use monitor_common::tracker::state::{Connection, sync_state};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

/// What the tracepoints say belongs to a reset this close in time (DIAGNOSIS 3.2).
const JOIN_NS: u64 = 10_000_000;
/// Tracepoint reports kept for the join.
const KEPT_FACTS: usize = 4096;
/// Ends remembered, to tell a repeated RST from a new one.
const KEPT_ENDS: usize = 65_536;

/// What the kernel said, with the flow that it is about.
#[derive(Clone, Debug)]
pub struct FactAbout {
    pub key: FlowKey,
    pub fact: KernelFact,
}

/// Ends that wait at once. A flood of resets is told sooner rather than later.
const KEPT_PENDING: usize = 8192;

/// What the local kernel can be asked for when a verdict is due.
pub trait Kernel: Send {
    /// Segments of this connection that it dropped. `slot` is the connection's entry in the kernel's table.
    fn drops(&self, slot: u32, c: &Connection) -> Vec<KernelFact>;
}

/// How findings are made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long an end waits for the word of the tracepoints. A reset that the sender's own kernel owns up to is told
    /// then; any other waits for what follows it, [`LATER_NS`].
    pub hold_ns: u64,
    /// The local kernel's resets are traced.
    pub kernel_watched: bool,
    /// Report a desynchronisation when it begins, not only when the connection ends.
    pub report_desync_at_once: bool,
}

/// Names one life of a flow.
type Life = (FlowKey, u64);
/// When to look at an end that waits, and which one of that moment.
type Turn = (u64, u64);

/// An end that waits.
struct Pending {
    life: Life,
    id: u64,
    /// Entry in the connection table.
    slot: u32,
    history: History,
    resets: Option<Resets>,
}

/// What a reset waits for.
struct Resets {
    effective: bool,
    /// RSTs of both ends: at the first one, and as known last.
    at_first: u32,
    known: u32,
    /// Another finding of this life follows; further RSTs are its own.
    superseded: bool,
    /// When it is told at last.
    final_ns: u64,
    /// It was told before, with so many echoes.
    told: Option<u32>,
}

impl Resets {
    fn echoes(&self) -> u32 {
        self.known.saturating_sub(self.at_first)
    }

    /// The end's RSTs have been counted by a report or by the table.
    fn count(&mut self, c: &Connection) {
        if !self.superseded {
            self.known = self.known.max(resets_of(c));
        }
    }
}

/// Looks up what the table holds in a slot, or under a key.
pub type Lookup<'a> = dyn FnMut(u32, &FlowKey) -> Option<(Connection, Recorder)> + 'a;

/// Reports in, findings out.
pub struct Pipeline {
    settings: Settings,
    file: Option<String>,
    next_id: u64,
    pending: BTreeMap<Turn, Pending>,
    /// The reset that a life waits with.
    waiting: HashMap<Life, Turn>,
    turns: u64,
    facts: VecDeque<FactAbout>,
    /// The first effective reset of a life.
    ends: HashMap<Life, FirstReset>,
    order: VecDeque<Life>,
    /// A desynchronisation that was reported while its connection lived.
    degraded: HashMap<Life, u64>,
    /// Lives that the kernel gave up on, reported when it said so.
    timed_out: HashSet<Life>,
    /// What the payload of the connection at hand told; captures only.
    payload: PayloadFacts,
    local_addresses: Option<HashSet<Addr>>,
    ttls: Ttls,
    flows: Flows,
    aftermath: Aftermath,
    /// What sockets reported, kept for what comes after: the answer to a late packet is the corpse, not the crime.
    errors: HashMap<Life, Vec<KernelFact>>,
    kernel: Option<Box<dyn Kernel>>,
    /// When something was lost or removed for want of room, last.
    pressure_ns: Option<u64>,
}

/// A connection whose beginning is not known may have been forgotten this long ago: the shortest that an established
/// one is kept under pressure.
const FORGOTTEN_NS: u64 = 900_000_000_000;
/// A SYN may have been removed before the entry that is known was made.
const HANDSHAKE_NS: u64 = 3_000_000_000;

impl Pipeline {
    pub fn new(settings: Settings, first_id: u64, file: Option<String>) -> Pipeline {
        Pipeline {
            settings,
            file,
            next_id: first_id,
            pending: BTreeMap::new(),
            waiting: HashMap::new(),
            turns: 0,
            facts: VecDeque::new(),
            ends: HashMap::new(),
            order: VecDeque::new(),
            degraded: HashMap::new(),
            timed_out: HashSet::new(),
            payload: PayloadFacts::default(),
            local_addresses: None,
            ttls: Ttls::default(),
            flows: Flows::default(),
            aftermath: Aftermath::default(),
            errors: HashMap::new(),
            kernel: None,
            pressure_ns: None,
        }
    }

    /// For want of room, at `now_ns`, entries were removed from the table, segments not tracked or reports not made.
    pub fn on_pressure(&mut self, now_ns: u64) {
        self.pressure_ns = Some(now_ns);
    }

    /// The same with a kernel to ask.
    pub fn with_kernel(self, kernel: Box<dyn Kernel>) -> Pipeline {
        Pipeline { kernel: Some(kernel), ..self }
    }

    /// The next finding's identifier, for a pipeline that carries on.
    pub fn next_id(&self) -> u64 {
        self.next_id
    }

    /// Addresses of this host, where its own packets are observed.
    pub fn set_local_addresses(&mut self, addresses: Option<HashSet<Addr>>) {
        self.local_addresses = addresses;
    }

    /// What the payload of the connection tells whose report or end comes next.
    pub fn set_payload(&mut self, facts: PayloadFacts) {
        self.payload = facts;
    }

    pub fn on_fact(&mut self, fact: FactAbout) {
        if self.facts.len() == KEPT_FACTS {
            self.facts.pop_front();
        }
        self.facts.push_back(fact);
    }

    /// A report with everything. `search` looks through the other connections, and is asked rarely.
    pub fn on_full(&mut self, full: &FullEvent, search: &mut dyn FnMut(&Connection, Direction, &mut Vec<Relative>)) {
        let bits = full.event.why;
        let c = &full.event.connection;
        let life = life_of(c);
        if bits & why::REUSED != 0 {
            self.on_broken_off(full, life);
            return;
        }
        self.follow(full, life);
        if bits & why::RESET != 0 {
            self.on_reset(full, life, search);
        } else if bits & why::CLOSE != 0 {
            self.ttls.learn(&Ended::of(c, full.event.time_ns));
            self.hold(History::from_full(full), life);
        } else if bits & why::SYNC != 0 && self.settings.report_desync_at_once && is_desynced(c) {
            let id = self.take_id();
            if self.degraded.len() < KEPT_ENDS {
                self.degraded.insert(life, id);
            }
            self.push(History::from_full(full), life, id, 0);
        }
    }

    pub fn on_brief(&mut self, event: &Event) {
        let c = &event.connection;
        let life = life_of(c);
        if let Some(resets) = self.waiting_resets(&life) {
            resets.count(c);
        }
        if event.why & why::CLOSE == 0 {
            // Of a life that a reset ended: it had its finding.
            return;
        }
        self.on_ended(&Ended::of(c, event.time_ns));
        if is_desynced(c) || lives_with_a_fault(c) {
            self.hold(History::from_brief(event), life);
        }
    }

    /// The next life of the 4-tuple began where this one neither was reset nor had closed.
    fn on_broken_off(&mut self, full: &FullEvent, life: Life) {
        let c = &full.event.connection;
        if let Some(resets) = self.waiting_resets(&life) {
            resets.count(c);
        }
        if silent::is_worth_an_end(c) {
            let mut history = History::from_parts(c, &full.evidence, &full.recorder);
            history.end = End::Silent;
            history.slot = Some(full.event.slot);
            self.on_end(history);
        }
    }

    /// A life that ended with nothing wrong.
    pub fn on_ended(&mut self, life: &Ended) {
        self.ttls.learn(life);
    }

    fn waiting_resets(&mut self, life: &Life) -> Option<&mut Resets> {
        let turn = self.waiting.get(life)?;
        self.pending.get_mut(turn)?.resets.as_mut()
    }

    /// What was seen after the reset that this life waits with.
    fn follow(&mut self, full: &FullEvent, life: Life) {
        let Some(p) = self.waiting.get(&life).and_then(|turn| self.pending.get_mut(turn)) else { return };
        let Some(resets) = &mut p.resets else { return };
        let event = &full.event;
        let is_rst = event.record.flags & flags::RST != 0;
        resets.count(&event.connection);
        if resets.superseded {
            return;
        }
        let (from, until) = (p.history.time_ns, p.history.time_ns.saturating_add(LATER_NS));
        add_later(&mut p.history, &full.recorder, &event.connection);
        if event.time_ns > until || event.time_ns < from {
            return;
        }
        let effect = (is_rst && event.why & why::RESET != 0).then(|| Effect::from_number(event.effect));
        let speaker = Direction::from_index(event.direction);
        p.history.later.add(Followed { speaker, record: event.record, identity: event.identity, effect });
    }

    /// A connection that ended without a reset, or that the observation ends with.
    pub fn on_end(&mut self, history: History) {
        let life = life_of(&history.connection);
        if !self.ends.contains_key(&life) && !self.timed_out.remove(&life) {
            self.hold(history, life);
        }
    }

    /// The kernel of one end gave a connection up without a RST (ETIMEDOUT): the table's view of it at that moment, as
    /// from [`History::from_parts`]. A RST that follows replaces the finding; the sweep of the table adds none.
    pub fn on_timeout(&mut self, mut history: History, now_ns: u64) {
        let life = life_of(&history.connection);
        if self.ends.contains_key(&life) || self.timed_out.contains(&life) {
            return;
        }
        history.end = End::Silent;
        history.time_ns = now_ns;
        let id = self.id_for(&life);
        if self.timed_out.len() == KEPT_ENDS {
            // At worst the sweep reports some of them once more.
            self.timed_out.clear();
        }
        self.timed_out.insert(life);
        if self.degraded.len() < KEPT_ENDS {
            self.degraded.insert(life, id);
        }
        self.push(history, life, id, self.settings.hold_ns);
    }

    fn on_reset(
        &mut self,
        full: &FullEvent,
        life: Life,
        search: &mut dyn FnMut(&Connection, Direction, &mut Vec<Relative>),
    ) {
        let mut history = History::from_full(full);
        let Some(reset) = ResetView::of(&history) else { return };
        if let Some(earlier) = self.waiting_resets(&life) {
            if earlier.effective || !reset.effective {
                // It is part of what followed.
                return;
            }
            // Attempts that failed are a finding of their own; this one is the end.
            earlier.known = earlier.known.saturating_sub(1);
            earlier.superseded = true;
        } else if self.ends.get(&life).is_some_and(|first| report::is_echo(&history, first)) {
            return;
        }
        let c = &full.event.connection;
        if reset.effective && !self.ends.contains_key(&life) {
            self.remember(life, FirstReset { sender: reset.sender, seq: reset.seq(), time_ns: reset.record.time_ns });
        }
        history.payload = self.payload;
        history.surroundings.ttl = self.ttls.of(&c.key.addr[reset.sender.index()]);
        history.surroundings.kernel_watched = self.settings.kernel_watched;
        let local = &self.local_addresses;
        history.surroundings.sender_is_local = local.as_ref().map(|l| l.contains(&c.key.addr[reset.sender.index()]));
        if reset.effective {
            self.ttls.learn(&Ended::of(c, full.event.time_ns));
        }
        if relatives::is_candidate(c) {
            search(c, reset.sender, &mut history.relatives);
        }
        let id = self.id_for(&life);
        let resets = Resets {
            effective: reset.effective,
            at_first: resets_of(c),
            known: resets_of(c),
            superseded: false,
            final_ns: history.time_ns.saturating_add(LATER_NS.max(self.settings.hold_ns)),
            told: None,
        };
        let due_ns = history.time_ns.saturating_add(self.settings.hold_ns);
        let p = Pending { life, id, slot: full.event.slot, history, resets: Some(resets) };
        let turn = self.queue(due_ns, p);
        self.waiting.insert(life, turn);
    }

    /// A degraded connection's end; whether there is anything to say is the diagnosis' business.
    fn hold(&mut self, history: History, life: Life) {
        let id = self.id_for(&life);
        self.push(history, life, id, self.settings.hold_ns);
    }

    fn push(&mut self, mut history: History, life: Life, id: u64, hold_ns: u64) {
        history.payload = self.payload;
        let due_ns = history.time_ns.saturating_add(hold_ns);
        self.queue(due_ns, Pending { life, id, slot: 0, history, resets: None });
    }

    fn queue(&mut self, due_ns: u64, p: Pending) -> Turn {
        let turn = (due_ns, self.turns);
        self.turns += 1;
        self.pending.insert(turn, p);
        turn
    }

    /// The identifier of the desynchronisation reported before, so that the reset replaces it.
    fn id_for(&mut self, life: &Life) -> u64 {
        match self.degraded.remove(life) {
            Some(id) => id,
            None => self.take_id(),
        }
    }

    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn remember(&mut self, life: Life, first: FirstReset) {
        if self.order.len() == KEPT_ENDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.ends.remove(&oldest);
        }
        self.ends.insert(life, first);
        self.order.push_back(life);
    }

    /// Whether so many ends wait that some are told early.
    pub fn is_crowded(&self) -> bool {
        self.pending.len() > KEPT_PENDING
    }

    /// Hands out what is due at `now_ns` (tracker clock), oldest first. `lookup` knows how many RSTs there were, and what
    /// was last heard: not each segment is reported.
    pub fn flush(
        &mut self,
        now_ns: u64,
        lookup: &mut Lookup,
        to_unix: &dyn Fn(u64) -> u64,
        sink: &mut dyn FnMut(Finding),
    ) {
        while let Some((&turn, _)) = self.pending.first_key_value() {
            let crowded = self.is_crowded();
            if turn.0 > now_ns && !crowded {
                return;
            }
            let Some(mut p) = self.pending.remove(&turn) else { return };
            self.hear_kernel(&mut p.history);
            let Some(resets) = &mut p.resets else {
                self.tell(&p, to_unix, sink);
                continue;
            };
            let table = lookup(p.slot, &p.life.0).filter(|(c, _)| life_of(c) == p.life);
            if let Some((c, recorder)) = &table {
                resets.count(c);
                if !resets.superseded {
                    add_later(&mut p.history, recorder, c);
                }
            }
            if now_ns < resets.final_ns && !crowded {
                let final_ns = resets.final_ns;
                if is_proven(&p.history) {
                    resets.told = Some(resets.echoes());
                    self.tell(&p, to_unix, sink);
                }
                let (life, current) = (p.life, self.waiting.get(&p.life) == Some(&turn));
                let turn = self.queue(final_ns, p);
                if current {
                    self.waiting.insert(life, turn);
                }
                continue;
            }
            if self.waiting.get(&p.life) == Some(&turn) {
                self.waiting.remove(&p.life);
            }
            if p.resets.as_ref().is_none_or(|r| r.told != Some(r.echoes())) {
                self.tell(&p, to_unix, sink);
            }
        }
    }

    fn was_under_pressure(&self, history: &History) -> bool {
        let before = if history.mid_stream() { FORGOTTEN_NS } else { HANDSHAKE_NS };
        self.pressure_ns.is_some_and(|t| t >= history.connection.created_ns.saturating_sub(before))
    }

    fn tell(&mut self, p: &Pending, to_unix: &dyn Fn(u64) -> u64, sink: &mut dyn FnMut(Finding)) {
        let mut history = p.history.clone();
        history.under_pressure = self.was_under_pressure(&history);
        derive::anomalies(&mut history);
        let verdict = diagnose::diagnose(&history);
        history.surroundings.same_fault = self.flows.note(&history, &verdict);
        let Some(mut finding) = report::finding(&history, to_unix, p.id, self.file.as_deref()) else { return };
        finding.echoes = p.resets.as_ref().map_or(0, Resets::echoes);
        finding.related = self.aftermath.related(&history, &finding);
        debug_assert!(finding.kind != FindingKind::Reset || finding.reset.is_some());
        sink(finding);
    }

    /// Everything that is left, at the end of the observation.
    pub fn finish(&mut self, lookup: &mut Lookup, to_unix: &dyn Fn(u64) -> u64, sink: &mut dyn FnMut(Finding)) {
        self.flush(u64::MAX, lookup, to_unix, sink);
    }

    /// Adds what the local kernel said of the connection.
    fn hear_kernel(&mut self, history: &mut History) {
        let life = life_of(&history.connection);
        let mut joined: Vec<KernelFact> = self.errors.get(&life).cloned().unwrap_or_default();
        for about in self.facts.iter().filter(|f| f.key == life.0 && belongs(&f.fact, history)) {
            if !joined.contains(&about.fact) {
                joined.push(about.fact.clone());
            }
        }
        let errors: Vec<_> = joined.iter().filter(|f| f.source == ERROR_REPORT).cloned().collect();
        if !errors.is_empty() && self.timed_out.contains(&life) {
            if self.errors.len() == KEPT_ENDS {
                self.errors.clear();
            }
            self.errors.insert(life, errors);
        }
        for fact in joined {
            if !history.kernel.contains(&fact) {
                history.kernel.push(fact);
            }
        }
        let Some(kernel) = &self.kernel else { return };
        history.kernel_available = true;
        // What a sweep took out of the table brought its drops along and has no slot.
        if let Some(slot) = history.slot {
            history.kernel.retain(|f| f.dropped.is_none());
            history.kernel.extend(kernel.drops(slot, &history.connection));
        }
    }
}

const ERROR_REPORT: &str = "inet_sk_error_report";

/// Whether a fact about this flow is about this end of it (DIAGNOSIS 3.2).
fn belongs(fact: &KernelFact, history: &History) -> bool {
    let near = fact.time_ns.abs_diff(history.time_ns) <= JOIN_NS;
    match fact.source {
        // A socket's error explains what comes later, too.
        ERROR_REPORT => {
            let since = history.connection.created_ns;
            fact.time_ns >= since && fact.time_ns <= history.time_ns.saturating_add(JOIN_NS)
        }
        // Also said where the host itself sends a reset for data after its close: only a RST that came in, just before
        // it, makes it mean what its name says.
        "tcp_receive_reset" => near && rst_before(history, fact),
        _ => near,
    }
}

/// Whether the other end's RST was seen within 10 ms before.
fn rst_before(history: &History, fact: &KernelFact) -> bool {
    let just_before = |t: u64| t <= fact.time_ns && fact.time_ns - t <= JOIN_NS;
    let at_end = match history.end {
        End::Reset { sender, record, .. } => sender != fact.local && just_before(record.time_ns),
        _ => false,
    };
    at_end
        || history
            .records
            .iter()
            .any(|r| r.speaker != fact.local && r.record.flags & flags::RST != 0 && just_before(r.record.time_ns))
}

fn life_of(c: &Connection) -> Life {
    (c.key, c.created_ns)
}

/// RSTs of both ends.
fn resets_of(c: &Connection) -> u32 {
    c.half.iter().map(|h| u32::from(h.rst_count)).sum()
}

/// What the flight recorder holds of the two seconds after the reset. RSTs are known from their own reports, with what
/// they do.
fn add_later(history: &mut History, recorder: &Recorder, c: &Connection) {
    let (from, until) = (history.time_ns, history.time_ns.saturating_add(LATER_NS));
    for r in in_order(recorder, c) {
        let after = r.record.time_ns > from && r.record.time_ns <= until;
        if after && r.record.flags & flags::RST == 0 {
            history.later.add(Followed { speaker: r.speaker, record: r.record, identity: 0, effect: None });
        }
    }
}

/// The kernel of the RST's sender said that it sent it: nothing that follows can change that.
fn is_proven(history: &History) -> bool {
    let End::Reset { sender, .. } = history.end else { return false };
    history.kernel.iter().any(|f| f.source == "tcp_send_reset" && f.local == sender)
}

fn is_desynced(c: &Connection) -> bool {
    c.fault.iter().any(|f| f.sync.state == sync_state::DESYNCED)
}

/// A fault that a connection survives, and that its state alone still tells at its close.
fn lives_with_a_fault(c: &Connection) -> bool {
    silent::lives_with_it(c, Direction::Forward) || silent::lives_with_it(c, Direction::Reverse)
}

#[cfg(test)]
mod waiting_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::dialogue::*;
    use crate::history::Dropped;
    use monitor_common::SeqNum;

    fn at(fact: KernelFact, time_ns: u64) -> KernelFact {
        KernelFact { time_ns, ..fact }
    }

    #[test]
    fn a_tracepoints_word_counts_within_ten_milliseconds() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).send(Server, abort());
            let (h, fact) = (d.history(), d.fact("tcp_send_reset", Server, "TCP_STATE", false, 7));
            for (off_ns, expected) in [(0, true), (JOIN_NS, true), (JOIN_NS + 1, false)] {
                assert_eq!(belongs(&at(fact.clone(), h.time_ns + off_ns), &h), expected);
                assert_eq!(belongs(&at(fact.clone(), h.time_ns - off_ns), &h), expected);
            }
        });
    }

    /// DIAGNOSIS 3.2, trap b: the tracepoint also fires where the host answers data with a reset of its own.
    #[test]
    fn a_received_reset_needs_a_reset_that_came_in() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            d.send(Server, fin()).send(Client, ack()).wait_ms(50).send(Client, data(40));
            let seq = d.snd_nxt(Server);
            d.send(Server, reply(seq));
            let h = d.history();
            assert!(!belongs(&d.fact("tcp_receive_reset", Server, "none", false, 5), &h), "it sent that RST itself");
            assert!(belongs(&d.fact("tcp_receive_reset", Client, "none", false, 1), &h));
            // Too late to be about that RST, although within the join of some later one.
            let late = at(d.fact("tcp_receive_reset", Client, "none", false, 1), h.time_ns + JOIN_NS + 1);
            assert!(!belongs(&late, &h));
            let before = at(d.fact("tcp_receive_reset", Client, "none", false, 1), h.time_ns - 1);
            assert!(!belongs(&before, &h));
        });
    }

    /// Trap f: the answer to a late packet is the corpse, not the crime.
    #[test]
    fn a_sockets_error_counts_for_the_rest_of_its_life_and_not_for_the_next() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300);
            let error = d.fact("inet_sk_error_report", Client, "ETIMEDOUT", false, 1);
            d.wait_ms(60_000).send(Server, data(10));
            let seq = d.snd_nxt(Client);
            d.send(Client, reply(seq));
            let h = d.history();
            assert!(belongs(&error, &h));
            assert!(!belongs(&at(error.clone(), h.connection.created_ns - 1), &h));
            assert!(!belongs(&at(error, h.time_ns + JOIN_NS + 1), &h));
        });
    }

    /// A kernel that dropped one segment of the connection in slot 7.
    struct Dropper(KernelFact);

    impl Kernel for Dropper {
        fn drops(&self, slot: u32, _: &Connection) -> Vec<KernelFact> {
            if slot == 7 { vec![self.0.clone()] } else { Vec::new() }
        }
    }

    #[test]
    fn drops_are_asked_for_with_the_verdict_by_slot() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).send(Server, abort());
            let speaker = d.direction(Client);
            let dropped = Dropped { speaker, count: 3, first_ns: 1, seq: SeqNum(9), flags: 0x10, leaving: false };
            let fact = KernelFact { dropped: Some(dropped), ..d.fact("kfree_skb", Server, "TCP_CSUM", false, 0) };
            let settings = Settings { hold_ns: 0, kernel_watched: true, report_desync_at_once: false };
            let mut pipeline = Pipeline::new(settings, 1, None).with_kernel(Box::new(Dropper(fact)));
            for (slot, expected) in [(Some(7), 1), (Some(8), 0), (None, 0)] {
                let mut h = d.history();
                h.slot = slot;
                pipeline.hear_kernel(&mut h);
                assert_eq!(h.dropped("TCP_CSUM").count(), expected);
                assert!(h.kernel_available);
                // Drops say nothing of whose socket is here.
                assert_eq!(crate::diagnose::view::View::new(&h).local_end(), None);
            }
            let mut offline = d.history();
            Pipeline::new(settings, 1, None).hear_kernel(&mut offline);
            assert!(!offline.kernel_available);
        });
    }
}
