//! The shortest way through [`super::predict`]: the next data or acknowledgement of an end that has sent some before, which is
//! what a transfer consists of.
//!
//! [`on_segment`] takes less than [`super::predict::on_segment`], and what it takes comes out the same, bit for bit. What that one finds
//! out of each segment anew (which flags are set, whether scales are known, whether this is the first of its kind) is
//! here one comparison of a word that only a settled connection has. What does not fit is left to it: a window that shrinks,
//! a FIN, a first segment of its kind, a longer one than any before.

use super::state::{Core, Half, half};
use super::{IDLE_GAP_NS, ack, identity, predict, timestamps};
use crate::flow::Direction;
use crate::recorder::Recorder;
use crate::segment::{Segment, flags, opt, packet};
use crate::seq::SeqNum;
use core::hint::cold_path;

/// Flags that both ends have.
const BOTH: u32 = half::SEEN | half::SYN | half::ACKED | half::EDGE | half::WSCALE;
/// Of these the speaker has the first, and not the second.
const OWN: u32 = BOTH | half::FIRST_WINDOW;
const OWN_BARRED: u32 = half::FIN | half::REPEATED_BARE_ACK;
/// And these, unless it has sent little or nothing.
const SCALED: u32 = half::DATA | half::ACKED_OVER_RAW;
/// A distance that is surely ahead: half of what can be told from one behind.
const AHEAD: u32 = 1 << 30;

/// Tracks and records the segment, which was observed at `hook`, if the connection is settled and nothing of it is new; false, and nothing
/// is changed, if not.
#[inline(always)]
pub fn on_segment(c: &mut Core, recorder: &mut Recorder, dir: Direction, hook: u8, s: &Segment, now_ns: u64) -> bool {
    let me = &c.half[dir.index()];
    let peer = &c.half[dir.other().index()];
    let (len, flags) = (s.payload_len, me.flags);
    // A header that is not plain, or a connection that is not settled.
    let stamps = if me.has(half::TIMESTAMPS) { opt::TIMESTAMPS } else { 0 };
    if c.steady != [predict::steady::WHOLE; 2]
        || me.fed_by != hook
        || flags & (OWN | OWN_BARRED) != OWN
        || peer.flags & BOTH != BOTH
        || s.flags & (flags::FIN | flags::SYN | flags::RST | flags::ACK) != flags::ACK
        || s.options != stamps
        || s.packet & (packet::FIRST_FRAGMENT | packet::LENGTH_UNCERTAIN) != 0
        || s.wnd == 0
        || len > me.len_max as u32
        || now_ns.wrapping_sub(me.last_ns) > IDLE_GAP_NS
    {
        cold_path();
        return false;
    }
    let Some(runs) = identity::longer_runs(me, s) else {
        cold_path();
        return false;
    };
    // In order, inside the window, of what was sent, not backwards.
    let end = s.seq.add(len);
    let (unsent, advance) = (peer.snd_nxt.0.wrapping_sub(s.ack.0), s.ack.0.wrapping_sub(me.ack.0));
    let far = s.seq.0.wrapping_sub(peer.ack.0) | peer.edge_max.0.wrapping_sub(end.0) | unsent | advance;
    if s.seq != me.snd_nxt || far >= AHEAD || len | advance == 0 && unsent != 0 && s.wnd == me.wnd {
        cold_path();
        return false;
    }
    let shift = me.wscale as u32 & 15;
    let bytes = (s.wnd as u32) << shift;
    let edge = s.ack.add(bytes);
    if me.edge_max.after(edge.add(1 << shift)) {
        cold_path();
        return false;
    }
    if stamps != 0 && ((s.tsval.wrapping_sub(me.ts_hi) as i32) < 0 || timestamps::is_future(peer, s)) {
        cold_path();
        return false;
    }
    if len > 0 && flags & SCALED != SCALED && !may_pass(flags, peer, end) {
        cold_path();
        return false;
    }
    let samples = len > 0 && (flags & half::RTT_PENDING == 0 || peer.ack.at_or_after(me.rtt_seq));

    let me = &mut c.half[dir.index()];
    recorder.take(dir, me, s, now_ns);
    if stamps != 0 {
        me.ts_hi = s.tsval;
    }
    if len > 0 {
        me.snd_nxt = end;
        me.data_ns = now_ns;
        me.nxt_tsval = s.tsval;
        me.nxt_ip_id = s.ip_id;
        me.bytes = me.bytes.wrapping_add(len as u64);
    }
    if samples {
        me.rtt_seq = end;
        me.rtt_start_ns = now_ns;
        me.flags = flags | half::RTT_PENDING;
    }
    let before = me.ack;
    me.ack = s.ack;
    me.edge_cur = edge;
    me.edge_max = me.edge_max.max(edge);
    if bytes > me.wnd_max {
        me.wnd_max = bytes;
    }
    [me.ttl, me.ttl_run, me.id_run, me.l2_run] = runs.to_le_bytes();
    if s.packet & packet::IPV6 == 0 {
        me.ip_id = s.ip_id;
    }
    super::count(me, s, now_ns);
    if advance != 0 {
        me.ack_ns = now_ns;
        me.dup_acks = 0;
        ack::sample(&mut c.half[dir.other().index()], before, s.ack, now_ns);
    }
    true
}

/// Whether data that is not the first leaves what is known of the unscaled window as it is; see `over_raw` in sequence.rs.
#[inline(always)]
fn may_pass(flags: u32, peer: &Half, end: SeqNum) -> bool {
    let inside = end.at_or_before(peer.ack.add(peer.wnd as u32));
    flags & (half::DATA | half::OVER_RAW_PENDING) == half::DATA && (inside || peer.wscale == 0)
}
