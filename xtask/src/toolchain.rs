//! The compiler, linker and tools that the eBPF object is built with.
//!
//! The object's bytes depend on all of them, so they are pinned, found, and recorded in the stamp.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::process::{command, find, output};

/// The compiler. Newer ones are LLVM 23, which a bpf-linker on LLVM 22 cannot read ("Invalid record").
pub const RUST: &str = "1.95.0";
pub const BPF_LINKER: &str = "0.13.0";
/// LLVM's major version, in the names of Debian's packages and programs.
pub const LLVM: &str = "22";

const ABSENT: &str = "not found";

/// Everything that decides the object's bytes, as the tools themselves tell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versions {
    pub rustc: String,
    pub rustc_llvm: String,
    pub bpf_linker: String,
    pub bpf_linker_llvm: String,
    pub llvm_objcopy: String,
}

impl Versions {
    /// What this machine has; a tool that is missing is said to be, instead of its version.
    pub fn at_hand() -> Self {
        let rust = Rust::find();
        Self {
            rustc: match &rust {
                Some(rust) if !rust.has_sources() => format!("{} without rust-src", rust.version),
                Some(rust) => rust.version.clone(),
                None => ABSENT.to_string(),
            },
            rustc_llvm: rust.map_or(ABSENT.to_string(), |rust| rust.llvm),
            bpf_linker: bpf_linker_version().unwrap_or_else(|| ABSENT.to_string()),
            bpf_linker_llvm: bpf_linker_llvm().unwrap_or_else(|| ABSENT.to_string()),
            llvm_objcopy: llvm_objcopy_version().unwrap_or_else(|| ABSENT.to_string()),
        }
    }

    /// One line for every tool that is not the recorded one.
    pub fn differences(&self, recorded: &Self) -> Vec<String> {
        [
            ("rustc", &self.rustc, &recorded.rustc),
            ("LLVM of rustc", &self.rustc_llvm, &recorded.rustc_llvm),
            ("bpf-linker", &self.bpf_linker, &recorded.bpf_linker),
            ("LLVM of bpf-linker", &self.bpf_linker_llvm, &recorded.bpf_linker_llvm),
            ("llvm-objcopy", &self.llvm_objcopy, &recorded.llvm_objcopy),
        ]
        .into_iter()
        .filter(|(_, here, there)| here != there)
        .map(|(tool, here, there)| format!("{tool}: here {here}, recorded {there}"))
        .collect()
    }
}

/// The pinned compiler, under whatever name rustup knows it.
pub struct Rust {
    /// Name for `rustup run`.
    pub name: &'static str,
    /// First line of `rustc --version`.
    pub version: String,
    pub llvm: String,
    pub sysroot: PathBuf,
}

impl Rust {
    /// The pinned version may be installed under its number or be the machine's `stable`.
    pub fn find() -> Option<Self> {
        [RUST, "stable"].into_iter().find_map(|name| {
            // Without this rustup would install a toolchain just because it is asked for its version.
            let ask = |what: &[&str]| {
                output(command("rustup").env("RUSTUP_AUTO_INSTALL", "0").args(["run", name, "rustc"]).args(what)).ok()
            };
            let text = ask(&["-vV"])?;
            let line = |prefix: &str| text.lines().find_map(|line| line.strip_prefix(prefix));
            (line("release: ")? == RUST).then_some(())?;
            Some(Self {
                name,
                version: text.lines().next()?.to_string(),
                llvm: line("LLVM version: ")?.to_string(),
                sysroot: PathBuf::from(ask(&["--print", "sysroot"])?.trim()),
            })
        })
    }

    /// Whether the standard library's sources are there; `core` is built from them.
    pub fn has_sources(&self) -> bool {
        self.sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
    }
}

/// `bpf-linker 0.13.0`; none if it is missing or cannot start (it needs libLLVM).
pub fn bpf_linker_version() -> Option<String> {
    let text = output(command(find("bpf-linker")?).arg("--version")).ok()?;
    Some(text.trim().to_string())
}

/// bpf-linker does not tell its LLVM: take the library that it loads, and the patch level from
/// llvm-config, which Debian builds from the same source.
fn bpf_linker_llvm() -> Option<String> {
    let libraries = output(command("ldd").arg(find("bpf-linker")?)).ok()?;
    let Some(library) = libraries.split_whitespace().find_map(|word| word.strip_prefix("libLLVM.so.")) else {
        return Some("built in".to_string());
    };
    let config = find(&format!("llvm-config-{LLVM}")).and_then(|config| output(command(config).arg("--version")).ok());
    match config {
        Some(version) if version.starts_with(library) => Some(version.trim().to_string()),
        _ => Some(library.to_string()),
    }
}

fn llvm_objcopy_version() -> Option<String> {
    let text = output(command(llvm_objcopy()?).arg("--version")).ok()?;
    let (_, version) = text.split_once("LLVM version ")?;
    Some(version.split_whitespace().next()?.to_string())
}

/// The versioned name first: an unversioned one may belong to any LLVM.
pub fn llvm_objcopy() -> Option<PathBuf> {
    find(&format!("llvm-objcopy-{LLVM}"))
}

/// The tools to build with, all present and of the pinned versions.
pub struct Toolchain {
    pub rust: Rust,
    pub bpf_linker: PathBuf,
    pub llvm_objcopy: PathBuf,
    pub versions: Versions,
}

impl Toolchain {
    pub fn find() -> Result<Self> {
        const HINT: &str = "try `cargo xtask setup --for build-ebpf`";
        let rust = Rust::find().with_context(|| format!("rustup has no Rust {RUST}; {HINT}"))?;
        if !rust.has_sources() {
            bail!("toolchain {} has no rust-src; {HINT}", rust.name);
        }
        let versions = Versions::at_hand();
        if versions.bpf_linker != format!("bpf-linker {BPF_LINKER}") {
            bail!("bpf-linker {BPF_LINKER} is needed, here: {}; {HINT}", versions.bpf_linker);
        }
        Ok(Self {
            rust,
            bpf_linker: find("bpf-linker").with_context(|| format!("no bpf-linker; {HINT}"))?,
            llvm_objcopy: llvm_objcopy().with_context(|| format!("no llvm-objcopy-{LLVM}; {HINT}"))?,
            versions,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_the_tool_and_both_versions() {
        let recorded = Versions {
            rustc: "rustc 1.95.0".into(),
            rustc_llvm: "22.1.2".into(),
            bpf_linker: "bpf-linker 0.13.0".into(),
            bpf_linker_llvm: "22.1.8".into(),
            llvm_objcopy: "22.1.8".into(),
        };
        let here = Versions { bpf_linker_llvm: "22.1.9".into(), ..recorded.clone() };
        assert_eq!(here.differences(&recorded), ["LLVM of bpf-linker: here 22.1.9, recorded 22.1.8"]);
        assert!(recorded.differences(&recorded).is_empty());
    }
}
