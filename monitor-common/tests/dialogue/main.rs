//! The tracker's rules as conversations, grouped by the state of RFC 9293 in which they happen.

#[path = "../support/mod.rs"]
mod support;

mod ack;
mod close;
mod data;
mod desync;
mod handshake;
mod identity;
mod inferred;
mod observe;
mod reset;
mod reuse;
mod sack;
mod timestamps;
mod window;
