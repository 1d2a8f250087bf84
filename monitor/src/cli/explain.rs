//! `whyrst explain`.

use super::output::Out;
use super::{Connect, Output};
use crate::api::Client;
use crate::api::client::escape;
use crate::error::{Exit, Failure};
use crate::expose::text::{self, Look};
use crate::finding::Finding;
use crate::store::Wanted;
use anyhow::Context;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  whyrst explain                                      the newest finding
  whyrst explain 42                                   finding 42 of `whyrst resets`
  whyrst explain 1:LQU9qZlK+B5F3KDmev6m5PMibrg=       the newest finding of that connection")]
pub struct ExplainArgs {
    /// Number of a finding, or the community id of a connection
    #[arg(value_name = "ID", default_value = "latest", hide_default_value = true)]
    pub id: Wanted,

    #[command(flatten)]
    pub connect: Connect,
}

pub async fn run(args: &ExplainArgs, output: Output) -> Result<Exit, Failure> {
    let path = format!("/v1/findings/{}", escape(&args.id.to_string()));
    let object = Client::new(&args.connect.socket).object(&path).await?;
    let mut out = Out::default();
    match output {
        Output::Json => out.bytes(&object)?,
        Output::Text => {
            let finding: Finding = serde_json::from_slice(&object)
                .context("cannot read the finding; are agent and command of the same version?")?;
            out.text(&text::story::story(&finding, &Look::of_stdout()))?;
        }
    }
    out.flush()?;
    Ok(Exit::Done)
}
