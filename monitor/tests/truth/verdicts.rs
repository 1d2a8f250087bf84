//! What `analyze` says of a capture, without what may differ between two tellings of the same story.

use monitor::capture::replay::{Output, ReplayOptions, Summary, analyze};
use monitor::finding::Finding;
use std::path::Path;

/// The findings of a capture, in its order.
pub fn findings(path: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut sink = |output| {
        if let Output::Finding(finding) = output {
            found.push(*finding);
        }
        Ok(())
    };
    // Damaged files give what is before the damage.
    let _damage = analyze(path, ReplayOptions::default(), &mut Summary::default(), &mut sink, &mut |_| {});
    found
}

/// Kind, ports, cause, variant, culprit, and kind, direction and distance of a desynchronisation, in order of their text.
pub fn of(path: &Path) -> Vec<String> {
    let mut lines: Vec<String> = findings(path).iter().map(line).collect();
    lines.sort();
    lines
}

pub fn line(f: &Finding) -> String {
    let variant = f.variant.as_deref().unwrap_or("-");
    let desync = f.desync.as_ref().map(|d| format!(", {} {} {}", d.kind, d.direction, d.distance_bytes));
    format!(
        "{:?} {} {}: {} {variant}, {}{}",
        f.kind,
        f.client.port,
        f.server.port,
        f.cause,
        f.culprit,
        desync.unwrap_or_default()
    )
}
