//! `cargo xtask test`: every check of the project, in the order in which they are cheap to fail.

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::libtest::Tally;
use crate::process::{command, describe, is_root, run as run_command};
use crate::setup::{self, Purpose};
use crate::{bench, ebpf, fuzz, kernels, lab, place};

#[derive(clap::Args)]
pub struct Args {
    /// Only what needs no set-up: no installing, no rebuild of the eBPF object, no kernels
    #[arg(long)]
    quick: bool,
    /// Leave out the virtual machines
    #[arg(long)]
    skip_kernels: bool,
}

/// How a step ends that did not fail.
enum Done {
    Ran,
    /// Left out because of this flag.
    Skipped(&'static str),
}

type Step<'a> = (&'a str, Box<dyn FnOnce(&mut Tally) -> Result<Done> + 'a>);

pub fn run(args: &Args) -> Result<()> {
    let in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false" && value != "0");
    let mut tally = Tally::default();
    let mut summary = Vec::new();
    let start = Instant::now();
    let mut outcome = Ok(());
    for (name, step) in steps(args, in_ci) {
        println!("\n== {name}");
        let began = Instant::now();
        let done = step(&mut tally);
        let seconds = began.elapsed().as_secs_f32();
        let (word, stop) = match done {
            Ok(Done::Ran) => ("ok".to_string(), Ok(())),
            Ok(Done::Skipped(flag)) if in_ci => {
                (format!("SKIPPED by {flag}"), Err(anyhow::anyhow!("nothing may be skipped in CI: {flag}")))
            }
            Ok(Done::Skipped(flag)) => (format!("SKIPPED by {flag}"), Ok(())),
            Err(error) => ("FAILED".to_string(), Err(error)),
        };
        println!("== {name}: {word}, {seconds:.1} s");
        summary.push(format!("{name} {word} {seconds:.1} s"));
        if let Err(error) = stop {
            outcome = Err(error.context(format!("{name} failed")));
            // A step that is no test run, or fails outside of its tests, is one failure as well.
            tally.failed = tally.failed.max(1);
            break;
        }
    }
    println!("\n{}; {:.0} s in all", summary.join(", "), start.elapsed().as_secs_f32());
    tally.skipped.iter().for_each(|line| println!("{line}"));
    if tally.ignored > 0 {
        println!("{} ignored", tally.ignored);
    }
    if let Err(error) = &outcome {
        println!("{error:#}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    outcome
}

fn steps(args: &Args, in_ci: bool) -> Vec<Step<'_>> {
    let quick = args.quick;
    let no_kernels = if quick { Some("--quick") } else { args.skip_kernels.then_some("--skip-kernels") };
    vec![
        (
            "setup",
            Box::new(move |_| {
                if quick {
                    return Ok(Done::Skipped("--quick"));
                }
                setup::ensure_all(&[Purpose::Test, Purpose::BuildEbpf])?;
                Ok(Done::Ran)
            }),
        ),
        (
            "fmt",
            Box::new(|_| {
                run_command(cargo()?.args(["fmt", "--all", "--check"]))?;
                for manifest in ["monitor-ebpf/Cargo.toml", "bench-ebpf/Cargo.toml"] {
                    run_command(cargo()?.args(["fmt", "--check", "--manifest-path", manifest]))?;
                }
                Ok(Done::Ran)
            }),
        ),
        (
            "clippy",
            Box::new(|_| {
                run_command(cargo()?.args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
                Ok(Done::Ran)
            }),
        ),
        (
            "eBPF object",
            Box::new(move |_| {
                ebpf::check(!quick)?;
                Ok(Done::Ran)
            }),
        ),
        (
            "tests",
            Box::new(move |tally| {
                tests(tally, in_ci)?;
                Ok(Done::Ran)
            }),
        ),
        (
            "cost",
            Box::new(move |_| {
                if quick {
                    return Ok(Done::Skipped("--quick"));
                }
                if !is_root() {
                    return Ok(Done::Skipped("lack of root"));
                }
                bench::guard()?;
                Ok(Done::Ran)
            }),
        ),
        (
            "lab",
            Box::new(move |_| {
                if quick {
                    return Ok(Done::Skipped("--quick"));
                }
                lab::run(&lab::Args::default())?;
                Ok(Done::Ran)
            }),
        ),
        (
            "fuzz",
            Box::new(move |_| {
                if quick {
                    return Ok(Done::Skipped("--quick"));
                }
                fuzz::run(&fuzz::Args::default())?;
                Ok(Done::Ran)
            }),
        ),
        (
            "kernels",
            Box::new(move |_| {
                if let Some(flag) = no_kernels {
                    return Ok(Done::Skipped(flag));
                }
                kernels::run(&kernels::Args::default())?;
                Ok(Done::Ran)
            }),
        ),
    ]
}

fn cargo() -> Result<Command> {
    let mut cargo = command("cargo");
    cargo.current_dir(place::root()?);
    Ok(cargo)
}

/// Unit, integration, lab and metrics tests: all of them are ordinary test binaries.
fn tests(tally: &mut Tally, in_ci: bool) -> Result<()> {
    let mut cargo = cargo()?;
    // `--show-output`, because a test that skips itself says so in output that is otherwise swallowed.
    cargo.args(["test", "--workspace", "--no-fail-fast", "--", "--show-output"]);
    if let Some(folder) = setup::prometheus_folder()? {
        cargo.env("WHYRST_PROMETHEUS_DIR", folder);
    }
    if std::io::stderr().is_terminal() {
        cargo.env("CARGO_TERM_COLOR", "always");
    }
    let succeeded = echoed(&mut cargo, tally, std::io::stdout(), std::io::stderr())?;
    if in_ci && !tally.skipped.is_empty() {
        tally.failed += tally.skipped.len();
        bail!("{} tests skipped themselves, which is a failure in CI", tally.skipped.len());
    }
    if !succeeded {
        bail!("`{}` failed", describe(&cargo));
    }
    Ok(())
}

/// Runs a command, passes its output on line by line and reads it on the way; true if it succeeded.
fn echoed(command: &mut Command, tally: &mut Tally, out: impl Write, err: impl Write + Send) -> Result<bool> {
    let text = describe(command);
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start `{text}`"))?;
    let (stdout, stderr) =
        (child.stdout.take().expect("stdout is piped"), child.stderr.take().expect("stderr is piped"));
    let tally = Mutex::new(tally);
    let read = |line: &str| tally.lock().expect("reading a line does not panic").read(line);
    std::thread::scope(|scope| {
        let errors = scope.spawn(|| pass_on(stderr, err, read));
        pass_on(stdout, out, read)?;
        errors.join().expect("passing lines on does not panic")
    })?;
    let status = child.wait().with_context(|| format!("cannot wait for `{text}`"))?;
    Ok(status.success())
}

fn pass_on(from: impl std::io::Read, mut to: impl Write, read: impl Fn(&str)) -> Result<()> {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    // By bytes: a test may print what is no UTF-8.
    while from.read_until(b'\n', &mut line)? > 0 {
        to.write_all(&line)?;
        read(&String::from_utf8_lossy(&line));
        line.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_of_both_streams_is_read() {
        let mut tally = Tally::default();
        let script = "echo 'test result: ok. 2 passed; 0 failed'; echo 'skipped: no root' >&2; exit 7";
        // Not to the terminal: this very test may be run, and read, by `cargo xtask test`.
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let succeeded = echoed(command("sh").args(["-c", script]), &mut tally, &mut out, &mut err).unwrap();
        assert!(!succeeded);
        assert_eq!((tally.passed, tally.skipped.len()), (2, 1));
        assert!(out.ends_with(b"0 failed\n") && err == b"skipped: no root\n");
    }
}
