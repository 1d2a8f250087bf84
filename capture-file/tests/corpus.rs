//! Every frame of a corpus of captures against what tshark 4.0 says of it.
//!
//! The corpus is found by `WHYRST_CORPUS`, or beside the repository. The TCP decoder here is only for this
//! test: it takes what `locate` gives and reads the five numbers that are compared.
//!
//! Exceptions are classes with a reason and an exact count: a new one fails the test, and so does one
//! that goes away.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use capture_file::link::{Located, Reason, locate};
use capture_file::{Error, Reader};
use flate2::read::GzDecoder;

/// Class, frames, reason.
const EXCEPTIONS: &[(&str, usize, &str)] = &[
    ("bogus header length", 1, "data offset below 5: tshark shows no acknowledgment number"),
    ("fabricpath fcs", 28, "tshark takes the last 4 bytes of the packet for an FCS, which is not captured here"),
    ("header cut", 1, "the capture ends inside the TCP header: neither has the numbers"),
    ("length left out", 3, "more-fragments set or payload damaged: tshark stops before the length; all else is equal"),
    (
        "only here",
        7,
        "4 first fragments of tunnels never completed, 2 of garbage, 1 damaged IP option where tshark gives up",
    ),
    ("quoted in icmp", 9, "the header is evidence of an error, not traffic"),
    ("reassembled, bogus header length", 2, "as above, in a reassembled datagram of garbage"),
    ("reassembled, equal in the first fragment", 60, "tshark shows TCP in the frame that completes the datagram"),
    ("several headers", 1, "an A-MSDU of two packets: tshark's row is of the last, ours is of the first"),
];

#[derive(Clone, Copy, Debug, PartialEq)]
struct Segment {
    seq: u32,
    ack: u32,
    /// Absent when the header is not inside the packet, or shorter than 20 bytes.
    len: Option<u32>,
    flags: u16,
    window: u16,
}

fn be16(b: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(b.get(at..at + 2)?.try_into().ok()?))
}

fn be32(b: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(b.get(at..at + 4)?.try_into().ok()?))
}

/// The TCP segment of the IP packet at the beginning of `ip`, of which `wire_len` bytes were on the wire.
fn decode(ip: &[u8], wire_len: u32) -> Option<Segment> {
    let (at, total) = match ip.first()? >> 4 {
        4 => (usize::from(ip[0] & 15) * 4, u32::from(be16(ip, 2)?)),
        _ => {
            let mut at = 40;
            let mut next = *ip.get(6)?;
            while next != 6 {
                let len = usize::from(*ip.get(at + 1)?);
                let size = match next {
                    44 => 8,
                    51 => (len + 2) * 4,
                    _ => (len + 1) * 8,
                };
                next = *ip.get(at)?;
                at += size;
            }
            let payload = u32::from(be16(ip, 4)?);
            (at, if payload == 0 { 0 } else { payload + 40 })
        }
    };
    let total = if total == 0 { wire_len } else { total.min(wire_len) };
    let flags = be16(ip, at + 12)?;
    let header = u32::from(flags >> 12) * 4;
    Some(Segment {
        seq: be32(ip, at + 4)?,
        ack: be32(ip, at + 8)?,
        len: total.checked_sub(at as u32 + header).filter(|_| header >= 20),
        flags: flags & 0xfff,
        window: be16(ip, at + 14)?,
    })
}

/// A row of the truth.
struct Row {
    segment: Option<Segment>,
    /// Nanoseconds since the first frame.
    time_ns: i128,
    note: String,
}

/// `-12.345` in nanoseconds.
fn nanoseconds(seconds: &str) -> i128 {
    let (sign, digits) = seconds.strip_prefix('-').map_or((1, seconds), |d| (-1, d));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let number = |s: &str| s.parse::<i128>().expect("digits");
    sign * (number(whole) * 1_000_000_000 + number(&format!("{fraction:0<9}")))
}

fn truth(path: &Path) -> BTreeMap<u64, Row> {
    let mut text = String::new();
    GzDecoder::new(File::open(path).expect("truth file of the manifest"))
        .read_to_string(&mut text)
        .expect("readable truth file");
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().expect("header line").split('\t').collect();
    let column = |name| columns.iter().position(|c| *c == name).expect("a column of the corpus README");
    let [frame, time, seq, ack, len, flags, window, note] =
        ["frame", "time", "seq", "ack", "len", "flags", "win_raw", "note"].map(column);
    lines
        .map(|line| {
            let f: Vec<&str> = line.split('\t').collect();
            let segment = (|| {
                Some(Segment {
                    seq: f[seq].parse().ok()?,
                    ack: f[ack].parse().ok()?,
                    len: f[len].parse().ok(),
                    flags: u16::from_str_radix(f[flags].strip_prefix("0x")?, 16).ok()?,
                    window: f[window].parse().ok()?,
                })
            })();
            let note = f.get(note).unwrap_or(&"").to_string();
            (f[frame].parse().expect("frame number"), Row { segment, time_ns: nanoseconds(f[time]), note })
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

/// Frames of one class: how many, and some of them to look at.
type Classes = BTreeMap<&'static str, Vec<String>>;

/// Why ours and the truth of a frame are not the same, if they are not.
fn difference(name: &str, row: Option<&Row>, ours: Option<Segment>, located: Located) -> Option<&'static str> {
    let Some(row) = row else {
        return ours.map(|_| "extra");
    };
    if row.segment == ours && ours.is_some() {
        return None;
    }
    Some(match (row.segment, ours, located) {
        _ if row.note.contains("icmp") && located == Located::Not(Reason::NotTcp) => "quoted in icmp",
        _ if row.note.contains("multi") => "several headers",
        (_, None, Located::Not(Reason::IpFragment)) => "reassembled",
        (None, None, Located::Ip { .. }) if row.note.contains("trunc") => "header cut",
        (Some(theirs), Some(ours), _) if name.contains("cisco-fabric-path") || name.ends_with("ajp.pcap") => {
            // All but the length.
            assert_eq!(Segment { len: ours.len, ..theirs }, ours, "{name}");
            "fabricpath fcs"
        }
        (Some(theirs), Some(ours), _) if row.note.contains("malformed") && Segment { len: None, ..ours } == theirs => {
            "length left out"
        }
        (None, Some(ours), _) if ours.len.is_none() => "bogus header length",
        _ => "unexplained",
    })
}

#[test]
fn every_tcp_frame_equals_the_truth() {
    let Some(corpus) = corpus() else { return };
    let mut classes = Classes::new();
    let (mut files, mut frames, mut equal, mut clamped) = (0, 0, 0, 0);
    let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
    for entry in manifest(&corpus) {
        let (Some(name), Some(path)) = (entry["file"].as_str(), entry["truth"].as_str()) else { continue };
        files += 1;
        let mut truth = truth(&corpus.join(path));
        let mut reader = Reader::open(corpus.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        // First fragments, waiting for the frame in which tshark shows them.
        let mut firsts: Vec<(u64, Segment)> = Vec::new();
        let mut start_ns = None;
        while let Ok(Some(packet)) = reader.next() {
            frames += 1;
            let located = locate(packet.link_type, packet.data, packet.wire_len);
            let ours = match located {
                Located::Ip { offset, wire_len } => decode(&packet.data[offset..], wire_len),
                Located::Not(reason) => {
                    *reasons.entry(reason.name()).or_default() += 1;
                    None
                }
            };
            let row = truth.remove(&packet.frame);
            let time_ns = i128::from(packet.time_ns);
            let start_ns = *start_ns.get_or_insert(time_ns);
            if packet.time_ns == u64::MAX {
                clamped += 1;
            } else if name.contains("timestamp_invalid_micro") {
                // Fractions of more than a second, which tshark computes in 32 bits; we add them.
            } else if let Some(row) = &row {
                assert_eq!(time_ns - start_ns, row.time_ns, "{name} {}", packet.frame);
            }
            match difference(name, row.as_ref(), ours, located) {
                None => equal += usize::from(row.is_some()),
                Some("extra") => firsts.extend(ours.map(|segment| (packet.frame, segment))),
                Some("reassembled") => {
                    let theirs = row.and_then(|r| r.segment);
                    let first =
                        firsts.iter().position(|(_, f)| theirs.is_some_and(|t| Segment { len: t.len, ..*f } == t));
                    let class = match (first, theirs) {
                        (Some(i), _) => {
                            firsts.remove(i);
                            "reassembled, equal in the first fragment"
                        }
                        (None, None) => "reassembled, bogus header length",
                        (None, Some(_)) => "reassembled, unexplained",
                    };
                    classes.entry(class).or_default().push(format!("{name} {}", packet.frame));
                }
                Some(class) => classes.entry(class).or_default().push(format!("{name} {} {ours:?}", packet.frame)),
            }
        }
        for (frame, segment) in firsts {
            classes.entry("only here").or_default().push(format!("{name} {frame} {segment:?}"));
        }
        for frame in truth.keys() {
            classes.entry("frame not read").or_default().push(format!("{name} {frame}"));
        }
    }
    // Of pcapng-example.pcapng, whose second interface has times just below 2^64 microseconds.
    assert_eq!(clamped, 100, "frames with times beyond 2554");
    println!("{files} files, {frames} frames, {equal} TCP frames equal to the truth; others: {reasons:?}");
    for (class, list) in &classes {
        println!("{class}: {}", list.len());
        list.iter().take(30).for_each(|line| println!("    {line}"));
    }
    let expected: BTreeMap<_, _> = EXCEPTIONS.iter().map(|&(class, count, _)| (class, count)).collect();
    let found: BTreeMap<_, _> = classes.iter().map(|(class, list)| (*class, list.len())).collect();
    assert_eq!(found, expected, "exceptions, by class");
}

#[test]
fn every_file_is_read_as_far_as_it_is_whole() {
    let Some(corpus) = corpus() else { return };
    let (mut damaged, mut further) = (0, 0);
    for entry in manifest(&corpus) {
        let name = entry["file"].as_str().expect("file name");
        let mut last = 0;
        let mut bytes = 0;
        let result = Reader::open(corpus.join(name)).and_then(|mut reader| {
            assert_eq!(reader.format().name(), entry["format"], "{name}");
            assert_eq!(reader.total_bytes(), entry["size"].as_u64(), "{name}");
            while let Some(packet) = reader.next()? {
                last = packet.frame;
                let _ = locate(packet.link_type, packet.data, packet.wire_len);
            }
            bytes = reader.bytes_read();
            Ok(())
        });
        let messages = entry["tshark_messages"].to_string();
        if messages.contains("unknown or unsupported") {
            // A link type tshark has no decoder for: it reads nothing, we read all.
            further += 1;
            assert!(last > 0 && entry["packets"] == 0, "{name}");
            continue;
        }
        assert_eq!(Some(last), entry["packets"].as_u64(), "{name}");
        match result {
            Ok(()) => {
                assert_eq!(entry["tshark_exit"], 0, "{name}: {messages}");
                assert_eq!(Some(bytes), entry["size"].as_u64(), "{name}");
            }
            Err(e) => {
                damaged += 1;
                println!("{name}: {e}");
                assert_eq!(entry["tshark_exit"], 2, "{name}: {e}");
                assert_eq!(e.position().map(|p| p.after_frame), Some(last), "{name}");
                assert_eq!(messages.contains("cut short"), matches!(e, Error::Truncated { .. }), "{name}: {e}");
            }
        }
    }
    assert_eq!((damaged, further), (6, 8), "damaged files; files with link types unknown to tshark");
}
