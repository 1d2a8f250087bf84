//! Acknowledgements and windows (RFC 9293 3.10.7.4, RFC 5961 section 5, RFC 7323 section 2).

use super::notes::Notes;
use super::state::{Candidate, Half, Parts, candidate, conn, half};
use super::{MS, OLD_ACK_SPAN, SECOND, settle, stall_ns};
use crate::anomaly::Anomaly;
use crate::flow::Direction;
use crate::segment::{Segment, flags};
use crate::seq::SeqNum;

/// Mutual rejections per second that make a storm.
const STORM: u16 = 50;

/// The shift to apply to `speaker`'s windows; none while the handshake was not seen and nothing could be inferred. An
/// inferred shift is a lower bound: it makes windows too small, never too large.
#[inline(always)]
pub fn shift(c: &Parts, speaker: Direction) -> Option<u32> {
    if !c.core.scale_known() {
        let sender = speaker.other().index();
        let inferred = c.core.half[sender].has(half::SCALE_INFERRED);
        return if inferred { Some(c.fault[sender].peer_shift.wrapping_sub(1) as u32 & 15) } else { None };
    }
    let (a, b) = (&c.core.half[0], &c.core.half[1]);
    Some(if a.has(half::WSCALE) && b.has(half::WSCALE) { c.core.half[speaker.index()].wscale as u32 & 15 } else { 0 })
}

/// Bytes that the segment offers: the one place where windows are scaled. A SYN's window is not (RFC 7323 2.2).
#[inline(always)]
pub fn offered(c: &Parts, speaker: Direction, s: &Segment) -> Option<u32> {
    match shift(c, speaker) {
        Some(_) if s.has(flags::SYN) => Some(s.wnd as u32),
        Some(shift) => Some((s.wnd as u32) << shift),
        None => None,
    }
}

#[inline(always)]
pub fn on_ack(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    let peer = &c.core.half[dir.other().index()];
    let me = &c.core.half[dir.index()];
    let sender_seen = peer.has(half::SEEN);
    let sent = peer.snd_nxt;
    let known = me.has(half::ACKED);
    let prev = me.ack;
    let offered = offered(c, dir, s);
    let bare = s.seq_len() == 0;

    if sender_seen && s.ack.after(sent) && !tolerated(peer, &c.fault[dir.other().index()], s.ack, sent) {
        let settled = c.fault[dir.other().index()].settled[candidate::ACK_UNSENT];
        let new = Candidate {
            time_ns: now_ns,
            expected: sent,
            actual: s.ack,
            judge_segments: peer.segments,
            ..Candidate::default()
        };
        settle::raise(&mut c.core.half[dir.index()], &mut c.fault[dir.index()], candidate::ACK_UNSENT, settled, new);
        pingpong(c, dir, s, now_ns, notes);
        return;
    }
    if !known && peer.has(half::SYN) && s.ack.at_or_before(peer.iss) {
        // The third segment of a handshake that acknowledges something else: answered with a RST.
        return;
    }
    if known && s.ack.before(prev) {
        let behind = prev.distance(s.ack) as u32;
        let span = peer_window(peer, me).max(OLD_ACK_SPAN);
        // How old is a question of windows; and a segment from before this speaker's last one is in the capture twice.
        if c.core.scale_known() && behind > span && now_ns >= me.last_ns {
            notes.push(Anomaly::AckTooOld, dir, prev, s.ack);
        } else {
            notes.push(Anomaly::AckOld, dir, prev, s.ack);
        }
        pingpong(c, dir, s, now_ns, notes);
        return;
    }
    let advanced = !known || s.ack.after(prev);
    settle::on_receiver_ack(c, dir, s.ack, offered.unwrap_or(0), advanced, now_ns, notes);
    if advanced {
        advance(c, dir, s, now_ns);
    } else if sender_seen && bare && (s.wnd == c.core.half[dir.index()].wnd || reports_new(s)) && sent.after(s.ack) {
        let me = &mut c.core.half[dir.index()];
        me.dup_acks = me.dup_acks.saturating_add(1);
        notes.push(Anomaly::DupAck, dir, s.ack, s.ack);
    }
    match offered {
        Some(bytes) => {
            if !c.core.scale_known() {
                c.core.flags |= conn::SCALE_INFERRED;
            }
            window(c, dir, s, bytes, advanced, now_ns, notes);
        }
        // What was inferred turned out too small: its edges go with it.
        None => c.core.half[dir.index()].flags &= !half::EDGE,
    }
    zero_window(c, dir, s, now_ns, notes);
    pingpong(c, dir, s, now_ns, notes);
}

/// With SACK a duplicate acknowledgement is one that reports data above it, whatever its window (RFC 6675 section 2): a
/// receiver that keeps out-of-order data advertises another window with each.
#[inline(always)]
fn reports_new(s: &Segment) -> bool {
    s.sack_count > 0 && s.sack[0][1].after(s.ack)
}

/// The largest window that bounds how old an acceptable acknowledgement may be.
#[inline(always)]
fn peer_window(peer: &Half, me: &Half) -> u32 {
    if me.wnd_max > peer.wnd_max { me.wnd_max } else { peer.wnd_max }
}

/// Acknowledgements beyond what was seen sent that have a harmless reason: data that was seen but lay beyond the
/// window (the receiver was lenient), a datagram whose end is uncertain, or one missed SYN, FIN or probe byte.
#[inline(always)]
fn tolerated(sender: &Half, fault: &super::state::Fault, ack: SeqNum, sent: SeqNum) -> bool {
    let over = ack.distance(sent);
    sender.has(half::SHADOW) && ack.at_or_before(fault.shadow_end)
        || sender.has(half::END_UNCERTAIN) && over <= 65_535
        || over == 1 && !sender.has(half::FIN)
}

#[inline(always)]
fn advance(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64) {
    let me = &c.core.half[dir.index()];
    let (known, prev) = (me.has(half::ACKED), me.ack);
    let sender = &mut c.core.half[dir.other().index()];
    if known {
        sample(sender, prev, s.ack, now_ns);
    } else {
        sample(sender, sender.rtt_seq.sub(1), s.ack, now_ns);
    }
    let me = &mut c.core.half[dir.index()];
    me.ack = s.ack;
    me.ack_ns = now_ns;
    me.dup_acks = 0;
    me.flags |= half::ACKED;
    // A DSACK is shifted only as long as nothing moves.
    c.fault[dir.index()].dsack_shift_hits = 0;
}

/// The acknowledgement that crosses the sampled end is the sample, so that its flag has one writer, the sender.
#[inline(always)]
pub(super) fn sample(sender: &mut Half, prev: SeqNum, ack: SeqNum, now_ns: u64) {
    // Written by the reader of the sample, read by nobody else: see the note on races in `state`.
    if sender.has(half::RTT_PENDING) && prev.before(sender.rtt_seq) && ack.at_or_after(sender.rtt_seq) {
        let us = (now_ns.saturating_sub(sender.rtt_start_ns) / 1_000).clamp(1, u32::MAX as u64) as u32;
        if sender.rtt_min_us == 0 || us < sender.rtt_min_us {
            sender.rtt_min_us = us;
        }
        // Not stored when nothing changes: the sender writes this cache line, on another CPU as a rule.
        let samples = sender.rtt_samples.saturating_add(1);
        if sender.rtt_samples != samples {
            sender.rtt_samples = samples;
        }
    }
}

/// The window that the segment offers, against those before it.
#[inline(always)]
fn window(c: &mut Parts, dir: Direction, s: &Segment, bytes: u32, advanced: bool, now_ns: u64, notes: &mut Notes) {
    let sender = &c.core.half[dir.other().index()];
    let (sender_seen, sent, sender_iss) = (sender.has(half::SEEN), sender.snd_nxt, sender.iss);
    let scale = shift(c, dir).unwrap_or(0);
    let certain = c.core.scale_known();
    let sender_mss = c.core.reach[dir.other().index()].mss as u32;
    let sender_scales = sender.has(half::WSCALE);
    let me = &mut c.core.half[dir.index()];
    let reach = &mut c.core.reach[dir.index()];
    let fault = &mut c.fault[dir.index()];
    let edge = s.ack.add(bytes);
    let syn = s.has(flags::SYN);

    if !me.has(half::EDGE) {
        me.flags |= half::EDGE;
        me.edge_max = edge;
        me.edge_cur = edge;
        // The client's SYN offered a window too, before there was anything to acknowledge.
        let first = sender_iss.add(1).add(reach.syn_wnd as u32);
        if certain && !syn && first.after(edge) {
            me.edge_max = first;
        }
    }
    if certain && !syn && !me.has(half::FIRST_WINDOW) {
        me.flags |= half::FIRST_WINDOW;
        reach.first_wnd = s.wnd;
        let received = sent.distance(sender_iss.add(1)).max(0) as u32;
        // Without the option on either SYN there is no scale to disagree about.
        let offered = me.has(half::WSCALE) || sender_scales;
        if offered
            && reach.syn_wnd >= 1024
            && bytes > 0
            && bytes < reach.syn_wnd as u32 / 8
            && received < reach.syn_wnd as u32 / 2
        {
            notes.push(Anomaly::WindowCollapsePostsyn, dir, SeqNum(reach.syn_wnd as u32), SeqNum(bytes));
            me.flags |= half::COLLAPSED;
            me.edge_max = edge;
        } else if scale >= 2 && s.wnd == reach.syn_wnd && reach.syn_wnd >= 1024 {
            me.flags |= half::UNSCALED_SUSPECT;
            notes.push(Anomaly::WindowUnscaledSuspect, dir, SeqNum(reach.syn_wnd as u32), SeqNum(bytes));
        }
    }
    let unit = 1u32 << scale;
    let in_order = s.seq.at_or_after(me.prev_seq) && now_ns >= me.last_ns;
    if me.edge_max.after(edge.add(unit)) && !me.has(half::COLLAPSED) && in_order {
        let back = me.edge_max.distance(edge) as u32;
        let stranded = sender_seen && sent.after(edge.add(unit)) && back >= sender_mss.max(1);
        // Confirmed by a second acknowledgement that is still below; the first may be reordered.
        let again = fault.shrink_edge == edge && me.edge_cur.before(me.edge_max);
        let confirmed = again || advanced && me.edge_cur.before(me.edge_max);
        if me.has(half::UNSCALED_SUSPECT) && confirmed && back >= me.wnd_max / 8 * 7 {
            // An eighth is left of a window that was the SYN's, taken with the scale: it was not meant to be scaled.
            notes.push_weighed(Anomaly::WindowUnscaledSuspect, dir, me.edge_max, edge, true);
            me.flags |= half::COLLAPSED;
            me.edge_max = edge;
        } else if stranded && confirmed && certain && bytes > 0 {
            // Without a byte it is closed, not moved: Linux closes it below its edge while it has no memory for what
            // came (tcp_select_window in tcp_output.c), and what was in flight is acceptable again after that.
            fault.shrink_hits = fault.shrink_hits.saturating_add(1);
            notes.push_weighed(Anomaly::WindowShrink, dir, me.edge_max, edge, true);
        } else {
            notes.push_weighed(Anomaly::WindowShrink, dir, me.edge_max, edge, false);
        }
        fault.shrink_edge = edge;
    }
    me.edge_cur = edge;
    me.edge_max = me.edge_max.max(edge);
    if bytes > me.wnd_max {
        me.wnd_max = bytes;
    }
}

/// A closed window, which is 0 under any scale.
#[inline(always)]
fn zero_window(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    let me = &c.core.half[dir.index()];
    if s.wnd != 0 && !me.has(half::ZERO_WINDOW) {
        return;
    }
    let sender = &c.core.half[dir.other().index()];
    let (sent, sender_data_ns, stall) = (sender.snd_nxt, sender.data_ns, stall_ns(sender));
    let me = &mut c.core.half[dir.index()];
    let fault = &mut c.fault[dir.index()];
    if s.wnd == 0 {
        if !me.has(half::ZERO_WINDOW) {
            me.flags |= half::ZERO_WINDOW;
            fault.zero_window_ns = now_ns;
            notes.push(Anomaly::ZeroWindow, dir, s.ack, s.ack);
        } else if now_ns > fault.zero_window_ns + stall && sender_data_ns != 0 {
            notes.push(Anomaly::ZeroWindowStall, dir, s.ack, sent);
        }
    } else {
        me.flags &= !half::ZERO_WINDOW;
    }
}

/// Bare ACKs that answer bare ACKs, each repeating itself and unacceptable to the other end.
#[inline(always)]
fn pingpong(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64, notes: &mut Notes) {
    let peer = &c.core.half[dir.other().index()];
    let me = &c.core.half[dir.index()];
    let repeats = s.seq_len() == 0 && s.seq == me.prev_seq && s.ack == me.prev_ack && me.segments > 0;
    // Unacceptable to the other end: it acknowledges what was never sent, or lies outside the window.
    let unacceptable = peer.has(half::SEEN) && s.ack.after(peer.snd_nxt)
        || peer.has(half::ACKED) && s.seq.before(peer.ack)
        || peer.has(half::EDGE) && s.seq.after(peer.edge_max);
    let answers = peer.has(half::REPEATED_BARE_ACK) && peer.last_ns >= me.last_ns;
    let probing = {
        let (f, g) = (&c.fault[0], &c.fault[1]);
        let last = if f.probe_ns > g.probe_ns { f.probe_ns } else { g.probe_ns };
        last != 0 && now_ns < last + SECOND
    };
    let peer_nxt = peer.snd_nxt;
    let me = &mut c.core.half[dir.index()];
    if !(repeats && unacceptable) || probing || now_ns < me.last_ns {
        me.flags &= !half::REPEATED_BARE_ACK;
        return;
    }
    me.flags |= half::REPEATED_BARE_ACK;
    if !answers {
        return;
    }
    let fault = &mut c.fault[dir.index()];
    if fault.pingpongs == 0 || now_ns > fault.pingpong_since_ns + 60 * SECOND {
        fault.pingpongs = 0;
        fault.pingpong_since_ns = now_ns;
    }
    fault.pingpongs = fault.pingpongs.saturating_add(1);
    let elapsed = now_ns.saturating_sub(fault.pingpong_since_ns);
    if fault.pingpongs >= 3 && elapsed >= SECOND {
        notes.push(Anomaly::AckPingpong, dir, peer_nxt, s.ack);
    }
    // A rate without a division: STORM in the first second, or as many per second since.
    if fault.pingpongs >= STORM && elapsed <= (fault.pingpongs as u64) * (SECOND / STORM as u64) + MS {
        notes.push(Anomaly::AckStorm, dir, peer_nxt, s.ack);
    }
}
