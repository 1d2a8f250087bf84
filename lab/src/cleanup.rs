//! What must not outlive us: namespaces, child processes and scratch directories; and the ways out that skip `Drop`.
//!
//! Guards remove what they own when dropped. A signal, or a panic under `panic = "abort"`, skips
//! every `Drop`; therefore guards also enter themselves here, and [`install`] empties this list on
//! those paths. Only names and process ids that this process created are ever in it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, Once};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::error::{During, LabError};

#[derive(Default)]
struct Registry {
    namespaces: BTreeSet<String>,
    children: BTreeSet<u32>,
    directories: BTreeSet<PathBuf>,
}

/// Set once a signal has asked us to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

static REGISTRY: Mutex<Registry> =
    Mutex::new(Registry { namespaces: BTreeSet::new(), children: BTreeSet::new(), directories: BTreeSet::new() });

/// How long a child may take over its own clean-up before it is killed.
const CHILD_GRACE: Duration = Duration::from_secs(2);

fn registry() -> MutexGuard<'static, Registry> {
    // A panic elsewhere must not keep the clean-up from working: the sets are valid at all times.
    REGISTRY.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Makes a namespace with `make` and lists it. The list is held meanwhile, so that the signal thread
/// either finds it made or keeps it from being made.
pub(crate) fn enter_namespace<T>(name: &str, make: impl FnOnce() -> Result<T, LabError>) -> Result<T, LabError> {
    let mut registry = registry();
    registry.namespaces.insert(name.to_owned());
    make()
}

pub(crate) fn remove_namespace(name: &str) {
    delete_namespace(name);
    registry().namespaces.remove(name);
}

/// Starts a child and lists it, as [`enter_namespace`] does.
pub(crate) fn enter_child(command: &mut Command) -> std::io::Result<Child> {
    let mut registry = registry();
    let child = command.spawn()?;
    registry.children.insert(child.id());
    Ok(child)
}

/// A directory for temporary files, removed with its content when dropped.
#[derive(Debug)]
pub struct ScratchDirectory {
    path: PathBuf,
}

impl ScratchDirectory {
    /// `name` must be unique; the names of our namespaces are.
    pub fn create(name: &str) -> Result<Self, LabError> {
        let path = std::env::temp_dir().join(name);
        // Fails if it exists: what we did not make, we must not remove.
        std::fs::create_dir(&path).during(format!("create {}", path.display()))?;
        registry().directories.insert(path.clone());
        Ok(Self { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ScratchDirectory {
    fn drop(&mut self) {
        let mut registry = registry();
        // An error leaves a few bytes in the temporary directory and has no better place to go.
        let _ = std::fs::remove_dir_all(&self.path);
        registry.directories.remove(&self.path);
    }
}

/// Reaps a child if it has ended. The list is held meanwhile: once reaped, its process id may be
/// given to a stranger, whom the signal thread must not find under our name.
pub(crate) fn try_reap(child: &mut Child) -> std::io::Result<Option<ExitStatus>> {
    let mut registry = registry();
    let status = child.try_wait()?;
    if status.is_some() {
        registry.children.remove(&child.id());
    }
    Ok(status)
}

/// Makes SIGINT, SIGTERM, SIGHUP and a panic in any thread remove everything before the end.
pub fn install() -> Result<(), LabError> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        result = Signals::new([SIGINT, SIGTERM, SIGHUP]).during("install signal handlers").map(|mut signals| {
            thread::spawn(move || {
                if let Some(signal) = signals.forever().next() {
                    INTERRUPTED.store(true, Ordering::SeqCst);
                    leave(128 + signal);
                }
            });
        });
    });
    result
}

/// For programs whose panics end the process: removes everything, then exits with 101.
pub fn exit_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        leave(101);
    }));
}

/// Ends the process when it overstays: a story that hangs must not keep its hosts alive.
pub fn limit_lifetime(limit: Duration) {
    thread::spawn(move || {
        thread::sleep(limit);
        eprintln!("whyrst-lab: still busy after {limit:?}; cleaning up and giving up");
        leave(1);
    });
}

/// For errors at the end of a program: does not return if a signal is what caused them, since then
/// the exit status must tell of the signal. A signal may reach our children before us, so it gets a moment.
pub fn settle() {
    thread::sleep(Duration::from_millis(50));
    while INTERRUPTED.load(Ordering::SeqCst) {
        thread::sleep(CHILD_GRACE);
    }
}

/// Removes everything and ends the process.
pub fn leave(code: i32) -> ! {
    let mut registry = registry();
    empty(&mut registry);
    // The lock is still held: nothing new can be made behind our back.
    std::process::exit(code);
}

/// Stops all children, removes all namespaces and scratch directories of this process.
fn empty(registry: &mut Registry) {
    let mut children = std::mem::take(&mut registry.children);
    for (ask, limit) in [(Signal::SIGTERM, CHILD_GRACE), (Signal::SIGKILL, CHILD_GRACE)] {
        for &pid in &children {
            signal(pid, ask);
        }
        let deadline = Instant::now() + limit;
        loop {
            children.retain(|&pid| !reaped(pid));
            if children.is_empty() || Instant::now() >= deadline {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
    for name in std::mem::take(&mut registry.namespaces) {
        delete_namespace(&name);
    }
    for path in std::mem::take(&mut registry.directories) {
        let _ = std::fs::remove_dir_all(path);
    }
}

pub(crate) fn signal(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid) {
        // The only possible failure is that the process has ended already, which is what we want.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

/// Whether the child has ended. It is taken from the process table, since some systems' first process
/// takes its time over orphans.
fn reaped(pid: u32) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return true };
    !matches!(waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)), Ok(WaitStatus::StillAlive))
}

/// Used on paths that cannot report errors; a leftover is found by `netns::cleanup_stale` later.
fn delete_namespace(name: &str) {
    let _ = Command::new("ip")
        .args(["netns", "delete", name])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
}
