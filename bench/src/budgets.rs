//! What each row may cost at most, and what it should.

use serde::Serialize;

/// Ratios to the floor of the same row unless the row says otherwise.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    pub row: &'static str,
    pub at_most: f64,
    pub aim: Option<f64>,
}

const fn budget(row: &'static str, at_most: f64, aim: f64) -> Budget {
    Budget { row, at_most, aim: Some(aim) }
}

pub const BUDGETS: &[Budget] = &[
    budget("established-1", 1.8, 1.4),
    budget("established-4096", 1.8, 1.4),
    budget("established-65536", 1.25, 0.7),
    budget("established-1M", 1.3, 0.7),
    budget("born", 1.4, 1.0),
    budget("short", 1.8, 1.2),
    budget("syn-flood", 2.0, 1.0),
    // To the program that only parses.
    Budget { row: "non-tcp", at_most: 1.3, aim: None },
    // What an event adds to a packet, in floors of that packet.
    Budget { row: "event-close", at_most: 0.4, aim: None },
    Budget { row: "event-reset", at_most: 0.4, aim: None },
    // CPU time, to tcptrace's.
    budget("analyze-bulk", 1.0, 0.5),
    budget("analyze-many", 0.75, 0.5),
    // CPU time, to tshark's.
    Budget { row: "analyze-bulk-tshark", at_most: 0.05, aim: None },
    // KiB per connection.
    Budget { row: "analyze-many-memory", at_most: 2.0, aim: None },
    // Share of the throughput that is lost, to no program and to empty ones at the same hooks.
    Budget { row: "veth-in", at_most: 0.05, aim: None },
    Budget { row: "veth-out", at_most: 0.05, aim: None },
    Budget { row: "veth-in-to-empty", at_most: 0.02, aim: None },
    Budget { row: "veth-out-to-empty", at_most: 0.02, aim: None },
    // To what nf_conntrack adds to a routed packet.
    Budget { row: "routed-1", at_most: 0.4, aim: None },
    Budget { row: "routed-65536", at_most: 0.75, aim: None },
];

/// What stands in the way of a budget, on one machine or another: measured (docs/performance.md has the figures), or supposed and
/// named so. A row that is not here has no excuse.
const OBSTACLES: &[(&str, &str)] = &[
    (
        "established-4096",
        "memory: a floor with last headers, which touches as many cache lines, takes as long (its column) where the second-level cache has 512 KiB",
    ),
    (
        "established-65536",
        "the floor's table lies in the last-level cache in some runs, with which ours is not to be had",
    ),
    ("born", "the floor's table lies in the last-level cache in some runs, with which ours is not to be had"),
    (
        "short",
        "memory: a floor with last headers takes 1.3 times the floor; with 256 connections at once, in the second-level cache, it is within",
    ),
    ("non-tcp", "a nanosecond, which is the resolution"),
    (
        "event-close",
        "an entry alone adds 0.35 to 0.63 to a floor (its columns); a packet that ends a connection costs 1.1 floors more than a settled one without any report",
    ),
    (
        "event-reset",
        "an entry as long alone adds 1 to 1.9 to a floor (its columns); a packet that ends a connection costs 0.7 floors more than a settled one without any report",
    ),
    ("veth-in-to-empty", VETH_TO_EMPTY),
    ("veth-out-to-empty", VETH_TO_EMPTY),
    ("routed-1", "the floor alone is 0.35 to 0.4 where connection tracking is fast"),
];

const VETH_TO_EMPTY: &str = "the floor programs themselves lose 2.2 to 2.6 % to the empty ones (by turns)";

/// What is known to stand in the way of a row's budget.
pub fn obstacle(row: &str) -> Option<&'static str> {
    OBSTACLES.iter().find(|(name, _)| *name == row).map(|(_, what)| *what)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    WithinAim,
    WithinBudget,
    Over,
}

impl Verdict {
    pub fn words(self) -> &'static str {
        match self {
            Verdict::WithinAim => "within aim",
            Verdict::WithinBudget => "within budget",
            Verdict::Over => "OVER",
        }
    }
}

pub fn of(row: &str) -> Option<&'static Budget> {
    BUDGETS.iter().find(|b| b.row == row)
}

impl Budget {
    pub fn judge(&self, value: f64) -> Verdict {
        if self.aim.is_some_and(|aim| value <= aim) {
            Verdict::WithinAim
        } else if value <= self.at_most {
            Verdict::WithinBudget
        } else {
            // Not a number is no success either.
            Verdict::Over
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn obstacles_stand_in_the_way_of_budgets() {
        for (row, what) in OBSTACLES {
            assert!(of(row).is_some() && !what.is_empty(), "{row}");
        }
        assert_eq!((obstacle("established-1"), obstacle("short").is_some()), (None, true));
    }

    #[test]
    fn a_value_is_judged_against_aim_and_budget() {
        let b = budget("x", 1.8, 1.4);
        assert_eq!([1.4, 1.5, 1.8, 1.81, f64::NAN].map(|v| b.judge(v)), {
            use Verdict::*;
            [WithinAim, WithinBudget, WithinBudget, Over, Over]
        });
        assert_eq!(Budget { aim: None, ..b }.judge(0.1), Verdict::WithinBudget);
    }
}
