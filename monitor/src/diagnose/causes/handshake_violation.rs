//! The handshake acknowledged something that was never sent (DIAGNOSIS 3.5 cause 23).

use crate::diagnose::view::View;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::Anomaly;
use monitor_common::tracker::state::{Phase, half};

pub const CAUSE: Cause = Cause { name: "handshake_violation", judge };

const BASE: u8 = 70;
/// Reasons that Linux gives only in SYN-SENT and SYN-RECEIVED (DIAGNOSIS 3.2).
const REASONS: [&str; 5] =
    ["TCP_INVALID_ACK_SEQUENCE", "TCP_RFC7323_PAWS", "TCP_TOO_OLD_ACK", "TCP_ACK_UNSENT_DATA", "TCP_OLD_ACK"];

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.reply()?;
    if view.data_both_ways() {
        return None;
    }
    let sender = reset.sender;
    let (me, peer) = (view.half(sender), view.half(sender.other()));
    let numbers = |a| view.history.seen(a).find(|s| s.speaker == sender.other());
    // Answered a challenge ACK of an old connection: that is reuse of the tuple.
    let challenged = me.has(half::SYN) && !peer.has(half::SYN) && numbers(Anomaly::SynackBadAck).is_none();
    if me.has(half::NEXT_SYN) || challenged {
        return None;
    }
    let by_kernel = view.reason_is(&REASONS);
    let (fact, expected, actual) = if let Some(s) = numbers(Anomaly::SynackBadAck) {
        ("SYN-ACK acknowledges", s.expected, s.actual)
    } else if let Some(s) = numbers(Anomaly::SynackIsnChange) {
        ("SYN-ACKs disagree about their initial number and one has", s.expected, s.actual)
    } else if let Some(s) = numbers(Anomaly::TsecrFuture).filter(|_| view.history.phase == Phase::SynReceived) {
        ("SYN-ACK echoes the timestamp", s.expected, s.actual)
    } else if me.has(half::SYN)
        && (!view.history.is_client(sender) || peer.has(half::SYN))
        && matches!(view.history.phase, Phase::SynReceived | Phase::Established)
        && view.no_data()
        && reset.seq() != me.iss.add(1)
    {
        ("third segment of the handshake acknowledges", me.iss.add(1).0, reset.seq().0)
    } else if by_kernel {
        ("handshake acknowledges", me.iss.add(1).0, reset.seq().0)
    } else {
        return None;
    };
    Some(Judgement {
        culprit: Culprit::Middlebox,
        // At a listener the bad third segment is one of no connection.
        kernel_agrees: by_kernel || view.reason_is(&["TCP_FLAGS"]),
        summary: format!(
            "The handshake does not fit together: the {fact} {actual} where {expected} is right, so {} answered with a \
             reset.",
            view.who(sender),
        ),
        advice: "Look for a SYN proxy or SYN-cookie device whose answers mix with the server's, and for anycast or \
                 ECMP that splits the handshake over two hosts."
            .into(),
        decisive: "a SYN-ACK or third segment with a wrong acknowledgement or echo".into(),
        ..Judgement::new(Basis::Wire(BASE))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;

    /// S31: the SYN-ACK acknowledges 100 below the SYN.
    #[test]
    fn a_syn_ack_for_another_syn_is_a_violation() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, syn_ack().acking(0u32.wrapping_sub(100)));
            d.send(Client, reply(0u32.wrapping_sub(100)));
            let v = d.verdict();
            expect(&v, "handshake_violation", None, "middlebox");
            assert_eq!(v.confidence, 70);
            let v = d.verdict_with_reason(Client, "TCP_INVALID_ACK_SEQUENCE", true, 2);
            assert_eq!((v.cause, v.confidence), ("handshake_violation", 80));
        });
    }

    /// S32: the SYN-ACK echoes a timestamp that the client has not come to.
    #[test]
    fn an_echo_of_the_future_is_a_violation() {
        everywhere(|d| {
            d.send(Client, syn().tsval(5_000)).send(Server, syn_ack().tsecr(505_000)).send(Client, reply(1));
            let v = d.verdict();
            expect(&v, "handshake_violation", None, "middlebox");
            assert!(v.summary.contains("505000 where 5000 is right"), "{}", v.summary);
            assert!(v.also_considered.iter().any(|c| c.cause == "handshake_abandoned"), "{v:#?}");
            let v = d.verdict_with_reason(Client, "TCP_RFC7323_PAWS", true, 2);
            assert_eq!((v.cause, v.confidence), ("handshake_violation", 80));
        });
    }

    /// S34: the third segment acknowledges too much and meets the listener.
    #[test]
    fn a_bad_third_segment_is_a_violation() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, syn_ack()).send(Client, ack().acking(5_001)).send(Server, reply(5_001));
            expect(&d.verdict(), "handshake_violation", None, "middlebox");
        });
    }
}
