//! What each fuzz target does with its input, apart from the fuzzer: an ordinary test runs the committed corpus
//! through the same functions (`monitor/tests/fuzz_corpus.rs`). Each panics when something that must always hold does
//! not; arithmetic overflow panics, too.

#[cfg(feature = "analyze")]
pub mod analyze;
pub mod capture;
pub mod frame;
pub mod options;
pub mod tracker;
