//! Network namespaces of the benchmark's own.

use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A network namespace, deleted when dropped.
pub struct Namespace {
    pub name: String,
}

impl Namespace {
    pub fn new(suffix: &str) -> Result<Namespace> {
        let name = format!("whyrst-bench-{}-{suffix}", std::process::id());
        ip(&["netns", "add", &name])?;
        Ok(Namespace { name })
    }

    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    pub fn ip(&self, arguments: &[&str]) -> Result<()> {
        ip(&[&["-n", &self.name], arguments].concat())
    }

    /// Runs `f` on a thread of its own in this namespace.
    pub fn inside<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        let file = File::open(self.path())?;
        std::thread::scope(|scope| {
            let thread = scope.spawn(move || {
                enter(file.as_fd())?;
                Ok::<T, std::io::Error>(f())
            });
            thread.join().map_err(|_| anyhow::anyhow!("a thread in {} panicked", self.name))?.map_err(Into::into)
        })
    }
}

/// This thread in another network namespace; dropped, it is back.
pub struct Visit {
    home: File,
}

impl Visit {
    pub fn to(namespace: &Namespace) -> Result<Visit> {
        let home = File::open("/proc/thread-self/ns/net")?;
        enter(File::open(namespace.path())?.as_fd())?;
        Ok(Visit { home })
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        if let Err(e) = enter(self.home.as_fd()) {
            eprintln!("bench: cannot leave a namespace: {e}");
        }
    }
}

fn enter(namespace: BorrowedFd<'_>) -> std::io::Result<()> {
    // SAFETY: a namespace's open descriptor; only this thread moves.
    match unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(e) = ip(&["netns", "delete", &self.name]) {
            eprintln!("bench: {e:#}");
        }
    }
}

pub fn ip(arguments: &[&str]) -> Result<()> {
    let out = Command::new("ip").args(arguments).stdin(Stdio::null()).output().context("cannot start `ip`")?;
    ensure!(
        out.status.success(),
        "`ip {}` failed: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&out.stderr).trim()
    );
    Ok(())
}
