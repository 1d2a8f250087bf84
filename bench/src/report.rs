//! All figures, and the tables that show them.

use crate::budgets::{self, Verdict};
use crate::harm::with::With;
use crate::offline::FileFigures;
use crate::packets::{EventFigures, Figures};
use crate::player::Hook;
use crate::programs::Size;
use crate::statistics::Spread;
use serde::Serialize;
use std::fmt::Write as _;

#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    pub machine: Machine,
    pub packets: Vec<Figures>,
    pub events: Vec<EventFigures>,
    pub programs: Vec<Size>,
    pub reading: Option<crate::agent::Reading>,
    pub files: Vec<FileFigures>,
    pub agent: Option<crate::process::Running>,
    pub bulk: Vec<crate::harm::veth::Bulk>,
    pub turns: Vec<crate::harm::turns::Turns>,
    pub in_place: Vec<crate::harm::in_place::InPlace>,
    pub routed: Vec<crate::harm::routed::Routed>,
    pub judged: Vec<Judged>,
    /// What was left out, and why.
    pub left_out: Vec<String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct Machine {
    pub cpu: String,
    pub cpus: usize,
    pub kernel: String,
    /// CPUs that others kept busy meanwhile.
    pub other_load: f64,
}

/// One figure against its budget.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    pub row: String,
    pub hook: Option<Hook>,
    pub value: f64,
    pub at_most: f64,
    pub aim: Option<f64>,
    pub verdict: Verdict,
    /// What is known to stand in the way, if it is over.
    pub obstacle: Option<&'static str>,
}

/// Columns of a bulk transfer.
const STREAM: [&str; 8] =
    ["way", "with", "Gbit/s", "CPU ns per kB", "to no program", "to empty programs", "lost at most", "verdict"];

/// A difference this small cannot be told: the kernel's own figures are whole nanoseconds.
const RESOLUTION_NS: f64 = 1.0;

impl Report {
    /// Judges every figure that has a budget.
    pub fn judge(&mut self) {
        let mut judged = Vec::new();
        let mut judge = |row: &str, hook, value| {
            if let Some(b) = budgets::of(row) {
                let verdict = b.judge(value);
                let obstacle = (verdict == Verdict::Over).then(|| budgets::obstacle(row)).flatten();
                let (row, at_most, aim) = (row.to_string(), b.at_most, b.aim);
                judged.push(Judged { row, hook, value, at_most, aim, verdict, obstacle });
            }
        };
        for f in &self.packets {
            // Where the floor itself is a nanosecond or two, the resolution decides.
            let slack = if f.floor.median < 10.0 { RESOLUTION_NS / f.floor.median.max(RESOLUTION_NS) } else { 0.0 };
            judge(f.row, Some(f.hook), f.ratio.median - slack);
        }
        for f in &self.events {
            judge(f.row, Some(f.hook), f.ratio.median);
        }
        for f in &self.files {
            for tool in &f.tools {
                let Some(ratio) = tool.ratio else { continue };
                match tool.tool {
                    "tcptrace" => judge(f.row, None, ratio.median),
                    "tshark" => judge(&format!("{}-tshark", f.row), None, ratio.median),
                    _ => {}
                }
            }
            judge(&format!("{}-memory", f.row), None, f.whyrst_kib_per_connection);
        }
        // By the finer of the two measurements.
        let turns = self.turns.iter().filter(|f| f.with == With::Whyrst.name());
        let runs = self.bulk.iter().filter(|f| f.with == With::Whyrst.name() && self.turns.is_empty());
        let turns = turns.map(|f| (f.into, f.to_none.mean, f.to_empty.mean));
        for (into, to_none, to_empty) in turns.chain(runs.map(|f| (f.into, f.to_none.median, f.to_empty.median))) {
            let way = if into { "in" } else { "out" };
            judge(&format!("veth-{way}"), None, 1.0 - to_none);
            judge(&format!("veth-{way}-to-empty"), None, 1.0 - to_empty);
        }
        for f in self.routed.iter().filter(|f| f.with.contains("native XDP")) {
            judge(&format!("routed-{}", f.connections), None, f.to_conntrack);
        }
        self.judged = judged;
    }

    pub fn is_within_budget(&self) -> bool {
        self.judged.iter().all(|j| j.verdict != Verdict::Over)
    }

    /// A line for each figure that is over its budget.
    fn over(&self) -> Vec<String> {
        let over = self.judged.iter().filter(|j| j.verdict == Verdict::Over);
        over.map(|j| {
            let hook = j.hook.map_or(String::new(), |h| format!(", {}", h.name()));
            let why = j.obstacle.unwrap_or("nothing is known that stands in the way: what has risen?");
            format!("{}{hook}: {:.2} instead of {}; {why}", j.row, j.value, j.at_most)
        })
        .collect()
    }

    fn verdict(&self, row: &str, hook: Option<Hook>) -> (String, String) {
        match self.judged.iter().find(|j| j.row == row && j.hook == hook) {
            Some(j) => {
                let aim = j.aim.map_or(String::new(), |aim| format!(", aim {aim}"));
                (format!("{}{aim}", j.at_most), j.verdict.words().to_string())
            }
            None => (String::new(), String::new()),
        }
    }

    pub fn tables(&self) -> Vec<Table> {
        let mut tables = Vec::new();
        let mut packets = Table::new(
            "Nanoseconds per packet, net of an empty program (least / median / most of all rounds)",
            &[
                "what is played",
                "hook",
                "floor",
                "whyrst",
                "ratio",
                "at most",
                "verdict",
                "floor with last headers",
                "ratio to it",
            ],
        );
        for f in &self.packets {
            let (budget, verdict) = self.verdict(f.row, Some(f.hook));
            packets.rows.push(vec![
                f.row.into(),
                f.hook.name().into(),
                spread(&f.floor, 0),
                spread(&f.agent, 0),
                format!("**{:.2}** ({:.2}-{:.2})", f.ratio.median, f.ratio.min, f.ratio.max),
                budget,
                verdict,
                f.recorded.map_or(String::new(), |[_, floor]| spread(&floor, 0)),
                f.recorded.map_or(String::new(), |[ratio, _]| {
                    format!("{:.2} ({:.2}-{:.2})", ratio.median, ratio.min, ratio.max)
                }),
            ]);
        }
        tables.push(packets);
        let mut events = Table::new(
            "A packet with an event: nanoseconds net of an empty program, and what the event adds in floors",
            &[
                "event",
                "hook",
                "floor",
                "without",
                "with",
                "added",
                "an empty entry adds",
                "one as long adds",
                "at most",
                "verdict",
            ],
        );
        for f in &self.events {
            let (budget, verdict) = self.verdict(f.row, Some(f.hook));
            events.rows.push(vec![
                f.row.into(),
                f.hook.name().into(),
                spread(&f.floor, 0),
                spread(&f.quiet, 0),
                spread(&f.event, 0),
                format!("**{:.2}**", f.ratio.median),
                format!("{:.2}", f.least.median),
                format!("{:.2}", f.as_long.median),
                budget,
                verdict,
            ]);
        }
        tables.push(events);
        let mut programs = Table::new(
            "Programs, as this kernel's verifier sees them",
            &["program", "instructions verified", "stack, bytes"],
        );
        for p in &self.programs {
            programs.rows.push(vec![p.program.clone(), p.verified.to_string(), p.stack.clone()]);
        }
        tables.push(programs);
        let mut files = Table::new(
            "Captures: CPU seconds of the whole process",
            &["file", "tool", "seconds", "packets/s", "whyrst's time", "memory", "at most", "verdict"],
        );
        for f in &self.files {
            for tool in &f.tools {
                let Some(seconds) = tool.seconds else {
                    files.rows.push(vec![
                        f.row.into(),
                        tool.tool.into(),
                        "not installed (`cargo xtask setup --for bench`)".into(),
                    ]);
                    continue;
                };
                let (budget, verdict) = match tool.tool {
                    "tcptrace" => self.verdict(f.row, None),
                    "tshark" => self.verdict(&format!("{}-tshark", f.row), None),
                    _ => self.verdict(&format!("{}-memory", f.row), None),
                };
                let ratio = tool.ratio.filter(|_| tool.tool != "whyrst");
                files.rows.push(vec![
                    format!("{} ({} packets, {} connections)", f.row, f.packets, f.connections),
                    tool.tool.into(),
                    spread(&seconds, 2),
                    format!("{:.2} M", f.packets as f64 / seconds.median / 1e6),
                    ratio.map_or(String::new(), |r| format!("**{:.2}** of it", r.median)),
                    match tool.tool {
                        "whyrst" => format!(
                            "{} MiB, {:.2} KiB per connection",
                            tool.memory_kib >> 10,
                            f.whyrst_kib_per_connection
                        ),
                        _ => format!("{} MiB", tool.memory_kib >> 10),
                    },
                    if tool.tool == "whyrst" && !budget.is_empty() { format!("{budget} KiB") } else { budget },
                    verdict,
                ]);
            }
        }
        tables.push(files);
        let mut agent = Table::new("The agent", &["what", "figure"]);
        if let Some(r) = &self.reading {
            agent.rows.push(vec![
                "events taken out of the ring buffer, one thread".into(),
                format!("{:.1} M/s of {} bytes", r.per_second.median / 1e6, r.bytes),
            ]);
        }
        if let Some(r) = &self.agent {
            agent.rows.extend(r.rows());
        }
        tables.push(agent);
        let mut bulk =
            Table::new("One stream over a veth pair, the agent off and on: throughput, and CPU of both ends", &STREAM);
        for f in &self.bulk {
            let judged = f.with == With::Whyrst.name() && self.turns.is_empty();
            let (budget, verdict) = if judged { self.stream(f.into) } else { Default::default() };
            bulk.rows.push(vec![
                way(f.into),
                f.with.into(),
                spread(&f.gbit_per_second, 1),
                spread(&f.cpu_ns_per_kb, 0),
                format!("**{:.3}** ({:.2}-{:.2})", f.to_none.median, f.to_none.min, f.to_none.max),
                format!("**{:.3}** ({:.2}-{:.2})", f.to_empty.median, f.to_empty.min, f.to_empty.max),
                budget,
                verdict,
            ]);
        }
        tables.push(bulk);
        let mut turns = Table::new(
            "Such streams, one of each configuration (whyrst: its programs) that move 4 MiB each, by turns: means, and how far the true one \
             may be from them (95 of 100 cases)",
            &STREAM,
        );
        for f in &self.turns {
            let judged = f.with == With::Whyrst.name();
            let (budget, verdict) = if judged { self.stream(f.into) } else { Default::default() };
            turns.rows.push(vec![
                way(f.into),
                f.with.into(),
                format!("{:.1} ± {:.1}", f.gbit_per_second.mean, f.gbit_per_second.within),
                format!("{:.0} ± {:.0}", f.cpu_ns_per_kb.mean, f.cpu_ns_per_kb.within),
                format!("**{:.3}** ± {:.3}", f.to_none.mean, f.to_none.within),
                format!("**{:.3}** ± {:.3}", f.to_empty.mean, f.to_empty.within),
                budget,
                verdict,
            ]);
        }
        tables.push(turns);
        let mut in_place = Table::new(
            "The same stream: nanoseconds of one run of a program (ingress and egress), as the kernel counts them, its clocks included",
            &["way", "empty", "floor", "whyrst", "ratio, net of empty"],
        );
        for f in &self.in_place {
            in_place.rows.push(vec![
                way(f.into),
                spread(&f.empty_ns, 0),
                spread(&f.floor_ns, 0),
                spread(&f.whyrst_ns, 0),
                format!("**{:.2}** ({:.2}-{:.2})", f.ratio.median, f.ratio.min, f.ratio.max),
            ]);
        }
        tables.push(in_place);
        let mut routed = Table::new(
            "A routed acknowledgement: nanoseconds per packet, gross and added",
            &["connections", "with", "gross", "added", "of conntrack's", "at most", "verdict"],
        );
        for f in &self.routed {
            let row = format!("routed-{}", f.connections);
            let judged = f.with.contains("native XDP");
            let (budget, verdict) = if judged { self.verdict(&row, None) } else { Default::default() };
            routed.rows.push(vec![
                f.connections.to_string(),
                f.with.into(),
                spread(&f.ns, 0),
                spread(&f.added, 0),
                format!("**{:.2}**", f.to_conntrack),
                budget,
                verdict,
            ]);
        }
        tables.push(routed);
        tables.retain(|t| !t.rows.is_empty());
        tables
    }

    /// Budgets and verdicts of a stream, to no program and to empty ones.
    fn stream(&self, into: bool) -> (String, String) {
        let way = way(into);
        let (none, none_verdict) = self.verdict(&format!("veth-{way}"), None);
        let (empty, empty_verdict) = self.verdict(&format!("veth-{way}-to-empty"), None);
        (format!("{none}; {empty}"), format!("{none_verdict}; {empty_verdict}"))
    }

    fn about(&self) -> String {
        let m = &self.machine;
        format!("{} ({} CPUs), Linux {}; other load {:.2} CPUs", m.cpu, m.cpus, m.kernel, m.other_load)
    }

    /// The table for the README: what a packet costs at the two hooks that each packet of a network card passes.
    pub fn summary(&self) -> String {
        let mut table =
            Table::new("", &["", "floor, ns", "whyrst, ns", "ingress (XDP)", "ingress (TC)", "egress (TC)", "budget"]);
        let mut rows: Vec<&str> = self.packets.iter().map(|f| f.row).collect();
        rows.dedup();
        for row in rows {
            let at = |hook| self.packets.iter().find(|f| f.row == row && f.hook == hook);
            let ratio = |hook| at(hook).map_or(String::new(), |f| format!("{:.2} x", f.ratio.median));
            let ns =
                |of: fn(&Figures) -> &Spread| at(Hook::Xdp).map_or(String::new(), |f| format!("{:.0}", of(f).median));
            table.rows.push(vec![
                words(row).into(),
                ns(|f| &f.floor),
                ns(|f| &f.agent),
                ratio(Hook::Xdp),
                ratio(Hook::TcIngress),
                ratio(Hook::TcEgress),
                budgets::of(row).map_or(String::new(), |b| format!("{} x", b.at_most)),
            ]);
        }
        let mut out = table.markdown();
        for f in &self.files {
            let speed = |tool: &str| {
                let seconds = f.tools.iter().find(|t| t.tool == tool)?.seconds?;
                Some(format!("{tool} {:.2}", f.packets as f64 / seconds.median / 1e6))
            };
            let speeds: Vec<String> = ["whyrst", "tcptrace", "tshark"].into_iter().filter_map(speed).collect();
            let _ = write!(
                out,
                "\nCaptures, million packets per second of CPU, {} connections: {}.",
                f.connections,
                speeds.join(", ")
            );
        }
        let _ = writeln!(out, "\nMeasured on {}.", self.about());
        out
    }

    /// What the counters of the programs said that a reader of the figures has to know.
    fn notes(&self) -> Vec<String> {
        let packets = self.packets.iter().flat_map(|f| f.notes.iter().map(move |n| (f.row, f.hook, n)));
        let events = self.events.iter().flat_map(|f| f.notes.iter().map(move |n| (f.row, f.hook, n)));
        let notes = packets.chain(events).map(|(row, hook, note)| format!("{row}, {}: {note}", hook.name()));
        notes.chain(self.left_out.iter().cloned()).collect()
    }

    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.about());
        for table in self.tables() {
            let _ = write!(out, "\n{}\n{}", table.title, table.text());
        }
        let over = self.over();
        if !over.is_empty() {
            let _ = writeln!(
                out,
                "\nOver budget, and what is known to stand in the way (docs/performance.md has the figures)"
            );
        }
        for line in over {
            let _ = writeln!(out, "{line}");
        }
        for note in self.notes() {
            let _ = writeln!(out, "note: {note}");
        }
        out
    }

    pub fn markdown(&self) -> String {
        let mut out = format!("Measured on {}.\n", self.about());
        for table in self.tables() {
            let _ = write!(out, "\n{}:\n\n{}", table.title, table.markdown());
        }
        let over = self.over();
        if !over.is_empty() {
            let _ = write!(out, "\nOver budget, and what is known to stand in the way:\n\n");
        }
        for line in over {
            let _ = writeln!(out, "* {line}");
        }
        out
    }
}

fn way(into: bool) -> String {
    if into { "in" } else { "out" }.into()
}

fn spread(s: &Spread, digits: usize) -> String {
    format!("{:.digits$} / {:.digits$} / {:.digits$}", s.min, s.median, s.max)
}

pub struct Table {
    pub title: &'static str,
    head: Vec<&'static str>,
    pub rows: Vec<Vec<String>>,
}

impl Table {
    fn new(title: &'static str, head: &[&'static str]) -> Table {
        Table { title, head: head.to_vec(), rows: Vec::new() }
    }

    fn markdown(&self) -> String {
        let mut out = format!("| {} |\n|{}\n", self.head.join(" | "), " --- |".repeat(self.head.len()));
        for row in &self.rows {
            let cells = (0..self.head.len()).map(|i| row.get(i).map_or("", String::as_str));
            let _ = writeln!(out, "| {} |", cells.collect::<Vec<_>>().join(" | "));
        }
        out
    }

    /// Columns as wide as they must be; emphasis is for markdown only.
    fn text(&self) -> String {
        let plain = |row: &Vec<String>| -> Vec<String> { row.iter().map(|c| c.replace("**", "")).collect() };
        let mut rows = vec![self.head.iter().map(|h| h.to_string()).collect()];
        rows.extend(self.rows.iter().map(plain));
        let width = |i: usize| rows.iter().filter_map(|r| r.get(i)).map(|c| c.chars().count()).max().unwrap_or(0);
        let mut out = String::new();
        for row in &rows {
            let mut line = String::new();
            for (i, cell) in row.iter().enumerate() {
                let _ = write!(line, "{cell:<w$}  ", w = width(i));
            }
            let _ = writeln!(out, "{}", line.trim_end());
        }
        out
    }
}

/// A row in words.
fn words(row: &str) -> &str {
    match row {
        "established-1" => "data and acknowledgements, 1 connection",
        "established-4096" => "the same, 4,096 connections",
        "established-65536" => "the same, 65,536 connections",
        "established-1M" => "data and acknowledgements, 1,048,576 connections",
        "conversation-1" => "whole conversations of 1,193 packets, one after the other",
        "born" => "65,536 connections, one SYN per 30 packets",
        "short-256" => "connections of 30 packets, always new ones, 256 at once",
        "short" => "the same, 1,024 at once",
        "syn-flood" => "SYNs that nobody answers",
        "sack" => "acknowledgements with SACK, reordered data",
        "ipv6" => "IPv6, 4,096 connections",
        "vlan" => "VLAN, 4,096 connections",
        "non-tcp" => "UDP (floor: parsing only)",
        other => other,
    }
}
