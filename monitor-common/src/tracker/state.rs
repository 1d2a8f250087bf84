//! What is kept of a connection.
//!
//! A [`Half`] and a [`Fault`] belong to the *speaker*: a packet from S writes only S's, and reads R's. On a host each
//! speaker is observed at one hook (TC egress for the local end, ingress for the remote one, one receive queue per
//! flow), so every record has one writing CPU at a time and needs no lock; a slightly stale read of the other half
//! delays a candidate by a packet and changes no tracked edge. [`Sync`] alone is written from both sides: its
//! transitions take seconds, an update lost to a race repeats with the next segment.

use crate::flow::{Direction, FlowKey};
use crate::seq::SeqNum;
use bytemuck::{Pod, Zeroable};
use core::ops::{Deref, DerefMut};

/// Bits of [`Half::flags`].
pub mod half {
    /// A segment other than a RST was seen from this speaker; `snd_nxt` is valid.
    pub const SEEN: u32 = 1 << 0;
    /// Its SYN was seen; `iss` is valid.
    pub const SYN: u32 = 1 << 1;
    /// It acknowledged something; `ack` is valid.
    pub const ACKED: u32 = 1 << 2;
    /// The scaled window is known; `edge_max` and `edge_cur` are valid.
    pub const EDGE: u32 = 1 << 3;
    pub const FIN: u32 = 1 << 4;
    /// It sent a RST that the other end accepts.
    pub const RST: u32 = 1 << 5;
    /// It sent a RST that must be challenged or ignored.
    pub const RST_INEFFECTIVE: u32 = 1 << 6;
    pub const WSCALE: u32 = 1 << 7;
    pub const SACK_PERMITTED: u32 = 1 << 8;
    pub const TIMESTAMPS: u32 = 1 << 9;
    /// `first_wnd` is valid.
    pub const FIRST_WINDOW: u32 = 1 << 10;
    /// The end of its last data is uncertain (first fragment, BIG TCP without a length).
    pub const END_UNCERTAIN: u32 = 1 << 11;
    pub const DATA: u32 = 1 << 12;
    pub const ZERO_WINDOW: u32 = 1 << 13;
    /// `fault.shadow_end` is valid: it sent data that was not accepted into `snd_nxt`.
    pub const SHADOW: u32 = 1 << 14;
    /// The last segment was a bare ACK that repeated the previous one and that the other end cannot accept.
    pub const REPEATED_BARE_ACK: u32 = 1 << 15;
    /// `first_wnd << wscale` collapsed; edges were rebased.
    pub const COLLAPSED: u32 = 1 << 16;
    /// A RST or data of this speaker arrived untranslated at an ingress hook although its packets reach this
    /// tuple only through address translation of this host.
    pub const UNTRANSLATED: u32 = 1 << 17;
    /// The number of a SYN of a possible new incarnation, or of another SYN-ACK, is in `fault.next_iss`.
    pub const NEXT_SYN: u32 = 1 << 18;
    pub const FAST_OPEN: u32 = 1 << 19;
    /// RTT sample (`rtt_seq`, `rtt_start_ns`) of a segment that was sent once (Karn); taken by the acknowledgement that
    /// crosses its end.
    pub const RTT_PENDING: u32 = 1 << 20;
    pub const MPTCP: u32 = 1 << 21;
    pub const AUTH: u32 = 1 << 22;
    /// `fault.hole` is open.
    pub const HOLE: u32 = 1 << 23;
    pub const HOLE_PERSISTENT: u32 = 1 << 24;
    pub const HOLE_NEVER_RETRANSMITTED: u32 = 1 << 25;
    /// `fault.sack_right` is valid.
    pub const SACK_RIGHT: u32 = 1 << 26;
    /// `reach.over_raw_end` waits for its acknowledgement.
    pub const OVER_RAW_PENDING: u32 = 1 << 27;
    /// A segment that ended, when it was first sent, above the other end's acknowledgement plus its window field taken
    /// without the scale was acknowledged: nothing on the path drops by the unscaled window. Entered with the speaker's
    /// next segment; [`Connection::acked_over_raw`] knows it at once.
    pub const ACKED_OVER_RAW: u32 = 1 << 28;
    /// The other end's window scale was inferred from this speaker's data, and is `fault.peer_shift`.
    pub const SCALE_INFERRED: u32 = 1 << 29;
    /// Its first window field equals its SYN's although scaling is on: maybe it does not scale.
    pub const UNSCALED_SUSPECT: u32 = 1 << 30;
    /// One of `fault.candidates` may be open. Set and cleared by this speaker, so that the judge looks no further.
    pub const RAISED: u32 = 1 << 31;
}

/// Bits of [`Connection::flags`].
pub mod conn {
    /// The first segment seen was not a SYN.
    pub const MID_STREAM: u16 = 1 << 0;
    /// `initiator` is known from a SYN.
    pub const INITIATOR: u16 = 1 << 1;
    /// Bytes were proven missing from the observation at least three times.
    pub const CAPTURE_LOSSY: u16 = 1 << 2;
    /// The window scale of an end was inferred from accepted data, because the handshake was not seen: what is noted of
    /// its windows is soft.
    pub const SCALE_INFERRED: u16 = 1 << 3;
}

/// Values of [`Core::bare`].
pub mod bare {
    pub const YES: u32 = 1;
    /// By direction of the segment at hand.
    pub const CLAIM: [u32; 2] = [1 << 8, 1 << 16];
}

/// Bits of [`Half::staged`] above the twelve control bits.
pub mod staged {
    pub const YES: u16 = 1 << 15;
    /// With timestamps.
    pub const TIMESTAMPS: u16 = 1 << 14;
    pub const CONTROL_BITS: u16 = 0x0fff;
}

/// Where a packet was observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Hook {
    /// Ingress of an interface, or a frame of a capture.
    Ingress = 1,
    /// Egress of a packet of this host's own.
    Egress = 2,
    /// Egress of a packet that came in through a monitored interface.
    Forwarded = 3,
}

impl Hook {
    pub const fn from_number(n: u8) -> Hook {
        match n {
            2 => Hook::Egress,
            3 => Hook::Forwarded,
            _ => Hook::Ingress,
        }
    }
}

/// One direction, the part that every packet reads and writes: two cache lines. Packets of the other end read only the
/// first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Half {
    /// Time of the last segment; never goes back, so that what a merged capture holds twice is known to be past.
    pub last_ns: u64,
    /// When `ack` last advanced: progress of the other direction.
    pub ack_ns: u64,
    pub rtt_start_ns: u64,
    pub flags: u32,
    /// Right edge of everything sent inside the acceptable range.
    pub snd_nxt: SeqNum,
    /// Highest acceptable acknowledgement sent; SND.UNA of the other half.
    pub ack: SeqNum,
    /// Highest right edge offered: ack + scaled window.
    pub edge_max: SeqNum,
    /// Highest TSval.
    pub ts_hi: u32,
    pub rtt_seq: SeqNum,
    /// Smallest time from the observer to the other end and back, microseconds; 0 when unknown.
    pub rtt_min_us: u32,
    pub segments: u32,
    /// Raw window of the last segment.
    pub wnd: u16,
    /// Duplicate acknowledgements since `ack` last advanced.
    pub dup_acks: u16,
    /// RTT samples behind `rtt_min_us`, saturating.
    pub rtt_samples: u8,
    pub wscale: u8,
    pub rst_count: u8,
    /// [`Hook`] that observes this speaker; 0 before its first segment.
    pub fed_by: u8,

    /// When `snd_nxt` last advanced.
    pub data_ns: u64,
    /// Payload bytes, retransmissions included.
    pub bytes: u64,
    /// Right edge of the latest acknowledgement.
    pub edge_cur: SeqNum,
    /// TSval of the segment that last advanced `snd_nxt`.
    pub nxt_tsval: u32,
    pub iss: SeqNum,
    pub fin_end: SeqNum,
    pub prev_seq: SeqNum,
    pub prev_ack: SeqNum,
    /// Largest scaled window, bytes.
    pub wnd_max: u32,
    /// Of a header that is not in the recorder yet: payload bytes, control bits with [`staged`], IPv4 ID. The rest of it is
    /// in the fields above.
    pub staged_len: u16,
    pub staged: u16,
    pub staged_id: u16,
    pub ip_id: u16,
    /// IPv4 ID of the segment that last advanced `snd_nxt`.
    pub nxt_ip_id: u16,
    /// Largest payload of a segment when first sent, saturating; a segmentation-offload packet counts as one.
    pub len_max: u16,
    /// [`Segment::l2`](crate::segment::Segment::l2) of the last segment that was no RST; 0 when unknown.
    pub l2: u16,
    /// [`Segment::label`](crate::segment::Segment::label) of the last segment that was no RST; 0 when unknown.
    pub label: u16,
    pub ttl: u8,
    /// Segments in a row with this TTL, saturating at [`super::identity::RUN_MAX`].
    pub ttl_run: u8,
    /// Increments of the IPv4 ID in a row, saturating there, too.
    pub id_run: u8,
    /// Segments in a row with the source address `l2`, saturating there, too.
    pub l2_run: u8,
}

/// A candidate anomaly about what the other end sent; the other end's next segments settle it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Candidate {
    pub time_ns: u64,
    pub expected: SeqNum,
    pub actual: SeqNum,
    /// Segments that the judge had sent when the candidate arose.
    pub judge_segments: u32,
    /// Counts candidates; open while it differs from the judge's `settled`.
    pub generation: u8,
    /// [`weight`] bits.
    pub heavy: u8,
    pub pad: [u8; 2],
}

/// Bits of [`Candidate::heavy`].
pub mod weight {
    /// An overshoot of at least one MSS: hard once confirmed.
    pub const HEAVY: u8 = 1 << 0;
    /// The segment lay wholly beyond the window.
    pub const WHOLE: u8 = 1 << 1;
    /// ... and so far that it is another number space.
    pub const JUMP: u8 = 1 << 2;
}

/// Indexes of [`Fault::candidates`].
pub mod candidate {
    pub const ACK_UNSENT: usize = 0;
    pub const SACK_UNSENT: usize = 1;
    pub const BEYOND_WINDOW: usize = 2;
    pub const TSECR_FUTURE: usize = 3;
    pub const COUNT: usize = 4;
}

/// The oldest gap in a speaker's stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Hole {
    pub since_ns: u64,
    pub lo: SeqNum,
    pub hi: SeqNum,
    /// Segments sent beyond it.
    pub later: u16,
    /// Segments that start inside it, or at `lo`.
    pub rexmit_lo: u8,
    /// Retransmissions that start exactly at `hi`.
    pub rexmit_hi: u8,
    /// Between fields that are zeroed together: for more than four bytes LLVM calls a function that stores byte by byte.
    pub pad: u8,
    /// Times that the sender went on beyond it, a time-out apart, while the receiver stood at it.
    pub rounds: u8,
    /// When `rounds` was last counted, in units of 2^24 ns.
    pub rounds_at: u16,
}

/// States of [`Sync::state`].
pub mod sync_state {
    pub const IN_SYNC: u8 = 0;
    pub const SUSPECT: u8 = 1;
    pub const DESYNCED: u8 = 2;
    pub const RECOVERED: u8 = 3;
}

/// Kinds of desynchronisation.
pub mod kind {
    pub const NONE: u8 = 0;
    pub const OFFSET: u8 = 1;
    pub const OFFSET_UPSTREAM: u8 = 2;
    pub const SACK_OFFSET: u8 = 3;
    pub const GAP: u8 = 4;
    pub const ACK_UNSENT_ERRATIC: u8 = 5;
    pub const WSCALE: u8 = 6;
    pub const OVERRUN: u8 = 7;
    pub const SHRINK: u8 = 8;
    pub const PAWS: u8 = 9;
    pub const ACK_WAR: u8 = 10;

    pub const NAMES: [&str; 11] = [
        "none",
        "offset",
        "offset_upstream",
        "sack_offset",
        "gap",
        "ack_unsent_erratic",
        "wscale",
        "overrun",
        "shrink",
        "paws",
        "ack_war",
    ];

    pub const fn name(kind: u8) -> &'static str {
        if (kind as usize) < NAMES.len() { NAMES[kind as usize] } else { "unknown" }
    }
}

/// Whether new data of a speaker is acceptable to the other end and its acknowledgements to the speaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Sync {
    /// When the numbers first diverged.
    pub first_ns: u64,
    /// When the state was entered.
    pub since_ns: u64,
    pub last_hard_ns: u64,
    /// What should have been, and was, at the first divergence.
    pub expected: SeqNum,
    pub actual: SeqNum,
    /// `snd_nxt` when the state was entered.
    pub entry_nxt: SeqNum,
    pub hard: u16,
    pub state: u8,
    pub kind: u8,
}

/// One direction, the part that its first segments write: what its SYN and first window said, how far it has gone beyond what it
/// did before; and when it was reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Reach {
    /// When this speaker's first effective RST was seen.
    pub rst_ns: u64,
    /// End of the first segment of `half.len_max` bytes. While the other end's acknowledgement is below it, every
    /// acknowledged segment had at most `len_max_before` bytes.
    pub len_max_end: SeqNum,
    /// End of the segment that [`half::OVER_RAW_PENDING`] is about.
    pub over_raw_end: SeqNum,
    /// Largest payload before the first segment of `half.len_max` bytes.
    pub len_max_before: u16,
    pub mss: u16,
    pub syn_wnd: u16,
    pub first_wnd: u16,
}

/// One direction, the part that only abnormal segments touch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Fault {
    /// Of the data that this speaker sends.
    pub sync: Sync,
    pub hole: Hole,
    /// Raised by this speaker, settled by the other.
    pub candidates: [Candidate; candidate::COUNT],
    pub pingpong_since_ns: u64,
    pub zero_window_ns: u64,
    pub probe_ns: u64,
    pub rto_ns: u64,
    pub regress_ns: u64,
    /// Spacing of the last two retransmissions of `rto_seq`, microseconds.
    pub rto_gap_us: u32,
    pub rto_seq: SeqNum,
    /// Interval of a constant offset between what this speaker sends and what the other acknowledges.
    pub shift_lo: u32,
    pub shift_hi: u32,
    /// Lower bound of an offset seen in SACK blocks about this speaker's data.
    pub sack_shift: u32,
    /// Largest distance by which a confirmed SACK block lay beyond what this speaker had sent: the lower bound of a
    /// constant offset.
    pub sack_lo: u32,
    /// Bytes that this speaker's own bare ACKs disown.
    pub phantom: u32,
    /// Highest end of data that was not accepted into `snd_nxt`.
    pub shadow_end: SeqNum,
    pub next_iss: SeqNum,
    /// Highest right edge of a SACK block that this speaker sent.
    pub sack_right: SeqNum,
    /// Last retransmission, for DSACKs that are shifted from it.
    pub rexmit_seq: SeqNum,
    pub rexmit_len: u32,
    /// The other end's acknowledgement when `peer_shift` was last raised.
    pub scale_from: SeqNum,
    pub dsack_shift: u32,
    /// Right edge below which the window was withdrawn while data was in flight.
    pub shrink_edge: SeqNum,
    pub shift_hits: u16,
    pub ack_unsent_hits: u16,
    pub sack_hits: u16,
    pub beyond_hits: u16,
    pub pingpongs: u16,
    pub rexmits: u16,
    pub gaps_confirmed: u16,
    pub phantom_hits: u8,
    pub ts_regress_run: u8,
    pub ts_regress_hits: u8,
    pub dsack_shift_hits: u8,
    pub shrink_hits: u8,
    pub rto_streak: u8,
    pub probes: u8,
    pub probes_unanswered: u8,
    /// Candidates of the *other* speaker that this one settled, by generation.
    pub settled: [u8; candidate::COUNT],
    /// Low byte of the other speaker's `rexmits` at the last shifted DSACK: each retransmission counts once.
    pub dsack_rexmits: u8,
    /// Segments other than RSTs that followed this speaker's effective RST, counted up to those that are reported.
    pub after_reset: u8,
    /// One more than the smallest shift of the other end's windows under which this speaker's data fits; 0: none was
    /// looked for, because the handshake tells.
    pub peer_shift: u8,
    /// Confirmations of `sack_lo`.
    pub sack_lo_hits: u8,
    /// Segments in another number space: this speaker's own that lie far below what was acknowledged, and the other's
    /// far beyond the window that this speaker, the receiver, went on refusing.
    pub jump_hits: u8,
    /// 1: different packets of this speaker had one IPv4 ID, which tells nothing then.
    pub same_id: u8,
    pub pad: [u8; 28],
}

/// State of one connection, both directions: the part that every segment reads and writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Core {
    pub key: FlowKey,
    /// Time of the first segment; with the slot it names the connection.
    pub created_ns: u64,
    pub flags: u16,
    /// Lives of this flow before this one, while it stayed in the table.
    pub incarnation: u16,
    /// [`Direction`] index of the client.
    pub initiator: u8,
    /// [`crate::event::Stage`] last reported.
    pub reported: u8,
    /// Per speaker, as of its last segment: whether [`super::predict`] may take what comes next, one of
    /// [`super::predict::steady`]. Written by the speaker.
    pub steady: [u8; 2],
    /// In the kernel's table only: [`bare::YES`] while the faults still hold what was there before, because all that came
    /// so far was predicted and needs none of them. A flood of SYNs would otherwise pay for ten cache lines each. Above
    /// that, [`bare::CLAIM`] for each CPU that is about to zero them.
    pub bare: u32,
    /// In the kernel's table only. Not 0: something was entered into the evidence map.
    pub noted: u32,
    pub half: [Half; 2],
    pub reach: [Reach; 2],
}

/// All of a connection in one piece.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Connection {
    pub core: Core,
    pub fault: [Fault; 2],
}

/// The parts of a connection, wherever they lie: in the kernel apart, so that what ordinary segments need is dense.
#[derive(Debug)]
pub struct Parts<'a> {
    pub core: &'a mut Core,
    pub fault: &'a mut [Fault; 2],
}

impl Connection {
    pub fn parts(&mut self) -> Parts<'_> {
        Parts { core: &mut self.core, fault: &mut self.fault }
    }
}

/// Who only reads a connection need not know in which part a field is.
impl Deref for Connection {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut Core {
        &mut self.core
    }
}

/// How far a connection has come, as its segments tell. Names are those shown to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Phase {
    SynSent = 0,
    SynReceived = 1,
    Established = 2,
    /// One FIN was sent.
    FinWait = 3,
    /// Both FINs were sent, not both acknowledged.
    Closing = 4,
    /// Both FINs were acknowledged.
    TimeWait = 5,
    /// An effective RST was sent.
    Reset = 6,
}

impl Phase {
    pub const ALL: [Phase; 7] = [
        Phase::SynSent,
        Phase::SynReceived,
        Phase::Established,
        Phase::FinWait,
        Phase::Closing,
        Phase::TimeWait,
        Phase::Reset,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Phase::SynSent => "syn_sent",
            Phase::SynReceived => "syn_received",
            Phase::Established => "established",
            Phase::FinWait => "fin_wait",
            Phase::Closing => "closing",
            Phase::TimeWait => "time_wait",
            Phase::Reset => "reset",
        }
    }
}

impl Half {
    #[inline(always)]
    pub const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
}

impl Core {
    /// Takes away what is the kernel's table's own.
    pub fn detach(&mut self) {
        (self.bare, self.noted) = (0, 0);
    }

    /// Whether the faults were not written yet.
    #[inline(always)]
    pub const fn is_bare(&self) -> bool {
        self.bare & bare::YES != 0
    }

    /// Whether scaling is certain: both SYNs were seen (RFC 7323 section 2.2).
    #[inline(always)]
    pub const fn scale_known(&self) -> bool {
        self.half[0].has(half::SYN) && self.half[1].has(half::SYN)
    }

    /// Whether `speaker`'s FIN was acknowledged.
    #[inline(always)]
    pub fn fin_acked(&self, speaker: Direction) -> bool {
        let me = &self.half[speaker.index()];
        let peer = &self.half[speaker.other().index()];
        me.has(half::FIN) && peer.has(half::ACKED) && peer.ack.at_or_after(me.fin_end)
    }

    /// The phase before any RST.
    #[inline(always)]
    pub fn phase_without_reset(&self) -> Phase {
        let (a, b) = (&self.half[0], &self.half[1]);
        match (a.has(half::FIN), b.has(half::FIN)) {
            (true, true) => {
                if self.fin_acked(Direction::Forward) && self.fin_acked(Direction::Reverse) {
                    return Phase::TimeWait;
                }
                return Phase::Closing;
            }
            (false, false) => {}
            _ => return Phase::FinWait,
        }
        if self.flags & conn::MID_STREAM != 0 {
            return Phase::Established;
        }
        let initiator = Direction::from_index(self.initiator);
        let client = &self.half[initiator.index()];
        let server = &self.half[initiator.other().index()];
        if !server.has(half::SEEN) {
            return Phase::SynSent;
        }
        if !client.has(half::SEEN) {
            return Phase::SynReceived;
        }
        // Its first acknowledgement was checked against the server's SYN when it was taken (`ack::on_ack`); later a
        // comparison would be wrong half of the time, because the numbers go round.
        let answered = client.has(half::ACKED);
        if answered || client.has(half::DATA) && !client.has(half::FAST_OPEN) {
            Phase::Established
        } else {
            Phase::SynReceived
        }
    }

    #[inline(always)]
    pub fn phase(&self) -> Phase {
        if self.half[0].has(half::RST) || self.half[1].has(half::RST) {
            Phase::Reset
        } else {
            self.phase_without_reset()
        }
    }

    /// Whether data of `speaker` that ended above the other end's unscaled window was acknowledged; see
    /// [`half::ACKED_OVER_RAW`].
    #[inline(always)]
    pub fn acked_over_raw(&self, speaker: Direction) -> bool {
        let me = &self.half[speaker.index()];
        let peer = &self.half[speaker.other().index()];
        me.has(half::ACKED_OVER_RAW)
            || me.has(half::OVER_RAW_PENDING)
                && peer.has(half::ACKED)
                && peer.ack.at_or_after(self.reach[speaker.index()].over_raw_end)
    }

    /// Time of the last segment either way.
    #[inline(always)]
    pub fn last_ns(&self) -> u64 {
        let (a, b) = (self.half[0].last_ns, self.half[1].last_ns);
        if a > b { a } else { b }
    }
}

const _: () = {
    assert!(core::mem::size_of::<Half>() == 128);
    assert!(core::mem::offset_of!(Half, data_ns) == 64);
    assert!(core::mem::size_of::<Fault>() == 320);
    assert!(core::mem::size_of::<Core>() == 368);
};
