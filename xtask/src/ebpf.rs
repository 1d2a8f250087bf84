//! `cargo xtask build-ebpf`: the object that is committed beside the agent.
//!
//! Users build the agent with a plain compiler and get the committed object. That is acceptable only if
//! anyone can rebuild it and get the same bytes, so everything that depends on the folder, the user or
//! the machine is kept out of it here.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::process::{command, find, output, run as run_command};
use crate::setup::{self, Purpose};
use crate::stamp::Stamp;
use crate::toolchain::{Toolchain, Versions};
use crate::{hash, place, rustc_wrapper};

pub const TARGET: &str = "bpfel-unknown-none";
const OBJECT: &str = "monitor/ebpf/whyrst.bpf.o";
const STAMP: &str = "monitor/ebpf/whyrst.bpf.toml";

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
    let built = build(&root, &toolchain)?;
    let object = root.join(OBJECT);
    std::fs::create_dir_all(object.parent().expect("OBJECT has a folder"))?;
    std::fs::copy(&built, &object).with_context(|| format!("cannot write {}", object.display()))?;
    let stamp = Stamp {
        object: hash::file(&object)?,
        sources: hash::sources(&root, &hash::EBPF_SOURCES)?,
        versions: toolchain.versions,
    };
    std::fs::write(root.join(STAMP), stamp.to_toml()).with_context(|| format!("cannot write {STAMP}"))?;
    println!("{OBJECT}: {} bytes, sha256 {}", object.metadata()?.len(), stamp.object);
    println!("{STAMP}: sources {}", stamp.sources);
    Ok(())
}

/// Compares the committed object with its stamp and its sources and, if the recorded tools are at hand
/// and `rebuild` is wanted, with what they make of the sources now.
pub fn check(rebuild: bool) -> Result<()> {
    let root = place::root()?;
    let stamp = Stamp::read(&root.join(STAMP))?;
    let object = hash::file(&root.join(OBJECT)).with_context(|| format!("cannot read {OBJECT}"))?;
    if object != stamp.object {
        bail!("{OBJECT} is not the one that {STAMP} describes; rebuild both with `cargo xtask build-ebpf`");
    }
    if hash::sources(&root, &hash::EBPF_SOURCES)? != stamp.sources {
        bail!("{OBJECT} is stale: its sources have changed; rebuild it with `cargo xtask build-ebpf`");
    }
    println!("{OBJECT}: matches its stamp, and the stamp matches the sources");
    if !rebuild {
        return Ok(());
    }
    let differences = Versions::at_hand().differences(&stamp.versions);
    if !differences.is_empty() {
        println!("not rebuilt, because other tools give other bytes:");
        differences.iter().for_each(|line| println!("  {line}"));
        return Ok(());
    }
    let built = build(&root, &Toolchain::find()?)?;
    if hash::file(&built)? != stamp.object {
        bail!(
            "rebuilding with the recorded tools gave other bytes: compare {} with {OBJECT} (`llvm-readelf-22 -sS`, `llvm-objdump-22 -d`)",
            built.display()
        );
    }
    println!("{OBJECT}: rebuilt bit for bit");
    Ok(())
}

/// Builds the object in the target folder and returns its path.
fn build(root: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
    let folder = root.join("monitor-ebpf");
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
    let linked = target_dir.join(TARGET).join("release/monitor-ebpf");
    let object = target_dir.join("whyrst.bpf.o");
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
            bail!(
                "{} has no {section}section; the release profile of monitor-ebpf needs `debug = 2`",
                object.display()
            );
        }
    }
    Ok(())
}

/// The compiler's flags, separated as Cargo wants it; they replace those of any configuration file.
fn rustflags(root: &Path, toolchain: &Toolchain) -> Result<String> {
    let mut flags = vec!["-Cdebuginfo=2".to_string(), "-Clink-arg=--btf".to_string()];
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
    fn committed_object_is_current() {
        if let Err(error) = check(false) {
            panic!("{error:#}");
        }
    }
}
