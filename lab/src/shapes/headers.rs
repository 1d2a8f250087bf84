//! Link, IP and TCP headers: what surrounds a segment, whole, odd, cut short and wrong.

use super::talk::{Book, linux_syn_options};
use super::wire::*;

const QINQ: (u16, u16) = (0x88a8, 200);
const VLAN: (u16, u16) = (0x8100, 0x2064);
const OLD_QINQ: (u16, u16) = (0x9100, 300);
const UDP: u8 = 17;

pub fn all(book: &mut Book) {
    whole_conversations(book);
    fragments(book);
    padding(book);
    big_tcp(book);
    cut_short(book);
    wrong_lengths(book);
    other_protocols(book);
}

/// One conversation in each envelope.
fn whole_conversations(book: &mut Book) {
    let options = |bytes: &[u8]| {
        let ip = Ip::V4 { options: bytes.to_vec(), authenticated: false };
        Envelope { ip, ..Envelope::v4() }
    };
    let mut record_route = vec![7, 39, 4];
    record_route.resize(40, 0);
    let authenticated = Ip::V4 { options: Vec::new(), authenticated: true };
    let (hop, destination) = (Extension::options(HOP_BY_HOP, 1), Extension::options(DESTINATION, 3));
    // The most that are read, and one more.
    let six = [
        hop.clone(),
        destination.clone(),
        Extension::routing(),
        Extension::fragment(0, false),
        Extension::authentication(),
        destination.clone(),
    ];
    let seven = [&six[..], &[Extension::options(DESTINATION, 1)]].concat();
    let long = Extension::options(DESTINATION, 25);
    let envelopes = [
        Envelope::v4(),
        Envelope::v4().tagged(&[VLAN]),
        Envelope::v4().tagged(&[QINQ, VLAN]),
        Envelope::v4().tagged(&[OLD_QINQ, QINQ, VLAN]),
        Envelope::v4().tagged(&[VLAN, VLAN]),
        options(&[148, 4, 0, 0]),
        options(&[1, 1, 1, 0]),
        options(&record_route),
        options(&record_route).tagged(&[VLAN]),
        Envelope { ip: authenticated, ..Envelope::v4() },
        Envelope::v6(&[]),
        Envelope::v6(&[]).tagged(&[VLAN]),
        Envelope::v6(&[]).tagged(&[QINQ, VLAN]),
        Envelope::v6(std::slice::from_ref(&hop)),
        Envelope::v6(std::slice::from_ref(&destination)),
        Envelope::v6(&[Extension::routing()]),
        Envelope::v6(&[Extension::fragment(0, false)]),
        Envelope::v6(&[Extension::authentication()]),
        Envelope::v6(&[hop.clone(), Extension::routing(), destination.clone()]).tagged(&[VLAN]),
        Envelope::v6(std::slice::from_ref(&long)),
        Envelope::v6(&six),
        Envelope::v6(&six).tagged(&[OLD_QINQ, QINQ, VLAN]),
    ];
    for envelope in envelopes {
        book.talk(envelope).whole();
    }
    // Too many of them: counted, not tracked.
    let too_long = [long.clone(), long.clone(), long.clone(), long.clone(), long.clone(), long];
    for envelope in [
        Envelope::v4().tagged(&[OLD_QINQ, QINQ, VLAN, VLAN]),
        Envelope::v6(&[]).tagged(&[VLAN, VLAN, VLAN, VLAN]),
        Envelope::v6(&seven),
        Envelope::v6(&too_long),
    ] {
        book.talk(envelope).open();
    }
}

/// The first fragment has the TCP header and is tracked, the others are counted.
fn fragments(book: &mut Book) {
    let mut talk = book.talk(Envelope::v4());
    talk.open();
    let whole = talk.tcp(End::Client, talk.nxt(End::Client), talk.nxt(End::Server), PSH | ACK, &[], 1204);
    let bytes = whole.bytes(End::Client, &talk.envelope);
    for (offset, piece) in [(0, &bytes[..600]), (600, &bytes[600..1200]), (1200, &bytes[1200..])] {
        let last = offset == 1200;
        let mut frame = talk.envelope.around(End::Client, TCP, piece);
        let flags = if last { 0 } else { 0x2000 } | (offset / 8) as u16;
        frame[18..20].copy_from_slice(&0x4711_u16.to_be_bytes());
        frame[20..22].copy_from_slice(&flags.to_be_bytes());
        set_ipv4_checksum(&mut frame[14..]);
        talk.book.frame(frame);
    }
    talk.skip(End::Client, 1204);
    talk.ack(End::Server);
    talk.close(End::Client);

    let mut talk = book.talk(Envelope::v6(&[]));
    talk.open();
    let whole = talk.tcp(End::Client, talk.nxt(End::Client), talk.nxt(End::Server), PSH | ACK, &[], 1204);
    let bytes = whole.bytes(End::Client, &talk.envelope);
    for (offset, piece) in [(0, &bytes[..600]), (600, &bytes[600..1200]), (1200, &bytes[1200..])] {
        let envelope = Envelope::v6(&[Extension::fragment(offset / 8, offset != 1200)]);
        talk.book.frame(envelope.around(End::Client, TCP, piece));
    }
    talk.skip(End::Client, 1204);
    talk.ack(End::Server);
    talk.close(End::Client);

    // A first fragment that ends inside the TCP header (RFC 1858).
    let mut talk = book.talk(Envelope::v4());
    let syn = talk.tcp(End::Client, 1, 0, SYN, &[], 0).bytes(End::Client, &talk.envelope);
    let mut frame = Envelope::default().around(End::Client, TCP, &syn[..8]);
    frame[20..22].copy_from_slice(&0x2000_u16.to_be_bytes());
    set_ipv4_checksum(&mut frame[14..]);
    talk.book.frame(frame);
}

/// Ethernet frames have 60 bytes at least; what pads them is not data.
fn padding(book: &mut Book) {
    for padding in [0, 0xff, SYN as u8] {
        book.talk(Envelope { padding, ..Envelope::v4() }).whole();
    }
    // Unpadded, as a host sees its own frames; and padded further than needed.
    book.talk(Envelope { padded_to: 0, ..Envelope::v4() }).whole();
    book.talk(Envelope { padded_to: 90, padding: 0x55, ..Envelope::v6(&[]) }).whole();
    book.talk(Envelope { padded_to: 64, padding: 0x55, ..Envelope::v4().tagged(&[VLAN]) }).whole();
}

/// Super-packets of BIG TCP: the length in the IP header is 0.
fn big_tcp(book: &mut Book) {
    const LEN: usize = 3000;
    let mut talk = book.talk(Envelope { padded_to: 0, ..Envelope::v4() });
    talk.open();
    talk.data(End::Server, LEN);
    talk.ack(End::Client);
    zero_length_from_here(&mut talk, 16, LEN);
    talk.close(End::Server);

    // IPv6 without the option.
    let mut talk = book.talk(Envelope { padded_to: 0, ..Envelope::v6(&[]) });
    talk.open();
    zero_length_from_here(&mut talk, 18, LEN);
    talk.close(End::Server);

    // With it, right, behind other options (where it is not looked for), and larger than what was captured.
    for (extension, len, wire_len) in [
        (Extension::jumbo((8 + 20 + LEN) as u32), LEN, LEN),
        (Extension::jumbo_behind_padding((16 + 20 + LEN) as u32), LEN, LEN),
        (Extension::jumbo(8 + 20 + 150_000), 100, 150_000),
        // The option says less than its own header takes.
        (Extension::jumbo(4), 100, 100),
    ] {
        let mut talk = book.talk(Envelope { padded_to: 0, ..Envelope::v6(&[]) });
        talk.open();
        let envelope = Envelope { padded_to: 0, ..Envelope::v6(&[extension]) };
        let (seq, ack) = (talk.nxt(End::Server), talk.nxt(End::Client));
        let tcp = talk.tcp(End::Server, seq, ack, PSH | ACK, &[], len);
        let mut frame = envelope.around(End::Server, TCP, &tcp.bytes(End::Server, &envelope));
        frame[18..20].fill(0);
        let missing = wire_len - len;
        let on_wire = frame.len() + missing;
        talk.book.cut(frame, on_wire);
        talk.skip(End::Server, wire_len as u32);
        talk.ack(End::Client);
        talk.close(End::Server);
    }
}

/// One super-packet of the server and its acknowledgement; the length field is at `length_at`.
fn zero_length_from_here(talk: &mut super::talk::Talk, length_at: usize, len: usize) {
    let (seq, ack) = (talk.nxt(End::Server), talk.nxt(End::Client));
    let tcp = talk.tcp(End::Server, seq, ack, PSH | ACK, &[], len);
    let mut frame = talk.envelope.around(End::Server, TCP, &tcp.bytes(End::Server, &talk.envelope));
    frame[length_at..length_at + 2].fill(0);
    if length_at == 16 {
        set_ipv4_checksum(&mut frame[14..]);
    }
    talk.book.frame(frame);
    talk.skip(End::Server, len as u32);
    talk.ack(End::Client);
}

/// The same SYN cut behind every byte of its headers. A frame of nothing but a link header is not
/// among them: no kernel lets the egress program be tried on one.
fn cut_short(book: &mut Book) {
    let hop = Extension::options(HOP_BY_HOP, 1);
    for envelope in [
        Envelope::v4(),
        Envelope::v4().tagged(&[QINQ, VLAN]),
        Envelope { ip: Ip::V4 { options: vec![148, 4, 0, 0], authenticated: false }, ..Envelope::v4() },
        Envelope { ip: Ip::V4 { options: Vec::new(), authenticated: true }, ..Envelope::v4() },
        Envelope::v6(&[hop, Extension::fragment(0, false), Extension::authentication()]),
    ] {
        let mut talk = book.talk(envelope);
        let stamps = [linux_syn_options(7), option::timestamps(5, 0), vec![option::NOP; 2]].concat();
        let tcp = talk.tcp(End::Client, talk.nxt(End::Client), 0, SYN, &stamps, 0);
        let frame = talk.envelope.around(End::Client, TCP, &tcp.bytes(End::Client, &talk.envelope));
        for len in 15..=frame.len() {
            talk.book.cut(frame[..len].to_vec(), frame.len());
        }
    }
    // Data whose headers are all there.
    let mut talk = book.talk(Envelope::v4());
    talk.open();
    for kept in [54, 60, 200] {
        let (seq, ack) = (talk.nxt(End::Client), talk.nxt(End::Server));
        let tcp = talk.tcp(End::Client, seq, ack, PSH | ACK, &[], 1460);
        let frame = talk.envelope.around(End::Client, TCP, &tcp.bytes(End::Client, &talk.envelope));
        talk.book.cut(frame[..kept].to_vec(), frame.len());
        talk.skip(End::Client, 1460);
    }
    talk.ack(End::Server);
    talk.close(End::Server);
}

/// Lengths and versions that cannot be.
fn wrong_lengths(book: &mut Book) {
    let mut talk = book.talk(Envelope::v4());
    talk.open();
    // Data offset below 5, and beyond the packet.
    for data_offset in [0, 1, 4, 6, 15] {
        for len in [0, 2, 8] {
            let mut tcp = talk.tcp(End::Client, talk.nxt(End::Client), talk.nxt(End::Server), ACK, &[], len);
            tcp.data_offset = Some(data_offset);
            let frame = talk.envelope.around(End::Client, TCP, &tcp.bytes(End::Client, &talk.envelope));
            talk.book.frame(frame);
        }
    }
    // IPv4: (offset in the header, value)
    let changes: [(usize, &[u8]); 9] = [
        (0, &[0x44]),       // header length below 20
        (0, &[0x40]),       // none
        (0, &[0x4f]),       // options that are not there
        (0, &[0x65]),       // version 6
        (0, &[0x05]),       // version 0
        (2, &[0, 19]),      // total length below the header's
        (2, &[0, 20]),      // no room for TCP
        (2, &[0, 39]),      // not enough
        (2, &[0xff, 0xff]), // more than the frame has
    ];
    for (at, value) in changes {
        let tcp = talk.tcp(End::Client, talk.nxt(End::Client), talk.nxt(End::Server), ACK, &[], 0);
        let mut frame = talk.envelope.around(End::Client, TCP, &tcp.bytes(End::Client, &talk.envelope));
        frame[14 + at..14 + at + value.len()].copy_from_slice(value);
        set_ipv4_checksum(&mut frame[14..]);
        talk.book.frame(frame);
    }
    // An authentication header that is longer than the packet, and one around something else.
    let authenticated = Envelope { ip: Ip::V4 { options: Vec::new(), authenticated: true }, ..Envelope::v4() };
    let tcp = talk.tcp(End::Client, talk.nxt(End::Client), talk.nxt(End::Server), ACK, &[], 0);
    for (at, value) in [(35, 255), (35, 0), (34, UDP)] {
        let mut frame = authenticated.around(End::Client, TCP, &tcp.bytes(End::Client, &authenticated));
        frame[at] = value;
        talk.book.frame(frame);
    }

    let mut talk = book.talk(Envelope::v6(&[]));
    talk.open();
    let changes: [(usize, &[u8]); 6] = [
        (0, &[0x40]),       // version 4
        (0, &[0x70]),       // version 7
        (4, &[0, 19]),      // no room for TCP
        (4, &[0xff, 0xff]), // more than the frame has
        (6, &[FRAGMENT]),   // the TCP header taken for a fragment header
        (6, &[HOP_BY_HOP]), // and for options
    ];
    for (at, value) in changes {
        let tcp = talk.tcp(End::Client, talk.nxt(End::Client), talk.nxt(End::Server), ACK, &[], 0);
        let mut frame = talk.envelope.around(End::Client, TCP, &tcp.bytes(End::Client, &talk.envelope));
        frame[14 + at..14 + at + value.len()].copy_from_slice(value);
        talk.book.frame(frame);
    }
}

/// What is not ours, by the thousands on every wire.
fn other_protocols(book: &mut Book) {
    const ICMP: u8 = 1;
    const ESP: u8 = 50;
    const ICMPV6: u8 = 58;
    const NO_NEXT_HEADER: u8 = 59;
    const SCTP: u8 = 132;
    let (v4, v6) = (Envelope::v4(), Envelope::v6(&[]));
    for protocol in [UDP, ICMP, ESP, SCTP, 0, 255] {
        book.frame(v4.around(End::Client, protocol, &[0x11; 32]));
    }
    for protocol in [UDP, ICMPV6, ESP, NO_NEXT_HEADER, SCTP] {
        book.frame(v6.around(End::Client, protocol, &[0x11; 32]));
    }
    let behind = Envelope::v6(&[Extension::options(HOP_BY_HOP, 1)]);
    book.frame(behind.around(End::Client, ICMPV6, &[0x11; 32]));
    book.frame(v4.clone().tagged(&[VLAN]).around(End::Client, UDP, &[0x11; 32]));
    // ARP, LLDP, MPLS, PPPoE, 802.3 with a length, flow control, a tag around nothing known.
    for ethertype in [0x0806, 0x88cc, 0x8847, 0x8864, 0x0026, 0x8808, 0xffff] {
        for envelope in [v4.clone(), v4.clone().tagged(&[VLAN])] {
            let mut frame = envelope.link(End::Client, ethertype);
            frame.resize(60, 0);
            book.frame(frame);
        }
    }
    // IP in IP, and an Ethernet type that lies about the version.
    book.frame(v4.around(End::Client, 4, &v4.around(End::Client, TCP, &[0x22; 20])[14..]));
    for (envelope, ethertype) in [(&v4, 0x86dd_u16), (&v6, 0x0800)] {
        let tcp = Tcp { client_port: 1, server_port: 2, flags: SYN, ..Tcp::default() };
        let mut frame = envelope.around(End::Client, TCP, &tcp.bytes(End::Client, envelope));
        let at = envelope.ip_at() - 2;
        frame[at..at + 2].copy_from_slice(&ethertype.to_be_bytes());
        book.frame(frame);
    }
}
