//! One connection, and the frames of its segments.

pub const SYN: u8 = 2;
pub const FIN: u8 = 1;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;

/// Payload of a full segment: an Ethernet MTU less IPv4, TCP and time stamps.
pub const MSS: u32 = 1448;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Client,
    Server,
}

use End::{Client, Server};

impl End {
    pub fn other(self) -> End {
        match self {
            Client => Server,
            Server => Client,
        }
    }
}

/// What carries the segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    Ipv4,
    Ipv6,
    /// IPv4 under one 802.1Q tag.
    Vlan,
}

/// The headers of one frame. Offsets are from the frame's start.
#[derive(Clone, Debug)]
pub struct Frame {
    pub head: Vec<u8>,
    /// Length on the wire; what `head` lacks of it is a payload of zeroes.
    pub wire: usize,
    pub from: End,
    /// The last four bytes of the client's address.
    pub client: usize,
    /// 0 for IPv6.
    pub ip_sum: usize,
    pub l4_sum: usize,
    /// The sequence number; 0 where there is none.
    pub seq: usize,
    /// TSval; 0 where there is none.
    pub timestamp: usize,
    /// The first edge of the first SACK block; 0 where there is none.
    pub sack: usize,
}

/// A connection between one client and one server.
#[derive(Clone, Debug)]
pub struct Connection {
    link: Link,
    addresses: [u32; 2],
    ports: [u16; 2],
    pub seq: [u32; 2],
    ident: [u16; 2],
    timestamp: [u32; 2],
}

impl Connection {
    /// The `n`-th connection. Numbers differ from connection to connection in a way that looks like chance.
    pub fn new(n: u32, link: Link) -> Connection {
        Connection {
            link,
            addresses: [0x0a01_0002 + (n >> 14), 0x0a02_0001],
            ports: [1024 + (n & 0x3fff) as u16 * 3, 80],
            seq: [
                n.wrapping_mul(2_654_435_761).wrapping_add(12_345),
                n.wrapping_mul(40_503).wrapping_mul(65_537).wrapping_add(777),
            ],
            ident: [n as u16, 0x8000 ^ n as u16],
            timestamp: [1000, 2000],
        }
    }

    /// A segment of `size` bytes at `now_ms`, and the connection moves on.
    pub fn segment(&mut self, from: End, flags: u8, size: u32, now_ms: u32) -> Frame {
        let ack = self.seq[from.other() as usize];
        let frame = self.frame(from, flags, self.seq[from as usize], ack, size, now_ms, None);
        let counted = u32::from(flags & (SYN | FIN) != 0);
        self.seq[from as usize] = self.seq[from as usize].wrapping_add(size + counted);
        frame
    }

    /// A segment with any numbers; `sack` is one block of what lies beyond `ack`.
    #[expect(clippy::too_many_arguments, reason = "these are the fields of a segment")]
    pub fn frame(
        &mut self,
        from: End,
        flags: u8,
        seq: u32,
        ack: u32,
        size: u32,
        now_ms: u32,
        sack: Option<[u32; 2]>,
    ) -> Frame {
        let (s, e) = (from as usize, from.other() as usize);
        self.timestamp[s] = 1000 * (s as u32 + 1) + now_ms;
        let (ts, echo) = (self.timestamp[s], if flags & ACK != 0 { self.timestamp[e] } else { 0 });
        let (options, window, ts_at) = options(flags, ts, echo, sack);
        self.ident[s] = self.ident[s].wrapping_add(1);

        let l4_length = 20 + options.len() as u32 + size;
        let mut head = vec![2, 0, 0, 0, 0, 1 + s as u8, 2, 0, 0, 0, 0, 2 - s as u8];
        if self.link == Link::Vlan {
            head.extend([0x81, 0x00, 0x00, 0x64]);
        }
        let (client, ip_sum, pseudo) = self.network(&mut head, from, l4_length, 6);

        let tcp = head.len();
        head.extend(self.ports[s].to_be_bytes());
        head.extend(self.ports[e].to_be_bytes());
        head.extend(seq.to_be_bytes());
        head.extend(if flags & ACK != 0 { ack } else { 0 }.to_be_bytes());
        // The header's length in words, in the upper half.
        head.push((20 + options.len()) as u8 / 4 * 16);
        head.push(flags);
        head.extend(window.to_be_bytes());
        head.extend([0; 4]);
        head.extend(&options);
        // The payload is zeroes and adds nothing.
        let sum = !checksum(&head[tcp..], pseudo);
        head[tcp + 16..tcp + 18].copy_from_slice(&sum.to_be_bytes());
        let from_options = |at: Option<usize>| at.map_or(0, |at| tcp + 20 + at);
        Frame {
            wire: tcp + l4_length as usize,
            head,
            from,
            client,
            ip_sum,
            l4_sum: tcp + 16,
            seq: tcp + 4,
            timestamp: from_options(ts_at),
            sack: from_options(sack.map(|_| 16)),
        }
    }

    /// A UDP datagram.
    pub fn datagram(&mut self, from: End, size: u32) -> Frame {
        let (s, e) = (from as usize, from.other() as usize);
        let mut head = vec![2, 0, 0, 0, 0, 1 + s as u8, 2, 0, 0, 0, 0, 2 - s as u8];
        let length = 8 + size;
        let (client, ip_sum, pseudo) = self.network(&mut head, from, length, 17);
        let udp = head.len();
        head.extend(self.ports[s].to_be_bytes());
        head.extend(self.ports[e].to_be_bytes());
        head.extend((length as u16).to_be_bytes());
        head.extend([0; 2]);
        let sum = !checksum(&head[udp..], pseudo);
        head[udp + 6..].copy_from_slice(&sum.to_be_bytes());
        let wire = udp + length as usize;
        Frame { head, wire, from, client, ip_sum, l4_sum: udp + 6, seq: 0, timestamp: 0, sack: 0 }
    }

    /// EtherType and IP header. Returns where the client's address ends less 4, where the header's checksum is, and
    /// the sum of the pseudo header.
    fn network(&mut self, head: &mut Vec<u8>, from: End, l4_length: u32, protocol: u8) -> (usize, usize, u32) {
        let (s, e) = (from as usize, from.other() as usize);
        let addresses = [self.addresses[s].to_be_bytes(), self.addresses[e].to_be_bytes()];
        if self.link == Link::Ipv6 {
            head.extend([0x86, 0xdd]);
            let ip = head.len();
            head.extend([0x60, 0, 0, 0]);
            head.extend((l4_length as u16).to_be_bytes());
            head.extend([protocol, 64]);
            for address in addresses {
                head.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0]);
                head.extend(address);
            }
            let pseudo = sum(&head[ip + 8..ip + 40]) + l4_length + u32::from(protocol);
            return (ip + if from == Client { 20 } else { 36 }, 0, pseudo);
        }
        head.extend([0x08, 0x00]);
        let ip = head.len();
        head.extend([0x45, 0]);
        head.extend((20 + l4_length as u16).to_be_bytes());
        head.extend(self.ident[s].to_be_bytes());
        head.extend([0x40, 0, 64, protocol, 0, 0]);
        head.extend(addresses[0]);
        head.extend(addresses[1]);
        let check = !checksum(&head[ip..], 0);
        head[ip + 10..ip + 12].copy_from_slice(&check.to_be_bytes());
        let pseudo = sum(&head[ip + 12..ip + 20]) + l4_length + u32::from(protocol);
        (ip + if from == Client { 12 } else { 16 }, ip + 10, pseudo)
    }
}

/// Options, the window field that goes with them, and where TSval is in them.
fn options(flags: u8, ts: u32, echo: u32, sack: Option<[u32; 2]>) -> (Vec<u8>, u16, Option<usize>) {
    let stamps = |out: &mut Vec<u8>| {
        out.extend([8, 10]);
        out.extend(ts.to_be_bytes());
        out.extend(echo.to_be_bytes());
    };
    let mut out = Vec::new();
    if flags & SYN != 0 {
        // MSS, SACK permitted, time stamps, no operation, window scale.
        out.extend([2, 4, 0x05, 0xb4, 4, 2]);
        stamps(&mut out);
        out.extend([1, 3, 3, 7]);
        return (out, 64_240, Some(8));
    }
    out.extend([1, 1]);
    stamps(&mut out);
    if let Some([left, right]) = sack {
        out.extend([1, 1, 5, 10]);
        out.extend(left.to_be_bytes());
        out.extend(right.to_be_bytes());
    }
    (out, 501, Some(4))
}

/// The sum of 16-bit words.
fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|c| u32::from(c[0]) << 8 | c.get(1).copied().map_or(0, u32::from));
    words.sum()
}

/// The Internet checksum (RFC 1071) before it is inverted.
fn checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = sum(bytes) + start;
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
