//! A device forgot an idle connection and reset it, when traffic resumed or when its timer ran out (DIAGNOSIS 3.5 cause
//! 13). Known timers: 350 s of cloud L4 load balancers (silent, RST on the next packet), 240 s of others (silent, or RST
//! both ways at expiry).

use crate::diagnose::forged::INJECTED;
use crate::diagnose::shape::{Mechanism, ResetView};
use crate::diagnose::view::View;
use crate::diagnose::words::duration;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};
use crate::surroundings::flows::usual_timer;
use monitor_common::Anomaly;
use monitor_common::tracker::SECOND;

pub const CAUSE: Cause = Cause { name: "middlebox_idle_timeout", judge };

const BASE: u8 = 70;
/// Both ends reset at one moment without a segment to answer: only a timer between them does that, also after a silence
/// shorter than that of any known device.
const SHORT: u8 = 60;
const SHORT_IDLE_NS: u64 = 5 * SECOND / 2;
const KNOWN_TIMER: u8 = 10;
const KEEPALIVES: u8 = 20;
const UNPROVEN: u8 = 45;

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.effective()?;
    if view.send_reset().is_some()
        || view.any_fin()
        || view.no_data() && view.history.connection.half.iter().any(|h| h.segments == 0)
    {
        return None;
    }
    let idle = view.idle_before_end_ns();
    let tests = view.forged.as_ref();
    let expired = reset.trigger.is_none() && tests.is_some_and(|a| a.has("both_directions"));
    // Where only one of the two is seen: an abort as no stack makes it that agreed on what this one did.
    let odd = reset.trigger.is_none() && tests.is_some_and(|a| a.has("option_shape") && !a.genuine_look);
    let not_its_own = tests.is_some_and(|a| a.score >= INJECTED || a.alive);
    let long = view.idled();
    if !(long && (not_its_own || expired || odd) || expired && idle >= SHORT_IDLE_NS) {
        return (long && reset.mechanism.is_reply() && view.reason().is_none()).then(|| {
            Judgement::near(
                UNPROVEN,
                format!(
                    "nothing moved for {} before: a RST that did not come from the end itself (TTL, delay) would show a \
                     device that forgot the connection",
                    duration(idle)
                ),
            )
        });
    }
    let proven = not_its_own || expired;
    let mut base = if long && proven { BASE } else { SHORT };
    let timer = usual_timer(idle);
    base += if timer.is_some() { KNOWN_TIMER } else { 0 };
    let probed = [Anomaly::KeepaliveProbe, Anomaly::KeepaliveUnanswered].iter().any(|a| view.history.any(*a));
    base -= if probed { KEEPALIVES } else { 0 };
    let (variant, how) = ending(view, reset);
    let known = timer.map_or(String::new(), |t| format!(" ({t} s is a usual limit)"));
    let proof = tests.map_or(String::new(), |a| format!(": {}", a.tests()));
    Some(Judgement {
        variant,
        culprit: Culprit::Middlebox,
        culprit_cap: (!proven).then_some(UNPROVEN),
        mechanism: Some(Mechanism::Forged),
        summary: format!("Nothing moved for {}{known}; a device between the ends forgot the connection and {how}{proof}.", duration(idle)),
        advice: "Compare the idle limits of the firewalls, NAT gateways and load balancers of the path with this silence, and \
                 keep connections alive well below them (TCP keepalive, application pings)."
            .into(),
        decisive: "a RST that did not come from the end itself".into(),
        ..Judgement::new(Basis::Wire(base))
    })
}

fn ending(view: &View, reset: &ResetView) -> (Option<&'static str>, String) {
    match reset.trigger {
        Some(_) => (None, format!("reset it when {} spoke again", view.who(reset.sender.other()))),
        None => (Some("at_expiry"), "reset it when its timer ran out".to_string()),
    }
}
