//! The main guard without a toolchain: the kernel's build of the tracker against the host's, on
//! whatever kernel this is. `cargo xtask kernels` runs it in its machines.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use monitor::capture::guard::{Guard, GuardError, Through};

use crate::text::{Page, Tone};

/// Feeds every capture in the directory to both builds, through each hook and through both by
/// turns. False if they differ anywhere, or if the programs do not load.
pub fn compare(directory: &Path, page: &Page) -> anyhow::Result<bool> {
    let files = captures(directory)?;
    page.heading(&format!("kernel against host, {} captures of {}", files.len(), directory.display()));
    let mut equal = true;
    for through in Through::ALL {
        let label = format!("  {:<9}", format!("{through:?}").to_lowercase());
        match compare_through(through, &files) {
            Ok(what) => page.judged(Tone::Good, &format!("{label}equal      "), &what),
            Err(error) => {
                equal = false;
                // The fields that differ come on lines of their own.
                page.line(&format!("{label}{}  {error}", page.paint(Tone::Bad, "DIFFERENT")));
            }
        }
    }
    Ok(equal)
}

fn compare_through(through: Through, files: &[PathBuf]) -> Result<String, GuardError> {
    let mut guard = Guard::new(through)?;
    for file in files {
        guard.capture(file)?;
    }
    let c = guard.compared;
    Ok(format!(
        "{} frames, {} TCP segments, {} connections, {} reports; {} frames cannot be test-run",
        c.frames, c.segments, c.connections, c.events, c.left_out
    ))
}

fn captures(directory: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let shown = directory.display();
    let entries = std::fs::read_dir(directory).with_context(|| format!("cannot list {shown}"))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.with_context(|| format!("cannot list {shown}"))?.path();
        if path.extension().is_some_and(|extension| extension == "pcap") {
            files.push(path);
        }
    }
    ensure!(!files.is_empty(), "no *.pcap in {shown}; give the repository's fixtures/");
    files.sort();
    Ok(files)
}
