//! MPTCP closed one of its subflows (DIAGNOSIS 3.5 cause 31; RFC 8684 sections 3.5 and 3.6). The connection may live on
//! over another.

use crate::diagnose::shape::ResetView;
use crate::diagnose::view::View;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::recorder::MPTCP_RESET;
use monitor_common::tracker::state::half;

pub const CAUSE: Cause = Cause { name: "mptcp_subflow_reset", judge };

const BASE: u8 = 90;

/// A device removed MPTCP's options or changed what they describe (RFC 8684 section 3.6, reason 6).
const MIDDLEBOX: &str = "MPTCP_RST_EMIDDLEBOX";

/// Meaning of the kernel's reason (RFC 8684 section 3.6).
fn meaning(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "MPTCP_RST_EUNSPEC" => "no particular reason",
        "MPTCP_RST_EMPTCP" => "an MPTCP protocol error",
        "MPTCP_RST_ERESOURCE" => "a lack of resources",
        "MPTCP_RST_EPROHIBIT" => "policy",
        "MPTCP_RST_EWQ2BIG" => "too much outstanding data",
        "MPTCP_RST_EBADPERF" => "bad performance",
        MIDDLEBOX => "interference of a device on the path, which made MPTCP's options invalid or removed them",
        _ => return None,
    })
}

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.effective()?;
    let sender = reset.sender;
    // MP_FASTCLOSE may also come in an ACK, which the other end answers with a RST (RFC 8684 section 3.5).
    let asked = reset.record.options & MPTCP_RESET == 0 && asked_by_other(view, reset);
    let by_option = reset.record.options & MPTCP_RESET != 0 || asked;
    let by_kernel = view.reason().and_then(meaning);
    if !by_option && by_kernel.is_none() {
        let subflow = view.history.connection.half.iter().all(|h| h.has(half::MPTCP));
        return (subflow && reset.mechanism.is_abort() && view.reason().is_none())
            .then(|| Judgement::near(35, "the option MP_TCPRST in the RST, or the kernel's reason MPTCP_RST_*"));
    }
    let why = by_kernel.unwrap_or("a reason that the option of the RST names");
    let by_device = view.reason_is(&[MIDDLEBOX]);
    Some(Judgement {
        culprit: match (by_device, asked) {
            (true, _) => Culprit::Middlebox,
            (_, true) => Culprit::End(sender.other()),
            _ => Culprit::End(sender),
        },
        kernel_agrees: by_option && by_kernel.is_some(),
        summary: if asked {
            format!(
                "{} closed the whole MPTCP connection at once (MP_FASTCLOSE); {} answered on this subflow with a reset, as \
                 it must.",
                view.who_first(sender.other()),
                view.who(sender)
            )
        } else {
            format!(
                "MPTCP of {} closed this subflow, for {why}; the connection that it was part of may live on over others.",
                view.who(sender)
            )
        },
        advice: if by_device {
            "Look for a device between the two that removes TCP options or edits payload: firewall normalisation, \
             proxies, traffic optimisers. A capture at each end shows which MPTCP options (kind 30) are lost; \
             `nstat -az | grep MPTcp` at the sender of the reset tells failed checksums from missing mappings."
        } else {
            "Usually nothing to do. `ss -M` and `nstat -az | grep MPTcp` show the connection and why subflows end; \
             `ip mptcp endpoint` what the path manager was told."
        }
        .into(),
        decisive: "the option MP_TCPRST in the RST".into(),
        ..Judgement::new(if by_kernel.is_some() { Basis::Kernel(BASE) } else { Basis::Wire(BASE) })
    })
}

/// The last segment of the other end that the RST may answer carries MP_FASTCLOSE.
fn asked_by_other(view: &View, reset: &ResetView) -> bool {
    let last = view.records(reset.sender.other()).rev().find(|r| r.time_ns <= reset.record.time_ns);
    last.is_some_and(|r| {
        r.options & MPTCP_RESET != 0 && reset.record.time_ns.saturating_sub(r.time_ns) <= view.echo_ns()
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;

    /// RFC 8684 3.5: the client closes the whole connection in an ACK, and the server resets the subflow.
    #[test]
    fn a_fast_close_in_an_ack_is_the_other_ends_decision() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            d.send(Client, ack().mptcp_reset()).send(Server, abort());
            let v = d.verdict();
            expect(&v, "mptcp_subflow_reset", None, "client");
            assert!(v.summary.contains("MP_FASTCLOSE"), "{}", v.summary);
        });
        everywhere(|d| {
            d.handshake().exchange(Client, 300).send(Client, ack().mptcp_reset()).exchange(Client, 10);
            d.send(Server, abort());
            assert_ne!(d.verdict().cause, "mptcp_subflow_reset");
        });
    }

    /// S58.
    #[test]
    fn a_reset_with_the_option_closes_a_subflow() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).send(Server, abort().mptcp_reset());
            let v = d.verdict();
            expect(&v, "mptcp_subflow_reset", None, "server");
            assert_eq!(v.confidence, 90);
        });
    }

    #[test]
    fn the_kernels_reason_says_why() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).send(Server, abort());
            let v = d.verdict_with_reason(Server, "MPTCP_RST_EBADPERF", false, 7);
            expect(&v, "mptcp_subflow_reset", None, "server");
            assert!(v.summary.contains("bad performance"), "{}", v.summary);
            assert_eq!(d.verdict().cause, "abortive_close");
        });
    }
}
