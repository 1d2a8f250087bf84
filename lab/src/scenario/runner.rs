//! Several scenarios at once (they mostly wait), and a table of what came of them.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::perform::{self, Judgement, Performance};
use super::{LIMIT, Scenario};
use crate::LabError;
use crate::text::{Page, Tone};

/// What came of one scenario.
struct Outcome {
    scenario: &'static Scenario,
    took: Duration,
    /// Why the first attempt did not count, if there were two.
    repeated: Option<String>,
    result: Result<Performance, LabError>,
    /// It did not end in time; its namespaces live until we end.
    hung: bool,
}

/// The end of a run.
pub struct Summary {
    pub failed: Vec<&'static str>,
    /// Something hung: whoever called must remove what is left.
    pub hung: bool,
}

/// Performs these, `jobs` at once, printing each result when it is there. `json` prints JSON Lines.
pub fn run(
    scenarios: &[&'static Scenario],
    program: &Path,
    jobs: usize,
    keep: Option<&Path>,
    page: &Page,
    json: bool,
) -> Summary {
    let queue = Mutex::new(VecDeque::from(scenarios.to_vec()));
    let started = Instant::now();
    let mut summary = Summary { failed: Vec::new(), hung: false };
    let (sender, outcomes) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, scenarios.len().max(1)) {
            let sender = sender.clone();
            let queue = &queue;
            scope.spawn(move || {
                // The lock is held only while taking the next one, which cannot panic.
                let next = || queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop_front();
                while let Some(scenario) = next() {
                    if sender.send(attempt(scenario, program, keep)).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        for outcome in outcomes {
            if !outcome.right() {
                summary.failed.push(outcome.scenario.id);
            }
            summary.hung |= outcome.hung;
            if json { page.line(&outcome.json().to_string()) } else { outcome.print(page) }
        }
    });
    summary.failed.sort_unstable();
    if !json {
        page.blank();
        let seconds = started.elapsed().as_secs();
        match summary.failed.as_slice() {
            [] => page.line(&format!("{} scenarios, all right, {seconds} s", scenarios.len())),
            failed => page.line(&format!(
                "{} of {} scenarios are not right, {seconds} s: {}",
                failed.len(),
                scenarios.len(),
                failed.join(" ")
            )),
        }
    }
    summary
}

/// Once more if the situation did not come about, and never silently.
fn attempt(scenario: &'static Scenario, program: &Path, keep: Option<&Path>) -> Outcome {
    let started = Instant::now();
    let outcome = |result, repeated, hung| Outcome { scenario, took: started.elapsed(), repeated, result, hung };
    match within_limit(scenario, program, keep) {
        Err(LabError::Plot(why)) => match within_limit(scenario, program, keep) {
            Err(LabError::Timeout { what, waited }) if waited >= LIMIT => {
                outcome(Err(LabError::Timeout { what, waited }), Some(why), true)
            }
            result => outcome(result, Some(why), false),
        },
        Err(LabError::Timeout { what, waited }) if waited >= LIMIT => {
            outcome(Err(LabError::Timeout { what, waited }), None, true)
        }
        result => outcome(result, None, false),
    }
}

fn within_limit(scenario: &'static Scenario, program: &Path, keep: Option<&Path>) -> Result<Performance, LabError> {
    let (sender, result) = mpsc::channel();
    let (program, keep) = (program.to_owned(), keep.map(Path::to_owned));
    thread::spawn(move || {
        // Nobody listens any more when the limit has passed.
        let _ = sender.send(perform::perform(scenario, &program, keep.as_deref()));
    });
    result
        .recv_timeout(LIMIT)
        .unwrap_or_else(|_| Err(LabError::Timeout { what: format!("{} to end", scenario.id), waited: LIMIT }))
}

impl Outcome {
    fn right(&self) -> bool {
        self.result.as_ref().is_ok_and(|performance| performance.judgements.iter().all(right))
    }

    fn print(&self, page: &Page) {
        let (tone, word) = if self.right() { (Tone::Good, "ok") } else { (Tone::Bad, "WRONG") };
        let label = format!("{:<6}{word:<6}{:>5.1} s  ", self.scenario.id, self.took.as_secs_f64());
        page.judged(tone, &label, self.scenario.title);
        if let Some(why) = &self.repeated {
            page.item("      second attempt  ", &format!("the first did not come about: {why}"));
        }
        let performance = match &self.result {
            Ok(performance) => performance,
            Err(error) => {
                page.judged(Tone::Bad, "      did not happen  ", &chain(error));
                return;
            }
        };
        page.item("      happened  ", &performance.happened.told);
        for judgement in &performance.judgements {
            let label = format!("      {}, {}  ", judgement.view, judgement.source);
            match judgement.differences.as_slice() {
                [] => page.item(&label, &judgement.got),
                differences => {
                    page.judged(Tone::Bad, &label, &judgement.got);
                    page.item("         expected  ", &judgement.expected);
                    for difference in differences {
                        page.judged(Tone::Bad, "         WRONG  ", difference);
                    }
                }
            }
        }
    }

    fn json(&self) -> serde_json::Value {
        let (happened, judgements, error) = match &self.result {
            Ok(performance) => (Some(&performance.happened.told), performance.judgements.as_slice(), None),
            Err(error) => (None, &[][..], Some(chain(error))),
        };
        json!({
            "id": self.scenario.id,
            "title": self.scenario.title,
            "topology": self.scenario.topology.name(),
            "right": self.right(),
            "seconds": self.took.as_secs_f64(),
            "repeated": self.repeated,
            "error": error,
            "happened": happened,
            "judgements": judgements,
        })
    }
}

fn right(judgement: &Judgement) -> bool {
    judgement.differences.is_empty()
}

/// An error with its causes.
fn chain(error: &LabError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
