//! The ends, or a device between them, disagree about window scaling (DIAGNOSIS 3.5 cause 4).

use crate::diagnose::desync::further_classes;
use crate::diagnose::view::View;
use crate::diagnose::words::{bytes, count, duration};
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use crate::finding::Considered;
use monitor_common::Anomaly;
use monitor_common::seq::SeqNum;
use monitor_common::tracker::state::{half, kind};

pub const CAUSE: Cause = Cause { name: "window_scale_fault", judge };

const BASE: u8 = 75;
/// The data trickles: the connection lives with the wrong scale.
const BY_TRICKLE: u8 = 85;

fn judge(view: &View) -> Option<Judgement> {
    let Some(d) = &view.desync else { return tracked_unscaled(view) };
    let receiver = d.data.other();
    let (me, peer, said) = (view.half(receiver), view.half(d.data), view.history.reach(receiver));
    // The receiver's first window equals its SYN's although both should differ by the shift, and data ran beyond it.
    let unscaled = view.history.seen(Anomaly::WindowUnscaledSuspect).any(|s| s.speaker == receiver);
    let collapsed = d.kind == kind::WSCALE && me.has(half::COLLAPSED);
    let took_back = d.kind == kind::WSCALE && !collapsed;
    let overran = unscaled && matches!(d.kind, kind::OVERRUN | kind::SHRINK);
    if !collapsed && !overran && !took_back {
        return None;
    }
    // A stripped option is missing from one SYN; an altered one is there on both. Seen from beyond the device, the
    // option is there and the end does not scale.
    let both = me.has(half::WSCALE) && peer.has(half::WSCALE);
    let variant = if both && collapsed { "altered" } else { "stripped" };
    let shift = if both { me.wscale } else { 0 };
    Some(Judgement {
        variant: Some(variant),
        culprit: Culprit::Middlebox,
        by_window: true,
        further_classes: further_classes(view.history, d),
        summary: if collapsed {
            format!(
                "The ends disagree about window scaling: {} offered {} bytes in its SYN, and its next window, {}<<{shift} as \
                 the options seen here say, cannot follow that; {}.",
                view.who(receiver),
                said.syn_wnd,
                said.first_wnd,
                view.ending(d),
            )
        } else {
            format!(
                "The ends disagree about window scaling: the windows of {} start at the {} of its SYN and are not scaled, \
                 although the options seen here say <<{shift}; {} was free to send far more than there was room for; {}.",
                view.who(receiver),
                said.syn_wnd,
                view.who(d.data),
                view.ending(d),
            )
        },
        advice: "Look for a device that removes or changes the window-scale option of SYNs (option clearing, TCP \
                 normaliser, an old firewall), or a path on which the SYN took another way than the data. Compare the \
                 SYN and SYN-ACK options at both ends."
            .into(),
        decisive: "a first window far below that of the SYN".into(),
        ..Judgement::new(Basis::Wire(if view.history.any(Anomaly::TinySegmentStall) { BY_TRICKLE } else { BASE }))
    })
}

/// A device on the way tracks the window without its scale: what ends within the bare window field passes, nothing
/// beyond. Both ends are in order.
fn tracked_unscaled(view: &View) -> Option<Judgement> {
    let stuck = view.held_up()?;
    let sender = stuck.sender;
    let receiver = sender.other();
    let seen = view.history.seen(Anomaly::WindowDependentLoss).find(|s| s.speaker == sender)?;
    let by_size = view.history.seen(Anomaly::SizeDependentLoss).any(|s| s.speaker == sender);
    if by_size {
        return Some(Judgement::near(
            60,
            "small writes that end beyond the unscaled window and vanish too: here every segment that vanished was also \
             larger than any that arrived",
        ));
    }
    // A path that died altogether looks the same, unless something passed beside what vanished.
    let passed_beside = view.half(receiver).ack_ns >= view.half(sender).data_ns || view.alive_beside(&stuck);
    if !passed_beside {
        return Some(Judgement::near(
            45,
            "something that passes while what lies beyond the unscaled window vanishes: here nothing was heard any more",
        ));
    }
    let (edge, end) = (SeqNum(seen.expected), SeqNum(seen.actual));
    let peer = view.half(receiver);
    Some(Judgement {
        variant: Some("tracked_unscaled"),
        culprit: Culprit::Middlebox,
        by_window: true,
        kernel_agrees: view.timed_out().is_some_and(|f| f.local == sender),
        summary: format!(
            "A device between the ends drops what lies beyond the unscaled window: all that arrived at {} ended within its \
             window field of {}, taken without its scale of {}; what {} sent up to {}, {} beyond that, never arrived ({} \
             over {}).",
            view.who(receiver),
            peer.wnd,
            peer.wscale,
            view.who(sender),
            view.number(sender, end),
            bytes(u64::from(end.distance(edge).unsigned_abs())),
            count(stuck.attempts.into(), "retransmission"),
            duration(stuck.last_try_ns.saturating_sub(stuck.since_ns)),
        ),
        advice:
            "Look for a firewall or load balancer that tracks TCP windows and did not see the SYNs, or whose scale \
                 handling is broken (window tracking, `tcp_be_liberal`), and for paths on which the SYN bypassed it."
                .into(),
        decisive: "data beyond the unscaled window that never arrives".into(),
        rivals: vec![Considered {
            cause: "path_blackhole".into(),
            confidence: 40,
            why_not: "a path that died exactly when data went beyond the unscaled window looks the same".into(),
        }],
        ..Judgement::new(Basis::Wire(BASE))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::history::End;

    /// S42: a window field of 79 with shift 7. Of ten small writes the three that end within 79 pass.
    #[test]
    fn what_ends_beyond_the_unscaled_window_never_arrives() {
        everywhere(|d| {
            d.handshake().send(Client, data(1)).send(Server, ack().wnd(79));
            let una = d.snd_nxt(Client);
            for n in 0..10 {
                if n < 3 {
                    d.send(Client, data(20));
                } else {
                    d.send_lost(Client, data(20));
                }
            }
            d.send(Server, ack().wnd(79));
            for gap in [210, 420, 840, 1_660, 3_300] {
                d.wait_ms(gap).send_lost(Client, data(140).seq(una + 60));
            }
            let v = diagnose(&d.open(End::Silent));
            expect(&v, "window_scale_fault", Some("tracked_unscaled"), "middlebox");
            assert_eq!((v.confidence, v.mechanism.name()), (75, "timeout_no_rst"));
            assert!(v.summary.contains("61 bytes beyond"), "{}", v.summary);
        });
    }

    /// S15: a path that died. That the request was larger than the bare window field means nothing when nothing passes.
    #[test]
    fn a_dead_path_is_not_a_device_that_tracks_windows() {
        everywhere(|d| {
            d.handshake().exchange(Client, 1000).exchange(Server, 1000).wait_ms(100);
            let at = d.snd_nxt(Client);
            d.send_lost(Client, data(1000));
            for gap in [210, 420, 840, 1_660, 3_300] {
                d.wait_ms(gap).send_lost(Client, data(1000).seq(at));
            }
            expect(&diagnose(&d.open(End::Silent)), "path_blackhole", None, "network");
            d.wait_ms(9_000).send(Server, data(1000).acking(at)).send(Client, reply(at));
            expect(&d.verdict(), "path_blackhole", None, "network");
        });
    }

    /// In bulk the segments are also the largest, so it ties with the path's MTU.
    #[test]
    fn bulk_beyond_the_unscaled_window_ties_with_the_mtu() {
        everywhere(|d| {
            d.handshake().send(Client, data(10)).send(Server, ack().wnd(502));
            let una = d.snd_nxt(Client);
            for _ in 0..4 {
                d.send_lost(Client, data(1448));
            }
            for gap in [210, 420, 840, 1_660, 3_300] {
                d.wait_ms(gap).send_lost(Client, data(1448).seq(una));
            }
            let v = diagnose(&d.open(End::Silent));
            assert_eq!(v.cause, "pmtu_blackhole", "{v:#?}");
            assert!(v.also_considered.iter().any(|c| c.cause == "window_scale_fault"), "{v:#?}");
        });
    }

    /// S41: the shift 10 became 2; the connection lives with it and closes in order.
    #[test]
    fn a_connection_that_lives_with_an_altered_scale_is_degraded() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, syn_ack().wscale(2)).send(Client, ack());
            for _ in 0..300 {
                d.send(Client, data(252)).send(Server, ack().wnd(63)).wait_ms(210);
            }
            d.send(Client, fin()).send(Server, fin()).send(Client, ack());
            let v = d.verdict();
            expect(&v, "window_scale_fault", Some("altered"), "middlebox");
            assert_eq!((v.confidence, v.mechanism.name()), (85, "none"));
        });
    }

    /// S40 from the client's side: the option is gone from the SYN-ACK, so the server's scaled windows look tiny.
    #[test]
    fn a_stripped_option_makes_the_window_collapse() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, syn_ack().no_wscale()).send(Client, ack());
            d.send(Client, data(1448)).send(Server, ack().wnd(79));
            for _ in 0..20 {
                d.wait_ms(200).send(Client, data(79)).send(Server, ack().wnd(79));
            }
            d.send(Client, data(79)).send(Client, abort());
            let v = d.verdict();
            expect(&v, "window_scale_fault", Some("stripped"), "middlebox");
        });
    }

    /// Nothing is outstanding: the application may have had enough of a slow connection, or of a finished one.
    #[test]
    fn with_everything_acknowledged_the_reset_is_explained_otherwise() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, syn_ack().no_wscale()).send(Client, ack());
            d.send(Client, data(1448)).send(Server, ack().wnd(79)).exchange(Server, 10).send(Client, abort());
            assert_eq!(d.verdict().desync, None);
        });
    }
}
