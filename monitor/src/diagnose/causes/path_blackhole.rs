//! A sender retransmitted into silence and gave up; the reset only answers a late packet (DIAGNOSIS 3.5 cause 15,
//! RFC 6298 section 5).

use crate::diagnose::view::View;
use crate::diagnose::words::{count, duration};
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::tracker::state::half;

pub const CAUSE: Cause = Cause { name: "path_blackhole", judge };

const BASE: u8 = 75;
/// Retransmissions of one left edge with growing spacing.
const BACKOFFS: u8 = 5;

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.reply()?;
    let sender = reset.sender;
    let receiver = sender.other();
    let fault = view.fault(sender);
    let peer = view.half(receiver);
    let timed_out = view.socket_error("ETIMEDOUT").is_some_and(|f| f.local == sender);
    if fault.rto_streak == 0 && !timed_out {
        return None;
    }
    // Nothing that it had sent was acknowledged since, and the late packet still asks for it.
    let stuck = peer.has(half::ACKED) && peer.ack == fault.rto_seq && reset.seq() == peer.ack;
    let since = view.half(sender).data_ns;
    let trigger = reset.trigger?;
    let answered =
        view.records(receiver).any(|r| r.time_ns > since && r.time_ns < trigger.time_ns && r.time_ns < fault.rto_ns);
    if !stuck || answered {
        return None;
    }
    if fault.rto_streak < BACKOFFS && !timed_out {
        return Some(Judgement::near(
            30,
            format!("only {}, {BACKOFFS} show a time-out", count(fault.rto_streak.into(), "retransmission")),
        ));
    }
    Some(Judgement {
        culprit: Culprit::Network,
        culprit_cap: Some(crate::diagnose::SHARED_BLAME),
        kernel_agrees: timed_out,
        summary: format!(
            "{} retransmitted {} over {} without any answer from {} and gave up silently; the reset only answers a packet \
             that came {} after the last attempt.",
            view.who_first(sender),
            count(fault.rto_streak.into(), "time"),
            duration(fault.rto_ns.saturating_sub(since)),
            view.who(receiver),
            duration(trigger.time_ns.saturating_sub(fault.rto_ns)),
        ),
        advice:
            "Find out what was down between the two in that time: link, route change, a filter in one direction, or \
                 the remote host itself (then nothing of it reached any connection)."
                .into(),
        decisive: "retransmissions into silence before the late packet".into(),
        ..Judgement::new(Basis::Wire(BASE))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;

    /// S15: six copies with growing spacing, nothing, and long after a packet of the other end that meets no socket.
    fn into_silence(d: &mut Dialogue) {
        d.handshake().exchange(Server, 500).exchange(Client, 300);
        let at = d.snd_nxt(Client);
        d.send_lost(Client, data(18));
        for gap in [210, 210, 420, 840, 1660] {
            d.wait_ms(gap).send_lost(Client, data(18).seq(at));
        }
        d.wait_ms(20_000).send(Server, data(40).acking(at)).send(Client, reply(at));
    }

    #[test]
    fn retransmissions_into_silence_are_the_paths_fault() {
        everywhere(|d| {
            into_silence(d);
            let v = d.verdict();
            expect(&v, "path_blackhole", None, "network");
            assert_eq!(v.confidence, 75);
            assert_eq!(v.desync, None);
        });
    }

    #[test]
    fn the_sockets_error_agrees() {
        everywhere(|d| {
            into_silence(d);
            let mut history = d.history();
            history.kernel.push(d.fact("inet_sk_error_report", Client, "ETIMEDOUT", false, 7));
            let v = diagnose(&history);
            expect(&v, "path_blackhole", None, "network");
            assert_eq!(v.confidence, 85);
        });
    }

    #[test]
    fn a_single_retransmission_is_none() {
        everywhere(|d| {
            d.handshake().exchange(Server, 500).exchange(Client, 300);
            let at = d.snd_nxt(Client);
            d.send_lost(Client, data(18)).wait_ms(200).send_lost(Client, data(18).seq(at));
            d.wait_ms(1_000).send(Server, data(40).acking(at)).send(Client, reply(at));
            assert_ne!(d.verdict().cause, "path_blackhole");
        });
    }
}
