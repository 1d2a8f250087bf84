//! Names that filters accept, so that a typing mistake is an error with a suggestion and not an empty list.

/// Every cause of the catalogue.
pub const CAUSES: [&str; 32] = [
    "seq_translation_fault",
    "payload_rewrite_fault",
    "sack_translation_fault",
    "window_scale_fault",
    "data_injection_desync",
    "endpoint_sequence_fault",
    "window_overrun",
    "window_shrink_stranding",
    "timestamp_regression",
    "desync_unattributed",
    "rst_injected",
    "policy_reset",
    "middlebox_idle_timeout",
    "nat_state_fault",
    "path_blackhole",
    "pmtu_blackhole",
    "segment_corruption",
    "keepalive_timeout",
    "zero_window_timeout",
    "port_closed",
    "peer_lost_state",
    "tuple_reuse_conflict",
    "handshake_violation",
    "accept_queue_overflow",
    "close_with_unread_data",
    "abortive_close",
    "data_after_close",
    "post_close_cleanup",
    "handshake_abandoned",
    "resource_abort",
    "mptcp_subflow_reset",
    "unknown_reset",
];

pub const CULPRITS: [&str; 9] = [
    "client",
    "server",
    "middlebox",
    "network",
    "network_or_peer",
    "local_host_policy",
    "third_party",
    "none",
    "unknown",
];

pub const KINDS: [&str; 3] = ["reset", "rst_ineffective", "degraded"];

pub const SYNC_STATES: [&str; 4] = ["in_sync", "suspect", "desynced", "recovered"];

/// Names of `monitor_common::tracker::state::Phase`.
pub const STATES: [&str; 7] = ["syn_sent", "syn_received", "established", "fin_wait", "closing", "time_wait", "reset"];

#[cfg(test)]
mod tests {
    use super::*;
    use monitor_common::tracker::state::Phase;

    #[test]
    fn states_are_those_of_the_tracker() {
        assert_eq!(STATES.to_vec(), Phase::ALL.map(|p| p.name()).to_vec());
    }
}
