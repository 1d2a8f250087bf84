//! An application closed, or was killed, with data waiting for it (DIAGNOSIS 3.5 cause 25, RFC 2525 section 2.17).

use crate::diagnose::shape::Shape;
use crate::diagnose::view::View;
use crate::diagnose::words::{bytes, duration};
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::tracker::SECOND;

pub const CAUSE: Cause = Cause { name: "close_with_unread_data", judge };

/// The wire alone cannot separate it from `abortive_close`.
pub const BY_WIRE: u8 = 60;
/// A form that Linux does not give to its resets.
pub const BY_ODD_SHAPE: u8 = 45;
const BY_KERNEL: u8 = 97;
pub const REASON: &str = "TCP_ABORT_ON_CLOSE";
/// Mechanism is not cause (DIAGNOSIS, decision 1).
pub const MECHANISM_ONLY: &str = "the ends had stopped agreeing before: an application that gives up is how this reset came \
                                  about, not why";
/// Data older than this was probably read ("within seconds", DIAGNOSIS 3.5).
const RECENT_NS: u64 = 10 * SECOND;

/// What the reset's sender had received and not answered, if it is plausible that it was never read.
fn unread(view: &View, sender: monitor_common::Direction) -> bool {
    let peer = sender.other();
    let recent = view.last_data_ns(peer).is_some_and(|t| view.history.time_ns.saturating_sub(t) <= RECENT_NS);
    view.last_data_from() == Some(peer) && recent && view.received_all(peer)
}

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.abort()?;
    let sender = reset.sender;
    let by_kernel = view.reason_is(&[REASON]);
    if view.desync.is_some() {
        return Some(Judgement::near(20, MECHANISM_ONLY));
    }
    if view.reason_is_not(&[REASON]) {
        return Some(Judgement::near(5, "the sender's kernel gives another reason"));
    }
    if view.bytes(sender.other()) == 0 && !by_kernel {
        return None;
    }
    let base = if reset.shape == Shape::Active { BY_WIRE } else { BY_ODD_SHAPE };
    if !by_kernel && !unread(view, sender) {
        return Some(Judgement::near(
            base,
            format!(
                "data for the {} that it had not answered when it reset the connection; or its kernel's reason {REASON}",
                view.role(sender)
            ),
        ));
    }
    let amount = match view.unread_at_most(sender) {
        Some(n) if n > 0 => format!("up to {}", bytes(n.into())),
        _ => "some bytes".to_string(),
    };
    let wait = view
        .last_data_ns(sender.other())
        .map(|t| format!(", the last of it {} earlier", duration(reset.record.time_ns.saturating_sub(t))))
        .unwrap_or_default();
    let proof = if by_kernel {
        format!("The kernel says {REASON}.")
    } else {
        format!(
            "The packets alone cannot exclude a deliberate abort: the kernel's reason ({REASON}) on that host would decide."
        )
    };
    Some(Judgement {
        culprit: Culprit::End(sender),
        summary: format!(
            "{}{} closed, or was killed, with {amount} of what {} had sent still unread{wait}; the kernel must then reset \
             instead of closing in order (RFC 2525 section 2.17). {proof}",
            view.application(sender),
            view.process(),
            view.who(sender.other()),
        ),
        advice: format!(
            "Does the {}'s application read to the end before it closes? Look for an early error answer, a request larger \
             than its limit, a crash or a kill at that time. Sequence numbers and windows are in order.",
            view.role(sender)
        ),
        decisive: format!("the kernel's reason {REASON} on the {}", view.role(sender)),
        ..Judgement::new(if by_kernel { Basis::Kernel(BY_KERNEL) } else { Basis::Wire(base) })
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::diagnose::shape::Mechanism;

    /// S02, S23: a request arrives, the server reads none or part of it, answers nothing and closes.
    fn unread(d: &mut Dialogue) {
        d.handshake().exchange(Client, 1000).wait_ms(50).send(Server, abort());
    }

    #[test]
    fn a_close_with_a_request_unanswered_is_unread_data_and_no_desync() {
        everywhere(|d| {
            unread(d);
            let v = d.verdict();
            expect(&v, "close_with_unread_data", None, "server");
            assert_eq!((v.confidence, v.mechanism), (60, Mechanism::ActiveAbort));
            assert_eq!(v.desync, None);
            assert!(v.summary.contains("up to 1000 bytes"), "{}", v.summary);
            assert!(v.also_considered.iter().any(|c| c.cause == "abortive_close" && c.confidence == 60), "{v:#?}");
        });
    }

    #[test]
    fn the_kernels_reason_makes_it_certain() {
        everywhere(|d| {
            unread(d);
            let v = d.verdict_with_reason(Server, "TCP_ABORT_ON_CLOSE", false, 7);
            expect(&v, "close_with_unread_data", None, "server");
            assert_eq!((v.confidence, v.band), (97, "certain"));
            assert!(v.summary.contains("process 4242, app"), "{}", v.summary);
        });
    }

    /// Only this kernel's word can tell: the last data is the sender's own.
    #[test]
    fn the_kernels_reason_wins_over_who_spoke_last() {
        everywhere(|d| {
            d.handshake().exchange(Client, 1000).exchange(Server, 200).send(Server, abort());
            assert_eq!(d.verdict().cause, "abortive_close");
            let v = d.verdict_with_reason(Server, "TCP_ABORT_ON_CLOSE", false, 7);
            assert_eq!(v.cause, "close_with_unread_data");
        });
    }

    /// The data's acknowledgement is the reset itself.
    #[test]
    fn data_that_only_the_reset_acknowledges_counts() {
        everywhere(|d| {
            d.handshake().send(Client, data(1000)).send(Server, abort());
            assert_eq!(d.verdict().cause, "close_with_unread_data");
        });
    }

    /// Loss and reordering beside it change nothing.
    #[test]
    fn soft_anomalies_beside_it_are_no_desync() {
        everywhere(|d| {
            d.handshake().exchange(Client, 1000).exchange(Server, 500);
            let at = d.snd_nxt(Client);
            d.send_lost(Client, data(1000)).send(Client, data(1000));
            for _ in 0..4 {
                d.send(Server, ack().acking(at).sack(at + 1000, at + 2000));
            }
            d.wait_ms(300).send(Client, data(1000).seq(at)).send(Server, ack().acking(at + 2000));
            d.wait_ms(2_500).send(Server, abort().acking(at + 2000));
            let v = d.verdict();
            expect(&v, "close_with_unread_data", None, "server");
            assert_eq!(v.desync, None);
        });
    }

    #[test]
    fn seen_from_mid_stream_the_verdict_stands_with_less_confidence() {
        everywhere(|d| {
            d.handshake().exchange(Client, 1000).exchange(Server, 1000).observe_from_here();
            d.exchange(Client, 700).send(Server, abort());
            let v = d.verdict();
            expect(&v, "close_with_unread_data", None, "server");
            assert_eq!(v.confidence, 45);
            assert!(v.summary.contains("handshake was not seen"), "{}", v.summary);
        });
    }
}
