//! What the host loses by the agent: throughput and CPU of bulk transfers between two namespaces, and time of a routed
//! packet against what connection tracking adds to it. All configurations take turns in every round, because
//! neighbours and clocks change more from minute to minute than the agent costs.
//!
//! [`pair`] makes the namespaces, [`with`] attaches what is compared, [`iperf`] moves a stream from one end to the
//! other. [`veth`], [`turns`], [`in_place`] and [`routed`] are one row each.

pub mod in_place;
mod iperf;
pub mod pair;
pub mod routed;
pub mod turns;
pub mod veth;
pub mod with;

/// Of the whole folder.
pub const ROWS: [&str; 4] = [veth::ROW, turns::ROW, in_place::ROW, routed::ROW];
