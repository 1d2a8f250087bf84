//! Small segments pass, large ones vanish, and nobody says so (DIAGNOSIS 3.5 cause 16; RFC 2923 section 2.1).

use crate::diagnose::view::View;
use crate::diagnose::words::{bytes, count, duration};
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use crate::finding::Considered;
use monitor_common::Anomaly;
use monitor_common::tracker::SECOND;

pub const CAUSE: Cause = Cause { name: "pmtu_blackhole", judge };

const BASE: u8 = 75;
/// A hop said what fits, and the sender did not listen.
const BY_ICMP: u8 = 85;
/// The path carried the small ones a moment before, so it is not that it was down.
const JUST_NS: u64 = 5 * SECOND;

fn judge(view: &View) -> Option<Judgement> {
    let stuck = view.held_up()?;
    let sender = stuck.sender;
    let seen = view.history.seen(Anomaly::SizeDependentLoss).find(|s| s.speaker == sender)?;
    let (passed, lost) = (seen.expected, seen.actual);
    if view.desync.is_some() {
        return Some(Judgement::near(20, "the ends had stopped agreeing before the large segments"));
    }
    let receiver = view.half(sender.other());
    // The first large one followed the last small one that passed; hours later the path may have died in between.
    let since_ns = stuck.since_ns.saturating_sub(receiver.last_ns.min(receiver.ack_ns));
    let alive = view.alive_beside(&stuck);
    if since_ns > JUST_NS && !alive {
        return Some(Judgement::near(
            45,
            format!(
                "the last small segment passed {} before, so the path may have died in between",
                duration(since_ns)
            ),
        ));
    }
    let icmp = view.history.seen(Anomaly::IcmpFragNeeded).find(|s| s.speaker == sender);
    let silence = match icmp {
        Some(s) => format!("although ICMP named a hop of {} bytes", s.actual),
        None => "and no ICMP message says so".into(),
    };
    Some(Judgement {
        culprit: Culprit::Network,
        // The other end spoke meanwhile, so it is not the path as such.
        further_classes: u8::from(alive),
        kernel_agrees: view.timed_out().is_some_and(|f| f.local == sender),
        summary: format!(
            "Segments of {} with up to {} arrived, those with {} never did ({} over {}), {silence}: somewhere towards {} \
             the path carries less.",
            view.who(sender),
            bytes(passed.into()),
            bytes(lost.into()),
            count(stuck.attempts.into(), "retransmission"),
            duration(stuck.last_try_ns.saturating_sub(stuck.since_ns)),
            view.who(sender.other()),
        ),
        advice: format!(
            "Probe with `ping -M do -s {}` and smaller; look for a tunnel or VPN on the way, a filter that drops ICMP, a \
             missing MSS clamp. net.ipv4.tcp_mtu_probing=1 on the {} works around it.",
            lost.saturating_sub(28).max(500),
            view.role(sender)
        ),
        decisive: "large segments that vanish right after small ones that pass".into(),
        rivals: vec![Considered {
            cause: "path_blackhole".into(),
            confidence: 40,
            why_not: "a path that died just between the last small segment and the first large one looks the same; a \
                      small segment that still passes would exclude it"
                .into(),
        }],
        ..Judgement::new(Basis::Wire(if icmp.is_some() { BY_ICMP } else { BASE }))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::history::End;

    /// S45: what is larger than 1300 bytes is dropped.
    fn large_ones_vanish(d: &mut Dialogue, len: u32, pause_ms: u64) -> u32 {
        d.handshake().exchange(Client, 100).exchange(Server, 200).wait_ms(pause_ms);
        let at = d.snd_nxt(Client);
        for _ in 0..4 {
            d.send_lost(Client, data(len));
        }
        for gap in [210, 420, 840, 1_660, 3_300] {
            d.wait_ms(gap).send_lost(Client, data(len).seq(at));
        }
        at
    }

    #[test]
    fn large_segments_that_vanish_after_small_ones_are_too_large_for_the_path() {
        everywhere(|d| {
            large_ones_vanish(d, 1448, 10);
            let v = diagnose(&d.open(End::Silent));
            expect(&v, "pmtu_blackhole", None, "network");
            assert_eq!((v.confidence, v.mechanism.name()), (75, "timeout_no_rst"));
            assert!(v.summary.contains("up to 100 bytes") && v.summary.contains("with 1448 bytes"), "{}", v.summary);
            assert!(v.also_considered.iter().any(|c| c.cause == "path_blackhole"), "{v:#?}");
        });
    }

    #[test]
    fn the_late_answer_of_the_dead_socket_changes_nothing() {
        everywhere(|d| {
            let at = large_ones_vanish(d, 1448, 10);
            d.wait_ms(20_000).send(Server, data(40).acking(at)).send(Client, reply(at));
            expect(&d.verdict(), "pmtu_blackhole", None, "network");
        });
    }

    /// S45: the other end gives up first and closes; what comes late is refused.
    #[test]
    fn the_other_ends_close_and_refusal_change_nothing() {
        everywhere(|d| {
            let at = large_ones_vanish(d, 1448, 10);
            d.send(Server, fin().acking(at)).wait_ms(50).send_lost(Client, data(20));
            let s = d.snd_nxt(Server);
            d.send(Server, reply(s));
            let v = d.verdict();
            expect(&v, "pmtu_blackhole", None, "network");
            assert!(v.also_considered.iter().any(|c| c.cause == "data_after_close"), "{v:#?}");
        });
    }

    #[test]
    fn small_segments_that_vanish_are_a_dead_path() {
        everywhere(|d| {
            large_ones_vanish(d, 200, 10);
            expect(&diagnose(&d.open(End::Silent)), "path_blackhole", None, "network");
        });
    }

    #[test]
    fn long_after_the_last_small_one_the_path_may_have_died() {
        everywhere(|d| {
            large_ones_vanish(d, 1448, 60_000);
            let v = diagnose(&d.open(End::Silent));
            expect(&v, "path_blackhole", None, "network");
            assert!(v.also_considered.iter().any(|c| c.cause == "pmtu_blackhole"), "{v:#?}");
        });
    }

    #[test]
    fn one_lost_large_segment_is_loss() {
        everywhere(|d| {
            d.handshake().exchange(Client, 100);
            let at = d.snd_nxt(Client);
            d.send_lost(Client, data(1448)).wait_ms(250).send(Client, data(1448).seq(at)).send(Server, ack());
            d.exchange(Server, 300).send(Client, abort());
            assert_eq!(d.verdict().cause, "close_with_unread_data");
        });
    }
}
