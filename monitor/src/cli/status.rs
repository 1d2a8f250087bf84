//! `whyrst status`.

use super::output::Out;
use super::{Connect, Output};
use crate::api::Client;
use crate::api::status::StatusReport;
use crate::error::{Exit, Failure};
use crate::expose::text::{self, Look};
use anyhow::Context;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  whyrst status
  whyrst status -o json | jq .lost")]
pub struct StatusArgs {
    #[command(flatten)]
    pub connect: Connect,
}

pub async fn run(args: &StatusArgs, output: Output) -> Result<Exit, Failure> {
    let object = Client::new(&args.connect.socket).object("/v1/status").await?;
    let mut out = Out::default();
    match output {
        Output::Json => out.bytes(&object)?,
        Output::Text => {
            let status: StatusReport = serde_json::from_slice(&object).context("cannot read the agent's status")?;
            out.text(&text::status::status(&status, &Look::of_stdout()))?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}
