//! The machine: where the measuring thread runs, and what else does.

use crate::report::Machine;
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};
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
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

pub fn cpu_of_this_thread() -> Duration {
    clock(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live value of the right type; these clocks exist on every Linux.
    unsafe { libc::clock_gettime(id, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// What this machine is.
pub fn describe(other_load: f64) -> Machine {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let of = |name: &str| {
        info.lines().find_map(|line| {
            let value = line.strip_prefix(name)?.trim_start().strip_prefix(':')?.trim();
            (!value.is_empty()).then(|| value.to_string())
        })
    };
    // Virtual machines call processors of many kinds by one name; numbers and cache tell more of them apart.
    let cache = read("/sys/devices/system/cpu/cpu0/cache/index2/size");
    let numbers = ["cpu family", "model", "stepping"].into_iter().filter_map(of);
    let numbers = numbers.chain((!cache.trim().is_empty()).then(|| format!("L2 {}", cache.trim())));
    let cpu = of("model name").map(|name| format!("{name} [{}]", numbers.collect::<Vec<_>>().join(" ")));
    Machine {
        cpu: cpu.unwrap_or_else(|| std::env::consts::ARCH.into()),
        cpus: std::thread::available_parallelism().map_or(1, usize::from).max(online()),
        kernel: read("/proc/sys/kernel/osrelease").trim().to_string(),
        other_load,
    }
}

/// CPUs of the machine, not only those that this thread may run on.
fn online() -> usize {
    // SAFETY: no arguments but a constant.
    unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }.max(1) as usize
}

/// Bytes that can be had without swapping.
pub fn memory_available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"));
    line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
}

/// A new folder, removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new() -> Result<Folder> {
        let path = std::env::temp_dir().join(format!("whyrst-bench-{}", std::process::id()));
        std::fs::create_dir_all(&path).with_context(|| format!("cannot create {}", path.display()))?;
        Ok(Folder(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
