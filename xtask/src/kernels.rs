//! `cargo xtask kernels`: the agent and the lab under the kernels that the README names.
//!
//! The kernels are Debian packages, fetched once with apt into a cache folder and never installed; later
//! runs need no network. Emulated time is not real time: nothing in the guest may assert durations.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::apt::{self, Suite};
use crate::initramfs::{self, Contents, Kernel};
use crate::place;
use crate::process::{command, run as run_command};
use crate::qemu::{self, Machine, Report};
use crate::setup::{self, Purpose};

/// What is run in every machine.
const GUEST_COMMAND: &str = "whyrst-lab guard --fixtures /fixtures && whyrst-lab story unread --agent /bin/whyrst";

/// The target of the static binaries; glibc links statically for it, so no other C library is needed.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";

/// A kernel of the matrix. The older suites leave Debian's mirror one day; the cache then still serves,
/// and for new caches the row has to go.
struct Row {
    name: &'static str,
    suite: &'static str,
    pattern: &'static str,
}

const MATRIX: [Row; 4] = [
    Row { name: "5.10", suite: "bullseye-security", pattern: r"^linux-image-5\.10\.0-[0-9]+-cloud-amd64$" },
    Row { name: "6.1", suite: "bookworm-security", pattern: r"^linux-image-6\.1\.0-[0-9]+-cloud-amd64$" },
    Row { name: "6.12", suite: "bookworm-security", pattern: r"^linux-image-6\.12\.[0-9]+\+deb12-cloud-amd64$" },
    Row { name: "newest", suite: "trixie-backports", pattern: r"^linux-image-[7-9]\.[0-9.]+\+deb13-cloud-amd64$" },
];

#[derive(clap::Args)]
pub struct Args {
    /// Kernels to boot (5.10, 6.1, 6.12, newest); all if none is given
    #[arg(value_parser = MATRIX.map(|row| row.name))]
    names: Vec<String>,
    /// Look for newer kernels instead of taking the cached ones
    #[arg(long)]
    refresh: bool,
    /// Shell command that is run as root in the machines
    #[arg(long, default_value = GUEST_COMMAND)]
    command: String,
    /// Further program to copy to the machines' /bin, with its libraries; may be repeated
    #[arg(long, value_name = "FILE")]
    with: Vec<PathBuf>,
    /// Take the static binaries of an earlier build, or none, instead of building them
    #[arg(long)]
    no_build: bool,
    /// Machines at a time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Seconds after which a machine counts as hung
    #[arg(long, default_value_t = 300)]
    timeout: u64,
    /// Memory of a machine
    #[arg(long, default_value = "1G")]
    memory: String,
}

impl Default for Args {
    /// What the verb does without arguments.
    fn default() -> Self {
        Self {
            names: Vec::new(),
            refresh: false,
            command: GUEST_COMMAND.to_string(),
            with: Vec::new(),
            no_build: false,
            jobs: 2,
            timeout: 300,
            memory: "1G".to_string(),
        }
    }
}

pub fn run(args: &Args) -> Result<()> {
    apt::require_amd64()?;
    setup::ensure(Purpose::Kernels)?;
    let cache = cache()?;
    let wanted = |row: &&Row| args.names.is_empty() || args.names.iter().any(|name| name == row.name);
    let mut kernels = Vec::new();
    for row in MATRIX.iter().filter(wanted) {
        let kernel =
            cached_or_fetched(row, &cache, args.refresh).with_context(|| format!("cannot get kernel {}", row.name))?;
        kernels.push((row.name, kernel));
    }
    let contents = Contents {
        busybox: setup::static_busybox()?.context("no static busybox; try `cargo xtask setup --for kernels`")?,
        binaries: static_binaries(args)?,
        fixtures: place::root()?.join("fixtures"),
        command: args.command.clone(),
    };
    let start = Instant::now();
    let failed = boot_all(&kernels, &contents, &cache, args)?;
    if failed > 0 {
        bail!("{failed} of {} kernels failed; their serial logs are {}/KERNEL.log", kernels.len(), cache.display());
    }
    println!("all {} kernels passed, {:.1} s", kernels.len(), start.elapsed().as_secs_f32());
    Ok(())
}

/// Where kernels, machines' images and logs are kept between runs.
fn cache() -> Result<PathBuf> {
    let folder = match std::env::var_os("WHYRST_KERNEL_CACHE") {
        Some(folder) => place::root()?.join(folder),
        None => place::target()?.join("kernel-matrix"),
    };
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}

/// The kernel of a row. `NAME.name` in the cache holds the folder's name, so that the cache can move.
fn cached_or_fetched(row: &Row, cache: &Path, refresh: bool) -> Result<Kernel> {
    let pointer = cache.join(format!("{}.name", row.name));
    if !refresh && let Ok(folder) = std::fs::read_to_string(&pointer) {
        return Kernel::open(&cache.join(folder.trim()));
    }
    let suite = Suite::open(row.suite, cache)?;
    suite.update()?;
    let package = suite.newest(row.pattern)?;
    let version = package.trim_start_matches("linux-image-").to_string();
    let folder = cache.join(&version);
    if !folder.is_dir() {
        println!("{}: fetching {package} from {}", row.name, row.suite);
        let mut packages = vec![package];
        // Since 7.x the image package is empty and only depends on these two.
        if suite.dependencies(&packages[0])?.contains(&format!("linux-modules-{version}")) {
            packages = vec![format!("linux-binary-{version}"), format!("linux-modules-{version}")];
        }
        suite.unpack(&packages, &folder)?;
    }
    let kernel = Kernel::open(&folder)?;
    kernel.index()?;
    // Written last: a run that was interrupted before this is done again.
    std::fs::write(&pointer, format!("{version}\n")).with_context(|| format!("cannot write {}", pointer.display()))?;
    Ok(kernel)
}

/// Builds agent and lab so that they need no libraries in the machine.
fn static_binaries(args: &Args) -> Result<Vec<PathBuf>> {
    let target_dir = place::target()?.join("static");
    if !args.no_build {
        let mut cargo = command("cargo");
        cargo.args([
            "build",
            "--release",
            "-p",
            "monitor",
            "-p",
            "whyrst-lab",
            "--target",
            STATIC_TARGET,
            "--target-dir",
        ]);
        cargo.arg(&target_dir).current_dir(place::root()?);
        cargo.env("RUSTFLAGS", "-C target-feature=+crt-static").env_remove("CARGO_ENCODED_RUSTFLAGS");
        // Debug information would be most of the initramfs, and link-time optimisation most of the
        // build; neither matters in an emulated machine.
        for (name, value) in [("DEBUG", "0"), ("STRIP", "symbols"), ("LTO", "off"), ("CODEGEN_UNITS", "16")] {
            cargo.env(format!("CARGO_PROFILE_RELEASE_{name}"), value);
        }
        run_command(&mut cargo)?;
    }
    let built = target_dir.join(STATIC_TARGET).join("release");
    let built = ["whyrst", "whyrst-lab"].map(|name| built.join(name)).into_iter().filter(|file| file.is_file());
    Ok(built.chain(args.with.iter().cloned()).collect())
}

/// Boots every kernel, prints a line as each ends, and returns how many failed.
fn boot_all(kernels: &[(&str, Kernel)], contents: &Contents, cache: &Path, args: &Args) -> Result<usize> {
    println!("{:<8}{:<6}{:>7}  {:>5}  {:<28}{:<14}", "KERNEL", "", "WALL", "BOOT", "RELEASE", "BTF");
    let queue: Mutex<VecDeque<_>> = Mutex::new(kernels.iter().collect());
    let next = || queue.lock().expect("no thread panics with the queue locked").pop_front();
    let worker = || {
        let mut failed = 0;
        while let Some((name, kernel)) = next() {
            let report =
                boot(name, kernel, contents, cache, args).with_context(|| format!("cannot boot kernel {name}"))?;
            print_row(name, &report, &log_of(name, cache));
            failed += usize::from(report.verdict.is_err());
        }
        Ok(failed)
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..args.jobs.max(1)).map(|_| scope.spawn(worker)).collect();
        let results: Vec<Result<usize>> = workers
            .into_iter()
            .map(|worker| worker.join().expect("workers return errors instead of panicking"))
            .collect();
        results.into_iter().sum()
    })
}

fn boot(name: &str, kernel: &Kernel, contents: &Contents, cache: &Path, args: &Args) -> Result<Report> {
    let image = cache.join(format!("{name}.cpio"));
    std::fs::write(&image, initramfs::build(kernel, contents)?)
        .with_context(|| format!("cannot write {}", image.display()))?;
    qemu::boot(&Machine {
        image: &kernel.image,
        initramfs: &image,
        log: &log_of(name, cache),
        memory: &args.memory,
        limit: Duration::from_secs(args.timeout),
    })
}

fn log_of(name: &str, cache: &Path) -> PathBuf {
    cache.join(format!("{name}.log"))
}

fn print_row(name: &str, report: &Report, log: &Path) {
    let up = report.up.clone().unwrap_or_else(|| "- - -".to_string());
    let mut words = up.split_whitespace();
    let mut word = || words.next().unwrap_or("-");
    let (boot, release, btf) = (word(), word(), word());
    let verdict = if report.verdict.is_ok() { "pass" } else { "FAIL" };
    let mut text =
        format!("{name:<8}{verdict:<6}{:>6.1}s  {boot:>5}  {release:<28}{btf:<14}", report.wall.as_secs_f32());
    if let Err(why) = &report.verdict {
        text.push_str(why);
        let log = std::fs::read(log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log).replace(['\r', '\x1b'], "");
        let lines: Vec<_> = log.lines().collect();
        for line in &lines[lines.len().saturating_sub(30)..] {
            text.push_str(&format!("\n    | {line}"));
        }
    }
    // In one piece: two machines may end at the same time.
    println!("{text}");
}
