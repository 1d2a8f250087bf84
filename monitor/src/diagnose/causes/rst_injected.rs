//! The reset did not come from whom it claims (DIAGNOSIS 3.5 cause 11, section 4).

use crate::diagnose::forged::{Assessment, INJECTED, POSSIBLE, Variant};
use crate::diagnose::shape::Mechanism;
use crate::diagnose::view::View;
use crate::diagnose::{Basis, Cause, Culprit, Judgement};

pub const CAUSE: Cause = Cause { name: "rst_injected", judge };

/// Confidence at the lowest and the highest score that count.
const LEAST: u8 = 60;
const MOST: u8 = 95;

fn judge(view: &View) -> Option<Judgement> {
    let reset = view.effective()?;
    let assessment = view.forged.as_ref()?;
    if assessment.score < POSSIBLE {
        return None;
    }
    if assessment.score < INJECTED {
        return Some(Judgement::near(
            assessment.score,
            format!(
                "possible injection: {}; its delay, its IP-ID or packets of the {} after it would decide",
                assessment.tests(),
                view.role(reset.sender)
            ),
        ));
    }
    Some(Judgement {
        variant: Some(assessment.variant.name()),
        culprit: culprit(assessment),
        mechanism: Some(Mechanism::Forged),
        contradictions: look(view, assessment),
        summary: format!("The reset did not come from {}: {}.", view.who(reset.sender), assessment.tests()),
        advice: format!(
            "Something on or beside the path resets connections in others' names (IPS, DPI, content filter, provider): \
             compare the hops of the RST (TTL {}) with those of known devices, and capture on the {}'s side, where no RST \
             left.",
            reset.record.ttl,
            view.role(reset.sender)
        ),
        decisive: "another TTL, IP-ID or delay than its claimed sender's".into(),
        ..Judgement::new(Basis::Wire(sureness(assessment.score)))
    })
}

fn culprit(assessment: &Assessment) -> Culprit {
    match assessment.variant {
        Variant::Blind => Culprit::ThirdParty,
        Variant::Inline | Variant::OnPath => Culprit::Middlebox,
    }
}

pub fn sureness(score: u8) -> u8 {
    let above = u32::from(score.saturating_sub(INJECTED));
    LEAST + (above * u32::from(MOST - LEAST) / u32::from(100 - INJECTED)) as u8
}

/// What speaks for a genuine RST.
fn look(view: &View, assessment: &Assessment) -> Vec<String> {
    let sender = view.reset.as_ref().map(|r| view.role(r.sender));
    match sender.filter(|_| assessment.genuine_look) {
        Some(who) => vec![format!("its IP-ID and TTL continue those of the {who}'s packets")],
        None => Vec::new(),
    }
}
