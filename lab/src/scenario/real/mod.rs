//! Topology R: two real kernel stacks and a router between them.

pub mod counters;
pub mod endings;
pub mod handshake;
pub mod mptcp;
pub mod orphans;
pub mod pair;
pub mod reject;
pub mod router;
pub mod silence;
pub mod socket;
mod table;
pub mod translation;
pub mod wire;

pub use orphans::owns_kernel;
pub use table::{OF_A_WHOLE_KERNEL, SCENARIOS};
