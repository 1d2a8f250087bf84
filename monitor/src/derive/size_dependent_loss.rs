//! Segments up to a size are acknowledged, larger ones never, however often they are sent (RFC 2923, RFC 4821).

use super::seen;
use crate::diagnose::silent::{ATTEMPTS, stuck_at_end};
use crate::history::{History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::tracker::state::half;

/// No path is asked to carry less than a datagram of 576 bytes (RFC 1122 section 3.3.3): less than this of payload never
/// is too big.
const SMALLEST: u32 = 500;

/// Expected: the largest size that was acknowledged; actual: the size that never is.
pub fn rule(history: &History, speaker: Direction) -> Option<Seen> {
    let stuck = stuck_at_end(history, speaker).filter(|s| s.attempts >= ATTEMPTS)?;
    let (me, peer) = (history.half(speaker), history.half(speaker.other()));
    let (reach, fault) = (&history.connection.reach[speaker.index()], &history.connection.fault[speaker.index()]);
    // While the first segment of the largest size is not acknowledged, all that is was smaller.
    let unproven = me.len_max > 0 && peer.ack.before(reach.len_max_end);
    let (passed, lost) = (u32::from(reach.len_max_before), fault.rexmit_len);
    let at_una = fault.rexmit_seq == peer.ack;
    // With offload one packet of the host's egress is several on the wire: what is sent again is of the real size.
    let larger = lost > passed && lost >= SMALLEST && passed > 0;
    // It was the very first of its size, so no segment as large ever came through.
    (unproven && at_una && larger && !me.has(half::END_UNCERTAIN))
        .then(|| seen(Anomaly::SizeDependentLoss, speaker, stuck.last_try_ns, passed, lost))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::Anomaly;

    fn large_ones_vanish(d: &mut Dialogue, len: u32) {
        d.handshake().exchange(Client, 100).exchange(Server, 200);
        let at = d.snd_nxt(Client);
        d.send_lost(Client, data(len)).send_lost(Client, data(len));
        for gap in [200, 400, 800, 1600] {
            d.wait_ms(gap).send_lost(Client, data(len).seq(at));
        }
    }

    #[test]
    fn large_segments_that_vanish_after_small_ones_that_passed_are_noted() {
        everywhere(|d| {
            large_ones_vanish(d, 1448);
            let h = d.open(End::Silent);
            let s = h.seen(Anomaly::SizeDependentLoss).next().expect("it is noted");
            assert_eq!((s.speaker, s.expected, s.actual, s.hard), (d.direction(Client), 100, 1448, false));
        });
    }

    /// A path that dies under small segments: their size says nothing.
    #[test]
    fn small_segments_are_never_too_big() {
        everywhere(|d| {
            large_ones_vanish(d, 300);
            assert!(!d.open(End::Silent).any(Anomaly::SizeDependentLoss));
        });
    }

    #[test]
    fn a_segment_of_that_size_that_passed_acquits_the_size() {
        everywhere(|d| {
            d.handshake().exchange(Client, 1448);
            large_ones_vanish_after(d);
            assert!(!d.open(End::Silent).any(Anomaly::SizeDependentLoss));
        });
    }

    fn large_ones_vanish_after(d: &mut Dialogue) {
        let at = d.snd_nxt(Client);
        d.send_lost(Client, data(1448));
        for gap in [200, 400, 800, 1600] {
            d.wait_ms(gap).send_lost(Client, data(1448).seq(at));
        }
    }
}
