//! `whyrst resets`.

use super::names::{CAUSES, CULPRITS, KINDS};
use super::output::Out;
use super::values::{self, LIMIT, Since};
use super::{Connect, Output};
use crate::api::Client;
use crate::api::client::Lines;
use crate::api::query::FindingQuery;
use crate::error::{Exit, Failure};
use crate::expose::text::{self, Look, human};
use crate::finding::Finding;
use crate::groups::Groups;
use anyhow::Context;
use clap::builder::PossibleValuesParser;
use serde_json::Value;

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  whyrst resets                                 the newest 100 findings, oldest first
  whyrst resets --since 10m --cause nat_state_fault,endpoint_sequence_fault
  whyrst resets --since 2026-11-23T08:00:00Z --type reset
  whyrst resets --group                         what happens again and again, the most frequent first
  whyrst resets --follow                        new findings as they are made, until Ctrl-C
  whyrst resets --follow --since 1h -o json     the last hour, then what comes

With --follow, a finding is printed again when later evidence changes it: same id, the last one counts.")]
pub struct ResetsArgs {
    /// Go on with new findings; the past only with --since or --limit
    #[arg(short, long)]
    pub follow: bool,

    /// Count findings that are alike: same cause, server network and port, distance of the numbers, silence before
    #[arg(short, long, conflicts_with = "follow")]
    pub group: bool,

    /// Not older than this: an age (10m, 1h 30m, 2d) or a time (RFC 3339, or local without a zone)
    #[arg(long, value_name = "AGE|TIME", value_parser = values::since)]
    pub since: Option<Since>,

    /// Only these causes
    #[arg(long, value_name = "CAUSE", value_delimiter = ',', hide_possible_values = true, value_parser = PossibleValuesParser::new(CAUSES))]
    pub cause: Vec<String>,

    /// Only these culprits
    #[arg(long, value_name = "CULPRIT", value_delimiter = ',', value_parser = PossibleValuesParser::new(CULPRITS))]
    pub culprit: Vec<String>,

    /// Only findings of these types
    #[arg(long = "type", value_name = "TYPE", value_delimiter = ',', value_parser = PossibleValuesParser::new(KINDS))]
    pub kind: Vec<String>,

    /// Show at most so many, the newest; 0 shows all [default: 100; with --follow, none of the past]
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,

    #[command(flatten)]
    pub connect: Connect,
}

impl ResetsArgs {
    fn query(&self) -> FindingQuery {
        let limit = match self.limit {
            None if self.follow => None,
            None => Some(LIMIT),
            // The server takes the absence of both limit and start as "nothing of the past".
            Some(0) if self.follow && self.since.is_none() => Some(usize::MAX),
            Some(n) => values::limit(n),
        };
        // All of them are counted; the limit is for the groups.
        let limit = limit.filter(|_| !self.group);
        FindingQuery {
            since_ns: self.since.map(Since::as_unix_ns),
            kind: values::joined(&self.kind),
            cause: values::joined(&self.cause),
            culprit: values::joined(&self.culprit),
            limit,
        }
    }
}

pub async fn run(args: &ResetsArgs, output: Output) -> Result<Exit, Failure> {
    let client = Client::new(&args.connect.socket);
    let mut printer = Printer { out: Out::default(), output, look: Look::of_stdout(), shown: 0 };
    if args.follow {
        let lines = client.lines("/v1/findings/follow", &args.query()).await?;
        return follow(lines, printer).await;
    }
    let mut lines = client.lines("/v1/findings", &args.query()).await?;
    if args.group {
        return group(lines, args.limit, printer).await;
    }
    while let Some(line) = lines.next().await? {
        printer.print(&line)?;
    }
    printer.out.flush()?;
    note(printer.shown, lines.matched, lines.total);
    Ok(Exit::Done)
}

async fn group(mut lines: Lines, limit: Option<usize>, mut printer: Printer) -> Result<Exit, Failure> {
    let mut groups = Groups::default();
    while let Some(line) = lines.next().await? {
        groups.add(&read(serde_json::from_slice(&line).context("cannot read a finding")?)?);
    }
    let all = groups.finish();
    let most = limit.map_or(Some(LIMIT), values::limit).unwrap_or(usize::MAX);
    let shown = &all[..all.len().min(most)];
    match printer.output {
        Output::Json => shown.iter().try_for_each(|g| printer.out.json(g))?,
        Output::Text => printer.out.text(&text::groups::groups(shown, &printer.look))?,
    }
    printer.out.flush()?;
    if shown.len() < all.len() {
        eprintln!("{} of {} groups shown; --limit 0 shows all", shown.len(), human::count(all.len() as u64));
    }
    note(lines.matched.unwrap_or(0), lines.matched, lines.total);
    Ok(Exit::Done)
}

/// Until Ctrl-C, which is how one ends it, or until the agent goes.
async fn follow(mut lines: Lines, mut printer: Printer) -> Result<Exit, Failure> {
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            _ = &mut interrupt => return Ok(Exit::Done),
        };
        match line {
            Ok(Some(line)) => {
                printer.print(&line)?;
                printer.out.flush()?;
            }
            Ok(None) => return Err(Failure::Unreachable("the agent ended".into())),
            Err(e) => return Err(Failure::Unreachable(format!("{e:#}; has the agent ended?"))),
        }
    }
}

struct Printer {
    out: Out,
    output: Output,
    look: Look,
    shown: u64,
}

impl Printer {
    fn print(&mut self, line: &[u8]) -> Result<(), Failure> {
        self.shown += 1;
        if self.output == Output::Json {
            return self.out.bytes(line);
        }
        let value: Value = serde_json::from_slice(line).context("cannot read a finding")?;
        if value["type"] == "lost" {
            let n = value["findings"].as_u64().unwrap_or(0);
            eprintln!("{} missed: this reader was too slow", human::counted(n, "finding", "findings"));
            return Ok(());
        }
        let finding = read(value)?;
        let gap = if self.shown > 1 { "\n" } else { "" };
        self.out.text(&format!("{gap}{}", text::brief::brief(&finding, &self.look)))
    }
}

fn read(value: Value) -> Result<Finding, Failure> {
    Ok(serde_json::from_value(value).context("cannot read a finding; are agent and command of the same version?")?)
}

fn note(shown: u64, matched: Option<u64>, total: Option<u64>) {
    match (matched, total) {
        (Some(matched), _) if matched > shown => {
            eprintln!("the newest {} of {} shown; --limit 0 shows all", human::count(shown), human::count(matched));
        }
        (Some(0), Some(0)) => eprintln!("no findings: no connection was reset since the agent started"),
        (Some(0), Some(total)) => eprintln!("none of {} matches", human::counted(total, "finding", "findings")),
        _ => {}
    }
}
