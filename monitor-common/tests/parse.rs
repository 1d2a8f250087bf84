//! Packets made by hand, one per header shape, and what is read of them.

use monitor_common::flow::{Direction, v4};
use monitor_common::parse::{self, Glance, Packet, Reason};
use monitor_common::segment::{Segment, flags, opt, packet};
use monitor_common::seq::SeqNum;

const SRC: [u8; 4] = [10, 0, 0, 1];
const DST: [u8; 4] = [10, 0, 0, 2];

/// A TCP header with these options (a multiple of 4 bytes), then data.
fn tcp(options: &[u8], data: &[u8]) -> Vec<u8> {
    assert!(options.len().is_multiple_of(4));
    let mut b = Vec::new();
    b.extend(40_000u16.to_be_bytes());
    b.extend(80u16.to_be_bytes());
    b.extend(0xfedc_ba98u32.to_be_bytes());
    b.extend(0x0123_4567u32.to_be_bytes());
    b.push((5 + options.len() as u8 / 4) << 4 | 0x1);
    b.push((flags::ACK | flags::PSH) as u8);
    b.extend(4_321u16.to_be_bytes());
    b.extend([0xaa, 0xbb, 0, 0]);
    b.extend(options);
    b.extend(data);
    b
}

/// IPv4 around `payload`, with header options.
fn ipv4(protocol: u8, fragment: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut b = vec![0x40 | (5 + options.len() as u8 / 4), 0x28];
    b.extend((20 + options.len() as u16 + payload.len() as u16).to_be_bytes());
    b.extend([0x12, 0x34]);
    b.extend(fragment.to_be_bytes());
    b.extend([63, protocol, 0, 0]);
    b.extend(SRC);
    b.extend(DST);
    b.extend(options);
    b.extend(payload);
    b
}

/// IPv6 whose first next header is `next`.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut b = vec![0x6a, 0xb1, 0x23, 0x45];
    b.extend((payload.len() as u16).to_be_bytes());
    b.extend([next, 62]);
    for last in [1u8, 2] {
        b.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    b.extend(payload);
    b
}

/// An extension header of `8 * (words + 1)` bytes.
fn extension(next: u8, words: u8, body: &[u8]) -> Vec<u8> {
    let mut b = vec![next, words];
    b.extend(body);
    b.resize(8 * (words as usize + 1), 0);
    b
}

fn ethernet(tags: &[u16], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut b = vec![2; 12];
    for tag in tags {
        b.extend(tag.to_be_bytes());
        b.extend([0x00, 0x07]);
    }
    b.extend(ethertype.to_be_bytes());
    b.extend(payload);
    b
}

fn read(frame: &[u8]) -> Result<Packet, Reason> {
    read_of(frame, frame.len() as u32)
}

fn read_of(frame: &[u8], wire_len: u32) -> Result<Packet, Reason> {
    // What the packet before left behind must not show.
    let segment = Segment {
        options: 0xffff,
        sack_count: 4,
        wscale: 9,
        mss: 9,
        tsval: 9,
        tsecr: 9,
        flow_label: 9,
        packet: 0xffff,
        ip_id: 9,
        ..Segment::default()
    };
    let (mut out, mut general) = (Packet { segment, ..Packet::default() }, Packet::default());
    let parsed = parse::ethernet(frame, wire_len, &mut out).map(|()| out);
    let in_general = parse::ethernet_in_general(frame, wire_len, &mut general).map(|()| general);
    assert_eq!(parsed, in_general, "whether it is plain or not");
    parsed
}

fn glance(frame: &[u8]) -> Glance {
    parse::glance(frame, frame.len() as u32, &mut Packet::default())
}

#[track_caller]
fn assert_plain(packet: &Packet, data_len: u32) {
    let s = &packet.segment;
    assert_eq!((s.seq, s.ack), (SeqNum(0xfedc_ba98), SeqNum(0x0123_4567)));
    assert_eq!((s.payload_len, s.flags, s.wnd), (data_len, 0x118, 4_321));
    assert_eq!(packet.key.port, [40_000, 80]);
    assert_eq!(packet.direction(), Direction::Forward);
}

#[test]
fn a_plain_frame() {
    let frame = ethernet(&[], 0x0800, &ipv4(6, 0x4000, &[], &tcp(&[], b"hello")));
    let p = read(&frame).unwrap();
    assert_plain(&p, 5);
    let s = &p.segment;
    assert_eq!(p.key.addr, [v4(0x0a00_0001), v4(0x0a00_0002)]);
    assert_eq!((s.ttl, s.tos, s.ip_id, s.packet), (63, 0x28, 0x1234, packet::DF));
    assert_eq!((s.options, s.sack_count, s.wscale, s.mss, s.tsval, s.tsecr), (0, 0, 0, 0, 0, 0));
    assert_eq!((s.flow_label, s.seq_len(), s.end()), (0, 5, SeqNum(0xfedc_ba9d)));
}

#[test]
fn vlan_tags_up_to_three() {
    let ip = ipv4(6, 0, &[], &tcp(&[], b"x"));
    for tags in [&[0x8100][..], &[0x88a8, 0x8100], &[0x9100, 0x8100], &[0x88a8, 0x88a8, 0x8100]] {
        assert_plain(&read(&ethernet(tags, 0x0800, &ip)).unwrap(), 1);
    }
    assert_eq!(read(&ethernet(&[0x8100; 4], 0x0800, &ip)), Err(Reason::VlanDepth));
    assert_plain(&read(&ethernet(&[0x8100], 0x86dd, &ipv6(6, &tcp(&[], b"x")))).unwrap(), 1);
}

/// Ethernet pads short frames to 60 bytes: the length is IP's.
#[test]
fn padding_is_no_data() {
    let mut frame = ethernet(&[], 0x0800, &ipv4(6, 0, &[], &tcp(&[], b"")));
    frame.resize(60, 0);
    assert_plain(&read(&frame).unwrap(), 0);
    let mut frame = ethernet(&[], 0x86dd, &ipv6(6, &tcp(&[], b"ab")));
    frame.resize(100, 0xff);
    assert_plain(&read(&frame).unwrap(), 2);
}

#[test]
fn ipv4_options_are_skipped() {
    for words in 1..=10 {
        let options = vec![1; 4 * words];
        assert_plain(&read(&ethernet(&[], 0x0800, &ipv4(6, 0, &options, &tcp(&[], b"abc")))).unwrap(), 3);
    }
}

#[test]
fn fragments() {
    let first = ethernet(&[], 0x0800, &ipv4(6, 0x2000, &[], &tcp(&[], b"abcd")));
    let p = read(&first).unwrap();
    assert_plain(&p, 4);
    assert_eq!(p.segment.packet, packet::FIRST_FRAGMENT);
    for offset in [0x2001, 0x0001, 0x1fff] {
        let later = ethernet(&[], 0x0800, &ipv4(6, offset, &[], &tcp(&[], b"abcd")));
        assert_eq!(read(&later), Err(Reason::Fragment));
    }
    // The first fragment may be too short for the header it announces.
    let cut = ipv4(6, 0x2000, &[], &tcp(&[1; 8], b"")[..24]);
    assert_eq!(read(&ethernet(&[], 0x0800, &cut)), Err(Reason::BadTcpHeader));
}

#[test]
fn ipv6_with_extension_headers() {
    let segment = tcp(&[], b"abc");
    let plain = read(&ethernet(&[], 0x86dd, &ipv6(6, &segment))).unwrap();
    assert_plain(&plain, 3);
    let s = &plain.segment;
    assert_eq!((s.ttl, s.tos, s.flow_label, s.ip_id, s.packet), (62, 0xab, 0x12345, 0, packet::IPV6));
    assert_eq!(plain.key.addr[0], [0x2001_0db8_0000_0000, 1]);
    // Hop-by-hop, destination options, routing, fragment with offset 0 ("atomic"), in a row.
    let mut chain = Vec::new();
    chain.extend(extension(60, 0, &[]));
    chain.extend(extension(43, 1, &[]));
    chain.extend(extension(44, 2, &[]));
    chain.extend(extension(6, 0, &[0, 0, 0, 0, 0, 9]));
    chain.extend(&segment);
    let p = read(&ethernet(&[], 0x86dd, &ipv6(0, &chain))).unwrap();
    assert_plain(&p, 3);
    assert_eq!(p.segment.packet, packet::IPV6);
}

#[test]
fn ipv6_fragments() {
    let first = [extension(6, 0, &[0, 1, 0, 0, 0, 9]), tcp(&[], b"abc")].concat();
    let p = read(&ethernet(&[], 0x86dd, &ipv6(44, &first))).unwrap();
    assert_plain(&p, 3);
    assert_eq!(p.segment.packet, packet::IPV6 | packet::FIRST_FRAGMENT);
    let later = [extension(6, 0, &[0, 9, 0, 0, 0, 9]), tcp(&[], b"abc")].concat();
    assert_eq!(read(&ethernet(&[], 0x86dd, &ipv6(44, &later))), Err(Reason::Fragment));
}

#[test]
fn too_many_extension_headers() {
    let chain = |n: usize| {
        let mut b: Vec<u8> = (1..n).flat_map(|_| extension(60, 0, &[])).collect();
        b.extend(extension(6, 0, &[]));
        b.extend(tcp(&[], b""));
        ethernet(&[], 0x86dd, &ipv6(60, &b))
    };
    assert_plain(&read(&chain(6)).unwrap(), 0);
    assert_eq!(read(&chain(7)), Err(Reason::ExtensionDepth));
    // Long ones end beyond what is looked at.
    let long = [extension(60, 255, &[]), extension(6, 0, &[]), tcp(&[], b"")].concat();
    assert_eq!(read(&ethernet(&[], 0x86dd, &ipv6(60, &long))), Err(Reason::ExtensionDepth));
}

/// RFC 4302: the length of an authentication header is in words of 4, minus 2.
#[test]
fn authentication_headers() {
    let mut ah = vec![6, 4, 0, 0];
    ah.resize(24, 0);
    let inside = [ah.clone(), tcp(&[], b"ab")].concat();
    assert_plain(&read(&ethernet(&[], 0x0800, &ipv4(51, 0, &[], &inside))).unwrap(), 2);
    assert_plain(&read(&ethernet(&[], 0x86dd, &ipv6(51, &inside))).unwrap(), 2);
    ah[0] = 17;
    assert_eq!(read(&ethernet(&[], 0x0800, &ipv4(51, 0, &[], &ah))), Err(Reason::NotTcp));
    assert_eq!(read(&ethernet(&[], 0x0800, &ipv4(51, 0, &[], &ah[..4]))), Err(Reason::TruncatedIp));
}

/// BIG TCP: a length of 0 means the buffer's, or that of the jumbo option (RFC 2675).
#[test]
fn packets_beyond_64_kilobytes() {
    let mut ip = ipv4(6, 0, &[], &tcp(&[], b"abcd"));
    ip[2..4].fill(0);
    let frame = ethernet(&[], 0x0800, &ip);
    let p = read_of(&frame, 14 + 20 + 20 + 200_000).unwrap();
    assert_plain(&p, 200_000);
    assert_eq!(p.segment.packet & packet::LENGTH_UNCERTAIN, 0);
    // Not even the buffer knows.
    let p = read_of(&frame, 0).unwrap();
    assert_plain(&p, 0);
    assert_ne!(p.segment.packet & packet::LENGTH_UNCERTAIN, 0);

    let mut ip = ipv6(6, &tcp(&[], b"abcd"));
    ip[4..6].fill(0);
    let frame = ethernet(&[], 0x86dd, &ip);
    assert_plain(&read_of(&frame, 14 + 40 + 20 + 150_000).unwrap(), 150_000);
    assert_ne!(read_of(&frame, 0).unwrap().segment.packet & packet::LENGTH_UNCERTAIN, 0);

    let length = 8 + 20 + 100_000u32;
    let jumbo = extension(6, 0, &[&[0xc2, 4][..], &length.to_be_bytes()].concat());
    let mut ip = ipv6(0, &[jumbo, tcp(&[], b"abcd")].concat());
    ip[4..6].fill(0);
    let p = read_of(&ethernet(&[], 0x86dd, &ip), 0).unwrap();
    assert_plain(&p, 100_000);
    assert_eq!(p.segment.packet, packet::IPV6);
}

/// Every length of a frame with all the trimmings: what is cut is named by its layer.
#[test]
fn truncated_at_every_byte() {
    let v4 = ethernet(&[0x8100], 0x0800, &ipv4(6, 0, &[1; 8], &tcp(&[1; 12], b"data")));
    for n in 0..v4.len() {
        let expected = match n {
            0..18 => Err(Reason::TruncatedLink),
            18..38 => Err(Reason::TruncatedIp),
            38..66 => Err(Reason::TruncatedTcp),
            _ => Ok(4),
        };
        let found = read_of(&v4[..n], v4.len() as u32);
        assert_eq!(found.map(|p| p.segment.payload_len), expected, "{n}");
        if let Ok(p) = found {
            // Options that the capture does not hold.
            assert_eq!(p.segment.options & opt::MALFORMED != 0, n < 78, "{n}");
        }
    }
    let v6 = ethernet(&[], 0x86dd, &ipv6(60, &[extension(6, 0, &[]), tcp(&[], b"data")].concat()));
    for n in 0..v6.len() {
        let expected = match n {
            0..14 => Err(Reason::TruncatedLink),
            14..62 => Err(Reason::TruncatedIp),
            62..82 => Err(Reason::TruncatedTcp),
            _ => Ok(4),
        };
        assert_eq!(read_of(&v6[..n], v6.len() as u32).map(|p| p.segment.payload_len), expected, "{n}");
    }
}

#[test]
fn lengths_that_lie() {
    let good = ipv4(6, 0, &[], &tcp(&[], b"abcd"));
    let with = |at: usize, byte: u8| {
        let mut ip = good.clone();
        ip[at] = byte;
        read(&ethernet(&[], 0x0800, &ip))
    };
    // IP header length below 5, version 5, total length below the header's.
    assert_eq!(with(0, 0x44), Err(Reason::BadIpHeader));
    assert_eq!(with(0, 0x55), Err(Reason::BadIpHeader));
    assert_eq!(with(3, 19), Err(Reason::BadIpHeader));
    // TCP data offset below 5, and beyond the datagram.
    assert_eq!(with(32, 0x40), Err(Reason::BadTcpHeader));
    assert_eq!(with(32, 0xf0), Err(Reason::BadTcpHeader));
    // An IP length beyond the wire is cut to it.
    assert_plain(&with(2, 0xff).unwrap(), 4);
    // A header length that leaves no room for TCP.
    assert_eq!(with(3, 30), Err(Reason::BadTcpHeader));
    let mut ip = ipv6(6, &tcp(&[], b""));
    ip[0] = 0x4a;
    assert_eq!(read(&ethernet(&[], 0x86dd, &ip)), Err(Reason::BadIpHeader));
}

#[test]
fn other_protocols_are_no_failures() {
    for (frame, reason) in [
        (ethernet(&[], 0x0806, &[0; 28]), Reason::NotIp),
        (ethernet(&[], 0x88cc, &[0; 28]), Reason::NotIp),
        (ethernet(&[], 0x0800, &ipv4(17, 0, &[], &[0; 8])), Reason::NotTcp),
        (ethernet(&[], 0x86dd, &ipv6(58, &[0; 8])), Reason::NotTcp),
        (ethernet(&[], 0x86dd, &ipv6(59, &[])), Reason::NotTcp),
    ] {
        assert_eq!(read(&frame), Err(reason));
        assert!(!reason.is_failure());
    }
}

#[test]
fn what_nearly_every_frame_looks_like_is_seen_at_a_glance() {
    let timestamps = [1, 1, 8, 10, 0, 0, 0, 7, 0, 0, 0, 9];
    for options in [&[][..], &timestamps] {
        let frame = ethernet(&[], 0x0800, &ipv4(6, 0x4000, &[], &tcp(options, b"hello")));
        assert_eq!(glance(&frame), Glance::Segment);
        assert_plain(&read(&frame).unwrap(), 5);
        // The data may be elsewhere, the headers may not.
        let headers = 54 + options.len();
        for n in 0..frame.len() {
            let expected = if n < headers { Glance::Unclear } else { Glance::Segment };
            assert_eq!(parse::glance(&frame[..n], frame.len() as u32, &mut Packet::default()), expected, "{n}");
        }
    }
    let other = [8, 10, 0, 0, 0, 7, 0, 0, 0, 9, 1, 1];
    for (why, frame) in [
        ("tag", ethernet(&[0x8100], 0x0800, &ipv4(6, 0, &[], &tcp(&[], b"")))),
        ("IP options", ethernet(&[], 0x0800, &ipv4(6, 0, &[1; 4], &tcp(&[], b"")))),
        ("first fragment", ethernet(&[], 0x0800, &ipv4(6, 0x2000, &[], &tcp(&[], b"")))),
        ("later fragment", ethernet(&[], 0x0800, &ipv4(6, 0x0001, &[], &tcp(&[], b"")))),
        ("another layout", ethernet(&[], 0x0800, &ipv4(6, 0, &[], &tcp(&other, b"")))),
        ("more options", ethernet(&[], 0x0800, &ipv4(6, 0, &[], &tcp(&[1; 16], b"")))),
        ("fewer", ethernet(&[], 0x0800, &ipv4(6, 0, &[], &tcp(&[1; 4], b"")))),
        ("IPv6", ethernet(&[], 0x86dd, &ipv6(6, &tcp(&[], b"")))),
    ] {
        assert_eq!(glance(&frame), Glance::Unclear, "{why}");
    }
}

#[test]
fn only_what_can_neither_be_nor_quote_a_segment_is_other_at_a_glance() {
    let udp = ethernet(&[], 0x0800, &ipv4(17, 0, &[], &[0; 8]));
    assert_eq!(glance(&udp), Glance::Other);
    assert_eq!(glance(&udp[..33]), Glance::Unclear, "cut short");
    for version_and_length in [0x44, 0x55, 0x05, 0x46] {
        let mut odd = udp.clone();
        odd[14] = version_and_length;
        assert_eq!(glance(&odd), Glance::Unclear, "{version_and_length:#x}");
    }
    for frame in [
        ethernet(&[], 0x0800, &ipv4(1, 0, &[], &[0; 8])),
        ethernet(&[], 0x0800, &ipv4(51, 0, &[], &[6; 24])),
        ethernet(&[], 0x86dd, &ipv6(17, &[0; 8])),
        ethernet(&[0x8100], 0x0800, &ipv4(17, 0, &[], &[0; 8])),
    ] {
        assert_eq!(glance(&frame), Glance::Unclear);
    }
}

#[test]
fn an_ip_packet_at_an_offset() {
    let mut out = Packet::default();
    for ip in [ipv4(6, 0, &[], &tcp(&[], b"abc")), ipv6(6, &tcp(&[], b"abc"))] {
        let bytes = [vec![0xee; 7], ip.clone()].concat();
        parse::ip(&bytes[..], 7, ip.len() as u32, &mut out).unwrap();
        assert_plain(&out, 3);
    }
    assert_eq!(parse::ip(&[0x70, 0][..], 0, 2, &mut out), Err(Reason::BadIpHeader));
    assert_eq!(parse::ip(&[0x45][..], 0, 1, &mut out), Err(Reason::TruncatedIp));
}

fn options(bytes: &[u8]) -> Segment {
    let mut padded = bytes.to_vec();
    while !padded.len().is_multiple_of(4) {
        padded.push(0);
    }
    read(&ethernet(&[], 0x0800, &ipv4(6, 0, &[], &tcp(&padded, b"d")))).unwrap().segment
}

#[test]
fn the_options_of_a_syn() {
    let s = options(&[2, 4, 5, 0xb4, 4, 2, 8, 10, 1, 2, 3, 4, 0, 0, 0, 0, 1, 3, 3, 7]);
    assert_eq!(s.options, opt::MSS | opt::SACK_PERMITTED | opt::TIMESTAMPS | opt::WSCALE);
    assert_eq!((s.mss, s.wscale, s.tsval, s.tsecr), (1460, 7, 0x0102_0304, 0));
}

#[test]
fn timestamps_aligned_and_not() {
    for bytes in [
        &[1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8][..],
        &[8, 10, 0, 0, 0, 9, 0, 0, 0, 8, 1, 1],
        &[8, 10, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0],
    ] {
        let s = options(bytes);
        assert_eq!((s.options, s.tsval, s.tsecr), (opt::TIMESTAMPS, 9, 8));
    }
}

/// RFC 7323 2.3: more than 14 is taken for 14.
#[test]
fn a_large_shift_is_bounded() {
    for (sent, taken) in [(0, 0), (14, 14), (15, 14), (255, 14)] {
        assert_eq!(options(&[3, 3, sent]).wscale, taken);
    }
}

#[test]
fn one_to_four_sack_blocks() {
    for n in 1..=4u8 {
        let mut b = vec![1, 1, 5, 2 + 8 * n];
        for i in 0..u32::from(n) {
            b.extend((100 * i).to_be_bytes());
            b.extend((100 * i + 50).to_be_bytes());
        }
        let s = options(&b);
        assert_eq!((s.options, s.sack_count), (opt::SACK, n));
        for i in 0..u32::from(n) {
            assert_eq!(s.sack[i as usize], [SeqNum(100 * i), SeqNum(100 * i + 50)]);
        }
    }
}

#[test]
fn timestamps_with_three_sack_blocks_fill_the_header() {
    let mut b = vec![1, 1, 8, 10, 0, 0, 0, 9, 0, 0, 0, 8, 1, 1, 5, 26];
    b.extend([7; 24]);
    let s = options(&b);
    assert_eq!((s.options, s.sack_count, s.tsval), (opt::SACK | opt::TIMESTAMPS, 3, 9));
}

#[test]
fn options_that_only_leave_a_mark() {
    for (bytes, mark) in [
        (&[34, 2, 0, 0][..], opt::FAST_OPEN),
        (&[34, 10, 1, 2, 3, 4, 5, 6, 7, 8, 1, 1], opt::FAST_OPEN),
        (&[29, 16, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4], opt::AUTH),
        (&[30, 12, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9], opt::MPTCP),
        (&[30, 12, 0x70, 1, 2, 3, 4, 5, 6, 7, 8, 9], opt::MPTCP | opt::MPTCP_RESET),
        (&[30, 4, 0x81, 1], opt::MPTCP | opt::MPTCP_RESET),
        (&[30, 3, 0x81, 1], opt::MPTCP),
        (&[254, 4, 0xf9, 0x89], 0),
    ] {
        assert_eq!(options(bytes).options, mark, "{bytes:?}");
    }
    let mut md5 = vec![19, 18];
    md5.extend([9; 16]);
    assert_eq!(options(&md5).options, opt::AUTH);
}

/// What came before the damage counts.
#[test]
fn malformed_options() {
    let mss = [2, 4, 5, 0xb4];
    for bad in [
        // Length 0 and 1, running past the header.
        &[8, 0, 0, 0][..],
        &[8, 1, 0, 0],
        &[8, 10, 0, 0],
        &[254, 41, 0, 0],
        &[254, 255, 0, 0],
        // A kind as the last byte.
        &[1, 1, 1, 8],
        &[1, 1, 1, 254],
    ] {
        let s = options(&[&mss[..], bad].concat());
        assert_eq!(s.options, opt::MSS | opt::MALFORMED, "{bad:?}");
        assert_eq!(s.mss, 1460);
    }
    // A known kind with another length is passed over.
    for odd in [&[2, 3, 5, 1][..], &[3, 4, 9, 9], &[4, 3, 0, 1], &[8, 4, 1, 1], &[5, 4, 1, 1], &[5, 2, 1, 1]] {
        assert_eq!(options(&[&mss[..], odd].concat()).options, opt::MSS, "{odd:?}");
    }
}

#[test]
fn an_end_of_options_ends_them() {
    let s = options(&[0, 3, 3, 7]);
    assert_eq!((s.options, s.wscale), (0, 0));
}

/// The last byte of the packet is an option by itself.
#[test]
fn one_byte_options_at_the_last_byte() {
    for last in [0, 1] {
        let frame = ethernet(&[], 0x0800, &ipv4(6, 0, &[], &tcp(&[3, 3, 7, last], b"")));
        let s = read(&frame).unwrap().segment;
        assert_eq!((s.options, s.wscale), (opt::WSCALE, 7));
    }
}

/// The walk is bounded; no stack writes so many.
#[test]
fn too_many_options_are_malformed() {
    let s = options(&[1; 40]);
    assert_eq!(s.options, opt::MALFORMED);
    assert_eq!(options(&[1; 12]).options, 0);
}

/// What a TC program at ingress is given: whole frames, frames without their outer tag, and, behind generic XDP with
/// fragments on some kernels, packets without an Ethernet header.
#[test]
fn received_buffers_with_and_without_an_ethernet_header() {
    let packets = [(0x0800, ipv4(6, 0, &[], &tcp(&[], b"data"))), (0x86dd, ipv6(6, &tcp(&[], b"data")))];
    for (protocol, packet) in packets {
        let received = |buffer: &[u8], protocol| {
            let mut out = Packet::default();
            parse::received(buffer, protocol, 0, &mut out).map(|()| out)
        };
        let frame = ethernet(&[], protocol, &packet);
        let whole = read_of(&frame, 0).unwrap();
        assert_eq!(received(&frame, protocol), Ok(whole));
        // The stack's protocol is that of the outermost tag that is still in the frame.
        let tagged = ethernet(&[0x8100], protocol, &packet);
        assert_eq!(received(&tagged, 0x8100), Ok(whole));
        let mut without = whole;
        without.segment.l2 = 0;
        assert_eq!(received(&packet, protocol), Ok(without));
        // An address that looks like the start of an IP header: the EtherType decides.
        let mut alike = frame.clone();
        alike[0] = packet[0];
        assert_eq!(received(&alike, protocol).map(|p| p.segment.seq), Ok(whole.segment.seq));
        assert_eq!(received(&packet, 0x0806), Err(Reason::NotIp));
        assert_eq!(received(&packet[..10], protocol), Err(Reason::TruncatedLink));
    }
}

#[test]
fn whether_the_buffer_holds_all_headers() {
    let frame = ethernet(&[], 0x0800, &ipv4(6, 0, &[], &tcp(&[1; 12], b"data")));
    assert!(parse::has_headers(&frame[..]));
    // A bare ACK ends with its options: nothing has to be pulled in.
    let header = 14 + 20 + 32;
    assert!(parse::has_headers(&frame[..header]));
    assert!(!parse::has_headers(&frame[..header - 1]));
    assert!(parse::has_headers(&ethernet(&[], 0x0800, &ipv4(6, 0, &[], &tcp(&[], &[])))[..54]));
    assert!(!parse::has_headers(&frame[..60]));
    assert!(!parse::has_headers(&frame[..40]));
    assert!(!parse::has_headers(&frame[..20]));
    let udp = ethernet(&[], 0x0800, &ipv4(17, 0, &[], &[]));
    assert!(parse::has_headers(&udp[..]));
    let frame = ethernet(&[], 0x86dd, &ipv6(6, &tcp(&[1; 12], b"data")));
    let header = 14 + 40 + 32;
    assert!(parse::has_headers(&frame[..header]));
    assert!(!parse::has_headers(&frame[..header - 1]));
    assert!(!parse::has_headers(&ethernet(&[], 0x86dd, &ipv6(0, &tcp(&[], &[])))[..]));
}

#[test]
fn every_reason_has_a_slot_and_a_name() {
    for (i, reason) in Reason::ALL.iter().enumerate() {
        assert_eq!(*reason as usize, i);
        assert!(i < monitor_common::abi::REASON_SLOTS);
        assert!(Reason::ALL.iter().filter(|r| r.name() == reason.name()).count() == 1);
    }
}
