//! `cargo xtask lab`: every scenario of the laboratory, with the agent that belongs to this build.

use anyhow::Result;

use crate::place;
use crate::process::{command, run as run_command};
use crate::setup::{self, Purpose};

#[derive(clap::Args, Default)]
pub struct Args {
    /// Only these scenarios; `whyrst-lab scenario --list` names them
    ids: Vec<String>,
    /// Passed on to `whyrst-lab scenario`
    #[arg(last = true)]
    rest: Vec<String>,
}

pub fn run(args: &Args) -> Result<()> {
    setup::ensure(Purpose::Demo)?;
    let root = place::root()?;
    run_command(command("cargo").args(["build", "-p", "monitor", "-p", "whyrst-lab"]).current_dir(&root))?;
    let built = place::target()?.join("debug");
    let mut lab = command(built.join("whyrst-lab"));
    lab.current_dir(&root).arg("scenario").args(&args.ids).arg("--agent").arg(built.join("whyrst")).args(&args.rest);
    run_command(&mut lab)
}
