//! A receiver kept its window closed until the sender gave up (DIAGNOSIS 3.5 cause 19; RFC 9293 section 3.8.6.1).

use crate::diagnose::view::View;
use crate::diagnose::words::{count, duration};
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::tracker::SECOND;
use monitor_common::tracker::state::half;

pub const CAUSE: Cause = Cause { name: "zero_window_timeout", judge };

const BASE: u8 = 85;
/// A reader that is late by less is everyday.
const CLOSED_NS: u64 = SECOND;

fn judge(view: &View) -> Option<Judgement> {
    // Who had data to send and has no connection any more.
    let (sender, end_ns) = match view.reply() {
        Some(reset) => (reset.sender, reset.trigger.map_or(reset.record.time_ns, |t| t.time_ns)),
        None if view.fell_silent() => (waiting(view)?, view.history.time_ns),
        None => return None,
    };
    let receiver = sender.other();
    let (me, peer) = (view.half(sender), view.half(receiver));
    let fault = view.fault(receiver);
    if !view.history.seen(Anomaly::ZeroWindow).any(|s| s.speaker == receiver)
        || me.has(half::FIN)
        || peer.has(half::FIN)
    {
        return None;
    }
    let said_so = view.timed_out().is_some_and(|f| f.local == sender);
    if view.reason_is_not(&["NO_SOCKET", "TCP_FLAGS"]) || view.desync.is_some() {
        return Some(Judgement::near(15, "the kernel or the numbers say otherwise"));
    }
    // It got nothing out since the window closed, and asked.
    let closed_ns = end_ns.saturating_sub(fault.zero_window_ns);
    let waited = me.data_ns <= fault.zero_window_ns.saturating_add(SECOND) && closed_ns >= CLOSED_NS;
    // With data in flight when the window closed, Linux sends that again in place of a probe.
    let asked = u64::from(view.fault(sender).probes.max(view.fault(sender).rto_streak));
    if !waited || asked == 0 {
        return Some(Judgement::near(
            40,
            format!("probes of a window that stayed closed for {} or longer", duration(CLOSED_NS)),
        ));
    }
    let last_answer = peer.last_ns.max(peer.ack_ns);
    let answered = view.records(receiver).any(|r| r.wnd == 0) || last_answer >= view.fault(sender).probe_ns;
    if !answered {
        return Some(Judgement::near(
            45,
            "an answer of the receiver to the probes: without one the path may have died",
        ));
    }
    let end = if view.reset.is_some() {
        "its reset only answers the window update that came too late"
    } else {
        "no reset was sent"
    };
    Some(Judgement {
        culprit: Culprit::End(receiver),
        kernel_agrees: said_so,
        further_classes: 0,
        summary: format!(
            "{} kept its window closed for {} because its application did not read; {} sent {} and gave up: {end}.",
            view.who_first(receiver),
            duration(closed_ns),
            view.who(sender),
            count(asked, "probe"),
        ),
        advice: format!(
            "Look at the {}'s application: what keeps it from reading (blocked consumer threads, a stopped process), and \
             whether its receive buffer fits the burst. On the {}: TCP_USER_TIMEOUT, net.ipv4.tcp_retries2.",
            view.role(receiver),
            view.role(sender)
        ),
        decisive: "a window that stayed closed, with probes that were answered".into(),
        ..Judgement::new(Basis::Wire(BASE))
    })
}

/// The end that waits at a closed window.
fn waiting(view: &View) -> Option<Direction> {
    let closed = |d: &Direction| crate::diagnose::silent::closed_window(&view.history.connection, d.other());
    [Direction::Forward, Direction::Reverse].into_iter().find(closed)
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::history::End;

    /// S17: the server does not read; the client asks, is answered, and gives up silently.
    fn reader_stopped(d: &mut Dialogue) -> u32 {
        d.handshake().exchange(Client, 1448).exchange(Server, 10).send(Client, data(1448)).send(Server, ack().wnd(0));
        let una = d.snd_nxt(Client);
        for gap in [210, 420, 840] {
            d.wait_ms(gap).send_lost(Client, ack().seq(una - 1)).send(Server, ack().wnd(0));
        }
        una
    }

    #[test]
    fn a_reader_that_wakes_too_late_meets_no_socket() {
        everywhere(|d| {
            reader_stopped(d);
            let acked = d.snd_nxt(Server);
            let mine = d.snd_nxt(Client);
            d.wait_ms(3_000).send(Server, ack().wnd(400)).send(Client, reply(mine));
            let _ = acked;
            let v = d.verdict();
            expect(&v, "zero_window_timeout", None, "server");
            assert_eq!((v.confidence, v.mechanism.name()), (85, "reply_to_ack"));
            assert!(v.summary.contains("3 probes"), "{}", v.summary);
            assert_eq!(v.desync, None);
        });
    }

    #[test]
    fn a_silent_end_at_a_closed_window_is_the_same() {
        everywhere(|d| {
            reader_stopped(d);
            d.wait_ms(200_000);
            let v = diagnose(&d.open(End::Silent));
            expect(&v, "zero_window_timeout", None, "server");
            assert_eq!(v.mechanism.name(), "timeout_no_rst");
            assert_eq!(diagnose(&d.open(End::Open)).cause, crate::diagnose::NOTHING);
        });
    }

    #[test]
    fn the_sockets_error_agrees() {
        everywhere(|d| {
            reader_stopped(d);
            let mut h = d.open(End::Silent);
            h.kernel.push(d.fact("inet_sk_error_report", Client, "ETIMEDOUT", false, 7));
            assert_eq!(diagnose(&h).confidence, 95);
        });
    }

    /// A slow reader that opens in time is no fault.
    #[test]
    fn a_window_that_opens_again_is_everyday() {
        everywhere(|d| {
            reader_stopped(d);
            d.send(Server, ack().wnd(400)).exchange(Client, 1448).exchange(Server, 10).send(Client, abort());
            assert_ne!(d.verdict().cause, "zero_window_timeout");
            assert_eq!(d.verdict().desync, None);
        });
    }

    /// S04: the sender aborts by itself behind the small window.
    #[test]
    fn an_abort_behind_a_closed_window_is_an_abort() {
        everywhere(|d| {
            reader_stopped(d);
            d.send(Client, abort());
            assert_eq!(d.verdict().cause, "abortive_close");
        });
    }
}
