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

/// The close of a life with which nothing was wrong is told in one line, and its reuse not at all; after an attempt to
/// reset it the whole state is told, of which a connection that was predicted throughout has no faults in the kernel's table.
#[test]
fn kernel_and_host_agree_on_how_lives_end() {
    if !privileged() {
        return;
    }
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    const FIN: u8 = 0x01;
    const RST: u8 = 0x04;
    const CLIENT: [u8; 4] = [10, 0, 0, 1];
    const SERVER: [u8; 4] = [10, 0, 0, 2];
    let mut id = 0u16;
    let mut say = |client: bool, seq, ack, flags, data| {
        let (from, to, src, dst) = if client { (CLIENT, SERVER, 40_000, 80) } else { (SERVER, CLIENT, 80, 40_000) };
        let mut frame = ipv4(6, from, to, &tcp(src, dst, seq, ack, flags, data));
        // A sender that counts its packets: these are no copies.
        id += 1;
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        frame
    };
    // The client's and the server's first number; whether somebody tries a RST far outside the window, the client sends again
    // what was acknowledged and the server acknowledges what was never sent, and the last acknowledgement is seen.
    let lives = [
        (1_000, 5_000, false, false, false),
        (900_000, 7_000, false, false, true),
        (2_000_000, 9_000, true, false, true),
        (3_000_000, 11_000, false, true, false),
        (4_000_000, 13_000, false, false, true),
    ];
    let mut frames = Vec::new();
    for (c, s, attempt, ahead, closes) in lives {
        let end = c + 101;
        frames.extend([
            say(true, c, 0, SYN, 0),
            say(false, s, c + 1, SYN | ACK, 0),
            say(true, c + 1, s + 1, ACK, 0),
            say(true, c + 1, s + 1, ACK, 100),
            say(false, s + 1, end, ACK, 200),
            say(true, end, s + 201, ACK, 0),
        ]);
        if attempt {
            frames.push(say(false, s + 500_000_000, 0, RST, 0));
        }
        if ahead {
            frames.extend([say(true, c + 1, s + 201, ACK, 100), say(false, s + 201, end + 500_000_000, ACK, 0)]);
        }
        frames.extend([say(false, s + 201, end, FIN | ACK, 0), say(true, end, s + 202, FIN | ACK, 0)]);
        if closes {
            frames.push(say(false, s + 202, end + 1, ACK, 0));
        }
    }
    for through in Through::ALL {
        let mut guard = Guard::new(through).expect("the programs load");
        for (number, frame) in frames.iter().enumerate() {
            let time_ns = 1_000_000_000 + 1_000_000 * number as u64;
            guard.frame("ends", number as u64, time_ns, frame).unwrap_or_else(|e| panic!("{e}"));
        }
        guard.state("ends").unwrap_or_else(|e| panic!("{e}"));
        // Three closes, of which two in good order; the attempt, and that its connection makes room for the next; and, with its
        // evidence, the life that was not closed.
        let c = &guard.compared;
        assert_eq!((c.events, c.ended, c.with_evidence), (3 + 1 + 1 + 1, 2, 1), "{through:?}");
    }
}
