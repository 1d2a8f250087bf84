//! The agent and the offline analyser.
//!
//! Data flows one way: `capture` (live or replay) -> `history` -> `derive`, `diagnose` -> `store` -> `expose`, `api`, `cli`.
//! aya appears only under `capture`.

pub mod api;
pub mod capture;
pub mod cli;
pub mod community_id;
pub mod config;
pub mod derive;
pub mod diagnose;
pub mod error;
pub mod expose;
pub mod finding;
pub mod groups;
pub mod history;
pub mod later;
pub mod logging;
pub mod notify;
pub mod pipeline;
pub mod privileges;
pub mod relatives;
pub mod report;
pub mod rows;
pub mod serve;
pub mod snapshot;
pub mod store;
pub mod surroundings;
