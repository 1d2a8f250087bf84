//! A DSACK (RFC 2883) of bytes that were sent once, as far as was seen: a copy made by the network, which is benign, or
//! bytes that stand elsewhere in the receiver's numbering.

use super::seen;
use crate::history::{History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::tracker::state::half;

/// The first DSACK came before anything was sent twice: that is certain. Later ones are not judged, because of what was
/// retransmitted only the last is kept.
pub fn rule(history: &History, speaker: Direction) -> Option<Seen> {
    let data = speaker.other();
    if history.capture_lossy() || history.mid_stream() || history.half(data).has(half::FAST_OPEN) {
        return None;
    }
    let dsack = history.seen(Anomaly::Dsack).find(|s| s.speaker == speaker)?;
    let twice = [
        Anomaly::Rexmit,
        Anomaly::RexmitAcked,
        Anomaly::SynInEstablished,
        Anomaly::SeqBelowWindow,
        Anomaly::KeepaliveProbe,
        Anomaly::ZeroWindowProbe,
    ];
    let sent_twice = |s: &Seen| twice.contains(&s.anomaly) && s.speaker == data && s.first_ns <= dsack.first_ns;
    let again = history.anomalies.iter().any(sent_twice);
    (!again).then(|| seen(Anomaly::DsackOfFirstTx, speaker, dsack.first_ns, dsack.expected, dsack.actual))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::Anomaly;

    #[test]
    fn a_duplicate_report_before_any_retransmission_is_noted() {
        everywhere(|d| {
            d.handshake().exchange(Client, 100).exchange(Client, 100);
            let nxt = d.snd_nxt(Client);
            d.send(Server, ack().sack(nxt - 100, nxt));
            let h = d.open(End::Open);
            let s = h.seen(Anomaly::DsackOfFirstTx).next().expect("it is noted");
            assert_eq!((s.speaker, s.actual), (d.direction(Server), d.absolute(Client, nxt - 100)));
        });
    }

    #[test]
    fn a_duplicate_report_after_a_retransmission_is_everyday() {
        everywhere(|d| {
            d.handshake().exchange(Client, 100).exchange(Client, 100);
            let nxt = d.snd_nxt(Client);
            d.wait_ms(250).send(Client, data(100).seq(nxt - 100)).send(Server, ack().sack(nxt - 100, nxt));
            let h = d.open(End::Open);
            assert!(h.any(Anomaly::Dsack) && !h.any(Anomaly::DsackOfFirstTx));
        });
    }
}
