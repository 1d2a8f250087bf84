//! `whyrst analyze` against tcptrace and tshark, on the same files.

use crate::statistics::Spread;
use crate::traffic::file;
use anyhow::{Context, Result, bail};
use serde::Serialize;
use std::fs::File;
use std::io::BufWriter;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// One file and all tools.
#[derive(Clone, Debug, Serialize)]
pub struct FileFigures {
    pub row: &'static str,
    pub packets: u64,
    pub connections: u64,
    pub tools: Vec<ToolFigures>,
    /// whyrst's memory beyond that for a file with one short connection, KiB per connection.
    pub whyrst_kib_per_connection: f64,
}

#[derive(Clone, Debug, Serialize)]
pub struct ToolFigures {
    pub tool: &'static str,
    /// User and system time of the whole process, seconds. Empty if it is not installed.
    pub seconds: Option<Spread>,
    /// whyrst's time over this tool's, of each round.
    pub ratio: Option<Spread>,
    /// Greatest resident memory, KiB.
    pub memory_kib: u64,
}

pub const ROWS: [&str; 2] = ["analyze-bulk", "analyze-many"];

/// How much is read.
#[derive(Clone, Copy, Debug)]
pub struct Amount {
    pub packets: u32,
    pub connections: u32,
    pub rounds: u32,
}

/// One way to read a file.
struct Tool {
    name: &'static str,
    program: PathBuf,
    arguments: &'static [&'static str],
}

pub fn measure(row: &'static str, whyrst: &Path, folder: &Path, amount: Amount) -> Result<FileFigures> {
    let path = folder.join(format!("{row}.pcap"));
    let out = BufWriter::with_capacity(1 << 20, File::create(&path).with_context(|| path.display().to_string())?);
    let (packets, connections) = match row {
        "analyze-bulk" => (file::bulk(out, amount.packets)?, 8),
        _ => (file::many(out, amount.connections)?, u64::from(amount.connections)),
    };
    let one = folder.join("one.pcap");
    file::many(File::create(&one)?, 1)?;

    let tools = [
        Tool { name: "whyrst", program: whyrst.into(), arguments: &["analyze"] },
        Tool { name: "tcptrace", program: "tcptrace".into(), arguments: &["-n"] },
        Tool { name: "tshark", program: "tshark".into(), arguments: &["-q", "-z", "conv,tcp", "-r"] },
    ];
    let mut seconds = [const { Vec::new() }; 3];
    let mut memory = [0; 3];
    let mut present = [true; 3];
    for round in 0..amount.rounds as usize {
        for i in 0..tools.len() {
            let i = (i + round) % tools.len();
            if !present[i] {
                continue;
            }
            match spent(&tools[i], &path)? {
                Some(used) => {
                    seconds[i].push(used.seconds);
                    memory[i] = memory[i].max(used.memory_kib);
                }
                None => present[i] = false,
            }
        }
    }
    let least = spent(&tools[0], &one)?.context("whyrst cannot be started")?.memory_kib;
    let tools = tools.iter().enumerate().map(|(i, tool)| ToolFigures {
        tool: tool.name,
        seconds: present[i].then(|| Spread::of(seconds[i].iter().copied())),
        ratio: present[i].then(|| Spread::of(seconds[0].iter().zip(&seconds[i]).map(|(ours, theirs)| ours / theirs))),
        memory_kib: memory[i],
    });
    std::fs::remove_file(&path)?;
    Ok(FileFigures {
        row,
        packets,
        connections,
        tools: tools.collect(),
        whyrst_kib_per_connection: memory[0].saturating_sub(least) as f64 / connections as f64,
    })
}

struct Used {
    seconds: f64,
    memory_kib: u64,
}

/// Runs a tool on a file; none if it is not installed.
fn spent(tool: &Tool, file: &Path) -> Result<Option<Used>> {
    let mut command = Command::new(&tool.program);
    command.args(tool.arguments).arg(file).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    // A file for the report of a tool that leaves some lying about.
    command.current_dir(file.parent().unwrap_or(Path::new("/")));
    // A child begins with its parent's peak (exec_mmap in fs/exec.c), and ours held tables of gigabytes.
    std::fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of memory")?;
    let child = match command.spawn() {
        Ok(child) => child,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e).with_context(|| format!("cannot start {}", tool.name)),
    };
    let mut status = 0;
    // SAFETY: all zeroes is valid for this structure of integers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values. The child is ours and nobody else waits for it.
    let waited = unsafe { libc::wait4(child.id() as libc::pid_t, &mut status, 0, &mut usage) };
    if waited < 0 {
        return Err(std::io::Error::last_os_error()).with_context(|| format!("cannot wait for {}", tool.name));
    }
    let status = std::process::ExitStatus::from_raw(status);
    if !status.success() {
        bail!("{} failed on {} ({status})", tool.name, file.display());
    }
    let time = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 / 1e6;
    Ok(Some(Used { seconds: time(usage.ru_utime) + time(usage.ru_stime), memory_kib: usage.ru_maxrss as u64 }))
}
