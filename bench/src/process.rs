//! Memory and CPU of the running agent: idle, and while connections come and go.

use crate::harm::pair::Pair;
use crate::namespace::Namespace;
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

#[derive(Clone, Debug, Serialize)]
pub struct Running {
    /// Share of a CPU.
    pub idle_cpu: f64,
    pub idle_memory_kib: u64,
    /// Of the maps, by the agent's own account.
    pub tables_kib: u64,
    pub connections_per_second: f64,
    pub busy_cpu: f64,
    pub busy_memory_kib: u64,
}

impl Running {
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |what: String, figure: String| vec![what, figure];
        vec![
            row("CPU, idle".into(), format!("{:.2} %", self.idle_cpu * 100.0)),
            row("memory of the process, idle".into(), format!("{} MiB", self.idle_memory_kib >> 10)),
            row("kernel memory of the tables, 65,536 connections".into(), format!("{} MiB", self.tables_kib >> 10)),
            row(
                format!("CPU, {:.0} connections per second, each opened and closed", self.connections_per_second),
                format!("{:.1} %", self.busy_cpu * 100.0),
            ),
            row("memory of the process, the same".into(), format!("{} MiB", self.busy_memory_kib >> 10)),
        ]
    }
}

/// Its first walk through the tables maps them, page by page.
const SETTLED: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(3);
const BUSY: Duration = Duration::from_secs(3);

/// Starts the agent on one end of a veth pair between two namespaces of its own.
pub fn measure(whyrst: &Path, folder: &Path, tables_kib: u64) -> Result<Running> {
    let pair = Pair::new(1)?;
    let (here, there, link) = (&pair.here, &pair.there, &pair.links[0]);
    let socket = folder.join("agent.sock");
    let agent = start(here, &link.watched, whyrst, &socket, &[])?;
    let before = agent.cpu()?;
    std::thread::sleep(IDLE);
    let idle_cpu = (agent.cpu()? - before).as_secs_f64() / IDLE.as_secs_f64();
    let idle_memory_kib = agent.memory_kib()?;

    let listener = here.inside(|| TcpListener::bind((link.here, 0)))??;
    let to = listener.local_addr()?;
    let stop = Arc::new(AtomicBool::new(false));
    let server = std::thread::spawn({
        let stop = stop.clone();
        move || serve(&listener, &stop)
    });
    let (before, start) = (agent.cpu()?, Instant::now());
    let connections = there.inside(|| connect(to, start + BUSY))?;
    let (spent, wall) = (agent.cpu()? - before, start.elapsed().as_secs_f64());
    stop.store(true, Ordering::Relaxed);
    // The last one wakes the server, unless it saw in time that it may end.
    let _ = there.inside(|| connect(to, Instant::now() + Duration::from_millis(1)))?;
    server.join().map_err(|_| anyhow::anyhow!("the server panicked"))??;
    Ok(Running {
        idle_cpu,
        idle_memory_kib,
        tables_kib,
        connections_per_second: connections? as f64 / wall,
        busy_cpu: spent.as_secs_f64() / wall,
        busy_memory_kib: agent.memory_kib()?,
    })
}

fn serve(listener: &TcpListener, stop: &AtomicBool) -> std::io::Result<()> {
    while !stop.load(Ordering::Relaxed) {
        let (mut stream, _) = listener.accept()?;
        let mut request = [0; 100];
        if stream.read_exact(&mut request).is_ok() {
            // A client that has gone is none of the server's business.
            let _ = stream.write_all(&[0; 400]);
        }
    }
    Ok(())
}

fn connect(to: SocketAddr, until: Instant) -> std::io::Result<u64> {
    let mut made = 0;
    while Instant::now() < until {
        let mut stream = TcpStream::connect(to)?;
        stream.write_all(&[0; 100])?;
        stream.read_to_end(&mut Vec::new())?;
        made += 1;
    }
    Ok(made)
}

/// On an interface of a namespace, ready.
pub fn start(at: &Namespace, interface: &str, whyrst: &Path, socket: &Path, more: &[&str]) -> Result<Agent> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", at.path().display())).arg(whyrst);
    command
        .args(["run", "--interface", interface, "--listen", "off", "--log-level", "error", "--socket"])
        .arg(socket)
        .args(more);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().context("cannot start nsenter")?;
    let mut agent = Agent(child);
    let patience = Instant::now() + Duration::from_secs(60);
    // The socket is there before anything is attached.
    let answers = || {
        let mut status = Command::new(whyrst);
        status.args(["status", "--socket"]).arg(socket).stdout(Stdio::null()).stderr(Stdio::null());
        status.status().is_ok_and(|s| s.success())
    };
    while !answers() {
        ensure!(Instant::now() < patience, "the agent does not answer after a minute");
        if let Some(status) = agent.0.try_wait()? {
            bail!("the agent ended ({status})");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    std::thread::sleep(SETTLED);
    Ok(agent)
}

/// The agent, ended when dropped. nsenter becomes it, so the process is the same.
pub struct Agent(Child);

impl Agent {
    fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.0.id())).context("the agent has ended")?;
        // The name, which may hold anything, is in parentheses; user and system time are the 12th and 13th after it.
        let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
        let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<u64>().ok()).unwrap_or(0);
        // SAFETY: no arguments but a constant.
        let per_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) }.max(1) as f64;
        Ok(Duration::from_secs_f64((ticks(11) + ticks(12)) as f64 / per_second))
    }

    /// Without what it maps: that is the program file and the kernel's tables.
    fn memory_kib(&self) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).context("the agent has ended")?;
        let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).context("no RssAnon")?;
        line.split_whitespace().next().and_then(|n| n.parse().ok()).context("no RssAnon")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // SAFETY: a child that was not waited for, so the number is still its own.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGTERM) };
        let _ = self.0.wait();
    }
}
