//! Where packets come from: the kernel programs ([`live`]) or capture files ([`replay`]). Both give the same values.

mod addresses;
pub mod bed;
pub mod btf;
pub mod cgroup;
pub mod classifier;
pub mod counters;
pub mod device;
pub mod facts;
pub mod guard;
pub mod host;
pub mod ingress;
pub mod interfaces;
pub mod listing;
pub mod live;
pub mod loader;
pub mod memory;
pub mod object;
mod pace;
pub mod payload;
mod pins;
pub mod player;
pub mod probe;
pub mod replay;
pub mod sweep;
pub mod table;
