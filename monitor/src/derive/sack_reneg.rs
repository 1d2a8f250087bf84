//! A receiver withdraws what it had reported in SACK blocks (RFC 2018 section 8): short of memory.

use super::seen;
use crate::history::{History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::recorder::Record;
use monitor_common::segment::flags;
use monitor_common::tracker::state::half;

/// Later acknowledgements at the same number without a block; one may be answered out of turn.
const WITHOUT: usize = 2;

fn blocks(r: &Record) -> u8 {
    r.options >> 4 & 7
}

/// Expected: what the receiver still waits for; actual: the highest that it had reported. Every acknowledgement reports
/// what is kept out of order (RFC 2018 section 4), so blocks above an acknowledgement cannot vanish while it stands.
pub fn rule(history: &History, speaker: Direction) -> Option<Seen> {
    let me = history.half(speaker);
    let fault = &history.connection.fault[speaker.index()];
    if !me.has(half::SACK_RIGHT | half::ACKED) || !fault.sack_right.after(me.ack) {
        return None;
    }
    let acks: Vec<&Record> = history
        .records
        .iter()
        .filter(|r| r.speaker == speaker && r.record.flags & (flags::RST | flags::SYN | flags::FIN) == 0)
        .map(|r| &r.record)
        .filter(|r| r.ack == me.ack && r.payload_len == 0)
        .collect();
    let last_with = acks.iter().rposition(|r| blocks(r) > 0)?;
    let after = &acks[last_with + 1..];
    (after.len() >= WITHOUT).then(|| seen(Anomaly::SackReneg, speaker, after[0].time_ns, me.ack.0, fault.sack_right.0))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::Anomaly;

    fn hole(d: &mut Dialogue) -> u32 {
        d.handshake().exchange(Client, 100).send_lost(Client, data(1000)).send_lost(Client, data(1000));
        d.snd_nxt(Client) - 2000
    }

    #[test]
    fn blocks_that_vanish_while_the_acknowledgement_stands_are_noted() {
        everywhere(|d| {
            let lo = hole(d);
            d.send(Server, ack().acking(lo).sack(lo + 1000, lo + 2000));
            d.send(Server, ack().acking(lo)).send(Server, ack().acking(lo));
            let h = d.open(End::Open);
            let s = h.seen(Anomaly::SackReneg).next().expect("it is noted");
            assert_eq!((s.expected, s.actual), (d.absolute(Client, lo), d.absolute(Client, lo + 2000)));
        });
    }

    #[test]
    fn blocks_that_stay_or_are_acknowledged_are_in_order() {
        everywhere(|d| {
            let lo = hole(d);
            for _ in 0..4 {
                d.send(Server, ack().acking(lo).sack(lo + 1000, lo + 2000));
            }
            assert!(!d.open(End::Open).any(Anomaly::SackReneg));
            d.send(Client, data(1000).seq(lo));
            for _ in 0..4 {
                d.send(Server, ack().acking(lo + 2000));
            }
            assert!(!d.open(End::Open).any(Anomaly::SackReneg));
        });
    }
}
