//! Entries of connections that have gone silent leave the table, a few sets at a time.

use super::table::Table;
use crate::diagnose::silent::{self, is_worth_an_end};
use crate::history::{End, History, KernelFact};
use monitor_common::evidence::Evidence;
use monitor_common::flow::Direction;
use monitor_common::tracker::SECOND;
use monitor_common::tracker::state::{Connection, Phase, half};

/// A walk over the whole table takes this many steps of the agent's poll interval.
const STEPS: usize = 2048;
/// Fuller than this, in per cent, and idle connections go earlier.
const CROWDED: usize = 80;

/// How long a connection may be silent. The established limit is Linux conntrack's order of magnitude: a keep-alive
/// (2 h by default) must find its connection again.
pub(super) fn limit_ns(c: &Connection, crowded: bool) -> u64 {
    let one_sided = !c.half[0].has(half::SEEN) || !c.half[1].has(half::SEEN);
    match c.phase() {
        Phase::TimeWait | Phase::Reset => 60 * SECOND,
        Phase::SynSent | Phase::SynReceived => 120 * SECOND,
        _ if one_sided => 300 * SECOND,
        _ if crowded => 900 * SECOND,
        // After a FIN the rest is a matter of minutes, unless the other side keeps sending.
        Phase::FinWait | Phase::Closing => 1800 * SECOND,
        // Retransmissions are two minutes apart at most: whoever waited has given up.
        Phase::Established if both().any(|d| silent::stuck(c, d).is_some()) => 1800 * SECOND,
        Phase::Established => 24 * 3600 * SECOND,
    }
}

fn both() -> impl Iterator<Item = Direction> {
    [Direction::Forward, Direction::Reverse].into_iter()
}

/// Where the walk is.
pub struct Sweep {
    next: usize,
    used: usize,
    crowded: bool,
    sets: usize,
}

impl Sweep {
    pub fn new(sets: usize) -> Sweep {
        Sweep { next: 0, used: 0, crowded: false, sets }
    }

    /// Looks at the next few sets; returns how many entries it freed. `take_evidence` and `take_drops` remove what else
    /// belongs to a slot.
    pub fn step(
        &mut self,
        table: &Table,
        now_ns: u64,
        take_evidence: &mut dyn FnMut(u32) -> Option<Evidence>,
        take_drops: &mut dyn FnMut(u32, &Connection) -> Vec<KernelFact>,
        ended: &mut dyn FnMut(History),
    ) -> u64 {
        let mut freed = 0;
        for _ in 0..self.sets.div_ceil(STEPS) {
            for slot in table.used(self.next) {
                self.used += 1;
                let c = table.connection(slot);
                if now_ns.saturating_sub(c.last_ns()) <= limit_ns(&c, self.crowded) {
                    continue;
                }
                if !table.free(slot, c.created_ns) {
                    continue;
                }
                freed += 1;
                let evidence = take_evidence(slot);
                let drops = take_drops(slot, &c);
                if is_worth_an_end(&c) {
                    let evidence = evidence.unwrap_or_default();
                    let mut history = History::from_parts(&c, &evidence, &table.recorder(slot));
                    history.end = End::Silent;
                    history.kernel = drops;
                    ended(history);
                }
            }
            self.next += 1;
            if self.next == self.sets {
                self.crowded = self.used * 100 > table.capacity() * CROWDED;
                self.next = 0;
                self.used = 0;
            }
        }
        freed
    }
}
