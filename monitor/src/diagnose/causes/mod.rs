//! The causes, one file each: rule, words, tests. [`ALL`] is their precedence.

mod abortive_close;
mod accept_queue_overflow;
mod close_with_unread_data;
mod data_after_close;
mod data_injection_desync;
mod desync_unattributed;
mod endpoint_sequence_fault;
mod handshake_abandoned;
mod handshake_violation;
mod keepalive_timeout;
mod middlebox_idle_timeout;
mod mptcp_subflow_reset;
mod nat_state_fault;
mod path_blackhole;
mod payload_rewrite_fault;
mod peer_lost_state;
mod pmtu_blackhole;
mod policy_reset;
mod port_closed;
mod post_close_cleanup;
mod resource_abort;
mod rst_injected;
mod sack_translation_fault;
mod segment_corruption;
mod seq_translation_fault;
mod timestamp_regression;
mod tuple_reuse_conflict;
mod window_overrun;
mod window_scale_fault;
mod window_shrink_stranding;
mod zero_window_timeout;

use super::Cause;

/// In the order of DIAGNOSIS 3.3; the first that holds wins.
pub const ALL: &[Cause] = &[
    // 4. The reset is not its claimed sender's. Silence before it names the device; an open refusal is no attack.
    middlebox_idle_timeout::CAUSE,
    policy_reset::CAUSE,
    rst_injected::CAUSE,
    // 5. The ends disagreed before the reset.
    seq_translation_fault::CAUSE,
    payload_rewrite_fault::CAUSE,
    sack_translation_fault::CAUSE,
    window_scale_fault::CAUSE,
    data_injection_desync::CAUSE,
    endpoint_sequence_fault::CAUSE,
    window_overrun::CAUSE,
    window_shrink_stranding::CAUSE,
    timestamp_regression::CAUSE,
    desync_unattributed::CAUSE,
    // 6. Before the first data both ways.
    handshake_violation::CAUSE,
    accept_queue_overflow::CAUSE,
    tuple_reuse_conflict::CAUSE,
    port_closed::CAUSE,
    handshake_abandoned::CAUSE,
    // 7. Liveness.
    keepalive_timeout::CAUSE,
    segment_corruption::CAUSE,
    pmtu_blackhole::CAUSE,
    path_blackhole::CAUSE,
    zero_window_timeout::CAUSE,
    nat_state_fault::CAUSE,
    // 8. The conversation was over.
    data_after_close::CAUSE,
    post_close_cleanup::CAUSE,
    // 9. The endpoint: what is proven before what is likely.
    resource_abort::CAUSE,
    mptcp_subflow_reset::CAUSE,
    close_with_unread_data::CAUSE,
    abortive_close::CAUSE,
    // 10.
    peer_lost_state::CAUSE,
];

/// Every variant that a verdict may have, by cause. Causes without variants are not listed.
pub const VARIANTS: &[(&str, &[&str])] = &[
    ("middlebox_idle_timeout", &["at_expiry"]),
    ("policy_reset", &["local"]),
    ("rst_injected", &["inline", "on_path", "blind"]),
    ("window_scale_fault", &["stripped", "altered", "tracked_unscaled"]),
    ("endpoint_sequence_fault", &["gap_never_sent", "acks_unsent", "seq_regress"]),
    ("handshake_abandoned", &["health_check", "scan"]),
    ("nat_state_fault", &["bypass", "rebind"]),
    ("abortive_close", &["listener", "admin"]),
];

/// Whether `variant` is one of `cause`'s.
pub fn has_variant(cause: &str, variant: &str) -> bool {
    VARIANTS.iter().any(|(name, variants)| *name == cause && variants.contains(&variant))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_of_causes_that_are_there() {
        for (name, variants) in VARIANTS {
            assert!(ALL.iter().any(|c| c.name == *name) && !variants.is_empty(), "{name}");
        }
    }

    #[test]
    fn names_are_unique() {
        for (i, a) in ALL.iter().enumerate() {
            assert!(ALL[i + 1..].iter().all(|b| a.name != b.name), "{}", a.name);
        }
    }
}
