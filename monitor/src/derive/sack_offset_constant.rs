//! SACK blocks that lie beyond what was sent, again and again by as much (DIAGNOSIS 2.3): a second number space in the
//! same packets.

use super::seen;
use crate::history::{History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::seq::SeqNum;

const SHIFT_HITS: u16 = 3;

/// Expected: what was sent; actual: the block's edge, both of the first confirmed one. Two measurements, the first that
/// the data's sender confirmed and the last, must agree up to what was in flight between them.
pub fn rule(history: &History, speaker: Direction) -> Option<Seen> {
    let data = speaker.other();
    let fault = &history.connection.fault[speaker.index()];
    if fault.sack_hits < SHIFT_HITS || history.capture_lossy() {
        return None;
    }
    let first = history.seen(Anomaly::SackUnsent).find(|s| s.speaker == speaker && s.hard)?;
    // Where acknowledgements run ahead as well the whole header is shifted, not the option.
    if history.seen(Anomaly::AckUnsent).any(|s| s.speaker == speaker) {
        return None;
    }
    let shift = i64::from(SeqNum(first.actual).distance(SeqNum(first.expected)));
    let last = i64::from(fault.sack_shift as i32);
    let flight = i64::from(history.half(speaker).wnd_max.max(history.half(data).wnd_max));
    let stable = shift > 0 && last > 0 && (shift - last).abs() <= flight && shift > 2 * flight;
    stable.then(|| Seen {
        count: u32::from(fault.sack_hits),
        last_ns: first.last_ns,
        ..seen(Anomaly::SackOffsetConstant, speaker, first.first_ns, first.expected, first.actual)
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::Anomaly;

    const D: u32 = 123_456_789;

    /// S39: segments are lost; the blocks that say so have the numbers of behind the device.
    fn blocks(d: &mut Dialogue, shift: impl Fn(u32) -> u32) {
        d.handshake().exchange(Server, 100);
        for _ in 0..20 {
            d.exchange(Client, 1448);
        }
        let lo = d.snd_nxt(Client);
        d.send_lost(Client, data(1448));
        for n in 0..6 {
            d.send(Client, data(1448));
            let right = d.snd_nxt(Client);
            d.send(Server, ack().acking(lo).sack(lo + 1448 + shift(n), right + shift(n))).wait_ms(5);
            // The client says where it stands.
            d.send(Client, ack());
        }
    }

    #[test]
    fn blocks_shifted_by_as_much_each_time_are_noted() {
        everywhere(|d| {
            blocks(d, |_| D);
            let h = d.open(End::Open);
            let s = h.seen(Anomaly::SackOffsetConstant).next().expect("it is noted");
            assert_eq!((s.speaker, s.hard), (d.direction(Server), true));
            assert_eq!(s.actual.wrapping_sub(s.expected), D);
        });
    }

    #[test]
    fn blocks_where_they_belong_are_not() {
        everywhere(|d| {
            blocks(d, |_| 0);
            assert!(!d.open(End::Open).any(Anomaly::SackOffsetConstant));
        });
    }

    #[test]
    fn blocks_that_wander_are_no_constant() {
        everywhere(|d| {
            blocks(d, |n| 50_000_000 + n * 10_000_000);
            assert!(!d.open(End::Open).any(Anomaly::SackOffsetConstant));
        });
    }
}
