//! The same packets through the host's engine and the loaded kernel programs: same state, same reports.

#[path = "common/privileged.rs"]
mod privileged;

use monitor::capture::guard::{Guard, Through};
use privileged::privileged;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn captures(folder: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let Ok(entries) = std::fs::read_dir(folder) else { return out };
    for e in entries.flatten() {
        let path = e.path();
        if path.is_dir() {
            out.extend(captures(&path));
        } else {
            out.push(path);
        }
    }
    out.sort();
    out
}

fn compare(files: &[PathBuf]) {
    std::thread::scope(|scope| {
        for through in Through::ALL {
            scope.spawn(move || compare_through(through, files));
        }
    });
}

fn compare_through(through: Through, files: &[PathBuf]) {
    let mut guard = Guard::new(through).expect("the programs load");
    for file in files {
        if let Err(e) = guard.capture(file) {
            if matches!(e, monitor::capture::guard::GuardError::Capture { .. }) {
                continue;
            }
            panic!("{e}");
        }
    }
    println!("{through:?}: {:?}", guard.compared);
    assert!(guard.compared.segments > 0 && guard.compared.events > 0, "{:?}", guard.compared);
}

#[test]
fn kernel_and_host_agree_on_the_fixtures() {
    if !privileged() {
        return;
    }
    let files: Vec<_> =
        captures(&root().join("fixtures")).into_iter().filter(|p| p.extension().is_some_and(|e| e == "pcap")).collect();
    assert!(files.len() >= 8, "fixtures are missing");
    compare(&files);
}

#[test]
fn kernel_and_host_agree_on_the_corpus() {
    if !privileged() {
        return;
    }
    let corpus = std::env::var_os("WHYRST_CORPUS").map_or_else(|| root().join("../shared/corpus"), PathBuf::from);
    let files = captures(&corpus.join("pcaps"));
    if files.is_empty() {
        println!("skipped: corpus not found");
        assert!(std::env::var_os("CI").is_none(), "CI needs the corpus");
        return;
    }
    compare(&files);
}

/// An Ethernet frame with IPv4 and what it carries.
fn ipv4(protocol: u8, src: [u8; 4], dst: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let len = (20 + payload.len() as u16).to_be_bytes();
    let mut frame = vec![2; 12];
    frame.extend([0x08, 0, 0x45, 0, len[0], len[1], 0, 1, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(src);
    frame.extend(dst);
    frame.extend(payload);
    frame
}

fn tcp(src: u16, dst: u16, seq: u32, ack: u32, flags: u8, data: usize) -> Vec<u8> {
    let mut b = Vec::new();
    b.extend(src.to_be_bytes());
    b.extend(dst.to_be_bytes());
    b.extend(seq.to_be_bytes());
    b.extend(ack.to_be_bytes());
    b.extend([0x50, flags, 0x40, 0, 0, 0, 0, 0]);
    b.resize(20 + data, b'x');
    b
}

/// ICMP that quotes a tracked connection: in the evidence of both builds, for outstanding numbers only, and never a
/// connection of its own.
#[test]
fn kernel_and_host_agree_on_what_icmp_quotes() {
    if !privileged() {
        return;
    }
    const CLIENT: [u8; 4] = [10, 0, 0, 1];
    const SERVER: [u8; 4] = [10, 0, 0, 2];
    const ROUTER: [u8; 4] = [10, 0, 0, 254];
    let from_client = |seq, ack, flags, data| ipv4(6, CLIENT, SERVER, &tcp(40_000, 80, seq, ack, flags, data));
    let icmp = |code: u8, src: u16, seq: u32| {
        let quoted = &ipv4(6, CLIENT, SERVER, &tcp(src, 80, seq, 0, 0x10, 0))[14..14 + 28];
        ipv4(1, ROUTER, CLIENT, &[&[3, code, 0, 0, 0, 0, 0x05, 0x00][..], quoted].concat())
    };
    let frames = [
        from_client(1000, 0, 0x02, 0),
        ipv4(6, SERVER, CLIENT, &tcp(80, 40_000, 5000, 1001, 0x12, 0)),
        from_client(1001, 5001, 0x10, 0),
        from_client(1001, 5001, 0x18, 1000),
        icmp(4, 40_000, 1001),
        icmp(1, 40_000, 1500),
        icmp(1, 40_000, 1001),
        // Not outstanding, and not tracked.
        icmp(4, 40_000, 2001),
        icmp(4, 41_000, 1001),
        // The reset brings the evidence along.
        ipv4(6, SERVER, CLIENT, &tcp(80, 40_000, 5001, 1001, 0x14, 0)),
    ];
    for through in Through::ALL {
        let mut guard = Guard::new(through).expect("the programs load");
        for (number, frame) in frames.iter().enumerate() {
            guard
                .frame("icmp", number as u64, 1_000_000 * (1 + number as u64), frame)
                .unwrap_or_else(|e| panic!("{e}"));
        }
        guard.state("icmp").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!((guard.compared.segments, guard.compared.connections), (5, 1), "{:?}", guard.compared);
        let seen = guard.anomalies();
        assert_eq!(seen, [("icmp_frag_needed", 1), ("icmp_unreach", 2)], "{through:?}");
    }
}
