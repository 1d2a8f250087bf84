//! `cargo xtask fuzz`: the fuzz targets, each for a bounded number of inputs.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::place;
use crate::process::{command, find, run as run_command};
use crate::setup::{self, Purpose};

pub const CARGO_FUZZ: &str = "0.13.2";

/// Target, and inputs of one run: about a quarter of a minute each on two cores. `analyze` needs an instrumented build
/// of the agent's library, so it is for people who look for something; its corpus is replayed by an ordinary test.
const TARGETS: [(&str, u64); 4] = [("frame", 400_000), ("options", 800_000), ("tracker", 100_000), ("capture", 15_000)];
const ON_REQUEST: &str = "analyze";
/// A machine that is busy does fewer.
const MOST_SECONDS: u32 = 60;

#[derive(clap::Args, Default)]
pub struct Args {
    /// Only these: frame, options, tracker, capture, analyze
    targets: Vec<String>,
    /// Fuzz each for this long, with another seed each time, instead of the fixed number of inputs
    #[arg(long)]
    seconds: Option<u32>,
}

pub fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Fuzz)?;
    let known = |name: &str| name == ON_REQUEST || TARGETS.iter().any(|(target, _)| *target == name);
    if let Some(wrong) = args.targets.iter().find(|name| !known(name)) {
        bail!("no target {wrong}; there are: frame, options, tracker, capture, analyze");
    }
    let root = place::root()?;
    let mut chosen: Vec<(&str, u64)> = TARGETS.to_vec();
    if !args.targets.is_empty() {
        chosen.push((ON_REQUEST, 20_000));
        chosen.retain(|(target, _)| args.targets.iter().any(|name| name == target));
    }
    for (target, inputs) in chosen {
        fuzz(&root, target, inputs, args.seconds)?;
    }
    Ok(())
}

fn fuzz(root: &Path, target: &str, inputs: u64, seconds: Option<u32>) -> Result<()> {
    // What the fuzzer finds on the way goes there, not into the committed corpus.
    let scratch = root.join("target/fuzz-corpus").join(target);
    std::fs::create_dir_all(&scratch).with_context(|| format!("cannot make {}", scratch.display()))?;
    let mut cargo = cargo_fuzz(root);
    cargo.args(["run", "--target-dir", "target/fuzz"]);
    if target == ON_REQUEST {
        cargo.args(["--features", ON_REQUEST]);
    }
    cargo.arg(target).arg(&scratch).arg(root.join("fuzz/corpus").join(target)).arg("--");
    match seconds {
        Some(seconds) => cargo.arg(format!("-max_total_time={seconds}")),
        None => {
            cargo.args([format!("-runs={inputs}"), "-seed=189080".into(), format!("-max_total_time={MOST_SECONDS}")])
        }
    };
    cargo.args(["-rss_limit_mb=2048", "-timeout=20", "-print_final_stats=0", "-verbosity=0", "-print_pcs=0"]);
    run_command(&mut cargo).with_context(|| {
        format!("target {target} broke: its input is in fuzz/artifacts/{target}; keep it in fuzz/corpus/{target} with the fix")
    })?;
    println!("fuzz: {target} held");
    Ok(())
}

fn cargo_fuzz(root: &Path) -> Command {
    let mut cargo = command("cargo");
    // The instrumentation is an unstable flag of a stable compiler; the eBPF object is built the same way.
    cargo.current_dir(root).env("RUSTC_BOOTSTRAP", "1").arg("fuzz");
    cargo
}

/// Whether the pinned cargo-fuzz is there.
pub fn is_installed() -> bool {
    find("cargo-fuzz").is_some_and(|program| {
        let version = crate::process::output(command(program).arg("--version")).unwrap_or_default();
        version.trim() == format!("cargo-fuzz {CARGO_FUZZ}")
    })
}
