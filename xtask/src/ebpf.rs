//! `cargo xtask build-ebpf`: the objects that are committed beside the agent and beside the benchmark.
//!
//! Users build both with a plain compiler and get the committed objects. That is acceptable only if
//! anyone can rebuild them and get the same bytes, so everything that depends on the folder, the user or
//! the machine is kept out of them here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{command, find, output, run as run_command};
use crate::setup::{self, Purpose};
use crate::stamp::Stamp;
use crate::toolchain::{Toolchain, Versions};
use crate::{hash, place, rustc_wrapper};

pub const TARGET: &str = "bpfel-unknown-none";

/// A committed object. Paths are relative to the repository's root.
struct Object {
    /// The crate that it is built from, and its program's name.
    package: &'static str,
    file: &'static str,
    stamp: &'static str,
    /// What it is made of, for [`hash::sources`].
    sources: &'static [&'static str],
}

/// The programs that are attached. The benchmark's are an object of their own, so that they never come near the agent.
const AGENT: Object = Object {
    package: "monitor-ebpf",
    file: "monitor/ebpf/whyrst.bpf.o",
    stamp: "monitor/ebpf/whyrst.bpf.toml",
    sources: &hash::EBPF_SOURCES,
};

const BENCH: Object = Object {
    package: "bench-ebpf",
    file: "bench/ebpf/floor.bpf.o",
    stamp: "bench/ebpf/floor.bpf.toml",
    sources: &["bench-ebpf/Cargo.lock", "bench-ebpf/Cargo.toml", "bench-ebpf/src"],
};

const OBJECTS: [&Object; 2] = [&AGENT, &BENCH];

/// Where the sources seem to lie. LLVM copies source lines into .BTF.ext when it can open the file, so
/// these must be folders that nobody has.
const FAKE_ROOT: &str = "/whyrst-build";

#[derive(clap::Args)]
pub struct Args {
    /// Change nothing; fail if the committed object is not what the sources give
    #[arg(long)]
    check: bool,
}

pub fn run(args: &Args) -> Result<()> {
    if args.check { check(true) } else { write() }
}

fn write() -> Result<()> {
    setup::ensure(Purpose::BuildEbpf)?;
    let root = place::root()?;
    let toolchain = Toolchain::find()?;
    for object in OBJECTS {
        let built = build(&root, &toolchain, object)?;
        let file = root.join(object.file);
        std::fs::create_dir_all(file.parent().expect("every object has a folder"))?;
        std::fs::copy(&built, &file).with_context(|| format!("cannot write {}", file.display()))?;
        let stamp = Stamp {
            object: hash::file(&file)?,
            sources: hash::sources(&root, object.sources)?,
            flags: FLAGS.join(" "),
            versions: toolchain.versions.clone(),
        };
        std::fs::write(root.join(object.stamp), stamp.to_toml())
            .with_context(|| format!("cannot write {}", object.stamp))?;
        println!("{}: {} bytes, sha256 {}", object.file, file.metadata()?.len(), stamp.object);
        println!("{}: sources {}", object.stamp, stamp.sources);
    }
    Ok(())
}

/// Compares the committed objects with their stamps and their sources and, if the recorded tools are at hand
/// and `rebuild` is wanted, with what they make of the sources now.
pub fn check(rebuild: bool) -> Result<()> {
    OBJECTS.into_iter().try_for_each(|object| check_one(object, rebuild))
}

fn check_one(object: &Object, rebuild: bool) -> Result<()> {
    let root = place::root()?;
    let Object { file, stamp: stamp_file, .. } = object;
    let stamp = Stamp::read(&root.join(stamp_file))?;
    let hash = hash::file(&root.join(file)).with_context(|| format!("cannot read {file}"))?;
    if hash != stamp.object {
        bail!("{file} is not the one that {stamp_file} describes; rebuild both with `cargo xtask build-ebpf`");
    }
    if hash::sources(&root, object.sources)? != stamp.sources {
        bail!("{file} is stale: its sources have changed; rebuild it with `cargo xtask build-ebpf`");
    }
    if FLAGS.join(" ") != stamp.flags {
        bail!(
            "{file} is stale: it was built with other flags ({}); rebuild it with `cargo xtask build-ebpf`",
            stamp.flags
        );
    }
    println!("{file}: matches its stamp, and the stamp matches the sources");
    if !rebuild {
        return Ok(());
    }
    let differences = Versions::at_hand().differences(&stamp.versions);
    if !differences.is_empty() {
        println!("not rebuilt, because other tools give other bytes:");
        differences.iter().for_each(|line| println!("  {line}"));
        return Ok(());
    }
    let built = build(&root, &Toolchain::find()?, object)?;
    if hash::file(&built)? != stamp.object {
        bail!(
            "rebuilding with the recorded tools gave other bytes: compare {} with {file} (`llvm-readelf-22 -sS`, `llvm-objdump-22 -d`)",
            built.display()
        );
    }
    println!("{file}: rebuilt bit for bit");
    Ok(())
}

/// Builds the object in the target folder and returns its path.
fn build(root: &Path, toolchain: &Toolchain, object: &Object) -> Result<PathBuf> {
    let folder = root.join(object.package);
    let target_dir = place::target()?.join("ebpf");
    let cargo = || {
        let mut cargo = command("rustup");
        cargo.args(["run", toolchain.rust.name, "cargo"]).current_dir(&folder);
        // Wrappers and profile overrides of the user's would change the bytes.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PROFILE_") || text.starts_with("CARGO_BUILD_") || text.contains("RUSTFLAGS") {
                cargo.env_remove(&name);
            }
        }
        cargo.env_remove("RUSTC").env_remove("RUSTC_WORKSPACE_WRAPPER").env_remove("CARGO_TARGET_DIR");
        cargo
    };
    // The folders of downloaded crates are named after their registry; they exist only after this.
    run_command(cargo().args(["fetch", "--locked", "--quiet"]))?;
    let program = std::env::current_exe().context("cannot tell the path of this program")?;
    run_command(
        cargo()
            .args(["build", "--release", "--locked", "-Z", "build-std=core", "--target", TARGET, "--target-dir"])
            .arg(&target_dir)
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_ENCODED_RUSTFLAGS", rustflags(root, toolchain)?)
            .env("RUSTC_WRAPPER", program)
            .env(rustc_wrapper::ASKED, "1"),
    )?;
    let linked = target_dir.join(TARGET).join("release").join(object.package);
    let object = target_dir.join(Path::new(object.file).file_name().expect("every object has a name"));
    // Debug sections would be three quarters of the file; .BTF and .BTF.ext stay.
    run_command(command(&toolchain.llvm_objcopy).arg("--strip-debug").arg(&linked).arg(&object))?;
    require_btf(&object)?;
    Ok(object)
}

/// Without debug information in the release profile the linker silently leaves the BTF out.
fn require_btf(object: &Path) -> Result<()> {
    let Some(readelf) = find(&format!("llvm-readelf-{}", crate::toolchain::LLVM)) else {
        return Ok(());
    };
    let sections = output(command(readelf).arg("-S").arg(object))?;
    for section in [".BTF ", ".BTF.ext "] {
        if !sections.contains(section) {
            bail!("{} has no {section}section; the release profile of its crate needs `debug = 2`", object.display());
        }
    }
    Ok(())
}

/// What the objects are built with, wherever that is.
///
/// The second instruction set (Linux 4.14) compares with "less" and with constants; the first needs a register for each. The
/// third (5.1) has 32-bit registers, with which the verifier walks half as many instructions more, near its 1,000,000.
const FLAGS: [&str; 3] = ["-Cdebuginfo=2", "-Clink-arg=--btf", "-Ctarget-cpu=v2"];

/// The compiler's flags, separated as Cargo wants it; they replace those of any configuration file.
fn rustflags(root: &Path, toolchain: &Toolchain) -> Result<String> {
    let mut flags = FLAGS.map(String::from).to_vec();
    flags.push(format!("-Clinker={}", toolchain.bpf_linker.display()));
    // The last matching prefix wins, so the most specific ones come last.
    let mut remap =
        |from: &Path, to: &str| flags.push(format!("--remap-path-prefix={}={FAKE_ROOT}/{to}", from.display()));
    let cargo_home = place::cargo_home().context("cannot tell Cargo's home folder; set CARGO_HOME")?;
    remap(&cargo_home, "cargo");
    for registry in std::fs::read_dir(cargo_home.join("registry/src")).into_iter().flatten().flatten() {
        remap(&registry.path(), "crates");
    }
    remap(&toolchain.rust.sysroot, "rust");
    remap(root, "whyrst");
    Ok(flags.join("\x1f"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The cheap half of `build-ebpf --check`, so that plain `cargo test` notices a forgotten rebuild.
    #[test]
    fn committed_objects_are_current() {
        if let Err(error) = check(false) {
            panic!("{error:#}");
        }
    }
}
