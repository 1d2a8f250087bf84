//! A laboratory of network namespaces in which TCP connections are reset for a known cause.
//!
//! Every story builds its own hosts, drives its own traffic, and tells what happened in exact
//! numbers, so that a tool that explains resets can be held against the truth. Nothing outside the
//! namespaces made here is touched, everything has a deadline, and everything is removed again.
//!
//! ```text
//!   client ns          router ns              server ns
//!   c0 10.71.1.2 ----- rc 10.71.1.1
//!                      rs 10.71.2.1 --------- s0 10.71.2.2
//! ```
//!
//! Data enters as [`story::Options`] and leaves as [`story::Outcome`] plus capture files.
//! The stories share no code with the trackers they judge: a mistake in theirs must not hide in ours.
//! Only [`guard`] uses the agent's library: it holds two builds of the same tracker against each other.

pub mod agent;
pub mod app;
pub mod bpf;
pub mod capture;
pub mod cleanup;
pub mod demo;
pub mod error;
pub mod forwarder;
pub mod frame;
pub mod guard;
pub mod neighbour;
pub mod netns;
pub mod offload;
pub mod one_cpu;
pub mod packet;
pub mod packet_socket;
pub mod raw;
pub mod scenario;
pub mod seq;
pub mod shapes;
pub mod story;
pub mod tagger;
pub mod text;
pub mod topology;
pub mod verdict;
pub mod wait;

pub use error::LabError;
