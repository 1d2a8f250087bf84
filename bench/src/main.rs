//! `cargo xtask bench`: what whyrst costs, against floors and peers.

mod agent;
mod machine;
mod packets;
mod player;
mod statistics;
mod traffic;

use agent::Agent;
use anyhow::{Result, ensure};
use clap::Parser;
use monitor::capture::loader::Sizes;
use packets::{Effort, Figures, ROWS, Row};
use player::{Hook, Player};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    about = "Measure what whyrst costs, against floors and peers",
    version
)]
struct Args {
    /// Fewer rounds, fewer packets, at most 65,536 connections
    #[arg(long)]
    quick: bool,
    /// Only these rows
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// Rounds of each row
    #[arg(long)]
    rounds: Option<u32>,
    /// CPU to measure on
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    for name in &args.only {
        ensure!(ROWS.iter().any(|r| r.name == name), "no row {name}; rows: {}", names());
    }
    machine::pin(args.cpu)?;
    let effort = Effort {
        rounds: args.rounds.unwrap_or(if args.quick { 5 } else { 9 }),
        packets: if args.quick { 300_000 } else { 1_000_000 },
    };
    let wanted = |r: &&Row| {
        (args.only.is_empty() || args.only.iter().any(|n| n == r.name)) && !(args.quick && r.connections > 65_536)
    };
    let rows: Vec<&Row> = ROWS.iter().filter(wanted).collect();
    let start = machine::Busy::now();
    println!(
        "{:<20} {:<10} {:>6} {:>24} {:>24} {:>20} {:>9} {:>9}",
        "row", "hook", "empty", "floor", "agent", "ratio", "anom/pkt", "event/pkt"
    );
    for million in [false, true] {
        let rows: Vec<&&Row> = rows.iter().filter(|r| (r.connections > 65_536) == million).collect();
        if rows.is_empty() {
            continue;
        }
        let connections = if million { 1 << 20 } else { 200_000 };
        let sizes = Sizes { connections, ring_bytes: monitor::config::defaults::RING_BYTES };
        let mut player = Player::load(sizes.slots())?;
        let mut agent = Agent::load(sizes)?;
        eprintln!("{} slots, {} MiB", sizes.slots(), sizes.bytes() >> 20);
        for row in rows {
            for hook in Hook::ALL {
                print(&packets::measure(&mut player, &mut agent, row, hook, effort)?);
            }
        }
    }
    let busy = start.elapsed();
    println!("other load on this machine: {busy:.2} CPUs");
    Ok(())
}

fn names() -> String {
    ROWS.iter().map(|r| r.name).collect::<Vec<_>>().join(", ")
}

fn print(f: &Figures) {
    let spread =
        |s: &statistics::Spread, digits: usize| format!("{:.d$} / {:.d$} / {:.d$}", s.min, s.median, s.max, d = digits);
    println!(
        "{:<20} {:<10} {:>6.1} {:>24} {:>24} {:>20} {:>9.4} {:>9.4}",
        f.row,
        f.hook.name(),
        f.empty.median,
        spread(&f.floor, 1),
        spread(&f.agent, 1),
        spread(&f.ratio, 2),
        f.anomalies,
        f.events
    );
    for note in &f.notes {
        println!("    {note}");
    }
}
