//! Habits of those who inject (DIAGNOSIS 4.2).

use super::Hit;
use super::scene::Scene;
use crate::diagnose::shape::{Shape, shape};
use crate::later::LATER_NS;
use monitor_common::Anomaly;
use monitor_common::recorder::Record;
use monitor_common::segment::flags;
use monitor_common::tracker::MS;
use monitor_common::tracker::state::half;

/// RSTs to both ends are of one making within this time.
const TOGETHER_NS: u64 = 10 * MS;
/// RSTs that are a sweep.
const SWEEP: usize = 3;

/// The RST in R's name, where both ends were reset at once and neither answers anything.
pub fn other_way(s: &Scene) -> Option<Record> {
    s.history
        .later
        .resets()
        .filter(|f| f.speaker == s.other && f.record.time_ns.saturating_sub(s.rst.time_ns) <= TOGETHER_NS)
        .map(|f| f.record)
        .find(|r| {
            // An echo has reply shape, its number an acknowledgement of S.
            let of_s = s.before(s.sender).chain(s.after(s.sender)).filter(|a| a.flags & flags::ACK != 0);
            let answers =
                r.flags & flags::ACK == 0 && of_s.map(|a| a.ack).chain([s.me.ack, s.rst.ack]).any(|a| a == r.seq);
            !answers && shape(s.history, s.other, r) != Shape::ReplyToNoAck
        })
}

pub fn both_directions(s: &Scene) -> Option<Hit> {
    if s.is_reply() || !s.clear_view() {
        return None;
    }
    let r = other_way(s)?;
    Some(Hit {
        test: "both_directions",
        weight: 25,
        time_ns: r.time_ns,
        speaker: s.other,
        anomaly: None,
        text: format!(
            "a RST in the name of the {} went the other way {} later, and answers nothing",
            s.who(s.other),
            Scene::delay(r.time_ns - s.rst.time_ns)
        ),
    })
}

/// The RST follows the first data of the connection, and others to the same peer or port fare alike. Alone the first says
/// nothing: servers, too, refuse the first request.
pub fn payload_trigger(s: &Scene) -> Option<Hit> {
    let first = s.peer.bytes > 0 && s.me.bytes == 0;
    let same = s
        .history
        .surroundings
        .same_fault
        .as_ref()
        .filter(|f| matches!(f.cause.as_str(), "rst_injected" | "policy_reset"))?;
    if !first || s.rst.time_ns.saturating_sub(s.peer.data_ns) > LATER_NS {
        return None;
    }
    Some(Hit {
        test: "payload_trigger",
        weight: 15,
        time_ns: s.rst.time_ns,
        speaker: s.sender,
        anomaly: None,
        text: format!(
            "it follows the first data of the {}, as on {} connections with the same {} since",
            s.who(s.other),
            same.flows,
            same.shared
        ),
    })
}

/// RSTs at numbers that nobody asked for, again and again: somebody guesses (RFC 5961 section 3).
pub fn sweep(s: &Scene) -> Option<Hit> {
    if !s.clear_view() || !s.peer.has(half::ACKED) {
        return None;
    }
    // What R never asked for lies above its acknowledgements, and is not S's own place either.
    let wild = |r: &Record| r.seq.after(s.peer.ack) && r.seq.after(s.me.snd_nxt.add(2)) && !s.asked_for(r.seq);
    let close = |r: &Record| r.time_ns.abs_diff(s.rst.time_ns) <= LATER_NS;
    let attempts: Vec<Record> = s.resets().into_iter().filter(|r| wild(r) && close(r)).collect();
    // Triples of one maker begin where S stands and guess ahead by a segment or two; a sweep does not begin there.
    let knows = s.resets().iter().find(|r| close(r)).is_some_and(|r| r.seq == s.me.snd_nxt);
    if attempts.len() < SWEEP || knows && attempts.len() < 2 * SWEEP {
        return None;
    }
    let challenged = s.history.any(Anomaly::ChallengeAck);
    Some(Hit {
        test: "exact_from_offpath",
        weight: 50,
        time_ns: s.rst.time_ns,
        speaker: s.sender,
        anomaly: None,
        text: format!(
            "{} RSTs in the name of the {} at numbers that nobody asked for, {} to {}{}: somebody guesses",
            attempts.len(),
            s.who(s.sender),
            s.short(s.sender, attempts[0].seq),
            s.short(s.sender, attempts[attempts.len() - 1].seq),
            if challenged { ", answered by challenge ACKs" } else { "" }
        ),
    })
}
