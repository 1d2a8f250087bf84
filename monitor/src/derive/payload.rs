//! What whole packets of a capture tell, or the drop reasons of the receiving host: wrong checksums, and other bytes at
//! the same sequence numbers.

use super::seen;
use crate::history::{History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;

/// Expected and actual: the number of the first wrong segment.
pub fn checksum(history: &History, speaker: Direction) -> Option<Seen> {
    let side = &history.payload.side[speaker.index()];
    // A host's own egress has no checksums yet (offload): a speaker of whom none is right was captured there.
    if side.checksum_bad > 0 && side.checksum_good > 0 {
        return Some(Seen {
            count: side.checksum_bad,
            last_ns: side.bad_last_ns,
            ..seen(Anomaly::CsumBad, speaker, side.bad_first_ns, side.bad_seq, side.bad_seq)
        });
    }
    let drop = history.kernel.iter().find(|f| f.source == "kfree_skb" && f.reason == "TCP_CSUM")?;
    (drop.local == speaker.other()).then(|| {
        let number = history.half(speaker.other()).ack.0;
        seen(Anomaly::CsumBad, speaker, drop.time_ns, number, number)
    })
}

/// Expected and actual: where the bytes differ.
pub fn overlap(history: &History, speaker: Direction) -> Option<Seen> {
    let side = &history.payload.side[speaker.index()];
    (side.overlaps > 0).then(|| Seen {
        count: side.overlaps,
        last_ns: side.overlap_last_ns,
        ..seen(Anomaly::OverlapMismatch, speaker, side.overlap_first_ns, side.overlap_seq, side.overlap_seq)
    })
}

#[cfg(test)]
mod tests {
    use crate::derive::anomalies;
    use crate::diagnose::dialogue::*;
    use crate::history::{End, PayloadSide};
    use monitor_common::Anomaly;

    #[test]
    fn wrong_checksums_count_where_right_ones_were_seen_too() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300);
            for (good, noted) in [(0, false), (1, true)] {
                let mut h = d.open(End::Open);
                let side = &mut h.payload.side[d.direction(Client).index()];
                *side = PayloadSide { checksum_good: good, checksum_bad: 9, ..PayloadSide::default() };
                anomalies(&mut h);
                let s = h.seen(Anomaly::CsumBad).next().copied();
                assert_eq!(s.map(|s| (s.speaker, s.count, s.hard)), noted.then_some((d.direction(Client), 9, true)));
            }
        });
    }

    #[test]
    fn the_receivers_kernel_tells_of_wrong_checksums() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300);
            let mut h = d.open(End::Open);
            h.kernel.push(d.fact("kfree_skb", Server, "TCP_CSUM", true, 0));
            anomalies(&mut h);
            assert!(h.seen(Anomaly::CsumBad).all(|s| s.speaker == d.direction(Client)) && h.any(Anomaly::CsumBad));
        });
    }

    #[test]
    fn other_bytes_at_the_same_numbers_are_noted() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300);
            let mut h = d.open(End::Open);
            assert!(!h.any(Anomaly::OverlapMismatch));
            h.payload.side[d.direction(Server).index()].overlaps = 1;
            anomalies(&mut h);
            assert!(h.seen(Anomaly::OverlapMismatch).all(|s| s.speaker == d.direction(Server) && s.hard));
            assert!(h.any(Anomaly::OverlapMismatch));
        });
    }
}
