//! The desynchronisation state machine, per direction of data.
//!
//! A direction is desynchronised when both ends still hold the connection but what one sends is outside what the
//! other accepts, repeatedly, so that nothing moves any more. Loss alone, however heavy, is not: a retransmission
//! would be acceptable.

use super::notes::{HARD, Notes};
use super::state::{Half, Parts, half, kind, sync_state};
use super::{SECOND, stall_ns};
use crate::anomaly::Anomaly;
use crate::evidence::ENTRIES;
use crate::flow::Direction;
use crate::seq::SeqNum;

const _: () = assert!(ENTRIES >= 8);
/// How long a recovery is remembered as context.
const RECOVERED_NS: u64 = 30 * SECOND;

/// Whether an anomaly makes a direction suspect, and whether that is its speaker's own data (`Some(true)`) or the
/// other end's, which the speaker acknowledges.
#[inline(always)]
const fn concerns(anomaly: u8) -> Option<bool> {
    const OWN: u64 = 1 << Anomaly::HolePersistent as u8
        | 1 << Anomaly::HoleNeverRetransmitted as u8
        | 1 << Anomaly::RexmitAboveHole as u8
        | 1 << Anomaly::SeqBeyondWindow as u8
        | 1 << Anomaly::DataBeyondWindow as u8
        | 1 << Anomaly::SeqJump as u8
        | 1 << Anomaly::BareAckSeqRegress as u8
        | 1 << Anomaly::TsRegressNew as u8;
    const OTHERS: u64 = 1 << Anomaly::AckUnsent as u8
        | 1 << Anomaly::SackUnsent as u8
        | 1 << Anomaly::SackBeyondOwnWindow as u8
        | 1 << Anomaly::SackInverted as u8
        | 1 << Anomaly::DsackShifted as u8
        | 1 << Anomaly::WindowShrink as u8
        | 1 << Anomaly::WindowCollapsePostsyn as u8
        | 1 << Anomaly::WindowUnscaledSuspect as u8
        | 1 << Anomaly::AckPingpong as u8
        | 1 << Anomaly::AckStorm as u8;
    let bit = 1u64 << (anomaly & 63);
    if OWN & bit != 0 {
        Some(true)
    } else if OTHERS & bit != 0 {
        Some(false)
    } else {
        None
    }
}

/// Takes the notes of the segment at hand into both directions' state.
#[inline(always)]
pub fn update(c: &mut Parts, dir: Direction, now_ns: u64, notes: &mut Notes) {
    holes(c, dir, now_ns, notes);
    if notes.suspicion != 0 {
        suspect_softly(c, dir, now_ns);
    }
    if notes.hard > 0 {
        let mut i = 0;
        while i < notes.note.len() {
            if i >= notes.count as usize {
                break;
            }
            let note = notes.note[i];
            i += 1;
            if note.flags & HARD == 0 {
                continue;
            }
            if let Some(own) = concerns(note.anomaly) {
                let speaker = Direction::from_index(note.direction);
                let data = if own { speaker } else { speaker.other() };
                suspect(c, data, note.expected, note.actual, now_ns);
            }
        }
    }
    if c.fault[0].sync.state != sync_state::IN_SYNC {
        step(c, Direction::Forward, now_ns);
    }
    if c.fault[1].sync.state != sync_state::IN_SYNC {
        step(c, Direction::Reverse, now_ns);
    }
}

/// The life of a hole in `dir`'s stream, looked at when `dir` speaks.
#[inline(always)]
fn holes(c: &mut Parts, dir: Direction, now_ns: u64, notes: &mut Notes) {
    if !c.core.half[dir.index()].has(half::HOLE) {
        return;
    }
    let peer = &c.core.half[dir.other().index()];
    let (una_known, una, dup_acks, stuck_ns) = (peer.has(half::ACKED), peer.ack, peer.dup_acks, peer.ack_ns);
    let lossy = super::settle::lossy(c);
    let me = &mut c.core.half[dir.index()];
    let fault = &mut c.fault[dir.index()];
    if una_known && una.after(fault.hole.lo) {
        // The receiver has the bytes, so they were sent: only this view misses them.
        notes.push(Anomaly::CaptureGap, dir, fault.hole.lo, una);
        fault.gaps_confirmed = fault.gaps_confirmed.saturating_add(1);
        if fault.gaps_confirmed >= 3 {
            c.core.flags |= super::state::conn::CAPTURE_LOSSY;
        }
        fault.hole.lo = una;
        fault.hole.rounds = 0;
        if una.at_or_after(fault.hole.hi) {
            me.flags &= !(half::HOLE | half::HOLE_PERSISTENT | half::HOLE_NEVER_RETRANSMITTED);
            return;
        }
    }
    // How long both have lasted: the hole, and the receiver's standing at it.
    let age = now_ns.saturating_sub(fault.hole.since_ns.max(stuck_ns));
    let rtt4 = me.rtt_min_us as u64 * 4_000;
    let bar = if rtt4 > SECOND { rtt4 } else { SECOND };
    let stuck = una_known && una == fault.hole.lo && dup_acks >= 3 && fault.hole.rounds >= 2;
    if age <= bar || !stuck {
        return;
    }
    if !me.has(half::HOLE_PERSISTENT) {
        me.flags |= half::HOLE_PERSISTENT;
        notes.push_weighed(Anomaly::HolePersistent, dir, fault.hole.lo, fault.hole.hi, !lossy);
    }
    let silent_for = 2 * super::rto_ns(me);
    if !me.has(half::HOLE_NEVER_RETRANSMITTED)
        && fault.hole.rexmit_lo == 0
        && fault.hole.rounds >= 3
        && age > silent_for
    {
        me.flags |= half::HOLE_NEVER_RETRANSMITTED;
        notes.push_weighed(Anomaly::HoleNeverRetransmitted, dir, fault.hole.lo, fault.hole.hi, !lossy);
    }
}

/// A third retransmission of one number while the receiver is heard (DIAGNOSIS 2.2): worth watching, and gone with the
/// first progress. Without a hard anomaly it never becomes a desynchronisation.
#[inline(always)]
fn suspect_softly(c: &mut Parts, data: Direction, now_ns: u64) {
    let nxt = c.core.half[data.index()].snd_nxt;
    let una = c.core.half[data.other().index()].ack;
    let sync = &mut c.fault[data.index()].sync;
    if sync.state == sync_state::IN_SYNC {
        sync.state = sync_state::SUSPECT;
        sync.kind = kind::NONE;
        sync.since_ns = now_ns;
        sync.first_ns = now_ns;
        sync.expected = una;
        sync.actual = una;
        sync.entry_nxt = nxt;
        sync.hard = 0;
    }
}

#[inline(always)]
fn suspect(c: &mut Parts, data: Direction, expected: SeqNum, actual: SeqNum, now_ns: u64) {
    let nxt = c.core.half[data.index()].snd_nxt;
    let hole = c.core.half[data.index()].has(half::HOLE_PERSISTENT);
    let fault = &mut c.fault[data.index()];
    let since = if hole { fault.hole.since_ns } else { now_ns };
    let sync = &mut fault.sync;
    let softly = sync.state == sync_state::SUSPECT && sync.hard == 0;
    if sync.state == sync_state::IN_SYNC || sync.state == sync_state::RECOVERED || softly {
        sync.state = sync_state::SUSPECT;
        sync.kind = kind::NONE;
        sync.since_ns = now_ns;
        sync.first_ns = since;
        sync.expected = expected;
        sync.actual = actual;
        sync.entry_nxt = nxt;
        sync.hard = 0;
    }
    sync.hard = sync.hard.saturating_add(1);
    sync.last_hard_ns = now_ns;
}

#[inline(always)]
fn step(c: &mut Parts, data: Direction, now_ns: u64) {
    let kind_now = kind_of(c, data, now_ns);
    let receiver = &c.core.half[data.other().index()];
    let (una, progress_ns) = (receiver.ack, receiver.ack_ns);
    let stall = stall_ns(&c.core.half[data.index()]);
    let nxt = c.core.half[data.index()].snd_nxt;
    let sync = &mut c.fault[data.index()].sync;
    let quiet = now_ns > sync.last_hard_ns + stall;
    match sync.state {
        sync_state::SUSPECT if sync.hard == 0 && progress_ns > sync.since_ns => sync.state = sync_state::IN_SYNC,
        sync_state::SUSPECT if sync.hard == 0 => {}
        sync_state::SUSPECT => {
            let last = if progress_ns > sync.first_ns { progress_ns } else { sync.first_ns };
            let stalled = now_ns >= last + stall;
            let at_once = matches!(kind_now, kind::SACK_OFFSET | kind::WSCALE);
            if kind_now != kind::NONE && (stalled || at_once) {
                sync.state = sync_state::DESYNCED;
                sync.kind = kind_now;
                sync.since_ns = now_ns;
                sync.entry_nxt = nxt;
            } else if una.after(sync.entry_nxt) && quiet {
                sync.state = sync_state::IN_SYNC;
                sync.hard = 0;
            }
        }
        sync_state::DESYNCED if una.at_or_after(sync.entry_nxt) && quiet && progress_ns > sync.since_ns => {
            sync.state = sync_state::RECOVERED;
            sync.since_ns = now_ns;
        }
        sync_state::RECOVERED if now_ns > sync.since_ns + RECOVERED_NS => {
            sync.state = sync_state::IN_SYNC;
            sync.hard = 0;
        }
        _ => {}
    }
}

/// What the sender says lies in another number space, repeatedly, and its receiver stands where it stood.
#[inline(always)]
fn elsewhere(receiver: &Half, own: u8, refused: u8) -> bool {
    own as u32 + refused as u32 >= 3 && receiver.has(half::ACKED) && receiver.prev_ack == receiver.ack
}

/// The kind whose rule holds for `data`'s stream, the most telling first.
#[inline(always)]
fn kind_of(c: &Parts, data: Direction, now_ns: u64) -> u8 {
    let sender = &c.core.half[data.index()];
    let of_sender = &c.fault[data.index()];
    let receiver = &c.core.half[data.other().index()];
    let of_receiver = &c.fault[data.other().index()];
    let shifted = of_receiver.dsack_shift_hits >= 2 && of_receiver.dsack_shift <= receiver.wnd_max;
    // The blocks lie beyond what was sent by the same bytes each time, while the plain acknowledgements fit.
    let sacks_shifted = of_sender.sack_lo_hits >= 3 && of_sender.ack_unsent_hits == 0;
    if of_sender.shift_hits >= 3 || shifted {
        kind::OFFSET
    } else if of_sender.phantom_hits >= 2
        || sender.has(half::HOLE_PERSISTENT) && of_sender.hole.rexmit_hi >= 3 && of_sender.hole.rexmit_lo == 0
    {
        kind::OFFSET_UPSTREAM
    } else if of_receiver.sack_hits >= 3 || sacks_shifted {
        kind::SACK_OFFSET
    } else if sender.has(half::HOLE_NEVER_RETRANSMITTED) {
        kind::GAP
    } else if of_sender.ack_unsent_hits >= 3 {
        kind::ACK_UNSENT_ERRATIC
    } else if receiver.has(half::COLLAPSED) || receiver.has(half::UNSCALED_SUSPECT) && of_receiver.beyond_hits >= 1 {
        kind::WSCALE
    } else if of_receiver.beyond_hits >= 3 {
        kind::OVERRUN
    } else if of_receiver.shrink_hits >= 1 && of_sender.rexmits >= 2 {
        kind::SHRINK
    } else if of_sender.ts_regress_hits >= 3 {
        kind::PAWS
    } else if elsewhere(receiver, of_sender.jump_hits, of_receiver.jump_hits) {
        kind::OFFSET_UPSTREAM
    } else if of_sender.pingpongs >= 3 && now_ns > of_sender.pingpong_since_ns + SECOND {
        kind::ACK_WAR
    } else {
        kind::NONE
    }
}
