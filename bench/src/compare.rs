//! The same programs, the same packets, another runner: do both find the same?

use crate::Stand;
use crate::packets::{self, Effort, Row};
use crate::player::Hook;
use crate::statistics::{Mean, Spread};
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
/// Of a turn; short, because what neighbours do to the caches meanwhile is not the runners' doing, and changes.
const PACKETS: u32 = 400_000;
/// Turns are taken until the ratio of the runners is known that well,
const KNOWN_WITHIN: f64 = 0.04;
/// but so many at least, and at most unless more are asked for.
const LEAST_TURNS: u32 = 15;
pub const MOST_TURNS: u32 = 100;

/// False if the runners disagree, or if it cannot be told.
pub fn run(stand: &mut Stand, bpfrun: &Path, cpu: usize, most_turns: u32) -> Result<bool> {
    let folder = machine::Folder::new()?;
    let pcap = folder.path().join("conversation.pcap");
    file::conversation(BufWriter::new(File::create(&pcap)?), &Conversation::whole(Link::Ipv4).frames)?;
    println!(
        "{:<12} {:<11} {:<7} {:>10} {:>10} {:>6} {:>16}",
        "connections", "hook", "program", "here, ns", "there, ns", "turns", "here to there"
    );
    let mut agree = true;
    for row in packets::REPLAYED {
        for hook in [Hook::Xdp, Hook::TcEgress] {
            eprintln!("bench: {}, {}", row.name, hook.name());
            let mut programs = [Compared::default(), Compared::default()];
            let mut turns = 0;
            while turns < most_turns && (turns < LEAST_TURNS || programs.iter().any(Compared::is_vague)) {
                let effort = Effort { rounds: 1, packets: PACKETS };
                let here = packets::measure(&mut stand.player, &mut stand.agent, row, hook, effort)?;
                let there = other(stand, bpfrun, &pcap, row, hook, cpu)?;
                for ((program, here), there) in programs.iter_mut().zip([here.floor, here.agent]).zip(there) {
                    program.push(here.median, there);
                }
                turns += 1;
            }
            for (program, name) in programs.iter().zip(["floor", "whyrst"]) {
                let Mean { mean, within } = program.ratio();
                let verdict = verdict(program.ratio());
                agree &= verdict == Verdict::Agree;
                println!(
                    "{:<12} {:<11} {name:<7} {:>10.1} {:>10.1} {turns:>6} {mean:>8.3} ± {within:.3}  {}",
                    row.connections,
                    hook.name(),
                    Spread::of(program.here.iter().copied()).median,
                    Spread::of(program.there.iter().copied()).median,
                    verdict.words(),
                );
            }
        }
    }
    Ok(agree)
}

/// What the two runners found of one program, turn by turn.
#[derive(Default)]
struct Compared {
    here: Vec<f64>,
    there: Vec<f64>,
}

impl Compared {
    fn push(&mut self, here: f64, there: f64) {
        self.here.push(here);
        self.there.push(there);
    }

    fn ratio(&self) -> Mean {
        Mean::of_ratios(self.here.iter().zip(&self.there).map(|(here, there)| here / there))
    }

    fn is_vague(&self) -> bool {
        self.ratio().within > KNOWN_WITHIN
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Agree,
    Disagree,
    Unknown,
}

impl Verdict {
    fn words(self) -> &'static str {
        match self {
            Verdict::Agree => "agree",
            Verdict::Disagree => "DISAGREE",
            Verdict::Unknown => "cannot be told: more turns (--rounds)",
        }
    }
}

fn verdict(ratio: Mean) -> Verdict {
    let difference = (ratio.mean - 1.0).abs();
    if difference <= AGREEMENT {
        Verdict::Agree
    } else if difference - ratio.within > AGREEMENT {
        Verdict::Disagree
    } else {
        Verdict::Unknown
    }
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
        .args(["--rounds", "1", "--warm", "1", "--no-resize", "--cpu", &cpu.to_string()])
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runners_disagree_only_where_it_is_known() {
        let of = |mean, within| verdict(Mean { mean, within });
        assert_eq!([of(1.09, 0.04), of(0.91, 0.2)], [Verdict::Agree; 2]);
        assert_eq!([of(1.16, 0.04), of(0.84, 0.04)], [Verdict::Disagree; 2]);
        assert_eq!([of(1.13, 0.04), of(f64::NAN, f64::NAN)], [Verdict::Unknown; 2]);
    }
}
