//! One TCP segment as plain numbers, host byte order.

use crate::seq::SeqNum;
use bytemuck::{Pod, Zeroable};

/// TCP control bits, RFC 9293 section 3.1 (low eight bits of the 12-bit flags field).
pub mod flags {
    pub const FIN: u16 = 0x01;
    pub const SYN: u16 = 0x02;
    pub const RST: u16 = 0x04;
    pub const PSH: u16 = 0x08;
    pub const ACK: u16 = 0x10;
    pub const URG: u16 = 0x20;
    pub const ECE: u16 = 0x40;
    pub const CWR: u16 = 0x80;
}

/// Options present in the segment ([`Segment::options`]).
pub mod opt {
    pub const MSS: u16 = 1 << 0;
    pub const WSCALE: u16 = 1 << 1;
    pub const SACK_PERMITTED: u16 = 1 << 2;
    pub const SACK: u16 = 1 << 3;
    pub const TIMESTAMPS: u16 = 1 << 4;
    pub const FAST_OPEN: u16 = 1 << 5;
    pub const MPTCP: u16 = 1 << 6;
    /// MP_TCPRST (RFC 8684 section 3.6) or MP_FASTCLOSE.
    pub const MPTCP_RESET: u16 = 1 << 7;
    /// MD5 (RFC 2385) or TCP-AO (RFC 5925): an unsigned RST is ineffective.
    pub const AUTH: u16 = 1 << 8;
    /// An option ran past the header or had an impossible length; what came before it was read.
    pub const MALFORMED: u16 = 1 << 9;
}

/// Facts about the packet around the segment ([`Segment::packet`]).
pub mod packet {
    pub const IPV6: u16 = 1 << 0;
    /// IPv4 Don't Fragment.
    pub const DF: u16 = 1 << 1;
    /// First fragment of a datagram: `payload_len` covers this fragment only.
    pub const FIRST_FRAGMENT: u16 = 1 << 2;
    /// The length could not be read from IP (0, BIG TCP) nor from the buffer: the end is uncertain.
    pub const LENGTH_UNCERTAIN: u16 = 1 << 3;
}

/// One TCP segment. `payload_len` is bytes of data only, by the IP header's length (never the frame's: Ethernet
/// pads short frames); [`Segment::seq_len`] counts SYN and FIN too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Segment {
    pub seq: SeqNum,
    /// Acknowledgement number as on the wire; meaningful only with ACK set.
    pub ack: SeqNum,
    pub payload_len: u32,
    pub tsval: u32,
    pub tsecr: u32,
    pub flow_label: u32,
    /// SACK blocks as on the wire (left edge, right edge), `sack_count` of them valid.
    pub sack: [[SeqNum; 2]; 4],
    /// Window field as on the wire, not scaled.
    pub wnd: u16,
    /// The 12 flag bits as on the wire.
    pub flags: u16,
    pub options: u16,
    pub packet: u16,
    pub mss: u16,
    pub ip_id: u16,
    /// Hash of the frame's source MAC address; 0 where there is none.
    pub l2: u16,
    pub pad: u16,
    pub ttl: u8,
    pub tos: u8,
    pub wscale: u8,
    pub sack_count: u8,
}

impl Segment {
    #[inline(always)]
    pub const fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    #[inline(always)]
    pub const fn has_option(&self, option: u16) -> bool {
        self.options & option != 0
    }

    /// SEG.LEN of RFC 9293: data, and one each for SYN and FIN.
    #[inline(always)]
    pub const fn seq_len(&self) -> u32 {
        self.payload_len.wrapping_add(self.has(flags::SYN) as u32).wrapping_add(self.has(flags::FIN) as u32)
    }

    /// Bit of [`Segment::label`] that is DF.
    pub const LABEL_DF: u16 = 1;

    /// What a stack keeps for the packets of a connection: DF, the TOS without its ECN bits, and the IPv6 flow label,
    /// hashed but for DF. Never 0.
    #[inline(always)]
    pub const fn label(&self) -> u16 {
        let both = self.flow_label.wrapping_mul(64) ^ (self.tos >> 2) as u32;
        let hash = (both.wrapping_mul(0x9e37_79b1) >> 18) as u16;
        let df = (self.packet & packet::DF != 0) as u16;
        0x8000 | hash << 1 | df
    }

    /// First sequence number after the segment.
    #[inline(always)]
    pub const fn end(&self) -> SeqNum {
        self.seq.add(self.seq_len())
    }
}
