//! Two-phase anomalies: raising candidates, and the verdict of the party that knows.
//!
//! An ACK of bytes never seen sent means either that the observer missed them or that the ends disagree. Only the
//! data's sender knows: if its next new segment starts at or above the acknowledged number the observer missed
//! bytes; if it goes on from where it was, the acknowledgement was wrong. A retransmission proves nothing.

use super::notes::Notes;
use super::state::{Candidate, Fault, Half, Parts, candidate, conn, half, weight};
use super::{SECOND, reorder_ns, sequence, stall_ns, timestamps};
use crate::anomaly::Anomaly;
use crate::flow::Direction;
use crate::segment::Segment;
use crate::seq::SeqNum;

/// A candidate nobody settled for this long is dropped.
const EXPIRY_NS: u64 = 10 * SECOND;
/// Proven capture losses that make a view lossy.
const LOSSY_GAPS: u16 = 3;

/// Opens a candidate of the speaker that `me` and `fault` belong to, unless one of the kind is open (`settled` is the
/// judge's mark for it).
#[inline(always)]
pub fn raise(me: &mut Half, fault: &mut Fault, index: usize, settled: u8, new: Candidate) {
    me.flags |= half::RAISED;
    let slot = &mut fault.candidates[index];
    if slot.generation != settled {
        slot.heavy |= new.heavy;
        return;
    }
    *slot = Candidate { generation: settled.wrapping_add(1), ..new };
}

/// Forgets that `dir` raised anything once all of it is settled, so that ordinary segments look no further.
#[inline(always)]
pub fn on_raiser(c: &mut Parts, dir: Direction) {
    if !c.core.half[dir.index()].has(half::RAISED) {
        return;
    }
    let raised = &c.fault[dir.index()].candidates;
    let settled = &c.fault[dir.other().index()].settled;
    let mut open = 0;
    let mut i = 0;
    while i < candidate::COUNT {
        open |= raised[i].generation ^ settled[i];
        i += 1;
    }
    if open == 0 {
        c.core.half[dir.index()].flags &= !half::RAISED;
    }
}

/// Settles what the other end claimed about `dir`'s data, now that `dir` speaks.
#[inline(always)]
pub fn on_judge(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    let raiser = dir.other();
    if !c.core.half[raiser.index()].has(half::RAISED) {
        return;
    }
    if c.fault[raiser.index()].candidates[candidate::ACK_UNSENT].generation
        != c.fault[dir.index()].settled[candidate::ACK_UNSENT]
    {
        judge(c, dir, s, now_ns, candidate::ACK_UNSENT, Anomaly::AckUnsent, notes);
    }
    if c.fault[raiser.index()].candidates[candidate::SACK_UNSENT].generation
        != c.fault[dir.index()].settled[candidate::SACK_UNSENT]
    {
        judge(c, dir, s, now_ns, candidate::SACK_UNSENT, Anomaly::SackUnsent, notes);
    }
    if c.fault[raiser.index()].candidates[candidate::TSECR_FUTURE].generation
        != c.fault[dir.index()].settled[candidate::TSECR_FUTURE]
    {
        timestamps::judge(c, dir, s, now_ns, notes);
    }
}

#[inline(always)]
fn judge(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, index: usize, anomaly: Anomaly, notes: &mut Notes) {
    let raiser = dir.other();
    let open = c.fault[raiser.index()].candidates[index];
    let peer = &c.core.half[raiser.index()];
    let is_probe = sequence::probe(&c.core.half[dir.index()], peer, s).is_some();
    let una = peer.ack;
    let lossy = lossy(c);
    let me = &mut c.core.half[dir.index()];
    let fault = &mut c.fault[dir.index()];
    let nxt = me.snd_nxt;
    let claimed = open.actual;

    if nxt.at_or_after(claimed)
        || now_ns > open.time_ns + EXPIRY_NS && me.segments.wrapping_sub(open.judge_segments) < 3
    {
        fault.settled[index] = open.generation;
        return;
    }
    if s.seq.at_or_after(claimed.sub(1)) && s.seq.after(nxt) {
        // It goes on where the other end said, or probes right below: the bytes were sent, only not seen here.
        fault.settled[index] = open.generation;
        sequence::advance_unseen(me, claimed);
        fault.gaps_confirmed = fault.gaps_confirmed.saturating_add(1);
        if fault.gaps_confirmed >= LOSSY_GAPS {
            c.core.flags |= conn::CAPTURE_LOSSY;
        }
        notes.push(Anomaly::CaptureGap, dir, nxt, claimed);
        return;
    }
    let age = now_ns.saturating_sub(open.time_ns);
    // Only a bare ACK tells SND.NXT (RFC 9293 section 3.4). Data at `nxt` may be the retransmission of what was missed
    // here, and a retransmission from below it means only that the other end's ACK may be lost.
    let bare = s.seq_len() == 0;
    let at_nxt = bare && s.seq == nxt && !is_probe && age > reorder_ns(me);
    // A FIN fixes the end of the stream, so all that is sent after it tells, too.
    let ended = me.has(half::FIN) && claimed.after(me.fin_end);
    let stalled = age >= stall_ns(me) && me.segments.wrapping_sub(open.judge_segments) >= 3 && (is_probe || ended);
    if !at_nxt && !stalled {
        return;
    }
    fault.settled[index] = open.generation;
    // A SACK block is one of many chances to see what a lossy view misses.
    let hard = index == candidate::ACK_UNSENT || !lossy;
    notes.push_weighed(anomaly, raiser, open.expected, claimed, hard);
    if index == candidate::ACK_UNSENT {
        fault.ack_unsent_hits = fault.ack_unsent_hits.saturating_add(1);
        narrow(fault, claimed.distance(open.expected) as u32, claimed.distance(una) as u32);
    } else if hard {
        // Only the lower bound of an offset shows in SACK blocks (DIAGNOSIS 2.3): a block may end below all that was sent.
        let beyond = claimed.distance(open.expected) as u32;
        if fault.sack_lo_hits == 0 || beyond > fault.sack_lo {
            fault.sack_lo = beyond;
            fault.sack_lo_hits = 1;
        } else if beyond == fault.sack_lo {
            fault.sack_lo_hits = fault.sack_lo_hits.saturating_add(1);
        }
    }
}

/// Narrows the interval that a constant offset must lie in; an empty one starts again.
#[inline(always)]
fn narrow(fault: &mut Fault, lo: u32, hi: u32) {
    let (old_lo, old_hi) = (fault.shift_lo, fault.shift_hi);
    let new_lo = if fault.shift_hits > 0 && old_lo > lo { old_lo } else { lo };
    let new_hi = if fault.shift_hits > 0 && old_hi < hi { old_hi } else { hi };
    if new_lo <= new_hi {
        fault.shift_lo = new_lo;
        fault.shift_hi = new_hi;
        fault.shift_hits = fault.shift_hits.saturating_add(1);
    } else {
        fault.shift_lo = lo;
        fault.shift_hi = hi;
        fault.shift_hits = 1;
    }
}

/// Settles `sender`'s data beyond the window, now that the receiver acknowledges.
#[inline(always)]
pub fn on_receiver_ack(
    c: &mut Parts,
    receiver: Direction,
    ack: SeqNum,
    offered: u32,
    advanced: bool,
    now_ns: u64,
    notes: &mut Notes,
) {
    let sender = receiver.other();
    if !c.core.half[sender.index()].has(half::RAISED) {
        return;
    }
    let open = c.fault[sender.index()].candidates[candidate::BEYOND_WINDOW];
    let rtt_ns = c.core.half[receiver.index()].rtt_min_us as u64 * 1_000;
    let wait = reorder_ns(&c.core.half[receiver.index()]).max(rtt_ns);
    let (lossy, certain) = (lossy(c), c.core.scale_known());
    let judge = &mut c.fault[receiver.index()];
    if open.generation == judge.settled[candidate::BEYOND_WINDOW] {
        return;
    }
    // It has the data, or has offered room for it in an update that was missed here.
    if ack.add(offered).at_or_after(open.actual) {
        judge.settled[candidate::BEYOND_WINDOW] = open.generation;
    } else if !advanced && now_ns > open.time_ns + wait {
        judge.settled[candidate::BEYOND_WINDOW] = open.generation;
        let jump = open.heavy & weight::JUMP != 0;
        judge.jump_hits = judge.jump_hits.saturating_add(jump as u8);
        judge.beyond_hits = judge.beyond_hits.saturating_add(!jump as u16);
        let anomaly = if jump {
            Anomaly::SeqJump
        } else if open.heavy & weight::WHOLE != 0 {
            Anomaly::SeqBeyondWindow
        } else {
            Anomaly::DataBeyondWindow
        };
        let hard = open.heavy & weight::HEAVY != 0 && !lossy && certain;
        notes.push_weighed(anomaly, sender, open.expected, open.actual, hard);
    }
}

/// Whether a proven gap or a retraction says that the view loses packets.
#[inline(always)]
pub fn lossy(c: &Parts) -> bool {
    c.core.flags & conn::CAPTURE_LOSSY != 0
        || c.core.half[0].has(half::END_UNCERTAIN)
        || c.core.half[1].has(half::END_UNCERTAIN)
}
