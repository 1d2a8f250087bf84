//! A SYN-ACK that echoes a timestamp which the client's clock had not come to: settled by the client's reset, because it
//! says nothing more (RFC 7323 section 3.2; `tcp_rcv_synsent_state_process` in Linux' tcp_input.c refuses it).
//!
//! The tracker raises the claim with the SYN-ACK, but only a later timestamp of the client settles it there.

use super::seen;
use crate::history::{End, History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::segment::flags;
use monitor_common::tracker::state::{Phase, candidate, half};

/// A second of the usual 1000 Hz clock.
const TS_HARD: u64 = 1_000;

/// Expected: the client's highest timestamp; actual: what the SYN-ACK of `speaker` echoes.
pub fn rule(history: &History, speaker: Direction) -> Option<Seen> {
    let client = speaker.other();
    let End::Reset { sender, record, .. } = history.end else { return None };
    let alone = record.flags & flags::ACK == 0;
    let first_word = sender == client && history.is_client(client) && history.phase == Phase::SynReceived;
    if !first_word || !alone || !history.half(client).has(half::SYN) || history.capture_lossy() {
        return None;
    }
    let claim = history.connection.fault[speaker.index()].candidates[candidate::TSECR_FUTURE];
    if claim.generation == history.connection.fault[client.index()].settled[candidate::TSECR_FUTURE] {
        return None;
    }
    let of = |who: Direction| history.records.iter().filter(move |r| r.speaker == who).map(|r| &r.record);
    let answer =
        of(speaker).find(|r| r.time_ns == claim.time_ns && r.flags & flags::SYN != 0 && r.ack == record.seq)?;
    let syn = of(client).rfind(|r| r.flags & flags::SYN != 0 && r.time_ns <= answer.time_ns)?;
    // Its clock goes on while the SYN is under way, in microseconds at the fastest (Linux 6.7), and a SYN sent again
    // may be missed here.
    let elapsed_us = (answer.time_ns - syn.time_ns) / 1_000;
    let ahead = claim.actual.distance(claim.expected);
    (ahead > 0 && ahead as u64 > TS_HARD + elapsed_us)
        .then(|| seen(Anomaly::TsecrFuture, speaker, answer.time_ns, claim.expected.0, claim.actual.0))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use monitor_common::Anomaly;

    fn answered(ahead: u32, wait_ms: u64, noted: bool) {
        everywhere(|d| {
            d.send(Client, syn().tsval(5_000)).wait_ms(wait_ms).send(Server, syn_ack().tsecr(5_000 + ahead));
            d.send(Client, reply(1));
            assert_eq!(d.history().any(Anomaly::TsecrFuture), noted, "{ahead} {wait_ms}");
        });
    }

    #[test]
    fn an_echo_of_the_future_that_is_reset_is_noted() {
        answered(500_000, 1, true);
        answered(0x7000_0000, 100, true);
    }

    /// The SYN's own, one sent again that was not seen, or a clock of microseconds that went on meanwhile.
    #[test]
    fn an_echo_that_the_client_may_have_sent_is_not() {
        answered(0, 1, false);
        answered(1_000, 1_000, false);
        answered(1_000_000, 1_000, false);
        // Of the past.
        answered(0u32.wrapping_sub(500_000), 1, false);
    }

    #[test]
    fn a_client_that_takes_it_refutes_it() {
        everywhere(|d| {
            d.send(Client, syn().tsval(5_000)).send(Server, syn_ack().tsecr(505_000));
            d.send(Client, ack().tsval(5_002)).send(Client, reply(1));
            assert!(!d.history().records.is_empty());
            let v = d.verdict();
            assert_ne!(v.cause, "handshake_violation", "{v:#?}");
        });
    }
}
