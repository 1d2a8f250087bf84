//! An application or an administrator aborted the connection (DIAGNOSIS 3.5 cause 26, RFC 9293 3.9.1 ABORT).

use super::close_with_unread_data::{BY_ODD_SHAPE, BY_WIRE, MECHANISM_ONLY};
use crate::diagnose::shape::{self, Shape};
use crate::diagnose::view::View;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::tracker::state::half;

pub const CAUSE: Cause = Cause { name: "abortive_close", judge };

const BY_KERNEL: u8 = 95;
const REASONS: [&str; 3] = ["TCP_STATE", "TCP_ABORT_ON_LINGER", "TCP_DISCONNECT_WITH_DATA"];
/// `TCP_ESTABLISHED` of `include/net/tcp_states.h`: an application's own abort is traced in state CLOSE, one by
/// SOCK_DESTROY (`ss --kill`) while the socket is still established.
const ESTABLISHED: u8 = 1;

fn judge(view: &View) -> Option<Judgement> {
    let before = view.abort_before();
    let reset = view.abort().or(before.as_ref())?;
    let sender = reset.sender;
    if !view.half(sender).has(half::SEEN) {
        return None;
    }
    // What answers late segments of an aborted connection is a kernel without it.
    let told = |names: &[&str]| match &before {
        None => view.reason_is(names),
        Some(r) => shape::said(view.history, sender, &r.record).is_some_and(|f| names.contains(&f.reason.as_str())),
    };
    let by_kernel = told(&REASONS);
    if view.desync.is_some() {
        return Some(Judgement::near(20, MECHANISM_ONLY));
    }
    let else_told = match &before {
        None => view.reason_is_not(&REASONS),
        Some(_) => !by_kernel && view.reason_is_not(&["NO_SOCKET", "TCP_FLAGS"]),
    };
    if else_told {
        return Some(Judgement::near(5, "the sender's kernel gives another reason"));
    }
    let said = shape::said(view.history, sender, &reset.record);
    let state = said.map_or(0, |f| f.state);
    let plain = told(&["TCP_STATE"]);
    let server_side = !view.history.is_client(sender);
    // A child that was never accepted belongs to no application, so it never sent a byte. An accepted one whose
    // application read everything and said nothing looks the same; the text says so.
    let (variant, what) = if plain && state == ESTABLISHED {
        (Some("admin"), "an administrator or a supervisor killed the socket (SOCK_DESTROY, ss --kill)")
    } else if plain && server_side && view.bytes(sender) == 0 {
        (
            Some("listener"),
            "it never sent a byte: the listening socket was closed before the application accepted the \
                           connection, or the application aborted it unanswered",
        )
    } else if told(&["TCP_ABORT_ON_LINGER"]) {
        (None, "the socket was closed with TCP_LINGER2 negative, so it did not wait for the other end's FIN")
    } else if told(&["TCP_DISCONNECT_WITH_DATA"]) {
        (None, "the application disconnected the socket with data still to be sent")
    } else {
        (None, "SO_LINGER 0, a disconnect, or a socket killed from outside")
    };
    let proof = match said.filter(|_| by_kernel) {
        Some(fact) => format!("The kernel says {}.", fact.reason),
        None if before.is_some() => {
            "The reset of the abort did not fit what the other end expected; the one that ended the connection answers \
             what came after it."
                .to_string()
        }
        None => "The packets alone cannot exclude unread data: the kernel's reason on that host (TCP_STATE against \
                 TCP_ABORT_ON_CLOSE) would decide."
            .to_string(),
    };
    let base = if reset.shape == Shape::Active { BY_WIRE } else { BY_ODD_SHAPE };
    Some(Judgement {
        variant,
        culprit: Culprit::End(sender),
        summary: format!("{}{} aborted the connection: {what}. {proof}", view.application(sender), view.process()),
        advice: format!(
            "Look at the {}'s configuration: SO_LINGER, eviction from a connection pool, health checks, a proxy's \
             time-outs. If request and answer were complete, nothing was lost.",
            view.role(sender)
        ),
        decisive: format!("the kernel's reason TCP_STATE on the {}", view.role(sender)),
        ..Judgement::new(if by_kernel { Basis::Kernel(BY_KERNEL) } else { Basis::Wire(base) })
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;

    #[test]
    fn an_abort_after_ones_own_data_is_deliberate() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 5000).send(Server, abort());
            let v = d.verdict();
            expect(&v, "abortive_close", None, "server");
            assert_eq!(v.confidence, 60);
            assert!(v.also_considered.iter().any(|c| c.cause == "close_with_unread_data"), "{v:#?}");
        });
    }

    /// The end that aborts ahead of a hole, then answers what the other one still sends.
    #[test]
    fn an_abort_that_did_not_fit_is_why_its_sender_knows_nothing_any_more() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 5000).wait_ms(2_000);
            let acked = d.snd_nxt(Client);
            d.send_lost(Client, data(500)).send(Client, abort());
            d.wait_ms(20).send(Server, data(700).acking(acked)).send(Client, reply(acked));
            let v = d.verdict();
            expect(&v, "abortive_close", None, "client");
            assert_eq!(v.mechanism.name(), "reply_to_ack");
            let v = d.verdict_with_reason(Client, "NO_SOCKET", true, 0);
            expect(&v, "abortive_close", None, "client");
        });
    }

    /// S03: SO_LINGER 0 after request and answer. From the wire it ties with unread data.
    #[test]
    fn linger_zero_after_the_answer_is_told_by_the_kernel() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 5000).wait_ms(5).send(Client, abort());
            let v = d.verdict_with_reason(Client, "TCP_STATE", false, 7);
            expect(&v, "abortive_close", None, "client");
            assert_eq!(v.confidence, 95);
            let tie = d.verdict();
            let names: Vec<_> = tie.also_considered.iter().map(|c| c.cause.as_str()).chain([tie.cause]).collect();
            assert!(names.contains(&"abortive_close") && names.contains(&"close_with_unread_data"), "{tie:#?}");
            assert_eq!(tie.culprit, "client");
        });
    }

    /// S09.
    #[test]
    fn a_socket_killed_while_established_is_an_administrators() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 5000).send(Server, abort());
            let v = d.verdict_with_reason(Server, "TCP_STATE", false, 1);
            expect(&v, "abortive_close", Some("admin"), "server");
        });
    }

    /// S11.
    #[test]
    fn a_server_that_never_said_a_byte_had_its_listener_closed() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).wait_ms(20).send(Server, abort());
            let v = d.verdict_with_reason(Server, "TCP_STATE", false, 7);
            expect(&v, "abortive_close", Some("listener"), "server");
        });
    }

    /// S10: FIN-WAIT-2 is not waited for.
    #[test]
    fn negative_linger2_aborts_after_the_own_fin() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            d.send(Server, fin()).send(Client, ack()).send(Server, abort());
            let v = d.verdict_with_reason(Server, "TCP_ABORT_ON_LINGER", false, 5);
            expect(&v, "abortive_close", None, "server");
        });
    }

    /// S25.
    #[test]
    fn a_disconnect_with_data_to_send_is_not_the_end_of_a_conversation() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).send(Client, fin()).send(Server, data(1000));
            d.send(Client, ack().wnd(0)).send(Server, abort());
            let v = d.verdict_with_reason(Server, "TCP_DISCONNECT_WITH_DATA", false, 9);
            expect(&v, "abortive_close", None, "server");
        });
    }

    /// Kernels before 6.12 give no reason for active resets.
    #[test]
    fn a_kernel_without_reasons_changes_nothing() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 5000).send(Server, abort());
            assert_eq!(d.verdict_with_reason(Server, "NOT_SPECIFIED", false, 1).confidence, d.verdict().confidence);
        });
    }

    /// What the packets say stands, whatever the kernel says that no cause claims: against what it is known to mean with
    /// less confidence.
    #[test]
    fn a_reason_that_no_cause_claims_leaves_the_packets_word() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 5000).send(Server, abort());
            let v = d.verdict_with_reason(Server, "TCP_OF_A_LATER_KERNEL", false, 1);
            expect(&v, "abortive_close", None, "server");
            assert_eq!((v.confidence, v.contradictions.len()), (60, 0));
            assert!(v.summary.contains("TCP_OF_A_LATER_KERNEL"), "{}", v.summary);
            let v = d.verdict_with_reason(Server, "TCP_RFC7323_PAWS", true, 1);
            expect(&v, "abortive_close", None, "server");
            assert_eq!((v.confidence, v.contradictions.len()), (30, 1));
            assert!(v.contradictions[0].contains("TCP_RFC7323_PAWS"), "{:?}", v.contradictions);
        });
    }

    #[test]
    fn a_rst_with_another_ttl_makes_forgery_a_hypothesis() {
        everywhere(|d| {
            d.handshake();
            for _ in 0..10 {
                d.exchange(Client, 300).exchange(Server, 500);
            }
            d.send(Server, abort().ttl(101));
            let v = d.verdict();
            assert_eq!(v.cause, "abortive_close");
            assert!(v.also_considered.iter().any(|c| c.cause == "rst_injected"), "{v:#?}");
        });
    }
}
