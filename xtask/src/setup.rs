//! `cargo xtask setup`: what is missing, why it is wanted, and how it is installed.
//!
//! Looks for programs rather than for packages, so that it is quick, works on any distribution, and
//! touches nothing when all is there. Installs only what an administrator of a Debian system would;
//! elsewhere it prints the commands and stops.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::process::{command, describe, find, is_root, run as run_command};
use crate::toolchain::{self, BPF_LINKER, LLVM, RUST, Rust};
use crate::{apt, fuzz, place};

#[derive(clap::Args)]
pub struct Args {
    /// Set up only what this needs; everything if not given
    #[arg(long = "for", value_name = "WHAT")]
    purpose: Option<Purpose>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Purpose {
    /// The lab: network namespaces, a firewall, a capture
    Demo,
    /// The whole test run, kernels included
    Test,
    /// Rebuilding the committed eBPF object
    BuildEbpf,
    /// Virtual machines with other kernels
    Kernels,
    /// The fuzzer
    Fuzz,
    /// The benchmark: tools to compare with, namespaces
    Bench,
}

use Purpose::{Bench, BuildEbpf, Demo, Fuzz, Kernels, Test};

/// A program and the packages that have it.
struct Need {
    program: &'static str,
    why: &'static str,
    apt: &'static str,
    /// Names for dnf and pacman; none where only Debian's package is known to serve.
    elsewhere: Option<(&'static str, &'static str)>,
    purposes: &'static [Purpose],
}

const NEEDS: [Need; 12] = [
    Need {
        program: "ip",
        why: "makes the lab's network namespaces and veth pairs",
        apt: "iproute2",
        elsewhere: Some(("iproute", "iproute2")),
        purposes: &[Demo, Test, Kernels, Bench],
    },
    Need {
        program: "tc",
        why: "shows and removes programs at interfaces",
        apt: "iproute2",
        elsewhere: Some(("iproute-tc", "iproute2")),
        purposes: &[Demo, Test, Kernels],
    },
    Need {
        program: "nft",
        why: "is the lab's firewall that resets connections",
        apt: "nftables",
        elsewhere: Some(("nftables", "nftables")),
        purposes: &[Demo, Test, Kernels],
    },
    Need {
        program: "tcpdump",
        why: "captures what the lab's hosts see, as independent evidence",
        apt: "tcpdump",
        elsewhere: Some(("tcpdump", "tcpdump")),
        purposes: &[Demo, Test],
    },
    Need {
        program: "tshark",
        why: "gives a second opinion on captures in tests",
        apt: "tshark",
        elsewhere: Some(("wireshark-cli", "wireshark-cli")),
        purposes: &[Test, Bench],
    },
    Need {
        program: "tcptrace",
        why: "is what reading captures is compared with",
        apt: "tcptrace",
        elsewhere: None,
        purposes: &[Bench],
    },
    Need {
        program: "systemd-analyze",
        why: "checks the unit file (nothing of systemd is started)",
        apt: "systemd",
        elsewhere: Some(("systemd", "systemd")),
        purposes: &[Test],
    },
    Need {
        program: "qemu-system-x86_64",
        why: "boots other kernels (emulation, no KVM)",
        apt: "qemu-system-x86",
        elsewhere: None,
        purposes: &[Test, Kernels],
    },
    Need {
        program: "modprobe",
        why: "tells the order in which a kernel's modules are loaded",
        apt: "kmod",
        elsewhere: None,
        purposes: &[Test, Kernels],
    },
    Need { program: "xz", why: "unpacks kernel modules", apt: "xz-utils", elsewhere: None, purposes: &[Test, Kernels] },
    Need {
        program: "llvm-objcopy-22",
        why: "strips the eBPF object",
        apt: "llvm-22",
        elsewhere: None,
        purposes: &[BuildEbpf],
    },
    Need {
        program: "c++",
        why: "compiles the fuzzer's engine",
        apt: "g++",
        elsewhere: Some(("gcc-c++", "gcc")),
        purposes: &[Fuzz],
    },
];

pub fn run(args: &Args) -> Result<()> {
    match args.purpose {
        Some(purpose) => ensure(purpose),
        None => ensure_all(&[Demo, Test, BuildEbpf, Kernels, Fuzz, Bench]),
    }
}

pub fn ensure(purpose: Purpose) -> Result<()> {
    ensure_all(&[purpose])
}

/// Makes sure that everything for these purposes is there.
pub fn ensure_all(purposes: &[Purpose]) -> Result<()> {
    let jobs = plan(purposes)?;
    if jobs.is_empty() {
        println!("setup: nothing is missing");
        return Ok(());
    }
    println!("setup: this is missing:");
    jobs.iter().flat_map(|job| &job.missing).for_each(|what| println!("  {what}"));
    println!("setup: these commands install it:");
    jobs.iter().for_each(|job| println!("  {}", job.shown()));
    if !jobs.iter().all(Job::possible) {
        bail!(
            "cannot install system packages here (that takes apt-get and root): run the commands above, then try again"
        );
    }
    for job in jobs {
        println!("setup: {}", job.shown());
        job.run()?;
    }
    // A job that succeeds without effect (a package that lost a program) must not pass for set up.
    let left = plan(purposes)?;
    if let Some(what) = left.iter().flat_map(|job| &job.missing).next() {
        bail!("set-up ran, but this is still missing: {what}");
    }
    Ok(())
}

/// One thing to do, with the missing things that ask for it.
struct Job {
    missing: Vec<String>,
    action: Action,
}

enum Action {
    /// Distribution packages by their names for apt.
    Packages(Vec<&'static str>),
    /// A command that any user may run.
    Command(Box<Command>),
    /// A Debian package that is unpacked, not installed: no service starts, nothing else is removed.
    Unpack { package: &'static str, into: PathBuf },
}

impl Job {
    fn possible(&self) -> bool {
        match self.action {
            Action::Packages(_) => is_root() && find("apt-get").is_some(),
            Action::Command(_) => true,
            Action::Unpack { .. } => find("apt-get").is_some(),
        }
    }

    /// The command as one would type it.
    fn shown(&self) -> String {
        match &self.action {
            Action::Packages(packages) => packages_command(packages),
            Action::Command(command) => {
                let set = command.get_envs().filter_map(|(name, value)| Some((name, value?)));
                let set = set.map(|(name, value)| format!("{}={} ", name.to_string_lossy(), value.to_string_lossy()));
                format!("{}{}", set.collect::<String>(), describe(command))
            }
            Action::Unpack { package, into } => {
                format!("apt-get download {package} && dpkg -x {package}_*.deb {}", into.display())
            }
        }
    }

    fn run(self) -> Result<()> {
        match self.action {
            Action::Packages(packages) => apt::install(&packages),
            Action::Command(mut command) => run_command(&mut command),
            Action::Unpack { package, into } => apt::unpack(package, &into),
        }
    }
}

/// The line for this distribution's package manager.
fn packages_command(packages: &[&'static str]) -> String {
    let named = |pick: fn((&'static str, &'static str)) -> &'static str| {
        let mut names: Vec<_> = NEEDS
            .iter()
            .filter(|need| packages.contains(&need.apt))
            .map(|need| need.elsewhere.map(pick).unwrap_or(need.apt))
            .collect();
        names.dedup();
        names.join(" ")
    };
    let sudo = if is_root() { "" } else { "sudo " };
    if find("apt-get").is_some() {
        format!("{sudo}apt-get update && {sudo}apt-get install --no-install-recommends {}", packages.join(" "))
    } else if find("dnf").is_some() {
        format!("{sudo}dnf install {}", named(|names| names.0))
    } else if find("pacman").is_some() {
        format!("{sudo}pacman -S {}", named(|names| names.1))
    } else {
        format!("install these with your package manager (Debian's names): {}", packages.join(" "))
    }
}

fn plan(purposes: &[Purpose]) -> Result<Vec<Job>> {
    let mut jobs = Vec::new();
    let mut packages = Vec::new();
    let mut missing = Vec::new();
    for need in NEEDS.iter().filter(|need| need.purposes.iter().any(|purpose| purposes.contains(purpose))) {
        if find(need.program).is_none() {
            packages.push(need.apt);
            missing.push(format!("{} (package {}): {}", need.program, need.apt, need.why));
        }
    }
    let linker_missing = purposes.contains(&BuildEbpf) && !bpf_linker_is_right();
    if linker_missing && !Path::new(&llvm_prefix()).join("include/llvm-c").is_dir() {
        packages.extend(LLVM_TO_BUILD_WITH);
        missing.push(format!("LLVM {LLVM} (packages {}): bpf-linker is built on it", LLVM_TO_BUILD_WITH.join(", ")));
    }
    packages.sort_unstable();
    packages.dedup();
    if !packages.is_empty() {
        jobs.push(Job { missing, action: Action::Packages(packages) });
    }
    if purposes.contains(&BuildEbpf) {
        jobs.extend(rust_job()?);
    }
    if linker_missing {
        jobs.push(bpf_linker_job());
    }
    if purposes.contains(&Fuzz) && !fuzz::is_installed() {
        let mut cargo = command("cargo");
        cargo.args(["install", "cargo-fuzz", "--version", fuzz::CARGO_FUZZ, "--locked", "--force"]);
        jobs.push(Job {
            missing: vec![format!("cargo-fuzz {}: builds and runs the fuzz targets", fuzz::CARGO_FUZZ)],
            action: Action::Command(Box::new(cargo)),
        });
    }
    if purposes.contains(&Test) && prometheus_folder()?.is_none() {
        jobs.push(Job {
            missing: vec!["prometheus, promtool: check the metrics page, the alert rules and the queries".to_string()],
            action: Action::Unpack { package: "prometheus", into: place::tools()?.join("prometheus") },
        });
    }
    if purposes.iter().any(|purpose| matches!(purpose, Test | Kernels)) && static_busybox()?.is_none() {
        jobs.push(Job {
            missing: vec!["a static busybox: is the user space of the virtual machines".to_string()],
            action: Action::Unpack { package: "busybox-static", into: place::tools()?.join("busybox-static") },
        });
    }
    Ok(jobs)
}

const LLVM_TO_BUILD_WITH: [&str; 2] = ["llvm-22-dev", "libpolly-22-dev"];

fn llvm_prefix() -> String {
    format!("/usr/lib/llvm-{LLVM}")
}

fn bpf_linker_is_right() -> bool {
    toolchain::bpf_linker_version().is_some_and(|version| version == format!("bpf-linker {BPF_LINKER}"))
}

/// The pinned compiler and its sources. rustup acts on neither by itself where automatic installs are
/// switched off, so both are asked for.
fn rust_job() -> Result<Option<Job>> {
    if find("rustup").is_none() {
        bail!(
            "rustup is missing: the eBPF object is built with exactly Rust {RUST}; get it from https://rustup.rs, then try again"
        );
    }
    let job = |what: String, arguments: &[&str]| {
        let mut rustup = command("rustup");
        rustup.args(arguments);
        Some(Job { missing: vec![what], action: Action::Command(Box::new(rustup)) })
    };
    Ok(match Rust::find() {
        Some(rust) if rust.has_sources() => None,
        Some(rust) => job(
            format!("rust-src of {}: `core` is built for the eBPF target", rust.name),
            &["component", "add", "rust-src", "--toolchain", rust.name],
        ),
        None => job(
            format!("Rust {RUST} with rust-src: other compilers give other bytes"),
            &["toolchain", "install", RUST, "--profile", "minimal", "--component", "rust-src", "--no-self-update"],
        ),
    })
}

fn bpf_linker_job() -> Job {
    let mut cargo = command("cargo");
    // Without LLVM_PREFIX it looks in /usr/lib64 and fails with "unable to find library -lLLVM".
    cargo.env("LLVM_PREFIX", llvm_prefix());
    // Its default feature is a newer LLVM than the pinned compiler's.
    let feature = format!("llvm-{LLVM}");
    cargo.args(["install", "bpf-linker", "--version", BPF_LINKER, "--no-default-features", "--features", &feature]);
    // `--force` also replaces one that is there but does not start.
    cargo.arg("--force");
    Job {
        missing: vec![format!("bpf-linker {BPF_LINKER}: links the eBPF object")],
        action: Action::Command(Box::new(cargo)),
    }
}

/// The folder with `prometheus` and `promtool`: the system's, or the unpacked one.
pub fn prometheus_folder() -> Result<Option<PathBuf>> {
    let unpacked = place::tools()?.join("prometheus/usr/bin");
    let installed = find("promtool").and_then(|program| Some(program.parent()?.to_path_buf()));
    let complete = |folder: &PathBuf| folder.join("promtool").is_file() && folder.join("prometheus").is_file();
    Ok([Some(unpacked), installed].into_iter().flatten().find(complete))
}

/// A busybox that needs no libraries: the system's, or the unpacked one. Debian's two busybox packages
/// exclude each other and initramfs-tools needs one of them, so the system's is not replaced.
pub fn static_busybox() -> Result<Option<PathBuf>> {
    let unpacked = place::tools()?.join("busybox-static/bin/busybox");
    Ok([Some(unpacked), find("busybox")].into_iter().flatten().find(|program| is_static(program)))
}

/// Whether an ELF file names no program interpreter (PT_INTERP holds this path).
fn is_static(program: &Path) -> bool {
    std::fs::read(program).is_ok_and(|bytes| {
        let head = &bytes[..bytes.len().min(4096)];
        bytes.starts_with(b"\x7fELF")
            && !head.windows(10).any(|window| window == b"/ld-linux-" || window == b"/ld-musl-x")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_once_and_every_need_has_a_reason() {
        for need in &NEEDS {
            assert!(!need.why.is_empty() && !need.purposes.is_empty(), "{}", need.program);
        }
        let text = packages_command(&["iproute2", "nftables"]);
        assert_eq!(text.matches("nftables").count(), 1, "{text}");
    }

    #[test]
    fn a_command_is_shown_with_the_environment_it_needs() {
        let shown = bpf_linker_job().shown();
        assert!(shown.starts_with("LLVM_PREFIX=/usr/lib/llvm-22 cargo install bpf-linker"), "{shown}");
    }

    #[test]
    fn a_shell_script_is_no_static_program() {
        assert!(!is_static(Path::new("/proc/self/status")));
        assert!(!is_static(Path::new("/no/such/file")));
    }
}
