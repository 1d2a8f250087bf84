//! `fixtures/shapes.pcap`: every header shape that the parser and the tracker should know, made by hand.
//!
//! Real traffic shows few of them, and no stack sends the malformed ones on demand. The file is the
//! food of the main guard: the kernel's and the host's build of the tracker must agree on every frame.
//! It is deterministic, so that a test can tell whether the committed file is the generator's.
//! Small conversations, each on a client port of its own; times only grow.

mod headers;
mod life;
mod options;
mod talk;
mod wire;

use std::io::Write;
use std::path::Path;

use crate::capture::{file_header, record};
use crate::error::{During, LabError};
use talk::Book;

/// 2026-01-01 00:00:00 UTC.
const EPOCH_S: u64 = 1_767_225_600;
const SNAPLEN: u32 = 65_535;

/// The whole file.
pub fn pcap() -> Vec<u8> {
    let mut out = file_header(SNAPLEN).to_vec();
    for frame in book().frames {
        let (seconds, micros) = (EPOCH_S + frame.time_us / 1_000_000, frame.time_us % 1_000_000);
        out.extend(record(seconds as u32, micros as u32, frame.bytes.len(), frame.wire_len));
        out.extend(frame.bytes);
    }
    out
}

/// Writes it; returns the number of frames.
pub fn write(path: &Path) -> Result<usize, LabError> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory).during(format!("create {}", directory.display()))?;
    }
    let what = || format!("write {}", path.display());
    let mut file = std::fs::File::create(path).during(what())?;
    file.write_all(&pcap()).during(what())?;
    Ok(book().frames.len())
}

fn book() -> Book {
    let mut book = Book::default();
    headers::all(&mut book);
    options::all(&mut book);
    life::all(&mut book);
    book
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_only_grow_and_frames_fit_a_test_run() {
        let frames = book().frames;
        assert!(frames.windows(2).all(|pair| pair[0].time_us < pair[1].time_us));
        for frame in &frames {
            assert!(frame.bytes.len() <= frame.wire_len);
            // One page less room for headers, what `BPF_PROG_TEST_RUN` takes.
            assert!((15..=3400).contains(&frame.bytes.len()), "{} bytes", frame.bytes.len());
        }
    }

    #[test]
    fn it_is_small_and_always_the_same() {
        assert_eq!(pcap(), pcap());
        assert!(pcap().len() < 400_000, "{} bytes are too many for a repository", pcap().len());
    }
}
