//! A device changed the length of payload and did not fix the numbers after it (DIAGNOSIS 3.5 cause 2).

use crate::diagnose::desync::{DesyncView, further_classes, rexmit_above};
use crate::diagnose::view::View;
use crate::diagnose::words::{bytes, count};
use crate::diagnose::{Basis, Cause, Culprit, Judgement, SHARED_BLAME};
use crate::finding::Considered;
use monitor_common::Anomaly;
use monitor_common::tracker::state::kind;

pub const CAUSE: Cause = Cause { name: "payload_rewrite_fault", judge };

const BASE: u8 = 75;
/// The receiver's other words are in order, and only then.
const BY_ORDER: u8 = 65;
/// From the far side: the sender's own retransmission is shorter than what came first.
const FROM_BEHIND: u8 = 60;
const BY_KERNEL: u8 = 90;
/// MPTCP checks the payload (RFC 8684 section 3.3.1), but gives this reason for a mapping that is missing, too (3.6).
const REASON: &str = "MPTCP_RST_EMIDDLEBOX";
/// No payload edit lengthens a segment by more than a datagram holds.
const MOST: i64 = 65_536;
const ADVICE: &str = "Look for what edits payload on the way: application layer gateways (FTP, SIP, SMTP fixup), proxies \
                      that rewrite headers, DPI that tags requests. Captures before and after the device show one \
                      segment with two lengths.";

fn judge(view: &View) -> Option<Judgement> {
    if view.reason_is(&[REASON]) && view.history.any(Anomaly::OverlapMismatch) {
        return Some(by_kernel(view));
    }
    let Some(d) = view.desync.as_ref() else {
        return view
            .reason_is(&[REASON])
            .then(|| Judgement::near(35, "other bytes at the same numbers: the option may as well have been removed"));
    };
    match d.kind {
        kind::OFFSET | kind::ACK_UNSENT_ERRATIC => beyond_observer(view, d),
        kind::OFFSET_UPSTREAM if !rexmit_above(view.history, d.data) => before_observer(view, d),
        _ => None,
    }
}

fn by_kernel(view: &View) -> Judgement {
    Judgement {
        culprit: Culprit::Middlebox,
        summary: format!(
            "A device changed payload on the way: the same sequence numbers carried other bytes, and the kernel's MPTCP \
             closed the subflow because of a device between ({REASON}); reset by {}.",
            view.reset.as_ref().map_or_else(String::new, |r| view.who(r.sender))
        ),
        advice: ADVICE.into(),
        decisive: format!("the kernel's reason {REASON}"),
        ..Judgement::new(Basis::Kernel(BY_KERNEL))
    }
}

/// The receiver got more bytes than were sent, and says so twice over: it acknowledges too much, and takes what follows
/// for a duplicate.
fn beyond_observer(view: &View, d: &DesyncView) -> Option<Judgement> {
    let receiver = d.data.other();
    let fault = view.fault(d.data);
    if d.kind != kind::OFFSET || !(1..=MOST).contains(&d.distance) || view.fault(receiver).dsack_shift_hits >= 2 {
        return None;
    }
    // Both ends off by an amount of their own is not the work of a device that edits.
    if view.both_off() {
        return Some(Judgement::near(40, "only one direction off; here both are"));
    }
    let with_data = view.bytes(d.data) > 0;
    // The numbers that were inserted, reported as received twice when the sender comes to use them: that is proof. That
    // the retransmission is reported at all shows a receiver whose books are in order.
    let said = |a| view.history.seen(a).filter(|s| s.speaker == receiver);
    let inserted = said(Anomaly::DsackOfFirstTx).next().is_some()
        || said(Anomaly::Dsack).any(|s| reports_what_was_inserted(view, d, s.actual));
    let duplicate = inserted || said(Anomaly::Dsack).any(|s| s.last_ns >= d.first_ns);
    let exact = fault.shift_lo == fault.shift_hi || first_claim_is_exact(view, d);
    if !duplicate || !with_data {
        return Some(Judgement::near(
            45,
            "a DSACK of the receiver, or the same number of bytes too many at a second observer beyond the device",
        ));
    }
    Some(Judgement {
        culprit: Culprit::Middlebox,
        further_classes: further_classes(view.history, d),
        summary: format!(
            "A device between the observer and {} lengthened the payload by {}{} and did not fix the numbers after it: {} \
             acknowledges that much more than {} sent ({} confirmed) and reports {} as received twice; {}.",
            view.who(receiver),
            if exact { "" } else { "at least " },
            bytes(d.distance.unsigned_abs()),
            view.who(receiver),
            view.who(d.data),
            count(fault.ack_unsent_hits.into(), "time"),
            if inserted { "what follows" } else { "what is sent again" },
            view.ending(d),
        ),
        advice: ADVICE.into(),
        decisive: "a DSACK beside acknowledgements of too much".into(),
        rivals: vec![Considered {
            cause: "endpoint_sequence_fault".into(),
            confidence: 40,
            why_not: "a receiver that miscounts would hardly report in order what it received twice".into(),
        }],
        ..Judgement::new(Basis::Wire(if inserted { BASE } else { BY_ORDER }))
    })
}

/// The DSACK covers numbers that the receiver had acknowledged before anything was sent there.
fn reports_what_was_inserted(view: &View, d: &DesyncView, left: u32) -> bool {
    let left = monitor_common::SeqNum(left);
    let lossy = view.lossy() || view.history.mid_stream();
    !lossy && left.at_or_after(d.expected) && left.before(d.actual)
}

/// The first acknowledgement too far came when all that was sent had been acknowledged but the segment at hand: the
/// excess is what was inserted.
fn first_claim_is_exact(view: &View, d: &DesyncView) -> bool {
    let excess = i64::from(d.actual.distance(d.expected));
    excess == d.distance && view.fault(d.data).ack_unsent_hits >= 2
}

/// Behind the device: a segment of the sender was longer than the sender's own numbers say, and when it sends it again
/// it has its true length.
fn before_observer(view: &View, d: &DesyncView) -> Option<Judgement> {
    if view.both_off() || view.identity_broke(d.data, d.first_ns) || !(1..=MOST).contains(&d.distance) {
        return None;
    }
    let fault = view.fault(d.data);
    let me = view.half(d.data);
    let own_end = me.snd_nxt.sub(d.distance as u32);
    let resent = fault.rexmits > 0
        && fault.rexmit_len > 0
        && fault.rexmit_seq.add(fault.rexmit_len) == own_end
        && fault.rexmit_seq.before(own_end);
    let mismatch = view.history.seen(Anomaly::OverlapMismatch).any(|s| s.speaker == d.data);
    if !resent && !mismatch {
        return Some(Judgement::near(
            45,
            "a retransmission of the lengthened segment in its true length, or a capture before the device",
        ));
    }
    Some(Judgement {
        culprit: Culprit::Middlebox,
        culprit_cap: Some(SHARED_BLAME),
        further_classes: further_classes(view.history, d),
        summary: format!(
            "A device between {} and the observer lengthened a segment by {} ({}): what is sent again has its true length, \
             and the sender's acknowledgements go on at {} instead of {}; {}.",
            view.who(d.data),
            bytes(d.distance.unsigned_abs()),
            count(fault.phantom_hits.into(), "contradiction"),
            view.short(d.data, d.actual),
            view.number(d.data, d.expected),
            view.ending(d),
        ),
        advice: ADVICE.into(),
        decisive: "a retransmission in another length than the first time".into(),
        rivals: vec![Considered {
            cause: "endpoint_sequence_fault".into(),
            confidence: 45,
            why_not:
                "a sender that lost its place would not know the true end of that segment; a capture at the sender \
                      would show it with its true length at once"
                    .into(),
        }],
        ..Judgement::new(Basis::Wire(FROM_BEHIND))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::Anomaly;
    use monitor_common::tracker::state::kind;

    /// S44 before the device: one payload arrives 8 bytes longer, and the receiver acknowledges 8 too many.
    fn lengthened(d: &mut Dialogue, more: bool) {
        d.handshake().exchange(Client, 6).exchange(Server, 6);
        d.send_lost(Client, data(8));
        let nxt = d.snd_nxt(Client);
        d.send(Server, ack().acking(nxt + 8)).wait_ms(10).send(Client, ack());
        if more {
            // It takes the next write for a duplicate of what was inserted.
            d.send_lost(Client, data(4)).send(Server, ack().acking(nxt + 8).sack(nxt, nxt + 4)).wait_ms(10);
        }
        for gap in [210, 420, 840, 1_660, 3_300] {
            d.wait_ms(gap).send_lost(Client, data(8).seq(nxt - 8));
            d.send(Server, ack().acking(nxt + 8).sack(nxt - 8, nxt)).wait_ms(10).send(Client, ack());
        }
    }

    #[test]
    fn a_duplicate_report_of_the_next_bytes_tells_of_inserted_ones() {
        for more in [false, true] {
            everywhere(|d| {
                lengthened(d, more);
                let v = diagnose(&d.open(End::Silent));
                expect(&v, "payload_rewrite_fault", None, "middlebox");
                let desync = v.desync.unwrap();
                assert_eq!((desync.kind, desync.distance), (kind::OFFSET, 8));
                assert_eq!(desync.place().name(), "beyond_observer");
                assert_eq!(v.mechanism.name(), "timeout_no_rst");
                assert!(v.confidence >= if more { 75 } else { 65 }, "{v:#?}");
            });
        }
    }

    /// S44 behind the device.
    #[test]
    fn a_retransmission_in_its_true_length_tells_of_a_lengthened_segment() {
        everywhere(|d| {
            d.handshake().exchange(Client, 6).exchange(Server, 6);
            let at = d.snd_nxt(Client);
            d.send(Client, data(16)).send(Server, ack());
            for gap in [210, 420, 840, 1_660] {
                // The sender's own count is 8 lower.
                d.send(Client, ack().seq(at + 8)).wait_ms(gap).send(Client, data(8).seq(at));
                d.send(Server, ack().sack(at, at + 8)).wait_ms(5);
            }
            d.send(Client, ack().seq(at + 8)).wait_ms(3_000).send(Server, data(4)).send(Client, ack().seq(at + 8));
            d.send_lost(Server, data(4)).send(Server, abort());
            let v = d.verdict();
            if let Some(desync) = v.desync {
                assert_eq!((desync.kind, desync.distance), (kind::OFFSET_UPSTREAM, 8));
                assert_eq!(desync.place().name(), "before_observer");
            }
            assert!(["payload_rewrite_fault", "endpoint_sequence_fault"].contains(&v.cause), "{v:#?}");
        });
    }

    /// S58E: the same reason is given for a mapping that is missing.
    #[test]
    fn the_kernels_mptcp_proves_it_where_other_bytes_were_seen() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).send(Server, abort());
            let v = d.verdict_with_reason(Server, "MPTCP_RST_EMIDDLEBOX", false, 7);
            expect(&v, "mptcp_subflow_reset", None, "middlebox");
            assert!(v.also_considered.iter().any(|c| c.cause == "payload_rewrite_fault"), "{v:#?}");
            let mut h = d.history();
            h.kernel.push(d.fact("tcp_send_reset", Server, "MPTCP_RST_EMIDDLEBOX", false, 7));
            let at = h.time_ns;
            h.anomalies.push(crate::derive::seen(Anomaly::OverlapMismatch, d.direction(Client), at, 1, 1));
            expect(&diagnose(&h), "payload_rewrite_fault", None, "middlebox");
        });
    }

    /// S48: nothing but too large acknowledgements.
    #[test]
    fn without_a_duplicate_report_it_may_be_the_receiver() {
        everywhere(|d| {
            d.handshake().exchange(Client, 100);
            for _ in 0..8 {
                d.wait_ms(400);
                let next = d.snd_nxt(Client);
                d.send(Server, ack().acking(next + 4096)).wait_ms(10).send(Client, ack());
                d.send_lost(Client, data(50));
                d.wait_ms(10).send(Server, ack().acking(next + 4096)).wait_ms(10).send(Client, ack());
            }
            d.wait_ms(2_000).send(Server, abort());
            let v = d.verdict();
            assert_ne!(v.cause, "payload_rewrite_fault", "{v:#?}");
        });
    }
}
