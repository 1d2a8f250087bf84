//! A new connection reuses a tuple that the other side still holds (DIAGNOSIS 3.5 cause 22, RFC 9293 3.5.1).

use crate::diagnose::view::View;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::Anomaly;
use monitor_common::tracker::state::half;

pub const CAUSE: Cause = Cause { name: "tuple_reuse_conflict", judge };

const BASE: u8 = 90;

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.reply()?;
    let sender = reset.sender;
    let (me, peer) = (view.half(sender), view.half(sender.other()));
    // Its SYN met the old connection; or this life began with the SYN and the old one was not seen.
    let over_known = me.has(half::NEXT_SYN);
    let over_unseen = view.history.is_client(sender)
        && me.has(half::SYN)
        && !peer.has(half::SYN)
        // A SYN-ACK for another SYN is not taken either, but is no challenge.
        && view.history.seen(Anomaly::SynackBadAck).next().is_none()
        && view.no_data()
        && !view.any_fin()
        && reset.seq() != me.iss.add(1);
    if !over_known && !over_unseen {
        return None;
    }
    reset.trigger?;
    Some(Judgement {
        culprit: Culprit::End(sender),
        kernel_agrees: view.reason_is(&["TCP_INVALID_ACK_SEQUENCE"]),
        summary: format!(
            "{} opened a new connection from a port whose old connection {} still held: the SYN drew an acknowledgement \
             of {}, which belongs to the old one, and the reset that answers it cleared the way.",
            view.who_first(sender),
            view.who(sender.other()),
            reset.seq().0,
        ),
        advice: "Benign if the retry succeeded. Otherwise check the range of ephemeral ports, how fast a NAT reuses \
                 ports, tcp_tw_reuse, and whether the client was restarted."
            .into(),
        decisive: "a SYN on this tuple that was answered with the old connection's numbers".into(),
        // That the tuple's past was not seen is the nature of the thing.
        ..Judgement::new(if over_unseen { Basis::Inherent(BASE - 5) } else { Basis::Wire(BASE) })
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;

    /// S29: the client reboots and connects from the same port.
    #[test]
    fn a_syn_into_a_held_connection_is_reuse() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500).wait_ms(5_000);
            d.send(Client, syn().seq(899_500)).send(Server, ack().acking(301)).send(Client, reply(301));
            let v = d.verdict();
            expect(&v, "tuple_reuse_conflict", None, "client");
            assert_eq!(v.confidence, 90);
        });
    }

    /// The same when the old connection was never seen.
    #[test]
    fn a_syn_answered_with_foreign_numbers_is_reuse() {
        for behind in [1_000_000u32, 0u32.wrapping_sub(1_000_000)] {
            everywhere(|d| {
                d.send(Client, syn()).send(Server, ack().seq(777).acking(behind)).send(Client, reply(behind));
                let v = d.verdict();
                expect(&v, "tuple_reuse_conflict", None, "client");
                assert!(v.confidence >= 55);
            });
        }
    }
}
