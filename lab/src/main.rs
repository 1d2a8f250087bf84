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
use whyrst_lab::seq::SeqNum;
use whyrst_lab::story::{self, Kind, Narrator, Options, nat, sequence};
use whyrst_lab::text::Page;
use whyrst_lab::verdict::Expected;
use whyrst_lab::{LabError, cleanup, demo, guard, netns, shapes};

/// No command takes longer; a hang must not keep namespaces alive.
const LIFETIME: Duration = Duration::from_secs(180);

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
            prepare()?;
            tell(&arguments)
        }
        Command::Demo { agent, keep_pcaps } => {
            prepare()?;
            let agent = std::path::absolute(&agent).with_context(|| format!("what is {}?", agent.display()))?;
            Ok(demo::run(&agent, keep_pcaps.as_deref(), &page)?)
        }
        // Makes no namespaces, and an emulated kernel may take its time.
        Command::Guard { fixtures } => {
            netns::require_root()?;
            guard::compare(&fixtures, &page)
        }
        Command::Fixtures { out, only } => fixtures(&out, only),
    }
}

/// For whatever makes namespaces.
fn prepare() -> anyhow::Result<()> {
    netns::require_root()?;
    cleanup::install()?;
    cleanup::exit_on_panic();
    cleanup::limit_lifetime(LIFETIME);
    for name in netns::cleanup_stale()? {
        eprintln!("whyrst-lab: removed {name}, left over from a killed run");
    }
    Ok(())
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
    prepare()?;
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
