//! Segments as packets with right checksums, and packets as capture files.

use monitor_common::segment::{Segment, flags, opt};
use std::io::{BufWriter, Write};
use std::net::Ipv4Addr;
use std::path::Path;

/// LINKTYPE_RAW: packets begin with the IP header.
pub const RAW: u32 = 101;
pub const ETHERNET: u32 = 1;

/// One packet of a capture to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub time_ns: u64,
    /// Its length on the wire; `bytes` may be cut.
    pub wire_len: u32,
    pub bytes: Vec<u8>,
}

/// A capture with times in nanoseconds.
pub fn write(path: &Path, link_type: u32, records: &[Record]) {
    let file = std::fs::File::create(path).expect("the scratch directory is writable");
    let mut out = BufWriter::new(file);
    let mut put = |bytes: &[u8]| out.write_all(bytes).expect("room for a capture");
    for word in [0xa1b2_3c4d, 0x0004_0002, 0, 0, 262_144, link_type] {
        put(&u32::to_le_bytes(word));
    }
    for record in records {
        let (seconds, rest) = (record.time_ns / 1_000_000_000, record.time_ns % 1_000_000_000);
        for word in [seconds as u32, rest as u32, record.bytes.len() as u32, record.wire_len] {
            put(&u32::to_le_bytes(word));
        }
        put(&record.bytes);
    }
    out.flush().expect("room for a capture");
}

/// Sum of 16-bit words, as of the Internet checksum (RFC 1071), not yet folded.
pub fn sum(bytes: &[u8]) -> u64 {
    bytes.chunks(2).map(|c| u64::from(u16::from_be_bytes([c[0], c.get(1).copied().unwrap_or(0)]))).sum()
}

pub fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// One end of a conversation.
#[derive(Clone, Copy, Debug)]
pub struct End {
    pub addr: Ipv4Addr,
    pub port: u16,
}

/// The options of the segment, in whole words.
fn options(s: &Segment) -> Vec<u8> {
    let mut out = Vec::new();
    if s.options & opt::MSS != 0 {
        out.extend([2, 4]);
        out.extend(s.mss.to_be_bytes());
    }
    if s.options & opt::WSCALE != 0 {
        out.extend([1, 3, 3, s.wscale]);
    }
    if s.options & opt::SACK_PERMITTED != 0 {
        out.extend([1, 1, 4, 2]);
    }
    if s.options & opt::TIMESTAMPS != 0 {
        out.extend([1, 1, 8, 10]);
        out.extend(s.tsval.to_be_bytes());
        out.extend(s.tsecr.to_be_bytes());
    }
    let room = (40 - out.len() - 4) / 8;
    let blocks = &s.sack[..usize::from(s.sack_count).min(room)];
    if !blocks.is_empty() {
        out.extend([1, 1, 5, 2 + 8 * blocks.len() as u8]);
        for [left, right] in blocks {
            out.extend(left.0.to_be_bytes());
            out.extend(right.0.to_be_bytes());
        }
    }
    out
}

/// The IPv4 packet. Payload follows from its sequence numbers, so that a retransmission repeats its bytes.
pub fn packet(from: End, to: End, s: &Segment) -> Vec<u8> {
    let options = options(s);
    let header = 20 + options.len();
    let total = 20 + header + s.payload_len as usize;
    let mut out = Vec::with_capacity(total);
    out.extend([0x45, s.tos]);
    out.extend((total as u16).to_be_bytes());
    out.extend(s.ip_id.to_be_bytes());
    out.extend([0x40, 0, s.ttl, 6, 0, 0]);
    out.extend(from.addr.octets());
    out.extend(to.addr.octets());
    let check = !fold(sum(&out));
    out[10..12].copy_from_slice(&check.to_be_bytes());
    out.extend(from.port.to_be_bytes());
    out.extend(to.port.to_be_bytes());
    out.extend(s.seq.0.to_be_bytes());
    out.extend(s.ack.0.to_be_bytes());
    out.extend([(header as u8 / 4) << 4, (s.flags & 0xff) as u8]);
    out.extend(s.wnd.to_be_bytes());
    out.extend([0; 4]);
    out.extend(options);
    let first = s.seq.add(u32::from(s.has(flags::SYN))).0;
    out.extend((0..s.payload_len).map(|i| (first.wrapping_add(i).wrapping_mul(0x9e37_79b9) >> 24) as u8));
    let pseudo = sum(&out[12..20]) + 6 + (header as u64 + u64::from(s.payload_len));
    let check = !fold(pseudo + sum(&out[20..]));
    out[36..38].copy_from_slice(&check.to_be_bytes());
    out
}
