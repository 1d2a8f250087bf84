//! Conversations that are played and written to files: clean, deterministic, made here.

pub mod conversation;
pub mod file;
pub mod segment;
