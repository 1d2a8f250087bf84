//! Messages of the agent itself: to standard error, as text or JSON. `log` records (aya's) join them.

use serde::Deserialize;
use std::io::IsTerminal;
use tracing_subscriber::filter::EnvFilter;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Text,
    Json,
}

/// How much is said. `RUST_LOG` takes the syntax of tracing-subscriber's `EnvFilter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    Level(Level),
    Directives(String),
}

/// Sets up messages for the whole process. A second call changes nothing.
pub fn init(filter: &Filter, format: Format) -> Result<(), String> {
    let filter = match filter {
        // HTTP plumbing is of interest to nobody who did not name it.
        Filter::Level(level) => EnvFilter::new(format!("{level:?},hyper=warn,hyper_util=warn").to_lowercase()),
        Filter::Directives(text) => EnvFilter::try_new(text)
            .map_err(|e| format!("cannot read RUST_LOG={text}: {e}; try RUST_LOG=debug or RUST_LOG=monitor=trace"))?,
    };
    // Fails only where a logger is set already, as in tests that share a process.
    let _ = tracing_log::LogTracer::init();
    let colour = anstream::AutoStream::choice(&std::io::stderr()) != anstream::ColorChoice::Never;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _ = match format {
        Format::Json => tracing::subscriber::set_global_default(builder.json().flatten_event(true).finish()),
        // journald and terminals: the former stamps lines itself, but files and pipes do not.
        Format::Text => tracing::subscriber::set_global_default(builder.with_ansi(colour).with_target(false).finish()),
    };
    Ok(())
}

/// Whether a progress bar has a reader.
pub fn stderr_is_terminal() -> bool {
    std::io::stderr().is_terminal()
}
