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
use monitor_common::segment::flags;
use monitor_common::tracker::notes::HARD;
use monitor_common::tracker::state::{Hook, sync_state};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Class, frames, reason.
const EXCEPTIONS: &[(&str, usize, &str)] = &[
    ("bogus header length", 3, "data offset below 5, two of them in reassembled garbage: no segment"),
    ("fabricpath fcs", 28, "tshark takes the last 4 bytes of the packet for an FCS, which is not captured here"),
    ("header cut", 1, "the capture ends inside the TCP header: neither has the numbers"),
    ("length left out", 3, "more-fragments set or payload damaged: tshark stops before the length; all else is equal"),
    (
        "longer header than datagram",
        18,
        "the data offset points beyond the IP length, 16 times in packets cut by a device of one path: a receiver drops \
         it, tshark shows the fixed part",
    ),
    ("only here", 5, "4 first fragments of tunnels never completed, 1 damaged IP option where tshark gives up"),
    ("quoted in icmp", 9, "the header is evidence of an error, not traffic"),
    ("reassembled, equal in the first fragment", 57, "tshark shows TCP in the frame that completes the datagram"),
    ("reassembled, header across fragments", 3, "the first fragment does not hold the whole TCP header"),
    ("several headers", 1, "an A-MSDU of two packets: tshark's row is of the last, ours is of the first"),
];

/// File, hard anomalies, and why they are right.
const KNOWN_HARD: &[(&str, &[&str], &str)] = &[
    ("deepflow/tcp-n-syn-ack.pcap", &["synack_isn_change"], "four SYN-ACKs with four numbers, made by hand"),
    (
        "mlab-etl/headers__testdata__ndt-4dh2l_1591894023_0000000000363A84.pcap",
        &["ack_too_old"],
        "one packet with an old IP ID, an ACK 40 MB back and another end's window: a device of that path sent it",
    ),
    (
        "ndpi/KakaoTalk_chat.pcap",
        &["ack_unsent"],
        "a mobile proxy acknowledges 1231 bytes beyond the end that five retransmitted FINs name",
    ),
    ("ndpi/reasm_crash_anon.pcapng", &["DESYNCED", "ts_regress_new"], "fuzzed"),
    (
        "ndpi/tls_multiple_synack_different_seq.pcapng",
        &["synack_isn_change"],
        "SYN-ACKs of several servers behind one address",
    ),
    (
        "ndpi/webex.pcap",
        &["bare_ack_seq_regress"],
        "the stack of a tunnel application takes 69 bytes back that it sent a second before, and sends 37 others",
    ),
    (
        "pcapplusplus/one_tcp_stream_max_seq.pcap",
        &["DESYNCED", "sack_beyond_own_window", "sack_unsent"],
        "sequence numbers were rewritten for a test, SACK blocks were not",
    ),
    (
        "quantuminsert/presentations__brocon2015__pcaps__id1.cn-inject.pcap",
        &["data_after_own_fin"],
        "the FIN is injected, then comes the server's own data",
    ),
    (
        "quantuminsert/qi_internet_SYNACK_curl_jsonip.pcap",
        &["bare_ack_seq_regress"],
        "the server disowns injected data",
    ),
    (
        "quantuminsert/qi_local_SYNACK_linkedin_redirect.pcap",
        &["bare_ack_seq_regress"],
        "the server disowns injected data",
    ),
    ("suricata-verify/bug-76__input.pcap", &["ack_too_old", "bare_ack_seq_regress"], "fuzzed"),
    (
        "suricata-verify/tcp-fastopen-10-syn-data-ignore__input.pcap",
        &["synack_isn_change"],
        "two servers behind one address answer by turns",
    ),
];

/// File, view, hard anomaly, and why it is right.
const KNOWN_PARTIAL: &[(&str, &str, &str, &str)] = &[];

/// File, cause, variant, the RST's claimed sender, and why it is right: RSTs that are not their claimed sender's. Decided
/// by hand with tshark.
const KNOWN_FORGED: &[(&str, &str, &str, &str, &str)] = &[
    (
        "ndpi/skype_no_unknown.pcap",
        "rst_injected",
        "inline",
        "149.13.32.15:13392",
        "frame 1803: TTL 126, reserved bits set and an ID of another series, 3.4 ms after the FIN that it answers; the \
         server's packets have TTL 53 and its answers take 42 ms, as its own RST in frame 1802 did",
    ),
    (
        "zeek/ldap__simpleauth.pcap",
        "middlebox_idle_timeout",
        "at_expiry",
        "10.0.0.1:25936",
        "a load balancer made the handshake (TTL 251, IDs 0x7c0c and 0x7c0d), the client the rest (TTL 52); after 181 s of \
         silence the RST has TTL 251 again",
    ),
];

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
    let options = ReplayOptions { segments: true, ..ReplayOptions::default() };
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
                        None if row.note.contains("malformed") => "longer header than datagram",
                        None if entry["ip_fragment_frames"].as_u64() > Some(0) => {
                            "reassembled, header across fragments"
                        }
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

/// The TCP packets of a file and their times.
fn packets(path: &Path) -> Vec<(Packet, u64)> {
    let Ok(mut reader) = Reader::open(path) else { return Vec::new() };
    let mut out = Vec::new();
    let mut parsed = Packet::default();
    while let Ok(Some(packet)) = reader.next() {
        if let Located::Ip { offset, wire_len } = locate(packet.link_type, packet.data, packet.wire_len)
            && parse::ip(packet.data, offset, wire_len, &mut parsed).is_ok()
        {
            out.push((parsed, packet.time_ns.min(u64::MAX / 4)));
        }
    }
    out
}

/// What the tracker holds against these packets: name, and the numbers of the packet and of the anomaly.
fn hard_notes<'a>(packets: impl IntoIterator<Item = &'a (Packet, u64)>) -> Vec<(&'static str, String)> {
    let mut engine = Engine::new();
    let mut found = Vec::new();
    for (i, (packet, time_ns)) in packets.into_iter().enumerate() {
        engine.on_packet(packet, Hook::Ingress, *time_ns);
        let notes = engine.notes();
        for n in notes.iter().filter(|n| n.flags & HARD != 0) {
            let name = Anomaly::from_number(n.anomaly).map_or("?", |a| a.name());
            found.push((name, format!("segment {i} of {} {} {}", n.direction, n.expected.0, n.actual.0)));
        }
        if notes.sync_before != notes.sync_after && notes.sync_after.contains(&sync_state::DESYNCED) {
            found.push(("DESYNCED", format!("segment {i} {:?}", notes.sync_after)));
        }
    }
    found
}

/// The hard anomalies of whole captures, one line per file and anomaly: each is one that somebody made or that a host
/// did. A new one is to be understood before it is entered here.
#[test]
fn hard_anomalies_are_the_known_ones() {
    let Some(corpus) = corpus() else { return };
    let mut found = Vec::new();
    for entry in manifest(&corpus) {
        let Some(name) = entry["file"].as_str().filter(|_| entry["role"] == "tcp") else { continue };
        let mut of_file: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (anomaly, line) in hard_notes(&packets(&corpus.join(name))) {
            of_file.entry(anomaly).or_default().push(line);
        }
        for (anomaly, lines) in of_file {
            println!("{name}: {anomaly} x{}, first: {}", lines.len(), lines[0]);
            found.push((name.to_string(), anomaly));
        }
    }
    found.sort();
    let mut expected: Vec<_> = KNOWN_HARD
        .iter()
        .flat_map(|&(file, anomalies, _)| anomalies.iter().map(move |a| (format!("pcaps/{file}"), *a)))
        .collect();
    expected.sort();
    assert_eq!(found, expected);
}

/// The same captures as an observer sees them who misses packets, comes late, or sees one direction only. What is
/// silent in the whole capture must stay silent.
#[test]
fn partial_views_are_silent() {
    let Some(corpus) = corpus() else { return };
    let (mut views, mut segments) = (0, 0);
    let mut found = Vec::new();
    for entry in manifest(&corpus) {
        let Some(name) = entry["file"].as_str().filter(|_| entry["role"] == "tcp") else { continue };
        let all = packets(&corpus.join(name));
        if !hard_notes(&all).is_empty() {
            continue;
        }
        // The same packets are missed in each run.
        let mut state = all.len() as u64 | 1;
        let mut missed = |per_mille: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % 1000 < per_mille
        };
        let some: Vec<_> = all.iter().filter(|_| !missed(10)).collect();
        let most: Vec<_> = all.iter().filter(|_| !missed(100)).collect();
        let late: Vec<_> = all.iter().filter(|(p, _)| !p.segment.has(flags::SYN)).collect();
        let forward: Vec<_> = all.iter().filter(|(p, _)| p.direction == 0).collect();
        let reverse: Vec<_> = all.iter().filter(|(p, _)| p.direction == 1).collect();
        let twice: Vec<_> = all.iter().chain(&all).collect();
        for (view, packets) in [
            ("99 %", some),
            ("90 %", most),
            ("no SYN", late),
            ("one way", forward),
            ("other way", reverse),
            ("twice", twice),
        ] {
            views += 1;
            segments += packets.len();
            for (anomaly, line) in hard_notes(packets) {
                println!("{name}, {view}: {anomaly} {line}");
                found.push((name.to_string(), view, anomaly));
            }
        }
    }
    found.dedup();
    println!("{views} views, {segments} segments");
    let expected: Vec<_> =
        KNOWN_PARTIAL.iter().map(|&(file, view, anomaly, _)| (format!("pcaps/{file}"), view, anomaly)).collect();
    assert_eq!(found, expected);
}

/// An accusation on a benign reset would be worse than a missed one.
#[test]
fn forged_resets_are_the_known_ones() {
    let Some(corpus) = corpus() else { return };
    let (mut resets, mut found) = (0, Vec::new());
    for entry in manifest(&corpus) {
        let Some(name) = entry["file"].as_str().filter(|_| entry["role"] == "tcp") else { continue };
        for f in analysed(&corpus.join(name)).1 {
            let Some(reset) = &f.reset else { continue };
            resets += 1;
            let accused = matches!(f.cause.as_str(), "rst_injected" | "policy_reset" | "middlebox_idle_timeout");
            // An attempt without effect is one, too.
            if !accused && (f.cause != "rst_ineffective" || f.variant.is_none()) {
                continue;
            }
            println!("{name}: {}", f.summary);
            let claimed = if reset.sender == "client" { f.client } else { f.server };
            found.push((name.to_string(), f.cause, f.variant.unwrap_or_default(), claimed.to_string()));
        }
    }
    println!("{resets} findings about resets, {} of them not the claimed sender's", found.len());
    let expected: Vec<_> = KNOWN_FORGED
        .iter()
        .map(|&(file, cause, variant, claimed, _)| {
            (format!("pcaps/{file}"), cause.to_string(), variant.to_string(), claimed.to_string())
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn clean_captures_are_silent() {
    let Some(corpus) = corpus() else { return };
    let (mut files, mut segments, mut findings) = (0, 0, 0);
    for entry in manifest(&corpus) {
        let Some(name) = entry["file"].as_str().filter(|_| entry["role"] == "tcp") else { continue };
        if !entry["tags"].as_array().is_some_and(|tags| tags.iter().any(|t| t == "clean")) {
            continue;
        }
        files += 1;
        let path = corpus.join(name);
        let found = hard_notes(&packets(&path));
        assert!(found.is_empty(), "{name}: {found:?}");
        let (headers, of_file, _) = analysed(&path);
        segments += headers.len();
        findings += of_file.len();
        for finding in of_file {
            println!("{name}: {}", finding.summary);
            assert!(finding.desync.is_none(), "{name}: {}", finding.summary);
        }
    }
    let noise = findings as f64 * 1e6 / segments as f64;
    println!("{files} clean files, {segments} segments: {findings} findings, {noise:.0} per million segments");
    assert!(files > 150 && findings == 0);
}
