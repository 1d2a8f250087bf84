//! From reports to findings: joins what belongs together, then diagnoses. The same for live and offline.

use crate::derive;
use crate::diagnose::silent;
use crate::finding::{Finding, FindingKind};
use crate::history::{End, History, KernelFact, Relative};
use crate::relatives;
use crate::report::{self, FirstReset};
use monitor_common::event::{Event, FullEvent, why};
use monitor_common::flow::{Direction, FlowKey};
use monitor_common::tracker::state::{Connection, sync_state};
use std::collections::{HashMap, HashSet, VecDeque};

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

/// How findings are made.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a reset waits for what may follow it: tracepoint reports, repeated RSTs.
    pub hold_ns: u64,
    /// Report a desynchronisation when it begins, not only when the connection ends.
    pub report_desync_at_once: bool,
}

/// Names one life of a flow.
type Life = (FlowKey, u64);

struct Pending {
    due_ns: u64,
    life: Life,
    id: u64,
    history: History,
    echoes: u32,
}

/// Reports in, findings out.
pub struct Pipeline {
    settings: Settings,
    file: Option<String>,
    next_id: u64,
    pending: VecDeque<Pending>,
    facts: VecDeque<FactAbout>,
    /// The first effective reset of a life.
    ends: HashMap<Life, FirstReset>,
    order: VecDeque<Life>,
    /// A desynchronisation that was reported while its connection lived.
    degraded: HashMap<Life, u64>,
    /// Lives that the kernel gave up on, reported when it said so.
    timed_out: HashSet<Life>,
}

impl Pipeline {
    pub fn new(settings: Settings, first_id: u64, file: Option<String>) -> Pipeline {
        Pipeline {
            settings,
            file,
            next_id: first_id,
            pending: VecDeque::new(),
            facts: VecDeque::new(),
            ends: HashMap::new(),
            order: VecDeque::new(),
            degraded: HashMap::new(),
            timed_out: HashSet::new(),
        }
    }

    /// The next finding's identifier, for a pipeline that carries on.
    pub fn next_id(&self) -> u64 {
        self.next_id
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
        let life = life_of(&full.event.connection);
        if bits & why::RESET != 0 {
            self.on_reset(History::from_full(full), life, search);
        } else if bits & why::CLOSE != 0 {
            self.hold(History::from_full(full), life);
        } else if bits & why::SYNC != 0 && self.settings.report_desync_at_once && is_desynced(&full.event.connection) {
            let id = self.take_id();
            if self.degraded.len() < KEPT_ENDS {
                self.degraded.insert(life, id);
            }
            self.push(History::from_full(full), life, id, 0);
        }
    }

    pub fn on_brief(&mut self, event: &Event) {
        let c = &event.connection;
        if is_desynced(c) || lives_with_a_fault(c) {
            self.hold(History::from_brief(event), life_of(c));
        }
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
        mut history: History,
        life: Life,
        search: &mut dyn FnMut(&Connection, Direction, &mut Vec<Relative>),
    ) {
        let End::Reset { sender, .. } = history.end else { return };
        match self.ends.get(&life) {
            Some(first) if report::is_echo(&history, first) => {
                if let Some(first) = self.pending.iter_mut().find(|p| p.life == life) {
                    first.echoes += 1;
                }
                return;
            }
            Some(_) => {}
            None => {
                if let Some(first) = FirstReset::of(&history) {
                    self.remember(life, first);
                }
            }
        }
        if relatives::is_candidate(&history.connection) {
            search(&history.connection, sender, &mut history.relatives);
        }
        let id = self.id_for(&life);
        self.push(history, life, id, self.settings.hold_ns);
    }

    /// A degraded connection's end; whether there is anything to say is the diagnosis' business.
    fn hold(&mut self, history: History, life: Life) {
        let id = self.id_for(&life);
        self.push(history, life, id, self.settings.hold_ns);
    }

    fn push(&mut self, history: History, life: Life, id: u64, hold_ns: u64) {
        let due_ns = history.time_ns.saturating_add(hold_ns);
        self.pending.push_back(Pending { due_ns, life, id, history, echoes: 0 });
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

    /// Hands out what is due at `now_ns` (tracker clock), oldest first.
    pub fn flush(&mut self, now_ns: u64, to_unix: &dyn Fn(u64) -> u64, sink: &mut dyn FnMut(Finding)) {
        while self.pending.front().is_some_and(|p| p.due_ns <= now_ns) {
            let Some(mut p) = self.pending.pop_front() else { return };
            p.history.kernel = self.join(&p.history);
            derive::anomalies(&mut p.history);
            if let Some(mut finding) = report::finding(&p.history, to_unix, p.id, self.file.as_deref()) {
                finding.echoes = p.echoes;
                debug_assert!(finding.kind != FindingKind::Reset || finding.reset.is_some());
                sink(finding);
            }
        }
    }

    /// Everything that is left, at the end of the observation.
    pub fn finish(&mut self, to_unix: &dyn Fn(u64) -> u64, sink: &mut dyn FnMut(Finding)) {
        self.flush(u64::MAX, to_unix, sink);
    }

    fn join(&self, history: &History) -> Vec<KernelFact> {
        let key = history.connection.key;
        self.facts
            .iter()
            .filter(|f| f.key == key && f.fact.time_ns.abs_diff(history.time_ns) <= JOIN_NS)
            .map(|f| f.fact.clone())
            .collect()
    }
}

fn life_of(c: &Connection) -> Life {
    (c.key, c.created_ns)
}

fn is_desynced(c: &Connection) -> bool {
    c.fault.iter().any(|f| f.sync.state == sync_state::DESYNCED)
}

/// A fault that a connection survives, and that its state alone still tells at its close.
fn lives_with_a_fault(c: &Connection) -> bool {
    silent::trickles(c, Direction::Forward) || silent::trickles(c, Direction::Reverse)
}
