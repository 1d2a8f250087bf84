//! Scenarios: section by section what a tool that explains resets must get right, each made to happen on
//! real stacks, each with the verdict that is right at every place from which one may watch.
//!
//! A scenario has four parts: a topology, a function that lets it happen and verifies by sockets and
//! frames (never by the program under test) that it did, captures and agents at the vantage points,
//! and checks: what may be said there, live and from the capture alone. Expected verdicts come from
//! what was made to happen, not from what the program says.
//!
//! ```text
//!   Kind::Routed    client c0 --- rc router rs --- s0 server     three kernels
//!   Kind::Wire      client c0 --- rc device rs --- s0 server     two kernels, a user-space device between
//!   Kind::Raw(side) client c0 ------------------- s0 server      one kernel, `side` is a raw peer
//! ```

pub mod apps;
pub mod check;
pub mod judge;
pub mod net;
pub mod perform;
pub mod real;
pub mod runner;
pub mod stage;
pub mod views;

mod controls;
mod forged;
mod gaps;
mod path;
mod peer;
mod translation;
mod windows;

use std::net::SocketAddr;
use std::time::Duration;

pub use check::{Check, at, cause};
pub use net::Side;
pub use stage::Stage;

use crate::LabError;

/// No scenario takes longer, set-up and judgement included, also on a busy machine: the longest are
/// silent for 53 s.
pub const LIMIT: Duration = Duration::from_secs(180);

pub struct Scenario {
    /// `S37`; a letter tells variants of one row apart (`S18B`).
    pub id: &'static str,
    /// What happens, in a few words.
    pub title: &'static str,
    pub topology: Kind,
    /// Lets it happen. [`LabError::Plot`] means that the situation did not come about.
    pub run: fn(&mut Stage) -> Result<Happened, LabError>,
    /// What may be said about it, and where.
    pub checks: fn() -> Vec<Check>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Client, router and server: three kernels.
    Routed,
    /// Two kernels and a device in user space between them.
    Wire,
    /// One kernel; this side is a [`crate::raw::RawPeer`].
    Raw(Side),
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Routed => "R",
            Self::Wire => "B",
            Self::Raw(_) => "P",
        }
    }
}

/// What came about, as the scenario itself verified it.
#[derive(Clone, Debug)]
pub struct Happened {
    /// The connection in question, by TCP roles.
    pub client: SocketAddr,
    pub server: SocketAddr,
    /// In words and exact numbers.
    pub told: String,
}

/// All scenarios, by id.
pub fn all() -> Vec<&'static Scenario> {
    let families: &[&'static [Scenario]] = &[
        controls::SCENARIOS,
        forged::SCENARIOS,
        path::SCENARIOS,
        gaps::SCENARIOS,
        peer::SCENARIOS,
        windows::SCENARIOS,
        real::SCENARIOS,
        translation::SCENARIOS,
    ];
    let mut all: Vec<_> = families.iter().flat_map(|family| family.iter()).collect();
    if real::owns_kernel() {
        all.extend(real::OF_A_WHOLE_KERNEL);
    }
    all.sort_by_key(|scenario| scenario.id);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_handbook_has_every_scenario_by_its_title() {
        let handbook = include_str!("../../../docs/lab.md");
        for Scenario { id, title, topology, .. } in all() {
            let row = format!("| {id} | {} | {title} |", topology.name());
            assert!(handbook.contains(&row), "docs/lab.md lacks: {row}");
        }
    }

    #[test]
    fn every_id_is_there_once_and_has_checks() {
        let all = all();
        for pair in all.windows(2) {
            assert!(pair[0].id < pair[1].id, "{} twice", pair[1].id);
        }
        for scenario in all {
            let id = scenario.id;
            assert!(id.len() >= 3 && id.starts_with('S') && id[1..3].bytes().all(|b| b.is_ascii_digit()), "{id}");
            assert!(!(scenario.checks)().is_empty(), "{id} checks nothing");
        }
    }
}
