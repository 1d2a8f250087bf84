//! Runs one virtual machine and reads the verdict from its serial console.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::process::{command, require};

/// `panic=-1`: a panic reboots at once, which `-no-reboot` turns into an exit. The rest is for emulated
/// CPUs on a busy host, which stand still for seconds at a time: the timer check and the watchdogs would
/// take that for broken hardware.
const KERNEL_COMMAND_LINE: &str = "console=ttyS0 panic=-1 quiet no_timer_check watchdog_thresh=60 \
                                   rcupdate.rcu_cpu_stall_timeout=120";

pub struct Machine<'a> {
    pub image: &'a Path,
    pub initramfs: &'a Path,
    pub log: &'a Path,
    pub memory: &'a str,
    pub limit: Duration,
}

pub struct Report {
    pub verdict: Result<(), String>,
    /// Seconds after power-on, release and BTF size, as the guest printed them when it was up.
    pub up: Option<String>,
    pub wall: Duration,
}

/// Boots the machine and waits until it is off, has crashed or is out of time.
pub fn boot(machine: &Machine) -> Result<Report> {
    let log = File::create(machine.log).with_context(|| format!("cannot write {}", machine.log.display()))?;
    let qemu = require("qemu-system-x86_64")?;
    // `timeout` rather than a clock here: it ends QEMU also when xtask itself is killed meanwhile, and
    // with `--foreground` Ctrl-C still reaches both.
    let mut command = command("timeout");
    command.args(["--foreground", "-k", "5", &machine.limit.as_secs().to_string()]).arg(qemu);
    // Emulation even where KVM is offered: inside some virtual machines it hangs after the BIOS.
    // The machine type stays `pc`: `q35` boots a second slower and `microvm` does not power off.
    command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-m", machine.memory, "-smp", "2"]);
    command.args(["-nographic", "-no-reboot", "-net", "none", "-kernel"]).arg(machine.image);
    command.arg("-initrd").arg(machine.initramfs);
    command.args(["-append", KERNEL_COMMAND_LINE]);
    command.stdout(log.try_clone()?).stderr(log);
    let start = Instant::now();
    let status = command.status().context("cannot start QEMU through `timeout`")?;
    let wall = start.elapsed();
    let text = std::fs::read(machine.log).with_context(|| format!("cannot read {}", machine.log.display()))?;
    let text = String::from_utf8_lossy(&text).replace('\r', "");
    let timed_out = matches!(status.code(), Some(124 | 137)).then_some(machine.limit);
    Ok(Report { verdict: judge(&text, timed_out), up: last(&text, "KM_UP ").map(str::to_string), wall })
}

/// Passed only if the command succeeded and the kernel complained about nothing.
fn judge(log: &str, timed_out: Option<Duration>) -> Result<(), String> {
    if let Some(panic) = log.lines().find_map(|line| Some(&line[line.find("Kernel panic")?..])) {
        return Err(panic.to_string());
    }
    if let Some(limit) = timed_out {
        return Err(format!("no end within {} s", limit.as_secs()));
    }
    match (last(log, "KM_RC="), last(log, "KM_DMESG=")) {
        (Some("0"), Some("0")) => Ok(()),
        (Some("0"), Some(count)) => Err(format!("{count} kernel warnings")),
        (Some(status), _) => Err(format!("command ended with status {status}")),
        (None, _) if log.contains("KM_UP ") => Err("machine went off during the command".to_string()),
        (None, _) => Err("machine did not come up".to_string()),
    }
}

/// The rest of the last line that starts so.
fn last<'a>(log: &'a str, start: &str) -> Option<&'a str> {
    log.lines().rev().find_map(|line| line.strip_prefix(start)).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: &str = "SeaBIOS\nKM_UP 2.38 5.10.0-46-cloud-amd64 btf=3369842\n";

    fn verdict(rest: &str) -> Result<(), String> {
        judge(&format!("{UP}{rest}"), None)
    }

    #[test]
    fn success_takes_status_zero_and_a_quiet_kernel() {
        assert_eq!(verdict("hello\nKM_DMESG=0\nKM_RC=0\nKM_DOWN 3.1\n"), Ok(()));
        assert!(verdict("KM_DMESG=0\nKM_RC=3\n").unwrap_err().contains("status 3"));
        assert!(verdict("KM_DMESG=2\nKM_RC=0\n").unwrap_err().contains("2 kernel warnings"));
    }

    #[test]
    fn a_machine_that_tells_nothing_has_failed() {
        assert!(verdict("").unwrap_err().contains("during the command"));
        assert!(judge("SeaBIOS\n", None).unwrap_err().contains("did not come up"));
        let panic = verdict("[    2.1] Kernel panic - not syncing: Attempted to kill init!\n").unwrap_err();
        assert_eq!(panic, "Kernel panic - not syncing: Attempted to kill init!");
    }

    #[test]
    fn a_late_machine_has_failed_whatever_it_printed() {
        let log = "KM_DMESG=0\nKM_RC=0\n";
        assert!(judge(log, Some(Duration::from_secs(9))).unwrap_err().contains("9 s"));
    }
}
