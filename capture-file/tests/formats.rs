//! Each file format from hand-made bytes, whole and damaged.

use std::io::{Read, Write};

use capture_file::{Error, Format, Packet, Part, Reader};
use flate2::Compression;
use flate2::write::GzEncoder;

/// A packet that owns its bytes.
#[derive(Debug, PartialEq)]
struct Owned {
    frame: u64,
    time_ns: u64,
    link_type: u16,
    interface: u32,
    wire_len: u32,
    data: Vec<u8>,
}

impl From<Packet<'_>> for Owned {
    fn from(p: Packet<'_>) -> Self {
        Self {
            frame: p.frame,
            time_ns: p.time_ns,
            link_type: p.link_type,
            interface: p.interface,
            wire_len: p.wire_len,
            data: p.data.to_vec(),
        }
    }
}

/// All packets, then the error, if any.
fn read(bytes: &[u8]) -> (Vec<Owned>, Option<Error>) {
    let mut packets = Vec::new();
    let mut reader = match Reader::from_reader(std::io::Cursor::new(bytes.to_vec())) {
        Ok(reader) => reader,
        Err(e) => return (packets, Some(e)),
    };
    loop {
        match reader.next() {
            Ok(Some(p)) => packets.push(p.into()),
            Ok(None) => return (packets, None),
            Err(e) => {
                assert!(matches!(reader.next(), Ok(None)), "an error is said once");
                return (packets, Some(e));
            }
        }
    }
}

fn whole(bytes: &[u8]) -> Vec<Owned> {
    let (packets, error) = read(bytes);
    assert!(error.is_none(), "{error:?}");
    packets
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[derive(Clone, Copy)]
enum Order {
    Little,
    Big,
}
use Order::{Big, Little};

impl Order {
    fn u16(self, v: u16) -> [u8; 2] {
        match self {
            Little => v.to_le_bytes(),
            Big => v.to_be_bytes(),
        }
    }

    fn u32(self, v: u32) -> [u8; 4] {
        match self {
            Little => v.to_le_bytes(),
            Big => v.to_be_bytes(),
        }
    }

    fn words(self, words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|&w| self.u32(w)).collect()
    }
}

mod pcap {
    use super::*;

    fn header(order: Order, magic: u32, minor: u16, link_type: u32) -> Vec<u8> {
        let mut b = order.u32(magic).to_vec();
        b.extend(order.u16(2));
        b.extend(order.u16(minor));
        b.extend(order.words(&[0, 0, 65535, link_type]));
        b
    }

    /// 24 bytes of header, then a record of 16 + 3 bytes, 60 on the wire.
    pub(super) fn file(order: Order, magic: u32) -> Vec<u8> {
        let mut b = header(order, magic, 4, 113);
        b.extend(order.words(&[1_700_000_000, 123_456, 3, 60]));
        b.extend([0xa, 0xb, 0xc]);
        b
    }

    fn packet(time_ns: u64) -> Owned {
        Owned { frame: 1, time_ns, link_type: 113, interface: 0, wire_len: 60, data: vec![0xa, 0xb, 0xc] }
    }

    #[test]
    fn file_header_as_literal_bytes() {
        // Not made by the helper: little-endian, 2.4, snap length 65535, Ethernet; 1 s, 2 us, 1 of 64 bytes.
        let bytes = b"\xd4\xc3\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\xff\xff\0\0\x01\0\0\0\
            \x01\0\0\0\x02\0\0\0\x01\0\0\0\x40\0\0\0Z";
        let expected =
            Owned { frame: 1, time_ns: 1_000_002_000, link_type: 1, interface: 0, wire_len: 64, data: b"Z".to_vec() };
        assert_eq!(whole(bytes), [expected]);
    }

    #[test]
    fn microseconds_and_nanoseconds_in_both_byte_orders() {
        for order in [Little, Big] {
            assert_eq!(whole(&file(order, 0xa1b2_c3d4)), [packet(1_700_000_000_123_456_000)]);
            assert_eq!(whole(&file(order, 0xa1b2_3c4d)), [packet(1_700_000_000_000_123_456)]);
        }
    }

    #[test]
    fn kuznetzov_in_both_byte_orders() {
        for order in [Little, Big] {
            let mut b = header(order, 0xa1b2_cd34, 4, 1);
            for n in 1..=2 {
                b.extend(order.words(&[7, n, 2, 90]));
                // Interface index, protocol, packet type, padding.
                b.extend([9, 9, 9, 9, 8, 8, 4, 0]);
                b.extend([n as u8, 0xff]);
            }
            let packet = |n: u64| Owned {
                frame: n,
                time_ns: 7_000_000_000 + n * 1000,
                link_type: 1,
                interface: 0,
                wire_len: 90,
                data: vec![n as u8, 0xff],
            };
            assert_eq!(whole(&b), [packet(1), packet(2)]);
            let reader = Reader::from_reader(std::io::Cursor::new(b)).unwrap();
            assert_eq!(reader.format(), Format::PcapKuznetzov);
        }
    }

    #[test]
    fn lengths_are_the_other_way_round_before_version_2_4() {
        for (minor, lengths) in [(2, [60, 3]), (3, [60, 3]), (3, [3, 60]), (4, [3, 60])] {
            let mut b = header(Little, 0xa1b2_c3d4, minor, 113);
            b.extend(Little.words(&[1, 0]));
            b.extend(Little.words(&lengths));
            b.extend([0xa, 0xb, 0xc]);
            assert_eq!(whole(&b), [packet(1_000_000_000)], "version 2.{minor}");
        }
    }

    #[test]
    fn upper_half_of_the_link_type_is_not_link_type() {
        let mut b = file(Little, 0xa1b2_c3d4);
        // FCS length of 4 bytes (two units of 16 bits) and its flag.
        b[23] = 0x24;
        assert_eq!(whole(&b)[0].link_type, 113);
    }

    #[test]
    fn wire_length_is_never_less_than_what_is_captured() {
        let mut b = file(Little, 0xa1b2_c3d4);
        b[24 + 12..24 + 16].fill(0);
        assert_eq!(whole(&b)[0].wire_len, 3);
    }

    #[test]
    fn every_cut_is_told_from_the_end() {
        let file = file(Big, 0xa1b2_c3d4);
        for cut in 0..file.len() {
            let (packets, error) = read(&file[..cut]);
            assert!(packets.is_empty());
            match (cut, error) {
                (0, Some(Error::Empty)) | (1..=3, Some(Error::NotACapture { .. })) | (24, None) => {}
                (4..=23, Some(Error::Truncated { part: Part::FileHeader, need: 24, have, at })) => {
                    assert_eq!((have, at.offset, at.after_frame), (cut as u64, 0, 0));
                }
                (25..=39, Some(Error::Truncated { part: Part::RecordHeader, need: 16, have, at })) => {
                    assert_eq!((have, at.offset), (cut as u64 - 24, 24));
                }
                (40..=42, Some(Error::Truncated { part: Part::PacketData, need: 19, have, at })) => {
                    assert_eq!((have, at.offset), (cut as u64 - 24, 24));
                }
                (cut, other) => panic!("cut at {cut}: {other:?}"),
            }
        }
    }

    #[test]
    fn impossible_length_after_a_good_packet() {
        let mut b = file(Little, 0xa1b2_c3d4);
        b.extend(Little.words(&[1, 0, 262_145, 262_145]));
        let (packets, error) = read(&b);
        assert_eq!(packets.len(), 1);
        let error = error.unwrap();
        assert_eq!(
            error.to_string(),
            "impossible length 262145 of packet data at byte 43, after frame 1: more than 262144 bytes"
        );
        assert!(!error.is_truncation());
    }

    #[test]
    fn largest_packet_is_read() {
        let mut b = header(Little, 0xa1b2_c3d4, 4, 1);
        b.extend(Little.words(&[1, 0, 262_144, 262_144]));
        b.extend(vec![7; 262_144]);
        b.extend(Little.words(&[2, 0, 1, 1]));
        b.push(8);
        let packets = whole(&b);
        assert_eq!((packets[0].data.len(), &packets[1].data[..]), (262_144, &[8][..]));
    }
}

mod pcapng {
    use super::*;

    fn block(order: Order, kind: u32, body: &[u8]) -> Vec<u8> {
        let len = 12 + body.len().next_multiple_of(4);
        let mut b = order.words(&[kind, len as u32]);
        b.extend(body);
        b.resize(len - 4, 0);
        b.extend(order.u32(len as u32));
        b
    }

    fn section(order: Order) -> Vec<u8> {
        let mut body = order.u32(0x1a2b_3c4d).to_vec();
        body.extend(order.u16(1));
        body.extend(order.u16(0));
        body.extend([0xff; 8]);
        block(order, 0x0a0d_0d0a, &body)
    }

    fn interface(order: Order, link_type: u16, snap_len: u32, options: &[u8]) -> Vec<u8> {
        let mut body = order.u16(link_type).to_vec();
        body.extend([0, 0]);
        body.extend(order.u32(snap_len));
        body.extend(options);
        block(order, 1, &body)
    }

    fn option(order: Order, code: u16, value: &[u8]) -> Vec<u8> {
        let mut b = order.u16(code).to_vec();
        b.extend(order.u16(value.len() as u16));
        b.extend(value);
        b.resize(b.len().next_multiple_of(4), 0);
        b
    }

    fn enhanced(order: Order, interface: u32, units: u64, data: &[u8], wire_len: u32, options: &[u8]) -> Vec<u8> {
        let mut body = order.words(&[interface, (units >> 32) as u32, units as u32, data.len() as u32, wire_len]);
        body.extend(data);
        body.resize(body.len().next_multiple_of(4), 0);
        body.extend(options);
        block(order, 6, &body)
    }

    pub(super) fn file(order: Order) -> Vec<u8> {
        let mut b = section(order);
        b.extend(interface(order, 1, 0, &[]));
        b.extend(enhanced(order, 0, 1_700_000_000_123_456, b"abcde", 70, &option(order, 1, b"a comment")));
        b
    }

    fn packet(frame: u64, time_ns: u64, link_type: u16, interface: u32, data: &[u8]) -> Owned {
        Owned { frame, time_ns, link_type, interface, wire_len: 70, data: data.to_vec() }
    }

    #[test]
    fn blocks_as_literal_bytes() {
        // Not made by the helpers: big-endian section, Linux cooked interface, a packet "hi" at 2^32 us.
        let bytes = b"\x0a\x0d\x0d\x0a\0\0\0\x1c\x1a\x2b\x3c\x4d\0\x01\0\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\x1c\
            \0\0\0\x01\0\0\0\x14\0\x71\0\0\0\0\0\0\0\0\0\x14\
            \0\0\0\x06\0\0\0\x24\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x46hi\0\0\0\0\0\x24";
        assert_eq!(whole(bytes), [packet(1, 4_294_967_296_000, 113, 0, b"hi")]);
    }

    #[test]
    fn interfaces_have_their_own_link_type_and_clock() {
        for order in [Little, Big] {
            let mut b = section(order);
            let offset = match order {
                Little => 3i64.to_le_bytes(),
                Big => 3i64.to_be_bytes(),
            };
            b.extend(interface(order, 1, 0, &[]));
            b.extend(interface(order, 113, 0, &option(order, 9, &[9])));
            let mut options = option(order, 2, b"eth0");
            options.extend(option(order, 9, &[0x80 | 10]));
            options.extend(option(order, 14, &offset));
            options.extend(option(order, 0, &[]));
            b.extend(interface(order, 101, 0, &options));
            b.extend(enhanced(order, 2, 1536, b"two", 70, &[]));
            b.extend(enhanced(order, 0, 5, b"none", 70, &[]));
            b.extend(enhanced(order, 1, 5, b"one", 70, &[]));
            assert_eq!(
                whole(&b),
                [
                    // 1536 / 1024 s and an offset of 3 s.
                    packet(1, 4_500_000_000, 101, 2, b"two"),
                    packet(2, 5_000, 1, 0, b"none"),
                    packet(3, 5, 113, 1, b"one"),
                ]
            );
        }
    }

    #[test]
    fn sections_forget_interfaces_and_may_change_byte_order() {
        let mut b = file(Little);
        b.extend(section(Big));
        b.extend(interface(Big, 276, 0, &[]));
        b.extend(enhanced(Big, 0, 9, b"x", 70, &[]));
        b.extend(section(Little));
        b.extend(enhanced(Little, 0, 9, b"y", 70, &[]));
        let (packets, error) = read(&b);
        assert_eq!(packets, [packet(1, 1_700_000_000_123_456_000, 1, 0, b"abcde"), packet(2, 9_000, 276, 0, b"x")]);
        let Some(Error::UnknownInterface { interface: 0, known: 0, at }) = error else { panic!("{error:?}") };
        assert_eq!(at.after_frame, 2);
    }

    #[test]
    fn simple_packets_have_no_time_and_are_cut_by_the_snap_length() {
        for order in [Little, Big] {
            for (snap_len, data) in [(0, &b"abcdefgh"[..]), (3, b"abc"), (100, b"abcdefgh")] {
                let mut b = section(order);
                b.extend(interface(order, 1, snap_len, &[]));
                b.extend(interface(order, 9, 1, &[]));
                let mut body = order.u32(70).to_vec();
                body.extend(b"abcdefgh");
                b.extend(block(order, 3, &body));
                assert_eq!(whole(&b), [packet(1, 0, 1, 0, data)]);
            }
        }
        // The padding is not data: 5 bytes on the wire in a block with room for 8.
        let mut b = section(Little);
        b.extend(interface(Little, 1, 0, &[]));
        b.extend(block(Little, 3, b"\x05\0\0\0hello"));
        assert_eq!(whole(&b)[0].data, b"hello");
    }

    #[test]
    fn obsolete_packet_block_has_a_short_interface() {
        for order in [Little, Big] {
            let mut b = section(order);
            b.extend(interface(order, 1, 0, &[]));
            b.extend(interface(order, 12, 0, &[]));
            let mut body = order.u16(1).to_vec();
            // Drops.
            body.extend([0xff, 0xff]);
            body.extend(order.words(&[0, 77, 2, 70]));
            body.extend(b"ob");
            b.extend(block(order, 2, &body));
            assert_eq!(whole(&b), [packet(1, 77_000, 12, 1, b"ob")]);
        }
    }

    #[test]
    fn blocks_without_packets_are_passed_over_and_counted_as_wireshark_does() {
        let mut b = file(Little);
        // Name resolution, statistics, secrets, and a type nobody knows: no frame.
        for kind in [4, 5, 10, 0x777, 0x8000_0001] {
            b.extend(block(Little, kind, &[1; 20]));
        }
        b.extend(enhanced(Little, 0, 1, b"b", 70, &[]));
        // Journal, custom (both) and a system call: a frame each.
        for kind in [9, 0xbad, 0x4000_0bad, 0x204] {
            b.extend(block(Little, kind, &[1; 20]));
        }
        b.extend(enhanced(Little, 0, 1, b"c", 70, &[]));
        let frames: Vec<u64> = whole(&b).iter().map(|p| p.frame).collect();
        assert_eq!(frames, [1, 2, 7]);
    }

    #[test]
    fn large_unknown_block_is_passed_over_without_being_held() {
        let mut b = file(Little);
        b.extend(block(Little, 0x777, &vec![0; 40 << 20]));
        b.extend(enhanced(Little, 0, 1, b"b", 70, &[]));
        assert_eq!(whole(&b).len(), 2);
    }

    #[test]
    fn every_cut_is_told_from_the_end() {
        // 28 of section, 20 of interface, 56 of packet (28 + 5 + 3, option of 16, 4).
        let file = file(Little);
        assert_eq!(file.len(), 104);
        for cut in 4..file.len() {
            let (packets, error) = read(&file[..cut]);
            assert!(packets.is_empty());
            let (part, need, offset) = match cut {
                28 | 48 => {
                    assert!(error.is_none());
                    continue;
                }
                4..12 => (Part::Block(0x0a0d_0d0a), 12, 0),
                12..28 => (Part::Block(0x0a0d_0d0a), 28, 0),
                29..36 => (Part::BlockHeader, 8, 28),
                36..48 => (Part::Block(1), 20, 28),
                49..56 => (Part::BlockHeader, 8, 48),
                _ => (Part::Block(6), 56, 48),
            };
            let Some(Error::Truncated { at, part: p, need: n, have }) = error else { panic!("{cut}: {error:?}") };
            assert_eq!((p, n, at.offset, have), (part, need, offset, cut as u64 - offset), "cut at {cut}");
        }
    }

    #[test]
    fn cut_in_a_block_that_is_passed_over() {
        for (cut, have) in [(3, 29), (4, 28), (20, 12)] {
            let mut b = file(Little);
            b.extend(block(Little, 5, &[0; 20]));
            b.truncate(b.len() - cut);
            let (packets, error) = read(&b);
            assert_eq!(packets.len(), 1);
            let Some(Error::Truncated { at, part: Part::Block(5), need: 32, have: h }) = error else {
                panic!("{error:?}")
            };
            assert_eq!((h, at.offset, at.after_frame), (have, 104, 1));
        }
    }

    #[test]
    fn lengths_that_cannot_be_true() {
        // Offset in the file, value, part and length of the error.
        for (at, value, part, len) in [
            // The packet block: too short, not a multiple of 4, beyond what is held.
            (52, 8, Part::Block(6), 8),
            (52, 28, Part::Block(6), 28),
            (52, 57, Part::Block(6), 57),
            (52, 0xffff_fff0, Part::Block(6), 0xffff_fff0),
            // The captured length: beyond the block, beyond reason.
            (68, 25, Part::PacketData, 25),
            (68, 0xffff_ffff, Part::PacketData, 0xffff_ffff),
            // The interface description and the section header.
            (32, 16, Part::Block(1), 16),
            (32, 0x4000_0000, Part::Block(1), 0x4000_0000),
            (4, 24, Part::Block(0x0a0d_0d0a), 24),
        ] {
            let mut b = file(Little);
            b[at..at + 4].copy_from_slice(&u32::to_le_bytes(value));
            if (part, value) == (Part::Block(6), 28) {
                // Its second length is looked at first.
                b[48 + 24..48 + 28].copy_from_slice(&u32::to_le_bytes(28));
            }
            let (packets, error) = read(&b);
            assert!(packets.is_empty());
            let Some(Error::Length { part: p, len: l, .. }) = error else { panic!("{at}, {value}: {error:?}") };
            assert_eq!((p, l), (part, len), "{at}, {value}");
        }
    }

    #[test]
    fn second_length_must_equal_the_first() {
        for (block_at, len, part) in
            [(48, 56, Part::Block(6)), (28, 20, Part::Block(1)), (0, 28, Part::Block(0x0a0d_0d0a))]
        {
            let mut b = file(Little);
            b[block_at + len - 4] ^= 4;
            let (_, error) = read(&b);
            let Some(Error::LengthMismatch { at, part: p, leading, trailing }) = error else { panic!("{error:?}") };
            assert_eq!((at.offset, p, leading, trailing), (block_at as u64, part, len as u32, len as u32 ^ 4));
        }
        let mut b = file(Little);
        b.extend(block(Little, 5, &[0; 20]));
        let last = b.len() - 4;
        b[last] = 36;
        let (_, error) = read(&b);
        let Some(Error::LengthMismatch { part: Part::Block(5), leading: 32, trailing: 36, .. }) = error else {
            panic!("{error:?}")
        };
    }

    #[test]
    fn reserved_type_byte_order_and_version_are_errors() {
        let mut b = file(Little);
        b.extend(block(Little, 0x0a0d_0a31, &[]));
        let (packets, error) = read(&b);
        assert_eq!(packets.len(), 1);
        let Some(Error::ReservedBlock { block_type: 0x0a0d_0a31, .. }) = error else { panic!("{error:?}") };

        let mut b = file(Little);
        b[8] = 0;
        assert!(matches!(read(&b).1, Some(Error::ByteOrder { magic: 0x1a2b_3c00, .. })));
        let mut b = file(Little);
        b[12] = 2;
        assert!(matches!(read(&b).1, Some(Error::Version { major: 2, minor: 0, .. })));
    }
}

#[test]
fn gzip_is_recognised_by_content_for_every_format() {
    for (bytes, format) in [
        (pcap::file(Little, 0xa1b2_c3d4), Format::Pcap),
        (pcap::file(Big, 0xa1b2_3c4d), Format::PcapNanoseconds),
        (pcapng::file(Big), Format::PcapNg),
    ] {
        let packed = gzip(&bytes);
        assert_eq!(whole(&packed), whole(&bytes));
        let size = packed.len() as u64;
        let mut reader = Reader::from_reader(std::io::Cursor::new(packed)).unwrap();
        assert!(reader.is_compressed());
        assert_eq!(reader.format(), format);
        while reader.next().unwrap().is_some() {}
        assert_eq!((reader.bytes_read(), reader.total_bytes()), (size, None));
    }
}

#[test]
fn gzip_of_several_members_is_one_capture() {
    let file = pcap::file(Little, 0xa1b2_c3d4);
    let mut packed = gzip(&file[..30]);
    packed.extend(gzip(&file[30..]));
    assert_eq!(whole(&packed), whole(&file));
}

#[test]
fn cut_gzip_yields_what_is_whole_and_keeps_its_source() {
    let mut bytes = pcap::file(Little, 0xa1b2_c3d4);
    for n in 0..5_000u32 {
        bytes.extend(Little.words(&[1, n, 4, 60, n.wrapping_mul(2_654_435_761)]));
    }
    let mut packed = gzip(&bytes);
    packed.truncate(packed.len() / 2);
    let (packets, error) = read(&packed);
    assert!(packets.len() > 1000, "{}", packets.len());
    assert_eq!(packets, whole(&bytes)[..packets.len()]);
    let error = error.unwrap();
    assert!(error.is_truncation());
    assert!(std::error::Error::source(&error).is_some());
    let at = error.position().unwrap();
    // 43 bytes of header and first record, 20 of each further one.
    assert_eq!((at.offset, at.after_frame), (43 + (packets.len() as u64 - 1) * 20, packets.len() as u64));
    assert!(error.to_string().contains("of the decompressed data"), "{error}");
}

#[test]
fn other_files_are_named_as_such() {
    for (bytes, text) in [
        (&b"<html>"[..], "not a pcap or pcapng file: it begins with 3c 68 74 6d"),
        (b"\xd4\xc3", "not a pcap or pcapng file: it begins with d4 c3"),
        (
            b"\x28\xb5\x2f\xfd....",
            "not a pcap or pcapng file: it begins with 28 b5 2f fd (zstd-compressed: decompress it first)",
        ),
        (b"", "the capture is empty (0 bytes)"),
    ] {
        assert_eq!(read(bytes).1.unwrap().to_string(), text);
    }
    assert!(matches!(read(&gzip(b"")).1, Some(Error::Empty)));
    assert!(matches!(read(&gzip(b"text")).1, Some(Error::NotACapture { .. })));
}

#[test]
fn missing_file_is_named() {
    let error = Reader::open("/nonexistent/x.pcap").unwrap_err();
    assert_eq!(error.to_string(), "cannot open /nonexistent/x.pcap");
    assert!(std::error::Error::source(&error).is_some());
}

/// Gives one byte at a time, with interruptions, and fails in the end if told so.
struct Trickle {
    bytes: Vec<u8>,
    at: usize,
    calls: usize,
    fails: bool,
}

impl Read for Trickle {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        self.calls += 1;
        if self.calls.is_multiple_of(3) {
            return Err(std::io::ErrorKind::Interrupted.into());
        }
        match self.bytes.get(self.at) {
            Some(&b) if !buf.is_empty() => {
                buf[0] = b;
                self.at += 1;
                Ok(1)
            }
            None if self.fails => Err(std::io::ErrorKind::ConnectionReset.into()),
            _ => Ok(0),
        }
    }
}

#[test]
fn pipe_that_gives_byte_by_byte_is_read_the_same() {
    for bytes in [pcap::file(Big, 0xa1b2_3c4d), pcapng::file(Little), gzip(&pcapng::file(Big))] {
        let trickle = Trickle { bytes: bytes.clone(), at: 0, calls: 0, fails: false };
        let mut reader = Reader::from_reader(trickle).unwrap();
        let packet: Owned = reader.next().unwrap().unwrap().into();
        assert_eq!([packet], whole(&bytes)[..]);
        assert!(reader.next().unwrap().is_none());
    }
}

#[test]
fn failing_reader_is_an_error_after_what_it_gave() {
    let bytes = pcap::file(Little, 0xa1b2_c3d4);
    let mut reader = Reader::from_reader(Trickle { bytes, at: 0, calls: 0, fails: true }).unwrap();
    assert!(reader.next().unwrap().is_some());
    let error = reader.next().unwrap_err();
    let Error::Read { at, source } = &error else { panic!("{error:?}") };
    assert_eq!((at.offset, at.after_frame, source.kind()), (43, 1, std::io::ErrorKind::ConnectionReset));
}
