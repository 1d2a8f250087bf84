//! ICMP errors about TCP segments: which connection and number they quote (RFC 792, RFC 1191, RFC 4443, RFC 8201).
//!
//! A message counts only for a connection that is tracked, and only if the quoted number is one that its sender has
//! outstanding ([`crate::engine::on_quote`]): anybody can send ICMP (RFC 5927).

use crate::anomaly::Anomaly;
use crate::flow::{Addr, FlowKey, v4};
use crate::parse::{Bytes, PROTO_ICMP, Reason, View, link, pair, received_link};
use crate::seq::SeqNum;
use bytemuck::{Pod, Zeroable};

/// What a message says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Quote {
    pub key: FlowKey,
    /// Sequence number of the quoted segment.
    pub seq: SeqNum,
    /// MTU in bytes of [`Anomaly::IcmpFragNeeded`] (0: a router that does not tell, RFC 1191 section 5); type << 8 | code
    /// of [`Anomaly::IcmpUnreach`].
    pub value: u32,
    /// Number of the [`Anomaly`].
    pub anomaly: u8,
    /// [`crate::flow::Direction`] of the quoted segment.
    pub speaker: u8,
    pub pad: [u8; 6],
}

const PROTO_TCP: u8 = 6;
const PROTO_ICMPV6: u8 = 58;
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// IP header and ICMP header in front of the quotation, on top of the link's 26 bytes: 60 + 8.
const QUOTE_AT: u32 = 127;
/// ... and the quoted IP header.
const TCP_AT: u32 = 255;

/// Reads the quotation in an Ethernet frame; false: there is none.
#[inline(always)]
pub fn ethernet<B: Bytes>(bytes: B, out: &mut Quote) -> bool {
    network(bytes, link(bytes), out)
}

/// As [`ethernet`], for a socket buffer that came in; see [`crate::parse::received`].
#[inline(always)]
pub fn received<B: Bytes>(bytes: B, protocol: u16, out: &mut Quote) -> bool {
    network(bytes, received_link(bytes, protocol), out)
}

#[inline(always)]
fn network<B: Bytes>(bytes: B, start: Result<(u16, usize), Reason>, out: &mut Quote) -> bool {
    match start {
        Ok((ETHERTYPE_IPV4, offset)) => ipv4(bytes, offset, out),
        Ok((ETHERTYPE_IPV6, offset)) => ipv6(bytes, offset, out),
        _ => false,
    }
}

/// As [`ethernet`], for an IP packet that starts at `offset`.
#[inline]
pub fn ip<B: Bytes>(bytes: B, offset: usize, out: &mut Quote) -> bool {
    match bytes.at(offset, 2) {
        Some(start) if start.byte(0) >> 4 == 4 => ipv4(bytes, offset, out),
        Some(start) if start.byte(0) >> 4 == 6 => ipv6(bytes, offset, out),
        _ => false,
    }
}

#[inline(always)]
fn ipv4<B: Bytes>(bytes: B, offset: usize, out: &mut Quote) -> bool {
    let Some(h) = bytes.at(offset, 20) else { return false };
    let len = ((h.byte(0) & 0x0f) as usize) << 2;
    // Only a first fragment has the ICMP header.
    if h.byte(0) >> 4 != 4 || len < 20 || h.byte(9) != PROTO_ICMP || h.be16(6) & 0x1fff != 0 {
        return false;
    }
    let at = bytes.forget((offset + len) as u32, QUOTE_AT) as usize;
    let Some(icmp) = bytes.at(at, 8) else { return false };
    let (kind, code) = (icmp.byte(0), icmp.byte(1));
    // Destination unreachable; code 4 is "fragmentation needed and DF set" with the next hop's MTU.
    if kind != 3 {
        return false;
    }
    let too_big = code == 4;
    out.anomaly = if too_big { Anomaly::IcmpFragNeeded } else { Anomaly::IcmpUnreach } as u8;
    out.value = if too_big { icmp.be16(6) as u32 } else { (kind as u32) << 8 | code as u32 };
    let Some(quoted) = bytes.at(at + 8, 20) else { return false };
    let len = ((quoted.byte(0) & 0x0f) as usize) << 2;
    if quoted.byte(0) >> 4 != 4 || len < 20 || quoted.byte(9) != PROTO_TCP || quoted.be16(6) & 0x1fff != 0 {
        return false;
    }
    let (src, dst) = (v4(quoted.be32(12)), v4(quoted.be32(16)));
    let tcp_at = bytes.forget((at + 8 + len) as u32, TCP_AT) as usize;
    tcp(bytes, tcp_at, src, dst, out)
}

#[inline(always)]
fn ipv6<B: Bytes>(bytes: B, offset: usize, out: &mut Quote) -> bool {
    let Some(h) = bytes.at(offset, 40) else { return false };
    if h.byte(0) >> 4 != 6 || h.byte(6) != PROTO_ICMPV6 {
        return false;
    }
    let at = bytes.forget((offset + 40) as u32, QUOTE_AT) as usize;
    let Some(icmp) = bytes.at(at, 8) else { return false };
    let (kind, code) = (icmp.byte(0), icmp.byte(1));
    // RFC 4443: 1 is "destination unreachable", 2 is "packet too big" with the next hop's MTU.
    if kind != 1 && kind != 2 {
        return false;
    }
    let too_big = kind == 2;
    out.anomaly = if too_big { Anomaly::IcmpFragNeeded } else { Anomaly::IcmpUnreach } as u8;
    out.value = if too_big { icmp.be32(4) } else { (kind as u32) << 8 | code as u32 };
    let Some(quoted) = bytes.at(at + 8, 40) else { return false };
    if quoted.byte(0) >> 4 != 6 || quoted.byte(6) != PROTO_TCP {
        return false;
    }
    let src = [pair(quoted.be32(8), quoted.be32(12)), pair(quoted.be32(16), quoted.be32(20))];
    let dst = [pair(quoted.be32(24), quoted.be32(28)), pair(quoted.be32(32), quoted.be32(36))];
    let tcp_at = bytes.forget((at + 48) as u32, TCP_AT) as usize;
    tcp(bytes, tcp_at, src, dst, out)
}

/// Ports and number: the eight bytes that every message quotes (RFC 792).
#[inline(always)]
fn tcp<B: Bytes>(bytes: B, offset: usize, src: Addr, dst: Addr, out: &mut Quote) -> bool {
    let Some(h) = bytes.at(offset, 8) else { return false };
    let (key, speaker) = FlowKey::canonical(src, h.be16(0), dst, h.be16(2));
    out.key = key;
    out.speaker = speaker as u8;
    out.seq = SeqNum(h.be32(4));
    true
}
