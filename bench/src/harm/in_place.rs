//! What a run of the programs takes while a stream goes by.

use super::iperf;
use super::pair::Pair;
use super::with::{Ours, Stand, With};
use crate::statistics::Spread;
use anyhow::{Context, Result, ensure};
use serde::Serialize;

pub const ROW: &str = "in-place";

/// What a run of a program costs where it is used, the mean of ingress and egress, by the kernel's statistics, whose own
/// clocks are part of it.
#[derive(Clone, Debug, Serialize)]
pub struct InPlace {
    /// Of the stream, into or out of the interface that is watched.
    pub into: bool,
    pub empty_ns: Spread,
    pub floor_ns: Spread,
    pub whyrst_ns: Spread,
    /// Of whyrst's to the floor's, each less the empty program's in the same round.
    pub ratio: Spread,
}

/// The same stream, and what each run of the programs took.
pub fn measure(ours: Ours, rounds: u32, seconds: u32) -> Result<Vec<InPlace>> {
    const CASES: [With; 3] = [With::Empty, With::Floor, With::Whyrst];
    let pair = Pair::new(1)?;
    let mut stand = Stand::new(ours)?;
    let _statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime).context("cannot have the kernel count")?;
    // By way and case.
    let mut ns: [[Vec<f64>; 3]; 2] = Default::default();
    for _ in 0..rounds {
        for (case, with) in CASES.into_iter().enumerate() {
            let attached = stand.attach(with, &pair.here, &pair.links[0].watched)?;
            for (way, into) in [(0, true), (1, false)] {
                let (time_before, count_before) = attached.runs();
                iperf::transfer(&pair, into, seconds)?;
                let (time, count) = attached.runs();
                ensure!(count > count_before, "{} did not run", with.name());
                ns[way][case].push((time - time_before).as_nanos() as f64 / (count - count_before) as f64);
            }
        }
    }
    let mut out = Vec::new();
    for (way, into) in [(0, true), (1, false)] {
        let [empty, floor, whyrst] = &ns[way];
        let net = |of: &[f64]| -> Vec<f64> { of.iter().zip(empty).map(|(a, b)| a - b).collect() };
        out.push(InPlace {
            into,
            empty_ns: Spread::of(empty.iter().copied()),
            floor_ns: Spread::of(floor.iter().copied()),
            whyrst_ns: Spread::of(whyrst.iter().copied()),
            ratio: Spread::of(net(whyrst).iter().zip(net(floor)).map(|(a, b)| a / b)),
        });
    }
    Ok(out)
}
