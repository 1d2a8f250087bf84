//! TCP packets of captures as bytes that can be rewritten: numbers, addresses, IP version, link layer, times. Checksums
//! follow by difference (RFC 1624), so that a right one stays right and a wrong one wrong.

use crate::wire::{Record, fold, sum};
use capture_file::Reader;
use capture_file::link::{Located, locate};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// A whole TCP header in an IP packet that is no fragment; what follows it may be cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub time_ns: u64,
    pub from: (IpAddr, u16),
    pub to: (IpAddr, u16),
    /// TTL or hop limit, TOS, IPv4 ID and fragment field.
    ttl: u8,
    tos: u8,
    id: [u8; 4],
    label: u32,
    /// Header and what was captured of the payload.
    tcp: Vec<u8>,
    /// Of header and payload on the wire.
    tcp_len: u32,
}

/// The datagrams of a capture, and how many of its packets are something else.
pub fn read(path: &Path) -> (Vec<Datagram>, usize) {
    let (mut found, mut others) = (Vec::new(), 0);
    let Ok(mut reader) = Reader::open(path) else { return (found, others) };
    while let Ok(Some(frame)) = reader.next() {
        let parsed = match locate(frame.link_type, frame.data, frame.wire_len) {
            Located::Ip { offset, wire_len } => {
                // Damaged times; files hold seconds in 32 bits.
                Datagram::parse(&frame.data[offset..], wire_len, frame.time_ns.min(3_900_000_000 * 1_000_000_000))
            }
            Located::Not(_) => None,
        };
        match parsed {
            Some(datagram) => found.push(datagram),
            None => others += 1,
        }
    }
    (found, others)
}

impl Datagram {
    /// From the bytes of an IP packet. Fragments, extension headers, BIG TCP and cut headers are left to the tests of
    /// the parser.
    pub fn parse(ip: &[u8], wire_len: u32, time_ns: u64) -> Option<Datagram> {
        let be16 = |at: usize| Some(u16::from_be_bytes([*ip.get(at)?, *ip.get(at + 1)?]));
        let (header, total, addresses);
        let (ttl, tos, mut id, mut label) = (*ip.get(8)?, ip[1], [0; 4], 0);
        match ip[0] >> 4 {
            4 => {
                header = usize::from(ip[0] & 15) * 4;
                total = u32::from(be16(2)?);
                let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(ip.get(at..at + 4)?).ok()?));
                addresses = (address(12)?, address(16)?);
                id.copy_from_slice(&ip[4..8]);
                if ip[9] != 6 || u16::from_be_bytes([id[2], id[3]]) & 0x3fff != 0 {
                    return None;
                }
            }
            6 => {
                header = 40;
                total = 40 + u32::from(be16(4)?);
                let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(ip.get(at..at + 16)?).ok()?));
                addresses = (address(8)?, address(24)?);
                label = u32::from_be_bytes([0, ip[1] & 15, ip[2], ip[3]]);
                if ip[6] != 6 {
                    return None;
                }
            }
            _ => return None,
        }
        let (ttl, tos) = if ip[0] >> 4 == 4 { (ttl, tos) } else { (ip[7], (be16(0)? >> 4) as u8) };
        if total < header as u32 + 20 || total > wire_len || total > 65_000 {
            return None;
        }
        let end = ip.len().min(total as usize);
        let tcp = ip.get(header..end)?.to_vec();
        let offset = usize::from(*tcp.get(12)? >> 4) * 4;
        if offset < 20 || offset > tcp.len() {
            return None;
        }
        let port = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let (from, to) = ((addresses.0, port(0)), (addresses.1, port(2)));
        Some(Datagram { time_ns, from, to, ttl, tos, id, label, tcp_len: total - header as u32, tcp })
    }

    /// The IP packet.
    pub fn record(&self) -> Record {
        let mut bytes = Vec::with_capacity(40 + self.tcp.len());
        let total;
        match (self.from.0, self.to.0) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                total = 20 + self.tcp_len;
                bytes.extend([0x45, self.tos]);
                bytes.extend((total as u16).to_be_bytes());
                bytes.extend(self.id);
                bytes.extend([self.ttl, 6, 0, 0]);
                bytes.extend(from.octets());
                bytes.extend(to.octets());
                let check = !fold(sum(&bytes));
                bytes[10..12].copy_from_slice(&check.to_be_bytes());
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                total = 40 + self.tcp_len;
                bytes.extend((6 << 28 | u32::from(self.tos) << 20 | self.label).to_be_bytes());
                bytes.extend((self.tcp_len as u16).to_be_bytes());
                bytes.extend([6, self.ttl]);
                bytes.extend(from.octets());
                bytes.extend(to.octets());
            }
            (from, to) => unreachable!("a packet from {from} to {to}"),
        }
        bytes.extend(&self.tcp);
        Record { time_ns: self.time_ns, wire_len: total, bytes }
    }

    /// The packet in an Ethernet frame with a VLAN tag. An end has one hardware address.
    pub fn tagged(&self) -> Record {
        let inner = self.record();
        let mac = |end: (IpAddr, u16)| [2, 0, 0, 0, 0, self.server() as u8 ^ u8::from(end == self.from)];
        let mut bytes = Vec::with_capacity(18 + inner.bytes.len());
        bytes.extend(mac(self.to));
        bytes.extend(mac(self.from));
        bytes.extend([0x81, 0, 0, 42]);
        bytes.extend(if self.from.0.is_ipv4() { [0x08, 0] } else { [0x86, 0xdd] });
        bytes.extend(inner.bytes);
        Record { time_ns: self.time_ns, wire_len: inner.wire_len + 18, bytes }
    }

    pub fn be32(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.tcp[at], self.tcp[at + 1], self.tcp[at + 2], self.tcp[at + 3]])
    }

    pub fn has(&self, flag: u8) -> bool {
        self.tcp[13] & flag != 0
    }

    pub fn is_syn(&self) -> bool {
        self.has(SYN)
    }

    /// Whether the end with the lower port sent it: the same end in every connection of a capture, as far as an
    /// observer without handshakes can tell.
    pub fn server(&self) -> bool {
        (self.from.1, self.from.0) < (self.to.1, self.to.0)
    }

    pub fn raw_seq(&self) -> u32 {
        self.be32(4)
    }

    /// Changes header and addresses, and the checksum by the difference that this makes.
    fn change(&mut self, change: impl FnOnce(&mut Datagram)) {
        let covered = |d: &Datagram| {
            let addresses = |a: IpAddr| match a {
                IpAddr::V4(a) => sum(&a.octets()),
                IpAddr::V6(a) => sum(&a.octets()),
            };
            let header = usize::from(d.tcp[12] >> 4) * 4;
            addresses(d.from.0) + addresses(d.to.0) + sum(&d.tcp[..header]) - sum(&d.tcp[16..18])
        };
        let before = covered(self);
        change(self);
        let after = covered(self);
        let check = u16::from_be_bytes([self.tcp[16], self.tcp[17]]);
        let new = !fold(u64::from(!check) + u64::from(!fold(before)) + after);
        self.tcp[16..18].copy_from_slice(&new.to_be_bytes());
    }

    fn put32(&mut self, at: usize, value: u32) {
        self.tcp[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Moves the numbers of the client by `by[0]`, of the server by `by[1]`. Literal zeroes stay: the sequence number
    /// of a RST that answers no ACK, acknowledgement numbers without ACK.
    pub fn shift(&mut self, by: [u32; 2]) {
        let own = by[usize::from(self.server())];
        let others = by[usize::from(!self.server())];
        let (seq, ack) = (self.raw_seq(), self.be32(8));
        let literal = self.has(RST) && seq == 0;
        let acknowledges = self.has(ACK) && !(self.has(RST) && ack == 0);
        self.change(|d| {
            if !literal {
                d.put32(4, seq.wrapping_add(own));
            }
            if acknowledges {
                d.put32(8, ack.wrapping_add(others));
            }
            d.shift_sack(others);
        });
    }

    fn shift_sack(&mut self, by: u32) {
        let end = usize::from(self.tcp[12] >> 4) * 4;
        let mut at = 20;
        while at + 1 < end {
            match (self.tcp[at], usize::from(self.tcp[at + 1])) {
                (0, _) => return,
                (1, _) => at += 1,
                (_, len) if len < 2 || at + len > end => return,
                (kind, len) => {
                    if kind == 5 {
                        for edge in (at + 2..(at + len).saturating_sub(3)).step_by(4) {
                            let moved = self.be32(edge).wrapping_add(by);
                            self.put32(edge, moved);
                        }
                    }
                    at += len;
                }
            }
        }
    }

    /// Complements the addresses, which turns the order of any two around.
    pub fn mirror(&mut self) {
        let other = |a: IpAddr| match a {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from_bits(!a.to_bits())),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from_bits(!a.to_bits())),
        };
        self.change(|d| {
            d.from.0 = other(d.from.0);
            d.to.0 = other(d.to.0);
        });
    }

    /// The same packet over IPv6.
    pub fn over_ipv6(&mut self) {
        let other = |a: IpAddr| match a {
            IpAddr::V4(a) => IpAddr::V6(Ipv6Addr::from_bits(0xfd00_u128 << 112 | u128::from(a.to_bits()))),
            v6 => v6,
        };
        self.change(|d| {
            d.from.0 = other(d.from.0);
            d.to.0 = other(d.to.0);
        });
    }
}
