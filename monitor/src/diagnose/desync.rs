//! Whether the ends had stopped accepting each other's segments, and in what way (DIAGNOSIS 2 and the benign guard
//! of 3.3).
//!
//! The tracker's state machine runs while segments flow; here its state at the end is weighed. A false
//! desynchronisation is worse than a missed one, so every doubt is resolved towards "in sync".

use super::shape::ResetView;
use super::silent;
use crate::history::{End, History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::segment::flags;
use monitor_common::seq::SeqNum;
use monitor_common::tracker::state::{Half, half, kind, sync_state};
use monitor_common::tracker::{OLD_ACK_SPAN, SECOND, rto_ns};

/// A direction of data whose ends no longer agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DesyncView {
    /// [`kind`]; [`kind::NONE`] when hard anomalies of several kinds stand without one rule complete.
    pub kind: u8,
    /// Speaker of the data that is no longer accepted.
    pub data: Direction,
    /// When the numbers first diverged.
    pub first_ns: u64,
    /// When the kind was fixed; the end's time when only the end's view completes it.
    pub fixed_ns: u64,
    /// What should have been, and was, at the first divergence.
    pub expected: SeqNum,
    pub actual: SeqNum,
    /// How far the two ends' numbers lie apart, as exactly as is known; 0 where the kind has no distance.
    pub distance: i64,
    /// Confirmed hard anomalies since the first.
    pub hard: u16,
}

/// Where the numbers went apart, as the observer stands (DIAGNOSIS 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Between the observer and the receiver of the data: the receiver's words are wrong, the sender's consistent.
    Beyond,
    /// Between the sender and the observer: the sender's own words contradict each other.
    Before,
    Unknown,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Place::Beyond => "beyond_observer",
            Place::Before => "before_observer",
            Place::Unknown => "unknown",
        }
    }
}

impl DesyncView {
    pub fn place(&self) -> Place {
        match self.kind {
            kind::OFFSET | kind::SACK_OFFSET | kind::ACK_UNSENT_ERRATIC | kind::SHRINK => Place::Beyond,
            kind::OFFSET_UPSTREAM | kind::GAP | kind::PAWS => Place::Before,
            _ => Place::Unknown,
        }
    }

    /// Bytes of the direction at fault that got through since the numbers diverged; what is certain of it.
    pub fn delivered_since(&self, history: &History) -> u32 {
        let receiver = history.half(self.data.other());
        if receiver.ack_ns <= self.first_ns {
            return 0;
        }
        let entry = history.connection.fault[self.data.index()].sync.entry_nxt;
        receiver.ack.distance(entry).max(0) as u32
    }
}

/// A gap in a sender's stream that its receiver waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenHole {
    pub lo: SeqNum,
    pub hi: SeqNum,
    pub since_ns: u64,
    pub dup_acks: u16,
    pub later: u16,
    pub rexmit_lo: u8,
    /// It outlived max(1 s, 4 RTT) with the receiver stuck at it: `hole_persistent`.
    pub persistent: bool,
    /// ... and its sender went on without ever filling it: `hole_never_retransmitted`.
    pub never_filled: bool,
}

/// Duplicate acknowledgements that show the receiver stuck (RFC 5681 section 3.2; DIAGNOSIS 1.1 `hole_persistent`).
const STUCK_DUP_ACKS: u16 = 3;
/// Segments beyond the hole that show the sender going on (DIAGNOSIS 1.1 `hole_never_retransmitted`).
const LATER_SEGMENTS: u16 = 3;
/// Segments of another number space, refused, that make it a state and not an accident (DIAGNOSIS 2.3).
const JUMPS: u16 = 3;
/// Hard anomalies without which a suspicion at the reset is not a desynchronisation (DIAGNOSIS 2.2).
const SUSPECT_HARD: u16 = 2;

/// The hole of `data`'s stream as it stands at the end. The tracker looks at a hole only when its sender speaks; the
/// receiver may give up in between, and the sender's RST is its last word.
pub fn open_hole(history: &History, data: Direction) -> Option<OpenHole> {
    let me = history.half(data);
    let peer = history.half(data.other());
    if !me.has(half::HOLE) || !peer.has(half::ACKED) {
        return None;
    }
    let hole = &history.connection.fault[data.index()].hole;
    if peer.ack.at_or_after(hole.hi) {
        return None;
    }
    let now = history.time_ns;
    let age = now.saturating_sub(hole.since_ns);
    let bar = SECOND.max(u64::from(me.rtt_min_us) * 4_000);
    let stuck = peer.ack == hole.lo && peer.dup_acks >= STUCK_DUP_ACKS;
    let persistent = stuck && hole.later >= 1 && age > bar;
    let patience = 2 * rto_ns(me);
    let spoke = history.records.iter().rev().any(|r| {
        // Its data, or the decision to give up; a bare ACK only shows that it lives.
        let word = r.record.payload_len > 0 || r.record.flags & flags::RST != 0;
        r.speaker == data && word && r.record.time_ns > hole.since_ns + patience
    });
    let never_filled = persistent && hole.rexmit_lo == 0 && hole.later >= LATER_SEGMENTS && age > patience && spoke;
    Some(OpenHole {
        lo: hole.lo,
        hi: hole.hi,
        since_ns: hole.since_ns,
        dup_acks: peer.dup_acks,
        later: hole.later,
        rexmit_lo: hole.rexmit_lo,
        persistent,
        never_filled,
    })
}

/// The verdict on both directions; the one that diverged first when both did.
pub fn judge(history: &History, reset: Option<&ResetView>) -> Option<DesyncView> {
    let found = [Direction::Forward, Direction::Reverse].into_iter().filter_map(|d| of_direction(history, reset, d));
    // A kind that names the fault says more than the mutual rejection that follows from it.
    found.min_by_key(|d| (matches!(d.kind, kind::ACK_WAR | kind::NONE), d.first_ns))
}

/// The receiver's window collapsed after the handshake and the data trickles: whoever loses patience, that is why.
fn lives_with_wrong_scale(history: &History, reset: Option<&ResetView>, data: Direction) -> bool {
    let c = &history.connection;
    match reset {
        Some(r) => r.effective && silent::trickles(c, data.other()),
        None => silent::lives_with_it(c, data.other()),
    }
}

fn slow(history: &History, data: Direction) -> bool {
    silent::trickles(&history.connection, data.other()) || took_back_scale(history, data)
}

/// The first window after the SYN was the SYN's own although a scale was agreed, and the right edge has moved back by
/// eight times as much since, with data held up at it (DIAGNOSIS 2.3).
fn took_back_scale(history: &History, data: Direction) -> bool {
    let (me, peer) = (history.half(data.other()), history.half(data));
    let suspect = history.seen(Anomaly::WindowUnscaledSuspect).any(|s| s.speaker == data.other());
    let back = me.edge_max.distance(me.edge_cur);
    let held = flight_size(peer, me) > 0 || me.edge_cur == me.ack;
    suspect && held && back > 8 * i32::from(history.reach(data.other()).syn_wnd)
}

fn waits_for_reader(history: &History, data: Direction) -> bool {
    history.seen(Anomaly::ZeroWindow).any(|s| s.speaker == data.other())
}

/// One packet with two number spaces, or windows that cannot be meant: no stall is needed to know (DIAGNOSIS 2.2).
fn proves_itself(kind: u8) -> bool {
    matches!(kind, kind::SACK_OFFSET | kind::WSCALE)
}

fn of_direction(history: &History, reset: Option<&ResetView>, data: Direction) -> Option<DesyncView> {
    let sync = &history.connection.fault[data.index()].sync;
    let receiver = history.half(data.other());
    let hole = open_hole(history, data);
    let hole_hard = hole.is_some_and(|h| h.never_filled);
    let ended_clean = matches!(history.end, End::Closed);

    let (kind, fixed_ns) = match sync.state {
        // The state machine has forgotten a fault that moves on however slowly; the window has not.
        _ if sync.state != sync_state::DESYNCED && lives_with_wrong_scale(history, reset, data) => {
            (kind::WSCALE, receiver.last_ns)
        }
        // An unscaled window that was taken for a scaled one goes back a hundred bytes for every byte received.
        _ if took_back_scale(history, data) => (kind::WSCALE, receiver.last_ns),
        sync_state::DESYNCED if sync.kind != kind::GAP => (sync.kind, sync.since_ns),
        // Blame for a gap needs its sender's later words; without them it is loss (see `open_hole`).
        sync_state::DESYNCED if hole_hard => (kind::GAP, sync.since_ns),
        // A translation fault that the connection survives is worth a report of its own, and only that.
        sync_state::RECOVERED if reset.is_none() && proves_itself(sync.kind) => (sync.kind, sync.since_ns),
        sync_state::SUSPECT | sync_state::IN_SYNC if hole_hard => (kind::GAP, history.time_ns),
        sync_state::SUSPECT => {
            let kind = kind_so_far(history, data);
            // Only an end settles a suspicion; without one it may still resolve itself.
            if reset.is_none() && !matches!(history.end, End::Silent) || kind == kind::NONE || sync.hard < SUSPECT_HARD
            {
                return None;
            }
            let progressed = receiver.ack_ns > sync.first_ns;
            if progressed && !proves_itself(kind) {
                return None;
            }
            (kind, history.time_ns)
        }
        _ => return None,
    };

    // A window that closed altogether is full: its reader is what everybody waits for.
    if kind == kind::SHRINK && waits_for_reader(history, data) {
        return None;
    }
    // The benign guard.
    let everything_acked = [Direction::Forward, Direction::Reverse]
        .iter()
        .all(|d| history.all_acked(*d) && open_hole(history, *d).is_none());
    let closed = history.connection.fin_acked(Direction::Forward) && history.connection.fin_acked(Direction::Reverse);
    let survived = proves_itself(kind) && (reset.is_none() || kind == kind::WSCALE && slow(history, data));
    // What lies in another number space moves no edge, so it is never outstanding.
    let unheard = kind == kind::OFFSET_UPSTREAM && elsewhere(history, data);
    let everything_acked = everything_acked && !unheard;
    if (everything_acked || closed || ended_clean) && !survived {
        return None;
    }
    let no_hard = !history.anomalies.iter().any(|s| s.hard) && !hole_hard;
    if no_hard {
        return None;
    }
    let stuck_at_hole = kind == kind::GAP;
    if !stuck_at_hole && !proves_itself(kind) && receiver.ack_ns > sync.last_hard_ns {
        return None;
    }
    let found = view(history, data, kind, fixed_ns, hole);
    // Nobody can take back more than was ever offered: edges that far apart belong to two lives of the 4-tuple.
    let offered = i64::from(receiver.wnd_max) + i64::from(OLD_ACK_SPAN);
    if kind == kind::SHRINK && found.distance.abs() > offered {
        return None;
    }
    Some(found)
}

/// The kind that the anomalies so far point at: the tracker's rules (`tracker::sync`), with the repetitions that a
/// RST cut short (DIAGNOSIS 2.2, SUSPECT -> RESET).
fn kind_so_far(history: &History, data: Direction) -> u8 {
    let sender = &history.connection.fault[data.index()];
    let receiver = &history.connection.fault[data.other().index()];
    if sender.shift_hits >= 1 || receiver.dsack_shift_hits >= 2 {
        kind::OFFSET
    } else if sender.phantom_hits >= 1 || rexmit_above(history, data) {
        kind::OFFSET_UPSTREAM
    } else if receiver.sack_hits >= 2 {
        kind::SACK_OFFSET
    } else if history.half(data.other()).has(half::COLLAPSED) {
        kind::WSCALE
    } else if receiver.beyond_hits >= 1 {
        kind::OVERRUN
    } else if receiver.shrink_hits >= 1 && sender.rexmits >= 2 {
        kind::SHRINK
    } else if sender.ts_regress_hits >= 1 {
        kind::PAWS
    } else if elsewhere(history, data) {
        kind::OFFSET_UPSTREAM
    } else if sender.pingpongs >= 3 {
        kind::ACK_WAR
    } else {
        kind::NONE
    }
}

/// The sender insists on what starts right above the hole: it takes the hole's end for its own SND.UNA.
pub fn rexmit_above(history: &History, data: Direction) -> bool {
    let hole = &history.connection.fault[data.index()].hole;
    history.half(data).has(half::HOLE) && hole.rexmit_hi >= 3 && hole.rexmit_lo == 0
}

/// The sender's segments lie in another number space, repeatedly, and the receiver says again where it stood before.
pub fn elsewhere(history: &History, data: Direction) -> bool {
    let fault = &history.connection.fault;
    let receiver = history.half(data.other());
    let jumps = u16::from(fault[data.index()].jump_hits) + u16::from(fault[data.other().index()].jump_hits);
    jumps >= JUMPS && receiver.has(half::ACKED) && receiver.prev_ack == receiver.ack && jump(history, data).is_some()
}

/// The first segment of another number space.
fn jump(history: &History, data: Direction) -> Option<&Seen> {
    let first = history.seen(Anomaly::SeqJump).find(|s| s.speaker == data && s.hard)?;
    // Nothing was acknowledged any more since.
    (history.half(data.other()).ack_ns <= first.last_ns).then_some(first)
}

fn view(history: &History, data: Direction, kind: u8, fixed_ns: u64, hole: Option<OpenHole>) -> DesyncView {
    let fault = &history.connection.fault[data.index()];
    let receiver = &history.connection.fault[data.other().index()];
    let sync = &fault.sync;
    let mut d = DesyncView {
        kind,
        data,
        first_ns: sync.first_ns,
        fixed_ns,
        expected: sync.expected,
        actual: sync.actual,
        distance: i64::from(sync.actual.distance(sync.expected)),
        hard: sync.hard,
    };
    match kind {
        kind::GAP => {
            if let Some(h) = hole {
                (d.expected, d.actual, d.first_ns) = (h.lo, h.hi, h.since_ns);
                d.distance = i64::from(h.hi.distance(h.lo));
                d.hard = d.hard.max(1 + u16::from(h.never_filled));
            }
        }
        // A DSACK names the offset exactly; acknowledgements bound it, and the interval may have closed on it.
        kind::OFFSET if receiver.dsack_shift_hits >= 2 => d.distance = i64::from(receiver.dsack_shift),
        kind::OFFSET if fault.shift_hits > 0 => d.distance = i64::from(fault.shift_lo),
        kind::OFFSET_UPSTREAM if rexmit_above(history, data) => {
            d.distance = i64::from(fault.hole.hi.distance(fault.hole.lo));
        }
        kind::OFFSET_UPSTREAM if fault.phantom_hits == 0 => {
            if let Some(jump) = jump(history, data) {
                (d.expected, d.actual) = (SeqNum(jump.expected), SeqNum(jump.actual));
                d.distance = i64::from(d.actual.distance(d.expected));
            }
        }
        kind::OFFSET_UPSTREAM => d.distance = i64::from(fault.phantom),
        // A block may end below all that was sent, so the last one and the furthest are lower bounds of one offset.
        kind::SACK_OFFSET => {
            let last = i64::from(receiver.sack_shift as i32);
            d.distance = if fault.sack_lo_hits > 0 { last.max(i64::from(fault.sack_lo)) } else { last };
        }
        // Timestamps and mutual rejection have no distance in bytes.
        kind::PAWS | kind::ACK_WAR => d.distance = 0,
        _ => {}
    }
    d
}

/// Groups of anomalies that arise from one another; two of one group are one piece of evidence (DIAGNOSIS 3.4).
pub fn class(anomaly: Anomaly) -> Option<u8> {
    Some(match anomaly {
        Anomaly::HolePersistent | Anomaly::HoleNeverRetransmitted | Anomaly::RexmitAboveHole => 0,
        Anomaly::AckUnsent | Anomaly::AckTooOld => 1,
        Anomaly::SackUnsent | Anomaly::SackBeyondOwnWindow | Anomaly::SackInverted | Anomaly::DsackShifted => 2,
        Anomaly::SeqBeyondWindow | Anomaly::DataBeyondWindow => 3,
        Anomaly::WindowShrink | Anomaly::WindowCollapsePostsyn => 4,
        Anomaly::BareAckSeqRegress | Anomaly::SeqJump | Anomaly::SeqBelowWindow | Anomaly::DataAfterOwnFin => 5,
        Anomaly::TsRegressNew => 6,
        Anomaly::AckPingpong | Anomaly::AckStorm => 7,
        _ => return None,
    })
}

/// Independent classes of hard anomalies since the first divergence, beyond the first.
pub fn further_classes(history: &History, desync: &DesyncView) -> u8 {
    let relevant = |s: &&Seen| s.hard && s.last_ns >= desync.first_ns;
    let mut classes: Vec<u8> = history.anomalies.iter().filter(relevant).filter_map(|s| class(s.anomaly)).collect();
    classes.sort_unstable();
    classes.dedup();
    classes.len().saturating_sub(1) as u8
}

/// Bytes that `speaker` has in flight.
pub fn flight_size(me: &Half, peer: &Half) -> u32 {
    if peer.has(half::ACKED) { me.snd_nxt.distance(peer.ack).max(0) as u32 } else { 0 }
}
