//! Header prediction (Van Jacobson's, and `tcp_rcv_established` in Linux' net/ipv4/tcp_input.c): most segments are the
//! next data in order, or an acknowledgement of it, of a connection with which nothing is wrong. All that the full
//! checks do with such a one is to move some numbers on. Nor is there anything to find in the SYN that opens a
//! connection, of which a flood may come.
//!
//! [`on_segment`] and [`on_opening`] do that and no more, or nothing at all; what they take gives bit for bit what
//! [`super::on_segment`] would have made of it, without a note. The property tests and the fuzz target hold that to
//! be true. It touches neither [`Fault`](super::state::Fault), which costs a cache miss each line where there are many
//! connections.

use super::state::{Connection, Half, conn, half, sync_state};
use super::{IDLE_GAP_NS, ack, handshake, identity, sequence, timestamps};
use crate::flow::Direction;
use crate::segment::{Segment, flags, opt, packet};
use crate::seq::SeqNum;

/// Values of [`Connection::steady`].
pub mod steady {
    pub const NO: u8 = 0;
    /// The handshake was seen: both windows are known.
    pub const WHOLE: u8 = 1;
    /// It was not, and scales are inferred or unknown.
    pub const MID_STREAM: u8 = 2;
}

/// Flags that both halves of a steady connection have.
const NEEDED: u32 = half::SEEN | half::ACKED;
/// ... and if the handshake was seen.
const NEEDED_WHOLE: u32 = half::SYN | half::EDGE | half::FIRST_WINDOW;
/// Flags that neither has: each makes ordinary segments mean something, or read a fault.
const BARRED: u32 = half::FIN
    | half::RST
    | half::END_UNCERTAIN
    | half::ZERO_WINDOW
    | half::COLLAPSED
    | half::NEXT_SYN
    | half::HOLE
    | half::RAISED;

/// Whether the next segment of either end may be predicted: nothing is open that an ordinary segment would settle,
/// confirm or reset. One of [`steady`].
#[inline(always)]
pub fn how_steady(c: &Connection) -> u8 {
    let (a, b) = (&c.half[0], &c.half[1]);
    let (both, any) = (a.flags & b.flags, a.flags | b.flags);
    if both & NEEDED != NEEDED || any & BARRED != 0 || !is_quiet(c) {
        steady::NO
    } else if both & NEEDED_WHOLE == NEEDED_WHOLE
        && any & half::SCALE_INFERRED == 0
        && c.flags & (conn::MID_STREAM | conn::SCALE_INFERRED) == 0
    {
        steady::WHOLE
    } else if any & (half::SYN | half::WSCALE) == 0 {
        steady::MID_STREAM
    } else {
        steady::NO
    }
}

/// Whether no fault is open that an ordinary segment would read.
#[inline(always)]
fn is_quiet(c: &Connection) -> bool {
    let (f, g) = (&c.fault[0], &c.fault[1]);
    f.regress_ns | g.regress_ns == 0
        && f.ts_regress_run | g.ts_regress_run | f.rto_streak | g.rto_streak == 0
        && f.dsack_shift_hits | g.dsack_shift_hits == 0
        && f.sync.state | g.sync.state == sync_state::IN_SYNC
}

/// Tracks the segment if it is one of the predicted; false, and nothing is changed, if it needs the full checks.
#[inline(always)]
pub fn on_segment(c: &mut Connection, dir: Direction, s: &Segment, now_ns: u64) -> bool {
    let Some(window) = predicted(c, dir, s, now_ns) else { return false };
    let (len, end) = (s.payload_len, s.end());
    let peer = &c.half[dir.other().index()];
    let una = peer.ack;
    let me = &mut c.half[dir.index()];
    let prev = me.ack;
    // Repetitions of a bare ACK are looked at only where one is unacceptable.
    let mut flags = me.flags & !half::REPEATED_BARE_ACK;
    if s.has_option(opt::TIMESTAMPS) {
        me.ts_hi = s.tsval;
    }
    if len > 0 {
        me.snd_nxt = end;
        me.data_ns = now_ns;
        me.nxt_tsval = s.tsval;
        me.nxt_ip_id = s.ip_id;
        if flags & half::RTT_PENDING == 0 || una.at_or_after(me.rtt_seq) {
            me.rtt_seq = end;
            me.rtt_start_ns = now_ns;
            flags |= half::RTT_PENDING;
        }
        flags |= half::DATA;
        me.bytes = me.bytes.wrapping_add(len as u64);
    }
    if me.flags != flags {
        me.flags = flags;
    }
    if s.ack != prev {
        me.ack = s.ack;
        me.ack_ns = now_ns;
        me.dup_acks = 0;
    }
    if let Window::Known(edge) = window {
        me.edge_cur = edge;
        me.edge_max = me.edge_max.max(edge);
        let bytes = edge.distance(s.ack) as u32;
        if bytes > me.wnd_max {
            me.wnd_max = bytes;
        }
    }
    identity::take(me, s);
    super::count(me, s, now_ns);
    if s.ack != prev {
        ack::sample(&mut c.half[dir.other().index()], prev, s.ack, now_ns);
    }
    true
}

/// Tracks the SYN of a connection of which nothing was seen yet; false, and nothing is changed, if it is anything else.
#[inline(always)]
pub fn on_opening(c: &mut Connection, dir: Direction, s: &Segment, now_ns: u64) -> bool {
    let (a, b) = (&c.half[0], &c.half[1]);
    if s.flags & (flags::FIN | flags::SYN | flags::RST | flags::ACK) != flags::SYN
        || a.segments | b.segments | a.flags | b.flags | c.flags as u32 != 0
    {
        return false;
    }
    handshake::adopt(c, dir, s, now_ns);
    let me = &mut c.half[dir.index()];
    identity::take(me, s);
    super::note_options(me, s);
    me.bytes = s.payload_len as u64;
    super::count(me, s, now_ns);
    true
}

/// The right edge of the window that a predicted segment offers.
enum Window {
    Known(SeqNum),
    /// Its scale is not known.
    Unknown,
}

/// What a predicted segment offers. The checks are those of the files named, each reduced to the side on which nothing
/// happens.
#[inline(always)]
fn predicted(c: &Connection, dir: Direction, s: &Segment, now_ns: u64) -> Option<Window> {
    let steady = c.steady[0] & c.steady[1];
    if steady == steady::NO
        || s.flags & (flags::FIN | flags::SYN | flags::RST | flags::ACK) != flags::ACK
        || s.options & !opt::TIMESTAMPS != 0
        || s.packet & (packet::FIRST_FRAGMENT | packet::LENGTH_UNCERTAIN) != 0
        || s.wnd == 0
    {
        return None;
    }
    let me = &c.half[dir.index()];
    let peer = &c.half[dir.other().index()];
    let last_ns = if me.last_ns > peer.last_ns { me.last_ns } else { peer.last_ns };
    if now_ns > last_ns + IDLE_GAP_NS {
        return None;
    }
    // sequence.rs: in order, of a size seen before, inside the window; and inside the unscaled one until more than that
    // was acknowledged. Not above what the window ever was, also without data (ack.rs, `pingpong`).
    let (len, end) = (s.payload_len, s.end());
    if s.seq != me.snd_nxt || peer.ack.after(s.seq) || peer.has(half::EDGE) && s.seq.after(peer.edge_max) {
        return None;
    }
    if len > 0 {
        let grows = len > me.len_max as u32 && me.len_max != u16::MAX;
        if grows || !end.after(s.seq) || me.has(half::OVER_RAW_PENDING) {
            return None;
        }
    }
    let fits = if steady == steady::WHOLE {
        len == 0 || !beyond(me, peer, end)
    } else {
        (len == 0 || sequence::infers_nothing(me, &c.fault[dir.index()], peer, end))
            && !(peer.flags & half::EDGE != 0 && me.has(half::SCALE_INFERRED) && end.distance(peer.edge_max) > 1)
    };
    if !fits {
        return None;
    }
    // ack.rs: of what was sent, not backwards, not a duplicate; a window that is not withdrawn.
    if s.ack.after(peer.snd_nxt) || s.ack.before(me.ack) {
        return None;
    }
    if len == 0 && s.wnd == me.wnd && s.ack == me.ack && peer.snd_nxt.after(s.ack) {
        return None;
    }
    let scales = steady == steady::WHOLE || peer.has(half::SCALE_INFERRED);
    let window = if scales {
        let shift = if steady == steady::MID_STREAM {
            if !me.has(half::EDGE) || c.flags & conn::SCALE_INFERRED == 0 {
                return None;
            }
            c.fault[dir.other().index()].peer_shift.wrapping_sub(1) as u32 & 15
        } else if me.flags & peer.flags & half::WSCALE != 0 {
            me.wscale as u32 & 15
        } else {
            0
        };
        let edge = s.ack.add((s.wnd as u32) << shift);
        if me.edge_max.after(edge.add(1 << shift)) {
            return None;
        }
        Window::Known(edge)
    } else if me.has(half::EDGE) {
        return None;
    } else {
        Window::Unknown
    };
    // timestamps.rs: there or not as ever, not backwards, no echo of the future.
    if s.has_option(opt::TIMESTAMPS) != me.has(half::TIMESTAMPS) {
        return None;
    }
    if s.has_option(opt::TIMESTAMPS)
        && ((s.tsval.wrapping_sub(me.ts_hi) as i32) < 0
            || peer.has(half::TIMESTAMPS) && s.tsecr.wrapping_sub(peer.ts_hi) as i32 > timestamps::TS_HARD)
    {
        return None;
    }
    identity::continues(me, s).then_some(window)
}

/// Whether data up to `end` is beyond the other end's window, or the first that is beyond its unscaled one.
#[inline(always)]
fn beyond(me: &Half, peer: &Half, end: SeqNum) -> bool {
    if peer.flags & half::WSCALE == 0 {
        return end.distance(peer.edge_max) > 1;
    }
    let slack = 1u32 << (peer.wscale & 15);
    end.distance(peer.edge_max.add(slack)) > 1
        || me.flags & (half::ACKED_OVER_RAW | half::WSCALE) == half::WSCALE
            && peer.wscale > 0
            && end.after(peer.ack.add(peer.wnd as u32))
}
