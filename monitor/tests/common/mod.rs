//! A fake agent: the real store and the real socket, with hand-made connections and findings behind them.

// Each test binary uses its own part.
#![allow(dead_code)]

pub mod agent;
pub mod files;
pub mod findings;
pub mod source;

use std::time::{Duration, Instant};

/// Polls until `done` gives something. What is waited for happens within milliseconds unless it never does.
pub fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
