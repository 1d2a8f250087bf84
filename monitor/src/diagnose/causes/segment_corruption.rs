//! Segments arrive damaged and are dropped, the retransmissions too (DIAGNOSIS 3.5 cause 17; RFC 9293 section 3.1).

use crate::diagnose::view::View;
use crate::diagnose::words::count;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::Anomaly;

pub const CAUSE: Cause = Cause { name: "segment_corruption", judge };

/// At the receiver; elsewhere the segments are sound and it looks like a black hole.
const BASE: u8 = 85;
/// The segment itself and its retransmission.
const DAMAGED: u32 = 2;

fn judge(view: &View) -> Option<Judgement> {
    let stuck = view.held_up()?;
    let sender = stuck.sender;
    let bad = view.history.seen(Anomaly::CsumBad).find(|s| s.speaker == sender)?;
    let by_kernel = view.dropped("TCP_CSUM").is_some_and(|f| f.local == sender.other());
    if bad.count < DAMAGED && !by_kernel || stuck.attempts < DAMAGED as u8 {
        return Some(Judgement::near(
            35,
            format!("{} with a wrong checksum, {DAMAGED} are needed", count(bad.count.into(), "segment")),
        ));
    }
    Some(Judgement {
        culprit: Culprit::Network,
        kernel_agrees: by_kernel,
        summary: format!(
            "{} of {} arrived damaged ({}) and {} must drop them: what was sent again {} was damaged as well, until {} gave \
             up.",
            count(bad.count.into(), "segment"),
            view.who(sender),
            if by_kernel { "dropped for TCP_CSUM" } else { "wrong TCP checksum" },
            view.who(sender.other()),
            count(stuck.attempts.into(), "time"),
            view.role(sender),
        ),
        advice:
            "Something on the way, or the receiving network card, changes payload without correcting the checksum: \
                 look at offload settings and drivers (ethtool -K rx off), at devices that rewrite payload, at memory \
                 errors. A capture one hop nearer to the sender shows on which side they are still sound."
                .into(),
        decisive: "two or more segments with a wrong checksum".into(),
        ..Judgement::new(Basis::Wire(BASE))
    })
}

#[cfg(test)]
mod tests {
    use crate::derive::anomalies;
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::history::{End, History, PayloadSide};

    /// S46: from the fourth data segment on the payload is damaged.
    fn damaged(d: &mut Dialogue, bad: u32) -> History {
        d.handshake().exchange(Client, 100).exchange(Client, 100).exchange(Client, 100);
        let at = d.snd_nxt(Client);
        d.send_lost(Client, data(100));
        for gap in [210, 420, 840, 1_660, 3_300] {
            d.wait_ms(gap).send_lost(Client, data(100).seq(at));
        }
        let mut h = d.open(End::Silent);
        let side = &mut h.payload.side[d.direction(Client).index()];
        *side = PayloadSide { checksum_good: 3, checksum_bad: bad, ..PayloadSide::default() };
        anomalies(&mut h);
        h
    }

    #[test]
    fn damaged_retransmissions_are_corruption() {
        everywhere(|d| {
            let v = diagnose(&damaged(d, 6));
            expect(&v, "segment_corruption", None, "network");
            assert_eq!((v.confidence, v.mechanism.name()), (85, "timeout_no_rst"));
            assert!(v.summary.contains("6 segments"), "{}", v.summary);
        });
    }

    /// Anywhere but at the receiver the segments are sound.
    #[test]
    fn elsewhere_it_looks_like_a_black_hole() {
        everywhere(|d| {
            let v = diagnose(&damaged(d, 0));
            expect(&v, "path_blackhole", None, "network");
        });
    }

    #[test]
    fn the_receivers_kernel_says_it_live() {
        everywhere(|d| {
            let mut h = damaged(d, 0);
            h.kernel.push(d.fact("kfree_skb", Server, "TCP_CSUM", true, 0));
            anomalies(&mut h);
            let v = diagnose(&h);
            expect(&v, "segment_corruption", None, "network");
            assert_eq!(v.confidence, 95);
        });
    }

    #[test]
    fn one_damaged_segment_proves_nothing() {
        everywhere(|d| assert_eq!(diagnose(&damaged(d, 1)).cause, "path_blackhole"));
    }
}
