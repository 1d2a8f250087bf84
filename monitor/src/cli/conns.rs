//! `whyrst conns`.

use super::names::{STATES, SYNC_STATES};
use super::output::Out;
use super::values::{self, LIMIT};
use super::{Connect, Output};
use crate::api::Client;
use crate::api::query::{ConnectionQuery, Prefix, Sort};
use crate::api::rows::ConnectionReport;
use crate::error::{Exit, Failure};
use crate::expose::text::{self, Look, human};
use anyhow::Context;
use clap::builder::PossibleValuesParser;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  whyrst conns                                  the 100 connections with most bytes
  whyrst conns --desync                         those that are desynchronised now
  whyrst conns --state established --server 10.0.0.0/8 --port 5432
  whyrst conns --sort retransmissions --limit 10
  whyrst conns --limit 0 -o json                all of them, one JSON object a line")]
pub struct ConnsArgs {
    /// Only connections in these states
    #[arg(long, value_name = "STATE", value_delimiter = ',', value_parser = PossibleValuesParser::new(STATES))]
    pub state: Vec<String>,

    /// Only connections in these states of agreement
    #[arg(long, value_name = "SYNC", value_delimiter = ',', value_parser = PossibleValuesParser::new(SYNC_STATES))]
    pub sync: Vec<String>,

    /// Only desynchronised connections: --sync desynced
    #[arg(long, conflicts_with = "sync")]
    pub desync: bool,

    /// Only clients with this address or in this network
    #[arg(long, value_name = "ADDR[/BITS]")]
    pub client: Option<Prefix>,

    /// Only servers with this address or in this network
    #[arg(long, value_name = "ADDR[/BITS]")]
    pub server: Option<Prefix>,

    /// Only connections with this port at either end
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,

    /// What comes first: the most of it
    #[arg(long, value_enum, default_value_t = Sort::Bytes)]
    pub sort: Sort,

    /// Show at most so many; 0 shows all
    #[arg(long, value_name = "N", default_value_t = LIMIT)]
    pub limit: usize,

    #[command(flatten)]
    pub connect: Connect,
}

impl ConnsArgs {
    fn query(&self) -> ConnectionQuery {
        ConnectionQuery {
            state: values::joined(&self.state),
            sync: if self.desync { Some("desynced".into()) } else { values::joined(&self.sync) },
            client: self.client,
            server: self.server,
            port: self.port,
            sort: Some(self.sort),
            limit: values::limit(self.limit),
        }
    }
}

pub async fn run(args: &ConnsArgs, output: Output) -> Result<Exit, Failure> {
    let mut lines = Client::new(&args.connect.socket).lines("/v1/connections", &args.query()).await?;
    let mut out = Out::default();
    let mut rows = Vec::new();
    let mut shown: u64 = 0;
    while let Some(line) = lines.next().await? {
        shown += 1;
        match output {
            Output::Json => out.bytes(&line)?,
            Output::Text => {
                let report: ConnectionReport = serde_json::from_slice(&line).context("cannot read a connection")?;
                rows.push(report.row);
            }
        }
    }
    if !rows.is_empty() {
        out.text(&text::conns::connections(&rows, &Look::of_stdout()))?;
    }
    out.flush()?;
    note(shown, lines.matched, lines.total);
    Ok(Exit::Done)
}

/// What the list leaves out.
fn note(shown: u64, matched: Option<u64>, total: Option<u64>) {
    match (matched, total) {
        (Some(matched), _) if matched > shown => {
            eprintln!("{} of {} shown; --limit 0 shows all", human::count(shown), human::count(matched));
        }
        (Some(0), Some(0)) => eprintln!("no connections are tracked"),
        (Some(0), Some(total)) => eprintln!("none of {} matches", human::counted(total, "connection", "connections")),
        _ => {}
    }
}
