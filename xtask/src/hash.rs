//! SHA-256 of files and of source trees. Depends on nothing else here, so that a test of another crate
//! may include this file by path.

use std::io;
use std::path::Path;

use sha2::{Digest, Sha256};

/// What the eBPF object is made of, relative to the repository's root.
pub const EBPF_SOURCES: [&str; 6] = [
    "monitor-common/Cargo.toml",
    "monitor-common/src",
    "monitor-ebpf/.cargo",
    "monitor-ebpf/Cargo.lock",
    "monitor-ebpf/Cargo.toml",
    "monitor-ebpf/src",
];

/// SHA-256 of one file, in hexadecimal.
pub fn file(path: &Path) -> io::Result<String> {
    Ok(hex(&Sha256::digest(std::fs::read(path)?)))
}

/// SHA-256 over the path and the content of every file under `entries`, in hexadecimal.
///
/// Paths are relative to `root` and sorted as bytes; every part is preceded by its length, so that no
/// two trees give the same stream. Entries that do not exist add nothing. Hidden files and editors'
/// back-ups inside the folders are left out: they are no sources and differ from checkout to checkout.
pub fn sources(root: &Path, entries: &[&str]) -> io::Result<String> {
    let mut files = Vec::new();
    for entry in entries {
        collect(root, entry, &mut files)?;
    }
    files.sort();
    files.dedup();
    let mut hasher = Sha256::new();
    for name in &files {
        let content = std::fs::read(root.join(name))?;
        for part in [name.as_bytes(), &content] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hex(&hasher.finalize()))
}

fn collect(root: &Path, name: &str, files: &mut Vec<String>) -> io::Result<()> {
    let path = root.join(name);
    if path.is_file() {
        files.push(name.to_string());
    } else if path.is_dir() {
        for child in std::fs::read_dir(path)? {
            let child = child?.file_name().to_string_lossy().into_owned();
            if !child.starts_with('.') && !child.ends_with('~') {
                collect(root, &format!("{name}/{child}"), files)?;
            }
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("whyrst-hash-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        for (path, content) in files {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().expect("joined to a root")).unwrap();
            std::fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn hash_of_a_file_is_plain_sha256() {
        let root = tree("file", &[("abc", "abc")]);
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(file(&root.join("abc")).unwrap(), known);
        std::fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn sources_depend_on_names_and_contents_and_on_nothing_else() {
        let one = tree("one", &[("a/src/x.rs", "1"), ("a/src/y.rs", "2"), ("a/other", "3")]);
        let same =
            tree("same", &[("a/src/y.rs", "2"), ("a/src/x.rs", "1"), ("a/src/.x.rs.swp", "4"), ("a/src/x.rs~", "5")]);
        let moved = tree("moved", &[("a/src/x.rs", "12"), ("a/src/y.rs", "")]);
        let renamed = tree("renamed", &[("a/src/x.rs", "1"), ("a/src/z.rs", "2")]);
        let of = |root: &Path| sources(root, &["a/src", "a/missing"]).unwrap();
        assert_eq!(of(&one), of(&same));
        assert_ne!(of(&one), of(&moved));
        assert_ne!(of(&one), of(&renamed));
        for root in [one, same, moved, renamed] {
            std::fs::remove_dir_all(root).unwrap();
        }
    }
}
