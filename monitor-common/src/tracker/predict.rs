//! Header prediction (Van Jacobson's, and `tcp_rcv_established` in Linux' net/ipv4/tcp_input.c): most segments are the
//! next data in order, or an acknowledgement of it, of a connection with which nothing is wrong. All that the full
//! checks do with such a one is to move some numbers on. Nor is there anything to find in most handshakes: in the SYN, of
//! which a flood may come, and in what answers it.
//!
//! [`on_segment`], [`on_opening`] and [`on_answer`] do that and no more, or nothing at all; what they take gives bit for bit what
//! [`super::on_segment`] would have made of it, without a note. The property tests and the fuzz target hold that to
//! be true. Of a connection seen from its SYN on it touches neither [`Fault`](super::state::Fault), each line of which costs
//! a cache miss where there are many connections; of one picked up in mid-stream it reads what was inferred of the scale.

use super::state::{Core, Half, Parts, conn, half, sync_state};
use super::{IDLE_GAP_NS, ack, handshake, identity, sequence, timestamps};
use crate::flow::Direction;
use crate::recorder::Recorder;
use crate::segment::{Segment, flags, opt, packet};
use crate::seq::SeqNum;

/// Values of [`Core::steady`].
pub mod steady {
    pub const NO: u8 = 0;
    /// The handshake was seen, as far as there was any.
    pub const WHOLE: u8 = 1;
    /// It was not, and scales are inferred or unknown.
    pub const MID_STREAM: u8 = 2;
}

/// Flags of a half whose SYN was seen.
const OPENED: u32 = half::SEEN | half::SYN;
/// ... and that has acknowledged, and offered a window.
const PEER_NEEDED: u32 = OPENED | half::ACKED | half::EDGE;
/// Flags that both halves of a steady connection have if no handshake was seen.
const NEEDED_MID_STREAM: u32 = half::SEEN | half::ACKED;
/// Flags that neither has: each makes ordinary segments mean something, or read a fault.
const BARRED: u32 =
    half::RST | half::END_UNCERTAIN | half::ZERO_WINDOW | half::COLLAPSED | half::NEXT_SYN | half::HOLE | half::RAISED;
/// All flags that a first SYN can leave.
const SYN_ONLY: u32 = OPENED
    | half::WSCALE
    | half::SACK_PERMITTED
    | half::TIMESTAMPS
    | half::DATA
    | half::FAST_OPEN
    | half::RTT_PENDING
    | half::MPTCP
    | half::AUTH;

/// Whether the next segment of either end may be predicted: nothing is open that an ordinary segment would settle,
/// confirm or reset. `quiet`: see [`is_quiet`]. One of [`steady`].
#[inline(always)]
pub fn how_steady(c: &Core, quiet: bool) -> u8 {
    let (a, b) = (&c.half[0], &c.half[1]);
    let (both, any) = (a.flags & b.flags, a.flags | b.flags);
    if any & BARRED != 0 || !quiet {
        steady::NO
    } else if any & half::SYN != 0 {
        // An end without a SYN has not spoken: without its own it would be MID_STREAM.
        let whole = any & half::SCALE_INFERRED == 0 && c.flags & (conn::MID_STREAM | conn::SCALE_INFERRED) == 0;
        if whole { steady::WHOLE } else { steady::NO }
    } else if both & NEEDED_MID_STREAM == NEEDED_MID_STREAM && any & half::WSCALE == 0 {
        steady::MID_STREAM
    } else {
        steady::NO
    }
}

/// Whether no fault is open that an ordinary segment would read.
#[inline(always)]
pub fn is_quiet(c: &Parts) -> bool {
    let (f, g) = (&c.fault[0], &c.fault[1]);
    f.regress_ns | g.regress_ns == 0
        && f.ts_regress_run | g.ts_regress_run | f.rto_streak | g.rto_streak == 0
        && f.dsack_shift_hits | g.dsack_shift_hits == 0
        && f.sync.state | g.sync.state == sync_state::IN_SYNC
}

/// Whether nothing is open that a reset would have to look at: all who have spoken left the connection steady.
#[inline(always)]
pub fn is_undisturbed(c: &Core) -> bool {
    let calm = |i: usize| c.steady[i] != steady::NO || c.half[i].segments == 0;
    calm(0) && calm(1)
}

/// Tracks and records the segment if it is one of the predicted; false, and nothing is changed, if it needs the full checks.
#[inline(always)]
pub fn on_segment(c: &mut Parts, recorder: &mut Recorder, dir: Direction, s: &Segment, now_ns: u64) -> bool {
    let Some(window) = predicted(c, dir, s, now_ns) else { return false };
    let (len, end) = (s.payload_len, s.end());
    let closes = s.has(flags::FIN);
    let peer = &c.core.half[dir.other().index()];
    let (una, peer_wnd) = (peer.ack, peer.wnd as u32);
    let peer_scales = peer.has(half::WSCALE) && peer.wscale > 0;
    let me = &mut c.core.half[dir.index()];
    recorder.take(dir, me, s, now_ns);
    let (known, prev) = (me.has(half::ACKED), me.ack);
    if s.has_option(opt::TIMESTAMPS) {
        me.ts_hi = s.tsval;
    }
    // Repetitions of a bare ACK are looked at only where one is unacceptable.
    let mut flags = me.flags & !half::REPEATED_BARE_ACK | half::ACKED;
    if len > 0 || closes {
        me.snd_nxt = end;
        me.data_ns = now_ns;
        me.nxt_tsval = s.tsval;
        me.nxt_ip_id = s.ip_id;
    }
    if closes {
        flags |= half::FIN;
        me.fin_end = end;
    }
    if len > 0 {
        let reach = &mut c.core.reach[dir.index()];
        if len > me.len_max as u32 {
            sequence::grows(me, reach, s, end);
        }
        if peer_scales {
            flags = sequence::over_raw(flags, reach, una, una.add(peer_wnd), end);
        }
        if flags & half::RTT_PENDING == 0 || una.at_or_after(me.rtt_seq) {
            me.rtt_seq = end;
            me.rtt_start_ns = now_ns;
            flags |= half::RTT_PENDING;
        }
        flags |= half::DATA;
        me.bytes = me.bytes.wrapping_add(len as u64);
    }
    if !known || s.ack != prev {
        me.ack = s.ack;
        me.ack_ns = now_ns;
        me.dup_acks = 0;
    }
    if let Window::Known { edge, highest } = window {
        me.edge_cur = edge;
        me.edge_max = highest;
        let bytes = edge.distance(s.ack) as u32;
        if bytes > me.wnd_max {
            me.wnd_max = bytes;
        }
        flags |= half::EDGE;
        if flags & (half::FIRST_WINDOW | half::SYN) == half::SYN {
            flags |= half::FIRST_WINDOW;
            c.core.reach[dir.index()].first_wnd = s.wnd;
        }
    }
    if me.flags != flags {
        me.flags = flags;
    }
    identity::take(me, s);
    super::count(me, s, now_ns);
    let sender = &mut c.core.half[dir.other().index()];
    if !known {
        ack::sample(sender, sender.rtt_seq.sub(1), s.ack, now_ns);
    } else if s.ack != prev {
        ack::sample(sender, prev, s.ack, now_ns);
    }
    true
}

/// Tracks the SYN of a connection of which nothing was seen yet; false, and nothing is changed, if it is anything else.
#[inline(always)]
pub fn on_opening(c: &mut Core, dir: Direction, s: &Segment, now_ns: u64) -> bool {
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
    c.steady[dir.index()] = steady::WHOLE;
    true
}

/// Tracks the SYN-ACK that answers a SYN of which nothing else was seen; false, and nothing is changed, if it is anything
/// else.
#[inline(always)]
pub fn on_answer(c: &mut Core, dir: Direction, s: &Segment, now_ns: u64) -> bool {
    let me = &c.half[dir.index()];
    let peer = &c.half[dir.other().index()];
    if s.flags & (flags::FIN | flags::SYN | flags::RST | flags::ACK) != flags::SYN | flags::ACK
        || s.wnd == 0
        || s.payload_len > 0
        || s.sack_count > 0
        || me.segments | me.flags != 0
        || peer.flags & !SYN_ONLY != 0
        || peer.flags & OPENED != OPENED
        || c.flags != conn::INITIATOR
        || c.steady[dir.other().index()] != steady::WHOLE
        || !(s.ack.after(peer.iss) && s.ack.at_or_before(peer.snd_nxt))
        || timestamps::is_future(peer, s)
    {
        return false;
    }
    handshake::adopt(c, dir, s, now_ns);
    let me = &mut c.half[dir.index()];
    // A SYN's window is not scaled (RFC 7323 section 2.2).
    let edge = s.ack.add(s.wnd as u32);
    me.flags |= half::ACKED | half::EDGE;
    me.ack = s.ack;
    me.ack_ns = now_ns;
    me.edge_cur = edge;
    me.edge_max = edge;
    me.wnd_max = s.wnd as u32;
    identity::take(me, s);
    super::note_options(me, s);
    super::count(me, s, now_ns);
    let sender = &mut c.half[dir.other().index()];
    ack::sample(sender, sender.rtt_seq.sub(1), s.ack, now_ns);
    c.steady[dir.index()] = steady::WHOLE;
    true
}

/// The right edge of the window that a predicted segment offers, and the highest that its sender offered with it.
enum Window {
    Known {
        edge: SeqNum,
        highest: SeqNum,
    },
    /// Its scale is not known.
    Unknown,
}

/// What a predicted segment offers. The checks are those of the files named, each reduced to the side on which nothing
/// happens.
#[inline(always)]
fn predicted(c: &Parts, dir: Direction, s: &Segment, now_ns: u64) -> Option<Window> {
    let steady = c.core.steady[0] & c.core.steady[1];
    if steady == steady::NO
        || s.flags & (flags::SYN | flags::RST | flags::ACK) != flags::ACK
        || s.options & !opt::TIMESTAMPS != 0
        || s.packet & (packet::FIRST_FRAGMENT | packet::LENGTH_UNCERTAIN) != 0
        || s.wnd == 0
    {
        return None;
    }
    let me = &c.core.half[dir.index()];
    let peer = &c.core.half[dir.other().index()];
    // Both SYNs were seen, and the other end answered this one's.
    let handshake = steady == steady::WHOLE;
    if handshake && (me.flags & OPENED != OPENED || peer.flags & PEER_NEEDED != PEER_NEEDED) {
        return None;
    }
    let last_ns = if me.last_ns > peer.last_ns { me.last_ns } else { peer.last_ns };
    if now_ns > last_ns + IDLE_GAP_NS {
        return None;
    }
    // sequence.rs: in order and inside the window. Not above what the window ever was, also without data (ack.rs,
    // `pingpong`).
    let (len, end) = (s.payload_len, s.end());
    let consumes = len > 0 || s.has(flags::FIN);
    if s.seq != me.snd_nxt || peer.ack.after(s.seq) || peer.has(half::EDGE) && s.seq.after(peer.edge_max) {
        return None;
    }
    // Nothing comes after a FIN.
    if consumes && (!end.after(s.seq) || me.has(half::FIN)) {
        return None;
    }
    let fits = if handshake {
        !consumes || !beyond(peer, end)
    } else {
        (len == 0 || sequence::infers_nothing(me, &c.fault[dir.index()], peer, end))
            && !(peer.flags & half::EDGE != 0 && me.has(half::SCALE_INFERRED) && end.distance(peer.edge_max) > 1)
    };
    if !fits {
        return None;
    }
    // ack.rs: of what was sent, not backwards, not a duplicate; a window that is not withdrawn.
    if s.ack.after(peer.snd_nxt) {
        return None;
    }
    if me.has(half::ACKED) {
        let again = !consumes && s.wnd == me.wnd && s.ack == me.ack && peer.snd_nxt.after(s.ack);
        if s.ack.before(me.ack) || again {
            return None;
        }
    } else if s.ack.at_or_before(peer.iss) {
        return None;
    }
    let scales = handshake || peer.has(half::SCALE_INFERRED);
    let window = if scales {
        let shift = if !handshake {
            if !me.has(half::EDGE) || c.core.flags & conn::SCALE_INFERRED == 0 {
                return None;
            }
            c.fault[dir.other().index()].peer_shift.wrapping_sub(1) as u32 & 15
        } else if me.flags & peer.flags & half::WSCALE != 0 {
            me.wscale as u32 & 15
        } else {
            0
        };
        let bytes = (s.wnd as u32) << shift;
        let syn_wnd = c.core.reach[dir.index()].syn_wnd;
        if handshake && !me.has(half::FIRST_WINDOW) && is_odd_first(syn_wnd, s, bytes, shift) {
            return None;
        }
        let edge = s.ack.add(bytes);
        // A client's SYN offered a window before there was anything to acknowledge.
        let before = if me.has(half::EDGE) { me.edge_max } else { peer.iss.add(1).add(syn_wnd as u32) };
        if before.after(edge.add(1 << shift)) {
            return None;
        }
        Window::Known { edge, highest: before.max(edge) }
    } else if me.has(half::EDGE) {
        return None;
    } else {
        Window::Unknown
    };
    // timestamps.rs: there or not as ever, not backwards, no echo of the future.
    if s.has_option(opt::TIMESTAMPS) != me.has(half::TIMESTAMPS) {
        return None;
    }
    if s.has_option(opt::TIMESTAMPS) && (s.tsval.wrapping_sub(me.ts_hi) as i32) < 0 || timestamps::is_future(peer, s) {
        return None;
    }
    identity::continues(me, s).then_some(window)
}

/// Whether the first window that is scaled looks as if it were not, or shrinks to what a rewritten handshake leaves of it;
/// see `window` in ack.rs.
#[inline(always)]
fn is_odd_first(syn_wnd: u16, s: &Segment, bytes: u32, shift: u32) -> bool {
    syn_wnd >= 1024 && (bytes < syn_wnd as u32 / 8 || shift >= 2 && s.wnd == syn_wnd)
}

/// Whether data up to `end` is beyond the other end's window.
#[inline(always)]
fn beyond(peer: &Half, end: SeqNum) -> bool {
    // Scale rounding, as in sequence.rs.
    let slack = if peer.has(half::WSCALE) { 1u32 << (peer.wscale & 15) } else { 0 };
    end.distance(peer.edge_max.add(slack)) > 1
}
