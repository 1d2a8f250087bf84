//! Anomalies that only a whole history shows: patterns over a connection's state, its anomalies and its last headers,
//! which no single segment tells. Live and offline share them, because both give the same history.
//!
//! A rule is a pure function of a history and a speaker, in a file of its own with its tests. It says nothing where it
//! is in doubt: what it derives counts like an anomaly that the tracker saw.

mod challenge_ack;
mod collapse;
mod dsack_of_first_tx;
mod hole;
mod opt_changed;
mod payload;
mod sack_offset_constant;
mod sack_reneg;
mod size_dependent_loss;
mod tiny_segment_stall;
mod tsecr_future;
mod window_dependent_loss;

use crate::history::{History, Seen};
use monitor_common::Anomaly;
use monitor_common::anomaly::Level;
use monitor_common::flow::Direction;

/// What `speaker` is found to have done.
pub type Rule = fn(&History, Direction) -> Option<Seen>;

/// Every rule; none builds on another's result.
pub const RULES: &[Rule] = &[
    hole::persistent,
    hole::never_retransmitted,
    hole::rexmit_above_hole,
    payload::checksum,
    payload::overlap,
    collapse::rule,
    challenge_ack::rule,
    sack_offset_constant::rule,
    dsack_of_first_tx::rule,
    sack_reneg::rule,
    tiny_segment_stall::rule,
    tsecr_future::rule,
    opt_changed::rule,
    size_dependent_loss::rule,
    window_dependent_loss::rule,
];

/// Adds what follows from the history. Once is enough, twice changes nothing.
pub fn anomalies(history: &mut History) {
    let both = [Direction::Forward, Direction::Reverse];
    let found: Vec<Seen> = RULES.iter().flat_map(|rule| both.into_iter().filter_map(|d| rule(history, d))).collect();
    let of_reset = crate::diagnose::forged::anomalies(history);
    for new in found.into_iter().chain(of_reset) {
        match history.anomalies.iter_mut().find(|s| s.anomaly == new.anomaly && s.speaker == new.speaker) {
            Some(old) => old.hard |= new.hard,
            None => history.anomalies.push(new),
        }
    }
    history.anomalies.sort_by_key(|s| (s.first_ns, s.anomaly as u8, s.speaker as u8));
}

/// One occurrence at a time, weighed as its catalogue entry says.
pub fn seen(anomaly: Anomaly, speaker: Direction, at_ns: u64, expected: u32, actual: u32) -> Seen {
    Seen {
        anomaly,
        speaker,
        count: 1,
        first_ns: at_ns,
        last_ns: at_ns,
        hard: matches!(anomaly.level(), Level::Hard),
        expected,
        actual,
    }
}
