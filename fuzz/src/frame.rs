//! Any bytes as an Ethernet frame, and as an IP packet: the parser that the kernel programs run.

use monitor_common::Anomaly;
use monitor_common::icmp::{self, Quote};
use monitor_common::parse::{self, Glance, Packet, Reason};
use monitor_common::segment::{Segment, opt, packet};

pub fn run(data: &[u8]) {
    let mut out = Packet::default();
    let wire_len = data.len() as u32;
    // Only decides whether egress makes a packet linear; it must not panic either.
    let _ = parse::has_headers(data);
    // What the frame before left in the memory is no part of what is read of this one.
    let segment = Segment { sack_count: 3, mss: 9, tsval: 9, options: u16::MAX, packet: u16::MAX, ..out.segment };
    let (mut glanced, mut received) = (Packet { segment, ..out }, out);
    let parsed = parse::ethernet_in_general(data, wire_len, &mut out);
    match parsed {
        Ok(()) => check(&out, data.len()),
        Err(reason) => assert!(!reason.name().is_empty()),
    }
    // What is no segment may quote one.
    let mut quote = Quote::default();
    match parse::glance(data, wire_len, &mut glanced) {
        Glance::Segment => {
            assert_eq!((parsed, out), (Ok(()), glanced));
            // With the EtherType that the stack found in it.
            assert_eq!(parse::received(data, parse::ETHERTYPE_IPV4, wire_len, &mut received), Ok(()));
            assert_eq!(received, glanced);
        }
        Glance::Other => {
            assert_eq!(parsed, Err(Reason::NotTcp));
            assert_eq!(parse::received(data, parse::ETHERTYPE_IPV4, 0, &mut out), Err(Reason::NotTcp));
            assert!(!icmp::ethernet(data, &mut quote) && !icmp::received(data, parse::ETHERTYPE_IPV4, &mut quote));
        }
        Glance::Unclear => {}
    }
    for quotes in [icmp::ethernet(data, &mut quote), icmp::ip(data, 14, &mut quote), icmp::ip(data, 0, &mut quote)] {
        assert!(!quotes || data.len() >= 20 + 8 + 20 + 8 && Anomaly::from_number(quote.anomaly).is_some());
    }
    // As at ingress, where the frame's length is not known.
    let _ = parse::ethernet(data, 0, &mut out);
    for offset in [0, 14] {
        if parse::ip(data, offset, wire_len, &mut out).is_ok() {
            check(&out, data.len());
        }
    }
}

fn check(p: &Packet, frame: usize) {
    let s = &p.segment;
    assert!(p.direction <= 1);
    assert!(p.key.addr[0] < p.key.addr[1] || p.key.addr[0] == p.key.addr[1] && p.key.port[0] <= p.key.port[1]);
    assert!(frame >= 40 || s.packet & packet::IPV6 == 0);
    options(s);
}

/// What holds for options however they were written.
pub fn options(s: &Segment) {
    assert!(s.wscale <= 14);
    assert!(s.sack_count <= 4);
    assert!(s.sack_count == 0 || s.has_option(opt::SACK));
}
