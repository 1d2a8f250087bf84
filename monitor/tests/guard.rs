//! The same packets through the host's engine and the loaded kernel programs: same state, same reports.

use monitor::capture::guard::{Guard, Through};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Loading programs needs root; says so where it is missing, and fails in CI.
fn privileged() -> bool {
    // SAFETY: no arguments, cannot fail.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("skipped: needs root to load eBPF programs");
        assert!(std::env::var_os("CI").is_none(), "CI must run this as root");
    }
    root
}

fn captures(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return out };
    for e in entries.flatten() {
        let path = e.path();
        if path.is_dir() {
            out.extend(captures(&path));
        } else {
            out.push(path);
        }
    }
    out.sort();
    out
}

fn compare(files: &[PathBuf]) {
    for through in Through::ALL {
        let mut guard = Guard::new(through).expect("the programs load");
        for file in files {
            if let Err(e) = guard.capture(file) {
                if matches!(e, monitor::capture::guard::GuardError::Capture { .. }) {
                    continue;
                }
                panic!("{e}");
            }
        }
        println!("{through:?}: {:?}", guard.compared);
        assert!(guard.compared.segments > 0 && guard.compared.events > 0, "{:?}", guard.compared);
    }
}

#[test]
fn kernel_and_host_agree_on_the_fixtures() {
    if !privileged() {
        return;
    }
    let files: Vec<_> =
        captures(&root().join("fixtures")).into_iter().filter(|p| p.extension().is_some_and(|e| e == "pcap")).collect();
    assert!(files.len() >= 8, "fixtures are missing");
    compare(&files);
}

#[test]
fn kernel_and_host_agree_on_the_corpus() {
    if !privileged() {
        return;
    }
    let corpus = std::env::var_os("WHYRST_CORPUS").map_or_else(|| root().join("../shared/corpus"), PathBuf::from);
    let files = captures(&corpus.join("pcaps"));
    if files.is_empty() {
        println!("skipped: corpus not found");
        assert!(std::env::var_os("CI").is_none(), "CI needs the corpus");
        return;
    }
    compare(&files);
}
