//! The conversation was finished; the reset only freed a socket (DIAGNOSIS 3.5 cause 28).

use crate::diagnose::view::View;
use crate::diagnose::words::duration;
use crate::diagnose::{Basis, Cause, Judgement};
use monitor_common::Anomaly;
use monitor_common::tracker::state::{Phase, half};

pub const CAUSE: Cause = Cause { name: "post_close_cleanup", judge };

const BASE: u8 = 90;

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.effective()?;
    let (me, other) = (reset.sender, reset.sender.other());
    // Data was still waiting to be sent: that was no end of a conversation.
    if view.reason_is(&["TCP_DISCONNECT_WITH_DATA"]) {
        return None;
    }
    // So it was where its sender asked whether the other end's window was still closed: nobody asks who has nothing to say.
    let asked = view.history.seen(Anomaly::ZeroWindowProbe).any(|s| s.speaker == me);
    if reset.mechanism.is_abort() && view.half(other).has(half::ZERO_WINDOW) && asked {
        return Some(Judgement::near(40, "data was still waiting behind a closed window"));
    }
    let both = matches!(view.history.phase, Phase::Closing | Phase::TimeWait);
    let peer_finished = view.half(other).has(half::FIN) && data_acked(view, other) && data_acked(view, me);
    // Its own FIN was acknowledged and all else too; what it answers is no data, or `data_after_close` would hold.
    let own_finished = reset.mechanism.is_reply() && view.fin_acked(me) && data_acked(view, other);
    if !both && !peer_finished && !own_finished {
        if view.half(other).has(half::FIN) || view.half(me).has(half::FIN) {
            return Some(Judgement::near(40, "data was still unacknowledged when the reset came"));
        }
        return None;
    }
    let last_fin = view.fin_ns(other).into_iter().chain(view.fin_ns(me)).max().unwrap_or(reset.record.time_ns);
    let who_closed = match (view.half(me).has(half::FIN), view.half(other).has(half::FIN)) {
        (true, true) => "both ends had closed".to_string(),
        (true, false) => format!("{} had closed", view.who(me)),
        _ => format!("{} had closed", view.who(other)),
    };
    Some(Judgement {
        summary: format!(
            "The conversation was over: {who_closed} and all data was acknowledged; {} later {} only freed its socket \
             with a reset.",
            duration(reset.record.time_ns.saturating_sub(last_fin)),
            view.who(me),
        ),
        advice: "Nothing to do, unless an application complains about a truncated answer: then it was closed without \
                 being read to the end."
            .into(),
        decisive: "a FIN and all data acknowledged".into(),
        ..Judgement::new(Basis::Wire(BASE))
    })
}

/// All data of `speaker`, its FIN aside, was acknowledged.
fn data_acked(view: &View, speaker: monitor_common::Direction) -> bool {
    let me = view.half(speaker);
    let peer = view.half(speaker.other());
    let end = if me.has(half::FIN) { me.fin_end.sub(1) } else { me.snd_nxt };
    peer.has(half::ACKED) && peer.ack.at_or_after(end) || view.received_all(speaker)
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::diagnose::shape::Mechanism;

    /// S24: answer and FIN, and the client closes without reading.
    #[test]
    fn a_reset_after_the_others_fin_only_frees_the_socket() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 5000);
            d.send(Server, fin()).send(Client, ack()).wait_ms(10).send(Client, abort());
            let v = d.verdict_with_reason(Client, "TCP_ABORT_ON_CLOSE", false, 7);
            expect(&v, "post_close_cleanup", None, "none");
            assert_eq!((v.confidence, v.mechanism), (90, Mechanism::ActiveAbort));
            assert_eq!(d.verdict().cause, "post_close_cleanup");
        });
    }

    #[test]
    fn a_reset_in_time_wait_is_cleanup() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            d.send(Server, fin()).send(Client, fin()).send(Server, ack());
            d.send(Client, abort());
            expect(&d.verdict(), "post_close_cleanup", None, "none");
        });
    }

    /// S25: the client has closed, the server's data and its FIN wait behind the client's closed window.
    #[test]
    fn a_reset_with_data_behind_a_closed_window_is_not() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 1000).send(Client, fin()).send(Server, ack());
            d.send(Client, ack().wnd(0));
            let una = d.snd_nxt(Server);
            d.wait_ms(210)
                .send(Server, ack().seq(una - 1))
                .send(Client, ack().wnd(0))
                .wait_ms(50)
                .send(Server, abort());
            let v = d.verdict();
            expect(&v, "abortive_close", None, "server");
            assert!(v.also_considered.iter().any(|c| c.cause == "post_close_cleanup"), "{v:#?}");
        });
    }

    #[test]
    fn a_reset_with_own_data_outstanding_is_not() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).send(Client, fin()).send(Server, ack());
            d.send_lost(Server, data(1000)).send(Server, abort());
            let v = d.verdict();
            assert_eq!(v.cause, "abortive_close", "{v:#?}");
            assert!(v.also_considered.iter().any(|c| c.cause == "post_close_cleanup"), "{v:#?}");
        });
    }
}
