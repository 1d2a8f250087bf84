//! The fallback: no rule holds with enough confidence. Says what was closest and what is missing.

use super::view::View;
use super::{Judgement, LISTED, UNKNOWN, Verdict, considered, with_limits};
use crate::finding::band;

/// Hypotheses that are listed.
const HYPOTHESES: usize = 3;
/// No hypothesis at all.
const NOTHING_FITS: u8 = 5;
/// Confidence stays below what would name a cause (DIAGNOSIS 3.4).
const MOST: u8 = 29;

pub fn verdict(view: &View, judged: Vec<(&'static str, Judgement, u8)>) -> Verdict {
    let mut hypotheses = considered(judged);
    hypotheses.truncate(HYPOTHESES.min(LISTED));
    let best = hypotheses.first().map_or(NOTHING_FITS, |h| h.confidence.min(MOST));
    let event = match &view.reset {
        Some(r) => format!(
            "A reset in the name of {} ({}, {}) ended the connection",
            view.who(r.sender),
            r.shape.name(),
            view.mechanism().name()
        ),
        None => "The ends stopped accepting each other's segments".to_string(),
    };
    let closest = match hypotheses.first() {
        Some(h) => format!("The closest explanation is {}, for which this is missing: {}.", h.cause, h.why_not),
        None => "No rule comes close.".to_string(),
    };
    Verdict {
        cause: UNKNOWN,
        variant: None,
        culprit: "unknown",
        culprit_confidence: NOTHING_FITS,
        confidence: best,
        band: band(best),
        mechanism: view.mechanism(),
        desync: view.desync,
        also_considered: hypotheses,
        contradictions: Vec::new(),
        summary: with_limits(view, format!("{event}, and no known cause fits. {closest}")),
        advice: "Capture both ends, from before the handshake; on the host that sent the RST, the kernel's reset \
                 reason (Linux 6.10 and later) decides most cases."
            .into(),
    }
}
