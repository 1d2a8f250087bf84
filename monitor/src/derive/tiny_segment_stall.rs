//! Data that trickles: segments far below the MSS, each as large as the offered window and a time-out after the one
//! before (RFC 9293 section 3.8.6.2).

use super::seen;
use crate::history::{History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::recorder::Record;
use monitor_common::segment::flags;
use monitor_common::tracker::MS;
use monitor_common::tracker::state::half;

/// Of the last headers, which may end with a FIN.
const IN_A_ROW: usize = 6;
/// Segments of the whole life, so that a short exchange is none.
const SEGMENTS: u32 = 16;
/// Linux' smallest time-out for a delayed acknowledgement or a probe is 40 ms, for a retransmission 200 ms.
const SPACING_NS: u64 = 40 * MS;

/// Expected: the MSS; actual: the size of the last segment.
pub fn rule(history: &History, speaker: Direction) -> Option<Seen> {
    let (me, peer) = (history.half(speaker), history.half(speaker.other()));
    let mss = u32::from(history.reach(speaker.other()).mss);
    if !history.connection.scale_known() || me.segments < SEGMENTS || mss == 0 {
        return None;
    }
    let shift = if me.has(half::WSCALE) && peer.has(half::WSCALE) { peer.wscale & 15 } else { 0 };
    let data: Vec<&Record> = history
        .records
        .iter()
        .filter(|r| r.speaker == speaker && r.record.flags & (flags::RST | flags::SYN | flags::FIN) == 0)
        .map(|r| &r.record)
        .filter(|r| r.payload_len > 0)
        .collect();
    if data.len() < IN_A_ROW {
        return None;
    }
    let tiny = data.iter().all(|r| r.payload_len < mss / 4 && as_large_as_the_window(history, speaker, r, shift));
    let spaced = data.windows(2).filter(|w| w[1].time_ns.saturating_sub(w[0].time_ns) >= SPACING_NS).count();
    let (first, last) = (data.first()?, data.last()?);
    // Most of them: a window's worth may be cut in two.
    (tiny && spaced * 3 >= data.len()).then(|| Seen {
        count: data.len() as u32,
        last_ns: last.time_ns,
        ..seen(Anomaly::TinySegmentStall, speaker, first.time_ns, mss, last.payload_len)
    })
}

/// Whether the segment fills what the other end's last word before it allowed: an application that writes little at a
/// time does not.
fn as_large_as_the_window(history: &History, speaker: Direction, r: &Record, shift: u8) -> bool {
    let offer =
        history.records.iter().rev().find(|o| {
            o.speaker == speaker.other() && o.record.time_ns <= r.time_ns && o.record.flags & flags::ACK != 0
        });
    let Some(offer) = offer else { return true };
    let edge = offer.record.ack.add(u32::from(offer.record.wnd) << shift);
    let left = edge.distance(r.seq.add(r.payload_len));
    // A window is told in units of its shift, and one may be spent in two segments.
    left.unsigned_abs() <= r.payload_len.max(1 << shift)
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::Anomaly;

    /// S41: the shift 10 became 2 on the way, so a window of 64 KiB looks like 252 bytes.
    fn trickle(d: &mut Dialogue, window: u16, len: u32, spacing_ms: u64) {
        d.send(Client, syn()).send(Server, syn_ack().wscale(2)).send(Client, ack());
        for _ in 0..30 {
            d.send(Client, data(len)).send(Server, ack().wnd(window)).wait_ms(spacing_ms);
        }
    }

    #[test]
    fn segments_of_a_tiny_window_a_time_out_apart_are_noted() {
        everywhere(|d| {
            trickle(d, 63, 252, 200);
            let h = d.open(End::Open);
            let s = h.seen(Anomaly::TinySegmentStall).next().expect("it is noted");
            assert_eq!((s.speaker, s.expected, s.actual), (d.direction(Client), 1460, 252));
        });
    }

    #[test]
    fn small_writes_into_a_large_window_are_an_applications_way() {
        everywhere(|d| {
            trickle(d, 16_000, 252, 200);
            assert!(!d.open(End::Open).any(Anomaly::TinySegmentStall));
        });
    }

    #[test]
    fn small_segments_at_full_speed_do_not_stall() {
        everywhere(|d| {
            trickle(d, 63, 252, 1);
            assert!(!d.open(End::Open).any(Anomaly::TinySegmentStall));
        });
    }
}
