//! The causes, one file each: rule, words, tests. [`ALL`] is their precedence.

mod abortive_close;
mod close_with_unread_data;
mod data_after_close;
mod desync_unattributed;
mod endpoint_sequence_fault;
mod handshake_abandoned;
mod handshake_violation;
mod keepalive_timeout;
mod middlebox_idle_timeout;
mod nat_state_fault;
mod path_blackhole;
mod peer_lost_state;
mod policy_reset;
mod port_closed;
mod post_close_cleanup;
mod rst_injected;
mod sack_translation_fault;
mod seq_translation_fault;
mod timestamp_regression;
mod tuple_reuse_conflict;
mod window_overrun;
mod window_scale_fault;
mod window_shrink_stranding;

use super::Cause;

/// In the order of DIAGNOSIS 3.3; the first that holds wins.
pub const ALL: &[Cause] = &[
    // 4. The reset is not its claimed sender's. Silence before it names the device; an open refusal is no attack.
    middlebox_idle_timeout::CAUSE,
    policy_reset::CAUSE,
    rst_injected::CAUSE,
    // 5. The ends disagreed before the reset.
    seq_translation_fault::CAUSE,
    sack_translation_fault::CAUSE,
    window_scale_fault::CAUSE,
    endpoint_sequence_fault::CAUSE,
    window_overrun::CAUSE,
    window_shrink_stranding::CAUSE,
    timestamp_regression::CAUSE,
    desync_unattributed::CAUSE,
    // 6. Before the first data both ways.
    handshake_violation::CAUSE,
    tuple_reuse_conflict::CAUSE,
    port_closed::CAUSE,
    handshake_abandoned::CAUSE,
    // 7. Liveness.
    keepalive_timeout::CAUSE,
    path_blackhole::CAUSE,
    nat_state_fault::CAUSE,
    // 8. The conversation was over.
    data_after_close::CAUSE,
    post_close_cleanup::CAUSE,
    // 9. The application.
    close_with_unread_data::CAUSE,
    abortive_close::CAUSE,
    // 10.
    peer_lost_state::CAUSE,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (i, a) in ALL.iter().enumerate() {
            assert!(ALL[i + 1..].iter().all(|b| a.name != b.name), "{}", a.name);
        }
    }
}
