//! `status`: the agent on one screen.

use super::human::{bytes, count, counted, duration};
use super::look::{Look, Tone, harmless};
use super::wrap::wrap;
use crate::api::status::StatusReport;
use std::collections::BTreeMap;

const INDENT: &str = "  ";
/// Column where values begin.
const LABEL: usize = 16;

pub fn status(s: &StatusReport, look: &Look) -> String {
    let mut out = String::new();
    let up = duration(s.time_ns.saturating_sub(s.started_ns));
    let title = format!("whyrst {}", harmless(&s.agent_version));
    out.push_str(&format!("{}, up {up} on Linux {}\n", look.paint(Tone::Heading, &title), harmless(&s.kernel)));
    let mut line = |label: &str, text: &str, tone: Option<Tone>| {
        let first = format!("{INDENT}{label:<LABEL$}");
        let text = wrap(text, look.width, &first, &" ".repeat(INDENT.len() + LABEL));
        out.push_str(&tone.map_or(text.clone(), |t| look.paint(t, text.trim_end()) + "\n"));
    };
    for i in &s.interfaces {
        let note = i.note.as_ref().map(|n| format!("; {n}")).unwrap_or_default();
        // On loopback one hook sees both directions.
        let bad = i.ingress == "none" && i.egress == "none";
        let how = format!("ingress {}, egress {}{note}", i.ingress, i.egress);
        line(&harmless(&i.name), &how, bad.then_some(Tone::Bad));
    }
    line("connections", &connections(s), (desynchronised(s) > 0).then_some(Tone::Warn));
    line("table", &table(s), None);
    line("traffic", &traffic(s), None);
    line("resets", &resets(s), None);
    line("findings", &findings(s), None);
    let lost = lost(s);
    line("lost", lost.as_deref().unwrap_or("nothing"), lost.is_some().then_some(Tone::Bad));
    let (attached, absent): (Vec<_>, Vec<_>) = s.tracepoints.iter().partition(|(_, state)| *state == "attached");
    let names: Vec<_> = attached.iter().map(|(name, _)| name.as_str()).collect();
    let names = if names.is_empty() { "none: verdicts rest on packets alone".to_owned() } else { names.join(", ") };
    line("kernel evidence", &names, attached.is_empty().then_some(Tone::Warn));
    for (name, state) in absent {
        line("", &format!("without {name}: {state}"), Some(Tone::Warn));
    }
    if !attached.is_empty() {
        let k = &s.kernel_words;
        let elsewhere = match k.elsewhere {
            0 => String::new(),
            n => format!(
                "; {} of the same addresses in other network namespaces not taken",
                counted(n, "report", "reports")
            ),
        };
        line(
            "",
            &format!(
                "{} of tracked connections dropped by this kernel{elsewhere}",
                counted(k.drops, "segment", "segments")
            ),
            None,
        );
    }
    line("eBPF object", &harmless(&s.object), None);
    for note in &s.notes {
        line("note", note, Some(Tone::Warn));
    }
    out
}

fn connections(s: &StatusReport) -> String {
    let c = &s.connections;
    let total = format!("{} tracked", count(c.by_phase.values().sum()));
    let states = list(&c.by_phase);
    let out = if states.is_empty() { total } else { format!("{total}: {states}") };
    match desynchronised(s) {
        0 => format!("{out}; none desynchronised"),
        n => format!("{out}; {} desynchronised: {}", count(n), list(&c.desynchronised)),
    }
}

fn desynchronised(s: &StatusReport) -> u64 {
    s.connections.desynchronised.values().sum()
}

fn table(s: &StatusReport) -> String {
    let t = &s.table;
    let percent = (t.entries * 100).checked_div(t.capacity).unwrap_or(0);
    format!("{} of {} entries in use ({percent} %), {} of memory", count(t.entries), count(t.capacity), bytes(t.bytes))
}

fn traffic(s: &StatusReport) -> String {
    let t = &s.traffic;
    let way = |packets, segments, payload| {
        format!(
            "{}, {}, {}",
            counted(packets, "packet", "packets"),
            counted(segments, "TCP segment", "TCP segments"),
            bytes(payload)
        )
    };
    format!(
        "received {}; transmitted {}",
        way(t.received_packets, t.received_segments, t.received_bytes),
        way(t.transmitted_packets, t.transmitted_segments, t.transmitted_bytes)
    )
}

fn resets(s: &StatusReport) -> String {
    let f = &s.findings;
    format!(
        "{} effective, {} without effect, as the kernel programs counted them",
        count(f.resets_effective),
        count(f.resets_ineffective)
    )
}

fn findings(s: &StatusReport) -> String {
    let f = &s.findings;
    format!(
        "{}, {} without effect, {} degraded; {} of at most {} held; {}",
        counted(f.resets, "reset", "resets"),
        count(f.ineffective),
        count(f.degraded),
        count(f.held),
        count(f.capacity),
        counted(f.followers, "follower", "followers"),
    )
}

fn lost(s: &StatusReport) -> Option<String> {
    let l = &s.lost;
    // Entries that are done or idle go in the course of business; half-open ones go for others of their kind.
    let half_open = l.evictions.get("half_open").copied().unwrap_or(0);
    let parts = [
        (l.events_ring_buffer, "events for want of room in the ring buffer (--ring-bytes)"),
        (l.events_withheld, "reports of what looks like a flood"),
        (l.events_agent, "events that the agent could not use"),
        (l.evidence, "anomalies for want of room in the evidence table"),
        (l.drop_reasons, "dropped segments whose reason found no room"),
        (l.table_full, "segments for want of room in the table (--max-connections)"),
        (l.table_busy, "segments because their part of the table was busy"),
        (half_open, "half-open connections for want of room in the table (--max-connections)"),
    ];
    let parts: Vec<_> =
        parts.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(n))).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

/// `name count` of those that are not 0.
fn list(counts: &BTreeMap<String, u64>) -> String {
    let parts: Vec<_> =
        counts.iter().filter(|(_, n)| **n > 0).map(|(name, n)| format!("{} {name}", count(*n))).collect();
    parts.join(", ")
}
