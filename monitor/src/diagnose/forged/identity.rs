//! Whether the RST looks like the packets of its claimed sender (DIAGNOSIS 4.2).

use super::Hit;
use super::scene::{Scene, id_step};
use monitor_common::event::identity;
use monitor_common::segment::flags;
use monitor_common::tracker::state::half;

/// Packets with one TTL that make a difference of one telling.
const STABLE: u8 = 8;
/// ... and a larger one.
const SOME: u8 = 3;
/// Increments of the IP-ID in a row that make a series.
const SERIES: u8 = 4;
/// ... such that a RST without ID is out of it.
const LONG_SERIES: u8 = 8;
const NEAR_IDS: u16 = 1024;

/// The initial TTL that a packet most likely started with.
pub fn initial(ttl: u8) -> u8 {
    match ttl {
        0..=32 => 32,
        33..=64 => 64,
        65..=128 => 128,
        _ => 255,
    }
}

/// Hops that a packet has most likely come.
pub fn hops(ttl: u8) -> u8 {
    initial(ttl) - ttl
}

fn hit(s: &Scene, test: &'static str, weight: u8, text: String) -> Option<Hit> {
    Some(Hit { test, weight, time_ns: s.rst.time_ns, speaker: s.sender, anomaly: None, text })
}

/// The TTL of S before the RST: that of its own packets, else that of its address in other connections; and whether a
/// difference of one means anything.
fn usual(s: &Scene) -> Option<(u8, bool, String)> {
    if s.me.has(half::SEEN) && s.me.ttl_run >= SOME {
        let of = format!("its last {} packets came with", s.me.ttl_run);
        return Some((s.me.ttl, s.me.ttl_run >= STABLE, of));
    }
    let known = s.history.surroundings.ttl?;
    (!s.me.has(half::SEEN)).then(|| {
        let of = format!("{} other connections of that address came with", known.connections);
        (known.ttl, known.connections >= 3, of)
    })
}

pub fn ttl(s: &Scene) -> Option<Hit> {
    let (ttl, stable, of) = usual(s)?;
    let delta = s.rst.ttl.abs_diff(ttl);
    if s.sender_is_here() || delta == 0 || delta == 1 && !stable {
        return None;
    }
    let other_class = initial(s.rst.ttl) != initial(ttl);
    let text = format!("the RST came with TTL {}, {of} {ttl}", s.rst.ttl);
    hit(s, "ttl_delta", if other_class { 40 } else { 30 }, text)
}

pub fn ip_id(s: &Scene) -> Option<Hit> {
    if !s.is_ipv4() || s.me.id_run < SERIES {
        return None;
    }
    let after = format!("after {}", s.me.ip_id);
    if s.rst.ip_id != 0 {
        let continues = id_step(s.rst.ip_id, s.me.ip_id) <= NEAR_IDS;
        let text = format!("its IP-ID is {} {after} in the {}'s packets", s.rst.ip_id, s.who(s.sender));
        return if continues { None } else { hit(s, "ipid_break", 20, text) };
    }
    // An answer of Linux has no ID; its abort continues the series.
    let text = format!("an abort without IP-ID, {after} in the {}'s packets", s.who(s.sender));
    if s.is_active() && s.me.id_run >= LONG_SERIES { hit(s, "ipid_break", 15, text) } else { None }
}

/// An abort of a Linux-like stack carries the timestamps that were agreed on, and its window.
pub fn options(s: &Scene) -> Option<Hit> {
    let like_linux = s.stamps() && s.me.has(half::SACK_PERMITTED) && s.me.has(half::WSCALE);
    let stripped = s.rst_has(flags::ACK) && !s.rst_stamped() && s.rst.wnd == 0 && s.me.wnd != 0;
    if !s.is_active() || !like_linux || !stripped {
        return None;
    }
    hit(s, "option_shape", 15, "an abort without the agreed timestamps and without a window".into())
}

/// Of an abort only: an answer copies the TOS of what it answers, and has another flow label.
pub fn label(s: &Scene) -> Option<Hit> {
    let differs = s.history.identity & identity::LABEL_DIFFERS != 0;
    if !differs || !s.is_active() {
        return None;
    }
    let what = if s.is_ipv4() { "DF or TOS" } else { "traffic class or flow label" };
    hit(s, "df_tos_label", 10, format!("its {what} differs from the {}'s packets", s.who(s.sender)))
}

pub fn link(s: &Scene) -> Option<Hit> {
    if s.history.identity & identity::L2_DIFFERS == 0 || s.me.segments < u32::from(SOME) {
        return None;
    }
    hit(s, "l2_shift", 25, format!("it came from another MAC address than the {}'s packets", s.who(s.sender)))
}

/// It continues the IP-ID series, at most `most` further on, with the same TTL.
pub fn genuine(s: &Scene, most: u16) -> bool {
    s.is_ipv4()
        && s.me.has(half::SEEN)
        && s.rst.ip_id != 0
        && s.me.ip_id != 0
        && (1..=most).contains(&id_step(s.rst.ip_id, s.me.ip_id))
        && s.rst.ttl == s.me.ttl
}
