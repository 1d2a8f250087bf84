//! Bytes of frames, put together by hand so that every one of them can also be wrong.

use std::net::{Ipv4Addr, Ipv6Addr};

pub const FIN: u16 = 0x01;
pub const SYN: u16 = 0x02;
pub const RST: u16 = 0x04;
pub const PSH: u16 = 0x08;
pub const ACK: u16 = 0x10;
pub const URG: u16 = 0x20;
pub const ECE: u16 = 0x40;
pub const CWR: u16 = 0x80;

pub const TCP: u8 = 6;

const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];
const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 71, 3, 1);
const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 71, 3, 2);
const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd71, 3, 0, 0, 0, 0, 0, 1);
const SERVER_V6: Ipv6Addr = Ipv6Addr::new(0xfd71, 3, 0, 0, 0, 0, 0, 2);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}

impl End {
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }

    pub fn index(self) -> usize {
        self as usize
    }
}

/// What carries a segment.
#[derive(Clone, Debug, Default)]
pub struct Envelope {
    /// (protocol, tag) of VLAN tags, outermost first.
    pub tags: Vec<(u16, u16)>,
    pub ip: Ip,
    /// Frames are at least this long, as Ethernet demands of those on a wire.
    pub padded_to: usize,
    /// What the padding consists of; anything is allowed.
    pub padding: u8,
}

#[derive(Clone, Debug)]
pub enum Ip {
    V4 {
        /// Options, a multiple of four bytes.
        options: Vec<u8>,
        /// An authentication header in between.
        authenticated: bool,
    },
    /// Extension headers: kind and body, without the next-header byte that links them.
    V6(Vec<Extension>),
}

impl Default for Ip {
    fn default() -> Self {
        Self::V4 { options: Vec::new(), authenticated: false }
    }
}

#[derive(Clone, Debug)]
pub struct Extension {
    pub kind: u8,
    /// Everything after the next-header byte.
    pub rest: Vec<u8>,
}

pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const AUTHENTICATION: u8 = 51;
pub const DESTINATION: u8 = 60;

impl Extension {
    /// Options padded with PadN to the given number of eight-byte units.
    pub fn options(kind: u8, units: u8) -> Self {
        let len = usize::from(units) * 8;
        let mut rest = vec![units - 1, 1, (len - 4) as u8];
        rest.resize(len - 1, 0);
        Self { kind, rest }
    }

    /// Jumbo payload (RFC 2675).
    pub fn jumbo(payload_len: u32) -> Self {
        let mut rest = vec![0, 0xc2, 4];
        rest.extend(payload_len.to_be_bytes());
        Self { kind: HOP_BY_HOP, rest }
    }

    /// The same behind other options.
    pub fn jumbo_behind_padding(payload_len: u32) -> Self {
        let mut rest = vec![1, 1, 4, 0, 0, 0, 0, 0, 0, 0xc2, 4];
        rest.extend(payload_len.to_be_bytes());
        Self { kind: HOP_BY_HOP, rest }
    }

    /// A segment routing header (RFC 8754) with one segment, none left.
    pub fn routing() -> Self {
        let mut rest = vec![2, 4, 0, 0, 0, 0, 0];
        rest.extend(SERVER_V6.octets());
        Self { kind: ROUTING, rest }
    }

    pub fn fragment(offset: u16, more: bool) -> Self {
        let mut rest = vec![0];
        rest.extend((offset << 3 | u16::from(more)).to_be_bytes());
        rest.extend(0x0bad_cafe_u32.to_be_bytes());
        Self { kind: FRAGMENT, rest }
    }

    /// An authentication header with a check value of twelve bytes (RFC 4302), 24 bytes in all.
    pub fn authentication() -> Self {
        Self { kind: AUTHENTICATION, rest: authentication_rest() }
    }
}

fn authentication_rest() -> Vec<u8> {
    let mut rest = vec![4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 7];
    rest.extend([0xaa; 12]);
    rest
}

impl Envelope {
    pub fn v4() -> Self {
        Self { padded_to: 60, ..Self::default() }
    }

    pub fn v6(extensions: &[Extension]) -> Self {
        Self { ip: Ip::V6(extensions.to_vec()), padded_to: 60, ..Self::default() }
    }

    pub fn tagged(mut self, tags: &[(u16, u16)]) -> Self {
        self.tags = tags.to_vec();
        self
    }

    /// The whole frame around `payload`, whose protocol is `protocol`. `from` says who sends it.
    pub fn around(&self, from: End, protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = self.link(from, matches!(self.ip, Ip::V6(_)).then_some(0x86dd).unwrap_or(0x0800));
        match &self.ip {
            Ip::V4 { options, authenticated } => {
                let mut body = Vec::new();
                if *authenticated {
                    body.push(protocol);
                    body.extend(authentication_rest());
                }
                body.extend(payload);
                let protocol = if *authenticated { AUTHENTICATION } else { protocol };
                frame.extend(ipv4(from, options, protocol, &body));
            }
            Ip::V6(extensions) => {
                let mut body = Vec::new();
                let kinds: Vec<u8> = extensions.iter().map(|e| e.kind).chain([protocol]).collect();
                for (extension, next) in extensions.iter().zip(&kinds[1..]) {
                    body.push(*next);
                    body.extend(&extension.rest);
                }
                body.extend(payload);
                frame.extend(ipv6(from, kinds[0], &body));
            }
        }
        if frame.len() < self.padded_to {
            frame.resize(self.padded_to, self.padding);
        }
        frame
    }

    /// Link header with tags and the protocol of what follows.
    pub fn link(&self, from: End, ethertype: u16) -> Vec<u8> {
        let mut frame = match from {
            End::Client => [SERVER_MAC, CLIENT_MAC].concat(),
            End::Server => [CLIENT_MAC, SERVER_MAC].concat(),
        };
        for (protocol, tag) in &self.tags {
            frame.extend(protocol.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(ethertype.to_be_bytes());
        frame
    }

    /// Where the IP header begins.
    pub fn ip_at(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    /// Sum over the addresses, for checksums of TCP and UDP.
    fn address_sum(&self, from: End) -> Vec<u8> {
        match (&self.ip, from) {
            (Ip::V4 { .. }, End::Client) => [CLIENT_V4.octets(), SERVER_V4.octets()].concat(),
            (Ip::V4 { .. }, End::Server) => [SERVER_V4.octets(), CLIENT_V4.octets()].concat(),
            (Ip::V6(_), End::Client) => [CLIENT_V6.octets(), SERVER_V6.octets()].concat(),
            (Ip::V6(_), End::Server) => [SERVER_V6.octets(), CLIENT_V6.octets()].concat(),
        }
    }
}

fn ipv4(from: End, options: &[u8], protocol: u8, body: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut header = vec![0x40 | (header_len / 4) as u8, 0];
    header.extend(((header_len + body.len()) as u16).to_be_bytes());
    // Identification 0 with "don't fragment", TTL 64.
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    let (source, destination) = match from {
        End::Client => (CLIENT_V4, SERVER_V4),
        End::Server => (SERVER_V4, CLIENT_V4),
    };
    header.extend(source.octets());
    header.extend(destination.octets());
    header.extend(options);
    set_ipv4_checksum(&mut header);
    header.extend(body);
    header
}

/// Over a packet whose header is complete.
pub fn set_ipv4_checksum(packet: &mut [u8]) {
    let header_len = usize::from(packet[0] & 15) * 4;
    packet[10..12].fill(0);
    let end = header_len.clamp(20, packet.len());
    let sum = checksum(&[&packet[..end]]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn ipv6(from: End, next: u8, body: &[u8]) -> Vec<u8> {
    // Version 6 with a flow label.
    let mut packet = vec![0x60, 0x01, 0x23, 0x45];
    packet.extend((body.len() as u16).to_be_bytes());
    packet.extend([next, 64]);
    let (source, destination) = match from {
        End::Client => (CLIENT_V6, SERVER_V6),
        End::Server => (SERVER_V6, CLIENT_V6),
    };
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(body);
    packet
}

/// A TCP header and what follows it.
#[derive(Clone, Debug, Default)]
pub struct Tcp {
    pub client_port: u16,
    pub server_port: u16,
    pub seq: u32,
    pub ack: u32,
    /// All twelve bits.
    pub flags: u16,
    pub window: u16,
    /// Filled up with zeros to four bytes; at most 40.
    pub options: Vec<u8>,
    pub payload_len: usize,
    /// In words; right unless given.
    pub data_offset: Option<u8>,
}

impl Tcp {
    /// With a checksum that suits the envelope.
    pub fn bytes(&self, from: End, envelope: &Envelope) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let words = self.data_offset.unwrap_or((5 + options.len() / 4) as u8);
        let ports = match from {
            End::Client => [self.client_port, self.server_port],
            End::Server => [self.server_port, self.client_port],
        };
        let mut bytes: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
        bytes.extend(self.seq.to_be_bytes());
        bytes.extend(self.ack.to_be_bytes());
        bytes.extend((u16::from(words) << 12 | self.flags).to_be_bytes());
        bytes.extend(self.window.to_be_bytes());
        bytes.extend([0, 0, 0, 0]);
        bytes.extend(options);
        bytes.extend((0..self.payload_len).map(|n| b'a' + (self.seq.wrapping_add(n as u32) % 23) as u8));
        let mut pseudo = envelope.address_sum(from);
        pseudo.extend((bytes.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, TCP]);
        let sum = checksum(&[&pseudo, &bytes]);
        bytes[16..18].copy_from_slice(&sum.to_be_bytes());
        bytes
    }
}

/// RFC 1071, over pieces of which all but the last have an even length.
fn checksum(pieces: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for piece in pieces {
        for pair in piece.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// TCP options as bytes.
pub mod option {
    pub const NOP: u8 = 1;
    pub const END: u8 = 0;

    pub fn mss(value: u16) -> Vec<u8> {
        let [high, low] = value.to_be_bytes();
        vec![2, 4, high, low]
    }

    pub fn wscale(shift: u8) -> Vec<u8> {
        vec![3, 3, shift]
    }

    pub fn sack_permitted() -> Vec<u8> {
        vec![4, 2]
    }

    pub fn sack(blocks: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes = vec![5, 2 + 8 * blocks.len() as u8];
        for (left, right) in blocks {
            bytes.extend(left.to_be_bytes());
            bytes.extend(right.to_be_bytes());
        }
        bytes
    }

    pub fn timestamps(value: u32, echo: u32) -> Vec<u8> {
        let mut bytes = vec![8, 10];
        bytes.extend(value.to_be_bytes());
        bytes.extend(echo.to_be_bytes());
        bytes
    }

    /// Any other one, its content filled with `fill`.
    pub fn other(kind: u8, len: u8, fill: u8) -> Vec<u8> {
        let mut bytes = vec![kind, len];
        bytes.resize(usize::from(len), fill);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Segment;

    #[test]
    fn frames_are_what_another_parser_reads() {
        for envelope in [Envelope::v4(), Envelope::v6(&[])] {
            let tcp = Tcp {
                client_port: 1,
                server_port: 2,
                seq: 3,
                ack: 4,
                flags: PSH | ACK,
                window: 5,
                options: option::mss(1460),
                payload_len: 3,
                data_offset: None,
            };
            let frame = envelope.around(End::Server, TCP, &tcp.bytes(End::Server, &envelope));
            let segment = Segment::from_frame(&frame).unwrap();
            assert_eq!((segment.source.port(), segment.destination.port()), (2, 1));
            assert_eq!((segment.seq.0, segment.ack.0, segment.wnd), (3, 4, 5));
            assert_eq!((segment.options.mss, segment.payload), (Some(1460), b"def".to_vec()));
            // The other builder writes the same checksum.
            let other = Segment::from_frame(&frame).unwrap().to_frame([0; 6], [0; 6]);
            let tcp_at = if segment.source.is_ipv4() { 34 } else { 54 };
            assert_eq!(frame[tcp_at + 16..tcp_at + 18], other[tcp_at + 16..tcp_at + 18]);
        }
    }

    #[test]
    fn extension_headers_have_whole_units() {
        for extension in [
            Extension::options(HOP_BY_HOP, 1),
            Extension::options(DESTINATION, 3),
            Extension::jumbo(70_000),
            Extension::jumbo_behind_padding(70_000),
            Extension::routing(),
            Extension::fragment(185, true),
        ] {
            assert_eq!((extension.rest.len() + 1) % 8, 0, "{extension:?}");
            if extension.kind != FRAGMENT {
                assert_eq!(usize::from(extension.rest[0]) * 8 + 8, extension.rest.len() + 1, "{extension:?}");
            }
        }
        let authentication = Extension::authentication();
        assert_eq!((usize::from(authentication.rest[0]) + 2) * 4, authentication.rest.len() + 1);
    }
}
