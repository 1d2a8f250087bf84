//! One scenario from set-up to judgement.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::check::{Ask, Check, Expect, View};
use super::judge::{self, Seen};
use super::views::{self, Variation};
use super::{Happened, Scenario, Stage};
use crate::LabError;
use crate::agent::{Agent, Setup};
use crate::capture::{Capture, WHOLE};
use crate::cleanup::ScratchDirectory;
use crate::error::During;
use crate::topology::Point;
use crate::verdict;

/// How long an agent may take over its verdict: it holds a reset back for what may follow.
const VERDICT_LIMIT: Duration = Duration::from_secs(8);
/// How long nothing may be said where nothing should be.
const SILENCE: Duration = Duration::from_secs(3);

/// What one program said at one place, judged.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Judgement {
    pub view: &'static str,
    /// `live`, or `capture` and in which way it was changed.
    pub source: String,
    pub expected: String,
    pub got: String,
    pub differences: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Performance {
    pub happened: Happened,
    pub judgements: Vec<Judgement>,
}

/// Lets it happen with agents and captures in place, and judges what they say. `keep` is where
/// captures stay, as `<id>-<interface>.pcap`.
pub fn perform(scenario: &Scenario, program: &Path, keep: Option<&Path>) -> Result<Performance, LabError> {
    let checks = (scenario.checks)();
    let mut stage = Stage::set_up(scenario.topology)?;
    let scratch = ScratchDirectory::create(&format!("{}-scenario", stage.net.client.name()))?;
    let directory = keep.unwrap_or(scratch.path());
    let agents = start_agents(&checks, &stage, program)?;
    let captures = start_captures(scenario, &checks, &stage, directory)?;
    let happened = (scenario.run)(&mut stage)?;
    let mut judgements = Vec::new();
    for check in checks.iter().filter(|check| check.ask != Ask::Capture) {
        let agent = agents.get(&check.view).ok_or_else(|| LabError::Plot("a check without its agent".into()))?;
        judgements.push(ask_agent(check, &happened, agent)?);
    }
    for (_, agent) in agents {
        let messages = agent.messages();
        let status = agent.stop()?;
        if !status.success() {
            return Err(LabError::Plot(format!("the agent ended badly after SIGTERM: {status}\n{messages}")));
        }
    }
    for capture in captures {
        let path = capture.path().to_owned();
        let summary = capture.stop()?;
        if summary.dropped > 0 {
            return Err(LabError::Plot(format!("{} lost {} frames", path.display(), summary.dropped)));
        }
    }
    for check in checks.iter().filter(|check| check.ask != Ask::Live) {
        judgements.push(ask_capture(check, &happened, program, scenario, directory, scratch.path())?);
    }
    Ok(Performance { happened, judgements })
}

/// Loading an agent's programs keeps a CPU busy for seconds, most of it the kernel's verifier: many at
/// once would all be late.
static LOADING: Mutex<()> = Mutex::new(());

fn start_agents(checks: &[Check], stage: &Stage, program: &Path) -> Result<BTreeMap<View, Agent>, LabError> {
    let views: BTreeSet<View> = checks.iter().filter(|check| check.ask != Ask::Capture).map(|c| c.view).collect();
    let mut agents = BTreeMap::new();
    // Nothing is behind the lock that a panic could have left half done.
    let _turn = LOADING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for view in views {
        let points = view.agent_points();
        let namespace = match points.first() {
            Some(&point) => stage.net.namespace(point)?,
            None => return Err(LabError::Plot(format!("no agent can watch at {}", view.name()))),
        };
        let interfaces: Vec<_> = points.iter().map(|point| point.interface()).collect();
        let setup = Setup { quiet: true, ..Setup::default() };
        agents.insert(view, Agent::spawn(program, namespace, &interfaces, &setup)?);
    }
    // Those of one scenario load their programs at the same time.
    for agent in agents.values_mut() {
        agent.wait_ready()?;
    }
    Ok(agents)
}

fn capture_path(scenario: &Scenario, point: Point, directory: &Path) -> PathBuf {
    directory.join(format!("{}-{point}.pcap", scenario.id))
}

/// At both hosts always, elsewhere where a check asks for it.
fn start_captures(
    scenario: &Scenario,
    checks: &[Check],
    stage: &Stage,
    directory: &Path,
) -> Result<Vec<Capture>, LabError> {
    std::fs::create_dir_all(directory).during(format!("create {}", directory.display()))?;
    let asked = |point: Point| checks.iter().any(|check| check.view.capture_point() == Some(point));
    let mut captures = Vec::new();
    for point in Point::ALL {
        if matches!(point, Point::Client | Point::Server) || asked(point) {
            let path = capture_path(scenario, point, directory);
            captures.push(Capture::start(stage.net.namespace(point)?, point.interface(), &path, WHOLE)?);
        }
    }
    Ok(captures)
}

/// Asks until the answer is right, or until it should have been.
fn ask_agent(check: &Check, happened: &Happened, agent: &Agent) -> Result<Judgement, LabError> {
    let started = Instant::now();
    let nothing = matches!(check.expect, Expect::Nothing);
    if nothing {
        thread::sleep(SILENCE);
    }
    loop {
        let seen =
            Seen { findings: agent.findings()?, faults: if nothing { unhealthy(agent)? } else { BTreeMap::new() } };
        let differences = judge::differences(check, happened, &seen, true);
        if differences.is_empty() || nothing || started.elapsed() > VERDICT_LIMIT {
            return Ok(judgement(check, happened, &seen, "live".into(), differences));
        }
        thread::sleep(Duration::from_millis(200));
    }
}

/// Connections that the agent does not take for being in sync.
fn unhealthy(agent: &Agent) -> Result<BTreeMap<String, u64>, LabError> {
    let output = agent.run_cli(&["conns", "--limit", "0", "--output", "json"])?;
    let mut states = BTreeMap::new();
    for line in lines(&output.stdout)? {
        match line["sync"].as_str() {
            Some("in_sync") | None => {}
            Some(state) => *states.entry(format!("a connection that is {state}")).or_default() += 1,
        }
    }
    Ok(states)
}

fn ask_capture(
    check: &Check,
    happened: &Happened,
    program: &Path,
    scenario: &Scenario,
    directory: &Path,
    scratch: &Path,
) -> Result<Judgement, LabError> {
    let point = check.view.capture_point().ok_or_else(|| LabError::Plot("no capture is made there".into()))?;
    let whole = capture_path(scenario, point, directory);
    let (path, source) = match check.variation {
        Variation::Whole => (whole, "capture".to_owned()),
        variation => {
            let varied = scratch.join("varied.pcap");
            views::vary(&whole, &varied, variation, happened.server.port())?;
            (varied, format!("capture, {}", variation.name()))
        }
    };
    let segments = matches!(check.expect, Expect::Nothing | Expect::InStep);
    let seen = analyze(program, &path, segments)?;
    let differences = judge::differences(check, happened, &seen, false);
    Ok(judgement(check, happened, &seen, source, differences))
}

fn judgement(check: &Check, happened: &Happened, seen: &Seen, source: String, differences: Vec<String>) -> Judgement {
    let got = judge::in_short(check, happened, seen);
    Judgement { view: check.view.name(), source, expected: check.expect.to_string(), got, differences }
}

/// `whyrst analyze`, with every segment where faults matter that have no finding.
fn analyze(program: &Path, capture: &Path, segments: bool) -> Result<Seen, LabError> {
    let mut arguments: Vec<&OsStr> = vec!["analyze".as_ref(), "--output".as_ref(), "json".as_ref()];
    arguments.extend(segments.then_some(OsStr::new("--segments")));
    arguments.push(capture.as_ref());
    let output = Command::new(program)
        .args(&arguments)
        .stdin(Stdio::null())
        .output()
        .during(format!("start {} analyze", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(LabError::Plot(format!(
            "`whyrst analyze {}` failed ({}): {said}",
            capture.display(),
            output.status
        )));
    }
    let mut faults = BTreeMap::new();
    if segments {
        for line in lines(&output.stdout)? {
            for name in line["hard"].as_array().into_iter().flatten().filter_map(|name| name.as_str()) {
                *faults.entry(name.to_owned()).or_default() += 1;
            }
        }
    }
    // A later object with the same id replaces the former.
    let findings: BTreeMap<u64, _> = verdict::parse_lines(&output.stdout)?.into_iter().map(|f| (f.id, f)).collect();
    Ok(Seen { findings: findings.into_values().collect(), faults })
}

fn lines(text: &[u8]) -> Result<Vec<serde_json::Value>, LabError> {
    let odd = |error: serde_json::Error| LabError::Plot(format!("output that is not JSON Lines: {error}"));
    text.split(|&byte| byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).map_err(odd))
        .collect()
}
