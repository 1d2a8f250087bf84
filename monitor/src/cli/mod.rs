//! The command `whyrst`: one file per verb, each with its arguments and its work.

pub mod analyze;
mod args;
pub mod completions;
pub mod conns;
pub mod doctor;
pub mod explain;
pub mod names;
pub mod output;
pub mod resets;
pub mod run;
pub mod status;
pub mod values;

pub use args::{Cli, Command, Connect, Output};

use crate::error::{Exit, Failure};
use crate::logging;
use clap::Parser;
use std::process::ExitCode;

/// Parses the arguments, runs the verb, maps what went wrong to an exit code.
pub fn main() -> ExitCode {
    // Usage errors end here, with clap's own 2; help and version with 0.
    let cli = Cli::parse();
    match dispatch(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if !matches!(failure, Failure::ClosedPipe) {
                eprintln!("whyrst: {failure}");
            }
            failure.exit().into()
        }
    }
}

fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let output = cli.output;
    if !matches!(cli.command, Command::Run(_)) {
        let directives = std::env::var("RUST_LOG").ok().filter(|s| !s.is_empty());
        let filter = directives.map_or(logging::Filter::Level(logging::Level::Warn), logging::Filter::Directives);
        logging::init(&filter, logging::Format::Text).map_err(Failure::Usage)?;
    }
    match cli.command {
        Command::Run(args) => run::run(args),
        Command::Analyze(args) => analyze::run(&args, output),
        Command::Doctor => doctor::run(output),
        Command::Completions(args) => completions::run(&args),
        Command::Status(args) => block_on(status::run(&args, output)),
        Command::Conns(args) => block_on(conns::run(&args, output)),
        Command::Resets(args) => block_on(resets::run(&args, output)),
        Command::Explain(args) => block_on(explain::run(&args, output)),
    }
}

/// The verbs that ask the agent need one thread.
fn block_on(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|e| Failure::Failed(e.into()))?.block_on(work)
}
