//! What the names of the JSON contract mean, in words. A name without words here is shown as it is.

use crate::finding::{Finding, FindingKind, Visibility};

/// How the reset came to exist.
pub fn mechanism(name: &str) -> Option<&'static str> {
    Some(match name {
        "active_abort" => {
            "a TCP stack aborted its own live connection, because an application, an administrator or a timer wanted it gone"
        }
        "reply_to_ack" => {
            "a stack answered a segment for which it had no connection; it took its number from that segment's acknowledgement"
        }
        "reply_to_noack" => "a stack answered a segment without an acknowledgement for which it had no connection",
        "netfilter_reject" => "a packet filter of a Linux host made it; no TCP stack did",
        "foreign_abort" => "a stack other than Linux aborted its own live connection",
        "forged" => "not the end that it claims to come from",
        "timeout_no_rst" => "no RST was sent: an end gave up silently",
        _ => return None,
    })
}

/// What the receiver of a reset does with it (RFC 9293 3.10.7.4, RFC 5961 3).
pub fn effect(name: &str) -> Option<&'static str> {
    Some(match name {
        "exact" => "at exactly the number that the receiver expected, so the connection died",
        "in_window" => {
            "inside the window but not at the expected number: the receiver must challenge it, and the connection lives"
        }
        "out_of_window" => "outside of the window: the receiver ignores it, and the connection lives",
        "unverified" => "the receiver's side was not seen, so whether it was accepted is inferred, not checked",
        _ => return None,
    })
}

pub fn shape(name: &str) -> Option<&'static str> {
    Some(match name {
        "active" => "RST with ACK at the sender's next sequence number",
        "reply_to_ack" => "RST alone, its number an acknowledgement of the other end",
        "reply_to_noack" => "RST with ACK and sequence number 0",
        _ => return None,
    })
}

/// Kind of desynchronisation.
pub fn desync(name: &str) -> Option<&'static str> {
    Some(match name {
        "offset" => "the numbers are shifted by a constant between here and the receiver",
        "offset_upstream" => "the numbers were shifted before they came here",
        "sack_offset" => "selective acknowledgements are shifted while plain ones are not",
        "gap" => "the sender skipped bytes that it never sent",
        "ack_unsent_erratic" => "the receiver acknowledges what was never sent, by varying amounts",
        "wscale" => "the ends disagree about the window scale",
        "overrun" => "the sender ignores the window",
        "shrink" => "the receiver took back window that was in use",
        "paws" => "timestamps ran backwards, so the receiver discards everything as old",
        "ack_war" => "each end rejects what the other sends",
        _ => return None,
    })
}

pub fn culprit(name: &str) -> &str {
    match name {
        "client" => "the client",
        "server" => "the server",
        "middlebox" => "a device on the path",
        "network" => "the network (loss or MTU; no device can be named)",
        "network_or_peer" => "the network or the far end; it cannot be told from here",
        "local_host_policy" => "this host's own packet filter",
        "third_party" => "a third party",
        "none" => "nobody: this is normal",
        "unknown" => "unknown",
        other => other,
    }
}

pub fn phase(name: &str) -> &str {
    match name {
        "syn_sent" => "while the client was asking for it",
        "syn_received" => "during the handshake",
        "established" => "while it was established",
        "fin_wait" => "after one end had closed",
        "closing" => "after both ends had closed, before both were acknowledged",
        "time_wait" => "after it was closed completely",
        "reset" => "after an earlier reset",
        other => other,
    }
}

pub fn direction(name: &str) -> &str {
    match name {
        "client_to_server" => "client -> server",
        "server_to_client" => "server -> client",
        other => other,
    }
}

/// Headline of a finding's kind.
pub fn kind(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Reset => "reset",
        FindingKind::RstIneffective => "reset without effect",
        FindingKind::Degraded => "degraded",
    }
}

/// What limits the verdict, one sentence each.
pub fn limits(f: &Finding) -> Vec<&'static str> {
    let Visibility { mid_stream, scale_known, one_way, capture_lossy, truncated, events_lost, under_pressure } =
        f.visibility;
    let limits = [
        (mid_stream, "The handshake was not seen, so options and roles are inferred."),
        (!scale_known, "The window scale is not known, so tests against the window were not made."),
        (one_way, "Only one end's segments were seen: what the other end accepted or sent is unknown."),
        (capture_lossy, "Packets are proven missing from the observation, so gaps weigh less."),
        (truncated, "The capture ended in damage before this connection did."),
        (events_lost, "Reports or evidence about this connection were lost."),
        (
            under_pressure,
            "The agent was under pressure meanwhile: entries of its table were removed, or reports withheld, for want of room; what is missing here may have been there.",
        ),
    ];
    limits.into_iter().filter(|(holds, _)| *holds).map(|(_, words)| words).collect()
}
