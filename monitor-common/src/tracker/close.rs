//! Resets: whether the receiver accepts one (RFC 9293 3.5.3, RFC 5961 section 3, Linux `tcp_validate_incoming`).

use super::state::{Parts, half};
use crate::flow::Direction;
use crate::segment::{Segment, flags, opt};

/// What a RST does at its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Effect {
    /// At the number that the receiver expects: the connection dies.
    Exact = 0,
    /// Inside the window but not exact: challenged, the connection lives.
    InWindow = 1,
    /// Outside: ignored.
    OutOfWindow = 2,
    /// The receiver was not seen, so nothing can be checked; taken as effective.
    Unverified = 3,
    /// Not signed although the receiver requires it (MD5, RFC 2385 section 2; TCP-AO, RFC 5925 section 7.4): ignored.
    Unsigned = 4,
}

impl Effect {
    pub const fn name(self) -> &'static str {
        match self {
            Effect::Exact => "exact",
            Effect::InWindow => "in_window",
            Effect::OutOfWindow => "out_of_window",
            Effect::Unverified => "unverified",
            Effect::Unsigned => "unsigned",
        }
    }

    pub const fn from_number(n: u8) -> Effect {
        match n {
            0 => Effect::Exact,
            1 => Effect::InWindow,
            2 => Effect::OutOfWindow,
            4 => Effect::Unsigned,
            _ => Effect::Unverified,
        }
    }

    pub const fn is_effective(self) -> bool {
        matches!(self, Effect::Exact | Effect::Unverified)
    }
}

/// Judges a RST of `dir` and marks its half. Moves no edge.
#[inline(always)]
pub fn on_rst(c: &mut Parts, dir: Direction, s: &Segment, now_ns: u64) -> Effect {
    let effect = effect(c, dir, s);
    let reach = &mut c.core.reach[dir.index()];
    if effect.is_effective() && reach.rst_ns == 0 {
        reach.rst_ns = now_ns;
    }
    let me = &mut c.core.half[dir.index()];
    me.flags |= if effect.is_effective() { half::RST } else { half::RST_INEFFECTIVE };
    me.rst_count = me.rst_count.saturating_add(1);
    me.segments = me.segments.wrapping_add(1);
    me.last_ns = me.last_ns.max(now_ns);
    effect
}

#[inline(always)]
fn effect(c: &Parts, dir: Direction, s: &Segment) -> Effect {
    let me = &c.core.half[dir.index()];
    let peer = &c.core.half[dir.other().index()];
    // Who signs its segments has a key for the other end's, and takes none without (Linux `tcp_inbound_hash`).
    let keyed = peer.has(half::AUTH) || me.has(half::AUTH) && !peer.has(half::SEEN);
    if keyed && !s.has_option(opt::AUTH) {
        return Effect::Unsigned;
    }
    // The number that the receiver acknowledged last is the one it expects, also where this view holds that
    // acknowledgement for impossible (an old connection's numbers, a wrong third segment of the handshake).
    let said = peer.prev_ack;
    if said.0 != 0 && s.seq == said && !(peer.has(half::ACKED) && said.before(peer.ack)) {
        return Effect::Exact;
    }
    if !peer.has(half::SEEN) {
        return Effect::Unverified;
    }
    if !me.has(half::SEEN) || !peer.has(half::ACKED) {
        // SYN-SENT: the RST must acknowledge the SYN (RFC 9293 3.10.7.3). A receiver that acknowledged nothing of a
        // sender seen before is in SYN-RECEIVED at most or its segments were not seen.
        if s.has(flags::ACK) {
            return if s.ack == peer.snd_nxt || peer.has(half::SYN) && s.ack == peer.iss.add(1) {
                Effect::Exact
            } else if me.has(half::SEEN) {
                Effect::Unverified
            } else {
                Effect::OutOfWindow
            };
        }
        return if me.has(half::SEEN) && s.seq == me.snd_nxt {
            Effect::Exact
        } else if me.has(half::SYN) || !me.has(half::SEEN) && peer.has(half::SYN) {
            Effect::OutOfWindow
        } else {
            Effect::Unverified
        };
    }
    let fault = &c.fault[dir.index()];
    let peer_fault = &c.fault[dir.other().index()];
    // What the receiver expects lies between what it acknowledged and what was sent, but not beyond a hole.
    let highest = if me.has(half::HOLE) && fault.hole.lo.at_or_after(peer.ack) { fault.hole.lo } else { me.snd_nxt };
    if s.seq.at_or_after(peer.ack) && s.seq.at_or_before(highest) {
        return Effect::Exact;
    }
    // Linux accepts the right edge of the highest SACK block too, and one below after a FIN.
    if peer.has(half::SACK_RIGHT) && s.seq == peer_fault.sack_right || me.has(half::FIN) && s.seq == peer.ack.sub(1) {
        return Effect::Exact;
    }
    let edge = if peer.has(half::EDGE) { peer.edge_max } else { peer.ack.add(65_535) };
    if s.seq.at_or_after(peer.ack) && s.seq.before(edge) {
        Effect::InWindow
    } else if c.core.scale_known() || s.seq.before(peer.ack) {
        Effect::OutOfWindow
    } else {
        Effect::Unverified
    }
}
