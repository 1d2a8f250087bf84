//! Entries of connections that have gone silent leave the table, a few sets at a time.

use super::table::Table;
use crate::diagnose::silent::{self, is_worth_an_end};
use crate::history::{End, History, KernelFact};
use monitor_common::abi::class;
use monitor_common::evidence::Evidence;
use monitor_common::flow::Direction;
use monitor_common::tracker::SECOND;
use monitor_common::tracker::state::{Connection, Phase, half};

/// A walk over the whole table takes this many steps, one each 5 ms ([`super::pace`]).
const STEPS: usize = 2048;
/// A live entry is looked at in one of so many walks while there is room: its limits are hours.
const TURNS: usize = 8;

/// How crowded the table is with what no packet evicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    None,
    /// More than half of it.
    Some,
    /// More than four fifths.
    High,
    /// Connections that are about to be refused.
    Extreme,
}

impl Pressure {
    /// `live` entries of `capacity`.
    pub fn of(live: usize, capacity: usize) -> Pressure {
        match live * 100 / capacity.max(1) {
            0..50 => Pressure::None,
            50..80 => Pressure::Some,
            80..95 => Pressure::High,
            _ => Pressure::Extreme,
        }
    }
}

/// How long a connection may be silent.
///
/// With room to spare what is kept costs nothing: an established connection stays for a day, because the verdict on what
/// ends it (a time-out on the path) needs its past. In a table that is half full the timers of RFC 5382 REQ-5 hold: 2 h
/// 4 min for established connections, so that a keep-alive every two hours finds its own again, 4 min for what is
/// opening or closing; 2 MSL (4 min, RFC 9293 section 3.4.2) for what is closed. Beyond that they shrink.
pub fn limit_ns(c: &Connection, pressure: Pressure) -> u64 {
    const MINUTE: u64 = 60 * SECOND;
    let by = |limits: [u64; 4]| limits[pressure as usize];
    let one_sided = !c.half[0].has(half::SEEN) || !c.half[1].has(half::SEEN);
    let segments = c.half[0].segments.saturating_add(c.half[1].segments);
    match c.phase() {
        // The agent watches what follows a reset for two seconds.
        Phase::TimeWait | Phase::Reset => by([4 * MINUTE, 2 * MINUTE, MINUTE, 10 * SECOND]),
        // SYNs are repeated for two minutes (Linux, six times).
        Phase::SynSent | Phase::SynReceived => by([4 * MINUTE, 2 * MINUTE, MINUTE, 10 * SECOND]),
        _ if one_sided => by([5 * MINUTE, 4 * MINUTE, MINUTE, 10 * SECOND]),
        // After a FIN the rest is a matter of minutes, unless the other side keeps sending.
        Phase::FinWait | Phase::Closing => by([30 * MINUTE, 4 * MINUTE, 2 * MINUTE, MINUTE]),
        // Anybody who can spoof both ends makes such connections; real ones have said more, or will.
        Phase::Established if segments <= FEW => by([24 * 60 * MINUTE, 124 * MINUTE, 4 * MINUTE, 30 * SECOND]),
        // Retransmissions are two minutes apart at most: whoever waited has given up.
        Phase::Established if both().any(|d| silent::stuck(c, d).is_some()) => {
            by([30 * MINUTE, 30 * MINUTE, 15 * MINUTE, 4 * MINUTE])
        }
        Phase::Established => by([24 * 60 * MINUTE, 124 * MINUTE, 15 * MINUTE, 4 * MINUTE]),
    }
}

/// Segments of a connection that has shown nothing yet but that it can be made.
const FEW: u32 = 4;

fn both() -> impl Iterator<Item = Direction> {
    [Direction::Forward, Direction::Reverse].into_iter()
}

/// Where the walk is.
pub struct Sweep {
    next: usize,
    walk: usize,
    live: usize,
    used: usize,
    pressure: Pressure,
    sets: usize,
}

impl Sweep {
    pub fn new(sets: usize) -> Sweep {
        Sweep { next: 0, walk: 0, live: 0, used: 0, pressure: Pressure::None, sets }
    }

    /// Steps of a walk over the whole table; each looks at [`Sweep::sets_a_step`] sets at most.
    pub fn steps(&self) -> usize {
        self.sets.div_ceil(self.sets_a_step())
    }

    pub fn sets_a_step(&self) -> usize {
        self.sets.div_ceil(STEPS)
    }

    pub fn pressure(&self) -> Pressure {
        self.pressure
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
        for _ in 0..self.sets_a_step() {
            for (slot, class) in table.classes(self.next) {
                self.used += 1;
                if class >= class::LIVE {
                    self.live += 1;
                    // Its state is a cache miss or two that can wait.
                    if self.pressure == Pressure::None && !(slot as usize + self.walk).is_multiple_of(TURNS) {
                        continue;
                    }
                }
                let c = table.connection(slot);
                if now_ns.saturating_sub(c.last_ns()) <= limit_ns(&c, self.pressure) {
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
                self.pressure = Pressure::of(self.live, table.capacity());
                table.spread_for(self.used);
                self.next = 0;
                self.live = 0;
                self.used = 0;
                self.walk += 1;
                // A small table has more steps than sets.
                break;
            }
        }
        freed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::dialogue::*;

    const HOUR: u64 = 3600 * SECOND;

    #[test]
    fn pressure_is_the_share_of_what_no_packet_evicts() {
        let of = |live| Pressure::of(live, 1000);
        assert_eq!(
            [of(0), of(499), of(500), of(799)],
            [Pressure::None, Pressure::None, Pressure::Some, Pressure::Some]
        );
        assert_eq!(
            [of(800), of(949), of(950), of(1000)],
            [Pressure::High, Pressure::High, Pressure::Extreme, Pressure::Extreme]
        );
        assert_eq!(Pressure::of(0, 0), Pressure::None);
    }

    /// Limits at all pressures never grow with it, and hold what RFC 5382 and RFC 9293 ask for where the table is half
    /// full at most.
    #[test]
    fn limits_are_those_of_the_rfcs_and_shrink_with_pressure() {
        use Pressure::{Extreme, High, None, Some};
        let limits = |c: &Connection| [None, Some, High, Extreme].map(|p| limit_ns(c, p));
        let falling = |l: [u64; 4]| l.windows(2).all(|w| w[0] >= w[1]);
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            let established = limits(d.connection());
            assert!(established[0] >= 2 * HOUR + 4 * 60 * SECOND && established[1] >= 2 * HOUR + 4 * 60 * SECOND);
            assert!(falling(established));
            d.send(Server, fin()).send(Client, ack());
            let half_closed = limits(d.connection());
            assert!(falling(half_closed) && half_closed[1] >= 4 * 60 * SECOND);
            d.send(Client, fin()).send(Server, ack());
            let closed = limits(d.connection());
            assert!(falling(closed) && closed[0] >= 4 * 60 * SECOND);
            assert!(closed[3] >= 2 * crate::later::LATER_NS, "what follows a reset is still read");
            assert!(closed.iter().zip(established).all(|(c, e)| *c < e));
        });
        everywhere(|d| {
            d.handshake();
            let young = limits(d.connection());
            d.exchange(Client, 300).exchange(Server, 500);
            let old = limits(d.connection());
            assert!(falling(young) && young[1] >= 2 * HOUR + 4 * 60 * SECOND, "{young:?}");
            assert!(young[3] < old[3], "what shows that it is used stays longer");
        });
    }
}
