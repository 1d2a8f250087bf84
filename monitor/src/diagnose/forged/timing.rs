//! What physics forbids: an answer from the far end takes a round trip (DIAGNOSIS 4.2).

use super::Hit;
use super::scene::Scene;
use monitor_common::Anomaly;
use monitor_common::segment::flags;
use monitor_common::tracker::MS;
use monitor_common::tracker::state::half;

/// Round trips that can be told from a host's own delays.
const SHORTEST_NS: u64 = 2 * MS;
/// Samples that make the smallest round trip a bound.
const SAMPLES: u8 = 3;
/// With fewer, a slow handshake (a radio waking up, ARP) must not make an ordinary answer look early: only a RST from
/// next door counts, on a path that is certainly longer.
const FAR_NS: u64 = 10 * MS;
const NEXT_DOOR_NS: u64 = 2 * MS;

const IMPOSSIBLE: u8 = 60;
const MISMATCH: u8 = 40;

/// Faster than this, and it was not S.
fn too_fast_ns(s: &Scene) -> Option<u64> {
    let (rtt, samples) = s.rtt();
    if s.sender_is_here() || rtt < SHORTEST_NS {
        return None;
    }
    match samples {
        0 => None,
        SAMPLES.. => Some(rtt / 2),
        _ => (rtt >= FAR_NS).then_some((rtt / 10).min(NEXT_DOOR_NS)),
    }
}

/// rtt_impossible. `looks_different`: another test shows that the RST is not of S's own series.
pub fn impossible(s: &Scene, looks_different: bool) -> Option<Hit> {
    let limit = too_fast_ns(s)?;
    let (since, what) = if s.rst_has(flags::ACK) {
        acknowledged_at(s)?
    } else {
        // A RST alone is an answer only if it cannot be an abort right behind S's own last segment.
        if !s.is_reply() || !(s.plain_reply() || looks_different) {
            return None;
        }
        (first_asked_at(s)?, "answers")
    };
    let delay = s.rst.time_ns.checked_sub(since)?;
    if delay >= limit {
        return None;
    }
    let (rtt, samples) = s.rtt();
    Some(Hit {
        test: Anomaly::RttImpossible.name(),
        weight: IMPOSSIBLE,
        time_ns: s.rst.time_ns,
        speaker: s.sender,
        anomaly: Some((Anomaly::RttImpossible, (rtt / 1_000) as u32, (delay / 1_000) as u32)),
        text: format!(
            "the RST {what} what left here {} before, but the {} is {} away and back ({})",
            Scene::delay(delay),
            s.who(s.sender),
            Scene::delay(rtt),
            super::super::words::count(samples.into(), "sample"),
        ),
    })
}

/// When the newest data that the RST acknowledges was first sent. Only for all of R's data, whose time is known exactly:
/// an earlier copy of what a retransmission repeats may have arrived.
fn acknowledged_at(s: &Scene) -> Option<(u64, &'static str)> {
    let sent_something = s.peer.has(half::SEEN) && (s.peer.bytes > 0 || s.peer.has(half::FIN)) && s.peer.data_ns != 0;
    (sent_something && s.rst.ack == s.peer.snd_nxt && s.peer.has(half::DATA))
        .then_some((s.peer.data_ns, "acknowledges"))
}

/// When R first acknowledged the RST's number; none when that may have been before what is at hand.
fn first_asked_at(s: &Scene) -> Option<u64> {
    let number = s.rst.seq;
    if s.peer.has(half::ACKED) && s.peer.ack == number && s.peer.ack_ns != 0 {
        return Some(s.peer.ack_ns);
    }
    let mut acks = s.before(s.other).filter(|r| r.flags & flags::ACK != 0);
    let below = acks.by_ref().find(|r| r.ack == number || r.ack.before(number))?;
    if below.ack == number {
        return None;
    }
    acks.find(|r| r.ack == number).map(|r| r.time_ns)
}

/// rtt_mismatch: the answer has no plausible question.
pub fn mismatch(s: &Scene) -> Option<Hit> {
    let (rtt, samples) = s.rtt();
    if s.sender_is_here() || rtt < SHORTEST_NS || samples < SAMPLES || !s.is_reply() || !s.plain_reply() {
        return None;
    }
    let at = s.rst.time_ns;
    let (earliest, latest) = (at.saturating_sub(3 * rtt + 200 * MS), at.saturating_sub(rtt / 2));
    if !s.complete(s.other, earliest) || !s.clear_view() {
        return None;
    }
    let asks = |r: &&monitor_common::recorder::Record| {
        r.flags & flags::ACK != 0 && r.ack == s.rst.seq && (earliest..=latest).contains(&r.time_ns)
    };
    if s.before(s.other).any(|r| asks(&r)) {
        return None;
    }
    Some(Hit {
        test: "rtt_mismatch",
        weight: MISMATCH,
        time_ns: at,
        speaker: s.sender,
        anomaly: None,
        text: format!(
            "nothing that left here between {} and {} before can have provoked it (round trip {})",
            Scene::delay(rtt / 2),
            Scene::delay(3 * rtt + 200 * MS),
            Scene::delay(rtt)
        ),
    })
}
