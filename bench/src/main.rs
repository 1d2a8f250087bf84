//! `cargo xtask bench`: what whyrst costs, against floors and peers.
//!
//! [`packets`] times the agent's programs on conversations that [`traffic`] makes and [`player`] plays; [`offline`]
//! times `whyrst analyze`, [`process`] the running agent. [`budgets`] says what each may cost, [`report`] shows it,
//! [`baseline`] keeps it from rising unnoticed.

mod agent;
mod baseline;
mod budgets;
mod compare;
mod docs;
mod harm;
mod machine;
mod namespace;
mod offline;
mod packets;
mod player;
mod process;
mod programs;
mod report;
mod statistics;
mod traffic;

use agent::Agent;
use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use harm::with::Ours;
use harm::{in_place, routed, turns, veth};
use monitor::capture::loader::Sizes;
use monitor::config::defaults;
use packets::{EVENT_ROWS, Effort, ROWS, Row};
use player::{Hook, Player};
use report::Report;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Parser)]
#[command(
    name = "cargo xtask bench",
    bin_name = "cargo xtask bench",
    about = "Measure what whyrst costs, against floors and peers",
    version,
    after_help = "Exit code 2: a budget is exceeded. Needs root and Linux 5.18."
)]
struct Args {
    /// Fewer rounds, fewer packets, shorter files, at most 65,536 connections
    #[arg(long)]
    quick: bool,
    /// Only these rows; `--list` names them
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// Name the rows and end
    #[arg(long)]
    list: bool,
    /// Rounds of each row
    #[arg(long, value_name = "N")]
    rounds: Option<u32>,
    /// CPU to measure on
    #[arg(long, value_name = "N", default_value_t = 0)]
    cpu: usize,
    /// Form of the report
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// The agent, for captures and for its memory [default: beside this program]
    #[arg(long, value_name = "PROGRAM")]
    whyrst: Option<PathBuf>,
    /// Compare verified instructions and a few ratios with the committed ones, and fail if one has risen by more
    /// than 15 %
    #[arg(long, conflicts_with_all = ["only", "quick"])]
    guard: bool,
    /// Write the figures that `--guard` compares with
    #[arg(long, conflicts_with_all = ["only", "quick", "guard"])]
    update_baseline: bool,
    /// Put the tables into README.md and docs/performance.md
    #[arg(long, conflicts_with_all = ["only", "guard"])]
    write_docs: bool,
    /// File of the figures that `--guard` compares with
    #[arg(long, value_name = "FILE", default_value = "bench/baseline.toml")]
    baseline: PathBuf,
    /// Measure floor and agent with this other runner, too (it plays a pcap to programs given by number), and
    /// compare; `--rounds` is the most turns of each row [default: 100]
    #[arg(long, value_name = "BPFRUN")]
    against: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Markdown,
    Json,
}

/// Where the tables are shown, short and long.
const DOCUMENTS: [&str; 2] = ["README.md", "docs/performance.md"];

/// Connections of the table that everything up to 65,536 connections is measured with.
const CONNECTIONS: u32 = 200_000;
const MILLION: u32 = 1 << 20;

const READING: &str = "event-reading";
const PROGRAMS: &str = "programs";
const AGENT: &str = "agent";

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// False if something costs more than it may.
fn run(args: &Args) -> Result<bool> {
    let rows: Vec<&str> = ROWS
        .iter()
        .map(|r| r.name)
        .chain(EVENT_ROWS.iter().map(|r| r.name))
        .chain([READING, PROGRAMS])
        .chain(offline::ROWS)
        .chain([AGENT])
        .chain(harm::ROWS)
        .collect();
    if args.list {
        println!("{}", rows.join("\n"));
        return Ok(true);
    }
    for name in &args.only {
        ensure!(rows.contains(&name.as_str()), "no row {name}; rows: {}", rows.join(", "));
    }
    machine::pin(args.cpu)?;
    let sizes = Sizes { connections: CONNECTIONS, ring_bytes: defaults::RING_BYTES };
    if args.guard || args.update_baseline {
        return match args.guard {
            true => baseline::guard(&args.baseline),
            false => baseline::update(&args.baseline).map(|()| true),
        };
    }
    if let Some(bpfrun) = &args.against {
        return compare::run(&mut Stand::new(sizes)?, bpfrun, args.cpu, args.rounds.unwrap_or(compare::MOST_TURNS));
    }

    let busy = machine::Busy::now();
    let mut report = Report::default();
    measure(args, sizes, &mut report)?;
    report.machine = machine::describe(busy.elapsed());
    if report.machine.other_load > 0.5 {
        eprintln!("bench: the machine was busy: others used {:.2} CPUs meanwhile", report.machine.other_load);
    }
    report.judge();
    match args.output {
        Output::Text => print!("{}", report.text()),
        Output::Markdown => print!("{}", report.markdown()),
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
    }
    if args.write_docs {
        let [readme, performance] = DOCUMENTS.map(Path::new);
        docs::write(readme, &report.summary())?;
        docs::write(performance, &report.markdown())?;
    }
    Ok(report.is_within_budget())
}

/// What packet rows are measured with: floor and agent with tables of one size.
pub struct Stand {
    pub player: Player,
    pub agent: Agent,
}

impl Stand {
    fn new(sizes: Sizes) -> Result<Stand> {
        Ok(Stand { player: Player::load(sizes.slots(), 1)?, agent: Agent::load(sizes)? })
    }

    /// With room for the floor that keeps last headers.
    fn recorded(sizes: Sizes) -> Result<Stand> {
        Ok(Stand { player: Player::load(sizes.slots(), sizes.slots())?, agent: Agent::load(sizes)? })
    }
}

fn measure(args: &Args, sizes: Sizes, report: &mut Report) -> Result<()> {
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|n| n == name);
    let effort = Effort {
        rounds: args.rounds.unwrap_or(if args.quick { 5 } else { 9 }),
        packets: if args.quick { 300_000 } else { 1_000_000 },
    };
    let (small, large): (Vec<&Row>, Vec<&Row>) =
        ROWS.iter().filter(|r| wanted(r.name)).partition(|r| r.connections <= 65_536);
    let events: Vec<_> = EVENT_ROWS.iter().filter(|r| wanted(r.name)).collect();
    if !small.is_empty() || !events.is_empty() || wanted(READING) || wanted(PROGRAMS) {
        let mut stand = Stand::recorded(sizes)?;
        packet_rows(&mut stand, &small, effort, report)?;
        for row in events {
            for hook in [Hook::TcIngress, Hook::TcEgress] {
                eprintln!("bench: {}, {}", row.name, hook.name());
                report.events.push(packets::event(&mut stand.player, &mut stand.agent, row, hook, effort)?);
            }
        }
        if wanted(READING) {
            report.reading = Some(agent::reading(&mut stand.player, &mut stand.agent, effort.rounds)?);
        }
        if wanted(PROGRAMS) {
            match stand.agent.verified.as_ref() {
                Ok(sizes) => report.programs = sizes.clone(),
                Err(e) => report.left_out.push(format!("sizes of the programs: {e:#}")),
            }
        }
    }
    if !large.is_empty() {
        let sizes = Sizes { connections: MILLION, ..sizes };
        let need = sizes.bytes() + player::table_bytes(sizes.slots());
        let available = machine::memory_available();
        if args.quick {
            report.left_out.push("a million connections: --quick".into());
        } else if available < need + (256 << 20) {
            report.left_out.push(format!(
                "a million connections: they take {} MiB, and {} MiB are available",
                need >> 20,
                available >> 20
            ));
        } else {
            let effort = Effort { rounds: effort.rounds.min(5), ..effort };
            packet_rows(&mut Stand::new(sizes)?, &large, effort, report)?;
        }
    }
    let beside = std::env::current_exe()?.with_file_name("whyrst");
    let whyrst: &Path = args.whyrst.as_deref().unwrap_or(&beside);
    if wanted(routed::ROW) {
        eprintln!("bench: {}", routed::ROW);
        let mut stand = Stand::new(sizes)?;
        // Many and short: of two rounds a second apart the caches are the neighbours' in another measure.
        let (rounds, packets) = (args.rounds.unwrap_or(if args.quick { 5 } else { 31 }), 200_000);
        match routed::measure(&mut stand.player, &mut stand.agent, rounds, packets) {
            Ok(routed) => report.routed = routed,
            Err(e) => report.left_out.push(format!("the routed path: {e:#}")),
        }
    }
    if wanted(turns::ROW) {
        eprintln!("bench: {}", turns::ROW);
        let sizes = Sizes { connections: defaults::MAX_CONNECTIONS, ..sizes };
        let blocks = args.rounds.unwrap_or(if args.quick { 8 } else { 120 });
        match turns::measure(&mut Agent::load(sizes)?, blocks) {
            Ok(turns) => report.turns = turns,
            Err(e) => report.left_out.push(format!("streams by turns: {e:#}")),
        }
    }
    if !offline::ROWS.iter().any(|r| wanted(r)) && !wanted(AGENT) && !wanted(veth::ROW) && !wanted(in_place::ROW) {
        return Ok(());
    }
    if !whyrst.exists() {
        report.left_out.push(format!("captures and the running agent: there is no {}", whyrst.display()));
        return Ok(());
    }
    let folder = machine::Folder::new()?;
    let whyrst = whyrst.canonicalize()?;
    let ours = || Ours::Process { whyrst: &whyrst, folder: folder.path() };
    let amount = match args.quick {
        true => offline::Amount { packets: 400_000, connections: 5_000, rounds: 3 },
        false => offline::Amount { packets: 4_000_000, connections: 50_000, rounds: args.rounds.unwrap_or(3).min(3) },
    };
    for row in offline::ROWS.into_iter().filter(|r| wanted(r)) {
        eprintln!("bench: {row}");
        report.files.push(offline::measure(row, &whyrst, folder.path(), amount)?);
    }
    if wanted(veth::ROW) {
        eprintln!("bench: {}", veth::ROW);
        let rounds = args.rounds.unwrap_or(if args.quick { 3 } else { 7 });
        match veth::measure(ours(), rounds, if args.quick { 1 } else { 2 }) {
            Ok(bulk) => report.bulk = bulk,
            Err(e) => report.left_out.push(format!("bulk transfers: {e:#}")),
        }
    }
    if wanted(in_place::ROW) {
        eprintln!("bench: {}", in_place::ROW);
        let rounds = args.rounds.unwrap_or(5).min(5);
        match in_place::measure(ours(), rounds, if args.quick { 1 } else { 2 }) {
            Ok(in_place) => report.in_place = in_place,
            Err(e) => report.left_out.push(format!("programs in place: {e:#}")),
        }
    }
    if wanted(AGENT) {
        eprintln!("bench: {AGENT}");
        let tables = Sizes { connections: defaults::MAX_CONNECTIONS, ring_bytes: defaults::RING_BYTES }.bytes() >> 10;
        match process::measure(&whyrst, folder.path(), tables).context("the running agent") {
            Ok(running) => report.agent = Some(running),
            Err(e) => report.left_out.push(format!("{e:#}")),
        }
    }
    Ok(())
}

fn packet_rows(stand: &mut Stand, rows: &[&Row], effort: Effort, report: &mut Report) -> Result<()> {
    for row in rows {
        for hook in Hook::ALL {
            let f = packets::measure(&mut stand.player, &mut stand.agent, row, hook, effort)?;
            eprintln!(
                "bench: {}, {}: floor {:.0}, whyrst {:.0} ns, ratio {:.2}",
                row.name,
                hook.name(),
                f.floor.median,
                f.agent.median,
                f.ratio.median
            );
            f.notes.iter().for_each(|n| eprintln!("bench:   {n}"));
            report.packets.push(f);
        }
    }
    Ok(())
}
