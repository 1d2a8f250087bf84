//! Writes a cpio archive of the "newc" kind, which the kernel unpacks as its initramfs.
//!
//! Written here rather than with `cpio`, because owner and mode are then ours to say: no root, no
//! surprises from the umask. Not compressed: unpacking would take the emulated CPU longer than loading.

use std::collections::BTreeMap;

const FOLDER: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

/// Files by their path without leading slash. Sorted, so a folder comes before what is in it.
#[derive(Default)]
pub struct Archive(BTreeMap<String, Entry>);

struct Entry {
    mode: u32,
    content: Vec<u8>,
}

impl Archive {
    pub fn folder(&mut self, path: &str) {
        // The root folder too is an entry, with mode 755: anything stricter locks every non-root
        // process of the guest out of `/`, and they fail with "Permission denied" on /sys.
        self.0.entry(".".to_string()).or_insert(Entry { mode: FOLDER | 0o755, content: Vec::new() });
        let path = path.trim_matches('/');
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends.filter(|&end| end > 0) {
            let entry = Entry { mode: FOLDER | 0o755, content: Vec::new() };
            self.0.entry(path[..end].to_string()).or_insert(entry);
        }
    }

    pub fn file(&mut self, path: &str, permissions: u32, content: Vec<u8>) {
        let path = path.trim_matches('/');
        self.folder(path.rsplit_once('/').map_or("", |(folder, _)| folder));
        self.0.insert(path.to_string(), Entry { mode: FILE | permissions, content });
    }

    pub fn contains(&self, path: &str) -> bool {
        self.0.contains_key(path.trim_matches('/'))
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, (path, entry)) in self.0.iter().enumerate() {
            let number = u32::try_from(number).expect("an initramfs has few files") + 1;
            record(&mut out, number, entry.mode, path, &entry.content);
        }
        record(&mut out, 0, 0, "TRAILER!!!", &[]);
        out
    }
}

/// One header, name and content, each padded to four bytes.
fn record(out: &mut Vec<u8>, number: u32, mode: u32, name: &str, content: &[u8]) {
    let size = u32::try_from(content.len()).expect("newc files are smaller than 4 GB");
    let name_size = u32::try_from(name.len() + 1).expect("paths are short");
    out.extend(b"070701");
    // inode, mode, owner, group, links, time, size, device (2), device named (2), name's size, checksum
    for field in [number, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0] {
        out.extend(format!("{field:08x}").into_bytes());
    }
    out.extend(name.as_bytes());
    out.push(0);
    pad(out);
    out.extend(content);
    pad(out);
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(4), 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_come_before_their_files_and_the_root_is_open_to_all() {
        let mut archive = Archive::default();
        archive.file("/sbin/init", 0o755, b"#!".to_vec());
        archive.file("bin/sh", 0o755, Vec::new());
        let paths: Vec<_> = archive.0.keys().cloned().collect();
        assert_eq!(paths, [".", "bin", "bin/sh", "sbin", "sbin/init"]);
        assert_eq!(archive.0["."].mode, 0o040_755);
    }

    #[test]
    fn records_are_aligned_and_the_trailer_ends_the_archive() {
        let mut archive = Archive::default();
        archive.file("a", 0o644, b"12345".to_vec());
        let bytes = archive.to_bytes();
        assert_eq!(bytes.len() % 4, 0);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text.matches("070701").count(), 3);
        let file = &text[text[1..].find("070701").unwrap() + 1..];
        assert_eq!(&file[6..22], "00000002000081a4");
        assert_eq!(&file[54..62], "00000005");
        assert!(text.trim_end_matches('\0').ends_with("TRAILER!!!"));
    }
}
