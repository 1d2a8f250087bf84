//! Sequence races (DIAGNOSIS 4.1, after Weaver, Sommer and Paxson 2009): an injector can neither stop what its victim's
//! peer has under way nor know what it will send.

use super::Hit;
use super::scene::{Scene, id_step, later_tick, stamped};
use crate::later::LATER_NS;
use monitor_common::Anomaly;
use monitor_common::recorder::Record;
use monitor_common::segment::flags;
use monitor_common::seq::SeqNum;
use monitor_common::tracker::state::{Phase, half};

const LIVE: u8 = 50;
const SEQ_CHANGE: u8 = 45;
const BELOW_DATA: u8 = 35;
const HANDSHAKE: u8 = 35;
const ACK_CHANGE: u8 = 25;
/// IP-IDs that count as one series.
const NEAR_IDS: u16 = 1024;
/// Increments in a row that make a series.
const ID_RUN: u8 = 3;
/// Numbers this far from SND.NXT belong to another connection.
const SAME_SPACE: u32 = 1 << 24;

/// A segment that S sent after its RST, and by what that is known.
pub struct Life {
    record: Record,
    by: &'static str,
}

/// Proof that S lives on. What was sent before the RST and comes late is none: a copy, or a segment that the RST
/// overtook.
pub fn life(s: &Scene) -> Option<Life> {
    // Both ends must have been heard, by then at the latest: one direction alone may be anything.
    let one_way = s.history.one_way() && s.history.later.of(s.other).next().is_none();
    if one_way || !s.me.has(half::SEEN) || !s.reset.effective {
        return None;
    }
    let patience = s.reorder_ns();
    let candidates: Vec<&Record> = s
        .after(s.sender)
        .filter(|r| r.flags & flags::SYN == 0)
        .filter(|r| r.time_ns - s.rst.time_ns > patience && r.time_ns - s.rst.time_ns <= LATER_NS)
        .filter(|r| r.seq.distance(s.me.snd_nxt).unsigned_abs() < SAME_SPACE)
        .filter(|r| !s.before(s.sender).any(|b| (b.seq, b.ack, b.ip_id, b.tsval) == (r.seq, r.ack, r.ip_id, r.tsval)))
        .collect();
    let by_stamp = candidates.iter().find(|r| {
        let newest = if s.rst_stamped() && later_tick(s.rst.tsval, s.me.ts_hi) { s.rst.tsval } else { s.me.ts_hi };
        s.me.has(half::TIMESTAMPS) && stamped(r) && later_tick(r.tsval, newest)
    });
    if let Some(r) = by_stamp {
        return Some(Life { record: **r, by: "a later timestamp" });
    }
    let by_id = candidates.iter().find(|r| {
        let base = s.me.ip_id;
        let of_series = |id: u16| id != 0 && (1..=NEAR_IDS).contains(&id_step(id, base));
        // A RST of the series itself moves it on.
        let after_rst = !of_series(s.rst.ip_id) || id_step(r.ip_id, base) > id_step(s.rst.ip_id, base);
        s.is_ipv4() && s.me.id_run >= ID_RUN && of_series(r.ip_id) && r.ttl == s.me.ttl && after_rst
    });
    // With timestamps, one that is not later speaks against: the segment is as old as it says.
    if let Some(r) = by_id.filter(|r| !stamped(r)) {
        return Some(Life { record: **r, by: "the next IP-ID" });
    }
    let new =
        |r: &&&Record| !stamped(r) && (r.ack.after(s.me.ack) || r.seq.at_or_after(s.me.snd_nxt) && r.payload_len > 0);
    let mut fresh = candidates.iter().filter(new);
    match (fresh.next(), fresh.next()) {
        (Some(first), Some(second)) if second.time_ns - first.time_ns > patience => {
            Some(Life { record: **second, by: "two segments with new numbers" })
        }
        _ => None,
    }
}

/// LIVE_AFTER_RST.
pub fn live_after(s: &Scene, life: Option<&Life>) -> Option<Hit> {
    let life = life?;
    let what = if life.record.payload_len > 0 { "data" } else { "an acknowledgement" };
    Some(Hit {
        test: Anomaly::LiveAfterRst.name(),
        weight: LIVE,
        time_ns: life.record.time_ns,
        speaker: s.sender,
        anomaly: Some((Anomaly::LiveAfterRst, s.rst.seq.0, life.record.seq.0)),
        text: format!(
            "the {} sent {what} {} after the RST in its name, as {} shows",
            s.who(s.sender),
            Scene::delay(life.record.time_ns - s.rst.time_ns),
            life.by
        ),
    })
}

/// RST_SEQ_DATA: as above, with data at or beyond the RST's number.
pub fn data_after(s: &Scene, life: Option<&Life>) -> Option<Hit> {
    let r = &life?.record;
    if r.payload_len == 0 || r.seq.before(s.rst.seq) || s.rst.seq == SeqNum(0) {
        return None;
    }
    let hit = live_after(s, life)?;
    Some(Hit {
        test: Anomaly::RstSeqData.name(),
        anomaly: Some((Anomaly::RstSeqData, s.rst.seq.0, r.seq.0)),
        text: format!(
            "the {} went on with data at {} {} after a RST at {} in its name, as {} shows",
            s.who(s.sender),
            s.short(s.sender, r.seq),
            Scene::delay(r.time_ns - s.rst.time_ns),
            s.short(s.sender, s.rst.seq),
            life?.by
        ),
        ..hit
    })
}

/// SYN_RST and SYNACK_RST: a RST right behind the SYN or SYN-ACK of an end that then goes on with the handshake. An
/// end that withdraws, or whose accept queue is full, sends nothing more.
pub fn handshake_goes_on(s: &Scene, life: Option<&Life>) -> Option<Hit> {
    life?;
    let fresh = matches!(s.history.phase, Phase::SynSent | Phase::SynReceived);
    let own_syn = s.me.has(half::SYN) && s.rst.seq == s.me.iss.add(1);
    let bare_zero = s.rst.seq == SeqNum(0) && !s.rst_has(flags::ACK);
    if !fresh || !(own_syn || bare_zero) || s.me.bytes > 0 {
        return None;
    }
    let first = s.history.connection.created_ns;
    (s.rst.time_ns.saturating_sub(first) <= LATER_NS).then(|| Hit {
        test: Anomaly::SynRst.name(),
        weight: HANDSHAKE,
        time_ns: s.rst.time_ns,
        speaker: s.sender,
        anomaly: Some((Anomaly::SynRst, s.me.iss.0, s.rst.seq.0)),
        text: format!(
            "the RST followed the {}'s own {} by {}, and yet the {} went on with the handshake",
            s.who(s.sender),
            if s.history.is_client(s.sender) { "SYN" } else { "SYN-ACK" },
            Scene::delay(s.rst.time_ns.saturating_sub(first)),
            s.who(s.sender),
        ),
    })
}

/// DATA_SEQ_RST: a RST below data that S had just sent, computed from an older packet.
pub fn below_data(s: &Scene) -> Option<Hit> {
    let (seq, nxt) = (s.rst.seq, s.me.snd_nxt);
    let age = s.rst.time_ns.checked_sub(s.me.data_ns)?;
    if !s.clear_view() || !seq.before(nxt) || age > LATER_NS || s.me.bytes == 0 || seq == SeqNum(0) {
        return None;
    }
    // Of the same stream at all.
    if nxt.distance(seq).unsigned_abs() >= SAME_SPACE || s.me.has(half::SYN) && seq.at_or_before(s.me.iss) {
        return None;
    }
    // An answer, also to an acknowledgement that the recorder no longer has.
    let (rtt, _) = s.rtt();
    let asked_since = s.rst.time_ns.saturating_sub((4 * rtt).max(LATER_NS / 4));
    // Acknowledgements only grow, so those at hand decide about numbers above the oldest of them.
    let oldest = s.before(s.other).find(|r| r.flags & flags::ACK != 0).map(|r| r.ack);
    let decided = oldest.is_some_and(|ack| ack.before(seq)) || s.complete(s.other, asked_since);
    if s.asked_for(seq) || !decided {
        return None;
    }
    // A FIN and the RST behind it; SND.UNA, where other stacks abort; the edge of a window that was withdrawn
    // (`tcp_acceptable_seq`); where S itself stood last, after going back to retransmit.
    let stood = s.before(s.sender).next_back().map(|r| r.seq.add(r.payload_len));
    let edges = [s.peer.ack, s.peer.edge_cur, nxt.sub(1), s.fault.rexmit_seq.add(s.fault.rexmit_len)];
    if edges.contains(&seq) || stood == Some(seq) || s.me.has(half::FIN) || s.peer.edge_cur.before(nxt) {
        return None;
    }
    // The RST was sent before the data and came late.
    let ids = s.is_ipv4() && s.me.id_run >= ID_RUN && s.rst.ip_id != 0;
    let older_id = ids && (1..=NEAR_IDS).contains(&id_step(s.me.nxt_ip_id, s.rst.ip_id));
    let older_stamp = s.rst_stamped() && later_tick(s.me.nxt_tsval, s.rst.tsval);
    // Data that is under way together with it, a round trip's worth at most, may have been overtaken.
    if older_id || older_stamp || age <= s.reorder_ns() && s.rst_stamped() {
        return None;
    }
    Some(Hit {
        test: Anomaly::DataSeqRst.name(),
        weight: BELOW_DATA,
        time_ns: s.rst.time_ns,
        speaker: s.sender,
        anomaly: Some((Anomaly::DataSeqRst, nxt.0, seq.0)),
        text: format!(
            "the RST carries {} although the {} had sent up to {} {} before, and nothing asked for that number",
            s.short(s.sender, seq),
            s.who(s.sender),
            s.short(s.sender, nxt),
            Scene::delay(age)
        ),
    })
}

/// RST_SEQ_CHANGE: RSTs that guess ahead of everything that either end knows.
pub fn number_changes(s: &Scene) -> Option<Hit> {
    if !s.clear_view() || s.me.has(half::FIN) || s.history.mid_stream() && s.me.segments < 4 {
        return None;
    }
    let resets = s.resets();
    for (i, first) in resets.iter().enumerate() {
        for second in &resets[i + 1..] {
            let step = second.seq.distance(first.seq);
            if first.seq == SeqNum(0)
                || step <= 0
                || step as u32 >= SAME_SPACE
                || second.time_ns - first.time_ns > LATER_NS
            {
                continue;
            }
            // S itself may have moved on in between.
            let known = s
                .after(s.sender)
                .filter(|r| r.time_ns <= second.time_ns)
                .map(|r| r.seq.add(r.payload_len))
                .fold(s.me.snd_nxt, |a, b| if b.after(a) { b } else { a });
            // A RST may count as one, a FIN that was not seen as another.
            if second.seq.distance(known) <= 2 || s.asked_for(second.seq) || s.asked_for(second.seq.sub(1)) {
                continue;
            }
            return Some(Hit {
                test: Anomaly::RstSeqChange.name(),
                weight: SEQ_CHANGE,
                time_ns: second.time_ns,
                speaker: s.sender,
                anomaly: Some((Anomaly::RstSeqChange, first.seq.0, second.seq.0)),
                text: format!(
                    "a second RST {} further on ({} after {}), beyond anything that was sent or asked for: a guess ahead",
                    super::super::words::bytes(step as u64),
                    s.short(s.sender, second.seq),
                    s.short(s.sender, first.seq),
                ),
            });
        }
    }
    None
}

/// RST_ACK_CHANGE: RSTs that acknowledge different numbers although R sent nothing that ends there.
pub fn ack_changes(s: &Scene) -> Option<Hit> {
    if !s.clear_view() {
        return None;
    }
    let resets: Vec<Record> =
        s.resets().into_iter().filter(|r| r.flags & flags::ACK != 0 && r.ack != SeqNum(0)).collect();
    for pair in resets.windows(2) {
        let (first, second) = (&pair[0], &pair[1]);
        if first.ack == second.ack || second.time_ns - first.time_ns > LATER_NS {
            continue;
        }
        // What R sent around that number must be at hand, or an end of data may be missing.
        let oldest = s.before(s.other).next().map(|r| r.seq);
        let decided = oldest.is_some_and(|seq| seq.at_or_before(second.ack))
            || s.complete(s.other, first.time_ns.saturating_sub(LATER_NS));
        let ends: Vec<SeqNum> = s
            .before(s.other)
            .chain(s.after(s.other))
            .flat_map(|r| {
                let len = r.payload_len + u32::from(r.flags & flags::SYN != 0);
                [r.seq, r.seq.add(len), r.seq.add(len + 1)]
            })
            .chain([s.peer.snd_nxt, s.peer.snd_nxt.add(1)])
            .collect();
        if ends.contains(&second.ack) || !decided {
            continue;
        }
        return Some(Hit {
            test: Anomaly::RstAckChange.name(),
            weight: ACK_CHANGE,
            time_ns: second.time_ns,
            speaker: s.sender,
            anomaly: Some((Anomaly::RstAckChange, first.ack.0, second.ack.0)),
            text: format!(
                "two RSTs acknowledge {} and {}, and the {} sent nothing that ends there",
                s.short(s.other, first.ack),
                s.short(s.other, second.ack),
                s.who(s.other)
            ),
        });
    }
    None
}
