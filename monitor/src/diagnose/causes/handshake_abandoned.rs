//! The client withdrew before or right after connecting (DIAGNOSIS 3.5 cause 29).

use crate::diagnose::view::View;
use crate::diagnose::words::duration;
use crate::diagnose::{Basis, Cause, Judgement};
use crate::finding::Considered;
use monitor_common::tracker::SECOND;
use monitor_common::tracker::state::{Phase, half};

pub const CAUSE: Cause = Cause { name: "handshake_abandoned", judge };

const BASE: u8 = 85;
/// "Right after": the silence by which the tampering study separates stages (DIAGNOSIS 4.3).
const SOON_NS: u64 = 3 * SECOND;
/// Reasons for a reset without a word said that name something else.
const OTHER_REASONS: [&str; 3] = ["TCP_KEEPALIVE_TIMEOUT", "TCP_ABORT_ON_MEMORY", "TCP_ABORT_ON_CLOSE"];

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.effective()?;
    let client = reset.sender;
    let server = client.other();
    if !view.history.is_client(client) || !view.no_data() || view.any_fin() || view.reason_is(&OTHER_REASONS) {
        return None;
    }
    let age = view.history.time_ns.saturating_sub(view.history.connection.created_ns);
    let own_syn = view.half(client).has(half::SYN);
    let (when, base) = match view.history.phase {
        Phase::SynSent if own_syn => ("before the server answered", BASE),
        Phase::SynReceived if own_syn => ("instead of completing the handshake", BASE),
        // A SYN-ACK that nobody here asked for: the SYN was not seen, or somebody else sent it in this name.
        Phase::SynReceived if view.half(server).has(half::SYN) => {
            ("upon a SYN-ACK to a SYN that was not seen", BASE - 25)
        }
        Phase::Established if own_syn && view.half(server).has(half::SYN) => {
            if age > SOON_NS {
                return Some(Judgement::near(
                    40,
                    format!("the connection stood for {} before it was reset, not just a moment", duration(age)),
                ));
            }
            ("right after connecting, without a byte sent", BASE)
        }
        _ => return None,
    };
    let probe = reset.mechanism.is_abort() && view.history.phase != Phase::SynSent;
    let scan = own_syn && has_marks_of_a_scanner(view, client);
    let unsolicited = !own_syn;
    Some(Judgement {
        variant: if scan { Some("scan") } else { probe.then_some("health_check") },
        kernel_agrees: view.reason_is(&["TCP_STATE", "NO_SOCKET"]),
        summary: format!(
            "{} withdrew {when} ({} after the first segment): a probe, a scan, a health check or a cancelled connect.",
            view.who_first(client),
            duration(age)
        ),
        advice: "Usually nothing to do. Look at who the client is: monitoring, a load balancer's health check, the \
                 loser of a happy-eyeballs race, a port scan; for answers to SYNs never sent, somebody spoofs this \
                 address."
            .into(),
        decisive: "a reset of the client before any data".into(),
        rivals: if unsolicited {
            vec![Considered {
                cause: "handshake_violation".into(),
                confidence: 40,
                why_not: "whether the client sent a SYN at all was not seen".into(),
            }]
        } else {
            Vec::new()
        },
        ..Judgement::new(Basis::Wire(base))
    })
}

/// Marks of tools that make SYNs without a stack: no options at all, ZMap's fixed IP-ID, a TTL that no common stack
/// starts with and hardly any path leaves so high.
fn has_marks_of_a_scanner(view: &View, client: monitor_common::Direction) -> bool {
    const ZMAP_ID: u16 = 54321;
    const HIGH_TTL: u8 = 200;
    let me = view.half(client);
    let bare = view.history.reach(client).mss == 0
        && !me.has(half::WSCALE)
        && !me.has(half::SACK_PERMITTED)
        && !me.has(half::TIMESTAMPS);
    let mut all = view.history.records.iter().filter(|r| r.speaker == client).map(|r| &r.record);
    bare && all.any(|r| r.ip_id == ZMAP_ID || r.ttl > HIGH_TTL)
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::diagnose::shape::Mechanism;

    /// S21: the client gave up before the retransmitted SYN-ACK came.
    #[test]
    fn a_syn_ack_answered_by_a_reset_was_not_waited_for() {
        everywhere(|d| {
            d.send(Client, syn()).send_lost(Server, syn_ack()).wait_ms(1000).send(Server, syn_ack());
            d.send(Client, reply(1));
            let v = d.verdict();
            expect(&v, "handshake_abandoned", None, "none");
            assert_eq!((v.confidence, v.mechanism), (85, Mechanism::ReplyToAck));
        });
    }

    /// S22: SYN, SYN-ACK, RST+ACK.
    #[test]
    fn a_health_check_resets_what_it_opened() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, syn_ack()).send(Client, abort());
            let v = d.verdict();
            expect(&v, "handshake_abandoned", Some("health_check"), "none");
            assert_eq!(v.mechanism, Mechanism::ActiveAbort);
        });
    }

    /// SYN without options and ZMap's IP-ID; the scanner's own kernel resets the SYN-ACK that it did not ask for.
    #[test]
    fn a_syn_that_no_stack_made_is_a_scan() {
        everywhere(|d| {
            d.send(Client, syn().bare().id(54_321)).send(Server, syn_ack()).send(Client, reply(1));
            expect(&d.verdict(), "handshake_abandoned", Some("scan"), "none");
        });
    }

    #[test]
    fn a_health_check_may_complete_the_handshake_first() {
        everywhere(|d| {
            d.handshake().send(Client, abort());
            expect(&d.verdict(), "handshake_abandoned", Some("health_check"), "none");
        });
    }

    #[test]
    fn an_idle_connection_reset_minutes_later_was_not_abandoned_at_once() {
        everywhere(|d| {
            d.handshake().wait_ms(60_000).send(Client, abort());
            let v = d.verdict();
            assert_eq!(v.cause, "abortive_close", "{v:#?}");
        });
    }

    #[test]
    fn a_server_that_resets_is_not_the_client_withdrawing() {
        everywhere(|d| {
            d.handshake().send(Server, abort());
            assert_eq!(d.verdict().cause, "abortive_close");
        });
    }
}
