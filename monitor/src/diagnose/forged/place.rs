//! What only the place of the observer shows (DIAGNOSIS 4.2).

use super::Hit;
use super::scene::Scene;
use monitor_common::event::identity;
use monitor_common::tracker::state::Hook;

pub fn no_ingress_twin(s: &Scene) -> Option<Hit> {
    if s.history.identity & identity::NO_INGRESS_TWIN == 0 {
        return None;
    }
    Some(Hit {
        test: "no_ingress_twin",
        weight: 80,
        time_ns: s.rst.time_ns,
        speaker: s.sender,
        anomaly: None,
        text: format!("the RST left this host but never came in from the {}: this host made it", s.who(s.sender)),
    })
}

/// S is a socket of this host, whose kernel sent no RST; this one came in from outside.
pub fn kernel_denial(s: &Scene) -> Option<Hit> {
    if !s.history.surroundings.kernel_watched || !s.sender_is_here() || s.history.hook != Hook::Ingress as u8 {
        return None;
    }
    Some(Hit {
        test: "kernel_denial",
        weight: 60,
        time_ns: s.rst.time_ns,
        speaker: s.sender,
        anomaly: None,
        text: format!(
            "the RST came in from outside in the name of the {}, a socket of this host whose kernel sent none",
            s.who(s.sender)
        ),
    })
}
