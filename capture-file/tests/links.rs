//! Each link type and each tunnel from hand-made bytes; expected offsets are counted by hand.

use capture_file::link::Located::{Ip, Not};
use capture_file::link::{Located, Reason, linktype, locate};

/// IPv4, 40 bytes with a TCP header.
const V4: &[u8] = b"\x45\0\0\x28\0\0\x40\0\x40\x06\0\0\x0a\0\0\x01\x0a\0\0\x02\
    \0\x50\0\x51\0\0\0\x01\0\0\0\x02\x50\x10\x01\0\0\0\0\0";

/// IPv6, 60 bytes with the same TCP header.
const V6: &[u8] =
    b"\x60\0\0\0\0\x14\x06\x40\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\xfe\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\
    \0\x50\0\x51\0\0\0\x01\0\0\0\x02\x50\x10\x01\0\0\0\0\0";

/// Ethernet addresses.
const MACS: &[u8] = b"\x02\0\0\0\0\x01\x02\0\0\0\0\x02";

fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// Locates in a frame that is captured whole.
fn at(link_type: u16, parts: &[&[u8]]) -> Located {
    let frame = join(parts);
    locate(link_type, &frame, frame.len() as u32)
}

/// An Ethernet frame from its type on.
fn ethernet(parts: &[&[u8]]) -> Located {
    at(linktype::ETHERNET, &[MACS, &join(parts)])
}

/// A 20-byte IPv4 header of this protocol and total length.
fn v4(protocol: u8, total: u16) -> Vec<u8> {
    let mut b = V4[..20].to_vec();
    b[9] = protocol;
    b[2..4].copy_from_slice(&total.to_be_bytes());
    b
}

/// A 40-byte IPv6 header of this next header and payload length.
fn v6(next: u8, payload: u16) -> Vec<u8> {
    let mut b = V6[..40].to_vec();
    b[6] = next;
    b[4..6].copy_from_slice(&payload.to_be_bytes());
    b
}

/// IPv4 and a UDP header from a high port to `port`, then the payload, in a raw frame: payload at 28.
fn udp(port: u16, payload: &[&[u8]]) -> Located {
    let payload = join(payload);
    let len = 8 + payload.len() as u16;
    let header = join(&[&50_000u16.to_be_bytes(), &port.to_be_bytes(), &len.to_be_bytes(), &[0, 0]]);
    at(linktype::RAW, &[&v4(17, 20 + len), &header, &payload])
}

/// IPv4 and a GRE header in a raw frame: GRE at 20.
fn gre(header: &[u8], payload: &[&[u8]]) -> Located {
    let payload = join(payload);
    at(linktype::RAW, &[&v4(47, 20 + (header.len() + payload.len()) as u16), header, &payload])
}

/// Captured whole: nothing behind the packet.
fn found4(offset: usize) -> Located {
    Ip { offset, wire_len: 40 }
}

fn found6(offset: usize) -> Located {
    Ip { offset, wire_len: 60 }
}

#[test]
fn ethernet_with_tags() {
    assert_eq!(ethernet(&[b"\x08\0", V4]), found4(14));
    assert_eq!(ethernet(&[b"\x86\xdd", V6]), found6(14));
    assert_eq!(ethernet(&[b"\x81\0\0\x07\x08\0", V4]), found4(18));
    assert_eq!(ethernet(&[b"\x88\xa8\0\x07\x81\0\0\x08\x86\xdd", V6]), found6(22));
    assert_eq!(ethernet(&[b"\x91\0\0\x01\x81\0\0\x02\x81\0\0\x03\x08\0", V4]), found4(26));
    // VN-Tag, E-TAG, Cisco metadata, R-TAG, HSR: 4, 6, 6, 4, 4 bytes, then a type.
    assert_eq!(ethernet(&[b"\x89\x26\0\0\0\x33\x08\0", V4]), found4(20));
    assert_eq!(ethernet(&[b"\x89\x3f\0\0\0\0\0\0\x08\0", V4]), found4(22));
    assert_eq!(ethernet(&[b"\x89\x09\x01\x01\0\x01\0\x05\x08\0", V4]), found4(22));
    assert_eq!(ethernet(&[b"\xf1\xc1\0\0\0\x09\x08\0", V4]), found4(20));
    assert_eq!(ethernet(&[b"\x89\x2f\0\x58\0\x09\x08\0", V4]), found4(20));
    assert_eq!(ethernet(&[b"\x08\x06\0\x01\x08\0\x06\x04"]), Not(Reason::NotIp));
}

#[test]
fn ethernet_in_ethernet() {
    // 802.1ah: 14 + 4 + 14. FabricPath: 14 + 2 + 14. Transparent bridging: 14 + 14.
    assert_eq!(ethernet(&[b"\x88\xe7\0\0\0\x01", MACS, b"\x08\0", V4]), found4(32));
    assert_eq!(ethernet(&[b"\x89\x03\x40\x20", MACS, b"\x08\0", V4]), found4(30));
    assert_eq!(ethernet(&[b"\x65\x58", MACS, b"\x86\xdd", V6]), found6(28));
}

#[test]
fn ethernet_with_llc() {
    // A length of 48: 8 bytes of LLC and SNAP, 40 of IP. Behind it 6 bytes of padding that do not count.
    assert_eq!(ethernet(&[b"\0\x30\xaa\xaa\x03\0\0\0\x08\0", V4, &[0; 6]]), found4(22));
    assert_eq!(ethernet(&[b"\0\x30\xaa\xaa\x03\0\0\xf8\x08\0", V4]), found4(22));
    // IP's own service access point, and an NLPID.
    assert_eq!(ethernet(&[b"\0\x2b\x06\x06\x03", V4]), found4(17));
    assert_eq!(ethernet(&[b"\0\x40\xfe\xfe\x03\x8e", V6]), found6(18));
    // Behind a VLAN tag.
    assert_eq!(ethernet(&[b"\x81\0\0\x01\0\x30\xaa\xaa\x03\0\0\0\x08\0", V4]), found4(26));
    // Jumbo LLC.
    assert_eq!(ethernet(&[b"\x88\x70\xaa\xaa\x03\0\0\0\x08\0", V4]), found4(22));
    // Spanning tree; Cisco's SNAP; a type that is neither type nor length.
    assert_eq!(ethernet(&[b"\0\x26\x42\x42\x03\0\0\0"]), Not(Reason::NotIp));
    assert_eq!(ethernet(&[b"\0\x30\xaa\xaa\x03\0\0\x0c\x20\0", V4]), Not(Reason::NotIp));
    assert_eq!(ethernet(&[b"\x05\xdd", V4]), Not(Reason::NotIp));
}

#[test]
fn padding_counts_unless_something_encloses_the_packet() {
    assert_eq!(ethernet(&[b"\x08\0", V4, &[0; 6]]), Ip { offset: 14, wire_len: 46 });
    // The outer packet says where it ends.
    assert_eq!(ethernet(&[b"\x08\0", &v4(4, 60), V4, &[0; 6]]), found4(34));
}

#[test]
fn mpls_guesses_its_payload() {
    // Two labels, the second at the bottom.
    assert_eq!(ethernet(&[b"\x88\x47\0\x01\0\x40\0\x02\x01\x40", V4]), found4(22));
    assert_eq!(ethernet(&[b"\x88\x48\0\x02\x01\x40", V6]), found6(18));
    // Ethernet, without and with a control word.
    assert_eq!(ethernet(&[b"\x88\x47\0\x02\x01\x40", MACS, b"\x08\0", V4]), found4(32));
    assert_eq!(ethernet(&[b"\x88\x47\0\x02\x01\x40\0\0\0\x07", MACS, b"\x08\0", V4]), found4(36));
    // An associated channel, and nothing that is known.
    assert_eq!(ethernet(&[b"\x88\x47\0\x02\x01\x40\x10\0\0\x07", V4]), Not(Reason::NotIp));
    assert_eq!(ethernet(&[b"\x88\x47\0\x02\x01\x40", &[0; 40]]), Not(Reason::NotIp));
}

#[test]
fn pppoe_and_ppp() {
    // Session stage, length 42: protocol and 40 bytes; then padding.
    assert_eq!(ethernet(&[b"\x88\x64\x11\0\0\x01\0\x2a\0\x21", V4, &[0; 3]]), found4(22));
    assert_eq!(ethernet(&[b"\x88\x64\x11\0\0\x01\0\x3e\0\x57", V6]), found6(22));
    // A code of the discovery stage; LCP.
    assert_eq!(ethernet(&[b"\x88\x64\x11\x09\0\x01\0\x2a\0\x21", V4]), Not(Reason::NotIp));
    assert_eq!(ethernet(&[b"\x88\x64\x11\0\0\x01\0\x06\xc0\x21\x09\0\0\x04"]), Not(Reason::NotIp));

    assert_eq!(at(linktype::PPP_ETHER, &[b"\x11\0\0\x01\0\x2a\0\x21", V4]), found4(8));
    for link_type in [linktype::PPP, linktype::PPP_HDLC] {
        assert_eq!(at(link_type, &[b"\xff\x03\0\x21", V4]), found4(4));
        assert_eq!(at(link_type, &[b"\0\x57", V6]), found6(2));
        // Compressed protocol field.
        assert_eq!(at(link_type, &[b"\xff\x03\x21", V4]), found4(3));
        assert_eq!(at(link_type, &[b"\xff\x03\x02\x81\0\x02\x01\x40", V4]), found4(8));
        // Cisco HDLC on the same line.
        assert_eq!(at(link_type, &[b"\x0f\0\x08\0", V4]), found4(4));
        assert_eq!(at(link_type, &[b"\x8f\0\x80\x35", V4]), Not(Reason::NotIp));
    }
    assert_eq!(at(linktype::PPP_WITH_DIR, &[b"\x01\xff\x03\0\x21", V4]), found4(5));
}

#[test]
fn cisco_hdlc() {
    assert_eq!(at(linktype::C_HDLC, &[b"\x0f\0\x08\0", V4]), found4(4));
    assert_eq!(at(linktype::C_HDLC, &[b"\x0f\0\x86\xdd", V6]), found6(4));
    assert_eq!(at(linktype::C_HDLC, &[b"\x0f\0\x88\x47\0\x02\x01\x40", V4]), found4(8));
    assert_eq!(at(linktype::C_HDLC, &[b"\x8f\0\x80\x35", &[0; 18]]), Not(Reason::NotIp));
}

#[test]
fn loopback_families_in_both_byte_orders() {
    assert_eq!(at(linktype::NULL, &[b"\x02\0\0\0", V4]), found4(4));
    assert_eq!(at(linktype::NULL, &[b"\0\0\0\x02", V4]), found4(4));
    for family in [10, 24, 28, 30] {
        assert_eq!(at(linktype::NULL, &[&[family, 0, 0, 0], V6]), found6(4));
        assert_eq!(at(linktype::LOOP, &[&[0, 0, 0, family], V6]), found6(4));
    }
    assert_eq!(at(linktype::NULL, &[b"\x07\0\0\0", V4]), Not(Reason::NotIp));
    assert_eq!(at(linktype::LOOP, &[b"\x02\0\0\0", V4]), Not(Reason::NotIp));
}

#[test]
fn raw_ip_goes_by_its_version() {
    for link_type in [linktype::RAW, linktype::DLT_RAW, linktype::DLT_RAW_OPENBSD, linktype::IPV4, linktype::IPV6] {
        assert_eq!(at(link_type, &[V4]), found4(0));
        assert_eq!(at(link_type, &[V6]), found6(0));
        assert_eq!(at(link_type, &[b"\x50", &V4[1..]]), Not(Reason::NotIp));
        assert_eq!(at(link_type, &[]), Not(Reason::Malformed));
    }
}

#[test]
fn linux_cooked() {
    // Outgoing, ARPHRD_ETHER, 6 bytes of address.
    let v1: &[u8] = b"\0\x04\0\x01\0\x06\x02\0\0\0\0\x01\0\0";
    assert_eq!(at(linktype::LINUX_SLL, &[v1, b"\x08\0", V4]), found4(16));
    assert_eq!(at(linktype::LINUX_SLL, &[v1, b"\x81\0\0\x07\x86\xdd", V6]), found6(20));
    assert_eq!(at(linktype::LINUX_SLL, &[v1, b"\0\x04\xaa\xaa\x03\0\0\0\x08\0", V4]), found4(24));
    assert_eq!(at(linktype::LINUX_SLL, &[v1, b"\x08\x06", V4]), Not(Reason::NotIp));
    // ARPHRD_IPGRE with transparent Ethernet; ARPHRD_NETLINK.
    let device = |hi: u8, lo: u8| [&b"\0\0"[..], &[hi, lo], &[0; 10]].concat();
    assert_eq!(at(linktype::LINUX_SLL, &[&device(3, 10), b"\x65\x58", MACS, b"\x08\0", V4]), found4(30));
    assert_eq!(at(linktype::LINUX_SLL, &[&device(3, 56), b"\x08\0", V4]), Not(Reason::NotIp));

    let rest: &[u8] = b"\0\0\0\0\0\x02\0\x01\x04\x06\x02\0\0\0\0\x01\0\0";
    assert_eq!(at(linktype::LINUX_SLL2, &[b"\x08\0", rest, V4]), found4(20));
    assert_eq!(at(linktype::LINUX_SLL2, &[b"\x86\xdd", rest, V6]), found6(20));
    assert_eq!(at(linktype::LINUX_SLL2, &[b"\0\x04", rest, b"\xaa\xaa\x03\0\0\0\x08\0", V4]), found4(28));
}

#[test]
fn fddi_ipoib_and_switch_tags() {
    assert_eq!(at(linktype::FDDI, &[b"\x50", MACS, b"\xaa\xaa\x03\0\0\0\x08\0", V4]), found4(21));
    assert_eq!(at(linktype::FDDI, &[b"\x41", MACS, b"\xaa\xaa\x03\0\0\0\x08\0", V4]), Not(Reason::NotIp));
    assert_eq!(at(linktype::IPOIB, &[&[0; 40], b"\x08\0\0\0", V4]), found4(44));
    assert_eq!(at(linktype::DSA_TAG_DSA, &[MACS, b"\xc0\x0a\0\0\x08\0", V4]), found4(18));
    assert_eq!(at(linktype::DSA_TAG_EDSA, &[MACS, b"\xda\xda\0\0\xc0\0\0\0\x08\0", V4]), found4(22));
}

/// SNAP header for IPv4.
const SNAP: &[u8] = b"\xaa\xaa\x03\0\0\0\x08\0";

#[test]
fn wireless() {
    // Data, to the distribution system: 24 bytes.
    assert_eq!(at(linktype::IEEE802_11, &[b"\x08\x01", &[0; 22], SNAP, V4]), found4(32));
    // QoS data: 26. All four addresses: 32. HT control: 30.
    assert_eq!(at(linktype::IEEE802_11, &[b"\x88\x02", &[0; 24], SNAP, V4]), found4(34));
    assert_eq!(at(linktype::IEEE802_11, &[b"\x88\x03", &[0; 30], SNAP, V4]), found4(40));
    assert_eq!(at(linktype::IEEE802_11, &[b"\x88\x81", &[0; 28], SNAP, V4]), found4(38));
    // An aggregate: 26, then 14 of subframe header with length 48, then SNAP.
    let qos: &[u8] = b"\x88\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x80\0";
    assert_eq!(at(linktype::IEEE802_11, &[qos, MACS, b"\0\x30", SNAP, V4, &[0; 50]]), found4(48));
    // Protected, without data, management.
    assert_eq!(at(linktype::IEEE802_11, &[b"\x08\x41", &[0; 22], SNAP, V4]), Not(Reason::Encrypted));
    assert_eq!(at(linktype::IEEE802_11, &[b"\x48\x01", &[0; 22], SNAP, V4]), Not(Reason::NotIp));
    assert_eq!(at(linktype::IEEE802_11, &[b"\x80\0", &[0; 22], SNAP, V4]), Not(Reason::NotIp));
}

#[test]
fn wireless_with_capture_headers() {
    let data = join(&[b"\x08\x01", &[0; 22], SNAP, V4]);
    let qos = join(&[b"\x88\x01", &[0; 24], &[0; 2], SNAP, V4]);
    let radiotap = linktype::IEEE802_11_RADIOTAP;
    // 8 bytes without fields; 9 with flags of 0.
    assert_eq!(at(radiotap, &[b"\0\0\x08\0\0\0\0\0", &data]), found4(40));
    assert_eq!(at(radiotap, &[b"\0\0\x09\0\x02\0\0\0\0", &data]), found4(41));
    // Flags behind a time stamp and a second presence word: 12, aligned 16, 24; then 17 of 0x20: padded.
    let padded: &[u8] = b"\0\0\x19\0\x03\0\0\x80\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x20";
    assert_eq!(at(radiotap, &[padded, &qos]), found4(25 + 26 + 2 + 8));
    assert_eq!(at(radiotap, &[b"\0\0\x07\0\0\0\0\0", &data]), Not(Reason::Malformed));

    let prism = join(&[b"\x44\0\0\0\x90\0\0\0", &[0; 136]]);
    assert_eq!(at(linktype::IEEE802_11_PRISM, &[&prism, &data]), found4(144 + 32));
    let avs = join(&[b"\x80\x21\x10\x01\0\0\0\x40", &[0; 56]]);
    assert_eq!(at(linktype::IEEE802_11_AVS, &[&avs, &data]), found4(64 + 32));
    // PPI with DLT 105, and with one that is unknown.
    assert_eq!(at(linktype::PPI, &[b"\0\0\x08\0\x69\0\0\0", &data]), found4(40));
    assert_eq!(at(linktype::PPI, &[b"\0\0\x08\0\0\0\x01\0", &data]), Not(Reason::UnsupportedLink));
}

#[test]
fn firewall_logs_and_process_captures() {
    // NFLOG: packet header of 8 bytes, prefix of 5 padded to 8, then the packet (44 = 0x2c).
    let little: &[u8] = b"\x02\0\0\x28\x08\0\x01\0\x08\0\0\0\x05\0\x0a\0\0\0\0\0\x2c\0\x09\0";
    let big: &[u8] = b"\x02\0\0\x28\0\x08\0\x01\x08\0\0\0\0\x05\0\x0a\0\0\0\0\0\x2c\0\x09";
    for header in [little, big] {
        assert_eq!(at(linktype::NFLOG, &[header, V4]), found4(24));
    }
    assert_eq!(at(linktype::NFLOG, &[b"\x02\0\0\x28\x03\0\x01\0", V4]), Not(Reason::Malformed));
    assert_eq!(at(linktype::NFLOG, &[b"\x01\0\0\x28\x08\0\x01\0", V4]), Not(Reason::NotIp));

    // PFLOG: 61 bytes, padded to 64.
    assert_eq!(at(linktype::PFLOG, &[&[61], &[0; 63], V4]), found4(64));
    assert_eq!(at(linktype::ENC, &[b"\x02\0\0\0", &[0; 8], V4]), found4(12));
    // PKTAP: a header of 16 bytes, record type 1, Ethernet.
    let pktap: &[u8] = b"\x10\0\0\0\x01\0\0\0\x01\0\0\0\0\0\0\0";
    assert_eq!(at(linktype::PKTAP, &[pktap, MACS, b"\x08\0", V4]), found4(30));
    assert_eq!(at(linktype::PKTAP, &[b"\x04\0\0\0", &pktap[4..], V4]), Not(Reason::Malformed));
}

#[test]
fn unknown_links_say_so() {
    for link_type in [132, 147, 274, u16::MAX] {
        assert_eq!(at(link_type, &[V4]), Not(Reason::UnsupportedLink));
    }
}

#[test]
fn ip_in_ip_in_all_combinations() {
    assert_eq!(at(linktype::RAW, &[&v4(4, 60), V4]), found4(20));
    assert_eq!(at(linktype::RAW, &[&v4(41, 80), V6]), found6(20));
    assert_eq!(at(linktype::RAW, &[&v6(4, 40), V4]), found4(40));
    assert_eq!(at(linktype::RAW, &[&v6(41, 60), V6]), found6(40));
    // Ethernet in IP (version in two bytes), MPLS in IP, Ethernet as a next header.
    assert_eq!(at(linktype::RAW, &[&v4(97, 76), b"\x30\0", MACS, b"\x08\0", V4]), found4(36));
    assert_eq!(at(linktype::RAW, &[&v4(137, 64), b"\0\x02\x01\x40", V4]), found4(24));
    assert_eq!(at(linktype::RAW, &[&v6(143, 54), MACS, b"\x08\0", V4]), found4(54));
}

#[test]
fn outer_options_and_extension_headers_are_passed() {
    // 24 bytes of header around 40.
    let mut outer = v4(4, 64);
    outer[0] = 0x46;
    assert_eq!(at(linktype::RAW, &[&outer, &[1; 4], V4]), found4(24));
    // Destination options of 8, routing of 24, hop-by-hop of 8 bytes.
    assert_eq!(at(linktype::RAW, &[&v6(60, 68), b"\x06\0", &[0; 6], &V6[40..]]), Ip { offset: 0, wire_len: 68 });
    let chain = join(&[b"\x2b\0", &[0; 6], b"\x29\x02", &[0; 22]]);
    assert_eq!(at(linktype::RAW, &[&v6(0, 92), &chain, V6]), found6(72));
    // Authentication header of 24 bytes (4 + 2 words).
    let ah = join(&[b"\x06\x04", &[0; 22]]);
    assert_eq!(at(linktype::RAW, &[&v4(51, 64), &ah, &V4[20..]]), Ip { offset: 0, wire_len: 64 });
    let ah = join(&[b"\x04\x04", &[0; 22]]);
    assert_eq!(at(linktype::RAW, &[&v6(51, 64), &ah, V4]), found4(64));
}

#[test]
fn fragments() {
    let mut later = V4.to_vec();
    later[7] = 1;
    assert_eq!(at(linktype::RAW, &[&later]), Not(Reason::IpFragment));
    let mut first = V4.to_vec();
    first[6] = 0x20;
    assert_eq!(at(linktype::RAW, &[&first]), found4(0));
    assert_eq!(at(linktype::RAW, &[&v6(44, 28), b"\x06\0\0\x01\0\0\0\x01", &V6[40..]]), Ip { offset: 0, wire_len: 68 });
    assert_eq!(at(linktype::RAW, &[&v6(44, 28), b"\x06\0\0\x08\0\0\0\x01", &V6[40..]]), Not(Reason::IpFragment));
    // The first fragment of a tunnel holds the inner headers.
    let mut outer = v4(4, 60);
    outer[6] = 0x20;
    assert_eq!(at(linktype::RAW, &[&outer, V4]), found4(20));
}

#[test]
fn gre_flags_and_protocols() {
    assert_eq!(gre(b"\0\0\x08\0", &[V4]), found4(24));
    assert_eq!(gre(b"\0\0\x86\xdd", &[V6]), found6(24));
    // Checksum, key, sequence: 4 bytes each.
    assert_eq!(gre(&[&b"\xb0\0\x08\0"[..], &[0; 12]].concat(), &[V4]), found4(36));
    // NVGRE: a key, then Ethernet.
    assert_eq!(gre(b"\x20\0\x65\x58\0\0\x01\0", &[MACS, b"\x08\0", V4]), found4(42));
    assert_eq!(gre(b"\0\0\x88\x47", &[b"\0\x02\x01\x40", V4]), found4(28));
    // Source routes: checksum and offset (4), an entry of 4 + 4, the last of 4.
    assert_eq!(gre(&[&b"\x40\0\x08\0"[..], &[0; 4], b"\x08\0\0\x04", &[0; 4], &[0; 4]].concat(), &[V4]), found4(40));
    // PPTP: key, sequence and acknowledgment, then PPP.
    assert_eq!(gre(&[&b"\x30\x81\x88\x0b"[..], &[0; 12]].concat(), &[b"\xff\x03\0\x21", V4]), found4(40));
    // WCCP, without and with a redirect header.
    assert_eq!(gre(b"\0\0\x88\x3e", &[V4]), found4(24));
    assert_eq!(gre(b"\0\0\x88\x3e", &[b"\0\0\0\0", V4]), found4(28));
    // Aruba: 802.11.
    assert_eq!(gre(b"\0\0\x82\x10", &[b"\x08\x01", &[0; 22], SNAP, V4]), found4(56));
    assert_eq!(gre(b"\0\0\x82\x11", &[b"\x08\x01", &[0; 22], SNAP, V4]), Not(Reason::NotIp));
    // Over IPv6.
    assert_eq!(at(linktype::RAW, &[&v6(47, 44), b"\0\0\x08\0", V4]), found4(44));
}

#[test]
fn erspan_of_three_types() {
    // Type I has no sequence number.
    assert_eq!(gre(b"\0\0\x88\xbe", &[MACS, b"\x08\0", V4]), found4(38));
    let numbered = |protocol: &[u8]| [b"\x10\0", protocol, &[0, 0, 0, 1]].concat();
    assert_eq!(gre(&numbered(b"\x88\xbe"), &[b"\x10\x01\0\0\0\0\0\0", MACS, b"\x08\0", V4]), found4(50));
    // Type III: 12 bytes, 8 more with the O bit; frame type 2 is not Ethernet.
    let third = |last: [u8; 2]| [&b"\x20\x01\0\0\0\0\0\0\0\0"[..], &last].concat();
    assert_eq!(gre(&numbered(b"\x22\xeb"), &[&third([0, 0]), MACS, b"\x08\0", V4]), found4(54));
    assert_eq!(gre(&numbered(b"\x22\xeb"), &[&third([0, 1]), &[0; 8], MACS, b"\x08\0", V4]), found4(62));
    assert_eq!(gre(&numbered(b"\x22\xeb"), &[&third([0x08, 0]), V4]), Not(Reason::NotIp));
}

#[test]
fn tunnels_over_udp() {
    let inner = join(&[MACS, b"\x08\0", V4]);
    assert_eq!(udp(4789, &[b"\x08\0\0\0\0\0\x07\0", &inner]), found4(50));
    // VXLAN-GPE, with and without its P bit.
    assert_eq!(udp(4790, &[b"\x0c\0\0\x01\0\0\x07\0", V4]), found4(36));
    assert_eq!(udp(4790, &[b"\x08\0\0\0\0\0\x07\0", &inner]), Not(Reason::NotIp));
    // NSH of 8 bytes in it.
    assert_eq!(udp(4790, &[b"\x0c\0\0\x04\0\0\x07\0", b"\0\x02\x02\x01\0\0\0\x01", V4]), found4(44));
    // Geneve with 8 bytes of options.
    assert_eq!(udp(6081, &[b"\x02\0\x65\x58\0\0\x07\0", &[0; 8], &inner]), found4(58));
    assert_eq!(udp(6081, &[b"\0\0\x86\xdd\0\0\x07\0", V6]), found6(36));
    assert_eq!(udp(6635, &[b"\0\x02\x01\x40", V4]), found4(32));
    assert_eq!(udp(4754, &[b"\0\0\x08\0", V4]), found4(32));
    assert_eq!(udp(4341, &[b"\x80\0\0\x01\0\0\0\x01", V4]), found4(36));
    // TZSP with a tag of 3 bytes and the end.
    assert_eq!(udp(37008, &[b"\x01\0\0\x01\x0a\x01\x55\x01", &inner]), found4(50));
    // From the tunnel's port to a high one.
    let header: &[u8] = b"\x12\xb5\xc3\x50\0\x46\0\0\x08\0\0\0\0\0\x07\0";
    assert_eq!(at(linktype::RAW, &[&v4(17, 90), header, &inner]), found4(50));
    assert_eq!(udp(53, &[&inner]), Not(Reason::NotTcp));
}

#[test]
fn gtp_user_packets() {
    // Length 40 behind the 8 bytes of header.
    assert_eq!(udp(2152, &[b"\x30\xff\0\x28\0\0\0\x01", V4]), found4(36));
    // Sequence number: 4 bytes. Extension header of 4 bytes behind them.
    assert_eq!(udp(2152, &[b"\x32\xff\0\x2c\0\0\0\x01\0\x07\0\0", V4]), found4(40));
    assert_eq!(udp(2152, &[b"\x34\xff\0\x30\0\0\0\x01\0\0\0\x85\x01\x10\x09\0", V4]), found4(44));
    // The next-extension byte does not count without its flag.
    assert_eq!(udp(2152, &[b"\x32\xff\0\x2c\0\0\0\x01\0\x07\0\x85", V4]), found4(40));
    assert_eq!(udp(2152, &[b"\x30\xff\0\x2c\0\0\0\x01\xff\x03\0\x21", V4]), Not(Reason::NotIp));
    // Echo request; an extension header of no length.
    assert_eq!(udp(2152, &[b"\x32\x01\0\x04\0\0\0\0\0\0\0\0"]), Not(Reason::NotIp));
    assert_eq!(udp(2152, &[b"\x34\xff\0\x30\0\0\0\x01\0\0\0\x85\0\0\0\0", V4]), Not(Reason::Malformed));
}

#[test]
fn ayiya_teredo_and_l2tp() {
    // AYIYA: 2^4 bytes of identity, 5 words of signature.
    assert_eq!(udp(5072, &[b"\x41\x52\x11\x29\0\0\0\0", &[0; 16], &[0; 20], V6]), found6(72));
    assert_eq!(udp(5072, &[b"\x41\x52\x10\x3b\0\0\0\0", &[0; 36]]), Not(Reason::NotTcp));
    // Teredo: bare, with an origin indication, with authentication (2 + 3 bytes of names) and origin.
    assert_eq!(udp(3544, &[V6]), found6(28));
    assert_eq!(udp(3544, &[&[0; 8], V6]), found6(36));
    assert_eq!(udp(3544, &[b"\0\x01\x02\x03", &[7; 5], &[0; 9], &[0; 8], V6]), found6(54));
    // L2TP: the shortest, and with length, sequence and an offset of 2 bytes.
    assert_eq!(udp(1701, &[b"\0\x02\0\x01\0\x01", b"\xff\x03\0\x21", V4]), found4(38));
    let full: &[u8] = b"\x4a\x02\0\x3a\0\x01\0\x01\0\0\0\0\0\x02\0\0";
    assert_eq!(udp(1701, &[full, b"\0\x21", V4]), found4(46));
    assert_eq!(udp(1701, &[b"\xc8\x02\0\x0c\0\0\0\0\0\0\0\0"]), Not(Reason::NotTcp));
}

#[test]
fn what_is_not_tcp() {
    assert_eq!(at(linktype::RAW, &[&v4(1, 28), &[3; 8]]), Not(Reason::NotTcp));
    assert_eq!(at(linktype::RAW, &[&v6(58, 8), &[1; 8]]), Not(Reason::NotTcp));
    assert_eq!(at(linktype::RAW, &[&v6(50, 8), &[1; 8]]), Not(Reason::NotTcp));
}

#[test]
fn truncated_is_captured_too_short_and_malformed_never_had_it() {
    let frame = join(&[MACS, b"\x08\0", V4]);
    for captured in [0, 13, 14, 33] {
        assert_eq!(locate(1, &frame[..captured], 54), Not(Reason::Truncated), "{captured} bytes");
        assert_eq!(locate(1, &frame[..captured], captured as u32), Not(Reason::Malformed), "{captured} bytes");
    }
    // The IP header is there, TCP's is not: that is for the TCP parser to say.
    assert_eq!(locate(1, &frame[..34], 54), found4(14));
    // A header length of 16, and a total length shorter than the header.
    let mut short = V4.to_vec();
    short[0] = 0x44;
    assert_eq!(at(linktype::RAW, &[&short]), Not(Reason::Malformed));
    assert_eq!(at(linktype::RAW, &[&v4(6, 19), &V4[20..]]), Not(Reason::Malformed));
}

#[test]
fn segmentation_offload_has_length_0() {
    let mut packet = V4.to_vec();
    packet[2..4].fill(0);
    // 9000 bytes on the wire, 54 captured.
    assert_eq!(locate(1, &join(&[MACS, b"\x08\0", &packet]), 9000), Ip { offset: 14, wire_len: 8986 });
    // In a tunnel: the outer packet has no length either.
    let tunnel = join(&[&v4(4, 0), &packet]);
    assert_eq!(locate(101, &tunnel, 9000), Ip { offset: 20, wire_len: 8980 });
    assert_eq!(locate(101, &join(&[&v6(6, 0), &V6[40..]]), 100_000), Ip { offset: 0, wire_len: 100_000 });
}

#[test]
fn depth_is_bounded() {
    // Eight IP headers are looked at: seven around the last.
    for (around, found) in [(7, true), (8, false)] {
        let mut frame = Vec::new();
        for n in (1..=around).rev() {
            frame.extend(v4(4, 40 + 20 * n));
        }
        frame.extend(V4);
        let expected = if found { found4(20 * usize::from(around)) } else { Not(Reason::TooDeep) };
        assert_eq!(at(linktype::RAW, &[&frame]), expected);
    }
    let tags = b"\x81\0\0\x01".repeat(60);
    assert_eq!(ethernet(&[&tags, b"\x08\0", V4]), Not(Reason::TooDeep));
}

#[test]
fn reasons_have_distinct_names_and_numbers() {
    for (n, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason as usize, n);
        assert!(reason.name().bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
        assert_eq!(Reason::ALL.iter().filter(|r| r.name() == reason.name()).count(), 1);
    }
}
