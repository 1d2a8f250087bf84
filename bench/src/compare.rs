//! The same programs, the same packets, another runner: do both find the same?

use crate::Stand;
use crate::packets::{self, Effort, Row};
use crate::player::Hook;
use crate::statistics::Spread;
use crate::traffic::conversation::Conversation;
use crate::traffic::file;
use crate::traffic::segment::Link;
use crate::{machine, player};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::process::Command;

/// Figures that both runners must agree within.
const AGREEMENT: f64 = 0.10;
const PACKETS: u32 = 1_000_000;
const ROUNDS: u32 = 3;
const TURNS: u32 = 9;

/// False if the runners disagree.
pub fn run(stand: &mut Stand, bpfrun: &Path, cpu: usize) -> Result<bool> {
    let folder = machine::Folder::new()?;
    let pcap = folder.path().join("conversation.pcap");
    file::conversation(BufWriter::new(File::create(&pcap)?), &Conversation::whole(Link::Ipv4).frames)?;
    println!(
        "{:<12} {:<11} {:<7} {:>10} {:>10} {:>8}",
        "connections", "hook", "program", "here, ns", "there, ns", "differ"
    );
    let mut agree = true;
    for row in packets::REPLAYED {
        for hook in [Hook::Xdp, Hook::TcEgress] {
            // By short turns, and the median of each: what neighbours do to the caches meanwhile is not the runners' doing.
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..TURNS {
                let effort = Effort { rounds: ROUNDS, packets: PACKETS };
                let here = packets::measure(&mut stand.player, &mut stand.agent, row, hook, effort)?;
                let there = other(stand, bpfrun, &pcap, row, hook, cpu)?;
                ours.push([here.floor.median, here.agent.median]);
                theirs.push(there);
            }
            for (i, name) in ["floor", "whyrst"].into_iter().enumerate() {
                let [here, there] = [&ours, &theirs].map(|turns| Spread::of(turns.iter().map(|t| t[i])).median);
                let difference = here / there - 1.0;
                agree &= difference.abs() <= AGREEMENT;
                println!(
                    "{:<12} {:<11} {name:<7} {here:>10.1} {there:>10.1} {:>7.1}%",
                    row.connections,
                    hook.name(),
                    difference * 100.0
                );
            }
        }
    }
    Ok(agree)
}

/// Medians of floor and agent, net of the other runner's own empty program.
fn other(stand: &mut Stand, bpfrun: &Path, pcap: &Path, row: &Row, hook: Hook, cpu: usize) -> Result<[f64; 2]> {
    stand.player.clear()?;
    stand.agent.clear()?;
    let id = |fd: aya::programs::ProgramFd| player::program_id(&fd);
    let (floor, agent) = (id(stand.player.floor(hook, "floor")?)?, id(stand.agent.program(hook)?)?);
    let json = pcap.with_extension("json");
    let out = Command::new(bpfrun)
        .args(["--packets".as_ref(), pcap.as_os_str(), "--json".as_ref(), json.as_os_str()])
        .args(["--flows", &row.connections.to_string(), "--repeat", &PACKETS.to_string()])
        .args(["--rounds", &ROUNDS.to_string(), "--warm", "2", "--no-resize", "--cpu", &cpu.to_string()])
        .args(["--id", &format!("floor={floor}"), "--id", &format!("whyrst={agent}")])
        .output()
        .with_context(|| format!("cannot start {}", bpfrun.display()))?;
    ensure!(out.status.success(), "{}: {}", bpfrun.display(), String::from_utf8_lossy(&out.stderr).trim());
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    let median = |i: usize| {
        let rounds = json["programs"][i]["net_ns"].as_array().into_iter().flatten().filter_map(|n| n.as_f64());
        Spread::of(rounds).median
    };
    Ok([median(0), median(1)])
}
