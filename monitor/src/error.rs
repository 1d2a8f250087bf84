//! What a verb can fail with, and the exit code that it ends with.

use crate::capture::live::AttachError;
use std::process::ExitCode;

/// How a verb ended. The numbers are part of the interface; `docs/cli.md` and `--help` list them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    ProblemsFound = 3,
    NotPermitted = 4,
    Unreachable = 5,
}

impl Exit {
    pub const ALL: [Exit; 6] =
        [Exit::Done, Exit::Failed, Exit::Usage, Exit::ProblemsFound, Exit::NotPermitted, Exit::Unreachable];

    pub const fn meaning(self) -> &'static str {
        match self {
            Exit::Done => "done",
            Exit::Failed => "failed at run time",
            Exit::Usage => "wrong usage: arguments or configuration",
            Exit::ProblemsFound => "problems found, only with --fail-on",
            Exit::NotPermitted => "not permitted",
            Exit::Unreachable => "agent not reachable",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Why a verb failed. Each message says what failed, on what, and what to try next.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    NotPermitted(String),
    #[error("{0}")]
    Unreachable(String),
    /// Nobody reads standard output any more: quiet success, as for any filter.
    #[error("standard output was closed")]
    ClosedPipe,
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

impl Failure {
    pub fn exit(&self) -> Exit {
        match self {
            Failure::Usage(_) => Exit::Usage,
            Failure::NotPermitted(_) => Exit::NotPermitted,
            Failure::Unreachable(_) => Exit::Unreachable,
            Failure::ClosedPipe => Exit::Done,
            Failure::Failed(_) => Exit::Failed,
        }
    }
}

impl From<AttachError> for Failure {
    fn from(error: AttachError) -> Failure {
        match error {
            AttachError::NotPermitted(message) => Failure::NotPermitted(message),
            AttachError::Usage(message) => Failure::Usage(message),
            AttachError::Failed(message) => Failure::Failed(anyhow::Error::msg(message)),
        }
    }
}
