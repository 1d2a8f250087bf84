//! TCP segments as values, and their way to and from Ethernet frames with correct checksums.
//!
//! Names are those of RFC 9293; options of RFC 9293 (MSS), RFC 7323 (window scale, timestamps) and
//! RFC 2018 (SACK). Options are laid out as Linux does, so that a segment of ours looks plausible.

use std::net::{IpAddr, SocketAddr};

use etherparse::{
    IpHeaders, IpNumber, Ipv4Header, Ipv6Header, NetSlice, PacketBuilder, SlicedPacket, TcpHeader, TcpOptionElement,
    TransportSlice,
};

use crate::seq::SeqNum;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flags {
    pub syn: bool,
    pub ack: bool,
    pub fin: bool,
    pub rst: bool,
    pub psh: bool,
}

impl Flags {
    const NONE: Self = Self { syn: false, ack: false, fin: false, rst: false, psh: false };
    pub const SYN: Self = Self { syn: true, ..Self::NONE };
    pub const ACK: Self = Self { ack: true, ..Self::NONE };
    pub const PSH_ACK: Self = Self { psh: true, ack: true, ..Self::NONE };
    pub const SYN_ACK: Self = Self { syn: true, ack: true, ..Self::NONE };
    pub const FIN_ACK: Self = Self { fin: true, ack: true, ..Self::NONE };
    pub const RST: Self = Self { rst: true, ..Self::NONE };
    pub const RST_ACK: Self = Self { rst: true, ack: true, ..Self::NONE };
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub mss: Option<u16>,
    pub wscale: Option<u8>,
    pub sack_permitted: bool,
    /// TSval and TSecr.
    pub timestamps: Option<(u32, u32)>,
    /// Left and right edges, at most four.
    pub sack: Vec<(SeqNum, SeqNum)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub source: SocketAddr,
    pub destination: SocketAddr,
    pub seq: SeqNum,
    /// As on the wire; meaningful only with the ACK flag.
    pub ack: SeqNum,
    pub flags: Flags,
    /// As on the wire, not scaled.
    pub wnd: u16,
    pub options: Options,
    pub payload: Vec<u8>,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 identification; zero for IPv6.
    pub ip_id: u16,
}

impl Segment {
    /// SEG.LEN of RFC 9293: SYN and FIN take a sequence number each.
    pub fn len(&self) -> u32 {
        self.payload.len() as u32 + u32::from(self.flags.syn) + u32::from(self.flags.fin)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sequence number after this segment.
    pub fn end(&self) -> SeqNum {
        self.seq.plus(self.len())
    }

    /// The whole frame. Both addresses must be of one family, and options must fit 40 bytes.
    pub fn to_frame(&self, source_mac: [u8; 6], destination_mac: [u8; 6]) -> Vec<u8> {
        let mut tcp = TcpHeader::new(self.source.port(), self.destination.port(), self.seq.0, self.wnd);
        tcp.acknowledgment_number = self.ack.0;
        tcp.syn = self.flags.syn;
        tcp.ack = self.flags.ack;
        tcp.fin = self.flags.fin;
        tcp.rst = self.flags.rst;
        tcp.psh = self.flags.psh;
        tcp.set_options(&self.options.to_elements())
            .expect("MSS, SACK permitted, timestamps and scale take 20 bytes; timestamps and three blocks 40");
        let builder = PacketBuilder::ethernet2(source_mac, destination_mac).ip(self.ip_header()).tcp_header(tcp);
        let mut frame = Vec::with_capacity(builder.size(self.payload.len()));
        builder
            .write(&mut frame, &self.payload)
            .expect("writing to a Vec does not fail, and payloads are at most one MSS");
        frame
    }

    fn ip_header(&self) -> IpHeaders {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = Ipv4Header::new(0, self.ttl, IpNumber::TCP, source.octets(), destination.octets())
                    .expect("zero is a valid payload length; the builder sets the real one");
                header.identification = self.ip_id;
                header.dont_fragment = true;
                IpHeaders::Ipv4(header, Default::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    next_header: IpNumber::TCP,
                    hop_limit: self.ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Default::default()
                };
                IpHeaders::Ipv6(header, Default::default())
            }
            (source, destination) => panic!("a packet cannot go from {source} to {destination}"),
        }
    }

    /// `None` for anything that is not a whole TCP segment in an unfragmented IP packet. Checksums
    /// are not verified: on a host that offloads them they are not final yet.
    pub fn from_frame(frame: &[u8]) -> Option<Self> {
        let packet = SlicedPacket::from_ethernet(frame).ok()?;
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
            return None;
        };
        let (source, destination, ttl, ip_id) = match packet.net? {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                let (source, destination) = (header.source_addr(), header.destination_addr());
                (IpAddr::V4(source), IpAddr::V4(destination), header.ttl(), header.identification())
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                let (source, destination) = (header.source_addr(), header.destination_addr());
                (IpAddr::V6(source), IpAddr::V6(destination), header.hop_limit(), 0)
            }
            NetSlice::Arp(_) => return None,
        };
        Some(Self {
            source: SocketAddr::new(source, tcp.source_port()),
            destination: SocketAddr::new(destination, tcp.destination_port()),
            seq: SeqNum(tcp.sequence_number()),
            ack: SeqNum(tcp.acknowledgment_number()),
            flags: Flags { syn: tcp.syn(), ack: tcp.ack(), fin: tcp.fin(), rst: tcp.rst(), psh: tcp.psh() },
            wnd: tcp.window_size(),
            options: Options::from_elements(tcp.options_iterator().map_while(Result::ok)),
            payload: tcp.payload().to_vec(),
            ttl,
            ip_id,
        })
    }
}

impl Options {
    fn to_elements(&self) -> Vec<TcpOptionElement> {
        use TcpOptionElement::*;
        let mut elements = Vec::new();
        elements.extend(self.mss.map(MaximumSegmentSize));
        if self.sack_permitted {
            elements.push(SelectiveAcknowledgementPermitted);
        }
        if let Some((value, echo)) = self.timestamps {
            // Four-byte alignment; in a SYN the two bytes of SACK-permitted stand in for the NOPs.
            if !self.sack_permitted {
                elements.extend([Noop, Noop]);
            }
            elements.push(Timestamp(value, echo));
        }
        if let Some(shift) = self.wscale {
            elements.extend([Noop, WindowScale(shift)]);
        }
        let mut blocks = self.sack.iter().map(|(left, right)| (left.0, right.0));
        if let Some(first) = blocks.next() {
            elements.extend([Noop, Noop]);
            elements.push(SelectiveAcknowledgement(first, std::array::from_fn(|_| blocks.next())));
        }
        elements
    }

    fn from_elements(elements: impl Iterator<Item = TcpOptionElement>) -> Self {
        use TcpOptionElement::*;
        let mut options = Self::default();
        for element in elements {
            match element {
                Noop => {}
                MaximumSegmentSize(mss) => options.mss = Some(mss),
                WindowScale(shift) => options.wscale = Some(shift),
                SelectiveAcknowledgementPermitted => options.sack_permitted = true,
                Timestamp(value, echo) => options.timestamps = Some((value, echo)),
                SelectiveAcknowledgement(first, rest) => {
                    let blocks = std::iter::once(first).chain(rest.into_iter().flatten());
                    options.sack = blocks.map(|(l, r)| (SeqNum(l), SeqNum(r))).collect();
                }
            }
        }
        options
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const ROUTER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

    fn segment(source: &str, destination: &str) -> Segment {
        Segment {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            seq: SeqNum(0x0102_0304),
            ack: SeqNum(0x0506_0708),
            flags: Flags::PSH_ACK,
            wnd: 0x0200,
            options: Options::default(),
            payload: b"hi!".to_vec(),
            ttl: 64,
            ip_id: 0x1234,
        }
    }

    #[test]
    fn an_ipv4_segment_has_the_bytes_computed_by_hand() {
        let frame = segment("10.71.1.2:4660", "10.71.2.2:8080").to_frame(CLIENT_MAC, ROUTER_MAC);
        // IP checksum: 4500+002b+1234+4000+4006+0a47+0102+0a47+0202 = 0xeef7 -> ^ = 0x1108.
        // TCP checksum: pseudo header 0a47+0102+0a47+0202+0006+0017 = 0x17af; header
        // 1234+1f90+0102+0304+0506+0708+5018+0200 = 0x93f0; data 6869+2100 = 0x8969;
        // sum 0x13508 -> 0x3509 -> ^ = 0xcaf6.
        #[rustfmt::skip]
        let expected: [u8; 57] = [
            2, 0, 0, 0, 0, 2,  2, 0, 0, 0, 0, 1,  0x08, 0x00,
            0x45, 0, 0, 0x2b,  0x12, 0x34, 0x40, 0,  64, 6, 0x11, 0x08,  10, 71, 1, 2,  10, 71, 2, 2,
            0x12, 0x34, 0x1f, 0x90,  1, 2, 3, 4,  5, 6, 7, 8,  0x50, 0x18, 2, 0,  0xca, 0xf6, 0, 0,
            b'h', b'i', b'!',
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn an_ipv6_segment_has_the_checksum_computed_by_hand() {
        let frame = segment("[fd71:1::2]:4660", "[fd71:2::2]:8080").to_frame(CLIENT_MAC, ROUTER_MAC);
        // Pseudo header fd71+0001+0002+fd71+0002+0002+0017+0006 = 0x1fb06 -> 0xfb07, then header
        // 0x93f0 and data 0x8969 as above: sum 0x21860 -> 0x1862 -> ^ = 0xe79d.
        assert_eq!(frame[14 + 40 + 16..14 + 40 + 18], [0xe7, 0x9d]);
        assert_eq!(frame.len(), 14 + 40 + 20 + 3);
    }

    #[test]
    fn syn_options_are_laid_out_as_linux_does() {
        let mut syn = segment("10.71.1.2:4660", "10.71.2.2:8080");
        syn.flags = Flags::SYN;
        syn.payload.clear();
        syn.options = Options {
            mss: Some(1460),
            wscale: Some(7),
            sack_permitted: true,
            timestamps: Some((1, 0)),
            sack: Vec::new(),
        };
        let frame = syn.to_frame(CLIENT_MAC, ROUTER_MAC);
        let expected = [2, 4, 0x05, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
        assert_eq!(frame[14 + 20 + 20..], expected);
        assert_eq!(Segment::from_frame(&frame), Some(syn));
    }

    #[test]
    fn what_was_built_is_parsed_back() {
        for (source, destination) in [("10.71.1.2:4660", "10.71.2.2:8080"), ("[fd71:1::2]:4660", "[fd71:2::2]:8080")] {
            let mut built = segment(source, destination);
            built.options.timestamps = Some((7, 8));
            built.options.sack = vec![(SeqNum(u32::MAX), SeqNum(9)), (SeqNum(20), SeqNum(30))];
            if built.source.is_ipv6() {
                built.ip_id = 0;
            }
            let frame = built.to_frame(CLIENT_MAC, ROUTER_MAC);
            assert_eq!(Segment::from_frame(&frame), Some(built));
        }
    }

    #[test]
    fn padding_of_a_short_frame_is_not_payload() {
        let mut bare = segment("10.71.1.2:4660", "10.71.2.2:8080");
        bare.flags = Flags::ACK;
        bare.payload.clear();
        let mut frame = bare.to_frame(CLIENT_MAC, ROUTER_MAC);
        frame.resize(60, 0);
        assert_eq!(Segment::from_frame(&frame), Some(bare));
    }

    #[test]
    fn a_cut_frame_is_no_segment() {
        let frame = segment("10.71.1.2:4660", "10.71.2.2:8080").to_frame(CLIENT_MAC, ROUTER_MAC);
        for len in 0..14 + 20 + 20 {
            assert_eq!(Segment::from_frame(&frame[..len]), None);
        }
    }

    #[test]
    fn syn_and_fin_count() {
        let mut counted = segment("10.71.1.2:1", "10.71.2.2:2");
        counted.flags = Flags { fin: true, ..Flags::ACK };
        assert_eq!(counted.len(), 4);
        assert_eq!(counted.end(), counted.seq.plus(4));
    }
}
