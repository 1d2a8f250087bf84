//! The kernel programs under load: a million connections, floods, both CPUs at once, storms of resets, numbers that wrap.
//! Packets are played inside the kernel ([`monitor::capture::player`]), so that ten million of them take seconds.

mod concurrency;
mod expiry;
mod flood;
mod frames;
mod million;
#[path = "../common/privileged.rs"]
mod privileged;
mod storm;
mod wrap;

use monitor::capture::bed::Bed;
use monitor::capture::loader::Sizes;
use monitor::capture::memory;
use privileged::privileged;

/// The programs with tables of this size; none where that cannot be.
fn bed(sizes: Sizes) -> Option<Bed> {
    if !privileged() {
        return None;
    }
    if let Err(e) = memory::check(&sizes) {
        println!("skipped: {e}");
        assert!(std::env::var_os("CI").is_none(), "CI needs the memory: {e}");
        return None;
    }
    Some(Bed::new(sizes).unwrap_or_else(|e| panic!("{e}")))
}
