//! A compiler wrapper that makes crate identities independent of folders.
//!
//! Cargo derives `-C metadata` of a crate from its absolute path when that path lies outside of the
//! workspace: so for `monitor-common` (a sibling of the `monitor-ebpf` workspace) and for `core` (built
//! from the toolchain's folder). The value ends up in mangled symbol names, and two checkouts would give
//! different objects. With this wrapper it is made of the crate's name and version only.

use std::process::{Command, ExitCode};

use sha2::{Digest, Sha256};

/// Set for the Cargo that builds the eBPF object; tells this program that it is called as a wrapper.
pub const ASKED: &str = "WHYRST_RUSTC_WRAPPER";

/// Only crates for this target are given a new identity; build scripts and macros do not need one.
const TARGET: &str = crate::ebpf::TARGET;

/// Acts as the wrapper (`xtask RUSTC ARGUMENT...`) and returns the exit code, if it was asked to.
pub fn run_if_asked() -> Option<ExitCode> {
    std::env::var_os(ASKED)?;
    let mut arguments = std::env::args().skip(1);
    let rustc = arguments.next()?;
    let version = std::env::var("CARGO_PKG_VERSION").unwrap_or_default();
    let arguments = with_plain_metadata(arguments.collect(), &version);
    Some(match Command::new(&rustc).args(arguments).status() {
        Ok(status) => ExitCode::from(u8::try_from(status.code().unwrap_or(101)).unwrap_or(101)),
        Err(error) => {
            eprintln!("xtask: cannot start {rustc}: {error}");
            ExitCode::FAILURE
        }
    })
}

fn with_plain_metadata(mut arguments: Vec<String>, version: &str) -> Vec<String> {
    let after = |flag: &str| arguments.windows(2).find(|pair| pair[0] == flag).map(|pair| pair[1].clone());
    let Some(name) = after("--crate-name").filter(|_| after("--target").as_deref() == Some(TARGET)) else {
        return arguments;
    };
    let digest = Sha256::digest(format!("{name} {version}"));
    let identity: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    for argument in &mut arguments {
        if argument.starts_with("metadata=") {
            *argument = format!("metadata={identity}");
        }
    }
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(target: &str, metadata: &str) -> Vec<String> {
        let text =
            format!("--crate-name core --edition 2024 -C metadata={metadata} -C extra-filename=-1 --target {target}");
        text.split(' ').map(str::to_string).collect()
    }

    #[test]
    fn folders_do_not_reach_the_identity_of_target_crates() {
        let one = with_plain_metadata(arguments(TARGET, "1111"), "0.1.0");
        let two = with_plain_metadata(arguments(TARGET, "2222"), "0.1.0");
        assert_eq!(one, two);
        assert_ne!(one, with_plain_metadata(arguments(TARGET, "1111"), "0.2.0"));
    }

    #[test]
    fn host_crates_are_left_alone() {
        let host = arguments("x86_64-unknown-linux-gnu", "1111");
        assert_eq!(with_plain_metadata(host.clone(), "0.1.0"), host);
    }
}
