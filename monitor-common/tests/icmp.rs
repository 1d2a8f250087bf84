//! ICMP errors about TCP segments (RFC 792, 1191, 4443, 8201, 5927).

mod support;

use monitor_common::Anomaly;
use monitor_common::engine;
use monitor_common::flow::{Direction, FlowKey, v4};
use monitor_common::icmp::{self, Quote};
use monitor_common::seq::SeqNum;
use support::*;

const A4: u32 = 0x0a00_0001;
const B4: u32 = 0x0a00_0002;
const ROUTER: u32 = 0x0a00_00fe;

fn ethernet(tags: usize, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut b = vec![2; 12];
    for _ in 0..tags {
        b.extend([0x81, 0x00, 0x00, 0x07]);
    }
    b.extend(ethertype.to_be_bytes());
    b.extend(payload);
    b
}

fn ipv4(protocol: u8, fragment: u16, options: usize, src: u32, dst: u32, payload: &[u8]) -> Vec<u8> {
    let mut b = vec![0x45 + options as u8, 0];
    b.extend((20 + 4 * options as u16 + payload.len() as u16).to_be_bytes());
    b.extend([0, 9]);
    b.extend(fragment.to_be_bytes());
    b.extend([64, protocol, 0, 0]);
    b.extend(src.to_be_bytes());
    b.extend(dst.to_be_bytes());
    b.resize(20 + 4 * options, 1);
    b.extend(payload);
    b
}

fn ipv6(next: u8, src: u8, dst: u8, payload: &[u8]) -> Vec<u8> {
    let mut b = vec![0x60, 0, 0, 0];
    b.extend((payload.len() as u16).to_be_bytes());
    b.extend([next, 64]);
    for last in [src, dst] {
        b.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    b.extend(payload);
    b
}

/// The eight bytes that every router quotes.
fn quoted_tcp(src: u16, dst: u16, seq: u32) -> Vec<u8> {
    [&src.to_be_bytes()[..], &dst.to_be_bytes(), &seq.to_be_bytes()].concat()
}

fn message(kind: u8, code: u8, rest: u32, quoted: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0][..], &rest.to_be_bytes(), quoted].concat()
}

fn frame4(kind: u8, code: u8, rest: u32, quoted: &[u8]) -> Vec<u8> {
    ethernet(0, 0x0800, &ipv4(1, 0, 0, ROUTER, A4, &message(kind, code, rest, quoted)))
}

fn read(frame: &[u8]) -> Option<Quote> {
    let mut quote = Quote::default();
    icmp::ethernet(frame, &mut quote).then_some(quote)
}

fn segment4() -> Vec<u8> {
    ipv4(6, 0x4000, 0, A4, B4, &quoted_tcp(40_000, 80, 0xfedc_ba98))
}

#[test]
fn fragmentation_needed_tells_the_mtu() {
    let q = read(&frame4(3, 4, 1_400, &segment4())).unwrap();
    let (key, speaker) = FlowKey::canonical(v4(A4), 40_000, v4(B4), 80);
    assert_eq!((q.key, q.speaker, q.seq), (key, speaker as u8, SeqNum(0xfedc_ba98)));
    assert_eq!((q.anomaly, q.value), (Anomaly::IcmpFragNeeded as u8, 1_400));
    // The upper half of the word is unused (RFC 1191 section 4).
    assert_eq!(read(&frame4(3, 4, 0xffff_0000 | 576, &segment4())).unwrap().value, 576);
}

#[test]
fn unreachable_tells_type_and_code() {
    for code in [0, 1, 2, 3, 9, 10, 13] {
        let q = read(&frame4(3, code, 0, &segment4())).unwrap();
        assert_eq!((q.anomaly, q.value), (Anomaly::IcmpUnreach as u8, 0x300 | u32::from(code)));
    }
}

#[test]
fn the_quoted_sender_is_the_speaker() {
    let answer = ipv4(6, 0, 0, B4, A4, &quoted_tcp(80, 40_000, 7));
    let (q, p) = (read(&frame4(3, 1, 0, &answer)).unwrap(), read(&frame4(3, 1, 0, &segment4())).unwrap());
    assert_eq!(q.key, p.key);
    assert_ne!(q.speaker, p.speaker);
}

#[test]
fn headers_may_have_options_and_tags() {
    let quoted = ipv4(6, 0, 10, A4, B4, &quoted_tcp(40_000, 80, 5));
    for tags in 0..=3 {
        for options in [0, 1, 10] {
            let packet = ipv4(1, 0, options, ROUTER, A4, &message(3, 4, 1_280, &quoted));
            let q = read(&ethernet(tags, 0x0800, &packet)).unwrap();
            assert_eq!((q.seq, q.value), (SeqNum(5), 1_280));
            let mut of_ip = Quote::default();
            assert!(icmp::ip(&packet[..], 0, &mut of_ip));
            assert_eq!(of_ip, q);
        }
    }
}

#[test]
fn ipv6_messages() {
    let segment = ipv6(6, 1, 2, &quoted_tcp(40_000, 443, 9));
    let frame = |kind, code, rest| ethernet(0, 0x86dd, &ipv6(58, 0xfe, 1, &message(kind, code, rest, &segment)));
    let q = read(&frame(2, 0, 1_280)).unwrap();
    assert_eq!((q.anomaly, q.value, q.seq), (Anomaly::IcmpFragNeeded as u8, 1_280, SeqNum(9)));
    assert_eq!((q.key.addr[0], q.key.port), ([0x2001_0db8_0000_0000, 1], [40_000, 443]));
    assert_eq!(q.speaker, Direction::Forward as u8);
    let q = read(&frame(1, 4, 0)).unwrap();
    assert_eq!((q.anomaly, q.value), (Anomaly::IcmpUnreach as u8, 0x104));
    assert!(read(&frame(3, 0, 0)).is_none(), "time exceeded");
    assert!(read(&frame(128, 0, 0)).is_none(), "echo request");
}

#[test]
fn what_quotes_no_segment_is_nothing() {
    assert!(read(&frame4(8, 0, 0, &segment4())).is_none(), "echo request");
    assert!(read(&frame4(11, 0, 0, &segment4())).is_none(), "time exceeded");
    assert!(read(&frame4(3, 3, 0, &ipv4(17, 0, 0, A4, B4, &quoted_tcp(1, 2, 3)))).is_none(), "UDP");
    assert!(read(&frame4(3, 3, 0, &ipv4(6, 5, 0, A4, B4, &quoted_tcp(1, 2, 3)))).is_none(), "later fragment");
    assert!(read(&ethernet(0, 0x0800, &ipv4(1, 5, 0, ROUTER, A4, &message(3, 4, 1, &segment4())))).is_none());
    assert!(read(&ethernet(0, 0x0806, &[0; 28])).is_none(), "ARP");
    let whole = frame4(3, 4, 1_400, &segment4());
    for len in 0..whole.len() {
        assert!(read(&whole[..len]).is_none(), "{len}");
    }
}

/// What A's segment at `seq` being too big is worth.
fn told(t: &mut Talk, who: Who, seq: i64) -> String {
    let number = SeqNum(t.iss[who as usize].wrapping_add(seq as u32));
    let quote = Quote {
        key: t.c.key,
        seq: number,
        value: 1_280,
        anomaly: Anomaly::IcmpFragNeeded as u8,
        speaker: t.dir(who) as u8,
        ..Quote::default()
    };
    let before = t.c;
    engine::on_quote(&t.c, &quote, &mut t.notes);
    assert_eq!(before, t.c);
    if let Some(note) = t.noted(Anomaly::IcmpFragNeeded) {
        assert_eq!((note.expected, note.actual), (number, SeqNum(1_280)));
    }
    t.words()
}

/// RFC 5927 section 4.1: only what is outstanding.
#[test]
fn only_a_segment_in_flight_counts() {
    Talk::each_open(|t| {
        quiet!(t.a(data(1, 1000, 1)));
        quiet!(t.a(data(1001, 1000, 1)));
        quiet!(t.b(bare(1, 1001)));
        for (seq, counts) in [(1, false), (1000, false), (1001, true), (2000, true), (2001, false), (-70_000, false)] {
            assert_eq!(told(t, A, seq), if counts { "A icmp_frag_needed" } else { "" }, "{seq}");
        }
        assert_eq!(told(t, B, 1), "", "B sent nothing");
    });
}

#[test]
fn a_syn_can_be_undeliverable() {
    Talk::each(|t| {
        quiet!(t.a(syn()));
        assert_eq!(told(t, A, 0), "A icmp_frag_needed");
        assert_eq!(told(t, A, 1), "");
        assert_eq!(told(t, B, 0), "");
    });
}

/// Without a SYN and an acknowledgement nothing bounds what is outstanding.
#[test]
fn without_any_bound_nothing_counts() {
    Talk::each(|t| {
        quiet!(t.a(data(70_001, 1000, 1)));
        assert_eq!(told(t, A, 70_001), "");
    });
}
