//! SYN and SYN-ACK: initial numbers, window scale agreement, reuse of a 4-tuple (RFC 9293 3.5, RFC 7323 2.2).

use super::notes::Notes;
use super::state::{Core, Parts, Phase, conn, half};
use crate::anomaly::Anomaly;
use crate::flow::Direction;
use crate::segment::{Segment, flags, opt};
use crate::seq::SeqNum;

/// Bytes that may have been missed between a SYN and the first answer seen; further away is another number space.
const MAX_MISSED: i32 = 1 << 20;

/// Whether this SYN or SYN-ACK starts a new life of the flow. The caller reports the old life and begins the new one
/// before it tracks the segment.
#[inline(always)]
pub fn starts_new_life(c: &Parts, dir: Direction, s: &Segment) -> bool {
    let me = &c.core.half[dir.index()];
    let peer = &c.core.half[dir.other().index()];
    if s.has(flags::ACK) {
        // The other end's SYN met a connection that this end had forgotten, or has closed.
        return peer.has(half::NEXT_SYN) && s.ack == c.fault[dir.other().index()].next_iss.add(1);
    }
    if me.has(half::SYN) && me.iss == s.seq {
        // It reset the old connection that answered in the other end's place, and tries again (RFC 9293 3.5.1).
        return me.has(half::RST) && !peer.has(half::SEEN);
    }
    match c.core.phase() {
        Phase::TimeWait | Phase::Reset | Phase::Closing => true,
        Phase::SynSent => false,
        _ => c.core.flags & conn::MID_STREAM != 0,
    }
}

/// Carries over to the new life what the SYN that the SYN-ACK `s` of `dir` answers told: its number. Its options are
/// gone, so windows are not judged in this life.
#[inline(always)]
pub fn adopt_forgotten_syn(c: &mut Core, dir: Direction, next_iss: SeqNum) {
    c.flags |= conn::INITIATOR | conn::MID_STREAM;
    c.initiator = dir.other() as u8;
    let peer = &mut c.half[dir.other().index()];
    peer.flags |= half::SEEN;
    peer.snd_nxt = next_iss.add(1);
}

/// Whether a segment without SYN, from an end that has not answered the other's SYN yet, belongs to a connection of the
/// same 4-tuple that was never seen here: it acknowledges nothing near that SYN. Typically a challenge ACK.
#[inline(always)]
pub fn is_of_former_life(c: &Core, dir: Direction, s: &Segment) -> bool {
    let me = &c.half[dir.index()];
    let peer = &c.half[dir.other().index()];
    !me.has(half::SEEN)
        && peer.has(half::SYN)
        && s.has(flags::ACK)
        && (s.ack.at_or_before(peer.iss) || s.ack.distance(peer.snd_nxt) > MAX_MISSED)
}

/// Takes a SYN or SYN-ACK. False: it moved nothing, its acknowledgement does not count either.
#[inline(always)]
pub fn on_syn(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) -> bool {
    let phase = c.core.phase();
    let with_ack = s.has(flags::ACK);
    let me = &c.core.half[dir.index()];
    let peer = &c.core.half[dir.other().index()];
    let established = (phase as u8) >= (Phase::Established as u8);

    if me.has(half::SYN) && me.iss == s.seq {
        // A retransmission. Once established it draws a challenge ACK, which is benign. In a simultaneous open it is
        // established before this end has acknowledged anything.
        let anomaly = if established && me.has(half::ACKED) { Anomaly::SynInEstablished } else { Anomaly::Rexmit };
        notes.push(anomaly, dir, me.iss, s.seq);
        c.core.half[dir.index()].flags &= !half::RTT_PENDING;
        if matches!(phase, Phase::Reset) {
            // Refused once, tried again with the same number: an answer would begin a new life.
            c.fault[dir.index()].next_iss = s.seq;
            c.core.half[dir.index()].flags |= half::NEXT_SYN;
        }
        return true;
    }
    // A server with Fast Open may acknowledge the SYN's data or the SYN alone (RFC 7413 section 4.2).
    let from = peer.iss.add(1);
    let answers = !peer.has(half::SYN) || s.ack.at_or_after(from) && s.ack.at_or_before(peer.snd_nxt);
    // What came before the SYN-ACK was ahead of it or not its sender's: the other end drops it (RFC 9293 3.10.7.3).
    let late = with_ack && answers && !me.has(half::SYN) && peer.has(half::SYN) && !peer.has(half::ACKED);
    if me.has(half::SEEN) && with_ack && !late {
        if me.has(half::SYN) && !established {
            notes.push(Anomaly::SynackIsnChange, dir, me.iss, s.seq);
            if answers {
                // The other end decides which it takes.
                c.fault[dir.index()].next_iss = s.seq;
                c.core.half[dir.index()].flags |= half::NEXT_SYN;
            }
        }
        return false;
    }
    if me.has(half::SEEN) && !late && !matches!(phase, Phase::SynSent) {
        // The other end still holds the old connection: only its SYN-ACK tells whether this one is new.
        notes.push(Anomaly::SynInEstablished, dir, me.snd_nxt, s.seq);
        c.fault[dir.index()].next_iss = s.seq;
        c.core.half[dir.index()].flags |= half::NEXT_SYN;
        return false;
    }
    if with_ack && !answers {
        notes.push(Anomaly::SynackBadAck, dir, from, s.ack);
        return false;
    }
    adopt(c.core, dir, s, now_ns);
    if c.core.scale_known() {
        c.core.flags &= !conn::MID_STREAM;
        if c.core.flags & conn::SCALE_INFERRED != 0 {
            // The handshake came late; what was inferred before it was a lower bound.
            c.core.flags &= !conn::SCALE_INFERRED;
            c.core.half[0].flags &= !(half::EDGE | half::SCALE_INFERRED);
            c.core.half[1].flags &= !(half::EDGE | half::SCALE_INFERRED);
        }
    }
    true
}

/// Takes the numbers and options of `dir`'s SYN.
#[inline(always)]
pub fn adopt(c: &mut Core, dir: Direction, s: &Segment, now_ns: u64) {
    if c.flags & conn::INITIATOR == 0 {
        c.flags |= conn::INITIATOR;
        c.initiator = if s.has(flags::ACK) { dir.other() as u8 } else { dir as u8 };
    }
    let me = &mut c.half[dir.index()];
    let reach = &mut c.reach[dir.index()];
    let end = s.end();
    let ahead = me.snd_nxt.distance(end);
    if !me.has(half::SEEN) || !(0..=MAX_MISSED).contains(&ahead) {
        me.snd_nxt = end;
        me.flags &= !half::FIN;
    }
    me.flags |= half::SEEN | half::SYN | half::RTT_PENDING;
    // SYN to SYN-ACK, and SYN-ACK to the client's first acknowledgement. Data in the SYN may be acknowledged or not.
    me.rtt_seq = s.seq.add(1);
    me.rtt_start_ns = now_ns;
    me.iss = s.seq;
    reach.syn_wnd = s.wnd;
    if s.payload_len > 0 {
        me.flags |= half::DATA | half::FAST_OPEN;
    }
    if s.has_option(opt::MSS) {
        reach.mss = s.mss;
    }
    if s.has_option(opt::WSCALE) {
        me.wscale = s.wscale;
        me.flags |= half::WSCALE;
    }
    if s.has_option(opt::SACK_PERMITTED) {
        me.flags |= half::SACK_PERMITTED;
    }
    if s.has_option(opt::TIMESTAMPS) {
        me.flags |= half::TIMESTAMPS;
        me.ts_hi = s.tsval;
        me.nxt_tsval = s.tsval;
    }
}
