//! `cargo xtask demo`: the three stories with the real agent watching, its verdicts, and whether they
//! are right.
//!
//! Owns what is printed and in which order; what happens is the stories' business, what it means the
//! agent's. Everything made here is noted in [`Traces`] and looked for again at the end.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::agent::{Agent, Setup};
use crate::capture::WHOLE;
use crate::cleanup::ScratchDirectory;
use crate::error::{During, LabError};
use crate::story::{self, Kind, Narrator, Options, Story};
use crate::text::{Page, Tone};
use crate::verdict::{self, Expected, Verdict};
use crate::{bpf, wait};

/// The kernel frees programs and namespaces a moment after their last user has gone.
const GONE_LIMIT: Duration = Duration::from_secs(5);

const PICTURE: &str = "      client             router             server
      c0 10.71.1.2 ----- rc 10.71.1.1
                         rs 10.71.2.1 ----- s0 10.71.2.2";

/// Performs all stories and prints what is found; true if everything was as it should be.
/// `keep` is where captures stay.
pub fn run(agent: &Path, keep: Option<&Path>, page: &Page) -> Result<bool, LabError> {
    introduce(agent, keep, page)?;
    let mut traces = Traces::default();
    let mut results = Vec::new();
    for (number, kind) in Kind::ALL.into_iter().enumerate() {
        page.blank();
        page.rule();
        page.heading(&format!("{} of {}  {}", number + 1, Kind::ALL.len(), title(kind)));
        page.paragraph(0, about(kind));
        page.blank();
        results.push(perform(kind, agent, keep, page, &mut traces)?);
    }
    page.blank();
    page.rule();
    print_metrics(&results, page);
    let left = traces.left_behind()?;
    Ok(summarise(&results, &left, &traces, keep, page))
}

fn introduce(agent: &Path, keep: Option<&Path>, page: &Page) -> Result<(), LabError> {
    page.heading("whyrst demo: three TCP connections are reset, and whyrst says why");
    page.blank();
    page.paragraph(
        0,
        "Each story gets three network namespaces of its own with real kernel TCP stacks in them. The real agent \
         (whyrst run, XDP at ingress and TC at egress) watches one of the hosts, the traffic is captured at the same \
         place, and the story is told while it happens. Then you see what whyrst makes of it, live and from the \
         capture, held against what really happened. Nothing outside the namespaces is touched and nothing stays. It \
         takes about ten seconds; Ctrl-C stops it and cleans up.",
    );
    page.blank();
    page.line(PICTURE);
    page.blank();
    let version = output_of(agent, &["--version".as_ref()])?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").during("read the kernel's release")?;
    page.item("  agent    ", &format!("{} ({})", version.trim(), agent.display()));
    page.item("  kernel   ", &format!("Linux {}", kernel.trim()));
    match keep {
        Some(directory) => page.item("  captures ", &format!("kept in {}", directory.display())),
        None => page.item("  captures ", "removed at the end; --keep-pcaps DIR keeps them"),
    }
    Ok(())
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Sequence => "A sender loses its place in its own sequence",
        Kind::Nat => "Address translation lets one segment slip through",
        Kind::Unread => "A server closes without reading everything",
    }
}

fn about(kind: Kind) -> &'static str {
    match kind {
        Kind::Sequence => {
            "The symptom of Microsoft's Q189080: in the middle of a bulk transfer one stack skips bytes that it never \
             sends, the other end can accept nothing more, and seconds later the connection is reset. The client is a \
             faulty TCP of ours in user space, the server this kernel's own. The agent watches the server."
        }
        Kind::Nat => {
            "kubernetes/kubernetes#74839: a router translates a service address to a server. One out-of-window segment \
             counts as invalid, is not translated, and reaches a client that does not know its sender; the client's \
             answer, a reset, kills a healthy connection. The agent watches both sides of the router."
        }
        Kind::Unread => {
            "Nothing is wrong with the network here: an application closes its socket while data lies unread, and its \
             kernel must send a reset. A tool that cries wolf would call it desynchronised. The agent watches the server."
        }
    }
}

/// One story's end.
struct Told {
    kind: Kind,
    expected: Expected,
    live: Verdict,
    /// Further resets that followed from it.
    others: Vec<Verdict>,
    /// Complaints about the live verdict and about those from captures.
    wrong_live: Vec<String>,
    wrong_capture: Vec<String>,
    metrics: String,
}

impl Told {
    fn wrong(&self) -> impl Iterator<Item = &String> {
        self.wrong_live.iter().chain(&self.wrong_capture)
    }
}

fn perform(
    kind: Kind,
    program: &Path,
    keep: Option<&Path>,
    page: &Page,
    traces: &mut Traces,
) -> Result<Told, LabError> {
    let story = story::prepare(kind, &Options::default())?;
    let topology = story.topology();
    for namespace in [&topology.client, &topology.router, &topology.server] {
        traces.namespaces.push(namespace.path());
    }
    let scratch = ScratchDirectory::create(&format!("{}-demo", topology.router.name()))?;
    traces.directories.push(scratch.path().to_owned());
    let directory = keep.unwrap_or(scratch.path());

    let agent = start_agent(program, &*story, page)?;
    traces.processes.insert(agent.pid());
    traces.programs.extend(agent.programs()?);
    let captures = story::start_captures(kind, &*story, directory, WHOLE)?;

    page.blank();
    page.heading("What happens");
    let tell = |step: &story::Step| page.item(&format!("{:>8.3} s  ", step.at.as_secs_f64()), &step.text);
    let outcome = story.tell(&mut Narrator::new(tell)).map_err(|error| with_messages(error, &agent))?;
    let expected = Expected::of(&outcome);

    page.blank();
    let findings = agent.wait_for_resets(expected.resets).map_err(|error| with_messages(error, &agent))?;
    let live = expected.find(&findings)?.clone();
    let id = live.id.to_string();
    page.line(&page.paint(Tone::Dim, &format!("$ whyrst explain {id}")));
    page.quote(&explain(&agent, &id, page)?);
    let others = findings.into_iter().filter(|other| other.is_reset() && other.id != live.id).collect();

    let metrics = agent.metrics()?;
    let status = agent.stop()?;
    if !status.success() {
        return Err(LabError::Plot(format!("the agent ended badly after SIGTERM: {status}")));
    }
    // All captures of the agent's host.
    let paths: Vec<PathBuf> =
        story.agent_points().iter().map(|&point| story::capture_path(kind, point, directory)).collect();
    story::stop_captures(captures)?;
    page.blank();
    page.heading("Is that right?");
    let wrong_live = judge_live(&expected, &live, page);
    let wrong_capture = judge_captures(program, &expected, &live, &paths, page)?;
    Ok(Told { kind, expected, live, others, wrong_live, wrong_capture, metrics })
}

fn start_agent(program: &Path, story: &dyn Story, page: &Page) -> Result<Agent, LabError> {
    let points = story.agent_points();
    let interfaces: Vec<_> = points.iter().map(|point| point.interface()).collect();
    let (Some(host), false) = (points.first(), interfaces.is_empty()) else {
        return Err(LabError::Plot("it names no place for an agent".into()));
    };
    let namespace = story.topology().namespace(*host);
    let shown: Vec<_> = interfaces.iter().map(|name| format!("-i {name}")).collect();
    page.line(&page.paint(Tone::Dim, &format!("$ whyrst run {}", shown.join(" "))));
    let mut agent = Agent::spawn(program, namespace, &interfaces, &Setup { quiet: true, ..Setup::default() })?;
    agent.wait_ready()?;
    for line in agent.attached()? {
        page.item("  ", &line);
    }
    Ok(agent)
}

fn explain(agent: &Agent, id: &str, page: &Page) -> Result<String, LabError> {
    let output = agent.run_cli_in_colour(&["explain", id], page.colour())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LabError::Plot(format!("`whyrst explain {id}` failed ({}): {said}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Holds the live verdict against the truth.
fn judge_live(expected: &Expected, live: &Verdict, page: &Page) -> Vec<String> {
    let complaints: Vec<_> = expected.differences(live).iter().map(ToString::to_string).collect();
    print_judgement("live", &format!("{}{}", live.in_short(), numbers(live)), &complaints, page);
    complaints
}

/// Holds the verdict from each capture against the truth and against the live one.
fn judge_captures(
    program: &Path,
    expected: &Expected,
    live: &Verdict,
    captures: &[PathBuf],
    page: &Page,
) -> Result<Vec<String>, LabError> {
    let mut wrong = Vec::new();
    for path in captures {
        let label = format!("whyrst analyze {}", path.file_name().unwrap_or_default().to_string_lossy());
        let arguments = ["analyze".as_ref(), "--output".as_ref(), "json".as_ref(), path.as_os_str()];
        let offline = verdict::parse_lines(output_of(program, &arguments)?.as_bytes())?;
        let complaints = match expected.find(&offline) {
            Ok(offline) => {
                let differences = expected.differences(offline).into_iter().chain(live.disagreements(offline));
                differences.map(|difference| difference.to_string()).collect()
            }
            Err(missing) => vec![missing.to_string()],
        };
        print_judgement(&label, "the same verdict, with the same numbers", &complaints, page);
        wrong.extend(complaints.into_iter().map(|complaint| format!("{label}: {complaint}")));
    }
    Ok(wrong)
}

fn print_judgement(label: &str, good: &str, complaints: &[String], page: &Page) {
    if complaints.is_empty() {
        page.judged(Tone::Good, "  ok     ", &format!("{label}: {good}"));
    }
    for complaint in complaints {
        page.judged(Tone::Bad, "  WRONG  ", &format!("{label}: {complaint}"));
    }
}

fn numbers(verdict: &Verdict) -> String {
    match &verdict.desync {
        Some(desync) => format!(
            "; {} of {} bytes, expected {}, was {}, {:.1} s before the reset",
            desync.kind,
            desync.distance_bytes,
            desync.expected,
            desync.actual,
            desync.lead_ns as f64 / 1e9,
        ),
        None => "; not desynchronised".into(),
    }
}

/// Families worth a look here; the page has many more.
const FAMILIES: [&str; 9] = [
    "whyrst_received_segments_total",
    "whyrst_transmitted_segments_total",
    "whyrst_duplicate_packets_total",
    "whyrst_untranslated_packets_total",
    "whyrst_resets_total",
    "whyrst_desynchronisations_total",
    "whyrst_desync_to_reset_seconds",
    "whyrst_events_total",
    "whyrst_events_lost_total",
];
/// The same on all pages.
const BUILD_INFO: &str = "whyrst_build_info";

fn print_metrics(results: &[Told], page: &Page) {
    page.heading("What Prometheus gets");
    page.paragraph(
        0,
        "GET /metrics of each agent at the end of its story: what is not zero among the families that matter here, and \
         what was lost.",
    );
    for told in results {
        page.blank();
        page.line(&page.paint(Tone::Dim, &format!("# {}", told.kind.name())));
        for line in interesting(&told.metrics, &FAMILIES) {
            page.item("  ", line);
        }
    }
    if let Some(told) = results.first() {
        page.blank();
        page.line(&page.paint(Tone::Dim, "# all"));
        for line in interesting(&told.metrics, &[BUILD_INFO]) {
            page.item("  ", line);
        }
    }
}

/// Samples of these families: those that are not zero, and of a histogram the first bucket that
/// holds all. Losses are shown also when there were none.
fn interesting<'a>(metrics: &'a str, families: &[&str]) -> Vec<&'a str> {
    let mut lines = Vec::new();
    for family in families {
        let mut below = "0";
        for line in metrics.lines() {
            let (Some(rest), Some((_, value))) = (line.strip_prefix(family), line.rsplit_once(' ')) else {
                continue;
            };
            let keep = match rest.as_bytes().first() {
                Some(b' ' | b'{') => value != "0" || family.contains("lost"),
                Some(b'_') if rest.starts_with("_bucket") => value != std::mem::replace(&mut below, value),
                Some(b'_') if rest.starts_with("_sum") || rest.starts_with("_count") => below != "0",
                _ => false,
            };
            if keep {
                lines.push(line);
            }
        }
    }
    lines
}

fn summarise(results: &[Told], left: &[String], traces: &Traces, keep: Option<&Path>, page: &Page) -> bool {
    page.blank();
    page.heading("Summary");
    let row = |cells: [&str; 6], judgement: Tone| {
        let [story, verdict, confidence, lead, live, capture] = cells;
        let facts = format!("  {story:<10}{verdict:<44}{confidence:<12}{lead:<11}");
        page.line(&format!("{facts}{}", page.paint(judgement, &format!("{live:<7}{capture}"))));
    };
    row(["story", "verdict", "confidence", "lead time", "live", "capture"], Tone::Plain);
    for told in results {
        let verdict = match &told.live.variant {
            Some(variant) => format!("{} ({variant})", told.live.cause),
            None => told.live.cause.clone(),
        };
        let lead = told.live.desync.as_ref().map_or("-".into(), |d| format!("{:.1} s", d.lead_ns as f64 / 1e9));
        let good = |wrong: &[String]| if wrong.is_empty() { "right" } else { "WRONG" };
        let tone = if told.wrong().next().is_none() { Tone::Good } else { Tone::Bad };
        let confidence = told.live.confidence.to_string();
        let judgements = [good(&told.wrong_live), good(&told.wrong_capture)];
        row([told.kind.name(), &verdict, &confidence, &lead, judgements[0], judgements[1]], tone);
        for complaint in told.wrong() {
            page.item("              ", complaint);
        }
        if told.wrong().next().is_some() {
            page.item("              ", &format!("expected {}", told.expected.in_short()));
        }
        for other in &told.others {
            page.item(
                &format!("  {:<10}", ""),
                &format!("then {} -> {}: {}", other.client, other.server, other.in_short()),
            );
        }
    }
    page.blank();
    if let Some(directory) = keep {
        page.item("  ", &format!("The captures are in {}.", directory.display()));
    }
    if left.is_empty() {
        page.item(
            "  ",
            &format!(
                "Left behind: nothing. {} namespaces, {} kernel programs, {} agents and their files are gone.",
                traces.namespaces.len(),
                traces.programs.len(),
                traces.processes.len(),
            ),
        );
    } else {
        page.judged(Tone::Bad, "  LEFT BEHIND: ", &left.join(", "));
    }
    left.is_empty() && results.iter().all(|told| told.wrong().next().is_none())
}

/// What was made on the way.
#[derive(Default)]
struct Traces {
    namespaces: Vec<PathBuf>,
    directories: Vec<PathBuf>,
    processes: BTreeSet<u32>,
    programs: BTreeSet<u32>,
}

impl Traces {
    /// What is still there after a while.
    fn left_behind(&self) -> Result<Vec<String>, LabError> {
        let clean = wait::until("everything to be gone", GONE_LIMIT, || Ok(self.present()?.is_empty().then_some(())));
        match clean {
            Ok(()) => Ok(Vec::new()),
            Err(LabError::Timeout { .. }) => self.present(),
            Err(error) => Err(error),
        }
    }

    fn present(&self) -> Result<Vec<String>, LabError> {
        let mut found = Vec::new();
        for path in self.namespaces.iter().chain(&self.directories).filter(|path| path.exists()) {
            found.push(path.display().to_string());
        }
        for pid in &self.processes {
            if Path::new(&format!("/proc/{pid}")).exists() {
                found.push(format!("process {pid}"));
            }
        }
        for &id in &self.programs {
            if bpf::program_exists(id)? {
                found.push(format!("kernel program {id}"));
            }
        }
        Ok(found)
    }
}

fn with_messages(error: LabError, agent: &Agent) -> LabError {
    LabError::Plot(format!("{error}\nthe agent's messages:\n{}", agent.messages().trim_end()))
}

/// Standard output of the program under test, which must succeed.
fn output_of(program: &Path, arguments: &[&OsStr]) -> Result<String, LabError> {
    let shown = || {
        let words: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        format!("{} {}", program.display(), words.join(" "))
    };
    let output =
        Command::new(program).args(arguments).stdin(Stdio::null()).output().during(format!("start {}", shown()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LabError::Plot(format!("`{}` failed ({}): {said}", shown(), output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_metrics_only_what_matters_is_shown() {
        let page = "# HELP a_total A.\n# TYPE a_total counter\na_total{x=\"1\"} 0\na_total{x=\"2\"} 3\n\
                    a_total_more 1\nlost_total{stage=\"ring\"} 0\n\
                    h_bucket{le=\"1\"} 0\nh_bucket{le=\"5\"} 1\nh_bucket{le=\"+Inf\"} 1\nh_sum 4.8\nh_count 1\n";
        assert_eq!(
            interesting(page, &["a_total", "lost_total", "h"]),
            ["a_total{x=\"2\"} 3", "lost_total{stage=\"ring\"} 0", "h_bucket{le=\"5\"} 1", "h_sum 4.8", "h_count 1"]
        );
    }

    #[test]
    fn an_empty_histogram_is_not_shown() {
        assert!(interesting("h_bucket{le=\"1\"} 0\nh_bucket{le=\"+Inf\"} 0\nh_sum 0\nh_count 0\n", &["h"]).is_empty());
    }
}
