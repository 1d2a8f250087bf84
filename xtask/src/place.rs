//! Where things are: the repository, Cargo's folders, and the folders xtask keeps its own things in.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The repository's root folder.
///
/// Cargo tells where this package is when it runs it; the path is not compiled in, so that a binary
/// in a shared target folder still works on the checkout it was started for.
pub fn root() -> Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .context("CARGO_MANIFEST_DIR is not set: start this program as `cargo xtask`")?;
    let root = Path::new(&package).parent().context("CARGO_MANIFEST_DIR has no parent folder")?;
    Ok(root.to_path_buf())
}

/// Cargo's target folder for this workspace.
pub fn target() -> Result<PathBuf> {
    let root = root()?;
    Ok(match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root.join(folder),
        None => root.join("target"),
    })
}

/// Programs that setup unpacks instead of installing.
pub fn tools() -> Result<PathBuf> {
    Ok(target()?.join("tools"))
}

/// Cargo's home folder, if one can be told.
pub fn cargo_home() -> Option<PathBuf> {
    match std::env::var_os("CARGO_HOME") {
        Some(folder) => Some(PathBuf::from(folder)),
        None => std::env::home_dir().map(|home| home.join(".cargo")),
    }
}

/// A new empty folder for one purpose, removed when dropped.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(purpose: &str) -> Result<Self> {
        let folder = std::env::temp_dir().join(format!("whyrst-{purpose}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(folder))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
