//! The command line as a whole. Each verb's arguments are in its own file.

use super::{analyze, completions, conns, explain, resets, run, status};
use crate::capture::object;
use crate::config::defaults;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;
use std::sync::LazyLock;

/// The object's hash tells whether two agents run the same kernel programs.
static LONG_VERSION: LazyLock<String> =
    LazyLock::new(|| format!("{} (eBPF object {})", env!("CARGO_PKG_VERSION"), object::short_hash()));

#[derive(Debug, Parser)]
#[command(
    name = "whyrst",
    version,
    long_version = LONG_VERSION.as_str(),
    about = "Tells why a TCP connection was reset",
    long_about = "Tells why a TCP connection was reset.\n\n\
        An agent (`whyrst run`) watches every TCP segment of an interface inside the kernel, follows the sequence and \
        window numbers of both ends, and gives each reset a verdict: what happened, who caused it, how sure that is. \
        `whyrst analyze` does the same for a capture file, without root.",
    after_help = EXAMPLES,
    after_long_help = EXAMPLES_AND_EXIT_CODES,
    propagate_version = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,

    /// Text for people, or JSON Lines for programs
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text, value_name = "FORMAT", display_order = 900)]
    pub output: Output,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch interfaces: attach the kernel programs and answer the other commands
    Run(run::RunArgs),
    /// Show what the agent watches, how much it holds and what it missed
    Status(status::StatusArgs),
    /// List the connections that are tracked now
    Conns(conns::ConnsArgs),
    /// List the resets and their causes, or follow them
    Resets(resets::ResetsArgs),
    /// Tell the story of one finding: from the first divergence to the reset
    Explain(explain::ExplainArgs),
    /// Explain the resets of capture files; needs no agent and no root
    Analyze(analyze::AnalyzeArgs),
    /// Say what this kernel and these privileges allow, and what would be used
    Doctor,
    /// Print a completion script for a shell
    Completions(completions::CompletionsArgs),
}

/// Where the agent is.
#[derive(Debug, Args)]
pub struct Connect {
    /// The agent's socket
    #[arg(long, value_name = "PATH", default_value = defaults::SOCKET, display_order = 800)]
    pub socket: PathBuf,
}

const EXAMPLES: &str = "\
Examples:
  whyrst run -i eth0                  watch eth0 until Ctrl-C; metrics on port 18908
  whyrst resets --since 1h            what was reset in the last hour, and why
  whyrst explain 42                   the whole story of finding 42
  whyrst analyze trace.pcap           the same for a capture file, without root
  whyrst doctor                       what this machine allows

`whyrst VERB --help` has more; `whyrst --help` lists the exit codes.";

const EXAMPLES_AND_EXIT_CODES: &str = "\
Examples:
  whyrst run -i eth0                  watch eth0 until Ctrl-C; metrics on port 18908
  whyrst resets --since 1h            what was reset in the last hour, and why
  whyrst resets --follow -o json      every finding as it is made, one JSON object a line
  whyrst explain 42                   the whole story of finding 42
  whyrst conns --desync               connections that are desynchronised now
  whyrst analyze trace.pcap           the same for a capture file, without root
  whyrst doctor                       what this machine allows

Exit codes:
  0  done
  1  failed at run time
  2  wrong usage: arguments or configuration
  3  problems found, only with --fail-on
  4  not permitted
  5  agent not reachable

Data goes to standard output, everything else to standard error. NO_COLOR and CLICOLOR_FORCE are respected.";
