//! The kernel programs under load: a million connections, floods, both CPUs at once, storms of resets, numbers that wrap.
//! Packets are played inside the kernel ([`monitor::capture::player`]), so that ten million of them take seconds.

mod concurrency;
mod expiry;
mod flood;
mod frames;
mod million;
mod storm;
mod wrap;

use monitor::capture::bed::Bed;
use monitor::capture::loader::Sizes;
use monitor::capture::memory;

/// Loading programs needs root; says so where it is missing, and fails in CI.
fn privileged() -> bool {
    // SAFETY: no arguments, cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("skipped: needs root to load eBPF programs");
        assert!(std::env::var_os("CI").is_none(), "CI must run this as root");
    }
    root
}

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
