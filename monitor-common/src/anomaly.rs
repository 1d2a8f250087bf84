//! The anomaly catalogue: names are part of the JSON contract and of the metrics, numbers of the map ABI.

/// How much an anomaly weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Level {
    /// Context only, never the base of a desync verdict.
    Soft,
    /// A fault, once confirmed.
    Hard,
    /// About the observer, not the connection.
    Meta,
}

macro_rules! catalogue {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal, $level:ident;)*) => {
        /// What a segment may do that a correct, losslessly observed conversation does not.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Anomaly { $($(#[$doc])* $variant = $number,)* }

        impl Anomaly {
            pub const ALL: &'static [Anomaly] = &[$(Anomaly::$variant,)*];

            pub const fn name(self) -> &'static str {
                match self { $(Anomaly::$variant => $name,)* }
            }

            pub const fn level(self) -> Level {
                match self { $(Anomaly::$variant => Level::$level,)* }
            }

            pub const fn from_number(number: u8) -> Option<Anomaly> {
                match number { $($number => Some(Anomaly::$variant),)* _ => None }
            }
        }
    };
}

/// Slots of per-anomaly counters; all numbers are below it.
pub const ANOMALY_SLOTS: usize = 64;

catalogue! {
    /// `seq > snd_nxt` inside the window: loss, reordering or a hole in the capture.
    SeqGap = 0, "seq_gap", Soft;
    /// The hole outlived max(1 s, 4 RTT), the receiver's ACK is stuck at it and the sender goes on beyond it.
    HolePersistent = 1, "hole_persistent", Hard;
    /// ... and the sender never retransmitted it while it sent at least three later segments (RFC 6298 section 5).
    HoleNeverRetransmitted = 2, "hole_never_retransmitted", Hard;
    /// The sender retransmits what starts right above the hole, never the hole: its own SND.UNA is the hole's end.
    RexmitAboveHole = 3, "rexmit_above_hole", Hard;
    /// A data segment that starts beyond the offered window (RFC 9293 section 3.10.7.4).
    SeqBeyondWindow = 4, "seq_beyond_window", Hard;
    /// A data segment that ends beyond the offered window.
    DataBeyondWindow = 5, "data_beyond_window", Hard;
    /// A data segment far below what was acknowledged long ago.
    SeqBelowWindow = 6, "seq_below_window", Hard;
    /// A segment of another sequence space.
    SeqJump = 7, "seq_jump", Hard;
    Rexmit = 8, "rexmit", Soft;
    /// Retransmission of what was acknowledged already.
    RexmitAcked = 9, "rexmit_acked", Soft;
    /// A bare ACK carries SND.NXT (RFC 9293 section 3.4); one below it disowns bytes already sent.
    BareAckSeqRegress = 10, "bare_ack_seq_regress", Hard;
    DataAfterOwnFin = 11, "data_after_own_fin", Hard;
    /// The same sequence numbers carried other bytes before: two sources of one stream. Needs payload, so captures only.
    OverlapMismatch = 12, "overlap_mismatch", Hard;
    /// Acknowledges what the other end never sent (RFC 5961 section 5).
    AckUnsent = 13, "ack_unsent", Hard;
    AckTooOld = 14, "ack_too_old", Hard;
    AckOld = 15, "ack_old", Soft;
    /// RFC 5681 section 2.
    DupAck = 16, "dup_ack", Soft;
    /// Bare ACKs that answer each other, each unacceptable to the other side (RFC 5961 sections 5 and 7).
    AckPingpong = 17, "ack_pingpong", Hard;
    AckStorm = 18, "ack_storm", Hard;
    /// A bare ACK that answers an unacceptable segment, a SYN or a RST within a round trip (RFC 5961 sections 3 to 5).
    ChallengeAck = 19, "challenge_ack", Soft;
    /// A SACK block over bytes never sent (RFC 2018 section 4).
    SackUnsent = 20, "sack_unsent", Hard;
    /// A SACK block beyond the window that the same packet's sender offered: two sequence spaces in one packet.
    SackBeyondOwnWindow = 21, "sack_beyond_own_window", Hard;
    /// SACK blocks that lie a constant distance beyond what was sent: the option was not translated with the header.
    SackOffsetConstant = 22, "sack_offset_constant", Hard;
    SackInverted = 23, "sack_inverted", Hard;
    /// RFC 2883 section 4.
    Dsack = 24, "dsack", Soft;
    /// A DSACK of bytes that were sent once, as far as this view tells (RFC 2883): a copy made by the network, or bytes
    /// that stand elsewhere in the receiver's numbering.
    DsackOfFirstTx = 25, "dsack_of_first_tx", Soft;
    /// A DSACK of the last retransmission's length at a constant distance from it.
    DsackShifted = 26, "dsack_shifted", Hard;
    /// A SACK block was withdrawn while the acknowledgement stood below it (RFC 2018 section 8).
    SackReneg = 27, "sack_reneg", Soft;
    WindowShrink = 28, "window_shrink", Hard;
    /// The first window after the SYN, scaled, is far below the SYN's (RFC 7323 section 2.2).
    WindowCollapsePostsyn = 29, "window_collapse_postsyn", Hard;
    WindowUnscaledSuspect = 30, "window_unscaled_suspect", Soft;
    ZeroWindow = 31, "zero_window", Soft;
    ZeroWindowStall = 32, "zero_window_stall", Soft;
    ZeroWindowProbe = 33, "zero_window_probe", Soft;
    /// Many segments in a row far below the MSS, each as large as the window and a time-out after the one before
    /// (RFC 9293 section 3.8.6.2).
    TinySegmentStall = 34, "tiny_segment_stall", Soft;
    TsRegress = 35, "ts_regress", Soft;
    /// Timestamps more than a second back on new data (RFC 7323 section 5.3).
    TsRegressNew = 36, "ts_regress_new", Hard;
    TsMissing = 37, "ts_missing", Soft;
    /// Echoes a timestamp more than a second ahead of any that the other end sent (RFC 7323 section 4).
    TsecrFuture = 38, "tsecr_future", Soft;
    SynInEstablished = 39, "syn_in_established", Soft;
    SynackIsnChange = 40, "synack_isn_change", Hard;
    SynackBadAck = 41, "synack_bad_ack", Hard;
    /// The options of the handshake as seen here contradict what the speaker does (RFC 7323 sections 2.2 and 3.2).
    OptChanged = 42, "opt_changed", Soft;
    KeepaliveProbe = 43, "keepalive_probe", Soft;
    KeepaliveUnanswered = 44, "keepalive_probe_unanswered", Soft;
    /// Third and later retransmission of one left edge with growing spacing and no progress.
    RtoBackoff = 45, "rto_backoff", Soft;
    /// Segments up to a size are acknowledged, larger ones never (RFC 2923, RFC 4821).
    SizeDependentLoss = 46, "size_dependent_loss", Soft;
    /// What ended within the window taken without its scale was acknowledged, what ended beyond never
    /// (RFC 7323 section 2.3): something on the path drops by the unscaled window.
    WindowDependentLoss = 47, "window_dependent_loss", Soft;
    TtlShift = 48, "ttl_shift", Soft;
    IpidBreak = 49, "ipid_break", Soft;
    /// Another source MAC address than that of the speaker's eight or more packets before.
    L2Shift = 50, "l2_shift", Soft;
    /// Depends on information that left the observer less than half a round trip ago: no answer of the far end.
    RttImpossible = 51, "rtt_impossible", Hard;
    /// Nothing either way for at least 50 s.
    IdleGap = 52, "idle_gap", Soft;
    /// An ICMP message says that the quoted segment of this speaker was too big (RFC 1191, RFC 8201): its sequence number,
    /// and the MTU.
    IcmpFragNeeded = 53, "icmp_frag_needed", Soft;
    /// Checksum of a received segment wrong (RFC 9293 section 3.1).
    CsumBad = 54, "csum_bad", Hard;
    /// The observer proved to have missed a packet.
    CaptureGap = 55, "capture_gap", Meta;
    /// An ICMP message says that the quoted segment of this speaker could not be delivered (RFC 5927): its sequence
    /// number, and type and code.
    IcmpUnreach = 56, "icmp_unreach", Soft;
    /// A segment of the speaker's own after its RST took effect: its socket lives, so it did not send the RST.
    LiveAfterRst = 57, "live_after_rst", Hard;
    /// Data at or beyond the number of the RST sent before it, in the speaker's own series: a real aborter stops.
    RstSeqData = 58, "rst_seq_data", Hard;
    /// A RST below data that the speaker sent just before: computed from an older packet.
    DataSeqRst = 59, "data_seq_rst", Hard;
    /// A second RST of the speaker further on than anything that either end sent or acknowledged: a guess ahead.
    RstSeqChange = 60, "rst_seq_change", Hard;
    /// Two RSTs of the speaker that acknowledge different numbers although nothing was sent in between.
    RstAckChange = 61, "rst_ack_change", Hard;
    /// A RST right behind the speaker's own SYN or SYN-ACK, and yet it goes on with the handshake.
    SynRst = 62, "syn_rst", Hard;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dense_enough_and_names_unique() {
        for (i, a) in Anomaly::ALL.iter().enumerate() {
            assert!((*a as usize) < ANOMALY_SLOTS);
            assert_eq!(Anomaly::from_number(*a as u8), Some(*a));
            for b in &Anomaly::ALL[i + 1..] {
                assert_ne!(a.name(), b.name());
                assert_ne!(*a as u8, *b as u8);
            }
        }
        assert_eq!(Anomaly::from_number(63), None);
    }
}
