//! A device shifts sequence numbers (DIAGNOSIS 3.5 cause 1).

use crate::diagnose::desync::{DesyncView, elsewhere, further_classes, rexmit_above};
use crate::diagnose::view::View;
use crate::diagnose::words::{bytes, count};
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use crate::finding::Considered;
use monitor_common::tracker::state::kind;

pub const CAUSE: Cause = Cause { name: "seq_translation_fault", judge };

const BASE: u8 = 75;
/// The receiver's DSACKs name the offset exactly.
const BY_DSACK: u8 = 90;
/// From behind the fault: a sender that believes in its own numbers.
const FROM_BEHIND: u8 = 65;
/// No payload edit lengthens a segment by more than a datagram holds.
const MAX_REWRITE: i64 = 65_536;
const ADVICE: &str = "Look for a device between the two that rewrites sequence numbers: firewall sequence \
                      randomisation, SYN proxy, inline IPS, a failover that lost the offset. Captures on either \
                      side of each hop bracket it.";

fn judge(view: &View) -> Option<Judgement> {
    let d = view.desync.as_ref()?;
    match d.kind {
        kind::OFFSET => Some(beyond_observer(view, d)),
        kind::OFFSET_UPSTREAM if rexmit_above(view.history, d.data) => Some(before_observer(view, d)),
        kind::OFFSET_UPSTREAM if elsewhere(view.history, d.data) => Some(other_space(view, d)),
        _ => None,
    }
}

fn beyond_observer(view: &View, d: &DesyncView) -> Judgement {
    let by_dsack = view.fault(d.data.other()).dsack_shift_hits >= 2;
    if !by_dsack && d.distance <= MAX_REWRITE {
        return Judgement::near(45, "a shift above 64 KiB, or DSACKs at a constant distance from retransmissions");
    }
    let fault = view.fault(d.data);
    let exact = by_dsack || fault.shift_lo == fault.shift_hi;
    let size = if exact { d.distance.to_string() } else { format!("{} to {}", fault.shift_lo, fault.shift_hi) };
    let proof = if by_dsack {
        "its DSACKs report our retransmissions at exactly that distance".to_string()
    } else {
        format!("{} acknowledged that much beyond anything sent", count(fault.ack_unsent_hits.into(), "segment"))
    };
    Judgement {
        culprit: Culprit::Middlebox,
        further_classes: further_classes(view.history, d),
        summary: format!(
            "A device between the observer and {} shifts the {}'s sequence numbers by {size}: {proof}. The two ends no \
             longer agree which byte is which; {}.",
            view.who(d.data.other()),
            view.role(d.data),
            view.ending(d),
        ),
        advice: ADVICE.into(),
        decisive: "a constant offset of more than 64 KiB".into(),
        ..Judgement::new(Basis::Wire(if by_dsack { BY_DSACK } else { BASE }))
    }
}

fn before_observer(view: &View, d: &DesyncView) -> Judgement {
    let hole = &view.fault(d.data).hole;
    Judgement {
        culprit: Culprit::NetworkOrPeer,
        further_classes: further_classes(view.history, d),
        summary: format!(
            "The numbers of {} jumped by {} at {}: it retransmits {} what starts right above the hole and never the \
             hole, so by its own count nothing is missing. Something between it and the observer shifts its sequence \
             numbers; {}.",
            view.who(d.data),
            bytes(d.distance.max(0) as u64),
            view.number(d.data, hole.lo),
            count(hole.rexmit_hi.into(), "time"),
            view.ending(d),
        ),
        advice: ADVICE.into(),
        decisive: "retransmissions of exactly what starts above the hole".into(),
        ..Judgement::new(Basis::Wire(FROM_BEHIND))
    }
}

/// From behind a device that stopped shifting: all that the sender says carries other numbers from one moment on.
fn other_space(view: &View, d: &DesyncView) -> Judgement {
    let receiver = d.data.other();
    let way = if d.distance < 0 { "back" } else { "ahead" };
    Judgement {
        culprit: Culprit::NetworkOrPeer,
        further_classes: further_classes(view.history, d),
        summary: format!(
            "The numbers of {} jumped {way} by about {} (to {}, where {} was next): it goes on in another number space, and \
             {} repeats what it had acknowledged before. Something between it and the observer stopped or began to shift \
             its sequence numbers; {}.",
            view.who(d.data),
            d.distance.unsigned_abs(),
            view.number(d.data, d.actual),
            view.short(d.data, d.expected),
            view.who(receiver),
            view.ending(d),
        ),
        advice: ADVICE.into(),
        decisive: "segments of another number space, refused again and again".into(),
        rivals: vec![Considered {
            cause: "endpoint_sequence_fault".into(),
            confidence: 40,
            why_not: "a stack that loses its place does not find another one, far away, and stay consistent there"
                .into(),
        }],
        ..Judgement::new(Basis::Wire(FROM_BEHIND))
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::tracker::state::kind;

    fn bulk(d: &mut Dialogue) {
        d.handshake().exchange(Server, 100);
        for _ in 0..20 {
            d.exchange(Client, 1448);
        }
    }

    /// S38: translation is lost in mid-flow and the server's numbers come back as they are behind the device.
    #[test]
    fn a_lost_translation_shifts_every_acknowledgement() {
        const D: u32 = 123_456_789;
        everywhere(|d| {
            bulk(d);
            d.send(Client, data(1448));
            for _ in 0..6 {
                d.wait_ms(500);
                let nxt = d.snd_nxt(Client);
                d.send(Server, ack().acking(nxt + D)).wait_ms(10);
                d.send(Client, ack());
            }
            let nxt = d.snd_nxt(Client);
            d.send(Server, abort().acking(nxt + D));
            let v = d.verdict();
            expect(&v, "seq_translation_fault", None, "middlebox");
            let desync = v.desync.unwrap();
            assert_eq!((desync.kind, desync.distance), (kind::OFFSET, i64::from(D)));
            assert!(v.confidence >= 75);
        });
    }

    /// S38 from the server's side: the client's numbers come as they are before the device, and nothing fits any more,
    /// however the connection ends.
    #[test]
    fn numbers_that_jump_and_are_refused_show_a_shift_before_the_observer() {
        for jump in [123_456_789u32, 0u32.wrapping_sub(123_456_789)] {
            everywhere(|d| {
                d.handshake().exchange(Server, 100);
                for _ in 0..150 {
                    d.exchange(Client, 1448);
                }
                let at = d.snd_nxt(Client);
                for gap in [210, 420, 840, 1680] {
                    d.wait_ms(gap).send_foreign(Client, data(1448).seq(at.wrapping_add(jump))).wait_ms(20);
                    d.send(Server, ack().acking(at));
                }
                let check = |v: &crate::diagnose::Verdict| {
                    expect(v, "seq_translation_fault", None, "network_or_peer");
                    let desync = v.desync.unwrap();
                    assert_eq!(desync.kind, kind::OFFSET_UPSTREAM);
                    assert!((desync.distance.abs() - 123_456_789).abs() < 65_536 + 1448, "{desync:?}");
                    assert!(v.confidence >= 65 && v.culprit_confidence <= 60, "{v:#?}");
                };
                check(&diagnose(&d.open(End::Open)));
                check(&diagnose(&d.open(End::Silent)));
                d.send(Server, abort().acking(at));
                check(&d.verdict());
            });
        }
    }

    /// The same jump once, and the connection goes on.
    #[test]
    fn a_stray_segment_of_other_numbers_is_no_shift() {
        everywhere(|d| {
            d.handshake().exchange(Server, 100);
            for n in 0..60u32 {
                d.exchange(Client, 1448);
                let at = d.snd_nxt(Client);
                if n % 10 == 9 {
                    d.wait_ms(300).send_foreign(Client, data(1448).seq(at + 123_456_789));
                    d.send(Server, ack().acking(at));
                }
            }
            d.exchange(Client, 1448).send(Server, abort());
            let v = d.verdict();
            assert!(v.desync.is_none(), "{v:#?}");
        });
    }

    /// S37 from the server's side: the client insists on what starts right above the hole.
    #[test]
    fn retransmissions_above_the_hole_show_a_shift_before_the_observer() {
        everywhere(|d| {
            bulk(d);
            let lo = d.snd_nxt(Client);
            d.skip(Client, 1000);
            for _ in 0..6 {
                d.send(Client, data(1448));
                let right = d.snd_nxt(Client);
                d.send(Server, ack().acking(lo).sack(lo + 1000, right));
            }
            let right = d.snd_nxt(Client);
            for gap in [210, 420, 840, 1680] {
                d.wait_ms(gap).send(Client, data(1448).seq(lo + 1000));
                d.send(Server, ack().acking(lo).sack(lo + 1000, right));
            }
            d.send(Client, abort());
            let v = d.verdict();
            expect(&v, "seq_translation_fault", None, "network_or_peer");
            let desync = v.desync.unwrap();
            assert_eq!((desync.kind, desync.distance), (kind::OFFSET_UPSTREAM, 1000));
            assert!(v.confidence >= 65 && v.culprit_confidence <= 60);
        });
    }
}
