//! `whyrst doctor`: from the facts of a [`Probe`] to what they mean for the agent.

use super::Output;
use super::output::Out;
use crate::capture::ingress::Way;
use crate::capture::loader::Sizes;
use crate::capture::probe::{Interface, Probe, Support, probe};
use crate::config::defaults;
use crate::error::{Exit, Failure};
use crate::expose::text::look::Tone;
use crate::expose::text::wrap::wrap;
use crate::expose::text::{Look, human};
use crate::finding::VERSION;
use serde::Serialize;

/// What is known and what it means. The object of `doctor --output json`.
#[derive(Debug, Serialize)]
pub struct Report {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub version: u32,
    /// `whyrst run` would work.
    pub ready: bool,
    pub kernel: String,
    pub checks: Vec<Check>,
    pub interfaces: Vec<Plan>,
    /// Kernel memory of the tables and the ring buffer with the default settings.
    pub memory_bytes: u64,
}

#[derive(Debug, Serialize)]
pub struct Check {
    pub name: &'static str,
    pub state: State,
    pub found: String,
    /// What follows for the agent, and what to do about it; empty where nothing does.
    pub means: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ok,
    /// Works with less.
    Limited,
    /// Does not work.
    Missing,
    Unknown,
}

/// What would be tried on an interface. Native XDP cannot be asked for without attaching.
#[derive(Debug, Serialize)]
pub struct Plan {
    pub name: String,
    /// `--all` takes it.
    pub all: bool,
    pub ingress: String,
    pub egress: String,
    pub note: String,
}

pub fn run(output: Output) -> Result<Exit, Failure> {
    let report = report(&probe());
    let mut out = Out::default();
    match output {
        Output::Json => out.json(&report)?,
        Output::Text => out.text(&text(&report, &Look::of_stdout()))?,
    }
    out.flush()?;
    Ok(Exit::Done)
}

pub fn report(p: &Probe) -> Report {
    let checks = vec![
        capabilities(p),
        kernel(p),
        programs(p),
        ring_buffer(p),
        btf(p),
        jit(p),
        frags(p),
        traffic_control(p),
        tracepoints(p),
        reset_reasons(p),
        drop_reasons(p),
        cgroups(p),
        lockdown(p),
        memlock(p),
        statistics(p),
    ];
    Report {
        kind: "doctor",
        version: VERSION,
        ready: checks.iter().all(|c| c.state != State::Missing),
        kernel: p.kernel.clone(),
        checks,
        interfaces: p.interfaces.iter().map(|i| plan(i, p)).collect(),
        memory_bytes: memory_bytes(),
    }
}

/// Of the tables and the ring buffer with the default settings.
fn memory_bytes() -> u64 {
    Sizes { connections: defaults::MAX_CONNECTIONS, ring_bytes: defaults::RING_BYTES }.bytes()
}

fn check(name: &'static str, state: State, found: impl Into<String>, means: impl Into<String>) -> Check {
    Check { name, state, found: found.into(), means: means.into() }
}

fn capabilities(p: &Probe) -> Check {
    let has = |name: &str| p.capabilities.iter().any(|(n, has)| *n == name && *has);
    let lacks = |name: &str| !has(name) && (name == "CAP_NET_ADMIN" || !has("CAP_SYS_ADMIN"));
    let missing: Vec<_> = ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"].into_iter().filter(|n| lacks(n)).collect();
    if !missing.is_empty() {
        let found = format!("lacks {}", missing.join(", "));
        return check(
            "capabilities",
            State::Missing,
            found,
            "`whyrst run` needs them: run it as root, or give it these three. `whyrst analyze` needs none.",
        );
    }
    if p.initial_user_namespace == Some(false) {
        return check(
            "capabilities",
            State::Missing,
            "all, but of a user namespace",
            "BPF asks for capabilities of the host: run it outside of this container, or with its host's user namespace.",
        );
    }
    check("capabilities", State::Ok, "CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON", "")
}

fn kernel(p: &Probe) -> Check {
    match p.kernel_version {
        Some(v) if v < (5, 10) => check("kernel", State::Missing, &p.kernel, "5.10 is the oldest supported."),
        Some(_) => check("kernel", State::Ok, &p.kernel, ""),
        None => check("kernel", State::Unknown, &p.kernel, "5.10 is the oldest supported."),
    }
}

/// Tracing programs are not tried: aya's probe asks for fentry, which kernels without ftrace refuse while the
/// tracepoints of [`tracepoints`] work.
fn programs(p: &Probe) -> Check {
    let each = [("XDP", &p.xdp), ("TC", &p.tc)];
    let refused: Vec<_> = each.iter().filter(|(_, s)| **s == Support::No).map(|(name, _)| *name).collect();
    if !refused.is_empty() {
        let found = format!("refused: {}", refused.join(", "));
        return check("BPF programs", State::Missing, found, "This kernel was built without them, or forbids them.");
    }
    match each.iter().find_map(|(name, s)| if let Support::Unknown(why) = s { Some((name, why)) } else { None }) {
        None => check("BPF programs", State::Ok, "XDP, TC", ""),
        Some((name, why)) => {
            let found = format!("{name} could not be tried: {why}");
            check("BPF programs", State::Unknown, found, untried_means(p))
        }
    }
}

fn untried_means(p: &Probe) -> String {
    if capabilities(p).state != State::Missing {
        return "A security module or a sandbox may forbid it; then `whyrst run` cannot work.".into();
    }
    let disabled = p.unprivileged_bpf_disabled.is_some_and(|n| n > 0);
    let hint = if disabled { " Unprivileged BPF is switched off, as it should be." } else { "" };
    format!("Run `whyrst doctor` with these capabilities to know.{hint}")
}

fn ring_buffer(p: &Probe) -> Check {
    match &p.ring_buffer {
        Support::Yes => check("ring buffer", State::Ok, "supported", ""),
        Support::No => {
            check("ring buffer", State::Missing, "not supported", "Events need it; kernels from 5.8 have it.")
        }
        Support::Unknown(why) => check("ring buffer", State::Unknown, format!("could not be tried: {why}"), ""),
    }
}

fn btf(p: &Probe) -> Check {
    match p.btf.bytes {
        Some(n) => check("BTF", State::Ok, format!("/sys/kernel/btf/vmlinux, {}", human::bytes(n)), ""),
        None => check(
            "BTF",
            State::Limited,
            "no /sys/kernel/btf/vmlinux",
            "No tracepoints, so no reasons of the local kernel. Distribution kernels have it (CONFIG_DEBUG_INFO_BTF).",
        ),
    }
}

fn jit(p: &Probe) -> Check {
    match p.jit {
        Some(0) => check(
            "JIT",
            State::Limited,
            "off",
            "Programs are interpreted, some ten times slower: sysctl net.core.bpf_jit_enable=1.",
        ),
        Some(n) => check("JIT", State::Ok, format!("on (net.core.bpf_jit_enable = {n})"), ""),
        None => check(
            "JIT",
            State::Unknown,
            "net.core.bpf_jit_enable cannot be read",
            "Most kernels have it always on; elsewhere, look as root.",
        ),
    }
}

fn frags(p: &Probe) -> Check {
    if p.btf.bytes.is_none() {
        return check("XDP, large packets", State::Unknown, "not known without BTF", "");
    }
    if p.btf.xdp_frags {
        check("XDP, large packets", State::Ok, "supported", "")
    } else {
        check(
            "XDP, large packets",
            State::Limited,
            "not supported",
            "Native XDP is refused on interfaces with an MTU above about 3,500; TC ingress is used there. Kernels from 5.18 have it.",
        )
    }
}

/// The hook for egress, and for ingress where native XDP would cost too much.
fn traffic_control(p: &Probe) -> Check {
    if p.btf.tcx {
        return check("traffic control", State::Ok, "tcx", "");
    }
    let by_version = p.kernel_version.is_some_and(|v| v >= (6, 6));
    if p.btf.bytes.is_none() && by_version {
        return check(
            "traffic control",
            State::Unknown,
            "tcx by its version",
            "Without BTF it shows at attaching only; clsact is the fallback.",
        );
    }
    check(
        "traffic control",
        State::Limited,
        "clsact",
        "A killed agent (SIGKILL) leaves its filters behind; the next start removes them. Kernels from 6.6 have tcx, which goes with the agent.",
    )
}

fn tracepoints(p: &Probe) -> Check {
    let (there, absent): (Vec<_>, Vec<_>) = p.btf.tracepoints.iter().partition(|(_, has)| *has);
    let names = |list: &[&(&'static str, bool)]| list.iter().map(|(n, _)| *n).collect::<Vec<_>>().join(", ");
    if there.is_empty() {
        return check(
            "tracepoints",
            State::Limited,
            "none in BTF",
            "No reasons of the local kernel; verdicts rest on packets alone.",
        );
    }
    if absent.is_empty() {
        return check("tracepoints", State::Ok, names(&there), "");
    }
    check("tracepoints", State::Limited, names(&there), format!("Not in this kernel: {}.", names(&absent)))
}

fn reset_reasons(p: &Probe) -> Check {
    match (p.btf.reset_reasons, p.btf.active_reset_reasons) {
        (true, true) => check("reset reasons", State::Ok, "sk_rst_reason, with those of closes", ""),
        (true, false) => check(
            "reset reasons",
            State::Limited,
            "sk_rst_reason, without those of closes",
            "Why an application's close sent a reset is inferred. Kernels from 6.12 say it.",
        ),
        _ => check(
            "reset reasons",
            State::Limited,
            "none",
            "That a local socket sent a reset is known, its reason is inferred. Kernels from 6.10 say it.",
        ),
    }
}

fn drop_reasons(p: &Probe) -> Check {
    if p.btf.drop_reasons {
        return check("drop reasons", State::Ok, "skb_drop_reason", "");
    }
    check(
        "drop reasons",
        State::Limited,
        "none",
        "Why this host's kernel did not take a segment (a packet filter, a wrong number, an old timestamp) is inferred. Kernels from 5.17 say it.",
    )
}

fn cgroups(p: &Probe) -> Check {
    if !p.cgroups.mounted {
        return check(
            "cgroups",
            State::Limited,
            "no cgroup v2 file system",
            "Processes are named, their containers and units are not.",
        );
    }
    check(
        "cgroups",
        State::Ok,
        format!("{} visible", human::counted(p.cgroups.visible as u64, "cgroup", "cgroups")),
        "Containers and units of sockets in this network namespace are named, as far as their cgroups are visible here; in a container, mount the host's /sys/fs/cgroup.",
    )
}

fn lockdown(p: &Probe) -> Check {
    match p.lockdown.as_deref() {
        Some("confidentiality") => check(
            "lockdown",
            State::Limited,
            "confidentiality",
            "Reading kernel memory is forbidden: less evidence from the local kernel.",
        ),
        Some(mode) => check("lockdown", State::Ok, mode, ""),
        None => check("lockdown", State::Ok, "not known (securityfs is not mounted); usually none", ""),
    }
}

fn memlock(p: &Probe) -> Check {
    let needed = memory_bytes();
    let accounted = p.kernel_version.is_some_and(|v| v < (5, 11));
    match p.memlock_bytes {
        _ if !accounted => check("locked memory", State::Ok, "not limited for BPF", ""),
        None => check("locked memory", State::Ok, "unlimited", ""),
        Some(n) if n >= needed => check("locked memory", State::Ok, human::bytes(n), ""),
        Some(n) => check(
            "locked memory",
            State::Limited,
            human::bytes(n),
            format!(
                "Before 5.11 tables count against it, and {} are needed: ulimit -l unlimited, or LimitMEMLOCK=infinity in a unit.",
                human::bytes(needed)
            ),
        ),
    }
}

fn statistics(p: &Probe) -> Check {
    match p.bpf_stats_enabled {
        Some(true) => check("BPF statistics", State::Ok, "on", ""),
        Some(false) => check(
            "BPF statistics",
            State::Ok,
            "off",
            "The programs' own run time is not in the metrics: sysctl kernel.bpf_stats_enabled=1 (costs some ns a packet).",
        ),
        None => check("BPF statistics", State::Unknown, "cannot be read", ""),
    }
}

fn plan(i: &Interface, p: &Probe) -> Plan {
    let tc = if p.btf.tcx { "tcx" } else { "clsact" };
    let ways = i.choice.ways.iter().map(|w| if *w == Way::Tc { tc } else { w.name() });
    let ingress = if i.ethernet { ways.collect::<Vec<_>>().join(", else ") } else { "none".into() };
    let egress = if i.ethernet && !i.loopback { tc } else { "none" };
    let remarks = [
        (!i.ethernet).then(|| "its frames have no Ethernet header".to_owned()),
        i.ethernet.then(|| i.choice.why.clone()).flatten(),
        i.loopback.then(|| "ingress sees both directions".to_owned()),
        i.enslaved.then(|| "part of a bridge or bond, whose own interface sees its packets, too".to_owned()),
        i.driver.as_ref().map(|d| format!("driver {d}")),
        i.mtu.map(|mtu| format!("MTU {mtu}")),
        (!i.up).then(|| "down".to_owned()),
    ];
    Plan {
        name: i.name.clone(),
        all: i.up && i.ethernet && !i.enslaved && !i.loopback,
        ingress,
        egress: egress.into(),
        note: remarks.into_iter().flatten().collect::<Vec<_>>().join(", "),
    }
}

const INDENT: &str = "  ";
/// Column where what was found begins.
const LABEL: usize = 30;

fn text(r: &Report, look: &Look) -> String {
    let mut out = format!("{}\n", look.paint(Tone::Heading, "This kernel and these privileges"));
    for c in &r.checks {
        let (word, tone) = match c.state {
            State::Ok => ("ok", Tone::Good),
            State::Limited => ("less", Tone::Warn),
            State::Missing => ("missing", Tone::Bad),
            State::Unknown => ("unknown", Tone::Dim),
        };
        let label =
            format!("{INDENT}{}{:<width$}", look.paint(tone, &format!("{word:<8}")), c.name, width = LABEL - 10);
        let hanging = " ".repeat(LABEL);
        // The label holds escapes, which must not count as columns.
        let found = wrap(&c.found, look.width, &hanging, &hanging);
        out.push_str(&label);
        out.push_str(&found[LABEL.min(found.len())..]);
        if !c.means.is_empty() {
            out.push_str(&wrap(&c.means, look.width, &hanging, &hanging));
        }
    }
    out.push_str(&format!(
        "\n{}\n",
        look.paint(Tone::Heading, "What would be tried on each interface (native XDP shows at attaching only)")
    ));
    let name_width = r.interfaces.iter().map(|i| i.name.len()).max().unwrap_or(0);
    for i in &r.interfaces {
        let how = match (i.ingress.as_str(), i.egress.as_str()) {
            ("none", _) => "cannot be watched".to_owned(),
            (ingress, "none") => format!("ingress {ingress}"),
            (ingress, egress) => format!("ingress {ingress}; egress {egress}"),
        };
        let all = if i.all { "" } else { "; not taken by --all" };
        let note = if i.note.is_empty() { String::new() } else { format!(" ({})", i.note) };
        let first = format!("{INDENT}{:<name_width$}  ", i.name);
        out.push_str(&wrap(&format!("{how}{note}{all}"), look.width, &first, &" ".repeat(first.len())));
    }
    let memory = format!(
        "Kernel memory with the default settings ({} connections, {} of ring buffer): {}.",
        human::count(defaults::MAX_CONNECTIONS.into()),
        human::bytes(defaults::RING_BYTES.into()),
        human::bytes(r.memory_bytes)
    );
    out.push_str(&format!("\n{}", wrap(&memory, look.width, "", "")));
    let (verdict, tone) = if r.ready {
        ("`whyrst run -i IFACE` should work here.", Tone::Good)
    } else {
        ("`whyrst run` cannot work here; see what is missing above. `whyrst analyze FILE` can.", Tone::Bad)
    };
    out.push_str(&format!("{}\n", look.paint(tone, verdict)));
    out
}
