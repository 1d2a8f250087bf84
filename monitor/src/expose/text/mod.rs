//! Text for people: findings, connections, status. Pure functions from values to strings; [`Look`] says how wide, in
//! which colours and in which time zone.

pub mod brief;
pub mod conns;
pub mod groups;
pub mod human;
pub mod look;
pub mod segment;
pub mod status;
pub mod story;
pub mod summary;
pub mod table;
pub mod words;
pub mod wrap;

pub use look::Look;
