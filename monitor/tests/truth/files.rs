//! The corpus with tshark's word on it, and captures as parsed packets.

use capture_file::Reader;
use capture_file::link::{Located, locate};
use flate2::read::GzDecoder;
use monitor_common::parse::{self, Packet};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The corpus' folder; none, and said so, where there is none.
pub fn corpus() -> Option<PathBuf> {
    let path = std::env::var_os("WHYRST_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"), PathBuf::from);
    if path.join("manifest.jsonl").is_file() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "corpus not found at {}", path.display());
    println!("skipped: corpus not found");
    None
}

/// One capture of the corpus that holds TCP.
pub struct Entry {
    /// Path below `pcaps/`.
    pub name: String,
    pub path: PathBuf,
    pub truth: PathBuf,
    pub tags: BTreeSet<String>,
}

impl Entry {
    pub fn has(&self, tag: &str) -> bool {
        self.tags.contains(tag)
    }
}

pub fn entries(corpus: &Path) -> Vec<Entry> {
    let manifest = std::fs::read_to_string(corpus.join("manifest.jsonl")).expect("manifest");
    let mut entries = Vec::new();
    for line in manifest.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).expect("a JSON object per line");
        let (Some(file), Some(truth)) = (entry["file"].as_str(), entry["truth"].as_str()) else { continue };
        if entry["role"] != "tcp" {
            continue;
        }
        let tags = entry["tags"].as_array().into_iter().flatten().filter_map(|t| t.as_str()).map(str::to_owned);
        entries.push(Entry {
            name: file.strip_prefix("pcaps/").unwrap_or(file).to_owned(),
            path: corpus.join(file),
            truth: corpus.join(truth),
            tags: tags.collect(),
        });
    }
    assert!(entries.len() > 600, "{} captures in the corpus", entries.len());
    entries
}

/// One parsed packet of a capture.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Number in the file, from 1.
    pub frame: u64,
    pub time_ns: u64,
    pub packet: Packet,
}

/// The TCP packets of a file; of a damaged one, those before the damage.
pub fn packets(path: &Path) -> Vec<Captured> {
    let mut found = Vec::new();
    let Ok(mut reader) = Reader::open(path) else { return found };
    let mut packet = Packet::default();
    while let Ok(Some(frame)) = reader.next() {
        if let Located::Ip { offset, wire_len } = locate(frame.link_type, frame.data, frame.wire_len)
            && parse::ip(frame.data, offset, wire_len, &mut packet).is_ok()
        {
            found.push(Captured { frame: frame.frame, time_ns: frame.time_ns.min(u64::MAX / 4), packet });
        }
    }
    found
}

/// What tshark says of one frame.
#[derive(Clone, Debug, Default)]
pub struct Row {
    pub stream: u32,
    /// Address and port.
    pub source: (String, u16),
    pub seq: u32,
    pub ack: u32,
    pub len: u32,
    pub flags: u16,
    /// As on the wire.
    pub raw_window: u16,
    /// Bytes, as tshark scales it.
    pub window: u64,
    /// Factor; -1 not known, -2 no scaling; none on a SYN.
    pub scale: Option<i32>,
    /// The shift offered, on a SYN.
    pub shift: Option<i32>,
    /// `tcp.analysis` flags without the prefix.
    pub analysis: BTreeSet<String>,
    pub note: String,
}

/// Rows by frame, from lines of tab-separated fields under a line of their names (`README.md` of the corpus).
/// Frames without numbers have no row.
pub fn rows(text: &str) -> BTreeMap<u64, Row> {
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().expect("header line").split('\t').collect();
    let column = |name: &str| columns.iter().position(|c| *c == name).expect("a column of the corpus README");
    let [frame, stream, src, sport, seq, ack, len, flags] =
        ["frame", "stream", "src", "sport", "seq", "ack", "len", "flags"].map(column);
    let [raw, win, scale, shift, analysis] = ["win_raw", "win", "win_scale", "wscale_opt", "analysis"].map(column);
    let note = columns.iter().position(|c| *c == "note");
    let mut rows = BTreeMap::new();
    for line in lines {
        let f: Vec<&str> = line.split('\t').collect();
        let row = (|| {
            Some(Row {
                stream: f[stream].parse().ok()?,
                source: (f[src].to_owned(), f[sport].parse().ok()?),
                seq: f[seq].parse().ok()?,
                ack: f[ack].parse().ok()?,
                len: f[len].parse().ok()?,
                flags: u16::from_str_radix(f[flags].strip_prefix("0x")?, 16).ok()?,
                raw_window: f[raw].parse().ok()?,
                window: f[win].parse().ok()?,
                scale: f[scale].parse().ok(),
                shift: f[shift].parse().ok(),
                analysis: f[analysis].split(',').filter(|a| !a.is_empty()).map(str::to_owned).collect(),
                note: note.and_then(|n| f.get(n)).unwrap_or(&"").to_string(),
            })
        })();
        if let Some(row) = row {
            rows.insert(f[frame].parse().expect("frame number"), row);
        }
    }
    rows
}

pub fn truth(path: &Path) -> BTreeMap<u64, Row> {
    let mut text = String::new();
    GzDecoder::new(File::open(path).expect("truth file of the manifest"))
        .read_to_string(&mut text)
        .expect("readable truth file");
    rows(&text)
}
