//! `whyrst analyze`.

use super::Output;
use super::names::CAUSES;
use super::output::Out;
use crate::capture::host::MOST_CONNECTIONS;
use crate::capture::replay::{self, Output as Item, Progress, ReplayOptions, Summary};
use crate::error::{Exit, Failure};
use crate::expose::text::{self, Look};
use crate::finding::{Finding, FindingKind};
use crate::groups::Groups;
use crate::logging;
use clap::builder::{PossibleValue, PossibleValuesParser};
use indicatif::{ProgressBar, ProgressStyle};
use std::io::{IsTerminal, Stdout, Write};
use std::path::{Path, PathBuf};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  whyrst analyze trace.pcap
  whyrst analyze --group *.pcap                      what happens again and again, counted
  whyrst analyze --explain trace.pcapng.gz           the whole story of every finding
  tcpdump -i eth0 -w - tcp | whyrst analyze -        Ctrl-C ends tcpdump, then the findings come
  whyrst analyze --fail-on desync *.pcap             exit code 3 if a connection was desynchronised
  whyrst analyze --segments -o json trace.pcap | jq 'select(.anomalies != [])'

Reads pcap and pcapng, also gzipped, nanosecond and big-endian, of all common link types. A damaged file gives \
everything up to the damage, a message and exit code 1.")]
pub struct AnalyzeArgs {
    /// Capture files; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Also print every TCP segment, with its anomalies
    #[arg(long)]
    pub segments: bool,

    /// Also print every connection, not only those with a finding
    #[arg(long)]
    pub all: bool,

    /// Count findings that are alike, in place of listing them: same cause, server network and port, distance of the
    /// numbers, silence before
    #[arg(short, long, conflicts_with = "explain")]
    pub group: bool,

    /// Tell the whole story of every finding, as `whyrst explain` does
    #[arg(long)]
    pub explain: bool,

    /// Connections tracked at once, about 1.5 kB of memory each; when there are more, those that ended or were never
    /// answered make room first, then those that were silent for longest
    #[arg(long, value_name = "N", default_value_t = MOST_CONNECTIONS as u32, value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// Exit with 3 if there is such a finding: reset (any effective one), desync (desynchronised, reset or not),
    /// degraded (any that was not reset), any, or a cause
    #[arg(long, value_name = "WHAT", value_delimiter = ',', hide_possible_values = true, value_parser = problems())]
    pub fail_on: Vec<String>,
}

const ANY_RESET: &str = "reset";
const DESYNC: &str = "desync";
const DEGRADED: &str = "degraded";
const ANY: &str = "any";

fn problems() -> PossibleValuesParser {
    let groups = [ANY_RESET, DESYNC, DEGRADED, ANY];
    PossibleValuesParser::new(groups.into_iter().chain(CAUSES).map(PossibleValue::new))
}

pub fn run(args: &AnalyzeArgs, output: Output) -> Result<Exit, Failure> {
    if args.files.iter().filter(|f| is_stdin(f)).count() > 1 {
        return Err(Failure::Usage("standard input can be read once only: give `-` once".into()));
    }
    if args.files.iter().any(|f| is_stdin(f)) {
        if std::io::stdin().is_terminal() {
            return Err(Failure::Usage("standard input is a terminal; pipe a capture into it, or name a file".into()));
        }
        outlive_one_interrupt();
    }
    let mut printer = Printer::new(Out::default(), output, Look::of_stdout(), args);
    let mut summary = Summary { kind: "summary", version: crate::finding::VERSION, ..Summary::default() };
    let mut unreadable = false;
    for file in &args.files {
        let bar = Bar::new(file);
        let result = replay::analyze(
            file,
            ReplayOptions {
                segments: args.segments,
                connections: args.all,
                most_connections: args.max_connections as usize,
            },
            &mut summary,
            &mut |item| bar.suspend(|| printer.take(&item)),
            &mut |progress| bar.show(progress),
        );
        bar.clear();
        if let Some(end) = printer.end.take() {
            return Err(end);
        }
        if let Err(e) = result {
            // What was found before the damage comes before the message about it.
            printer.out.flush()?;
            eprintln!("whyrst: {}", message(file, &e));
            unreadable = true;
        }
    }
    printer.finish(&summary)?;
    Ok(match () {
        // Also with --fail-on: an incomplete answer must not pass for a complete one.
        () if unreadable => Exit::Failed,
        () if printer.problem => Exit::ProblemsFound,
        () => Exit::Done,
    })
}

fn is_stdin(file: &Path) -> bool {
    file == Path::new("-")
}

/// Names the file, unless the error does.
fn message(file: &Path, error: &anyhow::Error) -> String {
    let text = format!("{error:#}");
    let name = if is_stdin(file) { "standard input".into() } else { file.display().to_string() };
    if text.contains(&name) { text } else { format!("cannot read {name} to its end: {text}") }
}

/// In `tcpdump -w - | whyrst analyze -`, Ctrl-C reaches both. The first one is tcpdump's; what it wrote is still to be
/// read. The second one is ours.
fn outlive_one_interrupt() {
    let listen = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        runtime.block_on(async {
            tokio::signal::ctrl_c().await.ok()?;
            eprintln!("finishing what was read; Ctrl-C again stops at once");
            tokio::signal::ctrl_c().await.ok()
        })?;
        std::process::exit(Exit::Failed as i32);
    };
    std::thread::spawn(move || -> Option<()> { listen() });
}

struct Printer<'a, W: Write = Stdout> {
    out: Out<W>,
    output: Output,
    look: Look,
    args: &'a AnalyzeArgs,
    groups: Groups,
    /// Something that --fail-on names.
    problem: bool,
    blocks: u64,
    /// Why the output ended, for the caller: the reader of captures knows I/O errors only.
    end: Option<Failure>,
}

impl<'a, W: Write> Printer<'a, W> {
    fn new(out: Out<W>, output: Output, look: Look, args: &'a AnalyzeArgs) -> Printer<'a, W> {
        Printer { out, output, look, args, groups: Groups::default(), problem: false, blocks: 0, end: None }
    }

    fn take(&mut self, item: &Item) -> std::io::Result<()> {
        if let Item::Finding(f) = item {
            self.problem |= self.args.fail_on.iter().any(|what| is_problem(f, what));
        }
        self.print(item).map_err(|end| {
            self.end = Some(end);
            std::io::Error::from(std::io::ErrorKind::BrokenPipe)
        })
    }

    fn print(&mut self, item: &Item) -> Result<(), Failure> {
        if let (Item::Finding(f), true) = (item, self.args.group) {
            self.groups.add(f);
            return Ok(());
        }
        if self.output == Output::Json {
            return self.out.json(item);
        }
        let text = match item {
            Item::Segment(s) => text::segment::segment(s, &self.look),
            Item::Connection(c) => text::segment::connection(c, &self.look),
            Item::Finding(f) => self.finding(f),
        };
        self.out.text(&text)
    }

    fn finding(&mut self, f: &Finding) -> String {
        self.blocks += 1;
        let gap = match (self.blocks, self.args.explain) {
            (1, _) => String::new(),
            (_, false) => "\n".to_owned(),
            (_, true) => format!("\n{}\n\n", "-".repeat(self.look.width)),
        };
        let text =
            if self.args.explain { text::story::story(f, &self.look) } else { text::brief::brief(f, &self.look) };
        gap + &text
    }

    fn finish(&mut self, summary: &Summary) -> Result<(), Failure> {
        let groups = std::mem::take(&mut self.groups).finish();
        self.blocks += groups.len() as u64;
        match self.output {
            Output::Json => {
                groups.iter().try_for_each(|g| self.out.json(g))?;
                self.out.json(summary)?;
            }
            Output::Text => {
                self.out.text(&text::groups::groups(&groups, &self.look))?;
                let gap = if self.blocks > 0 { "\n" } else { "" };
                self.out.text(&format!("{gap}{}", text::summary::summary(summary, &self.look)))?;
            }
        }
        self.out.flush()
    }
}

fn is_problem(f: &Finding, what: &str) -> bool {
    match what {
        ANY => true,
        ANY_RESET => f.kind == FindingKind::Reset,
        DESYNC => f.desync.is_some(),
        DEGRADED => f.kind == FindingKind::Degraded,
        cause => f.cause == cause,
    }
}

/// A progress bar where somebody watches, else nothing.
struct Bar(Option<ProgressBar>);

impl Bar {
    fn new(file: &Path) -> Bar {
        if !logging::stderr_is_terminal() {
            return Bar(None);
        }
        let bar = ProgressBar::no_length();
        let name = text::look::harmless(&file.display().to_string());
        bar.set_message(name);
        bar.set_style(style("{spinner} {msg}  {bytes}  {binary_bytes_per_sec}  {prefix}"));
        Bar(Some(bar))
    }

    fn show(&self, p: Progress) {
        let Some(bar) = &self.0 else { return };
        if let Some(total) = p.total_bytes
            && bar.length() != Some(total)
        {
            bar.set_length(total);
            bar.set_style(style("{msg}  {wide_bar} {percent} %  {prefix}, {eta} left"));
        }
        bar.set_prefix(text::human::counted(p.packets, "packet", "packets"));
        bar.set_position(p.bytes_read);
    }

    /// Takes the bar away while something is printed, for terminals that show both streams.
    fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    fn clear(&self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::replay::SegmentLine;
    use crate::finding::{Desync, Endpoint, Volume};
    use std::net::{IpAddr, Ipv4Addr};

    fn endpoint(port: u16) -> Endpoint {
        Endpoint { addr: IpAddr::V4(Ipv4Addr::LOCALHOST), port }
    }

    fn finding(kind: FindingKind, cause: &str) -> Finding {
        Finding {
            kind,
            version: 1,
            id: 1,
            time_ns: 0,
            file: Some("trace.pcap".into()),
            community_id: "1:x=".into(),
            client: endpoint(40_000),
            server: endpoint(80),
            reset: None,
            mechanism: "reply_to_noack".into(),
            cause: cause.into(),
            variant: None,
            culprit: "none".into(),
            culprit_confidence: 90,
            confidence: 90,
            band: "high".into(),
            phase: "syn_sent".into(),
            desync: None,
            anomalies: Vec::new(),
            visibility: Default::default(),
            also_considered: Vec::new(),
            contradictions: Vec::new(),
            kernel: None,
            kernel_evidence: String::new(),
            summary: "Nothing listens on port 80.".into(),
            advice: "Check the service.".into(),
            evidence: Vec::new(),
            volume: Volume::default(),
            echoes: 0,
            similar: None,
            idle_ns: None,
            related: Vec::new(),
        }
    }

    fn segment() -> SegmentLine {
        SegmentLine {
            kind: "segment",
            version: 1,
            frame: 7,
            time_ns: 0,
            src: endpoint(1),
            dst: endpoint(2),
            seq: 3,
            ack: 4,
            len: 5,
            flags: 0x12,
            window: 6,
            anomalies: vec!["rexmit"],
            hard: Vec::new(),
        }
    }

    fn printed(arguments: &[&str], output: Output, items: Vec<Item>) -> (String, bool) {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            args: AnalyzeArgs,
        }
        let alone: Alone = clap::Parser::parse_from([&["analyze", "trace.pcap"], arguments].concat());
        let mut text = Vec::new();
        let mut printer = Printer::new(Out::to(&mut text), output, Look::plain(), &alone.args);
        items.iter().for_each(|item| printer.take(item).unwrap());
        let summary = Summary { kind: "summary", version: 1, files: 1, packets: 2, findings: 1, ..Summary::default() };
        printer.finish(&summary).unwrap();
        let problem = printer.problem;
        drop(printer);
        (String::from_utf8(text).unwrap(), problem)
    }

    #[test]
    fn text_ends_with_a_summary_and_names_the_file_of_a_finding() {
        let refused = Item::Finding(Box::new(finding(FindingKind::Reset, "port_closed")));
        let (text, _) = printed(&[], Output::Text, vec![Item::Segment(segment()), refused]);
        let expected =
            "     7  1970-01-01 00:00:00.000  127.0.0.1:1 -> 127.0.0.1:2  SYN|ACK  seq 3 ack 4 len 5 win 6  rexmit
1970-01-01 00:00:00.000  #1  127.0.0.1:40000 -> 127.0.0.1:80  reset
    port_closed, confidence 90 (high); nobody's fault
    Nothing listens on port 80.
    in trace.pcap

Summary
  1 file: 2 packets, 0 TCP segments, 0 connections, 0 RSTs, 1 finding.
";
        assert_eq!(text, expected);
    }

    #[test]
    fn groups_take_the_place_of_findings() {
        let refused = |id| Item::Finding(Box::new(Finding { id, ..finding(FindingKind::Reset, "port_closed") }));
        let idle = Finding { idle_ns: Some(352_000_000_000), ..finding(FindingKind::Reset, "peer_lost_state") };
        let items = || vec![refused(1), refused(2), Item::Finding(Box::new(idle.clone()))];
        let (text, problem) = printed(&["--group", "--fail-on", "port_closed"], Output::Text, items());
        assert!(problem);
        assert!(text.starts_with("COUNT  CAUSE "), "{text}");
        assert!(text.contains("    2  port_closed      127.0.0.0/24 port 80        1  "), "{text}");
        assert!(text.contains("idle 5 min 50 s"), "{text}");
        let (json, _) = printed(&["--group"], Output::Json, items());
        let lines: Vec<serde_json::Value> = json.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        assert_eq!((lines.len(), &lines[0]["type"], &lines[0]["count"]), (3, &"group".into(), &2.into()));
        assert_eq!((&lines[0]["example_id"], &lines[1]["idle_seconds"]), (&2.into(), &350.into()));
        assert_eq!(lines[2]["type"], "summary");
    }

    #[test]
    fn json_is_one_object_a_line_with_the_summary_last() {
        let refused = Item::Finding(Box::new(finding(FindingKind::Reset, "port_closed")));
        let (text, _) = printed(&[], Output::Json, vec![Item::Segment(segment()), refused]);
        let types: Vec<_> = text
            .lines()
            .map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["type"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(types, ["segment", "reset", "summary"]);
    }

    fn desynchronised(f: Finding) -> Finding {
        let desync = Desync {
            kind: "overrun".into(),
            direction: "client_to_server".into(),
            first_ns: 0,
            lead_ns: 0,
            expected: 1,
            actual: 2,
            distance_bytes: 1,
            location: "unknown".into(),
            delivered_bytes: 0,
        };
        Finding { desync: Some(desync), ..f }
    }

    #[test]
    fn fail_on_takes_groups_and_causes() {
        let fails = |what, f| printed(&["--fail-on", what], Output::Json, vec![Item::Finding(Box::new(f))]).1;
        let is = |what, kind, cause| fails(what, finding(kind, cause));
        assert!(is("reset", FindingKind::Reset, "port_closed"));
        assert!(!is("reset", FindingKind::Degraded, "window_overrun"));
        assert!(is("degraded", FindingKind::Degraded, "path_blackhole"));
        assert!(!is("degraded", FindingKind::Reset, "port_closed"));
        assert!(fails("desync", desynchronised(finding(FindingKind::Degraded, "window_overrun"))));
        assert!(fails("desync", desynchronised(finding(FindingKind::Reset, "window_overrun"))));
        assert!(!is("desync", FindingKind::Degraded, "path_blackhole"));
        assert!(!is("desync", FindingKind::Reset, "port_closed"));
        assert!(is("any", FindingKind::RstIneffective, "unknown_reset"));
        assert!(is("port_closed,policy_reset", FindingKind::Reset, "port_closed"));
        assert!(!is("policy_reset", FindingKind::Reset, "port_closed"));
    }

    /// Not every connection that ends without a reset was out of step.
    #[test]
    fn a_story_calls_desynchronised_only_what_was() {
        let told = |f| printed(&["--explain"], Output::Text, vec![Item::Finding(Box::new(f))]).0;
        let lost = finding(FindingKind::Degraded, "path_blackhole");
        assert!(told(lost.clone()).contains("The connection was degraded and not reset"));
        assert!(!told(lost.clone()).contains("desynchronised"));
        assert!(told(desynchronised(lost)).contains("The connection was desynchronised and not reset"));
    }
}
