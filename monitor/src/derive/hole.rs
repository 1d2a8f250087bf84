//! A hole that only the end shows: the tracker looks at one when its sender speaks, and the receiver may give up in
//! between (DIAGNOSIS 1.1 hole_persistent, hole_never_retransmitted, rexmit_above_hole).

use super::seen;
use crate::diagnose::desync::{OpenHole, open_hole, rexmit_above};
use crate::history::{History, Seen};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;

fn note(history: &History, speaker: Direction, anomaly: Anomaly, holds: impl Fn(&OpenHole) -> bool) -> Option<Seen> {
    let hole = open_hole(history, speaker).filter(holds)?;
    // What the tracker noted itself it noted in time.
    let known = history.seen(anomaly).any(|s| s.speaker == speaker);
    (!known && !history.capture_lossy()).then(|| seen(anomaly, speaker, hole.since_ns, hole.lo.0, hole.hi.0))
}

pub fn persistent(history: &History, speaker: Direction) -> Option<Seen> {
    // Without its sender's later words it is loss, and hard only with them.
    note(history, speaker, Anomaly::HolePersistent, |h| h.persistent)
        .map(|s| Seen { hard: open_hole(history, speaker).is_some_and(|h| h.never_filled), ..s })
}

pub fn never_retransmitted(history: &History, speaker: Direction) -> Option<Seen> {
    note(history, speaker, Anomaly::HoleNeverRetransmitted, |h| h.never_filled)
}

pub fn rexmit_above_hole(history: &History, speaker: Direction) -> Option<Seen> {
    note(history, speaker, Anomaly::RexmitAboveHole, |h| h.persistent && rexmit_above(history, speaker))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::Anomaly;

    fn skipped(d: &mut Dialogue) -> u32 {
        d.handshake().exchange(Client, 1448);
        let lo = d.snd_nxt(Client);
        d.skip(Client, 3000);
        for _ in 0..6 {
            d.send(Client, data(1448));
            let right = d.snd_nxt(Client);
            d.send(Server, ack().acking(lo).sack(lo + 3000, right));
        }
        lo
    }

    /// S47: it gives up before its next word lets the tracker look.
    #[test]
    fn the_senders_reset_is_its_last_word_on_the_hole() {
        everywhere(|d| {
            let lo = skipped(d);
            d.wait_ms(1_600).send(Client, abort());
            let h = d.history();
            let s = h.seen(Anomaly::HoleNeverRetransmitted).next().expect("it is noted");
            assert_eq!((s.speaker, s.hard), (d.direction(Client), true));
            assert_eq!((s.expected, s.actual), (d.absolute(Client, lo), d.absolute(Client, lo + 3000)));
            assert!(h.any(Anomaly::HolePersistent));
        });
    }

    #[test]
    fn without_a_word_of_the_sender_it_stays_soft() {
        everywhere(|d| {
            skipped(d);
            d.wait_ms(1_600).send(Server, abort());
            let h = d.history();
            assert!(!h.any(Anomaly::HoleNeverRetransmitted));
            assert!(h.seen(Anomaly::HolePersistent).all(|s| !s.hard));
        });
    }

    #[test]
    fn a_hole_of_a_moment_or_one_that_was_filled_is_none() {
        everywhere(|d| {
            skipped(d);
            assert!(!d.open(End::Open).any(Anomaly::HolePersistent));
        });
        everywhere(|d| {
            let lo = skipped(d);
            d.send(Client, data(3000).seq(lo));
            let all = d.snd_nxt(Client);
            d.send(Server, ack().acking(all)).wait_ms(5_000).send(Client, abort());
            assert!(!d.history().any(Anomaly::HolePersistent));
        });
    }
}
