//! One finding as a story: the verdict, what happened, the chain of evidence, the reset itself, what else was
//! considered, what could not be seen, what to check next.

use super::brief::{kind_tone, verdict};
use super::human;
use super::look::{Look, Tone, harmless};
use super::words;
use super::wrap::{paragraph, wrap};
use crate::finding::{Desync, Finding, FindingKind, Kernel, KernelDrop, Reset};

const INDENT: &str = "  ";
const BULLET: &str = "  - ";
const HANGING: &str = "    ";

pub fn story(f: &Finding, look: &Look) -> String {
    let mut out = headline(f, look);
    section(&mut out, look, "What happened", &what_happened(f, look));
    let end = if f.kind == FindingKind::Degraded { "times from the end" } else { "times from the reset" };
    section(&mut out, look, &format!("Evidence ({end})"), &evidence(f, look));
    if let Some(reset) = &f.reset {
        section(&mut out, look, "The reset", &the_reset(f, reset, look));
    } else if let Some(k) = &f.kernel {
        let body: String = the_kernel(k).iter().map(|l| paragraph(l, look.width, INDENT)).collect();
        section(&mut out, look, "The local kernel", &body);
    }
    section(&mut out, look, "What speaks against it", &bullets(&f.contradictions, look));
    section(&mut out, look, "Also considered", &considered(f, look));
    section(&mut out, look, "What could not be seen", &limits(f, look));
    section(&mut out, look, "Check next", &paragraph(&f.advice, look.width, INDENT));
    out
}

fn section(out: &mut String, look: &Look, title: &str, body: &str) {
    if !body.trim().is_empty() {
        out.push_str(&format!("\n{}\n{body}", look.paint(Tone::Heading, title)));
    }
}

fn headline(f: &Finding, look: &Look) -> String {
    let mut out = format!(
        "{}  {} -> {}  {}\n",
        look.paint(Tone::Heading, &format!("Finding {}", f.id)),
        f.client,
        f.server,
        look.paint(kind_tone(f), words::kind(f.kind)),
    );
    let place = f.file.as_ref().map(|file| format!(", in {}", harmless(file))).unwrap_or_default();
    let when = format!("{}{place}, community id {}", look.time(f.time_ns), harmless(&f.community_id));
    let when = paragraph(&when, look.width, "");
    out.push_str(&format!("{}\n\n", look.paint(Tone::Dim, when.trim_end())));
    out.push_str(&paragraph(&f.summary, look.width, INDENT));
    out.push_str(&format!("\n{INDENT}{}\n", verdict(f, look)));
    out
}

fn what_happened(f: &Finding, look: &Look) -> String {
    let v = &f.volume;
    let end = match f.kind {
        FindingKind::Reset => "was reset",
        FindingKind::RstIneffective => "was sent a RST that changed nothing",
        FindingKind::Degraded if f.desync.is_some() => "was desynchronised and not reset",
        FindingKind::Degraded => "was degraded and not reset",
    };
    let sent = |bytes, segments: u32| {
        format!("{} in {}", human::bytes(bytes), human::counted(segments.into(), "segment", "segments"))
    };
    let mut text = format!(
        "The connection {end} {}, {} after its first segment. The client had sent {}, the server {}.",
        words::phase(&f.phase),
        human::duration(v.duration_ns),
        sent(v.client_bytes, v.client_segments),
        sent(v.server_bytes, v.server_segments),
    );
    if let Some(d) = &f.desync {
        text.push_str(&format!(" {}", divergence(d)));
    }
    let mut out = paragraph(&text, look.width, INDENT);
    let culprit = match f.culprit.as_str() {
        "none" => "Culprit: nobody; this is normal.".to_owned(),
        name => format!("Culprit: {} (confidence {}).", words::culprit(name), f.culprit_confidence),
    };
    out.push_str(&paragraph(&culprit, look.width, INDENT));
    out
}

fn divergence(d: &Desync) -> String {
    let meaning = words::desync(&d.kind).map(|w| format!(" ({w})")).unwrap_or_default();
    format!(
        "In the direction {}, the numbers diverged {} before the end, kind {}{meaning}: expected {}, was {}, {} apart.",
        words::direction(&d.direction),
        human::duration(d.lead_ns),
        d.kind,
        d.expected,
        d.actual,
        human::counted(d.distance_bytes.unsigned_abs(), "byte", "bytes"),
    )
}

/// Two columns of who and when, then what, the words hanging below each other.
fn evidence(f: &Finding, look: &Look) -> String {
    let times: Vec<String> = f.evidence.iter().map(|e| human::relative(e.time_ns, f.time_ns)).collect();
    let width = times.iter().map(|t| t.chars().count()).max().unwrap_or(0);
    let mut out = String::new();
    for (line, time) in f.evidence.iter().zip(&times) {
        let padding = " ".repeat(width - time.chars().count());
        let what = match line.what.as_str() {
            // These say nothing that the words do not.
            "reset" | "segment" | "kernel" | "progress" | "desync" => Tone::Dim,
            _ => Tone::Warn,
        };
        out.push_str(&format!(
            "{INDENT}{padding}{}  {}  {}\n",
            look.paint(Tone::Heading, time),
            words::direction(&harmless(&line.direction)),
            look.paint(what, &harmless(&line.what)),
        ));
        let hanging = format!("{INDENT}{}  ", " ".repeat(width));
        out.push_str(&paragraph(&line.text, look.width, &hanging));
    }
    let echoes = u64::from(f.echoes);
    if echoes > 0 {
        let more = human::counted(echoes, "further reset", "further resets");
        out.push_str(&paragraph(&format!("{more} of this connection repeated it or answered it."), look.width, INDENT));
    }
    out
}

fn the_reset(f: &Finding, r: &Reset, look: &Look) -> String {
    let shape = words::shape(&r.shape).map(|w| format!(": {w}")).unwrap_or_default();
    let from = if r.sender == "client" { f.client } else { f.server };
    let sent = format!(
        "It carries the address of the {} ({from}): {}, sequence number {}, acknowledgement {}; shape {}{shape}.",
        r.sender, r.flags, r.seq, r.ack, r.shape
    );
    let made = match words::mechanism(&f.mechanism) {
        Some(words) => format!("How it came to exist: {words} ({}).", f.mechanism),
        None => format!("How it came to exist: {}.", f.mechanism),
    };
    let mut lines = vec![sent, made];
    if let Some(words) = words::effect(&r.effect) {
        lines.push(format!("Effect: {words}."));
    }
    lines.extend(f.kernel.iter().flat_map(the_kernel));
    lines.iter().map(|l| paragraph(l, look.width, INDENT)).collect()
}

/// What the local kernel said, a sentence each.
fn the_kernel(k: &Kernel) -> Vec<String> {
    let process = match (&k.command, k.pid) {
        (Some(command), Some(pid)) => format!(", in process {command} ({pid})"),
        (Some(command), None) => format!(", in process {command}"),
        (None, Some(pid)) => format!(", in process {pid}"),
        (None, None) => String::new(),
    };
    let said = match k.reason.as_str() {
        reason if k.source == "kfree_skb" => format!("The local kernel dropped segments: {reason}"),
        // Older kernels, and tracepoints that carry no reason.
        "none" => "The local kernel reported it, without a reason".to_owned(),
        reason => format!("The local kernel's reason: {reason}"),
    };
    let cookie = k.cookie.map(|c| format!(", socket cookie {c}")).unwrap_or_default();
    let place = format!("tracepoint {}{process}, network namespace {}{cookie}", k.source, k.netns);
    [Some(format!("{said} ({place}).")), owner(k), drops(k)].into_iter().flatten().collect()
}

/// Unit, container and cgroup.
fn owner(k: &Kernel) -> Option<String> {
    let parts = [("systemd unit", &k.unit), ("container", &k.container), ("cgroup", &k.cgroup)];
    let parts: Vec<_> =
        parts.iter().filter_map(|(what, name)| Some(format!("{what} {}", harmless(name.as_ref()?)))).collect();
    let whose = if k.pid.is_some() { "That process' " } else { "That socket's " };
    (!parts.is_empty()).then(|| format!("{whose}{}.", parts.join(", ")))
}

fn drops(k: &Kernel) -> Option<String> {
    let of = |d: &KernelDrop| {
        let segments = human::counted(d.count.into(), "segment", "segments");
        format!("{} ({segments} {})", harmless(&d.reason), words::direction(&d.direction))
    };
    let all: Vec<_> = k.drops.iter().map(of).collect();
    (!all.is_empty()).then(|| format!("What the local kernel dropped of this connection: {}.", all.join(", ")))
}

fn considered(f: &Finding, look: &Look) -> String {
    let line = |c: &crate::finding::Considered| {
        wrap(&format!("{} (confidence {}): {}", c.cause, c.confidence, c.why_not), look.width, BULLET, HANGING)
    };
    f.also_considered.iter().map(line).collect()
}

fn bullets(lines: &[String], look: &Look) -> String {
    lines.iter().map(|l| wrap(l, look.width, BULLET, HANGING)).collect()
}

fn limits(f: &Finding, look: &Look) -> String {
    let unheard = f.kernel.is_none().then_some(f.kernel_evidence.as_str()).filter(|words| !words.is_empty());
    words::limits(f).into_iter().chain(unheard).map(|l| wrap(l, look.width, BULLET, HANGING)).collect()
}
