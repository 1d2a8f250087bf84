//! Runs of iperf3 over a veth pair, the agent off and on.

use super::iperf::{self, Transfer};
use super::pair::Pair;
use super::with::{Ours, Stand, With};
use crate::statistics::Spread;
use anyhow::Result;
use serde::Serialize;

pub const ROW: &str = "harm-veth";

/// One configuration of a bulk transfer in one direction.
#[derive(Clone, Debug, Serialize)]
pub struct Bulk {
    /// Into or out of the interface that is watched.
    pub into: bool,
    pub with: &'static str,
    pub gbit_per_second: Spread,
    /// CPU of both ends' processes, with what the kernel did on their account.
    pub cpu_ns_per_kb: Spread,
    /// Of each round, to the same round without any program, and to an empty program at ingress and egress.
    pub to_none: Spread,
    pub to_empty: Spread,
}

const WITH: [With; 5] = [With::Nothing, With::Empty, With::Floor, With::Whyrst, With::WhyrstNative];

pub fn measure(ours: Ours, rounds: u32, seconds: u32) -> Result<Vec<Bulk>> {
    let pair = Pair::new(1)?;
    let mut stand = Stand::new(ours)?;
    let mut figures: Vec<Vec<[Transfer; 2]>> = WITH.map(|_| Vec::new()).to_vec();
    for round in 0..rounds as usize {
        for n in 0..WITH.len() {
            let which = (n + round) % WITH.len();
            let _attached = stand.attach(WITH[which], &pair.here, &pair.links[0].watched)?;
            figures[which].push([iperf::transfer(&pair, true, seconds)?, iperf::transfer(&pair, false, seconds)?]);
        }
    }
    let mut out = Vec::new();
    for (way, into) in [(0, true), (1, false)] {
        let speed = |which: usize| figures[which].iter().map(move |f| f[way].gbit_per_second);
        for (which, with) in WITH.into_iter().enumerate() {
            let ratio = |to: usize| Spread::of(speed(which).zip(speed(to)).map(|(a, b)| a / b));
            out.push(Bulk {
                into,
                with: with.name(),
                gbit_per_second: Spread::of(speed(which)),
                cpu_ns_per_kb: Spread::of(figures[which].iter().map(|f| f[way].cpu_ns_per_kb)),
                to_none: ratio(0),
                to_empty: ratio(1),
            });
        }
    }
    Ok(out)
}
