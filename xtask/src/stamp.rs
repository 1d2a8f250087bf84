//! `whyrst.bpf.toml`: what the committed object was made of and with.

use std::path::Path;

use anyhow::{Context, Result};

use crate::toolchain::Versions;

#[derive(Debug, PartialEq, Eq)]
pub struct Stamp {
    /// SHA-256 of the object file.
    pub object: String,
    /// [`crate::hash::sources`] of [`crate::hash::EBPF_SOURCES`].
    pub sources: String,
    /// The compiler's, as far as they do not depend on the machine.
    pub flags: String,
    pub versions: Versions,
}

impl Stamp {
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| {
            format!("cannot read {}; build the object with `cargo xtask build-ebpf`", path.display())
        })?;
        Self::parse(&text)
            .with_context(|| format!("{} is damaged; rebuild it with `cargo xtask build-ebpf`", path.display()))
    }

    /// Reads the keys that [`Stamp::to_toml`] writes; their names are unique, so tables do not matter.
    fn parse(text: &str) -> Result<Self> {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(name, _)| name.trim() == key)
                .map(|(_, value)| value.trim().trim_matches('"').to_string())
                .with_context(|| format!("no `{key}`"))
        };
        Ok(Self {
            object: value("object_sha256")?,
            sources: value("sources_sha256")?,
            flags: value("flags")?,
            versions: Versions {
                rustc: value("rustc")?,
                rustc_llvm: value("rustc_llvm")?,
                bpf_linker: value("bpf_linker")?,
                bpf_linker_llvm: value("bpf_linker_llvm")?,
                llvm_objcopy: value("llvm_objcopy")?,
            },
        })
    }

    pub fn to_toml(&self) -> String {
        let Versions { rustc, rustc_llvm, bpf_linker, bpf_linker_llvm, llvm_objcopy } = &self.versions;
        format!(
            "# Written by `cargo xtask build-ebpf`; `cargo xtask build-ebpf --check` compares.\n\
             object_sha256 = \"{}\"\n\
             sources_sha256 = \"{}\"\n\
             \n\
             [built_with]\n\
             flags = \"{}\"\n\
             rustc = \"{rustc}\"\n\
             rustc_llvm = \"{rustc_llvm}\"\n\
             bpf_linker = \"{bpf_linker}\"\n\
             bpf_linker_llvm = \"{bpf_linker_llvm}\"\n\
             llvm_objcopy = \"{llvm_objcopy}\"\n",
            self.object, self.sources, self.flags
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back_what_it_wrote() {
        let stamp = Stamp {
            object: "aa".into(),
            sources: "bb".into(),
            flags: "-Cdebuginfo=2 -Ctarget-cpu=v2".into(),
            versions: Versions {
                rustc: "rustc 1.95.0 (59807616e 2026-04-14)".into(),
                rustc_llvm: "22.1.2".into(),
                bpf_linker: "bpf-linker 0.13.0".into(),
                bpf_linker_llvm: "22.1.8".into(),
                llvm_objcopy: "22.1.8".into(),
            },
        };
        assert_eq!(Stamp::parse(&stamp.to_toml()).unwrap(), stamp);
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = Stamp::parse("object_sha256 = \"aa\"\n").unwrap_err().to_string();
        assert!(error.contains("sources_sha256"), "{error}");
    }
}
