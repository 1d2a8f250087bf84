//! SACK and DSACK blocks (RFC 2018, RFC 2883).

use super::notes::Notes;
use super::settle;
use super::state::{Candidate, Parts, candidate, half};
use crate::anomaly::Anomaly;
use crate::flow::Direction;
use crate::segment::Segment;
use crate::seq::SeqNum;

/// Without a known scale: the largest window there is (RFC 7323 section 2.3).
const MAX_WINDOW: u32 = 1 << 30;

#[inline(always)]
pub fn on_sack(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    // An inferred scale is a lower bound.
    let window = if c.core.scale_known() { c.core.half[dir.index()].wnd_max } else { MAX_WINDOW };
    let sender = &c.core.half[dir.other().index()];
    let (sender_seen, sent, sender_segments) = (sender.has(half::SEEN), sender.snd_nxt, sender.segments);
    let judge = &c.fault[dir.other().index()];
    let settled = judge.settled[candidate::SACK_UNSENT];
    let (rexmit_seq, rexmit_len, rexmits) = (judge.rexmit_seq, judge.rexmit_len, judge.rexmits as u8);
    let shadow = (sender.has(half::SHADOW), judge.shadow_end);
    let me = &mut c.core.half[dir.index()];
    let fault = &mut c.fault[dir.index()];

    let mut highest = SeqNum(0);
    let mut any = false;
    let mut i = 0;
    while i < 4 {
        if i >= s.sack_count as usize {
            break;
        }
        let [left, right] = s.sack[i];
        i += 1;
        if right.at_or_before(left) {
            notes.push(Anomaly::SackInverted, dir, left, right);
            continue;
        }
        if i == 1 && right.at_or_before(s.ack) {
            notes.push(Anomaly::Dsack, dir, s.ack, left);
            continue;
        }
        // Blocks below the acknowledgement are DSACKs too; they say nothing about what is in flight.
        if right.at_or_before(s.ack) {
            continue;
        }
        if i == 1 && s.sack_count > 1 && within(s, left, right) {
            // The block lies inside a later one, so it reports a duplicate. The retransmission of what the receiver
            // waits for, reported elsewhere, was moved on its way.
            let moved = rexmit_seq == s.ack && right.distance(left) as u32 == rexmit_len && left.after(rexmit_seq);
            if !moved {
                notes.push(Anomaly::Dsack, dir, s.ack, left);
                continue;
            }
            let shift = left.distance(rexmit_seq) as u32;
            let known = fault.dsack_shift_hits > 0;
            if known && fault.dsack_rexmits == rexmits {
                // The same retransmission again: the network may duplicate segments and acknowledgements.
                continue;
            }
            let again = known && fault.dsack_shift == shift;
            fault.dsack_rexmits = rexmits;
            fault.dsack_shift = shift;
            fault.dsack_shift_hits = if again { fault.dsack_shift_hits.saturating_add(1) } else { 1 };
            // DIAGNOSIS 2.3 asks for two while the acknowledgement is stuck; a network that delivers late copies makes
            // two as well, so hard only from the fourth on.
            let stuck = s.ack == me.ack && me.dup_acks >= 3 && shift <= me.wnd_max;
            if again && stuck {
                let hard = fault.dsack_shift_hits >= 4;
                notes.push_weighed(Anomaly::DsackShifted, dir, rexmit_seq, left, hard);
            }
        }
        highest = if any { highest.max(right) } else { right };
        any = true;
    }
    if !any {
        return;
    }
    fault.sack_right = if me.has(half::SACK_RIGHT) { fault.sack_right.max(highest) } else { highest };
    me.flags |= half::SACK_RIGHT;
    let beyond = highest.distance(s.ack) as u32;
    if beyond > window.saturating_add(1 << 14) && window > 0 {
        fault.sack_hits = fault.sack_hits.saturating_add(1);
        notes.push(Anomaly::SackBeyondOwnWindow, dir, s.ack.add(window), highest);
        fault.sack_shift = highest.distance(sent) as u32;
    }
    if sender_seen && highest.after(sent) && !(shadow.0 && highest.at_or_before(shadow.1)) {
        let new = Candidate {
            time_ns: now_ns,
            expected: sent,
            actual: highest,
            judge_segments: sender_segments,
            ..Candidate::default()
        };
        settle::raise(me, fault, candidate::SACK_UNSENT, settled, new);
    }
}

/// Whether the first block lies inside one of the others (RFC 2883 section 4.2).
#[inline(always)]
fn within(s: &Segment, left: SeqNum, right: SeqNum) -> bool {
    let mut i = 1;
    let mut found = false;
    while i < 4 {
        if i >= s.sack_count as usize {
            break;
        }
        let [l, r] = s.sack[i];
        found |= left.at_or_after(l) && right.at_or_before(r);
        i += 1;
    }
    found
}
