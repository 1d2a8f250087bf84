//! The committed `fixtures/shapes.pcap` is the generator's, and it holds what it is there for.

use std::path::{Path, PathBuf};

use monitor::capture::replay::{Output, ReplayOptions, Summary, analyze};
use whyrst_lab::shapes;

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/shapes.pcap")
}

#[test]
fn the_committed_file_is_the_generators() {
    let bytes = std::fs::read(committed()).expect("the fixture is in the repository");
    assert!(bytes == shapes::pcap(), "run `whyrst-lab fixtures --only shapes --out fixtures`");
}

#[test]
fn every_frame_is_read_or_counted() {
    let mut summary = Summary::default();
    let mut segments = 0;
    let options = ReplayOptions { segments: true, ..ReplayOptions::default() };
    let mut sink = |output: Output| {
        segments += u64::from(matches!(output, Output::Segment(_)));
        Ok(())
    };
    analyze(&committed(), options, &mut summary, &mut sink, &mut |_| {}).unwrap();
    assert_eq!(summary.damaged, 0);
    assert_eq!(summary.segments, segments);
    assert_eq!(summary.packets, segments + summary.unreadable.values().sum::<u64>());
    assert!(segments > 2000 && summary.connections > 200 && summary.findings > 100, "{summary:?}");
}

/// The parser's own reasons, as the kernel programs count them.
#[test]
fn every_reason_not_to_read_a_frame_occurs() {
    use monitor_common::parse::{self, Packet, Reason};
    let mut missing: Vec<Reason> = Reason::ALL.to_vec();
    // A matter of the device, not of the frame.
    missing.retain(|reason| *reason != Reason::UnsupportedLink);
    for frame in frames() {
        if let Err(reason) = parse::ethernet(&frame[..], 0, &mut Packet::default()) {
            missing.retain(|other| *other != reason);
        }
    }
    assert_eq!(missing, []);
}

#[test]
fn every_option_and_every_kind_of_packet_occurs() {
    use monitor_common::parse::{self, Packet};
    let (mut options, mut packets, mut flags) = (0, 0, 0);
    let mut blocks = [false; 5];
    for frame in frames() {
        let mut packet = Packet::default();
        for wire_len in [0, frame.len() as u32] {
            if parse::ethernet(&frame[..], wire_len, &mut packet).is_ok() {
                options |= packet.segment.options;
                packets |= packet.segment.packet;
                flags |= packet.segment.flags;
                blocks[usize::from(packet.segment.sack_count)] = true;
            }
        }
    }
    assert_eq!(options, 0x3ff, "options of monitor_common::segment::opt are missing");
    assert_eq!(packets, 0xf, "facts of monitor_common::segment::packet are missing");
    assert_eq!(flags, 0xfff);
    assert_eq!(blocks, [true; 5]);
}

fn frames() -> Vec<Vec<u8>> {
    let pcap = std::fs::read(committed()).expect("the fixture is in the repository");
    let word = |at: usize| u32::from_le_bytes(pcap[at..at + 4].try_into().unwrap()) as usize;
    let mut frames = Vec::new();
    let mut at = 24;
    while at < pcap.len() {
        let kept = word(at + 8);
        frames.push(pcap[at + 16..at + 16 + kept].to_vec());
        at += 16 + kept;
    }
    frames
}
