//! Every capture of the corpus through `analyze`: the same segments as tshark 4.0 sees, no panic, and silence where
//! nothing is wrong.
//!
//! The corpus is found by `WHYRST_CORPUS`, or beside the repository. Exceptions are classes with a reason and an
//! exact count: a new one fails the test, and so does one that goes away.

use capture_file::Reader;
use capture_file::link::{Located, locate};
use flate2::read::GzDecoder;
use monitor::capture::host::Engine;
use monitor::capture::replay::{Output, ReplayOptions, Summary, analyze};
use monitor::finding::Finding;
use monitor_common::Anomaly;
use monitor_common::parse::{self, Packet};
use monitor_common::tracker::notes::HARD;
use monitor_common::tracker::state::{Hook, sync_state};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Class, frames, reason.
const EXCEPTIONS: &[(&str, usize, &str)] = &[];

/// File of the tag `clean`, what it gives, and why that is right.
const NOT_SO_CLEAN: &[(&str, &str, &str)] = &[];

/// The numbers of one TCP header.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Header {
    seq: u32,
    ack: u32,
    /// Absent where tshark gives none.
    len: Option<u32>,
    flags: u16,
    window: u16,
}

struct Row {
    header: Option<Header>,
    note: String,
}

fn truth(path: &Path) -> BTreeMap<u64, Row> {
    let mut text = String::new();
    GzDecoder::new(File::open(path).expect("truth file of the manifest"))
        .read_to_string(&mut text)
        .expect("readable truth file");
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().expect("header line").split('\t').collect();
    let column = |name| columns.iter().position(|c| *c == name).expect("a column of the corpus README");
    let [frame, seq, ack, len, flags, window, note] =
        ["frame", "seq", "ack", "len", "flags", "win_raw", "note"].map(column);
    lines
        .map(|line| {
            let f: Vec<&str> = line.split('\t').collect();
            let header = (|| {
                Some(Header {
                    seq: f[seq].parse().ok()?,
                    ack: f[ack].parse().ok()?,
                    len: f[len].parse().ok(),
                    flags: u16::from_str_radix(f[flags].strip_prefix("0x")?, 16).ok()?,
                    window: f[window].parse().ok()?,
                })
            })();
            (f[frame].parse().expect("frame number"), Row { header, note: f.get(note).unwrap_or(&"").to_string() })
        })
        .collect()
}

fn corpus() -> Option<PathBuf> {
    let path = std::env::var_os("WHYRST_CORPUS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus"), PathBuf::from);
    if path.join("manifest.jsonl").is_file() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "corpus not found at {}", path.display());
    println!("skipped: corpus not found");
    None
}

fn manifest(corpus: &Path) -> Vec<serde_json::Value> {
    std::fs::read_to_string(corpus.join("manifest.jsonl"))
        .expect("manifest")
        .lines()
        .map(|l| serde_json::from_str(l).expect("a JSON object per line"))
        .collect()
}

/// What `analyze` gives of one file: headers by frame, findings. Damaged files give what is before the damage.
fn analysed(path: &Path) -> (BTreeMap<u64, Header>, Vec<Finding>, Summary) {
    let options = ReplayOptions { segments: true, connections: false };
    let (mut headers, mut findings, mut summary) = (BTreeMap::new(), Vec::new(), Summary::default());
    let mut sink = |output| {
        match output {
            Output::Segment(s) => {
                let header = Header { seq: s.seq, ack: s.ack, len: Some(s.len), flags: s.flags, window: s.window };
                assert_eq!(headers.insert(s.frame, header), None, "{}: frame {} twice", path.display(), s.frame);
            }
            Output::Finding(finding) => findings.push(*finding),
            Output::Connection(_) => {}
        }
        Ok(())
    };
    let _damage = analyze(path, options, &mut summary, &mut sink, &mut |_| {});
    (headers, findings, summary)
}

/// Frames of one class: how many, and some of them to look at.
type Classes = BTreeMap<&'static str, Vec<String>>;

fn print(classes: &Classes) {
    for (class, list) in classes {
        println!("{class}: {}", list.len());
        list.iter().take(30).for_each(|line| println!("    {line}"));
    }
}

/// Why ours and tshark's numbers of a frame are not the same, if they are not.
fn difference(name: &str, row: &Row, ours: Option<Header>) -> Option<&'static str> {
    if row.header == ours && ours.is_some() {
        return None;
    }
    Some(match (row.header, ours) {
        (_, None) if row.note.contains("icmp") => "quoted in icmp",
        _ if row.note.contains("multi") => "several headers",
        (None, None) if row.note.contains("trunc") => "header cut",
        (_, None) => "missing",
        (Some(theirs), Some(ours)) if name.contains("cisco-fabric-path") || name.ends_with("ajp.pcap") => {
            // All but the length.
            assert_eq!(Header { len: ours.len, ..theirs }, ours, "{name}");
            "fabricpath fcs"
        }
        (Some(theirs), Some(ours)) if row.note.contains("malformed") && Header { len: None, ..ours } == theirs => {
            "length left out"
        }
        _ => "unexplained",
    })
}

#[test]
fn every_tcp_frame_equals_the_truth() {
    let Some(corpus) = corpus() else { return };
    let mut classes = Classes::new();
    let (mut files, mut equal) = (0, 0);
    for entry in manifest(&corpus) {
        let (Some(name), Some(path)) = (entry["file"].as_str(), entry["truth"].as_str()) else { continue };
        if entry["role"] != "tcp" {
            continue;
        }
        files += 1;
        let mut truth = truth(&corpus.join(path));
        let (headers, _, _) = analysed(&corpus.join(name));
        // Headers that tshark shows in another frame: that which completes the datagram.
        let mut only_here: Vec<(u64, Header)> = Vec::new();
        for (&frame, &header) in &headers {
            let Some(row) = truth.remove(&frame) else {
                only_here.push((frame, header));
                continue;
            };
            match difference(name, &row, Some(header)) {
                None => equal += 1,
                Some(class) => classes.entry(class).or_default().push(format!("{name} {frame} {header:?}")),
            }
        }
        for (frame, row) in &truth {
            let class = match difference(name, row, None) {
                Some("missing") => {
                    let first = row.header.and_then(|theirs| {
                        only_here.iter().position(|(at, f)| at < frame && Header { len: theirs.len, ..*f } == theirs)
                    });
                    match first {
                        Some(i) => {
                            only_here.remove(i);
                            "reassembled, equal in the first fragment"
                        }
                        None if row.header.is_none() => "bogus header length",
                        None => "unexplained",
                    }
                }
                Some(class) => class,
                None => unreachable!("no header of ours"),
            };
            classes.entry(class).or_default().push(format!("{name} {frame} {:?}", row.header));
        }
        for (frame, header) in only_here {
            classes.entry("only here").or_default().push(format!("{name} {frame} {header:?}"));
        }
    }
    println!("{files} files, {equal} TCP frames equal to the truth");
    print(&classes);
    let expected: BTreeMap<_, _> = EXCEPTIONS.iter().map(|&(class, count, _)| (class, count)).collect();
    let found: BTreeMap<_, _> = classes.iter().map(|(class, list)| (*class, list.len())).collect();
    assert_eq!(found, expected, "exceptions, by class");
}

#[test]
fn every_file_is_survived() {
    let Some(corpus) = corpus() else { return };
    let mut robustness = 0;
    for entry in manifest(&corpus) {
        let name = entry["file"].as_str().expect("file name");
        if entry["role"] == "robustness" {
            let (headers, _, summary) = analysed(&corpus.join(name));
            assert_eq!(summary.segments, headers.len() as u64, "{name}");
            robustness += 1;
        }
    }
    println!("{robustness} damaged or fuzzed files");
    assert!(robustness > 0);
}

/// What the tracker notes of one file: per anomaly weighed as hard, frame and numbers; and segments.
fn hard_notes(path: &Path) -> (u64, Vec<(&'static str, String)>) {
    let Ok(mut reader) = Reader::open(path) else { return (0, Vec::new()) };
    let mut engine = Engine::new();
    let mut parsed = Packet::default();
    let (mut segments, mut found) = (0, Vec::new());
    while let Ok(Some(packet)) = reader.next() {
        let Located::Ip { offset, wire_len } = locate(packet.link_type, packet.data, packet.wire_len) else { continue };
        if parse::ip(packet.data, offset, wire_len, &mut parsed).is_err() {
            continue;
        }
        segments += 1;
        engine.on_packet(&parsed, Hook::Ingress, packet.time_ns.min(u64::MAX / 4));
        let notes = engine.notes();
        for n in notes.iter().filter(|n| n.flags & HARD != 0) {
            let name = Anomaly::from_number(n.anomaly).map_or("?", |a| a.name());
            found.push((name, format!("{} of {} {} {}", packet.frame, n.direction, n.expected.0, n.actual.0)));
        }
        if notes.sync_before != notes.sync_after && notes.sync_after.contains(&sync_state::DESYNCED) {
            found.push(("DESYNCED", format!("{} {:?}", packet.frame, notes.sync_after)));
        }
    }
    (segments, found)
}

#[test]
fn clean_captures_are_silent() {
    let Some(corpus) = corpus() else { return };
    let (mut files, mut segments, mut findings) = (0, 0, 0);
    let mut found: BTreeMap<(String, &'static str), Vec<String>> = BTreeMap::new();
    let mut all: BTreeMap<&'static str, (u64, Vec<String>)> = BTreeMap::new();
    for entry in manifest(&corpus) {
        let Some(name) = entry["file"].as_str().filter(|_| entry["role"] == "tcp") else { continue };
        let path = corpus.join(name);
        let (n, notes) = hard_notes(&path);
        for (anomaly, line) in &notes {
            let a = all.entry(anomaly).or_default();
            a.0 += 1;
            a.1.push(format!("{name} {line}"));
        }
        if !entry["tags"].as_array().is_some_and(|tags| tags.iter().any(|t| t == "clean")) {
            continue;
        }
        files += 1;
        segments += n;
        for (anomaly, line) in notes {
            found.entry((name.to_string(), anomaly)).or_default().push(line);
        }
        let (_, of_file, _) = analysed(&path);
        findings += of_file.len();
        for finding in of_file {
            if finding.desync.is_some() {
                found.entry((name.to_string(), "desync finding")).or_default().push(finding.summary);
            }
        }
    }
    println!("all files, hard notes:");
    for (anomaly, (count, lines)) in &all {
        println!("  {anomaly}: {count}");
        let mut last = "";
        for line in lines {
            let file = line.split(' ').next().unwrap_or("");
            if file != last {
                println!("      {line}");
            }
            last = file;
        }
    }
    for ((name, anomaly), lines) in &found {
        println!("CLEAN {name}: {anomaly} x{}: {}", lines.len(), lines[0]);
    }
    let hard: usize = found.values().map(Vec::len).sum();
    println!(
        "{files} clean files, {segments} segments: {findings} findings ({:.0} per million segments), {hard} hard notes",
        findings as f64 * 1e6 / segments as f64,
    );
    let expected: Vec<(&str, &str)> = NOT_SO_CLEAN.iter().map(|&(file, anomaly, _)| (file, anomaly)).collect();
    let found: Vec<(&str, &str)> = found.keys().map(|(file, anomaly)| (file.as_str(), *anomaly)).collect();
    assert_eq!(found, expected, "anomalies of clean files");
}
