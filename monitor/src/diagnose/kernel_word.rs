//! What the kernel said about a verdict, and what it would have said where nobody asked it (DIAGNOSIS 3.2, 3.6).

use super::NOTHING;
use super::view::View;
use super::words::{count, duration};
use crate::history::KernelFact;

/// `reason` of a kernel that gives none.
pub const NO_REASON: &str = "none";

/// `enum sk_rst_reason` of Linux 6.18 (include/net/rstreason.h), without prefix.
const KNOWN: [&str; 23] = [
    "NO_SOCKET",
    "TCP_INVALID_ACK_SEQUENCE",
    "TCP_RFC7323_PAWS",
    "TCP_TOO_OLD_ACK",
    "TCP_ACK_UNSENT_DATA",
    "TCP_FLAGS",
    "TCP_OLD_ACK",
    "TCP_ABORT_ON_DATA",
    "TCP_TIMEWAIT_SOCKET",
    "INVALID_SYN",
    "TCP_ABORT_ON_CLOSE",
    "TCP_ABORT_ON_LINGER",
    "TCP_ABORT_ON_MEMORY",
    "TCP_STATE",
    "TCP_KEEPALIVE_TIMEOUT",
    "TCP_DISCONNECT_WITH_DATA",
    "MPTCP_RST_EUNSPEC",
    "MPTCP_RST_EMPTCP",
    "MPTCP_RST_ERESOURCE",
    "MPTCP_RST_EPROHIBIT",
    "MPTCP_RST_EWQ2BIG",
    "MPTCP_RST_EBADPERF",
    "MPTCP_RST_EMIDDLEBOX",
];

/// Whether this version knows what a kernel means by this reason for a reset.
pub fn is_known(reason: &str) -> bool {
    KNOWN.contains(&reason)
}

/// What the kernel of the host concerned would tell, on Linux 6.12 or later. None where the packets say it all.
pub fn would_tell(cause: &str) -> Option<&'static str> {
    Some(match cause {
        "seq_translation_fault" | "payload_rewrite_fault" | "data_injection_desync" => {
            "the sender's host would show segments dropped with TCP_ACK_UNSENT_DATA, the receiver's with TCP_OLD_SEQUENCE"
        }
        "sack_translation_fault" => "the sender's counter TCPSACKDiscard would grow with every such acknowledgement",
        "window_scale_fault" | "window_overrun" => {
            "the receiver's host would show segments dropped with TCP_INVALID_END_SEQUENCE, TCP_OVERWINDOW or TCP_ZEROWINDOW"
        }
        "endpoint_sequence_fault" => {
            "the faulty end's own kernel would show whether its socket's numbers are those on the wire (ss -tine)"
        }
        "window_shrink_stranding" => "the receiver's host would show segments dropped with TCP_ZEROWINDOW or PROTO_MEM",
        "timestamp_regression" => "the receiver's host would show segments dropped with TCP_RFC7323_PAWS",
        "desync_unattributed" => "the drop reasons on both hosts would show which end refuses what",
        "rst_injected" | "policy_reset" | "middlebox_idle_timeout" => {
            "the claimed sender's host would have no tcp_send_reset for this reset"
        }
        "handshake_violation" => {
            "the reset's sender would give TCP_INVALID_ACK_SEQUENCE, TCP_RFC7323_PAWS or TCP_ACK_UNSENT_DATA as the reason"
        }
        "accept_queue_overflow" => {
            "the server would show the handshake's last segment dropped with TCP_LISTEN_OVERFLOW"
        }
        "tuple_reuse_conflict" => "the reset's sender would give TCP_INVALID_ACK_SEQUENCE as the reason",
        "port_closed" | "peer_lost_state" => {
            "the reset's sender would give NO_SOCKET as the reason, or TCP_FLAGS at a listener"
        }
        "handshake_abandoned" => "the client would give TCP_STATE or NO_SOCKET as the reason",
        "keepalive_timeout" => "the reset's sender would give TCP_KEEPALIVE_TIMEOUT as the reason",
        "segment_corruption" => "the receiver's host would show segments dropped with TCP_CSUM",
        "pmtu_blackhole" | "path_blackhole" | "zero_window_timeout" => {
            "the sender's socket would report ETIMEDOUT (inet_sk_error_report)"
        }
        "nat_state_fault" => "the end without the connection would give NO_SOCKET or TCP_FLAGS as the reason",
        "data_after_close" => "the closed end would give TCP_ABORT_ON_DATA or TCP_TIMEWAIT_SOCKET as the reason",
        "post_close_cleanup" => "the reset's sender would give TCP_ABORT_ON_CLOSE or TCP_STATE as the reason",
        "close_with_unread_data" => "the reset's sender would give TCP_ABORT_ON_CLOSE as the reason",
        "abortive_close" => {
            "the reset's sender would give TCP_STATE, TCP_ABORT_ON_LINGER or TCP_DISCONNECT_WITH_DATA as the reason"
        }
        "resource_abort" => "the reset's sender would give TCP_ABORT_ON_MEMORY as the reason",
        "mptcp_subflow_reset" => "the reset's sender would give MPTCP_RST_* as the reason",
        "unknown_reset" => "the reset's sender would give a reason",
        _ => return None,
    })
}

/// `the server's kernel, tcp_send_reset: TCP_STATE (process nginx 812, unit nginx.service)`.
pub fn said(view: &View, fact: &KernelFact) -> String {
    if let Some(d) = &fact.dropped {
        let way = if d.leaving { "on its way out" } else { "on its way in" };
        let before = match fact.time_ns.saturating_sub(d.first_ns) {
            _ if d.count == 1 => String::new(),
            span => format!(", over {}", duration(span)),
        };
        return format!(
            "this host's kernel dropped {} of the {} {way}{before}: {}; the last had {}",
            count(d.count.into(), "segment"),
            view.role(d.speaker),
            fact.reason,
            view.number(d.speaker, d.seq),
        );
    }
    let said = format!("the {}'s kernel, {}: {}", view.role(fact.local), fact.source, fact.reason);
    match owner(fact) {
        Some(owner) => format!("{said} ({owner})"),
        None => said,
    }
}

/// Whose socket it was, as far as that is known.
fn owner(fact: &KernelFact) -> Option<String> {
    let process = match (&fact.command, fact.pid) {
        (Some(command), Some(pid)) => Some(format!("process {command} {pid}")),
        _ => None,
    };
    let unit = fact.unit.as_ref().map(|unit| format!("unit {unit}"));
    let container = fact.container.as_ref().map(|id| format!("container {}", id.chars().take(12).collect::<String>()));
    let parts: Vec<_> = [process, unit, container].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// For the report: the kernel's words, or what they would have been.
pub fn sentence(view: &View, cause: &str) -> String {
    let mut words: Vec<String> = view.history.kernel.iter().map(|f| said(view, f)).collect();
    words.dedup();
    match (words.is_empty(), would_tell(cause)) {
        (false, _) => format!("With evidence of a kernel: {}.", words.join("; ")),
        (true, Some(would)) if view.history.kernel_available => {
            format!("This host's kernel was listened to and said nothing of it: {would}.")
        }
        (true, Some(would)) => format!("No kernel's word was at hand: {would}."),
        (true, None) if cause == NOTHING => String::new(),
        (true, None) if view.history.kernel_available => {
            "This host's kernel was listened to and said nothing of it.".into()
        }
        (true, None) => "No kernel's word was at hand.".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnose::dialogue::*;
    use crate::diagnose::{UNKNOWN, causes};

    #[test]
    fn every_cause_has_something_that_a_kernel_would_tell() {
        for name in causes::ALL.iter().map(|c| c.name).chain([UNKNOWN]) {
            assert!(would_tell(name).is_some(), "{name}");
        }
    }

    #[test]
    fn what_was_said_is_said_again_and_what_was_not_is_named() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).send(Server, abort());
            let mut h = d.history();
            let without = sentence(&View::new(&h), "close_with_unread_data");
            assert!(without.starts_with("No kernel") && without.contains("TCP_ABORT_ON_CLOSE"), "{without}");
            h.kernel.push(d.fact("tcp_send_reset", Server, "TCP_ABORT_ON_CLOSE", false, 7));
            let with = sentence(&View::new(&h), "close_with_unread_data");
            assert!(with.contains("the server's kernel, tcp_send_reset: TCP_ABORT_ON_CLOSE"), "{with}");
            assert!(with.contains("(process app 4242)"), "{with}");
            h.kernel.clear();
            h.kernel_available = true;
            let silent = sentence(&View::new(&h), "close_with_unread_data");
            assert!(silent.contains("said nothing") && silent.contains("TCP_ABORT_ON_CLOSE"), "{silent}");
        });
    }
}
