//! A sender retransmitted into silence and gave up; the reset only answers a late packet (DIAGNOSIS 3.5 cause 15,
//! RFC 6298 section 5).

use crate::diagnose::silent::{ATTEMPTS, MANY_ATTEMPTS};
use crate::diagnose::view::View;
use crate::diagnose::words::{count, duration};
use crate::diagnose::{Basis, Cause, Culprit, Judgement};

pub const CAUSE: Cause = Cause { name: "path_blackhole", judge };

const BASE: u8 = 75;
/// Fewer attempts: the one that gave up was told to be impatient (TCP_USER_TIMEOUT), or the observer saw the end only.
const FEW: u8 = 65;

fn judge(view: &View) -> Option<Judgement> {
    let timed_out = view.timed_out();
    let stuck = view.gave_up()?;
    let (sender, receiver) = (stuck.sender, stuck.sender.other());
    let said_so = timed_out.is_some_and(|f| f.local == sender);
    if view.desync.is_some() {
        return Some(Judgement::near(20, "the ends had stopped agreeing before the retransmissions"));
    }
    if stuck.attempts < ATTEMPTS && !said_so {
        return Some(Judgement::near(
            30,
            format!("only {}, {ATTEMPTS} show a time-out", count(stuck.attempts.into(), "retransmission")),
        ));
    }
    if view.heard_meanwhile(&stuck) {
        return Some(Judgement::near(
            45,
            format!(
                "the {} was heard between the retransmissions, so it and the way back were alive",
                view.role(receiver)
            ),
        ));
    }
    let trying = duration(stuck.last_try_ns.saturating_sub(stuck.since_ns));
    let end = match view.reset.and_then(|r| r.trigger) {
        Some(trigger) => format!(
            "the reset only answers a packet that came {} after the last attempt",
            duration(trigger.time_ns.saturating_sub(stuck.last_try_ns))
        ),
        None => "no reset was sent".into(),
    };
    Some(Judgement {
        culprit: Culprit::Network,
        culprit_cap: Some(crate::diagnose::SHARED_BLAME),
        kernel_agrees: said_so,
        summary: format!(
            "{} retransmitted {} over {trying} without any answer from {} and gave up silently; {end}.",
            view.who_first(sender),
            count(stuck.attempts.into(), "time"),
            view.who(receiver),
        ),
        advice:
            "Find out what was down between the two in that time: link, route change, a filter in one direction, or \
                 the remote host itself (then nothing of it reached any connection)."
                .into(),
        decisive: "retransmissions into silence before the end".into(),
        ..Judgement::new(Basis::Wire(if stuck.attempts >= MANY_ATTEMPTS || said_so { BASE } else { FEW }))
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::diagnose::shape::Mechanism;
    use crate::history::End;

    fn into_silence_only(d: &mut Dialogue) -> u32 {
        d.handshake().exchange(Server, 500).exchange(Client, 300);
        let at = d.snd_nxt(Client);
        d.send_lost(Client, data(18));
        for gap in [210, 210, 420, 840, 1660] {
            d.wait_ms(gap).send_lost(Client, data(18).seq(at));
        }
        at
    }

    /// S15: six copies with growing spacing, nothing, and long after a packet of the other end that meets no socket.
    fn into_silence(d: &mut Dialogue) {
        let at = into_silence_only(d);
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

    /// S16: TCP_USER_TIMEOUT ends it after a second and a half. That the socket is gone the answer shows.
    #[test]
    fn an_impatient_sender_gives_up_after_few() {
        everywhere(|d| {
            d.handshake().exchange(Server, 500).exchange(Client, 300);
            let at = d.snd_nxt(Client);
            d.send_lost(Client, data(18));
            for gap in [210, 210, 420] {
                d.wait_ms(gap).send_lost(Client, data(18).seq(at));
            }
            d.wait_ms(3_000).send(Server, data(40).acking(at)).send(Client, reply(at));
            let v = d.verdict();
            expect(&v, "path_blackhole", None, "network");
            assert_eq!(v.confidence, 65);
        });
    }

    #[test]
    fn a_silent_end_is_the_same_without_a_reset() {
        everywhere(|d| {
            into_silence_only(d);
            let v = diagnose(&d.open(End::Silent));
            expect(&v, "path_blackhole", None, "network");
            assert_eq!((v.confidence, v.mechanism), (75, Mechanism::TimeoutNoRst));
            // While it goes on there is nothing to report.
            assert_eq!(diagnose(&d.open(End::Open)).cause, crate::diagnose::NOTHING);
        });
    }

    /// An end that still talks is not behind a black hole.
    #[test]
    fn an_end_that_is_heard_meanwhile_is_not_out_of_reach() {
        everywhere(|d| {
            d.handshake().exchange(Server, 500).exchange(Client, 300);
            let at = d.snd_nxt(Client);
            d.send_lost(Client, data(18));
            for gap in [210, 420, 840, 1660, 3300] {
                d.wait_ms(gap).send_lost(Client, data(18).seq(at));
                d.send(Server, ack().acking(at));
            }
            assert_eq!(diagnose(&d.open(End::Silent)).cause, crate::diagnose::NOTHING);
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
