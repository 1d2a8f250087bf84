//! `whyrst-lab`: performs the stories by hand, and makes the captures that tests replay.
//!
//! Exit codes: 0 it happened and the program under test was right, 1 one of them was not so, 2 usage,
//! 4 not permitted.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};

use whyrst_lab::agent::{Agent, Setup};
use whyrst_lab::capture::{HEADERS_ONLY, WHOLE};
use whyrst_lab::scenario::{self, Scenario, runner};
use whyrst_lab::seq::SeqNum;
use whyrst_lab::story::{self, Kind, Narrator, Options, nat, sequence};
use whyrst_lab::text::Page;
use whyrst_lab::verdict::Expected;
use whyrst_lab::{LabError, cleanup, demo, guard, netns, shapes};

/// No command takes longer; a hang must not keep namespaces alive.
const LIFETIME: Duration = Duration::from_secs(180);

/// The same for scenarios, of which there are many.
const SCENARIOS_LIFETIME: Duration = Duration::from_secs(1800);

/// Resets real TCP connections for a known cause, inside network namespaces of its own.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Perform one story and say what happens.
    Story(StoryArguments),
    /// Perform all stories with the agent watching, and judge its verdicts.
    Demo {
        /// The whyrst program.
        #[arg(long, value_name = "PATH")]
        agent: PathBuf,
        /// Keep the captures in this directory.
        #[arg(long, value_name = "DIR")]
        keep_pcaps: Option<PathBuf>,
    },
    /// Perform scenarios with agents watching and captures taken, and judge every verdict.
    Scenario(ScenarioArguments),
    /// Compare the kernel's and the host's build of the tracker on captures.
    Guard {
        /// Directory with *.pcap.
        #[arg(long, value_name = "DIR")]
        fixtures: PathBuf,
    },
    /// Write the captures that tests replay, small enough to be committed.
    Fixtures {
        /// Directory for story-<name>-<point>.pcap and shapes.pcap.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// Only some of them; shapes need no root.
        #[arg(long)]
        only: Option<Part>,
    },
}

#[derive(Args)]
struct ScenarioArguments {
    /// S37 S47 ..., or `all`.
    #[arg(value_name = "ID", default_value = "all")]
    ids: Vec<String>,
    /// The whyrst program; not needed to list.
    #[arg(long, value_name = "PATH", required_unless_present = "list")]
    agent: Option<PathBuf>,
    /// How many at once.
    #[arg(long, value_name = "N", default_value_t = 6)]
    jobs: usize,
    /// Keep the captures in this directory.
    #[arg(long, value_name = "DIR")]
    keep_pcaps: Option<PathBuf>,
    /// How to print.
    #[arg(long, short, default_value = "text")]
    output: Output,
    /// Only say which scenarios there are.
    #[arg(long)]
    list: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

#[derive(Args)]
struct StoryArguments {
    story: StoryName,
    /// Capture every point of interest to this directory.
    #[arg(long, value_name = "DIR")]
    pcap_dir: Option<PathBuf>,
    /// Let this whyrst program watch, and print what it says.
    #[arg(long, value_name = "PATH")]
    agent: Option<PathBuf>,
    /// Use IPv6.
    #[arg(long)]
    ipv6: bool,
    /// Tag the frames between router and server with this VLAN.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..4095))]
    vlan: Option<u16>,
    /// sequence: initial sequence number of the faulty sender.
    #[arg(long, conflicts_with = "wrap")]
    iss: Option<u32>,
    /// sequence: where the sequence space wraps.
    #[arg(long)]
    wrap: Option<Wrap>,
    /// nat: which segment goes astray; `late` is harmless since Linux 6.1.
    #[arg(long, default_value = "ahead")]
    stray: StrayName,
}

#[derive(Clone, Copy, ValueEnum)]
enum StoryName {
    /// The sender loses its place in its own sequence, then resets.
    Sequence,
    /// A segment slips past address translation and gets a healthy connection reset.
    Nat,
    /// Benign: the server closes without having read everything.
    Unread,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Every header shape, made by hand.
    Shapes,
    /// Real traffic of the stories.
    Stories,
}

#[derive(Clone, Copy, ValueEnum)]
enum Wrap {
    BeforeHole,
    InsideHole,
}

#[derive(Clone, Copy, ValueEnum)]
enum StrayName {
    Ahead,
    Late,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            cleanup::settle();
            eprintln!("whyrst-lab: {error:#}");
            match error.downcast_ref() {
                Some(LabError::NotRoot) => ExitCode::from(4),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

/// False if it ran, but the program under test was wrong.
fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let page = Page::of_stdout();
    match arguments.command {
        Command::Story(arguments) => {
            prepare(LIFETIME)?;
            tell(&arguments)
        }
        Command::Demo { agent, keep_pcaps } => {
            prepare(LIFETIME)?;
            let agent = std::path::absolute(&agent).with_context(|| format!("what is {}?", agent.display()))?;
            Ok(demo::run(&agent, keep_pcaps.as_deref(), &page)?)
        }
        Command::Scenario(arguments) => scenarios(&arguments, &page),
        // Makes no namespaces, and an emulated kernel may take its time.
        Command::Guard { fixtures } => {
            netns::require_root()?;
            guard::compare(&fixtures, &page)
        }
        Command::Fixtures { out, only } => fixtures(&out, only),
    }
}

/// For whatever makes namespaces.
fn prepare(lifetime: Duration) -> anyhow::Result<()> {
    netns::require_root()?;
    cleanup::install()?;
    cleanup::exit_on_panic();
    cleanup::limit_lifetime(lifetime);
    for name in netns::cleanup_stale()? {
        eprintln!("whyrst-lab: removed {name}, left over from a killed run");
    }
    Ok(())
}

fn scenarios(arguments: &ScenarioArguments, page: &Page) -> anyhow::Result<bool> {
    let chosen = chosen(&arguments.ids)?;
    if arguments.list {
        for scenario in chosen {
            page.item(&format!("{:<6}{}  ", scenario.id, scenario.topology.name()), scenario.title);
        }
        return Ok(true);
    }
    let agent = arguments.agent.as_deref().context("which whyrst program? (--agent)")?;
    let agent = std::path::absolute(agent).with_context(|| format!("what is {}?", agent.display()))?;
    // Each may be performed twice, if its situation did not come about; all of them take minutes.
    let rounds = chosen.len().div_ceil(arguments.jobs.max(1)) as u32;
    prepare((2 * rounds * scenario::LIMIT).min(SCENARIOS_LIFETIME))?;
    let json = arguments.output == Output::Json;
    let summary = runner::run(&chosen, &agent, arguments.jobs, arguments.keep_pcaps.as_deref(), page, json);
    if summary.hung {
        // Threads of ours still hold what they made.
        cleanup::leave(1);
    }
    Ok(summary.failed.is_empty())
}

fn chosen(ids: &[String]) -> anyhow::Result<Vec<&'static Scenario>> {
    let all = scenario::all();
    let mut chosen = Vec::new();
    for id in ids {
        if id.eq_ignore_ascii_case("all") {
            return Ok(all);
        }
        match all.iter().find(|scenario| scenario.id.eq_ignore_ascii_case(id)) {
            // Twice at once would write the same captures.
            Some(&scenario) if chosen.iter().any(|&known: &&Scenario| known.id == scenario.id) => {}
            Some(&scenario) => chosen.push(scenario),
            None => bail!("no scenario {id}; `whyrst-lab scenario --list` names them"),
        }
    }
    Ok(chosen)
}

fn tell(arguments: &StoryArguments) -> anyhow::Result<bool> {
    let kind = arguments.story.kind();
    let story = story::prepare(kind, &arguments.options())?;
    let captures = match &arguments.pcap_dir {
        Some(directory) => story::start_captures(kind, &*story, directory, WHOLE)?,
        None => Vec::new(),
    };
    let right = match &arguments.agent {
        Some(program) => watched(&*story, program)?,
        None => {
            story.tell(&mut printing())?;
            true
        }
    };
    report_captures(captures)?;
    Ok(right)
}

/// Performs a story with an agent attached before the first packet. False if its verdict is wrong.
fn watched(story: &dyn story::Story, program: &Path) -> anyhow::Result<bool> {
    let points = story.agent_points();
    let interfaces: Vec<_> = points.iter().map(|point| point.interface()).collect();
    let host = points.first().context("the story names no place for an agent")?;
    let mut agent = Agent::spawn(program, story.topology().namespace(*host), &interfaces, &Setup::default())?;
    agent.wait_ready()?;
    say(format_args!("the agent watches {}", interfaces.join(" and ")));
    let outcome = story.tell(&mut printing())?;
    let expected = Expected::of(&outcome);
    let findings = agent.wait_for_resets(expected.resets)?;
    let verdict = expected.find(&findings)?;
    for arguments in [&["resets", "--output", "json"][..], &["explain", &verdict.id.to_string()]] {
        let output = agent.run_cli(arguments)?;
        say(format_args!("\n$ whyrst {}", arguments.join(" ")));
        say(format_args!("{}", String::from_utf8_lossy(&output.stdout).trim_end()));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        if !output.status.success() {
            bail!("`whyrst {}` failed: {}", arguments.join(" "), output.status);
        }
    }
    let status = agent.stop()?;
    if !status.success() {
        bail!("the agent ended badly after SIGTERM: {status}");
    }
    let differences = expected.differences(verdict);
    for difference in &differences {
        say(format_args!("WRONG: {difference}"));
    }
    if differences.is_empty() {
        say(format_args!("the verdict is right: {}", expected.in_short()));
    }
    Ok(differences.is_empty())
}

fn fixtures(directory: &Path, only: Option<Part>) -> anyhow::Result<bool> {
    if only != Some(Part::Stories) {
        let path = directory.join("shapes.pcap");
        let frames = shapes::write(&path)?;
        say(format_args!("wrote {} ({frames} frames)", path.display()));
    }
    if only == Some(Part::Shapes) {
        return Ok(true);
    }
    prepare(LIFETIME)?;
    for kind in Kind::ALL {
        say(format_args!("{}:", kind.name()));
        let story = story::prepare(kind, &Options::default())?;
        // Payload matters nowhere: the causes are in the headers.
        let captures = story::start_captures(kind, &*story, directory, HEADERS_ONLY)?;
        story.tell(&mut printing())?;
        report_captures(captures)?;
    }
    Ok(true)
}

fn printing() -> Narrator<'static> {
    Narrator::new(|step| say(format_args!("{:>8.3} s  {}", step.at.as_secs_f64(), step.text)))
}

/// A reader who has seen enough and closed the pipe is no reason to stop half-way.
fn say(line: std::fmt::Arguments) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn report_captures(captures: Vec<whyrst_lab::capture::Capture>) -> anyhow::Result<()> {
    for (path, summary) in story::stop_captures(captures)? {
        say(format_args!("wrote {} ({} packets)", path.display(), summary.packets));
    }
    Ok(())
}

impl StoryName {
    fn kind(self) -> Kind {
        match self {
            Self::Sequence => Kind::Sequence,
            Self::Nat => Kind::Nat,
            Self::Unread => Kind::Unread,
        }
    }
}

impl StoryArguments {
    fn options(&self) -> Options {
        let sequence = match (self.iss, self.wrap) {
            (Some(iss), _) => sequence::Options { iss: SeqNum(iss) },
            (None, Some(Wrap::BeforeHole)) => sequence::Options::wrap_before_hole(),
            (None, Some(Wrap::InsideHole)) => sequence::Options::wrap_inside_hole(self.ipv6),
            (None, None) => sequence::Options::default(),
        };
        let stray = match self.stray {
            StrayName::Ahead => nat::Stray::Ahead,
            StrayName::Late => nat::Stray::Late,
        };
        Options { ipv6: self.ipv6, vlan: self.vlan, sequence, nat: nat::Options { stray } }
    }
}
