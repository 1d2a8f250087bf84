//! From a history to a verdict: pure functions, one file per cause.
//!
//! [`diagnose`] derives a [`View`], asks every cause of [`causes::ALL`] in the order of DIAGNOSIS 3.3, and takes the
//! first that holds; the others that hold or come close are reported as considered, with the fact that would have
//! decided for them. No clock, no maps, no channels: the same history gives the same verdict, live and offline.
//!
//! To add a cause: a file under `causes/` with its rule, its words and its tests, and its line in [`causes::ALL`].

pub mod causes;
mod confidence;
pub mod desync;
#[cfg(test)]
pub mod dialogue;
pub mod echo;
pub mod forged;
mod ineffective;
pub mod kernel_word;
pub mod shape;
pub mod silent;
mod unknown;
pub mod view;
pub mod words;

use crate::finding::{Considered, band};
use crate::history::History;
use desync::DesyncView;
use monitor_common::flow::Direction;
use shape::Mechanism;
use view::View;

/// `cause` of a connection about which there is nothing to report.
pub const NOTHING: &str = "none";
/// `cause` when nothing holds or the best is too weak.
pub const UNKNOWN: &str = "unknown_reset";

/// Below it no cause is named (DIAGNOSIS 3.4).
const NAMED: u8 = 30;
/// Certainty about who, where the rule says that the network may be it as well (DIAGNOSIS 3.4).
pub const SHARED_BLAME: u8 = 60;
/// Considered causes that are listed.
const LISTED: usize = 5;

/// Why a connection ended. Names are those of the JSON contract.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub cause: &'static str,
    pub variant: Option<&'static str>,
    pub culprit: &'static str,
    pub culprit_confidence: u8,
    pub confidence: u8,
    pub band: &'static str,
    pub mechanism: Mechanism,
    pub desync: Option<DesyncView>,
    pub also_considered: Vec<Considered>,
    /// Facts that speak against the cause, in words.
    pub contradictions: Vec<String>,
    pub summary: String,
    pub advice: String,
}

/// Who is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Culprit {
    /// One of the ends.
    End(Direction),
    /// A device on the path.
    Middlebox,
    /// Loss or MTU, no device identifiable.
    Network,
    NetworkOrPeer,
    LocalHostPolicy,
    ThirdParty,
    /// Benign.
    None,
    Unknown,
}

impl Culprit {
    pub fn name(self, history: &History) -> &'static str {
        match self {
            Culprit::End(speaker) => history.role(speaker),
            Culprit::Middlebox => "middlebox",
            Culprit::Network => "network",
            Culprit::NetworkOrPeer => "network_or_peer",
            Culprit::LocalHostPolicy => "local_host_policy",
            Culprit::ThirdParty => "third_party",
            Culprit::None => "none",
            Culprit::Unknown => "unknown",
        }
    }
}

/// What a confidence starts from (DIAGNOSIS 3.4 and 3.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// Packets: what the view lacks counts against it.
    Wire(u8),
    /// Packets, of a kind that always looks incomplete (a leaked packet has no handshake).
    Inherent(u8),
    /// The word of the kernel concerned, which does not depend on what the observer missed.
    Kernel(u8),
}

/// What a cause says about a view.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Its rule is complete. Otherwise it came close, and `decisive` names the fact that is missing.
    pub holds: bool,
    pub variant: Option<&'static str>,
    pub culprit: Culprit,
    pub basis: Basis,
    /// How the RST came to exist, where that is not what its shape says.
    pub mechanism: Option<Mechanism>,
    /// Kernel evidence agrees with the packets.
    pub kernel_agrees: bool,
    /// Independent classes of evidence beyond the first.
    pub further_classes: u8,
    /// Facts that speak against it, in words.
    pub contradictions: Vec<String>,
    /// The rule rests on windows, so it is only as good as their scale.
    pub by_window: bool,
    /// Upper bound of the certainty about who.
    pub culprit_cap: Option<u8>,
    /// Worth naming when another cause wins.
    pub listed: bool,
    pub summary: String,
    pub advice: String,
    /// The fact that would decide for this cause; shown when another one wins.
    pub decisive: String,
    /// Causes without a rule of their own yet that explain the same packets.
    pub rivals: Vec<Considered>,
}

impl Judgement {
    /// A complete rule that blames nobody.
    pub fn new(basis: Basis) -> Judgement {
        Judgement {
            holds: true,
            variant: None,
            culprit: Culprit::None,
            basis,
            mechanism: None,
            kernel_agrees: false,
            further_classes: 0,
            contradictions: Vec::new(),
            by_window: false,
            culprit_cap: None,
            listed: true,
            summary: String::new(),
            advice: String::new(),
            decisive: String::new(),
            rivals: Vec::new(),
        }
    }

    /// A rule of which one fact is missing.
    pub fn near(confidence: u8, missing: impl Into<String>) -> Judgement {
        Judgement { holds: false, decisive: missing.into(), ..Judgement::new(Basis::Wire(confidence)) }
    }
}

/// A cause: its name and its rule. None when the rule does not apply at all.
pub struct Cause {
    pub name: &'static str,
    pub judge: fn(&View) -> Option<Judgement>,
}

/// The verdict on a connection's end.
pub fn diagnose(history: &History) -> Verdict {
    let view = View::new(history);
    if let Some(reset) = &view.reset
        && !reset.effective
    {
        return ineffective::verdict(&view, reset);
    }
    let quiet = view.reset.is_none() && view.desync.is_none();
    if quiet && !view.fell_silent() {
        return nothing(&view);
    }
    let mut judged: Vec<(&'static str, Judgement, u8)> = causes::ALL
        .iter()
        .filter_map(|cause| (cause.judge)(&view).map(|j| (cause.name, j)))
        .map(|(name, j)| {
            let score = confidence::confidence(&view, name, &j);
            (name, j, score)
        })
        .collect();
    let winner = judged.iter().position(|(_, j, score)| j.holds && *score >= NAMED);
    let Some(winner) = winner else {
        if quiet {
            return nothing(&view);
        }
        if let Some(verdict) = without_the_kernels_word(&view) {
            return verdict;
        }
        return unknown::verdict(&view, judged);
    };
    let (cause, j, score) = judged.remove(winner);
    debug_assert!(j.variant.is_none_or(|v| causes::has_variant(cause, v)), "{cause}: {:?}", j.variant);
    let mut also_considered = considered(judged);
    for rival in j.rivals {
        if !also_considered.iter().any(|c| c.cause == rival.cause) {
            also_considered.push(rival);
        }
    }
    also_considered.sort_by_key(|c| std::cmp::Reverse(c.confidence));
    also_considered.truncate(LISTED);
    let cap = match j.culprit {
        Culprit::NetworkOrPeer => Some(j.culprit_cap.unwrap_or(SHARED_BLAME).min(SHARED_BLAME)),
        _ => j.culprit_cap,
    };
    Verdict {
        cause,
        variant: j.variant,
        culprit: j.culprit.name(history),
        culprit_confidence: cap.map_or(score, |cap| cap.min(score)),
        confidence: score,
        band: band(score),
        mechanism: j.mechanism.unwrap_or(view.mechanism()),
        desync: view.desync,
        also_considered,
        contradictions: j.contradictions,
        summary: with_limits(&view, j.summary),
        advice: j.advice,
    }
}

/// The kernel gave a reason, and no cause claims it: what the packets say is still worth more than nothing. A reason that
/// is known speaks against them; one of a later kernel may mean anything.
fn without_the_kernels_word(view: &View) -> Option<Verdict> {
    let (reset, reason) = (view.reset.as_ref()?, view.reason()?);
    let mut history = view.history.clone();
    for fact in history.kernel.iter_mut().filter(|f| f.source == "tcp_send_reset" && f.local == reset.sender) {
        fact.reason = kernel_word::NO_REASON.into();
    }
    let mut verdict = diagnose(&history);
    if verdict.cause == UNKNOWN {
        return None;
    }
    if kernel_word::is_known(reason) {
        verdict.contradictions.push(format!("the kernel of the reset's sender gave another reason, {reason}"));
        verdict.confidence = verdict.confidence.saturating_sub(confidence::CONTRADICTION as u8).max(NAMED);
        verdict.culprit_confidence = verdict.culprit_confidence.min(verdict.confidence);
        verdict.band = band(verdict.confidence);
    } else {
        verdict.summary.push_str(&format!(" (What the kernel's reason {reason} means is not known here.)"));
    }
    Some(verdict)
}

/// The losers, the likeliest first.
fn considered(judged: Vec<(&'static str, Judgement, u8)>) -> Vec<Considered> {
    let mut out: Vec<Considered> = judged
        .into_iter()
        .filter(|(_, j, _)| j.listed)
        .map(|(name, j, score)| Considered { cause: name.into(), confidence: score, why_not: j.decisive })
        .collect();
    out.sort_by_key(|c| std::cmp::Reverse(c.confidence));
    out
}

/// A report without its blind spots would be wrong.
fn with_limits(view: &View, summary: String) -> String {
    let limits = view.limits();
    if limits.is_empty() { summary } else { format!("{summary} (Seen with limits: {}.)", limits.join("; ")) }
}

fn nothing(view: &View) -> Verdict {
    Verdict {
        cause: NOTHING,
        variant: None,
        culprit: Culprit::None.name(view.history),
        culprit_confidence: 99,
        confidence: 99,
        band: band(99),
        mechanism: view.mechanism(),
        desync: None,
        also_considered: Vec::new(),
        contradictions: Vec::new(),
        summary: "Nothing to report: the ends agreed on every byte and nobody reset the connection.".into(),
        advice: String::new(),
    }
}
