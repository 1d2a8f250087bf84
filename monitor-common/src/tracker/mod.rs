//! The state machine: one segment in, notes out. [`on_segment`] is the order of the checks and nothing else;
//! [`predict`] is the short cut for segments that they would find nothing in.
//!
//! Rules that hold throughout (the same discipline as Linux' conntrack, `nf_conntrack_proto_tcp.c`):
//! * A segment that the other end would not accept moves no tracked edge.
//! * A hard anomaly is first a candidate; the party that knows the truth confirms or retracts it.
//! * Windows are scaled in one place, [`ack::offered_edge`].

pub mod ack;
pub mod close;
pub mod handshake;
pub mod identity;
pub mod notes;
pub mod predict;
pub mod sack;
pub mod sequence;
pub mod settle;
pub mod settled;
pub mod state;
pub mod sync;
pub mod timestamps;

use crate::anomaly::Anomaly;
use crate::flow::{Direction, FlowKey};
use crate::segment::{Segment, flags, opt};
use notes::Notes;
use state::{Core, Half, Parts, conn, half};

pub const MS: u64 = 1_000_000;
pub const SECOND: u64 = 1_000 * MS;
/// Silence both ways that is worth a note; the shortest idle time-out known of a middlebox is a minute.
pub const IDLE_GAP_NS: u64 = 50 * SECOND;
/// How long after a speaker's effective RST its segments are reported (DIAGNOSIS 4.1).
pub const AFTER_RESET_NS: u64 = 2 * SECOND;
/// A late duplicate stays within this many bytes of what was acknowledged.
pub const OLD_ACK_SPAN: u32 = 66_000;

/// Time for the two ends to notice a loss twice over: how long no progress counts as a stall.
#[inline(always)]
pub fn stall_ns(me: &Half) -> u64 {
    let rto = rto_ns(me);
    let four = 4 * rto;
    if four > 2 * SECOND { four } else { 2 * SECOND }
}

/// Retransmission time-out as an observer can guess it: twice the observed round trip, at least Linux' minimum.
#[inline(always)]
pub fn rto_ns(me: &Half) -> u64 {
    let twice = me.rtt_min_us as u64 * 2_000;
    if twice > 200 * MS { twice } else { 200 * MS }
}

/// How late a segment may come for reordering to explain it.
#[inline(always)]
pub fn reorder_ns(me: &Half) -> u64 {
    let quarter = me.rtt_min_us as u64 * 250;
    if quarter > 3 * MS { quarter } else { 3 * MS }
}

/// Starts a life of the flow in an entry of zeroes. `incarnation` counts the lives before. Zeroing is the caller's
/// business: in the kernel it is one helper call, as code it would be a loop over bytes.
#[inline(always)]
pub fn begin(c: &mut Core, key: &FlowKey, segment: &Segment, incarnation: u16, now_ns: u64) {
    c.key = *key;
    c.created_ns = now_ns;
    c.incarnation = incarnation;
    if !segment.has(flags::SYN) {
        c.flags = conn::MID_STREAM;
    }
}

/// Tracks one segment that `dir` sent. `notes` is cleared by the caller.
#[inline(always)]
pub fn on_segment(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    if s.has(flags::RST) {
        notes.effect = close::on_rst(c, dir, s, now_ns) as u8;
    } else {
        checked(c, dir, s, now_ns, notes);
    }
    c.core.steady[dir.index()] = predict::how_steady(c.core, predict::is_quiet(c));
}

/// Every check, in order, of a segment other than a RST.
#[inline(always)]
fn checked(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    if c.core.half[dir.index()].has(half::RST) {
        after_reset(c, dir, now_ns, notes);
    }
    let taken = if s.has(flags::SYN) {
        handshake::on_syn(c, dir, s, now_ns, notes)
    } else if handshake::is_of_former_life(c.core, dir, s) {
        false
    } else {
        note_idle(c, dir, s, now_ns, notes);
        baseline(c, dir, s);
        settle::on_raiser(c, dir);
        sequence::lift(c, dir, s);
        settle::on_judge(c, dir, s, now_ns, notes);
        timestamps::on_segment(c, dir, s, now_ns, notes);
        sequence::on_segment(c, dir, s, now_ns, notes);
        true
    };
    if taken && s.has(flags::ACK) {
        timestamps::on_echo(c, dir, s, now_ns);
        ack::on_ack(c, dir, s, now_ns, notes);
        if s.sack_count > 0 {
            sack::on_sack(c, dir, s, now_ns, notes);
        }
    }
    remember(c, dir, s, now_ns, notes);
    sync::update(c, dir, now_ns, notes);
}

#[inline(always)]
fn note_idle(c: &Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    let last = c.core.last_ns();
    if last != 0 && now_ns > last + IDLE_GAP_NS {
        notes.push(Anomaly::IdleGap, dir, c.core.half[dir.index()].snd_nxt, s.seq);
    }
}

/// First segment of a speaker without its SYN.
#[inline(always)]
fn baseline(c: &mut Parts, dir: Direction, s: &Segment) {
    let peer_ack = {
        let peer = &c.core.half[dir.other().index()];
        (peer.has(half::ACKED), peer.ack)
    };
    let me = &mut c.core.half[dir.index()];
    if me.has(half::SEEN) {
        return;
    }
    me.flags |= half::SEEN;
    // What the other end acknowledged was sent, also where its segment was not seen.
    me.snd_nxt = if peer_ack.0 && peer_ack.1.after(s.seq) { peer_ack.1 } else { s.seq };
    if !c.core.scale_known() {
        c.core.flags |= conn::MID_STREAM;
    }
}

/// A segment of a speaker whose RST took effect: who sent it is alive.
#[inline(always)]
fn after_reset(c: &mut Parts, dir: Direction, now_ns: u64, notes: &mut Notes) {
    let fault = &mut c.fault[dir.index()];
    if now_ns <= c.core.reach[dir.index()].rst_ns + AFTER_RESET_NS
        && fault.after_reset < crate::engine::REPORTED_AFTER_RESET
    {
        fault.after_reset += 1;
        notes.after_reset = 1;
    }
}

/// Bookkeeping that every segment of `dir` leaves behind.
#[inline(always)]
fn remember(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    let me = &mut c.core.half[dir.index()];
    identity::remember(me, dir, s, notes);
    note_options(me, s);
    me.bytes = me.bytes.wrapping_add(s.payload_len as u64);
    count(me, s, now_ns);
}

#[inline(always)]
fn note_options(me: &mut Half, s: &Segment) {
    if s.has_option(opt::AUTH) {
        me.flags |= half::AUTH;
    }
    if s.has_option(opt::MPTCP) {
        me.flags |= half::MPTCP;
    }
}

/// What every segment leaves behind whatever it holds.
#[inline(always)]
fn count(me: &mut Half, s: &Segment, now_ns: u64) {
    me.prev_seq = s.seq;
    if s.has(flags::ACK) {
        me.prev_ack = s.ack;
    }
    me.wnd = s.wnd;
    me.segments = me.segments.wrapping_add(1);
    me.last_ns = me.last_ns.max(now_ns);
}
