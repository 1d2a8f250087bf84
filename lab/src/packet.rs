//! A TCP segment in its frame, changed in place the way a device on the path changes it: fields
//! here and there, everything else as it was, checksums right again afterwards.
//!
//! IPv4 over untagged Ethernet, which is all that crosses the devices of the laboratory.

use crate::seq::SeqNum;

const ETHERNET: usize = 14;
const TCP_FIXED: usize = 20;
const PROTOCOL_TCP: u8 = 6;

const OPTION_END: u8 = 0;
const OPTION_NOP: u8 = 1;
pub const OPTION_WSCALE: u8 = 3;
const OPTION_SACK: u8 = 5;

pub const FIN: u8 = 0x01;
pub const SYN: u8 = 0x02;
pub const RST: u8 = 0x04;
pub const ACK: u8 = 0x10;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    bytes: Vec<u8>,
    /// Where the TCP header begins, its payload begins, and the packet ends (Ethernet may pad it).
    tcp: usize,
    payload: usize,
    end: usize,
}

impl Packet {
    /// `None` for anything that is not a whole TCP segment in an unfragmented IPv4 packet.
    pub fn new(frame: &[u8]) -> Option<Self> {
        if frame.get(12..14)? != [8, 0] || frame.get(ETHERNET)? >> 4 != 4 || *frame.get(ETHERNET + 9)? != PROTOCOL_TCP {
            return None;
        }
        let word = |at: usize| Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?));
        // More fragments, or not the first one.
        if word(ETHERNET + 6)? & 0x3fff != 0 {
            return None;
        }
        let tcp = ETHERNET + usize::from(frame[ETHERNET] & 15) * 4;
        let end = ETHERNET + usize::from(word(ETHERNET + 2)?);
        let payload = tcp + usize::from(frame.get(tcp + 12)? >> 4) * 4;
        if payload < tcp + TCP_FIXED || end < payload || end > frame.len() {
            return None;
        }
        Some(Self { bytes: frame[..end].to_vec(), tcp, payload, end })
    }

    /// The frame, with its checksums computed anew.
    pub fn into_frame(mut self) -> Vec<u8> {
        self.close();
        self.bytes
    }

    /// The frame, with the TCP checksum as it was: what a damaged segment looks like.
    pub fn into_damaged_frame(self) -> Vec<u8> {
        self.bytes
    }

    fn close(&mut self) {
        let length = (self.end - ETHERNET) as u16;
        self.put(ETHERNET + 2, &length.to_be_bytes());
        self.put(ETHERNET + 10, &[0, 0]);
        let ip = checksum(sum(&self.bytes[ETHERNET..self.tcp]));
        self.put(ETHERNET + 10, &ip.to_be_bytes());
        self.put(self.tcp + 16, &[0, 0]);
        // The pseudo header of RFC 9293 3.1: both addresses, the protocol and the length.
        let pseudo = sum(&self.bytes[ETHERNET + 12..ETHERNET + 20])
            + u32::from(PROTOCOL_TCP)
            + u32::from((self.end - self.tcp) as u16);
        let tcp = checksum(pseudo + sum(&self.bytes[self.tcp..self.end]));
        self.put(self.tcp + 16, &tcp.to_be_bytes());
    }

    fn put(&mut self, at: usize, value: &[u8]) {
        self.bytes[at..at + value.len()].copy_from_slice(value);
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_be_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn long(&self, at: usize) -> u32 {
        u32::from_be_bytes([self.bytes[at], self.bytes[at + 1], self.bytes[at + 2], self.bytes[at + 3]])
    }

    pub fn ip_id(&self) -> u16 {
        self.word(ETHERNET + 4)
    }

    pub fn ttl(&self) -> u8 {
        self.bytes[ETHERNET + 8]
    }

    pub fn seq(&self) -> SeqNum {
        SeqNum(self.long(self.tcp + 4))
    }

    pub fn set_seq(&mut self, seq: SeqNum) {
        self.put(self.tcp + 4, &seq.0.to_be_bytes());
    }

    pub fn ack(&self) -> SeqNum {
        SeqNum(self.long(self.tcp + 8))
    }

    pub fn set_ack(&mut self, ack: SeqNum) {
        self.put(self.tcp + 8, &ack.0.to_be_bytes());
    }

    /// FIN, SYN, RST, PSH, ACK, ... as on the wire.
    pub fn flags(&self) -> u8 {
        self.bytes[self.tcp + 13]
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags() & flag != 0
    }

    /// As on the wire, not scaled.
    pub fn window(&self) -> u16 {
        self.word(self.tcp + 14)
    }

    pub fn payload(&self) -> &[u8] {
        &self.bytes[self.payload..self.end]
    }

    pub fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.payload..self.end]
    }

    pub fn len(&self) -> u32 {
        (self.end - self.payload) as u32
    }

    pub fn is_empty(&self) -> bool {
        self.payload == self.end
    }

    /// The sequence number after this segment; SYN and FIN take one each.
    pub fn seq_end(&self) -> SeqNum {
        self.seq().plus(self.len() + u32::from(self.has(SYN)) + u32::from(self.has(FIN)))
    }

    /// Adds bytes behind the payload.
    pub fn append(&mut self, more: &[u8]) {
        self.bytes.extend_from_slice(more);
        self.end = self.bytes.len();
    }

    /// Applies `change` to both edges of every SACK block.
    pub fn map_sack(&mut self, change: impl Fn(SeqNum) -> SeqNum) {
        if let Some((at, len)) = self.option(OPTION_SACK) {
            for edge in (at + 2..at + len).step_by(4) {
                let new = change(SeqNum(self.long(edge)));
                self.put(edge, &new.0.to_be_bytes());
            }
        }
    }

    pub fn sack(&self) -> Vec<(SeqNum, SeqNum)> {
        let Some((at, len)) = self.option(OPTION_SACK) else { return Vec::new() };
        (at + 2..at + len).step_by(8).map(|edge| (SeqNum(self.long(edge)), SeqNum(self.long(edge + 4)))).collect()
    }

    /// Overwrites an option with padding, as devices do that "clear" options.
    pub fn strip_option(&mut self, kind: u8) {
        if let Some((at, len)) = self.option(kind) {
            self.bytes[at..at + len].fill(OPTION_NOP);
        }
    }

    /// The shift of the window scale option.
    pub fn wscale(&self) -> Option<u8> {
        self.option(OPTION_WSCALE).map(|(at, _)| self.bytes[at + 2])
    }

    pub fn set_wscale(&mut self, shift: u8) {
        if let Some((at, _)) = self.option(OPTION_WSCALE) {
            self.bytes[at + 2] = shift;
        }
    }

    /// Where an option is, and how many bytes it takes with its kind and length.
    fn option(&self, wanted: u8) -> Option<(usize, usize)> {
        let mut at = self.tcp + TCP_FIXED;
        while at < self.payload {
            let len = match self.bytes[at] {
                OPTION_END => return None,
                OPTION_NOP => 1,
                _ => usize::from(*self.bytes.get(at + 1)?),
            };
            if len == 0 || at + len > self.payload {
                return None;
            }
            // All wanted ones have a length, and whole fields behind it.
            if self.bytes[at] == wanted && len > 2 && (wanted != OPTION_SACK || len % 8 == 2) {
                return Some((at, len));
            }
            at += len;
        }
        None
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let odd = rest.first().map_or(0, |&byte| u32::from(byte) << 8);
    pairs.iter().map(|&pair| u32::from(u16::from_be_bytes(pair))).sum::<u32>() + odd
}

fn checksum(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::{Flags, Options, Segment};

    fn segment() -> Segment {
        Segment {
            source: "10.71.3.2:4000".parse().unwrap(),
            destination: "10.71.3.3:80".parse().unwrap(),
            seq: SeqNum(100),
            ack: SeqNum(200),
            flags: Flags::PSH_ACK,
            wnd: 300,
            options: Options {
                timestamps: Some((1, 2)),
                sack: vec![(SeqNum(1000), SeqNum(2000)), (SeqNum(3000), SeqNum(4000))],
                ..Options::default()
            },
            payload: b"odd".to_vec(),
            ttl: 64,
            ip_id: 7,
        }
    }

    fn frame(segment: &Segment) -> Vec<u8> {
        segment.to_frame([2; 6], [3; 6])
    }

    #[test]
    fn nothing_changed_means_the_same_frame() {
        let frame = frame(&segment());
        assert_eq!(Packet::new(&frame).unwrap().into_frame(), frame);
    }

    #[test]
    fn every_change_equals_the_frame_that_was_built_so() {
        let mut wanted = segment();
        let mut packet = Packet::new(&frame(&wanted)).unwrap();
        wanted.seq = SeqNum(u32::MAX);
        wanted.ack = SeqNum(5);
        wanted.options.sack = vec![(SeqNum(1010), SeqNum(2010)), (SeqNum(3010), SeqNum(4010))];
        wanted.payload = b"odd and more".to_vec();
        packet.set_seq(SeqNum(u32::MAX));
        packet.set_ack(SeqNum(5));
        packet.map_sack(|edge| edge.plus(10));
        packet.append(b" and more");
        assert_eq!(packet.sack(), wanted.options.sack);
        assert_eq!(packet.seq_end(), SeqNum(11));
        assert_eq!(packet.into_frame(), frame(&wanted));
    }

    #[test]
    fn a_scale_is_altered_or_cleared() {
        let mut syn = segment();
        syn.flags = Flags::SYN;
        syn.payload.clear();
        syn.options =
            Options { mss: Some(1460), wscale: Some(10), sack_permitted: true, timestamps: Some((1, 0)), sack: vec![] };
        let mut altered = Packet::new(&frame(&syn)).unwrap();
        assert_eq!(altered.wscale(), Some(10));
        altered.set_wscale(2);
        syn.options.wscale = Some(2);
        assert_eq!(altered.clone().into_frame(), frame(&syn));
        altered.strip_option(OPTION_WSCALE);
        assert_eq!(altered.wscale(), None);
        syn.options.wscale = None;
        assert_eq!(Segment::from_frame(&altered.into_frame()), Some(syn));
    }

    #[test]
    fn what_is_no_whole_segment_is_none() {
        let frame = frame(&segment());
        for len in 0..frame.len() {
            assert_eq!(Packet::new(&frame[..len]), None);
        }
        let mut fragment = frame.clone();
        fragment[ETHERNET + 7] = 1;
        assert_eq!(Packet::new(&fragment), None);
    }
}
