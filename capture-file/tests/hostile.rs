//! Damaged and random input: no panic, no runaway.

use capture_file::Reader;
use capture_file::link::{Located, locate};
use proptest::prelude::*;

/// A pcap and a pcapng file with a few Ethernet packets, made once.
fn seeds() -> Vec<Vec<u8>> {
    let packet: Vec<u8> = [
        &[0u8; 12][..],
        &[8, 0],
        &[0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2],
        &[0, 80, 0, 81, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0],
    ]
    .concat();
    let le = |words: &[u32]| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let mut pcap = le(&[0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1]);
    let mut pcapng = le(&[0x0a0d_0d0a, 28, 0x1a2b_3c4d, 1, u32::MAX, u32::MAX, 28]);
    // An interface with if_tsresol 9.
    pcapng.extend(le(&[1, 28, 1, 0, 0x0001_0009, 9, 28]));
    let mut kuznetzov = le(&[0xa1b2_cd34, 0x0004_0002, 0, 0, 65535, 1]);
    for n in 0..4 {
        kuznetzov.extend(le(&[n, n, 54, 54, 2, 0x0004_0008]));
        kuznetzov.extend(&packet);
        pcap.extend(le(&[n, n, 54, 54]));
        pcap.extend(&packet);
        pcapng.extend(le(&[6, 88, 0, 0, n, 54, 54]));
        pcapng.extend(&packet);
        pcapng.extend([0, 0]);
        pcapng.extend(le(&[88]));
    }
    vec![pcap, pcapng, kuznetzov]
}

/// Reads all; the number of packets.
fn drain(bytes: Vec<u8>) -> usize {
    let size = bytes.len();
    let Ok(mut reader) = Reader::from_reader(std::io::Cursor::new(bytes)) else { return 0 };
    let mut count = 0;
    while let Ok(Some(packet)) = reader.next() {
        count += 1;
        assert!(packet.data.len() <= size && packet.wire_len as usize >= packet.data.len());
        check(packet.link_type, packet.data, packet.wire_len);
    }
    assert!(reader.next().is_ok_and(|p| p.is_none()));
    count
}

/// What `locate` promises.
fn check(link_type: u16, data: &[u8], wire_len: u32) {
    if let Located::Ip { offset, wire_len: inner } = locate(link_type, data, wire_len) {
        let rest = data.len() - offset;
        let version = data[offset] >> 4;
        assert!(version == 4 && rest >= 20 || version == 6 && rest >= 40);
        assert!(u64::from(inner) + offset as u64 <= u64::from(wire_len).max(data.len() as u64));
    }
}

/// Link types known here, and some that are not.
fn link_types() -> impl Strategy<Value = u16> {
    prop_oneof![
        prop::sample::select(vec![
            0u16, 1, 9, 10, 12, 14, 50, 51, 101, 104, 105, 108, 109, 113, 117, 119, 127, 163, 192, 204, 228, 229, 239,
            242, 258, 276, 284, 285
        ]),
        any::<u16>(),
    ]
}

#[test]
fn seeds_are_whole() {
    for seed in seeds() {
        assert_eq!(drain(seed), 4);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn mutated_files(
        seed in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = seeds().swap_remove(seed);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        drain(bytes);
    }

    #[test]
    fn hostile_words(seed in 0usize..3, at in any::<prop::sample::Index>(), word in prop::sample::select(vec![
        0u32, 1, 4, 11, 12, 16, 0x7fff_ffff, 0x8000_0000, 0xffff_fffc, 0xffff_ffff, 0x0100_0000, 262_144, 262_145,
    ])) {
        let mut bytes = seeds().swap_remove(seed);
        let at = at.index(bytes.len() / 4) * 4;
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
        drain(bytes);
    }

    #[test]
    fn random_bytes_after_a_magic(magic in prop::sample::select(vec![
        &b"\xd4\xc3\xb2\xa1"[..], b"\xa1\xb2\xc3\xd4", b"\x34\xcd\xb2\xa1", b"\xa1\xb2\xcd\x34", b"\x0a\x0d\x0d\x0a",
        b"\x1f\x8b\x08", b"",
    ]), rest in prop::collection::vec(any::<u8>(), 0..400)) {
        drain([magic, &rest].concat());
    }

    #[test]
    fn random_frames(link_type in link_types(), data in prop::collection::vec(any::<u8>(), 0..200), wire in any::<u32>()) {
        check(link_type, &data, wire);
    }

    /// Bytes that are often a type, a version or a protocol, so that the walk goes deep.
    #[test]
    fn plausible_frames(link_type in link_types(), data in prop::collection::vec(prop::sample::select(vec![
        0u8, 1, 2, 3, 4, 6, 8, 17, 41, 47, 0x45, 0x60, 0x81, 0x86, 0x88, 0xdd, 0x47, 0x64, 0x65, 0x58, 0xaa, 0xbe, 0xff,
    ]), 0..300), wire in 0u32..2000) {
        check(link_type, &data, wire);
    }
}

#[test]
fn deep_stacks_end() {
    // VLAN in VLAN, IP in IP, MPLS label on label.
    let vlans = [&[0; 12][..], &[0x81, 0].repeat(10_000)].concat();
    let ips = [0x45, 0, 0, 0, 0, 0, 0, 0, 64, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0].repeat(1000);
    let labels = [&[0; 12][..], &[0x88, 0x47], &[0; 40_000]].concat();
    for (link_type, data) in [(1, vlans), (101, ips), (1, labels)] {
        let wire_len = data.len() as u32;
        assert!(matches!(locate(link_type, &data, wire_len), Located::Not(_)));
    }
}
