//! Bytes were inserted into the stream that its sender says it never sent, and the ends rejected each other ever after
//! (DIAGNOSIS 3.5 cause 5; L. Joncheray, "A simple active attack against TCP", 1995).

use crate::diagnose::desync::{DesyncView, further_classes};
use crate::diagnose::view::View;
use crate::diagnose::words::bytes;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use monitor_common::Anomaly;
use monitor_common::flow::Direction;
use monitor_common::tracker::state::kind;

pub const CAUSE: Cause = Cause { name: "data_injection_desync", judge };

const BASE: u8 = 70;
/// The packet that carried the bytes was not of the sender's series.
const BY_IDENTITY: u8 = 90;

const ADVICE: &str = "Somebody on the path writes into the connection. Look for ARP or route hijacking, for appliances \
                      that inject content, and at the integrity of both hosts; encrypt the connection. The hardware \
                      address of the inserted packet in a capture names the neighbour that it came through.";

fn judge(view: &View) -> Option<Judgement> {
    let Some(d) = view.desync.as_ref() else { return two_versions(view) };
    if !matches!(d.kind, kind::OFFSET | kind::OFFSET_UPSTREAM | kind::ACK_WAR | kind::ACK_UNSENT_ERRATIC | kind::NONE) {
        return None;
    }
    let both = [Direction::Forward, Direction::Reverse];
    // Whose stream carries bytes that it disowns, or two versions of the same.
    let disowned = both.into_iter().find(|s| view.fault(*s).phantom_hits > 0);
    let rewritten = both.into_iter().find(|s| view.history.seen(Anomaly::OverlapMismatch).any(|o| o.speaker == *s));
    let rejected =
        both.into_iter().any(|s| view.fault(s).shift_hits > 0) || both.into_iter().any(|s| view.fault(s).pingpongs > 0);
    let victim = disowned.or(rewritten).unwrap_or(d.data);
    let foreign = view.identity_broke(victim, 0);
    let holds = match (disowned.is_some() || rewritten.is_some(), view.both_off()) {
        // Each direction off by its own amount is the attack's picture; one direction needs the stranger's packet.
        (true, true) => true,
        (true, false) => foreign && rejected,
        (false, true) => foreign,
        (false, false) => false,
    };
    if !holds {
        return close_call(view, d, disowned.is_some(), foreign);
    }
    let (n, at) = inserted(view, d, victim);
    let identity = if foreign {
        " The packet that carried them differs from the sender's own in TTL, IP-ID or hardware address."
    } else {
        ""
    };
    Some(Judgement {
        culprit: Culprit::ThirdParty,
        further_classes: further_classes(view.history, d),
        summary: format!(
            "Bytes were inserted into the stream that {} says it never sent ({}{at}); both ends then rejected each other's \
             segments, and {}.{identity}",
            view.who(victim),
            bytes(n),
            view.ending(d),
        ),
        advice: ADVICE.into(),
        decisive: "bytes that their sender disowns, from a packet that is not of its series".into(),
        ..Judgement::new(Basis::Wire(if foreign { BY_IDENTITY } else { BASE }))
    })
}

/// The answer to a request came twice, from two senders: one end disowns what was seen in its name, and then sends other
/// bytes at the same numbers. The connection may end before the ends have rejected each other for long.
fn two_versions(view: &View) -> Option<Judgement> {
    view.effective()?;
    if view.lossy() || view.history.mid_stream() {
        return None;
    }
    let both = [Direction::Forward, Direction::Reverse];
    let (victim, overlap) = both.into_iter().find_map(|s| {
        let overlap = view.history.seen(Anomaly::OverlapMismatch).find(|o| o.speaker == s)?;
        (view.fault(s).phantom_hits > 0).then_some((s, overlap))
    })?;
    let bare = view.history.seen(Anomaly::TsMissing).any(|s| s.speaker == victim && s.first_ns < overlap.first_ns);
    let foreign = view.identity_broke(victim, 0) || bare;
    let phantom = view.fault(victim).phantom;
    Some(Judgement {
        culprit: Culprit::ThirdParty,
        summary: format!(
            "Somebody answered in the name of {}: it disowned {} that were seen as its own, and sent other bytes at the same \
             numbers ({}) afterwards.{} {} took the first version.",
            view.who(victim),
            bytes(phantom.into()),
            view.number(victim, monitor_common::SeqNum(overlap.actual)),
            if foreign {
                " The packet that carried the first version is not of its series (TTL, IP-ID, hardware address or options)."
            } else {
                ""
            },
            view.who_first(victim.other()),
        ),
        advice: ADVICE.into(),
        decisive: "two versions of the same bytes, one of which their sender disowns".into(),
        ..Judgement::new(Basis::Wire(if foreign { BY_IDENTITY } else { BASE }))
    })
}

/// How much was inserted, and where.
fn inserted(view: &View, d: &DesyncView, victim: Direction) -> (u64, String) {
    let fault = view.fault(victim);
    if fault.phantom_hits > 0 {
        let at = view.half(victim).snd_nxt.sub(fault.phantom);
        return (fault.phantom.into(), format!(" at {}", view.number(victim, at)));
    }
    (d.distance.unsigned_abs(), format!(" beyond {}", view.number(d.data, d.expected)))
}

fn close_call(view: &View, d: &DesyncView, disowned: bool, foreign: bool) -> Option<Judgement> {
    let missing = if view.both_off() {
        "both directions are off, each by its own amount; the packets that carried the inserted bytes would have to be \
         seen, with another TTL, IP-ID or source MAC"
    } else if disowned {
        "the packet that carried the disowned bytes would have to differ in TTL, IP-ID or source MAC from the rest"
    } else if foreign && d.kind != kind::OFFSET {
        "bytes that the sender disowns, or two versions of the same bytes"
    } else {
        return None;
    };
    Some(Judgement::near(if foreign { 60 } else { 45 }, missing))
}

#[cfg(test)]
mod tests {
    use crate::diagnose::diagnose;
    use crate::diagnose::dialogue::*;
    use crate::history::End;
    use monitor_common::Anomaly;

    /// S43 as the client sees it: 100 bytes in the server's name (IP-ID 0), and 100 in its own name that the server
    /// got; each end acknowledges what the other never sent.
    fn injected(d: &mut Dialogue, life: usize) {
        d.handshake();
        for _ in 0..life {
            d.exchange(Client, 6).exchange(Server, 6);
        }
        let (c, s) = (d.snd_nxt(Client), d.snd_nxt(Server));
        // It comes from the server's address, so it is the server's as far as the observer knows.
        d.send_foreign(Server, data(100).seq(s).id(0));
        for _ in 0..5 {
            d.wait_ms(600).send(Client, data(10).seq(c).acking(s + 100)).wait_ms(20);
            d.send(Server, ack().seq(s).acking(c + 100)).wait_ms(20);
            d.send(Client, ack().seq(c + 10).acking(s + 100)).wait_ms(20);
            d.send(Server, ack().seq(s).acking(c + 100)).wait_ms(20);
        }
    }

    #[test]
    fn bytes_that_the_server_disowns_and_too_large_acknowledgements_are_an_injection() {
        everywhere(|d| {
            injected(d, 1);
            let v = diagnose(&d.open(End::Silent));
            expect(&v, "data_injection_desync", None, "third_party");
            assert!(v.confidence >= 70 && v.summary.contains("(100 bytes at"), "{v:#?}");
            assert_eq!(v.mechanism.name(), "timeout_no_rst");
        });
    }

    /// The corpus' quantuminsert captures: a faster answer of somebody else, and the client closes before the server's.
    #[test]
    fn an_answer_that_its_sender_disowns_and_replaces_was_not_its_own() {
        everywhere(|d| {
            d.handshake().exchange(Client, 153);
            let (at, said) = (d.snd_nxt(Server), d.snd_nxt(Client));
            d.send_foreign(Server, data(43).seq(at).bare().id(1).ttl(56)).send(Client, fin().acking(at + 43));
            d.wait_ms(10).send(Server, ack().seq(at).acking(said)).send_lost(Server, data(348).seq(at).acking(said));
            d.send(Client, reply(said));
            let mut h = d.history();
            assert_eq!(diagnose(&h).cause, "data_after_close");
            let (time, n) = (h.time_ns, d.absolute(Server, at));
            h.anomalies.push(crate::derive::seen(Anomaly::OverlapMismatch, d.direction(Server), time, n, n));
            let v = diagnose(&h);
            expect(&v, "data_injection_desync", None, "third_party");
            assert_eq!(v.confidence, 90, "{v:#?}");
            assert!(v.summary.contains("43 bytes"), "{}", v.summary);
        });
    }

    #[test]
    fn a_packet_outside_of_the_senders_series_makes_it_sure() {
        everywhere(|d| {
            injected(d, 12);
            let v = diagnose(&d.open(End::Silent));
            expect(&v, "data_injection_desync", None, "third_party");
            assert!(v.confidence >= 90, "{v:#?}");
        });
    }
}
