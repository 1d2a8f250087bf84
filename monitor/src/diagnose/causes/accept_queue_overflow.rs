//! The server's accept queue was full (DIAGNOSIS 3.5 cause 24). With net.ipv4.tcp_abort_on_overflow=1 Linux answers the
//! last segment of the handshake with a RST; by default it ignores it and repeats its SYN-ACK, and the client, for whom
//! the connection stands, sends into nothing.

use crate::diagnose::silent::{ATTEMPTS, stuck};
use crate::diagnose::view::View;
use crate::diagnose::words::count;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::Anomaly;
use monitor_common::segment::flags;
use monitor_common::tracker::state::{Phase, half};

pub const CAUSE: Cause = Cause { name: "accept_queue_overflow", judge };

const BY_KERNEL: u8 = 95;
const BASE: u8 = 60;
/// The SYN-ACK was repeated before the handshake's last segment was seen: perhaps for that alone.
const BEFORE: u8 = 55;
const DROPPED: &str = "TCP_LISTEN_OVERFLOW";

fn judge(view: &View) -> Option<Judgement> {
    let client = view.history.client();
    let server = client.other();
    let (me, peer) = (view.half(server), view.half(client));
    let by_reset = view.reply().is_some_and(|r| r.sender == server && r.seq() == me.iss.add(1));
    let given_up =
        view.fell_silent() && stuck(&view.history.connection, client).is_some_and(|s| s.attempts >= ATTEMPTS);
    // The client has given up meanwhile, and its kernel refuses the SYN-ACK that comes once more.
    let by_client = view.reply().is_some_and(|r| {
        r.sender == client && r.trigger.is_some_and(|t| t.flags & flags::SYN != 0) && view.bytes(client) > 0
    });
    if !by_reset && !by_client && !given_up || !me.has(half::SYN) || !peer.has(half::SYN) || !peer.has(half::ACKED) {
        return None;
    }
    // The server never took part beyond its SYN-ACK, which the client acknowledged correctly.
    let unheard = view.bytes(server) == 0
        && !view.any_fin()
        && peer.ack == me.iss.add(1)
        && me.ack.at_or_before(peer.iss.add(1))
        && matches!(view.history.phase, Phase::SynReceived | Phase::Established);
    if !unheard {
        return None;
    }
    let dropped = view.dropped(DROPPED).is_some();
    // INVALID_SYN has two meanings; with nothing but a right handshake behind it, it is this one.
    let by_kernel = dropped || view.reason_is(&["INVALID_SYN"]);
    if !by_client && view.reason_is_not(&["INVALID_SYN", "TCP_FLAGS", "NO_SOCKET"]) {
        return Some(Judgement::near(10, "the server's kernel gives another reason"));
    }
    let repeated = |a| view.history.seen(a).find(|s| s.speaker == server);
    let after = repeated(Anomaly::SynInEstablished);
    let before = repeated(Anomaly::Rexmit);
    if !by_kernel && after.is_none() && before.is_none() {
        return Some(Judgement::near(
            40,
            "SYN-ACKs that the server repeats although the client has answered, or its kernel's TCP_LISTEN_OVERFLOW",
        ));
    }
    let times = after.or(before).map_or(0, |s| s.count);
    let end = match (by_reset, by_client) {
        (true, _) => "and then reset it",
        (_, true) => "and still repeated it when the client had given up, which its kernel answered with a reset",
        _ => "and said nothing more",
    };
    let how = match times {
        0 => String::new(),
        n => format!(
            "it repeated its SYN-ACK {} although the handshake was complete for the client, ",
            count(n.into(), "time")
        ),
    };
    Some(Judgement {
        culprit: Culprit::End(server),
        further_classes: u8::from(!by_kernel && after.is_some() && view.bytes(client) > 0),
        summary: format!(
            "The accept queue of {} was full: {how}never took in anything that {} sent, {end}.{}",
            view.who(server),
            view.who(client),
            if dropped { " Its kernel dropped the handshake's last segment for TCP_LISTEN_OVERFLOW." } else { "" },
        ),
        advice: "On the server: `ss -ltn` (Recv-Q against Send-Q of the listener), `nstat -az TcpExtListenOverflows`. \
                 The application accepts too slowly, or listen() and net.core.somaxconn are too small for its bursts."
            .into(),
        decisive: "repeated SYN-ACKs after a complete handshake".into(),
        ..Judgement::new(match (by_kernel, after.is_some()) {
            (true, _) => Basis::Kernel(BY_KERNEL),
            (_, true) => Basis::Wire(BASE),
            _ => Basis::Wire(BEFORE),
        })
    })
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::history::End;

    /// S12 as the client sees it: the server repeats its SYN-ACK, then answers with a RST.
    fn refused(d: &mut Dialogue) {
        d.handshake().wait_ms(1_000).send(Server, syn_ack()).send(Client, ack()).send(Server, reply(1));
    }

    #[test]
    fn a_repeated_syn_ack_and_a_reset_are_a_full_queue() {
        everywhere(|d| {
            refused(d);
            let v = d.verdict();
            expect(&v, "accept_queue_overflow", None, "server");
            assert_eq!((v.confidence, v.mechanism.name()), (60, "reply_to_ack"));
        });
    }

    #[test]
    fn the_kernel_makes_it_certain() {
        everywhere(|d| {
            refused(d);
            let mut h = d.history();
            h.kernel.push(d.fact("tcp_send_reset", Server, "INVALID_SYN", true, 3));
            h.kernel.push(d.fact("kfree_skb", Server, "TCP_LISTEN_OVERFLOW", true, 10));
            let v = diagnose(&h);
            expect(&v, "accept_queue_overflow", None, "server");
            assert_eq!(v.confidence, 95);
            assert!(v.summary.contains("TCP_LISTEN_OVERFLOW"), "{}", v.summary);
        });
    }

    /// At the server the held acknowledgements come together: its own SYN-ACK was repeated before.
    #[test]
    fn at_the_server_the_repetition_comes_first() {
        everywhere(|d| {
            d.send(Client, syn()).send(Server, syn_ack()).wait_ms(1_000).send(Server, syn_ack());
            d.send(Client, ack()).send(Server, reply(1));
            let v = d.verdict();
            expect(&v, "accept_queue_overflow", None, "server");
            assert_eq!(v.confidence, 55);
        });
    }

    /// S13: the default is silence.
    #[test]
    fn a_client_that_sends_into_nothing_after_repeated_syn_acks_meets_a_full_queue() {
        everywhere(|d| {
            d.handshake();
            d.send_lost(Client, data(100));
            for gap in [210, 420, 840, 1_660] {
                d.wait_ms(gap).send_lost(Client, data(100).seq(1));
                d.send(Server, syn_ack().acking(1)).send(Client, ack());
            }
            let v = diagnose(&d.open(End::Silent));
            expect(&v, "accept_queue_overflow", None, "server");
            assert_eq!((v.confidence, v.mechanism.name()), (65, "timeout_no_rst"));
        });
    }

    /// S13: the client's kernel has given up (ETIMEDOUT) when the server repeats its SYN-ACK once more.
    #[test]
    fn a_client_that_gave_up_refuses_the_next_syn_ack() {
        everywhere(|d| {
            d.handshake();
            d.send_lost(Client, data(100));
            for gap in [210, 420, 840] {
                d.wait_ms(gap).send_lost(Client, data(100).seq(1));
                d.send(Server, syn_ack().acking(1)).send(Client, ack());
            }
            d.wait_ms(4_000).send(Server, syn_ack().acking(1)).send(Client, reply(1));
            let v = d.verdict();
            expect(&v, "accept_queue_overflow", None, "server");
            assert!(v.summary.contains("given up"), "{}", v.summary);
            let v = d.verdict_with_reason(Client, "NO_SOCKET", true, 0);
            expect(&v, "accept_queue_overflow", None, "server");
        });
    }

    #[test]
    fn a_server_that_took_part_had_room() {
        everywhere(|d| {
            d.handshake()
                .wait_ms(1_000)
                .send(Server, syn_ack())
                .send(Client, ack())
                .exchange(Client, 100)
                .wait_ms(2_000);
            d.send(Client, data(10)).send(Server, reply(1));
            assert_eq!(d.verdict().cause, "peer_lost_state");
        });
    }

    #[test]
    fn a_reset_without_a_repeated_syn_ack_only_suggests_it() {
        everywhere(|d| {
            d.handshake().send(Client, data(10)).send(Server, reply(1));
            let v = d.verdict();
            assert_ne!(v.cause, "accept_queue_overflow");
            assert!(v.also_considered.iter().any(|c| c.cause == "accept_queue_overflow"), "{v:#?}");
        });
    }
}
