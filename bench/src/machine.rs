//! The machine: where the measuring thread runs, and what else does.

use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// Keeps this thread on one CPU.
pub fn pin(cpu: usize) -> Result<()> {
    // SAFETY: an all-zero set is the empty set; the set is live and of the size that is told.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if failed != 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("cannot run on CPU {cpu}"));
    }
    Ok(())
}

/// A moment, to tell from how busy others were since.
pub struct Busy {
    wall: Instant,
    all: Duration,
    own: Duration,
}

impl Busy {
    pub fn now() -> Busy {
        Busy { wall: Instant::now(), all: all(), own: own() }
    }

    /// CPUs that others kept busy since, as a mean.
    pub fn elapsed(&self) -> f64 {
        let others = (all() - self.all).saturating_sub(own().saturating_sub(self.own));
        others.as_secs_f64() / self.wall.elapsed().as_secs_f64().max(1e-9)
    }
}

/// Busy time of all CPUs since boot: user, nice, system, interrupts; not idle, not waiting.
fn all() -> Duration {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: Vec<u64> =
        text.lines().next().unwrap_or("").split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    let busy: u64 = [0, 1, 2, 5, 6].iter().filter_map(|i: &usize| ticks.get(*i)).sum();
    // SAFETY: no arguments but a constant.
    let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
    Duration::from_secs_f64(busy as f64 / per_second)
}

fn own() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value of the right type; this clock exists on every Linux.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}
