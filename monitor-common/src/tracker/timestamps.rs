//! Timestamps (RFC 7323 sections 3 and 5).

use super::notes::Notes;
use super::settle;
use super::state::{Candidate, Half, Parts, candidate, half};
use crate::anomaly::Anomaly;
use crate::flow::Direction;
use crate::segment::{Segment, opt};
use crate::seq::SeqNum;

/// One second of the usual 1000 Hz timestamp clock. Reordering of milliseconds regresses by a few ticks.
const TS_HARD: i32 = 1000;
/// Where old segments come in a row: also a microsecond clock (Linux 6.7) reorders by less.
const TS_HARD_RUN: i32 = 60_000;

/// An echo of what the other end's clock has not come to yet (RFC 7323 section 4): raised here, and settled by the other
/// end's next timestamps. A view that misses packets proves nothing.
#[inline(always)]
pub fn on_echo(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64) {
    let peer = &c.core.half[dir.other().index()];
    let (ts_hi, judge_segments) = (peer.ts_hi, peer.segments);
    if !is_future(peer, s) || gaps(c) {
        return;
    }
    let settled = c.fault[dir.other().index()].settled[candidate::TSECR_FUTURE];
    let new = Candidate {
        time_ns: now_ns,
        expected: SeqNum(ts_hi),
        actual: SeqNum(s.tsecr),
        judge_segments,
        ..Candidate::default()
    };
    settle::raise(&mut c.core.half[dir.index()], &mut c.fault[dir.index()], candidate::TSECR_FUTURE, settled, new);
}

/// Whether the segment echoes what its receiver's clock has not come to.
#[inline(always)]
pub(super) fn is_future(peer: &Half, s: &Segment) -> bool {
    let both = s.has_option(opt::TIMESTAMPS) && peer.has(half::TIMESTAMPS);
    both && s.tsecr.wrapping_sub(peer.ts_hi) as i32 > TS_HARD
}

/// What `dir`'s own clock says to the echo that the other end sent: it has not come to it even now, or packets of it were
/// not seen here.
#[inline(always)]
pub fn judge(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    if !s.has_option(opt::TIMESTAMPS) {
        return;
    }
    let open = c.fault[dir.other().index()].candidates[candidate::TSECR_FUTURE];
    let later = now_ns > open.time_ns + super::reorder_ns(&c.core.half[dir.index()]);
    let behind = (s.tsval.wrapping_sub(open.actual.0) as i32) < 0;
    if behind && !later {
        return;
    }
    c.fault[dir.index()].settled[candidate::TSECR_FUTURE] = open.generation;
    if behind && !gaps(c) {
        notes.push(Anomaly::TsecrFuture, dir.other(), open.expected, open.actual);
    }
}

/// Whether this view is known to have missed packets.
#[inline(always)]
fn gaps(c: &Parts) -> bool {
    c.fault[0].gaps_confirmed | c.fault[1].gaps_confirmed != 0
}

#[inline(always)]
pub fn on_segment(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    let negotiated = c.core.half[0].has(half::TIMESTAMPS) && c.core.half[1].has(half::TIMESTAMPS);
    let peer = &c.core.half[dir.other().index()];
    let (una_known, una, progress_ns) = (peer.has(half::ACKED), peer.ack, peer.ack_ns);
    let me = &mut c.core.half[dir.index()];
    let fault = &mut c.fault[dir.index()];
    if !s.has_option(opt::TIMESTAMPS) {
        if negotiated {
            notes.push(Anomaly::TsMissing, dir, SeqNum(me.ts_hi), s.seq);
        }
        return;
    }
    if !me.has(half::TIMESTAMPS) {
        // Mid-stream: the option's presence is its negotiation.
        me.flags |= half::TIMESTAMPS;
        me.ts_hi = s.tsval;
        me.nxt_tsval = s.tsval;
        return;
    }
    let step = s.tsval.wrapping_sub(me.ts_hi) as i32;
    if step >= 0 {
        me.ts_hi = s.tsval;
        fault.ts_regress_run = 0;
        return;
    }
    fault.ts_regress_run = fault.ts_regress_run.saturating_add(1);
    let new_data = s.end().after(me.snd_nxt) && s.seq.at_or_before(me.snd_nxt);
    // Confirmed by the receiver: it has acknowledged nothing for a time-out although data is in flight.
    let rto = super::rto_ns(me);
    let sample_is_young = me.has(half::RTT_PENDING) && now_ns <= me.rtt_start_ns + rto;
    let rejected = una_known && me.snd_nxt.after(una) && now_ns > progress_ns + rto && !sample_is_young;
    let old = step < -TS_HARD && new_data || step < -TS_HARD_RUN && fault.ts_regress_run >= 3;
    if old && rejected && fault.ts_regress_run >= 2 && now_ns >= me.last_ns {
        fault.ts_regress_hits = fault.ts_regress_hits.saturating_add(1);
        notes.push(Anomaly::TsRegressNew, dir, SeqNum(me.ts_hi), SeqNum(s.tsval));
    } else {
        notes.push(Anomaly::TsRegress, dir, SeqNum(me.ts_hi), SeqNum(s.tsval));
    }
}
