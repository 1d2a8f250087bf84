//! A device translates acknowledgements but not SACK blocks (DIAGNOSIS 3.5 cause 3).

use crate::diagnose::desync::further_classes;
use crate::diagnose::view::View;
use crate::diagnose::words::count;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::tracker::state::kind;

pub const CAUSE: Cause = Cause { name: "sack_translation_fault", judge };

/// One packet with two number spaces cannot come from a stack.
const BASE: u8 = 90;

fn judge(view: &View) -> Option<Judgement> {
    let d = view.desync.as_ref().filter(|d| d.kind == kind::SACK_OFFSET)?;
    let receiver = d.data.other();
    Some(Judgement {
        culprit: Culprit::Middlebox,
        further_classes: further_classes(view.history, d),
        summary: format!(
            "{} with SACK blocks of {} lie at least {} bytes beyond anything {} sent, while their acknowledgements are \
             right: a device translates the header but not the SACK option, so loss recovery collapses to time-outs; {}.",
            count(view.fault(receiver).sack_hits.into(), "acknowledgement"),
            view.who(receiver),
            d.distance,
            view.who(d.data),
            view.ending(d),
        ),
        advice: "Switch off sequence-number randomisation for this traffic on the firewalls between (PIX, ASA and FTD \
                 class devices are known for it), or have them strip SACK-permitted from SYNs."
            .into(),
        decisive: "SACK blocks beyond the window that the same packet offers".into(),
        ..Judgement::new(Basis::Wire(BASE))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::tracker::state::kind;

    const D: u32 = 123_456_789;

    /// S39: a segment is lost, and the SACK blocks that say so are of the numbers behind the device.
    fn lost_segment(d: &mut Dialogue) {
        d.handshake().exchange(Server, 100);
        for _ in 0..20 {
            d.exchange(Client, 1448);
        }
        let lo = d.snd_nxt(Client);
        d.send_lost(Client, data(1448));
        for _ in 0..6 {
            d.send(Client, data(1448));
            let right = d.snd_nxt(Client);
            d.send(Server, ack().acking(lo).sack(lo + 1448 + D, right + D));
        }
    }

    #[test]
    fn shifted_sack_blocks_with_right_acknowledgements_are_a_devices() {
        everywhere(|d| {
            lost_segment(d);
            d.wait_ms(500).send(Client, abort());
            let v = d.verdict();
            expect(&v, "sack_translation_fault", None, "middlebox");
            let desync = v.desync.unwrap();
            assert_eq!((desync.kind, desync.distance), (kind::SACK_OFFSET, i64::from(D)));
            assert_eq!(v.confidence, 90);
        });
    }

    /// The last block reports an older hole: it ends far below what was sent by then.
    #[test]
    fn the_offset_is_that_of_the_block_that_reaches_furthest() {
        everywhere(|d| {
            lost_segment(d);
            let (lo, right) = (d.snd_nxt(Client) - 7 * 1448, d.snd_nxt(Client));
            // The client says where it stands, so that the block is settled, and sends on.
            d.wait_ms(20).send(Client, ack());
            for _ in 0..4 {
                d.send(Client, data(1448));
            }
            d.send(Server, ack().acking(lo).sack(lo + 1448 + D, right + D));
            d.wait_ms(500).send(Client, abort());
            let v = d.verdict();
            expect(&v, "sack_translation_fault", None, "middlebox");
            assert_eq!(v.desync.unwrap().distance, i64::from(D));
        });
    }

    #[test]
    fn a_connection_that_survives_it_is_degraded() {
        everywhere(|d| {
            lost_segment(d);
            let v = diagnose(&d.open(End::Open));
            expect(&v, "sack_translation_fault", None, "middlebox");
        });
    }
}
