//! An end no longer knows the connection: restart, crash, failover (DIAGNOSIS 3.5 cause 21, RFC 9293 3.5.1).

use crate::diagnose::view::View;
use crate::diagnose::words::{bytes, duration};
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use crate::finding::Considered;
use monitor_common::tracker::SECOND;
use monitor_common::tracker::state::{Phase, half};

pub const CAUSE: Cause = Cause { name: "peer_lost_state", judge };

const BASE: u8 = 70;
/// It never took part before our eyes.
const NEVER_HEARD: u8 = 55;
/// It took part a moment ago, so something else may have taken its state: a reset that was not seen here.
const JUST_HEARD: u8 = 60;
const JUST_NS: u64 = SECOND;
const JUST_HEARD_BLAME: u8 = 40;
/// A listener is back on the port and got a segment of a connection that it does not know.
const RESTARTED: u8 = 85;

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.reply()?;
    let (me, other) = (reset.sender, reset.sender.other());
    if view.half(me).has(half::FIN) || matches!(view.history.phase, Phase::SynSent | Phase::SynReceived) {
        return None;
    }
    if view.reason_is_not(&["NO_SOCKET", "TCP_FLAGS"]) {
        return Some(Judgement::near(10, "the sender's kernel gives another reason"));
    }
    if view.abort_before().is_some() {
        return Some(Judgement::near(40, "it had aborted the connection just before"));
    }
    let restarted = view.reason_is(&["TCP_FLAGS"]);
    let heard = view.half(me).has(half::ACKED);
    let trigger = reset.trigger?;
    let what = match trigger.payload_len {
        0 => "a segment without data".to_string(),
        n => format!("{} of data", bytes(n.into())),
    };
    let silence = view.last_heard_ns(me).map(|t| reset.record.time_ns.saturating_sub(t));
    let just_heard = silence.is_some_and(|ns| ns < JUST_NS) && view.reason().is_none();
    let last = match silence {
        Some(ns) if just_heard => format!(
            "It had taken part only {} before, so a reset that was not seen here may have reached it",
            duration(ns)
        ),
        Some(ns) => format!("It had last taken part {} earlier", duration(ns)),
        None => "It was not heard before".to_string(),
    };
    let listener = if restarted { "; a listener is back on its port, so the service was restarted" } else { "" };
    let mut rivals = vec![Considered {
        cause: "rst_injected".into(),
        confidence: 35,
        why_not: "a reset that the other end got from somebody else would leave it as ignorant; a capture on its side \
                  would show one"
            .into(),
    }];
    if trigger.payload_len > 0 && view.reason().is_none() {
        rivals.push(Considered {
            cause: "policy_reset".into(),
            confidence: 35,
            why_not: "a RST nearer than the other end (TTL, delay), or signs that the other end still lives".into(),
        });
    }
    let idle = view.idle_before_end_ns();
    if view.idled() && view.reason().is_none() {
        rivals.push(Considered {
            cause: "middlebox_idle_timeout".into(),
            confidence: 45,
            why_not: format!(
                "nothing moved for {} before: a RST that did not come from the end itself (TTL, delay) would show \
                              a device that forgot the connection",
                duration(idle)
            ),
        });
    }
    Some(Judgement {
        culprit: Culprit::End(me),
        culprit_cap: just_heard.then_some(JUST_HEARD_BLAME),
        kernel_agrees: view.reason_is(&["NO_SOCKET"]),
        summary: format!(
            "{} no longer knows this connection: it answered {what} from {} with a reset, without ever having closed. \
             {last}{listener}.",
            view.who_first(me),
            view.who(other),
        ),
        advice: format!(
            "Was the {} restarted, replaced or killed (uptime, container events, load-balancer backends)? If it was not, \
             something reset it unseen: look for an earlier reset on its side.",
            view.role(me)
        ),
        decisive: "an answer as from a host that never knew the connection".into(),
        rivals,
        ..Judgement::new(match (restarted, heard) {
            (true, _) => Basis::Kernel(RESTARTED),
            (_, true) if just_heard => Basis::Wire(JUST_HEARD),
            (_, true) => Basis::Wire(BASE),
            _ => Basis::Wire(NEVER_HEARD),
        })
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::diagnose::shape::Mechanism;

    /// S07: the server's socket vanished without a word.
    fn vanished(d: &mut Dialogue, idle_ms: u64) {
        d.handshake().exchange(Client, 300).exchange(Server, 500).wait_ms(idle_ms);
        let expected = d.snd_nxt(Server);
        d.send_lost(Client, data(100)).send(Server, reply(expected));
    }

    #[test]
    fn data_answered_as_by_a_stranger_means_the_state_is_gone() {
        everywhere(|d| {
            vanished(d, 2_000);
            let v = d.verdict();
            expect(&v, "peer_lost_state", None, "server");
            assert_eq!((v.confidence, v.mechanism), (70, Mechanism::ReplyToAck));
            assert!(v.summary.contains("100 bytes of data"), "{}", v.summary);
        });
    }

    /// The victim of a reset that was seen elsewhere answers at once as if it had never known the connection.
    #[test]
    fn an_end_that_spoke_a_moment_ago_was_perhaps_reset_unseen() {
        everywhere(|d| {
            vanished(d, 5);
            let v = d.verdict();
            expect(&v, "peer_lost_state", None, "server");
            assert_eq!((v.confidence, v.culprit_confidence), (60, 40));
            assert!(v.summary.contains("not seen here"), "{}", v.summary);
            assert_eq!(d.verdict_with_reason(Server, "NO_SOCKET", true, 0).confidence, 80);
        });
    }

    #[test]
    fn no_socket_agrees() {
        everywhere(|d| {
            vanished(d, 2_000);
            assert_eq!(d.verdict_with_reason(Server, "NO_SOCKET", true, 0).confidence, 80);
        });
    }

    /// S08: a listener is back.
    #[test]
    fn tcp_flags_means_a_restart() {
        everywhere(|d| {
            vanished(d, 2_000);
            let v = d.verdict_with_reason(Server, "TCP_FLAGS", true, 10);
            expect(&v, "peer_lost_state", None, "server");
            assert_eq!(v.confidence, 85);
            assert!(v.summary.contains("restarted"), "{}", v.summary);
        });
    }

    #[test]
    fn after_long_silence_a_forgetful_device_is_considered() {
        everywhere(|d| {
            vanished(d, 350_000);
            let v = d.verdict();
            assert_eq!(v.cause, "peer_lost_state");
            assert!(v.also_considered.iter().any(|c| c.cause == "middlebox_idle_timeout"), "{v:#?}");
        });
    }

    /// Nothing but one packet and its answer was seen.
    #[test]
    fn one_packet_and_its_answer_give_low_confidence() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).observe_from_here();
            let expected = d.snd_nxt(Server);
            d.send_lost(Client, data(100)).send(Server, reply(expected));
            let v = d.verdict();
            assert_eq!(v.cause, "peer_lost_state");
            assert_eq!(v.band, "low");
        });
    }
}
