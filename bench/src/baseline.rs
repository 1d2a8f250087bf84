//! The figures that must not rise unnoticed: instructions that the verifier walks, and ratios to the floor. Never a
//! time.

use crate::Stand;
use crate::machine;
use crate::packets::{self, Effort, GUARDED, Row};
use crate::player::Hook;
use anyhow::{Context, Result};
use monitor::capture::loader::Sizes;
use monitor::config::defaults;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Baseline {
    /// Processor that the ratios are of.
    cpu: String,
    /// Kernel ("6.18") -> program -> instructions. Verifiers differ.
    verified: BTreeMap<String, BTreeMap<String, u32>>,
    /// Row -> hook -> ratio to the floor.
    ratio: BTreeMap<String, BTreeMap<String, f64>>,
}

/// What may come on top of a committed figure.
const MARGIN: f64 = 1.15;
/// Connections that the tables take: they fit into the second-level cache.
const CONNECTIONS: u32 = 512;
const EFFORT: Effort = Effort { rounds: 21, packets: 50_000 };
/// Noise only ever adds, so a row that seems to have risen is measured again, this often, each time with programs and tables
/// loaded anew: where in memory they came to lie can make a quarter of a figure.
const ATTEMPTS: u32 = 8;
/// Loads of which the middle one is committed: a guard that must meet the best of them by luck would fail for nothing.
const LOADS: usize = 3;

/// The best round of the agent's over the best of the floor's.
fn ratio(stand: &mut Stand, row: &Row, hook: Hook) -> Result<f64> {
    let f = packets::measure(&mut stand.player, &mut stand.agent, row, hook, EFFORT)?;
    Ok(f.agent.min / f.floor.min)
}

/// `6.18` of `6.18.3-1-amd64`.
fn series(kernel: &str) -> String {
    kernel.split('.').take(2).collect::<Vec<_>>().join(".")
}

fn verified(stand: &Stand) -> Result<BTreeMap<String, u32>> {
    let sizes = stand.agent.verified.as_ref().map_err(|e| anyhow::anyhow!("{e:#}"))?;
    Ok(sizes.iter().map(|s| (s.program.clone(), s.verified)).collect())
}

fn load() -> Result<Stand> {
    Stand::new(Sizes { connections: CONNECTIONS, ring_bytes: defaults::RING_BYTES })
}

/// Writes what is measured now; figures of other kernels stay.
pub fn update(path: &Path) -> Result<()> {
    let mut baseline: Baseline = match std::fs::read_to_string(path) {
        Ok(text) => toml::from_str(&text).with_context(|| path.display().to_string())?,
        Err(_) => Baseline::default(),
    };
    let here = machine::describe(0.0);
    let mut ratios: BTreeMap<(&str, &str), Vec<f64>> = BTreeMap::new();
    for _ in 0..LOADS {
        let mut stand = load()?;
        baseline.verified.insert(series(&here.kernel), verified(&stand)?);
        for row in GUARDED {
            for hook in Hook::ALL {
                let measured = ratio(&mut stand, row, hook)?;
                ratios.entry((row.name, hook.name())).or_default().push(measured);
            }
        }
    }
    baseline.cpu = here.cpu;
    baseline.ratio.clear();
    for ((row, hook), mut measured) in ratios {
        measured.sort_by(f64::total_cmp);
        let rounded = (measured[LOADS / 2] * 100.0).round() / 100.0;
        println!("{row}, {hook}: {rounded:.2} of {measured:.2?}");
        baseline.ratio.entry(row.into()).or_default().insert(hook.into(), rounded);
    }
    let text = format!(
        "# Written by `cargo xtask bench --update-baseline`; `--guard` compares (docs/performance.md).\n{}",
        toml::to_string(&baseline)?
    );
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// False if a figure has risen by more than the margin.
pub fn guard(path: &Path) -> Result<bool> {
    let mut stand = load()?;
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let baseline: Baseline = toml::from_str(&text).with_context(|| path.display().to_string())?;
    let here = machine::describe(0.0);
    let mut good = true;
    let mut judge = |what: String, value: f64, committed: f64| {
        let risen = value > committed * MARGIN;
        let word = if risen { "RISEN by more than 15 %" } else { "ok" };
        println!("{what}: {value:.2}, committed {committed:.2}: {word}");
        good &= !risen;
    };
    match baseline.verified.get(&series(&here.kernel)) {
        Some(committed) => {
            for (program, count) in verified(&stand)? {
                match committed.get(&program) {
                    Some(known) => judge(format!("{program}, verified instructions"), count.into(), (*known).into()),
                    None => println!("{program}: {count} verified instructions, none committed"),
                }
            }
        }
        None => println!("verified instructions: none committed for Linux {}", series(&here.kernel)),
    }
    // Another processor has other ratios: a comparison would blame a change for the machine.
    let comparable = here.cpu == baseline.cpu;
    if !comparable {
        println!("ratios to the floor are not judged: committed ones are of {}, this is {}", baseline.cpu, here.cpu);
    }
    for row in GUARDED {
        for hook in Hook::ALL {
            let mut best = ratio(&mut stand, row, hook)?;
            let Some(committed) = baseline.ratio.get(row.name).and_then(|hooks| hooks.get(hook.name())) else {
                println!("{}, {}: {best:.2}, none committed", row.name, hook.name());
                continue;
            };
            if !comparable {
                println!("{}, {}: {best:.2}, committed {committed:.2}", row.name, hook.name());
                continue;
            }
            for _ in 1..ATTEMPTS {
                if best <= committed * MARGIN {
                    break;
                }
                drop(stand);
                stand = load()?;
                best = best.min(ratio(&mut stand, row, hook)?);
            }
            judge(format!("{}, {}, ratio to the floor", row.name, hook.name()), best, *committed);
        }
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernels_series_is_its_first_two_numbers() {
        assert_eq!(series("6.18.3-1-amd64"), "6.18");
        assert_eq!(series("7.0"), "7.0");
    }
}
