//! What the privileged tests share.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod traffic;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use whyrst_lab::{cleanup, netns};

/// False if the test must be skipped: it needs root. Under CI a skipped test would be a silent gap.
pub fn permitted() -> bool {
    if netns::require_root().is_ok() {
        cleanup::install().expect("signal handlers can be installed");
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "CI must run this test as root");
    println!("skipped: needs root");
    false
}

/// The agent that belongs to this build. Cargo makes no program of another package for a test, so
/// it is asked to; where that is impossible, one that is there will do. `WHYRST_AGENT` names another.
pub fn agent() -> &'static Path {
    static AGENT: OnceLock<PathBuf> = OnceLock::new();
    AGENT.get_or_init(|| {
        if let Some(program) = std::env::var_os("WHYRST_AGENT") {
            return PathBuf::from(program);
        }
        let lab = Path::new(env!("CARGO_BIN_EXE_whyrst-lab"));
        let folder = lab.parent().expect("programs are in a folder");
        let program = folder.join("whyrst");
        let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
        cargo.args(["build", "--quiet", "-p", "monitor", "--bin", "whyrst", "--target-dir"]);
        // <target>/<profile>/whyrst-lab; the folder of the profile `dev` is called `debug`.
        cargo.arg(folder.parent().expect("a profile's folder is in the target folder"));
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        let built = built.is_ok_and(|status| status.success());
        assert!(built || program.exists(), "no {}; build it with `cargo build -p monitor`", program.display());
        program
    })
}

/// The laboratory's own program.
pub fn lab() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_whyrst-lab"))
}
