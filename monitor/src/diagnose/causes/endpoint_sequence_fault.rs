//! An end's own TCP lost its place: the class of the original case, Microsoft Q189080 (DIAGNOSIS 3.5 cause 6).

use crate::diagnose::desync::{DesyncView, further_classes, rexmit_above};
use crate::diagnose::view::View;
use crate::diagnose::words::{bytes, count, duration};
use crate::diagnose::{Basis, Cause, Culprit, Judgement, SHARED_BLAME};
use crate::finding::Considered;
use monitor_common::Anomaly;
use monitor_common::tracker::state::kind;

pub const CAUSE: Cause = Cause { name: "endpoint_sequence_fault", judge };

const BASE: u8 = 60;
const ADVICE: &str = "Check that host's TCP: operating system and driver updates, offload engines (TOE, TSO, LRO; \
                      try with offloads off), firmware of appliances. The same fault with this host over another \
                      path would prove it; a capture at the other end of the path would show whether the network \
                      is innocent.";

fn judge(view: &View) -> Option<Judgement> {
    let Some(d) = &view.desync else { return close_call(view) };
    match d.kind {
        kind::GAP => Some(gap_never_sent(view, d)),
        kind::OFFSET | kind::ACK_UNSENT_ERRATIC => Some(acks_unsent(view, d)),
        kind::OFFSET_UPSTREAM if !rexmit_above(view.history, d.data) => Some(seq_regress(view, d)),
        _ => None,
    }
}

/// A hole that stood open at the reset without all that the verdict needs.
fn close_call(view: &View) -> Option<Judgement> {
    let reset = view.effective()?;
    let (data, hole) = [reset.sender, reset.sender.other()].into_iter().find_map(|d| view.hole(d).map(|h| (d, h)))?;
    let age = view.history.time_ns.saturating_sub(hole.since_ns);
    let missing = if hole.rexmit_lo > 0 {
        format!("the hole in the {}'s stream was being retransmitted, so it was loss", view.role(data))
    } else if !hole.persistent {
        format!(
            "the {}'s stream had a hole of {} for only {} and {} asked for it; more than a second and 3 are needed",
            view.role(data),
            bytes(hole.hi.distance(hole.lo).max(0) as u64),
            duration(age),
            count(hole.dup_acks.into(), "duplicate acknowledgement"),
        )
    } else {
        format!(
            "the {} would have to go on sending beyond its hole of {} without ever filling it",
            view.role(data),
            bytes(hole.hi.distance(hole.lo).max(0) as u64)
        )
    };
    Some(Judgement::near(20, missing))
}

fn gap_never_sent(view: &View, d: &DesyncView) -> Judgement {
    let hole = view.hole(d.data);
    let (later, dup_acks) = hole.map_or((0, 0), |h| (h.later, h.dup_acks));
    let n = bytes(d.distance.max(0) as u64);
    // The observer sits at one of the ends, as that end's kernel spoke: no hop between it and that end's stack.
    let cap = if view.local_end().is_some() { None } else { Some(SHARED_BLAME) };
    Judgement {
        variant: Some("gap_never_sent"),
        culprit: Culprit::End(d.data),
        culprit_cap: cap,
        further_classes: further_classes(view.history, d),
        summary: format!(
            "{} lost its place in its own sequence: it skipped {n} at {} and never sent them, but sent {} beyond. \
             {} asked {dup_acks} times for the missing bytes and could accept nothing more; {}.",
            view.who_first(d.data),
            view.number(d.data, d.expected),
            count(later.into(), "segment"),
            view.who_first(d.data.other()),
            view.ending(d),
        ),
        advice: ADVICE.into(),
        decisive: "the hole would have to be filled by no retransmission".into(),
        rivals: vec![Considered {
            cause: "path_blackhole".into(),
            confidence: 20,
            why_not: "a path that swallows exactly these bytes and their retransmissions, but nothing after them, \
                      looks the same from behind it"
                .into(),
        }],
        ..Judgement::new(Basis::Wire(BASE))
    }
}

fn acks_unsent(view: &View, d: &DesyncView) -> Judgement {
    let fault = view.fault(d.data);
    let receiver = d.data.other();
    let distance = match (d.kind, fault.shift_lo == fault.shift_hi) {
        (kind::ACK_UNSENT_ERRATIC, _) => "by changing amounts".to_string(),
        (_, true) => format!("by {}", bytes(fault.shift_lo.into())),
        _ => format!("by {} to {}", fault.shift_lo, bytes(fault.shift_hi.into())),
    };
    Judgement {
        variant: Some("acks_unsent"),
        // The numbers that come back are wrong; whose they are on the far side cannot be seen from here.
        culprit: Culprit::NetworkOrPeer,
        further_classes: further_classes(view.history, d),
        summary: format!(
            "{} acknowledges {} what {} sent, {} confirmed; each end rejects what the other says, and {}.",
            view.who_first(receiver),
            format_args!("{distance} more than"),
            view.who(d.data),
            count(fault.ack_unsent_hits.into(), "time"),
            view.ending(d),
        ),
        advice: format!(
            "Capture at the {} too: if its acknowledgements are right there, a device between shifts them or has \
             changed the length of the data (ALG, proxy, DPI tagging). {ADVICE}",
            view.role(receiver)
        ),
        decisive: "a shift of less than 64 KiB and no DSACK at a constant distance".into(),
        rivals: acks_unsent_rivals(view, d),
        ..Judgement::new(Basis::Wire(BASE))
    }
}

fn acks_unsent_rivals(view: &View, d: &DesyncView) -> Vec<Considered> {
    let mut rivals = vec![Considered {
        cause: "payload_rewrite_fault".into(),
        confidence: 45,
        why_not:
            "a DSACK of data sent once, or the same number of bytes too many at a second observer beyond the device, \
                  would show that payload was lengthened"
                .into(),
    }];
    // Each direction with an offset of its own is the picture of Joncheray's attack.
    if view.fault(d.data.other()).shift_hits > 0 {
        rivals.push(Considered {
            cause: "data_injection_desync".into(),
            confidence: 50,
            why_not:
                "both directions are off, each by its own amount; the packets that carried the inserted bytes would \
                      have to be seen, with another TTL, IP-ID or source MAC"
                    .into(),
        });
    }
    rivals
}

fn seq_regress(view: &View, d: &DesyncView) -> Judgement {
    let foreign = view.history.any(Anomaly::TtlShift) || view.history.any(Anomaly::IpidBreak);
    Judgement {
        variant: Some("seq_regress"),
        culprit: Culprit::End(d.data),
        culprit_cap: Some(SHARED_BLAME),
        further_classes: further_classes(view.history, d),
        contradictions: if foreign {
            vec!["packets in this end's name came with another TTL or IP-ID series".into()]
        } else {
            Vec::new()
        },
        summary: format!(
            "{} disowns {} that were seen sent in its name: its own acknowledgements go on at {} instead of {}; {}.",
            view.who_first(d.data),
            bytes(d.distance.unsigned_abs()),
            view.short(d.data, d.actual),
            view.number(d.data, d.expected),
            view.ending(d),
        ),
        advice: ADVICE.into(),
        decisive: "the disowned bytes would have to come from this end itself".into(),
        rivals: vec![Considered {
            cause: "data_injection_desync".into(),
            confidence: if foreign { 60 } else { 40 },
            why_not: "the packet that carried the disowned bytes would have to differ in TTL, IP-ID or source MAC \
                      from the rest"
                .into(),
        }],
        ..Judgement::new(Basis::Wire(BASE))
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::tracker::SECOND;
    use monitor_common::tracker::state::kind;

    const SEGMENT: u32 = 1448;
    const HOLE: u32 = 3000;

    /// `who` sends some segments in order, skips [`HOLE`] bytes and sends a dozen more; returns where the hole begins.
    fn skip_bytes(d: &mut Dialogue, who: Who) -> u32 {
        d.handshake();
        d.exchange(Client, 100).exchange(Server, 100);
        for _ in 0..30 {
            d.exchange(who, SEGMENT);
        }
        let lo = d.snd_nxt(who);
        d.skip(who, HOLE);
        for _ in 0..12 {
            d.send(who, data(SEGMENT));
            complain(d, who, lo);
        }
        lo
    }

    /// The receiver repeats its acknowledgement and reports what lies beyond the hole.
    fn complain(d: &mut Dialogue, who: Who, lo: u32) {
        let right = d.snd_nxt(who);
        d.send(who.other(), ack().acking(lo).sack(lo + HOLE, right));
    }

    /// For `rounds` times 400 ms: repeats something above the hole, sends something new.
    fn stay_stuck(d: &mut Dialogue, who: Who, lo: u32, rounds: u32) {
        for round in 0..rounds {
            d.wait_ms(400);
            d.send(who, data(SEGMENT).seq(lo + HOLE + (round + 1) * SEGMENT));
            complain(d, who, lo);
            d.send(who, data(SEGMENT));
            complain(d, who, lo);
        }
    }

    #[test]
    fn bytes_skipped_in_a_bulk_transfer_are_the_senders_fault() {
        for who in [Client, Server] {
            everywhere(|d| {
                let lo = skip_bytes(d, who);
                let since = d.now_ns();
                stay_stuck(d, who, lo, 11);
                d.send(who, abort());
                let v = d.verdict();
                let role = if who == Client { "client" } else { "server" };
                expect(&v, "endpoint_sequence_fault", Some("gap_never_sent"), role);
                assert!(v.confidence >= 55 && v.culprit_confidence <= 60, "{v:#?}");
                let desync = v.desync.unwrap();
                assert_eq!((desync.kind, desync.distance), (kind::GAP, 3000));
                assert_eq!(desync.data, d.direction(who));
                assert_eq!(desync.expected.0, d.absolute(who, lo));
                assert_eq!(desync.actual.0, d.absolute(who, lo + HOLE));
                assert!(desync.first_ns < since && d.now_ns() - desync.first_ns > 4 * SECOND);
                assert!(v.summary.contains("3000 bytes"), "{}", v.summary);
                assert!(v.summary.contains(&format!("relative sequence number {lo} ")), "{}", v.summary);
            });
        }
    }

    /// The receiver's kernel spoke, so the observer sits at its host: the verdict is the same, the blame surer.
    #[test]
    fn the_receivers_kernel_makes_the_blame_surer_and_changes_nothing_else() {
        everywhere(|d| {
            let lo = skip_bytes(d, Client);
            stay_stuck(d, Client, lo, 11);
            d.send(Client, abort());
            let mut history = d.history();
            let without = diagnose(&history);
            history.kernel.push(d.fact("tcp_receive_reset", Server, "none", false, 1));
            let with = diagnose(&history);
            assert_eq!((with.cause, with.variant, with.culprit), (without.cause, without.variant, without.culprit));
            assert_eq!(with.confidence, without.confidence);
            assert!(with.culprit_confidence >= without.culprit_confidence);
            assert_eq!(with.desync, without.desync);
        });
    }

    /// S47: the sender gives up before its next word lets the tracker look at the hole again.
    #[test]
    fn a_hole_is_judged_at_the_reset_when_its_sender_was_silent_meanwhile() {
        everywhere(|d| {
            skip_bytes(d, Client);
            d.wait_ms(1_500);
            d.send(Client, abort());
            let v = d.verdict();
            expect(&v, "endpoint_sequence_fault", Some("gap_never_sent"), "client");
            assert_eq!(v.desync.unwrap().distance, 3000);
        });
    }

    /// The same hole ended by the receiver: without a word of the sender it may be loss before the observer.
    #[test]
    fn a_hole_with_a_silent_sender_is_not_blamed_on_it() {
        everywhere(|d| {
            skip_bytes(d, Client);
            d.wait_ms(1_500);
            d.send(Server, abort());
            let v = d.verdict();
            assert_eq!(v.desync, None, "{v:#?}");
            assert_ne!(v.cause, "endpoint_sequence_fault");
            assert!(v.also_considered.iter().any(|c| c.cause == "endpoint_sequence_fault"), "{v:#?}");
        });
    }

    #[test]
    fn a_hole_that_is_retransmitted_is_loss() {
        everywhere(|d| {
            let lo = skip_bytes(d, Client);
            for _ in 0..4 {
                d.wait_ms(500);
                d.send_lost(Client, data(1000).seq(lo));
            }
            d.send(Client, abort());
            let v = d.verdict();
            assert_eq!(v.desync, None, "{v:#?}");
            assert_ne!(v.cause, "endpoint_sequence_fault");
        });
    }

    #[test]
    fn a_hole_of_a_moment_is_no_desync() {
        everywhere(|d| {
            skip_bytes(d, Client);
            d.wait_ms(200);
            d.send(Client, abort());
            let v = d.verdict();
            assert_eq!(v.desync, None);
            assert_eq!(v.cause, "abortive_close", "{v:#?}");
        });
    }

    #[test]
    fn a_hole_that_the_receiver_gets_past_was_only_missed_here() {
        everywhere(|d| {
            let lo = skip_bytes(d, Client);
            let all = d.snd_nxt(Client);
            stay_stuck(d, Client, lo, 6);
            let all = all.max(d.snd_nxt(Client));
            d.send(Server, ack().acking(all)).exchange(Client, 100);
            d.send(Server, ack().acking(d.snd_nxt(Client))).send(Client, abort());
            assert_eq!(d.verdict().desync, None);
        });
    }

    #[test]
    fn a_connection_stuck_at_a_gap_without_a_reset_is_degraded() {
        everywhere(|d| {
            let lo = skip_bytes(d, Client);
            stay_stuck(d, Client, lo, 11);
            let v = diagnose(&d.open(End::Silent));
            expect(&v, "endpoint_sequence_fault", Some("gap_never_sent"), "client");
            assert_eq!(v.mechanism.name(), "timeout_no_rst");
        });
    }

    /// S48: a receiver that acknowledges 4096 bytes more than it got.
    #[test]
    fn acknowledgements_of_bytes_never_sent_blame_network_or_peer() {
        everywhere(|d| {
            d.handshake().exchange(Client, 100);
            for _ in 0..20 {
                d.exchange(Client, SEGMENT);
            }
            for _ in 0..8 {
                d.wait_ms(400);
                let next = d.snd_nxt(Client);
                d.send(Server, ack().acking(next + 4096));
                d.wait_ms(10);
                d.send(Client, ack());
                d.send_lost(Client, data(SEGMENT).seq(next - SEGMENT));
            }
            let next = d.snd_nxt(Client);
            d.send_lost(Client, data(SEGMENT));
            d.send(Server, ack().acking(next + 4096)).wait_ms(10);
            d.send(Client, ack()).wait_ms(2_000);
            d.send(Server, abort());
            let v = d.verdict();
            expect(&v, "endpoint_sequence_fault", Some("acks_unsent"), "network_or_peer");
            assert!(v.culprit_confidence <= 60);
            assert_eq!(v.desync.unwrap().kind, kind::OFFSET);
            assert!(v.also_considered.iter().any(|c| c.cause == "payload_rewrite_fault"), "{v:#?}");
        });
    }
    /// S43: 100 bytes were inserted into each direction; each end acknowledges what the other never sent.
    #[test]
    fn both_directions_off_makes_an_injection_a_hypothesis() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            let (c, s) = (d.snd_nxt(Client), d.snd_nxt(Server));
            d.send_lost(Client, data(60)).send_lost(Server, data(60));
            for _ in 0..6 {
                d.wait_ms(700).send(Server, ack().seq(s + 60).acking(c + 160)).wait_ms(20);
                d.send(Client, ack().seq(c + 60).acking(s + 160)).wait_ms(20);
            }
            d.send(Server, ack().seq(s + 60).acking(c + 160));
            d.send(Server, abort().acking(c + 160));
            let v = d.verdict();
            expect(&v, "endpoint_sequence_fault", Some("acks_unsent"), "network_or_peer");
            assert_eq!(v.desync.unwrap().distance, 100);
            assert!(v.also_considered.iter().any(|c| c.cause == "data_injection_desync"), "{v:#?}");
        });
    }
}
