//! One error type for the laboratory; every variant says what failed, on what, and what to try.
//!
//! The error of the operating system is the `source`: print the whole chain (`{:#}` of `anyhow`).

use std::io;
use std::time::Duration;

#[derive(Debug, thiserror::Error)]
pub enum LabError {
    #[error("network namespaces need root; run this as root or with `sudo`")]
    NotRoot,

    #[error("cannot start `{command}`; install the package that provides it ({hint})")]
    CommandStart { command: String, hint: &'static str, source: io::Error },

    #[error("`{command}` failed ({status}): {stderr}; {hint}")]
    Command { command: String, status: String, stderr: String, hint: &'static str },

    #[error("cannot {what}")]
    Io { what: String, source: io::Error },

    #[error("waited {waited:?} for {what}, in vain")]
    Timeout { what: String, waited: Duration },

    /// The machinery worked, but the wire or an application did not do what the story needs.
    #[error("the story did not happen: {0}")]
    Plot(String),
}

/// Adds what was attempted to an `io::Error`.
pub trait During<T> {
    fn during(self, what: impl Into<String>) -> Result<T, LabError>;
}

impl<T, E: Into<io::Error>> During<T> for Result<T, E> {
    fn during(self, what: impl Into<String>) -> Result<T, LabError> {
        self.map_err(|source| LabError::Io { what: what.into(), source: source.into() })
    }
}
