//! One finding as a block of three or four lines: the list of `resets` and `analyze`.

use super::human;
use super::look::{Look, Tone, harmless};
use super::words;
use super::wrap::paragraph;
use crate::finding::{Finding, FindingKind};

const INDENT: &str = "    ";

pub fn brief(f: &Finding, look: &Look) -> String {
    let mut out = format!(
        "{}  {}  {} -> {}  {}\n",
        look.paint(Tone::Dim, &look.time(f.time_ns)),
        look.paint(Tone::Heading, &format!("#{}", f.id)),
        f.client,
        f.server,
        look.paint(kind_tone(f), words::kind(f.kind)),
    );
    out.push_str(&format!("{INDENT}{}\n", verdict(f, look)));
    out.push_str(&paragraph(&f.summary, look.width, INDENT));
    if let Some(more) = similar(f) {
        out.push_str(&format!("{INDENT}{}\n", look.paint(Tone::Warn, &more)));
    }
    if let Some(file) = &f.file {
        out.push_str(&format!("{INDENT}{}\n", look.paint(Tone::Dim, &format!("in {}", harmless(file)))));
    }
    out
}

/// `and 4,212 more like this within 950 ms`.
pub fn similar(f: &Finding) -> Option<String> {
    let s = f.similar.filter(|s| s.count > 0)?;
    let span = human::duration(s.last_ns.saturating_sub(s.first_ns.min(f.time_ns)));
    Some(format!("and {} more like this within {span}", human::count(s.count)))
}

/// `cause (variant), culprit server; confidence 82 high`, culprit's own confidence where it is another.
pub fn verdict(f: &Finding, look: &Look) -> String {
    let variant = f.variant.as_ref().map(|v| format!(" ({})", harmless(v))).unwrap_or_default();
    let culprit = match f.culprit.as_str() {
        "none" => "nobody's fault".to_owned(),
        other if f.culprit_confidence == f.confidence => format!("culprit {}", harmless(other)),
        other => format!("culprit {} (confidence {})", harmless(other), f.culprit_confidence),
    };
    format!(
        "{}{variant}, {}; {culprit}",
        look.paint(Tone::Name, &harmless(&f.cause)),
        look.paint(band_tone(&f.band), &format!("confidence {} ({})", f.confidence, harmless(&f.band))),
    )
}

pub fn kind_tone(f: &Finding) -> Tone {
    match f.kind {
        _ if f.culprit == "none" => Tone::Good,
        FindingKind::Reset => Tone::Bad,
        FindingKind::Degraded => Tone::Warn,
        FindingKind::RstIneffective => Tone::Dim,
    }
}

fn band_tone(band: &str) -> Tone {
    match band {
        "certain" | "high" => Tone::Good,
        "medium" => Tone::Warn,
        _ => Tone::Dim,
    }
}
