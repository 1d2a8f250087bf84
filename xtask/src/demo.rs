//! `cargo xtask demo`: the shortest way from a checkout to a reset that is explained.

use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};

use crate::place;
use crate::process::{command, run as run_command};
use crate::setup::{self, Purpose};

#[derive(clap::Args)]
pub struct Args {
    /// Passed on to `whyrst-lab demo`
    #[arg(last = true)]
    rest: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Demo)?;
    let root = place::root()?;
    run_command(command("cargo").args(["build", "--release", "-p", "monitor", "-p", "whyrst-lab"]).current_dir(&root))?;
    let built = place::target()?.join("release");
    let lab = built.join("whyrst-lab");
    // Replacing this process keeps Ctrl-C, the terminal and the exit status the demo's own.
    let error = Command::new(&lab)
        .env_remove("LD_LIBRARY_PATH")
        .current_dir(&root)
        .arg("demo")
        .arg("--agent")
        .arg(built.join("whyrst"))
        .args(&args.rest)
        .exec();
    Err(error).with_context(|| format!("cannot start {}", lab.display()))
}
