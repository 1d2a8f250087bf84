//! Keepalive probes were not answered (DIAGNOSIS 3.5 cause 18, RFC 9293 3.8.4).

use crate::diagnose::view::View;
use crate::diagnose::words::{count, duration};
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use crate::finding::Considered;

pub const CAUSE: Cause = Cause { name: "keepalive_timeout", judge };

const BASE: u8 = 80;
const BY_KERNEL: u8 = 95;
/// One unanswered probe is a lost packet.
const PROBES: u8 = 2;
const REASON: &str = "TCP_KEEPALIVE_TIMEOUT";

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.abort()?;
    let fault = view.fault(reset.sender);
    let peer = view.half(reset.sender.other());
    let by_kernel = view.reason_is(&[REASON]);
    // The tracker judges a probe when the next one comes; the last one is still open.
    let last_open = fault.probes > 0 && peer.last_ns < fault.probe_ns;
    let unanswered = fault.probes_unanswered.saturating_add(u8::from(last_open));
    if !by_kernel && fault.probes == 0 {
        return None;
    }
    if view.reason_is_not(&[REASON]) {
        return Some(Judgement::near(10, "the sender's kernel gives another reason"));
    }
    let by_wire = last_open && unanswered >= PROBES;
    if !by_kernel && !by_wire {
        return Some(Judgement::near(
            15,
            format!("only {} went unanswered, {PROBES} are needed", count(unanswered.into(), "probe")),
        ));
    }
    let silence = reset.record.time_ns.saturating_sub(peer.last_ns);
    Some(Judgement {
        culprit: Culprit::NetworkOrPeer,
        summary: format!(
            "{} sent {} without an answer and reset the connection; {} had been silent for {}.",
            view.who_first(reset.sender),
            count(u64::from(unanswered.max(1)), "keepalive probe"),
            view.who(reset.sender.other()),
            duration(silence),
        ),
        advice:
            "Is the other host alive and reachable? A device that forgets idle connections looks the same: compare \
                 the idle time with its time-outs and send keepalives more often than that."
                .into(),
        decisive: "keepalive probes that went unanswered".into(),
        rivals: vec![Considered {
            cause: "middlebox_idle_timeout".into(),
            confidence: 35,
            why_not: "whether the probes reached the other host was not seen".into(),
        }],
        ..Judgement::new(if by_kernel { Basis::Kernel(BY_KERNEL) } else { Basis::Wire(BASE) })
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;

    /// S14: two probes a second apart, and the reset a second later.
    fn unanswered(d: &mut Dialogue, probes: u32) {
        d.handshake().exchange(Client, 300).exchange(Server, 500);
        let below = d.snd_nxt(Client) - 1;
        for _ in 0..probes {
            d.wait_ms(1_000).send_lost(Client, ack().seq(below));
        }
        d.wait_ms(1_000).send(Client, abort());
    }

    #[test]
    fn two_unanswered_probes_and_a_reset_are_a_timeout() {
        everywhere(|d| {
            unanswered(d, 2);
            let v = d.verdict();
            expect(&v, "keepalive_timeout", None, "network_or_peer");
            assert_eq!((v.confidence, v.culprit_confidence), (80, 60));
            assert!(v.summary.contains("2 keepalive probes"), "{}", v.summary);
        });
    }

    #[test]
    fn the_kernels_reason_makes_it_certain() {
        everywhere(|d| {
            unanswered(d, 2);
            let v = d.verdict_with_reason(Client, "TCP_KEEPALIVE_TIMEOUT", false, 1);
            expect(&v, "keepalive_timeout", None, "network_or_peer");
            assert_eq!(v.confidence, 95);
        });
    }

    #[test]
    fn answered_probes_are_no_timeout() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            let below = d.snd_nxt(Client) - 1;
            for _ in 0..3 {
                d.wait_ms(1_000).send(Client, ack().seq(below)).send(Server, ack());
            }
            d.wait_ms(1_000).send(Client, abort());
            let v = d.verdict();
            assert_ne!(v.cause, "keepalive_timeout", "{v:#?}");
            assert_eq!(v.desync, None);
        });
    }
}
