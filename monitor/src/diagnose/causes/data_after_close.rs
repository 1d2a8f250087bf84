//! One end kept sending after the other had closed both directions (DIAGNOSIS 3.5 cause 27, RFC 9293 3.6.1).

use crate::diagnose::shape::triggers;
use crate::diagnose::view::View;
use crate::diagnose::words::{bytes, duration};
use crate::diagnose::{Basis, Cause, Judgement, desync};
use monitor_common::segment::flags;
use monitor_common::tracker::state::half;

pub const CAUSE: Cause = Cause { name: "data_after_close", judge };

const BASE: u8 = 90;
/// The data crossed the FIN on the way.
const CROSSING: u8 = 85;
const REASONS: [&str; 2] = ["TCP_ABORT_ON_DATA", "TCP_TIMEWAIT_SOCKET"];

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.reply()?;
    let closer = reset.sender;
    let talker = closer.other();
    let by_kernel = view.reason_is(&REASONS);
    let fin = view.fin_ns(closer);
    if view.reason_is_not(&REASONS) && !view.reason_is(&["NO_SOCKET", "TCP_FLAGS"]) {
        return None;
    }
    // Data that the closer never took in: sent after its FIN, or on the way when the FIN was.
    let taken = view.half(closer).ack;
    let data = triggers(view.history, closer, &reset.record)
        .filter(|r| r.payload_len > 0 && r.flags & flags::SYN == 0)
        .filter(|r| fin.is_some_and(|fin| r.time_ns > fin) || r.seq.add(r.payload_len).after(taken))
        .last();
    let outstanding = desync::flight_size(view.half(talker), view.half(closer));
    let amount = data.map_or(outstanding, |r| r.payload_len.max(outstanding));
    // Without its FIN on the wire only the kernel knows that the application has closed.
    let Some(fin) = fin else {
        if !by_kernel {
            return data
                .map(|_| Judgement::near(35, format!("a FIN of the {}, or its kernel's reason", view.role(closer))));
        }
        return Some(Judgement {
            summary: format!(
                "{} had closed the connection (its FIN was still waiting behind data) when {} sent {} more; data for a \
                 closed socket is answered with a reset.",
                view.who_first(closer),
                view.who(talker),
                bytes(amount.into()),
            ),
            ..judgement(view, Basis::Kernel(BASE + 5))
        });
    };
    // A FIN of the other end that is all that is outstanding is no data.
    let only_fin = data.is_none() && view.half(talker).has(half::FIN) && outstanding <= 1;
    if amount == 0 || only_fin {
        return Some(Judgement::near(30, "data after the FIN"));
    }
    let late = data.filter(|r| r.time_ns > fin);
    let when = match late {
        Some(r) if view.fin_acked(closer) => {
            format!("{} after the FIN, which it had acknowledged", duration(r.time_ns - fin))
        }
        Some(r) => format!("{} after the FIN, which it may not have seen yet", duration(r.time_ns - fin)),
        None => "that crossed the FIN on the way".to_string(),
    };
    Some(Judgement {
        kernel_agrees: by_kernel,
        summary: format!(
            "{} had closed the connection; {} sent {} more {when}, and data for a closed socket is answered with a reset.",
            view.who_first(closer),
            view.who(talker),
            bytes(amount.into()),
        ),
        ..judgement(view, Basis::Wire(if late.is_some() && view.fin_acked(closer) { BASE } else { CROSSING }))
    })
}

fn judgement(view: &View, basis: Basis) -> Judgement {
    let closer = view.role(view.reset.as_ref().map_or_else(|| view.history.client(), |r| r.sender));
    Judgement {
        advice: format!(
            "Both ends agree about every byte; this is about who closes when. The {closer}'s idle time-out should be \
             longer than the other's keep-alive (the race of HTTP keep-alive), or it should read to the end before it \
             closes."
        ),
        decisive: "data after the FIN".into(),
        ..Judgement::new(basis)
    }
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::diagnose::shape::Mechanism;

    /// S05: the server closes, the client sends 0.2 s later.
    fn late_request(d: &mut Dialogue) {
        d.handshake().exchange(Client, 300).exchange(Server, 500);
        d.send(Server, fin()).send(Client, ack()).wait_ms(200);
        let expected = d.snd_nxt(Server);
        d.send(Client, data(4)).send(Server, reply(expected));
    }

    #[test]
    fn data_for_a_closed_socket_is_nobodys_fault() {
        everywhere(|d| {
            late_request(d);
            let v = d.verdict();
            expect(&v, "data_after_close", None, "none");
            assert_eq!((v.confidence, v.mechanism), (90, Mechanism::ReplyToAck));
            assert_eq!(v.desync, None);
            assert!(v.summary.contains("4 bytes more 20"), "{}", v.summary);
        });
    }

    #[test]
    fn the_time_wait_stub_agrees() {
        everywhere(|d| {
            late_request(d);
            let v = d.verdict_with_reason(Server, "TCP_TIMEWAIT_SOCKET", true, 6);
            expect(&v, "data_after_close", None, "none");
            assert_eq!(v.confidence, 99);
        });
    }

    /// The race of HTTP keep-alive: the request and the FIN cross.
    #[test]
    fn data_that_crosses_the_fin_is_data_after_close() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            let expected = d.snd_nxt(Server);
            d.send(Server, fin()).send(Client, data(200).acking(expected)).send(Server, reply(expected));
            let v = d.verdict();
            expect(&v, "data_after_close", None, "none");
            assert_eq!(v.confidence, 85);
        });
    }

    /// S06: the FIN still waits behind data, so the wire shows none.
    #[test]
    fn a_hidden_fin_is_known_to_the_kernel_only() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).send(Server, data(1000)).send(Client, ack().wnd(0));
            let expected = d.snd_nxt(Server);
            d.send(Client, data(50)).send(Server, reply(expected));
            assert_eq!(d.verdict().cause, "peer_lost_state");
            let v = d.verdict_with_reason(Server, "TCP_ABORT_ON_DATA", true, 4);
            expect(&v, "data_after_close", None, "none");
            assert!(v.confidence >= 80);
        });
    }

    /// Half-close is legal: data after the peer's FIN that is taken in provokes nothing.
    #[test]
    fn a_half_closed_upload_that_is_aborted_is_something_else() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).send(Client, fin()).send(Server, ack());
            d.exchange(Server, 1000).exchange(Server, 1000).send(Server, data(1000)).send(Server, abort());
            let v = d.verdict();
            assert_ne!(v.cause, "data_after_close", "{v:#?}");
        });
    }

    /// Seen near the client: the answer was still under way to it when it closed without reading to the end.
    #[test]
    fn an_answer_under_way_when_the_client_closes_is_data_after_close() {
        everywhere(|d| {
            d.handshake().exchange(Client, 300).exchange(Server, 500);
            let (acked, taken) = (d.snd_nxt(Client), d.snd_nxt(Server));
            d.send(Server, data(1448)).send(Server, data(1448).acking(acked));
            d.send(Client, fin().acking(taken)).send(Client, reply(acked));
            let v = d.verdict();
            expect(&v, "data_after_close", None, "none");
            assert!(v.summary.contains("2896 bytes more that crossed"), "{}", v.summary);
        });
    }
}
