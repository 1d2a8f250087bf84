//! Nothing listens on the port (DIAGNOSIS 3.5 cause 20, RFC 9293 3.10.7.1).

use crate::diagnose::shape::Shape;
use crate::diagnose::view::View;
use crate::diagnose::{Basis, Cause, Judgement};
use crate::finding::Considered;
use monitor_common::segment::flags;
use monitor_common::tracker::state::{Phase, half};

pub const CAUSE: Cause = Cause { name: "port_closed", judge };

const BASE: u8 = 90;
const PROBE: u8 = 80;
const BY_KERNEL: u8 = 98;

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.effective()?;
    let client = reset.sender.other();
    let stranger = !view.half(reset.sender).has(half::SEEN);
    let phase = view.history.phase;
    let with_ack = reset.record.flags & flags::ACK != 0;
    let answer = reset.shape == Shape::ReplyToNoAck;
    let (what, base) = if stranger && phase == Phase::SynSent && view.half(client).has(half::SYN) && with_ack {
        ("the SYN", BASE)
    } else if stranger && answer && view.half(client).segments == 0 {
        ("what must have been a SYN", BASE)
    } else if stranger && answer && view.records(client).all(|r| r.flags & flags::ACK == 0) {
        // FIN, NULL and Xmas scans.
        ("a segment with neither SYN nor ACK, as port scanners send,", PROBE)
    } else {
        return None;
    };
    let by_kernel = view.reason_is(&["NO_SOCKET"]);
    if view.reason_is_not(&["NO_SOCKET"]) {
        return Some(Judgement::near(40, "the server's kernel gives another reason"));
    }
    let server = view.history.endpoint(reset.sender);
    Some(Judgement {
        summary: format!(
            "Nothing listens on port {} of {}: {what} of {} was refused.",
            server.port,
            server.addr,
            view.who(client)
        ),
        advice:
            "Is the service running, and bound to this address and port? If it is, a firewall refuses in its name: \
                 compare the TTL and the delay of the RST with those of other packets from that host."
                .into(),
        decisive: "a SYN that nothing but a RST answered".into(),
        rivals: vec![Considered {
            cause: "policy_reset".into(),
            confidence: if by_kernel { 5 } else { 35 },
            why_not:
                "a RST that is nearer than the server (TTL, delay), or a server that is known to listen, would show \
                      a firewall"
                    .into(),
        }],
        ..Judgement::new(if by_kernel { Basis::Kernel(BY_KERNEL) } else { Basis::Wire(base) })
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::dialogue::*;
    use crate::diagnose::shape::Mechanism;

    /// S01.
    #[test]
    fn a_refused_syn_is_a_closed_port() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, refuse());
            let v = d.verdict();
            expect(&v, "port_closed", None, "none");
            assert_eq!((v.confidence, v.mechanism), (90, Mechanism::ReplyToNoAck));
            assert!(v.summary.contains("port 9000"), "{}", v.summary);
            assert_eq!(v.also_considered[0].cause, "policy_reset");
        });
    }

    #[test]
    fn the_kernels_reason_makes_it_certain() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, refuse());
            let v = d.verdict_with_reason(Server, "NO_SOCKET", true, 0);
            expect(&v, "port_closed", None, "none");
            assert_eq!(v.confidence, 98);
        });
    }

    #[test]
    fn a_refusal_after_a_second_syn_is_the_same() {
        everywhere(|d| {
            d.send(Client, syn()).wait_ms(1000).send(Client, syn()).send(Server, refuse());
            assert_eq!(d.verdict().cause, "port_closed");
        });
    }
}
