//! Address translation changed in the middle of a connection (DIAGNOSIS 3.5 cause 14). Its best-known form: a segment
//! that connection tracking calls invalid is not translated and draws a reset that fits the healthy connection
//! (kubernetes/kubernetes#74839).

use crate::diagnose::shape::{ResetView, triggers};
use crate::diagnose::view::View;
use crate::diagnose::words::duration;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use crate::finding::Considered;
use crate::history::Relative;
use monitor_common::Anomaly;
use monitor_common::tracker::SECOND;
use monitor_common::tracker::state::{Phase, half};

pub const CAUSE: Cause = Cause { name: "nat_state_fault", judge };

/// The numbers of two tuples are equal, or the device itself saw the packet pass untranslated.
const EXACT: u8 = 85;
const OTHERWISE: u8 = 60;
/// An end that spoke so recently has not lost the connection.
const ALIVE_NS: u64 = SECOND;
const ADVICE: &str = "On the device that translates: are there packets of state INVALID that pass untranslated (drop \
                      them, or set nf_conntrack_tcp_be_liberal=1)? Is the conntrack table full or its time-outs short? \
                      Does the return path bypass the device?";

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.effective()?;
    at_the_translator(view, reset).or_else(|| from_relative(view, reset)).or_else(|| beside_the_translator(view, reset))
}

/// The observer is the translating host: the RST came in under a tuple that its sender reaches only through
/// translation (`engine::admit`).
fn at_the_translator(view: &View, reset: &ResetView) -> Option<Judgement> {
    if !view.half(reset.sender).has(half::UNTRANSLATED) {
        return None;
    }
    let other = reset.sender.other();
    let stray = match stray(view, reset) {
        Some(number) => {
            format!("a segment of {} with {}, far outside the window,", view.who(other), view.number(other, number))
        }
        None => format!("a packet of {}", view.who(other)),
    };
    Some(Judgement {
        variant: Some("bypass"),
        culprit: Culprit::Middlebox,
        summary: format!(
            "Address translation was bypassed: {stray} passed this host untranslated; {} knows no connection with that \
             address and answered with a reset, which went back untranslated too and fits the healthy connection of {} \
             exactly.",
            view.who(reset.sender),
            view.who(other),
        ),
        advice: ADVICE.into(),
        decisive: "a reset that arrived untranslated".into(),
        ..Judgement::new(Basis::Inherent(EXACT))
    })
}

/// A capture: this tuple appeared in mid-stream with the numbers of another connection.
fn from_relative(view: &View, reset: &ResetView) -> Option<Judgement> {
    let shared_is_sender = |r: &&Relative| r.shared == view.history.endpoint(reset.sender);
    let relatives = || view.history.relatives.iter().filter(shared_is_sender);
    let relative = relatives().find(|r| r.exact).or_else(|| relatives().next())?;
    let Relative { shared, translated, untranslated, .. } = *relative;
    let base = if relative.exact { EXACT } else { OTHERWISE };
    let numbers = if relative.exact { "exactly the numbers" } else { "numbers that fit those" };
    let bypass = view.history.is_client(reset.sender);
    let (variant, summary) = if bypass {
        (
            "bypass",
            format!(
                "Address translation was bypassed: a packet of the connection {shared} - {translated} reached {shared} \
                 from {untranslated}, its address before translation, with {numbers} of that connection \
                 ({} here, {} there). {shared} knows no such connection and answered with a reset that fits the connection \
                 of {untranslated} exactly.",
                relative.number, relative.other,
            ),
        )
    } else {
        (
            "rebind",
            format!(
                "Address translation changed mid-connection: {translated} - {shared} continued as {untranslated} - \
                 {shared} with {numbers} of before ({} here, {} there). {shared} does not know the new address and answered \
                 with a reset.",
                relative.number, relative.other,
            ),
        )
    };
    Some(Judgement {
        variant: Some(variant),
        culprit: Culprit::Middlebox,
        kernel_agrees: view.reason_is(&["NO_SOCKET", "TCP_FLAGS"]),
        summary,
        advice: ADVICE.into(),
        decisive: "another connection with the same numbers".into(),
        ..Judgement::new(Basis::Inherent(base))
    })
}

/// Beside the translator only the pattern is seen: an end that was alive a moment ago answers one segment, far outside
/// the window, as if it knew nothing of the connection. A host that has the connection answers with an acknowledgement.
fn beside_the_translator(view: &View, reset: &ResetView) -> Option<Judgement> {
    if !reset.mechanism.is_reply() || view.history.phase != Phase::Established {
        return None;
    }
    let other = reset.sender.other();
    let number = stray(view, reset)?;
    let alive = view.last_heard_ns(reset.sender)?;
    let ago = reset.record.time_ns.saturating_sub(alive);
    if ago > ALIVE_NS.max(u64::from(view.half(other).rtt_min_us) * 4_000) {
        return Some(Judgement::near(
            30,
            format!(
                "the {} had not been heard for {}, so it may have lost the connection",
                view.role(reset.sender),
                duration(ago)
            ),
        ));
    }
    Some(Judgement {
        variant: Some("bypass"),
        culprit: Culprit::Middlebox,
        summary: format!(
            "{} answered one segment as if it did not know the connection, {} after it had still taken part in it: the \
             one with {}, far outside the window. Connection tracking calls such a segment invalid and does not \
             translate it, so it arrived under an address that {} has no connection with.",
            view.who_first(reset.sender),
            duration(ago),
            view.number(other, number),
            view.who(reset.sender),
        ),
        advice: ADVICE.into(),
        decisive: "a capture on the other side of the translation would show the segment under the wrong address"
            .into(),
        rivals: vec![Considered {
            cause: "peer_lost_state".into(),
            confidence: 45,
            why_not: "the reset answers only the segment that was out of place".into(),
        }],
        ..Judgement::new(Basis::Wire(OTHERWISE))
    })
}

/// A segment just before the reset, acknowledging its number, that lay outside the window.
fn stray(view: &View, reset: &ResetView) -> Option<monitor_common::SeqNum> {
    let other = reset.sender.other();
    let outside = [Anomaly::SeqJump, Anomaly::SeqBeyondWindow, Anomaly::SeqBelowWindow];
    let nxt = view.half(other).snd_nxt;
    let recent = view.history.anomalies.iter().any(|s| {
        outside.contains(&s.anomaly) && s.speaker == other && s.last_ns + view.echo_ns() >= reset.record.time_ns
    });
    if !recent {
        return None;
    }
    // Nothing outside the window moves SND.NXT, so the stray one is the one that lies beyond it, or far below.
    triggers(view.history, reset.sender, &reset.record)
        .filter(|r| r.seq.after(nxt) || nxt.distance(r.seq) > monitor_common::tracker::OLD_ACK_SPAN as i32)
        .last()
        .map(|r| r.seq)
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::finding::Endpoint;
    use crate::history::{History, Relative};
    use monitor_common::tracker::state::Hook;

    /// A download; then a segment of the server far ahead of its window, and the client's answer to it.
    fn stray_segment(d: &mut Dialogue) {
        let base = d.snd_nxt(Server);
        let acked = d.snd_nxt(Client);
        d.send(Server, data(20).seq(base + 100_000_000).acking(acked));
        d.send(Client, reply(acked));
    }

    fn download(d: &mut Dialogue) {
        d.handshake().exchange(Client, 100);
        for _ in 0..40 {
            d.exchange(Server, 1448);
        }
    }

    /// The agent on the router: the client's packets reach this tuple through translation only, and its RST came in
    /// under it untranslated.
    #[test]
    fn a_router_sees_the_reset_pass_untranslated() {
        everywhere(|d| {
            d.observed_at(Client, Hook::Forwarded);
            download(d);
            let base = d.snd_nxt(Server);
            let acked = d.snd_nxt(Client);
            d.send(Server, data(20).seq(base + 100_000_000).acking(acked));
            // The RST comes in, is marked, and is tracked as it goes out.
            d.observed_at(Client, Hook::Ingress).send(Client, reply(acked));
            d.observed_at(Client, Hook::Forwarded).send(Client, reply(acked));
            let v = d.verdict();
            expect(&v, "nat_state_fault", Some("bypass"), "middlebox");
            assert_eq!((v.confidence, v.culprit_confidence), (85, 85));
            assert_eq!(v.desync, None);
            assert!(v.summary.contains(&format!("relative sequence number {} ", base + 100_000_000)), "{}", v.summary);
        });
    }

    fn endpoint(text: &str) -> Endpoint {
        let at: std::net::SocketAddr = text.parse().unwrap();
        Endpoint { addr: at.ip(), port: at.port() }
    }

    fn with_relative(d: &Dialogue, mut history: History, shared: Who, exact: bool) -> History {
        let shared = d.direction(shared);
        history.relatives.push(Relative {
            key: history.connection.key,
            shared: history.endpoint(shared),
            translated: endpoint("203.0.113.9:80"),
            untranslated: history.endpoint(shared.other()),
            number: 4_000,
            other: 4_000,
            exact,
            shared_is_client: None,
        });
        history
    }

    /// A capture at the client: the leaked packet opens a tuple of its own.
    #[test]
    fn a_leaked_packet_and_its_answer_are_a_bypass() {
        everywhere(|d| {
            download(d);
            d.observe_from_here();
            stray_segment(d);
            let v = diagnose(&with_relative(d, d.history(), Client, true));
            expect(&v, "nat_state_fault", Some("bypass"), "middlebox");
            assert_eq!(v.confidence, 85);
            let v = diagnose(&with_relative(d, d.history(), Client, false));
            assert_eq!(v.confidence, 60);
        });
    }

    /// S27: the flow goes on from another port of the NAT.
    #[test]
    fn a_flow_that_goes_on_from_another_port_is_a_rebind() {
        everywhere(|d| {
            download(d);
            d.observe_from_here();
            let acked = d.snd_nxt(Server);
            d.send_lost(Client, data(100)).send(Server, reply(acked));
            let v = diagnose(&with_relative(d, d.history(), Server, true));
            expect(&v, "nat_state_fault", Some("rebind"), "middlebox");
            assert!(v.summary.contains("203.0.113.9:80"), "{}", v.summary);
        });
    }

    /// A translator may choose a port below the server's: who the client is, the old connection knows.
    #[test]
    fn the_old_connection_tells_who_the_client_is() {
        everywhere(|d| {
            download(d);
            d.observe_from_here();
            let acked = d.snd_nxt(Client);
            d.send_lost(Server, data(100)).send(Client, reply(acked));
            for (shared_is_client, variant, sender) in
                [(None, "bypass", "client"), (Some(true), "bypass", "client"), (Some(false), "rebind", "server")]
            {
                let mut h = with_relative(d, d.history(), Client, true);
                h.relatives[0].shared_is_client = shared_is_client;
                expect(&diagnose(&h), "nat_state_fault", Some(variant), "middlebox");
                assert_eq!(h.role(d.direction(Client)), sender);
            }
        });
    }

    /// A capture at the server: nobody sees the translation, but an end that has the connection does not answer so.
    #[test]
    fn beside_the_translator_the_pattern_tells() {
        everywhere(|d| {
            download(d);
            stray_segment(d);
            let v = d.verdict();
            expect(&v, "nat_state_fault", Some("bypass"), "middlebox");
            assert_eq!(v.confidence, 60);
            assert!(v.also_considered.iter().any(|c| c.cause == "peer_lost_state"), "{v:#?}");
        });
    }

    #[test]
    fn an_answer_to_a_segment_in_order_is_lost_state() {
        everywhere(|d| {
            download(d);
            let acked = d.snd_nxt(Client);
            d.send(Server, data(20)).send(Client, reply(acked));
            assert_eq!(d.verdict().cause, "peer_lost_state");
        });
    }
}
