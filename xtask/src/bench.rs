//! `cargo xtask bench`: what whyrst costs, with the programs and the agent of this build.

use anyhow::Result;

use crate::place;
use crate::process::{command, run as run_command};

#[derive(clap::Args)]
pub struct Args {
    /// Passed on to `whyrst-bench`; `cargo xtask bench --help` shows its flags
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    let root = place::root()?;
    run_command(
        command("cargo").args(["build", "--release", "-p", "monitor", "-p", "whyrst-bench"]).current_dir(&root),
    )?;
    let mut bench = command(place::target()?.join("release/whyrst-bench"));
    run_command(bench.current_dir(&root).args(&args.rest))
}

/// Fails if verified instructions or a ratio to the floor have risen (`bench/baseline.toml`). Programs are timed by the
/// kernel, so the build need not be optimised.
pub fn guard() -> Result<()> {
    let root = place::root()?;
    run_command(command("cargo").args(["build", "-p", "whyrst-bench"]).current_dir(&root))?;
    run_command(command(place::target()?.join("debug/whyrst-bench")).current_dir(&root).arg("--guard"))
}
