//! What a speaker sends: new data, gaps, retransmissions, probes, and segments outside the window.

use super::identity;
use super::notes::Notes;
use super::state::{Candidate, Fault, Half, Parts, Reach, candidate, half, weight};
use super::{OLD_ACK_SPAN, SECOND, settle};
use crate::anomaly::Anomaly;
use crate::flow::Direction;
use crate::segment::{Segment, flags, packet};
use crate::seq::SeqNum;

/// Longest datagram: how far a first fragment's end can be off.
const MAX_DATAGRAM: i32 = 65_535;
/// Without a known window a jump beyond the largest scaled window (RFC 7323 section 2.3) is another number space.
const MAX_WINDOW: i32 = 1 << 30;

/// Brings `snd_nxt` up to what the other end acknowledged acceptably although it was not seen here.
#[inline(always)]
pub fn lift(c: &mut Parts, dir: Direction, s: &Segment) {
    let peer = &c.core.half[dir.other().index()];
    let (acked, ack, said) = (peer.has(half::ACKED), peer.ack, peer.prev_ack);
    let next_iss = c.fault[dir.index()].next_iss;
    let me = &mut c.core.half[dir.index()];
    if acked && ack.after(me.snd_nxt) {
        advance_unseen(me, ack);
    }
    if me.has(half::NEXT_SYN) && !acked && said == next_iss.add(1) {
        // Of its two SYN-ACKs the other end took the later one.
        me.iss = next_iss;
        me.snd_nxt = said;
        me.flags &= !half::NEXT_SYN;
    }
    if me.has(half::END_UNCERTAIN) {
        let ahead = s.seq.distance(me.snd_nxt);
        if ahead > 0 && ahead <= MAX_DATAGRAM {
            me.snd_nxt = s.seq;
        }
        me.flags &= !half::END_UNCERTAIN;
    }
}

/// Advances `snd_nxt` over what was not seen: it was sent after all that was.
#[inline(always)]
pub fn advance_unseen(me: &mut Half, to: SeqNum) {
    me.snd_nxt = to;
    me.nxt_tsval = me.ts_hi;
    me.nxt_ip_id = me.ip_id;
}

/// A probe: at most one byte right below what was sent, or at a closed window's edge (RFC 9293 3.8.4, 3.8.6.1).
#[inline(always)]
pub fn probe(me: &Half, peer: &Half, s: &Segment) -> Option<Anomaly> {
    if s.payload_len > 1 || s.has(flags::SYN | flags::FIN) {
        return None;
    }
    let una = if peer.has(half::ACKED) { peer.ack } else { me.snd_nxt };
    if peer.has(half::ZERO_WINDOW) && (s.seq == una.sub(1) || s.seq == una && s.payload_len == 1) {
        return Some(Anomaly::ZeroWindowProbe);
    }
    // With a byte it may as well be a retransmission; without, the acknowledgement of what it repeats was missed here.
    if s.seq == me.snd_nxt.sub(1) && (una == me.snd_nxt || s.payload_len == 0 && !me.has(half::FIN)) {
        return Some(Anomaly::KeepaliveProbe);
    }
    None
}

#[inline(always)]
pub fn on_segment(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    let p = &c.core.half[dir.other().index()];
    let (peer_flags, judge_segments) = (p.flags, p.segments);
    let settled = c.fault[dir.other().index()].settled[candidate::BEYOND_WINDOW];
    let (una_known, una, stuck_ns, dup_acks) = (p.has(half::ACKED), p.ack, p.ack_ns, p.dup_acks);
    let (edge, edge_cur, certain) = (p.edge_max, p.edge_cur, c.core.scale_known());
    let (peer_wnd_max, peer_last_ns, peer_wscale) = (p.wnd_max, p.last_ns, p.wscale);
    let peer_wnd = p.wnd as u32;
    let found = probe(&c.core.half[dir.index()], p, s);
    let me = &mut c.core.half[dir.index()];
    let reach = &mut c.core.reach[dir.index()];
    let fault = &mut c.fault[dir.index()];

    if let Some(anomaly) = found {
        notes.push(anomaly, dir, me.snd_nxt, s.seq);
        // Answered or not is judged by the next one: has the other end spoken since the last probe?
        if fault.probes > 0 && peer_last_ns < fault.probe_ns {
            fault.probes_unanswered = fault.probes_unanswered.saturating_add(1);
            if matches!(anomaly, Anomaly::KeepaliveProbe) {
                notes.push(Anomaly::KeepaliveUnanswered, dir, me.snd_nxt, s.seq);
            }
        } else {
            fault.probes_unanswered = 0;
        }
        fault.probes = fault.probes.saturating_add(1);
        fault.probe_ns = now_ns;
        return;
    }

    let end = s.end();
    let nxt = me.snd_nxt;
    let ahead = s.seq.distance(nxt);
    let consumes = s.seq_len() > 0;
    // Scale rounding: an edge may be short by one unit of the receiver's shift.
    let slack = if peer_flags & half::WSCALE != 0 { 1u32 << (peer_wscale & 15) } else { 0 };
    if !certain && una_known && s.payload_len > 0 && end.after(nxt) {
        infer_scale(me, fault, una, peer_wnd, end);
    }
    let edge_known = peer_flags & half::EDGE != 0 && (certain || me.has(half::SCALE_INFERRED));

    if me.has(half::FIN) {
        if consumes && end.after(me.fin_end) && s.seq.distance(me.fin_end) <= MAX_DATAGRAM {
            if s.payload_len > 0 {
                // Where SYNs may be missed it may as well be the next connection.
                notes.push_weighed(Anomaly::DataAfterOwnFin, dir, me.fin_end, end, certain);
            }
            return;
        }
    } else if s.has(flags::FIN) && end == nxt {
        // The other end acknowledged it before it was seen here.
        me.flags |= half::FIN;
        me.fin_end = end;
    }
    if !consumes && ahead >= 0 && fault.regress_ns != 0 {
        // Back at SND.NXT: the bare ACK below it was overtaken, nothing was disowned.
        fault.regress_ns = 0;
    }

    if !consumes && ahead < 0 {
        bare_regress(me, fault, dir, s, una_known, una, edge_known, edge_cur, peer_wnd_max, now_ns, notes);
        return;
    }
    if consumes && end.at_or_before(nxt) {
        let peer = Peer { una_known, una, stuck_ns, dup_acks, certain, wnd_max: peer_wnd_max, last_ns: peer_last_ns };
        retransmission(me, reach, fault, dir, s, &peer, now_ns, notes);
        return;
    }
    if edge_known {
        let over = end.distance(edge.add(slack));
        if over > 1 && !consumes {
            // A bare ACK there is as unacceptable as data, and nobody's answer will say so: it moves nothing.
            let jump = over > MAX_WINDOW || over as u32 > peer_wnd_max.saturating_add(OLD_ACK_SPAN);
            let anomaly = if jump { Anomaly::SeqJump } else { Anomaly::SeqBeyondWindow };
            notes.push_weighed(anomaly, dir, edge, s.seq, false);
            return;
        }
        if over > 1 {
            let whole = s.seq.at_or_after(edge.add(slack));
            let anomaly = if !whole {
                Anomaly::DataBeyondWindow
            } else if s.seq.distance(edge) > MAX_WINDOW
                || s.seq.distance(edge) as u32 > peer_wnd_max.saturating_add(OLD_ACK_SPAN)
            {
                Anomaly::SeqJump
            } else {
                Anomaly::SeqBeyondWindow
            };
            let new = Candidate {
                time_ns: now_ns,
                expected: edge,
                actual: end,
                judge_segments,
                heavy: match anomaly {
                    Anomaly::SeqJump => weight::HEAVY | weight::WHOLE | weight::JUMP,
                    Anomaly::SeqBeyondWindow => weight::HEAVY | weight::WHOLE,
                    _ if reach.mss > 0 && over as u32 >= reach.mss as u32 => weight::HEAVY,
                    _ => 0,
                },
                ..Candidate::default()
            };
            settle::raise(me, fault, candidate::BEYOND_WINDOW, settled, new);
            if !matches!(anomaly, Anomaly::SeqJump) {
                shadow(me, fault, end);
            }
            notes.push_weighed(anomaly, dir, edge, if whole { s.seq } else { end }, false);
            return;
        }
    } else if ahead > MAX_WINDOW {
        notes.push_weighed(Anomaly::SeqJump, dir, nxt, s.seq, false);
        return;
    }

    if ahead > 0 {
        gap(me, fault, dir, s, nxt, now_ns, notes);
    }
    if consumes && me.has(half::HOLE) && end.after(fault.hole.hi) {
        goes_on(me, fault, stuck_ns, now_ns);
    }
    if end.after(nxt) {
        me.snd_nxt = end;
        me.data_ns = now_ns;
        me.nxt_tsval = s.tsval;
        me.nxt_ip_id = s.ip_id;
        if s.has(flags::FIN) {
            me.flags |= half::FIN;
            me.fin_end = end;
        }
        if s.payload_len > 0 {
            me.flags |= half::DATA;
            grows(me, reach, s, end);
            if una_known && peer_flags & half::WSCALE != 0 && peer_wscale > 0 {
                me.flags = over_raw(me.flags, reach, una, una.add(peer_wnd), end);
            }
            if !me.has(half::RTT_PENDING) || una_known && una.at_or_after(me.rtt_seq) {
                me.flags |= half::RTT_PENDING;
                me.rtt_seq = end;
                me.rtt_start_ns = now_ns;
            }
        }
        fault.rto_streak = 0;
    }
    if s.packet & (packet::FIRST_FRAGMENT | packet::LENGTH_UNCERTAIN) != 0 {
        me.flags |= half::END_UNCERTAIN;
    }
}

#[inline(always)]
fn shadow(me: &mut Half, fault: &mut Fault, end: SeqNum) {
    fault.shadow_end = if me.has(half::SHADOW) { fault.shadow_end.max(end) } else { end };
    me.flags |= half::SHADOW;
}

/// The smallest shift under which the data fits the window that it was sent into, raised by one for each segment that
/// does not: inferred once three windows of data were acknowledged under it (DIAGNOSIS 1.3). It counts from the window
/// field plus one, because the field is rounded down.
#[inline(always)]
fn infer_scale(me: &mut Half, fault: &mut Fault, una: SeqNum, peer_wnd: u32, end: SeqNum) {
    let in_flight = end.distance(una);
    if peer_wnd == 0 || in_flight <= 0 || in_flight > MAX_WINDOW {
        return;
    }
    if fault.peer_shift == 0 {
        fault.peer_shift = 1;
        fault.scale_from = una;
    }
    let shift = fault.peer_shift.wrapping_sub(1) as u32 & 15;
    if in_flight as u32 > peer_wnd.wrapping_add(1) << shift {
        if shift < 14 {
            fault.peer_shift += 1;
            fault.scale_from = una;
            me.flags &= !half::SCALE_INFERRED;
        }
    } else if !me.has(half::SCALE_INFERRED) && una.distance(fault.scale_from) as u32 >= (3 * peer_wnd) << shift {
        me.flags |= half::SCALE_INFERRED;
    }
}

/// Whether [`infer_scale`] would do nothing about data of `me` that ends at `end`.
#[inline(always)]
pub(super) fn infers_nothing(me: &Half, fault: &Fault, peer: &Half, end: SeqNum) -> bool {
    let (una, peer_wnd) = (peer.ack, peer.wnd as u32);
    let in_flight = end.distance(una);
    if peer_wnd == 0 || in_flight <= 0 || in_flight > MAX_WINDOW {
        return true;
    }
    let shift = fault.peer_shift.wrapping_sub(1) as u32 & 15;
    fault.peer_shift != 0
        && in_flight as u32 <= peer_wnd.wrapping_add(1) << shift
        && (me.has(half::SCALE_INFERRED) || (una.distance(fault.scale_from) as u32) < (3 * peer_wnd) << shift)
}

/// The largest size of a segment, and where it was first used.
#[inline(always)]
pub(super) fn grows(me: &mut Half, reach: &mut Reach, s: &Segment, end: SeqNum) {
    let len = s.payload_len.min(u16::MAX as u32) as u16;
    if len > me.len_max {
        reach.len_max_before = me.len_max;
        reach.len_max_end = end;
        me.len_max = len;
    }
}

/// The first data beyond the other end's unscaled window, and its acknowledgement. Scaling is on only if both offered it
/// (RFC 7323 section 2.2). Gives the sender's flags.
#[inline(always)]
pub(super) fn over_raw(flags: u32, reach: &mut Reach, una: SeqNum, raw_edge: SeqNum, end: SeqNum) -> u32 {
    if flags & half::ACKED_OVER_RAW != 0 || flags & half::WSCALE == 0 {
        return flags;
    }
    if flags & half::OVER_RAW_PENDING != 0 {
        if una.at_or_after(reach.over_raw_end) {
            return flags & !half::OVER_RAW_PENDING | half::ACKED_OVER_RAW;
        }
    } else if end.after(raw_edge) {
        reach.over_raw_end = end;
        return flags | half::OVER_RAW_PENDING;
    }
    flags
}

/// The segment starts beyond what was sent: the bytes between were lost, reordered, missed here or never sent.
#[inline(always)]
fn gap(me: &mut Half, fault: &mut Fault, dir: Direction, s: &Segment, nxt: SeqNum, now_ns: u64, notes: &mut Notes) {
    notes.push(Anomaly::SeqGap, dir, nxt, s.seq);
    if !me.has(half::HOLE) {
        me.flags |= half::HOLE;
        me.flags &= !(half::HOLE_PERSISTENT | half::HOLE_NEVER_RETRANSMITTED);
        fault.hole.since_ns = now_ns;
        fault.hole.lo = nxt;
        fault.hole.hi = s.seq;
        fault.hole.later = 0;
        fault.hole.rounds = 0;
        fault.hole.rexmit_lo = 0;
        fault.hole.rexmit_hi = 0;
    }
}

/// Counts a segment beyond the hole. Those within a time-out of the receiver's coming to stand at it make no round, and
/// those within one time-out only one: the sender may not know yet.
#[inline(always)]
fn goes_on(me: &Half, fault: &mut Fault, stuck_ns: u64, now_ns: u64) {
    let hole = &mut fault.hole;
    let rto = super::rto_ns(me);
    let now = (now_ns >> 24) as u16;
    hole.later = hole.later.saturating_add(1);
    if ((stuck_ns >> 24) as u16).wrapping_sub(hole.rounds_at) as i16 > 0 {
        // Counted while the receiver stood elsewhere.
        hole.rounds = 0;
    }
    let again = hole.rounds > 0 && now.wrapping_sub(hole.rounds_at) <= (rto >> 24) as u16;
    if now_ns > hole.since_ns.max(stuck_ns) + rto && !again {
        hole.rounds = hole.rounds.saturating_add(1);
        hole.rounds_at = now;
    }
}

/// What the other end has said, read once.
#[derive(Clone, Copy)]
struct Peer {
    una_known: bool,
    una: SeqNum,
    stuck_ns: u64,
    dup_acks: u16,
    /// The scale of its windows is known.
    certain: bool,
    wnd_max: u32,
    last_ns: u64,
}

/// Everything in the segment was sent before.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one inlined step of on_segment; the values are read once there")]
fn retransmission(
    me: &mut Half,
    reach: &mut Reach,
    fault: &mut Fault,
    dir: Direction,
    s: &Segment,
    peer: &Peer,
    now_ns: u64,
    notes: &mut Notes,
) {
    let end = s.end();
    let Peer { una_known, una, stuck_ns, dup_acks, certain, wnd_max, last_ns } = *peer;
    if una_known && end.at_or_before(una) {
        let below = una.distance(end) as u32;
        // Data in flight is bounded by the window that the other end offers, where that is known. A segment from before
        // this speaker's last one is in the capture twice.
        let span = wnd_max.max(OLD_ACK_SPAN);
        let outside = certain && below > span && now_ns >= me.last_ns;
        if outside && una.distance(s.seq) as u32 > span.saturating_mul(2) {
            // Another number space if it was sent just now, not a copy that the network kept.
            let fresh = identity::is_fresh(me, s);
            fault.jump_hits = fault.jump_hits.saturating_add(fresh as u8);
            notes.push_weighed(Anomaly::SeqJump, dir, una, s.seq, fresh);
        } else if outside {
            notes.push(Anomaly::SeqBelowWindow, dir, una, s.seq);
        } else {
            notes.push(Anomaly::RexmitAcked, dir, una, s.seq);
        }
        return;
    }
    notes.push(Anomaly::Rexmit, dir, me.snd_nxt, s.seq);
    // Of what was sent twice an acknowledgement does not tell which arrived (Karn), and the second may have been within a
    // limit that the first was not.
    me.flags &= !(half::RTT_PENDING | half::OVER_RAW_PENDING);
    grows(me, reach, s, end);
    fault.rexmits = fault.rexmits.saturating_add(1);
    fault.rexmit_seq = s.seq;
    fault.rexmit_len = s.payload_len;
    if me.has(half::HOLE) {
        let hole = &mut fault.hole;
        if s.seq.before(hole.hi) && end.after(hole.lo) {
            hole.rexmit_lo = hole.rexmit_lo.saturating_add(1);
            if s.seq.at_or_before(hole.lo) {
                hole.lo = end;
                hole.rounds = 0;
            }
            if hole.lo.at_or_after(hole.hi) {
                me.flags &= !(half::HOLE | half::HOLE_PERSISTENT | half::HOLE_NEVER_RETRANSMITTED);
            }
        } else if s.seq.at_or_after(hole.hi) {
            if s.seq == hole.hi {
                hole.rexmit_hi = hole.rexmit_hi.saturating_add(1);
                // The receiver says so again, else its later acknowledgements were only not seen.
                let stuck = una_known && una == hole.lo && dup_acks >= 2 && now_ns >= me.last_ns;
                if hole.rexmit_hi >= 3 && stuck && hole.rexmit_lo == 0 {
                    notes.push(Anomaly::RexmitAboveHole, dir, hole.lo, hole.hi);
                }
            }
            goes_on(me, fault, stuck_ns, now_ns);
        }
    }
    if una_known && s.seq == una {
        backoff(fault, dir, s, last_ns, now_ns, notes);
    }
}

/// Successive retransmissions of SND.UNA whose spacing grows (RFC 6298 section 5.5).
#[inline(always)]
fn backoff(fault: &mut Fault, dir: Direction, s: &Segment, peer_last_ns: u64, now_ns: u64, notes: &mut Notes) {
    let gap_us = (now_ns.saturating_sub(fault.rto_ns) / 1_000).min(u32::MAX as u64) as u32;
    if fault.rto_streak > 0 && fault.rto_seq == s.seq {
        if fault.rto_streak == 1 || gap_us as u64 >= fault.rto_gap_us as u64 / 4 * 5 {
            fault.rto_streak = fault.rto_streak.saturating_add(1);
            if fault.rto_streak >= 3 {
                notes.push(Anomaly::RtoBackoff, dir, s.seq, SeqNum(fault.rto_streak as u32));
                // Pure loss looks like this, but the other end is heard and does not take what it is sent.
                notes.suspicion |= (peer_last_ns > fault.rto_ns) as u8;
            }
        }
        fault.rto_gap_us = gap_us;
    } else {
        fault.rto_streak = 1;
        fault.rto_seq = s.seq;
        fault.rto_gap_us = 0;
    }
    fault.rto_ns = now_ns;
}

/// A bare ACK carries SND.NXT; this one lies below bytes that we saw sent.
#[inline(always)]
#[expect(clippy::too_many_arguments, reason = "one inlined step of on_segment; the values are read once there")]
fn bare_regress(
    me: &mut Half,
    fault: &mut Fault,
    dir: Direction,
    s: &Segment,
    una_known: bool,
    una: SeqNum,
    edge_known: bool,
    edge_cur: SeqNum,
    peer_wnd_max: u32,
    now_ns: u64,
    notes: &mut Notes,
) {
    // A sender whose window was withdrawn acknowledges from the edge (tcp_acceptable_seq in tcp_output.c), and a
    // bare ACK after a FIN that was not acknowledged yet may still carry the FIN's own number.
    let at_edge = edge_known && s.seq == edge_cur;
    let probe_like = una_known && s.seq == una.sub(1);
    let own_fin = me.has(half::FIN) && s.seq == me.fin_end.sub(1);
    // Data in a SYN that was not acknowledged with it is sent again (RFC 7413 section 4.2).
    let own_syn = me.has(half::FAST_OPEN) && s.seq == me.iss.add(1);
    // Seen before the data was: the capture holds it twice, or out of order.
    let past = now_ns < me.data_ns;
    // More than can be in flight: another number space, such as that of a connection whose SYN was missed.
    let disowned = me.snd_nxt.distance(s.seq) as u32;
    let elsewhere = disowned > OLD_ACK_SPAN && disowned > peer_wnd_max;
    if at_edge || probe_like || own_fin || own_syn || past || elsewhere {
        return;
    }
    let by_timestamp = me.has(half::TIMESTAMPS)
        && s.has_option(crate::segment::opt::TIMESTAMPS)
        && (s.tsval.wrapping_sub(me.nxt_tsval) as i32) > 0;
    let repeated = fault.regress_ns != 0
        && now_ns > fault.regress_ns + super::reorder_ns(me)
        && now_ns < fault.regress_ns + 2 * SECOND
        && me.id_run > 0
        && me.nxt_ip_id != 0
        && (1..=1024).contains(&s.ip_id.wrapping_sub(me.nxt_ip_id))
        && !me.has(half::TIMESTAMPS);
    if !by_timestamp && !repeated {
        if fault.regress_ns == 0 || now_ns > fault.regress_ns + 2 * SECOND {
            fault.regress_ns = now_ns;
        }
        return;
    }
    notes.push(Anomaly::BareAckSeqRegress, dir, me.snd_nxt, s.seq);
    if fault.phantom == disowned {
        fault.phantom_hits = fault.phantom_hits.saturating_add(1);
    } else {
        fault.phantom = disowned;
        fault.phantom_hits = 1;
    }
}
