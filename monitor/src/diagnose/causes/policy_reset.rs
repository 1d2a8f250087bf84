//! A firewall refused the traffic with a reset (DIAGNOSIS 3.5 cause 12): `REJECT --reject-with tcp-reset`, a URL filter, a
//! load balancer without a backend. It answers in the name of the end that the segment was for, and swallows it.

use crate::diagnose::forged::{Assessment, INJECTED};
use crate::diagnose::shape::{Mechanism, ResetView, Shape};
use crate::diagnose::view::View;
use crate::diagnose::words::count;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use crate::finding::Considered;
use monitor_common::segment::flags;
use monitor_common::tracker::MS;
use monitor_common::tracker::state::{Hook, Phase, half};

pub const CAUSE: Cause = Cause { name: "policy_reset", judge };

const BASE: u8 = 70;
/// The observer is the device, or the host whose firewall it was.
const PROVEN: u8 = 90;
const LOCAL: u8 = 95;
/// Nearer than the end, and nothing else.
const NEARER: u8 = 45;

/// Drop reason of netfilter's verdict.
const FILTERED: &str = "NETFILTER_DROP";
/// A refused segment is dropped as the RST is sent.
const TOGETHER_NS: u64 = 10 * MS;

const ADVICE: &str = "Find the rule: hit counters of reject rules for this address and port on the firewalls of the path; \
                      for web traffic also the categories of URL and TLS name filters.";

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.effective()?;
    if !reset.shape.is_reply() {
        return None;
    }
    if view.send_reset().is_some() {
        return None;
    }
    local(view, reset)
        .or_else(|| at_the_device(view, reset))
        .or_else(|| nearer_than_its_host(view, reset))
        .or_else(|| by_tests(view, reset))
}

/// This host's own packet filter dropped the segment, and no socket sent a RST (nf_send_reset does not trace).
fn local(view: &View, reset: &ResetView) -> Option<Judgement> {
    let refused = reset.sender.other();
    let (drop, _) = view.history.dropped(FILTERED).find(|(fact, d)| {
        d.speaker == refused && !d.leaving && fact.time_ns.abs_diff(reset.record.time_ns) <= TOGETHER_NS
    })?;
    let watched = view.history.surroundings.kernel_watched;
    let me = view.half(reset.sender);
    let here = me.has(half::SEEN) && me.fed_by == Hook::Egress as u8
        || view.history.hook == Hook::Egress as u8 && view.history.surroundings.sender_is_local == Some(true);
    if !watched || !here {
        return None;
    }
    Some(Judgement {
        variant: Some("local"),
        culprit: Culprit::LocalHostPolicy,
        mechanism: Some(Mechanism::NetfilterReject),
        summary: format!(
            "This host's own packet filter refused {} of {} with a reset: its kernel dropped the segment ({}), and none of \
             its sockets sent a RST.",
            what(view, reset),
            view.who(reset.sender.other()),
            drop.reason,
        ),
        advice:
            "Look for a reject rule on this host (nft list ruleset, iptables -S, security agents) that matches this \
                 address and port."
                .into(),
        decisive: "a drop by netfilter on the host that sent the RST".into(),
        ..Judgement::new(Basis::Kernel(LOCAL))
    })
}

/// The observer's own host made the RST in another's name: it is the device.
fn at_the_device(view: &View, reset: &ResetView) -> Option<Judgement> {
    let around = &view.history.surroundings;
    let twinless = view.forged.as_ref().is_some_and(|a| a.has("no_ingress_twin"));
    // A refused SYN leaves nothing of its target to compare with: the kernel's silence and the address tell.
    let unseen = !view.half(reset.sender).has(half::SEEN)
        && view.history.hook == Hook::Egress as u8
        && around.kernel_watched
        && around.sender_is_local == Some(false);
    if !(twinless || unseen) || !is_refusal(view, reset) || view.forged.as_ref().is_some_and(|a| a.alive) {
        return None;
    }
    Some(Judgement {
        culprit: Culprit::Middlebox,
        mechanism: Some(Mechanism::NetfilterReject),
        summary: format!(
            "This host refused {} of {} with a reset in the name of {}: the RST left here and never came in.",
            what(view, reset),
            view.who(reset.sender.other()),
            view.who(reset.sender),
        ),
        advice: ADVICE.into(),
        decisive: "a RST that left a forwarding host without having come in".into(),
        ..Judgement::new(Basis::Inherent(PROVEN))
    })
}

/// A refused SYN: the RST has fewer hops behind it than other packets of that address. The TTL itself would not do: a
/// host may answer with another initial TTL than its sockets use.
fn nearer_than_its_host(view: &View, reset: &ResetView) -> Option<Judgement> {
    let known = view.history.surroundings.ttl?;
    if view.half(reset.sender).has(half::SEEN) || view.history.phase != Phase::SynSent {
        return None;
    }
    let (near, far) = (hops(reset.record.ttl), hops(known.ttl));
    if near >= far {
        return None;
    }
    Some(Judgement {
        culprit: Culprit::Middlebox,
        mechanism: Some(Mechanism::NetfilterReject),
        summary: format!(
            "A firewall refused the SYN of {} with a reset in the name of {}: the RST has come {} (TTL {}), packets of that \
             host in {} have come {} (TTL {}).",
            view.who(reset.sender.other()),
            view.who(reset.sender),
            count(near.into(), "hop"),
            reset.record.ttl,
            count(known.connections.into(), "other connection"),
            far,
            known.ttl,
        ),
        advice: ADVICE.into(),
        decisive: "a RST from nearer than its host".into(),
        rivals: vec![Considered {
            cause: "port_closed".into(),
            confidence: 40,
            why_not: "the host's own refusal would have come as far as its other packets".into(),
        }],
        ..Judgement::new(Basis::Wire(BASE))
    })
}

fn by_tests(view: &View, reset: &ResetView) -> Option<Judgement> {
    let assessment = view.forged.as_ref()?;
    if !is_policy(view, reset, assessment) {
        let nearer = hops(reset.record.ttl) < hops(view.half(reset.sender).ttl) && assessment.has("ttl_delta");
        return (nearer && is_refusal(view, reset) && !assessment.alive && assessment.score < INJECTED).then(|| {
            Judgement::near(
                NEARER,
                format!(
                    "{}; that it came sooner than the {} can answer, or that the {} still lives, would prove it",
                    assessment.tests(),
                    view.role(reset.sender),
                    view.role(reset.sender)
                ),
            )
        });
    }
    Some(Judgement {
        culprit: Culprit::Middlebox,
        mechanism: Some(Mechanism::NetfilterReject),
        further_classes: assessment.hits.len().saturating_sub(1) as u8,
        summary: format!(
            "A firewall refused {} of {} with a reset in the name of {}: {}.",
            what(view, reset),
            view.who(reset.sender.other()),
            view.who(reset.sender),
            assessment.tests(),
        ),
        advice: ADVICE.into(),
        decisive: "a RST that cannot have come from the other end".into(),
        ..Judgement::new(Basis::Wire(BASE))
    })
}

/// Injected by the score, and yet an open refusal: one answer to the sender of the segment, which went no further
/// (DIAGNOSIS 3.3 step 4).
pub fn is_policy(view: &View, reset: &ResetView, assessment: &Assessment) -> bool {
    assessment.score >= INJECTED && !assessment.alive && is_refusal(view, reset)
}

/// One reply, at the SYN or on data.
fn is_refusal(view: &View, reset: &ResetView) -> bool {
    let others = view.history.later.resets().filter(|f| f.record.seq != reset.record.seq || f.speaker != reset.sender);
    let on_data = reset.trigger.is_some_and(|t| t.payload_len > 0);
    let at_syn = reset.shape == Shape::ReplyToNoAck || view.history.phase == Phase::SynSent;
    reset.shape.is_reply() && (on_data || at_syn) && others.count() == 0
}

fn what(view: &View, reset: &ResetView) -> &'static str {
    match reset.trigger {
        Some(t) if t.payload_len > 0 => "data",
        Some(t) if t.flags & flags::FIN != 0 => "a FIN",
        Some(_) => "a segment",
        None if view.half(reset.sender.other()).bytes > 0 => "data",
        None => "the SYN",
    }
}

fn hops(ttl: u8) -> u8 {
    crate::diagnose::forged::hops(ttl)
}
