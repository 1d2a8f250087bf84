//! Network namespaces: made with a name that carries our process id, removed when dropped.
//!
//! Entering one happens with `setns` on a thread of its own (or in a forked child), so the calling
//! thread never changes its namespace. Sockets stay in the namespace in which they were created,
//! wherever they are used later: it is enough to create them under [`Namespace::run`].
//!
//! Children get only the network namespace and keep the mounts of the host. `/sys/fs/bpf` stays
//! visible to them (`ip netns exec` would hide it), but `/sys/class/net` still lists the host's
//! interfaces.

use std::fs::File;
use std::io::Write;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::cleanup;
use crate::error::{During, LabError};

const PREFIX: &str = "whyrst-";
/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";

/// A namespace made by us. Dropping the last clone removes it, and with it every interface inside.
#[derive(Clone, Debug)]
pub struct Namespace {
    guard: Arc<Guard>,
}

#[derive(Debug)]
struct Guard {
    name: String,
}

impl Drop for Guard {
    fn drop(&mut self) {
        cleanup::remove_namespace(&self.name);
    }
}

impl Namespace {
    /// Makes `whyrst-<process id>-<number>-<role>` with its loopback interface up. The number tells
    /// apart stories that run in parallel threads of one process.
    pub fn create(role: &str) -> Result<Self, LabError> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        require_root()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}-{role}", std::process::id());
        let namespace = Self { guard: Arc::new(Guard { name }) };
        cleanup::enter_namespace(namespace.name(), || {
            checked(
                Command::new("ip").args(["netns", "add", namespace.name()]),
                "are network namespaces allowed here, and is /run/netns writable?",
            )
        })?;
        namespace.ip(&["link", "set", "lo", "up"])?;
        Ok(namespace)
    }

    pub fn name(&self) -> &str {
        &self.guard.name
    }

    /// What `nsenter --net=` and `setns` want.
    pub fn path(&self) -> PathBuf {
        Path::new(NAMES).join(self.name())
    }

    fn open(&self) -> Result<File, LabError> {
        File::open(self.path()).during(format!("open namespace {}", self.name()))
    }

    /// Runs `work` on a thread of its own inside the namespace and waits for it.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let file = self.open()?;
        let enter = move || {
            setns(&file, CloneFlags::CLONE_NEWNET)?;
            Ok::<T, nix::Error>(work())
        };
        match thread::scope(|scope| scope.spawn(enter).join()) {
            Ok(result) => result.during(format!("enter namespace {}", self.name())),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// A command whose process will live inside the namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Result<Command, LabError> {
        let file = self.open()?;
        let mut command = Command::new(program);
        let enter = move || {
            // SAFETY: a plain system call on a descriptor that the closure keeps open.
            match unsafe { libc::setns(file.as_raw_fd(), libc::CLONE_NEWNET) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: between fork and exec the closure makes one system call; it neither allocates
        // nor takes a lock.
        unsafe { command.pre_exec(enter) };
        Ok(command)
    }

    /// `ip <arguments>` inside the namespace.
    pub fn ip(&self, arguments: &[&str]) -> Result<(), LabError> {
        checked(self.command("ip")?.args(arguments), "check that the kernel has veth and that the names are free")
            .map(drop)
    }

    /// Loads an nftables ruleset inside the namespace.
    pub fn nft(&self, ruleset: &str) -> Result<(), LabError> {
        let mut child = self
            .command("nft")?
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|source| not_started("nft", source))?;
        // A write error means that nft ended early; its own message below says why.
        let written = child.stdin.take().map(|mut stdin| stdin.write_all(ruleset.as_bytes()));
        let output = child.wait_with_output().during("wait for nft")?;
        let output = judged("nft -f -", output, "are nf_tables, nat and conntrack in this kernel?")?;
        written.unwrap_or(Ok(())).during("hand the ruleset to nft")?;
        drop(output);
        Ok(())
    }

    /// Output of a command that must succeed inside the namespace.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<String, LabError> {
        let output = checked(self.command(program)?.args(arguments), "run it by hand to learn more")?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Sets `net.ipv4.tcp_...` and the like; only `net.` keys belong to a namespace.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<(), LabError> {
        debug_assert!(key.starts_with("net."), "{key} would change the host");
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        self.run(|| std::fs::write(&path, value))?.during(format!("set {key}={value} in {}", self.name()))
    }

    /// A veth pair: `(name, address)` here, `(name, address)` in `other`. Both ends are up.
    pub fn veth(&self, here: &str, other: &Self, there: &str) -> Result<(), LabError> {
        self.ip(&["link", "add", "name", here, "type", "veth", "peer", "name", there, "netns", other.name()])?;
        self.ip(&["link", "set", here, "up"])?;
        other.ip(&["link", "set", there, "up"])
    }

    pub fn address(&self, interface: &str, address: IpAddr) -> Result<(), LabError> {
        match address {
            IpAddr::V4(v4) => self.ip(&["addr", "add", &format!("{v4}/24"), "dev", interface]),
            // Without `nodad` the address would stay unusable for a second.
            IpAddr::V6(v6) => self.ip(&["-6", "addr", "add", &format!("{v6}/64"), "dev", interface, "nodad"]),
        }
    }

    pub fn default_route(&self, gateway: IpAddr) -> Result<(), LabError> {
        let family = if gateway.is_ipv4() { "-4" } else { "-6" };
        self.ip(&[family, "route", "add", "default", "via", &gateway.to_string()])
    }

    /// How many TCP sockets on this local port are connected (neither listening nor closed).
    pub fn connected_sockets(&self, local_port: u16) -> Result<usize, LabError> {
        let tables = self.run(|| {
            // `/proc/net` would show the namespace of the main thread.
            ["tcp", "tcp6"].map(|table| std::fs::read_to_string(format!("/proc/thread-self/net/{table}")))
        })?;
        let mut found = 0;
        for (family, table) in ["IPv4", "IPv6"].iter().zip(tables) {
            match table {
                Ok(text) => found += count_connected(&text, local_port),
                Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(source).during(format!("list {family} sockets")),
            }
        }
        Ok(found)
    }
}

/// Lines of `/proc/net/tcp`: index, local address, remote address, state, all in hexadecimal.
fn count_connected(table: &str, local_port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let suffix = format!(":{local_port:04X}");
    table
        .lines()
        .skip(1)
        .filter(|line| {
            let mut fields = line.split_whitespace();
            fields.nth(1).is_some_and(|local| local.ends_with(&suffix)) && fields.nth(1) == Some(ESTABLISHED)
        })
        .count()
}

pub fn require_root() -> Result<(), LabError> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(LabError::NotRoot) }
}

/// Removes namespaces whose maker is dead (killed so hard that nothing could run). What still runs
/// inside them was started by it too, and is ended first. Returns the removed names.
pub fn cleanup_stale() -> Result<Vec<String>, LabError> {
    require_root()?;
    let entries = match std::fs::read_dir(NAMES) {
        Ok(entries) => entries,
        Err(none) if none.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(source).during(format!("list {NAMES}")),
    };
    let mut removed = Vec::new();
    for entry in entries {
        let entry = entry.during(format!("list {NAMES}"))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let Some(maker) = maker_of(&name) else {
            continue;
        };
        if Path::new(&format!("/proc/{maker}")).exists() {
            continue;
        }
        let hint = "remove it with `ip netns delete`";
        let inside = checked(Command::new("ip").args(["netns", "pids", &name]), hint)?;
        for pid in String::from_utf8_lossy(&inside.stdout).split_whitespace() {
            if let Ok(pid) = pid.parse() {
                cleanup::signal(pid, nix::sys::signal::Signal::SIGKILL);
            }
        }
        checked(Command::new("ip").args(["netns", "delete", &name]), hint)?;
        removed.push(name);
    }
    Ok(removed)
}

/// The process id in a name of ours; `None` for everybody else's names.
fn maker_of(name: &str) -> Option<u32> {
    let mut parts = name.strip_prefix(PREFIX)?.splitn(3, '-');
    let maker = parts.next()?.parse().ok()?;
    let _number: u32 = parts.next()?.parse().ok()?;
    parts.next().map(|_role| maker)
}

fn checked(command: &mut Command, hint: &'static str) -> Result<Output, LabError> {
    let shown = shown(command);
    let output = command.stdin(Stdio::null()).output().map_err(|source| not_started(&shown, source))?;
    judged(&shown, output, hint)
}

fn judged(command: &str, output: Output, hint: &'static str) -> Result<Output, LabError> {
    if output.status.success() {
        return Ok(output);
    }
    Err(LabError::Command {
        command: command.to_owned(),
        status: output.status.to_string(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        hint,
    })
}

fn not_started(command: &str, source: std::io::Error) -> LabError {
    LabError::CommandStart { command: command.to_owned(), hint: "Debian: iproute2, nftables", source }
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_have_a_maker() {
        assert_eq!(maker_of("whyrst-4711-0-client"), Some(4711));
        assert_eq!(maker_of("whyrst-4711-client"), None);
        assert_eq!(maker_of("whyrst-client"), None);
        assert_eq!(maker_of("cni-4711-0-client"), None);
    }

    #[test]
    fn connected_sockets_are_those_in_state_established() {
        let table = "  sl  local_address rem_address   st tx_queue\n\
                     0: 0200470A:1F90 00000000:0000 0A 00000000\n\
                     1: 0200470A:1F90 0201470A:A1B2 01 00000000\n\
                     2: 0200470A:1F90 0201470A:A1B3 07 00000000\n\
                     3: 0200470A:1F91 0201470A:A1B4 01 00000000\n";
        assert_eq!(count_connected(table, 8080), 1);
        assert_eq!(count_connected(table, 9), 0);
    }

    #[test]
    fn a_failed_command_shows_itself_its_words_and_a_hint() {
        let error = checked(Command::new("sh").args(["-c", "echo broken >&2; exit 3"]), "mend it");
        let text = error.unwrap_err().to_string();
        for part in ["sh -c", "broken", "mend it", "3"] {
            assert!(text.contains(part), "{part} is missing in: {text}");
        }
    }
}
