//! `whyrst completions`.

use super::Cli;
use super::output::Out;
use crate::error::{Exit, Failure};
use clap::CommandFactory;
use clap_complete::Shell;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  whyrst completions bash > /etc/bash_completion.d/whyrst
  whyrst completions zsh > ~/.zfunc/_whyrst
  whyrst completions fish > ~/.config/fish/completions/whyrst.fish")]
pub struct CompletionsArgs {
    #[arg(value_enum, value_name = "SHELL")]
    pub shell: Shell,
}

pub fn run(args: &CompletionsArgs) -> Result<Exit, Failure> {
    // Into memory first: the generator panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "whyrst", &mut script);
    let mut out = Out::default();
    out.text(&String::from_utf8_lossy(&script))?;
    out.flush()?;
    Ok(Exit::Done)
}
