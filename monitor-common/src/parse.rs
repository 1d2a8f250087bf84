//! Frames and packets to segments: Ethernet (VLAN, QinQ), IPv4 with options, IPv6 with extension headers, TCP.
//!
//! The parser is generic over [`Bytes`], because the kernel reaches packet bytes only through bounds-checked raw
//! pointers and the host through slices. It never reads past what [`Bytes::at`] granted and never panics. What it
//! cannot read comes back as a [`Reason`], which is a counter slot, not an error path.

use crate::flow::{Direction, FlowKey};
use crate::options;
use crate::segment::{Segment, opt, packet};
use crate::seq::SeqNum;
use bytemuck::{Pod, Zeroable};

/// Bytes of a packet, granted in pieces.
pub trait Bytes: Copy {
    type View: View;
    /// `len` bytes from `offset`, or nothing when the buffer ends before them. `len` is at least 2: a one-byte
    /// bounds check is rewritten by LLVM into a form that the verifier gives no range for.
    fn at(self, offset: usize, len: usize) -> Option<Self::View>;

    /// The same number, of which the verifier knows no more than that it lies within `mask`. The caller makes sure that
    /// it does.
    ///
    /// An offset that is a constant on each path makes the verifier walk all that follows once per path: the option
    /// walk alone took more than 1,000,000 instructions. Through memory it becomes one unknown number. The mask is
    /// part of it, because kernels before 6.2 forget a bound that is checked after the number was spilled.
    fn forget(self, number: u32, mask: u32) -> u32 {
        debug_assert!(number <= mask);
        number & mask
    }
}

/// A granted piece. Reads beyond its length yield 0 on the host and are refused by the verifier in the kernel.
pub trait View: Copy {
    fn byte(self, offset: usize) -> u8;
    /// Big-endian.
    fn be16(self, offset: usize) -> u16;
    /// Big-endian.
    fn be32(self, offset: usize) -> u32;
}

impl<'a> Bytes for &'a [u8] {
    type View = &'a [u8];
    #[inline]
    fn at(self, offset: usize, len: usize) -> Option<&'a [u8]> {
        self.get(offset..offset.checked_add(len)?)
    }
}

impl View for &[u8] {
    #[inline]
    fn byte(self, offset: usize) -> u8 {
        self.get(offset).copied().unwrap_or(0)
    }
    #[inline]
    fn be16(self, offset: usize) -> u16 {
        match self.get(offset..offset + 2) {
            Some(b) => u16::from_be_bytes([b[0], b[1]]),
            None => 0,
        }
    }
    #[inline]
    fn be32(self, offset: usize) -> u32 {
        match self.get(offset..offset + 4) {
            Some(b) => u32::from_be_bytes([b[0], b[1], b[2], b[3]]),
            None => 0,
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)*) => {
        /// Why a packet gave no segment; the number is its counter's slot.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason { $($(#[$doc])* $variant = $number,)* }
        impl Reason {
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// ARP, LLDP and the like. Nothing is wrong with the packet.
    NotIp = 0, "not_ip";
    /// UDP, ICMP and the like. Nothing is wrong with the packet.
    NotTcp = 1, "not_tcp";
    /// A fragment other than the first: it carries no TCP header.
    Fragment = 2, "fragment";
    TruncatedLink = 3, "truncated_link_header";
    VlanDepth = 4, "too_many_vlan_tags";
    TruncatedIp = 5, "truncated_ip_header";
    BadIpHeader = 6, "bad_ip_header";
    ExtensionDepth = 7, "too_many_ipv6_extensions";
    TruncatedTcp = 8, "truncated_tcp_header";
    BadTcpHeader = 9, "bad_tcp_header";
    /// The device hands up packets without an Ethernet header, or of a link type that is not supported.
    UnsupportedLink = 10, "unsupported_link";
}

impl Reason {
    /// Whether the packet should have been readable: everything but other protocols and later fragments.
    pub const fn is_failure(self) -> bool {
        !matches!(self, Reason::NotIp | Reason::NotTcp | Reason::Fragment)
    }
}

/// A parsed packet. A plain struct, because in the kernel it lives in per-CPU scratch memory, not on the
/// 512-byte stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Packet {
    pub key: FlowKey,
    pub segment: Segment,
    /// [`Direction`] of the segment.
    pub direction: u8,
    pub pad: [u8; 3],
}

impl Packet {
    #[inline(always)]
    pub fn direction(&self) -> Direction {
        Direction::from_index(self.direction)
    }
}

pub const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// What the length fields of IPv4 and IPv6 can say at most. Longer packets exist inside a host only (BIG TCP) and carry
/// 0 there.
pub const MAX_IP_LENGTH: u32 = 65_535;
const MAX_VLAN_TAGS: usize = 3;
const MAX_EXTENSIONS: usize = 6;
/// Headers end before this offset; also what bounds variable offsets for the verifier.
const MAX_HEADERS: usize = 1024;
/// Mask of an offset that is not beyond `MAX_HEADERS`.
const OFFSETS: u32 = 2047;
pub(crate) const PROTO_ICMP: u8 = 1;
const PROTO_TCP: u8 = 6;
const PROTO_AH: u8 = 51;

#[inline(always)]
const fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, 0x8100 | 0x88a8 | 0x9100)
}

/// Parses an Ethernet frame into `out`. `wire_len` is the frame's length, 0 when not known (XDP fragments).
#[inline(always)]
pub fn ethernet<B: Bytes>(bytes: B, wire_len: u32, out: &mut Packet) -> Result<(), Reason> {
    match glance(bytes, wire_len, out) {
        Glance::Segment => Ok(()),
        Glance::Other => Err(Reason::NotTcp),
        Glance::Unclear => ethernet_in_general(bytes, wire_len, out),
    }
}

/// What [`glance`] makes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Glance {
    /// It is parsed, with what [`ethernet_in_general`] would give.
    Segment,
    /// It is no TCP and quotes none: [`ethernet_in_general`] would say [`Reason::NotTcp`], and [`crate::icmp`] find nothing.
    Other,
    /// Neither is plain. What the packet holds then has no meaning.
    Unclear,
}

/// Parses a frame that looks as nearly all do: no tags, IPv4 without options, in it TCP without options or with nothing
/// but timestamps, or something else. Nothing that is wrong, or a fragment, is taken.
#[inline(always)]
pub fn glance<B: Bytes>(bytes: B, wire_len: u32, out: &mut Packet) -> Glance {
    const IP: usize = 14;
    const TCP: usize = IP + 20;
    const OPTIONS: usize = TCP + 20;
    let Some(h) = bytes.at(0, TCP) else { return Glance::Unclear };
    if (h.be16(12) ^ ETHERTYPE_IPV4) | (h.byte(IP) ^ 0x45) as u16 != 0 {
        return Glance::Unclear;
    }
    match h.byte(IP + 9) {
        PROTO_TCP => {}
        PROTO_ICMP | PROTO_AH => return Glance::Unclear,
        _ => return Glance::Other,
    }
    let Some(t) = bytes.at(TCP, 20) else { return Glance::Unclear };
    let word = t.be16(12);
    let header_len = ((word >> 12) as u32) << 2;
    let fragment = h.be16(IP + 6);
    let (ip_len, uncertain) = ip_length(h.be16(IP + 2) as u32, wire_len.saturating_sub(IP as u32));
    if fragment & 0x3fff != 0 || uncertain || ip_len < 20 + header_len {
        return Glance::Unclear;
    }
    let s = &mut out.segment;
    (s.options, s.tsval, s.tsecr) = match header_len {
        20 => (0, 0, 0),
        32 => match bytes.at(OPTIONS, 12) {
            Some(v) if v.be32(0) == options::ALIGNED_TIMESTAMPS => (opt::TIMESTAMPS, v.be32(4), v.be32(8)),
            _ => return Glance::Unclear,
        },
        _ => return Glance::Unclear,
    };
    s.l2 = link_hash(h.be16(6), h.be32(8));
    s.packet = if fragment & 0x4000 != 0 { packet::DF } else { 0 };
    s.tos = h.byte(IP + 1);
    s.ip_id = h.be16(IP + 4);
    s.ttl = h.byte(IP + 8);
    s.flow_label = 0;
    s.seq = SeqNum(t.be32(4));
    s.ack = SeqNum(t.be32(8));
    s.flags = word & 0x0fff;
    s.wnd = t.be16(14);
    s.payload_len = ip_len - 20 - header_len;
    s.sack_count = 0;
    s.mss = 0;
    s.wscale = 0;
    let (source, destination) = (crate::flow::v4(h.be32(IP + 12)), crate::flow::v4(h.be32(IP + 16)));
    let (key, direction) = FlowKey::canonical(source, t.be16(0), destination, t.be16(2));
    out.key = key;
    out.direction = direction as u8;
    Glance::Segment
}

/// As [`ethernet`], without a [`glance`] before.
#[inline(always)]
pub fn ethernet_in_general<B: Bytes>(bytes: B, wire_len: u32, out: &mut Packet) -> Result<(), Reason> {
    let start = link(bytes)?;
    if let Some(header) = bytes.at(0, 14) {
        out.segment.l2 = link_hash(header.be16(6), header.be32(8));
    }
    network(bytes, start, wire_len, out)
}

/// As [`ethernet_in_general`], for a socket buffer that came in. `protocol` is the EtherType that the stack found. Behind generic XDP
/// with fragments (another's, on kernels before its mac_len was kept) the buffer begins with the IP header.
#[inline(always)]
pub fn received<B: Bytes>(bytes: B, protocol: u16, wire_len: u32, out: &mut Packet) -> Result<(), Reason> {
    out.segment.l2 = 0;
    // verifier: not asked of the offset, which would split what is known of it, and with it all that follows.
    if !is_bare(bytes, protocol)
        && let Some(header) = bytes.at(0, 14)
    {
        out.segment.l2 = link_hash(header.be16(6), header.be32(8));
    }
    let start = received_link(bytes, protocol)?;
    network(bytes, start, wire_len, out)
}

#[inline(always)]
fn network<B: Bytes>(
    bytes: B,
    (ethertype, offset): (u16, usize),
    wire_len: u32,
    out: &mut Packet,
) -> Result<(), Reason> {
    let ip_len = wire_len.saturating_sub(offset as u32);
    let tcp_at = match ethertype {
        ETHERTYPE_IPV4 => ipv4(bytes, offset, ip_len, out)?,
        ETHERTYPE_IPV6 => ipv6(bytes, offset, ip_len, out)?,
        _ => return Err(Reason::NotIp),
    };
    tcp(bytes, tcp_at, out)
}

/// EtherType and offset of what an Ethernet frame carries.
#[inline(always)]
pub(crate) fn link<B: Bytes>(bytes: B) -> Result<(u16, usize), Reason> {
    let (ethertype, offset) = tags(bytes)?;
    Ok((ethertype, bytes.forget(offset as u32, 31) as usize))
}

/// The same for [`received`]; offset 0 without an Ethernet header.
#[inline(always)]
pub(crate) fn received_link<B: Bytes>(bytes: B, protocol: u16) -> Result<(u16, usize), Reason> {
    let (ethertype, offset) = if is_bare(bytes, protocol) { (protocol, 0) } else { tags(bytes)? };
    Ok((ethertype, bytes.forget(offset as u32, 31) as usize))
}

/// Whether a received buffer begins with the IP header. With an Ethernet header its EtherType is the stack's: it is where
/// the stack has it from, and the stack takes the outermost VLAN tag out of the frame.
#[inline(always)]
fn is_bare<B: Bytes>(bytes: B, protocol: u16) -> bool {
    let version = match protocol {
        ETHERTYPE_IPV4 => 4,
        ETHERTYPE_IPV6 => 6,
        _ => return false,
    };
    match bytes.at(0, 14) {
        Some(h) => h.be16(12) != protocol && h.byte(0) >> 4 == version,
        None => false,
    }
}

#[inline(always)]
fn tags<B: Bytes>(bytes: B) -> Result<(u16, usize), Reason> {
    let Some(link) = bytes.at(0, 14) else {
        return Err(Reason::TruncatedLink);
    };
    let mut ethertype = link.be16(12);
    let mut offset = 14;
    // Unrolled by the compiler: three tags at most, each at a constant offset.
    for _ in 0..MAX_VLAN_TAGS {
        if !is_vlan(ethertype) {
            break;
        }
        let Some(tag) = bytes.at(offset, 4) else {
            return Err(Reason::TruncatedLink);
        };
        ethertype = tag.be16(2);
        offset += 4;
    }
    if is_vlan(ethertype) {
        return Err(Reason::VlanDepth);
    }
    Ok((ethertype, offset))
}

/// Hash of a source MAC address, never 0; 0 for none.
#[inline(always)]
const fn link_hash(high: u16, low: u32) -> u16 {
    if high as u32 | low == 0 {
        return 0;
    }
    let hash = ((low ^ (high as u32).wrapping_mul(0x85eb_ca6b)).wrapping_mul(0x9e37_79b1) >> 16) as u16;
    if hash == 0 { 1 } else { hash }
}

/// Whether the buffer plausibly holds all headers: enough for a TCP segment with any options in IPv4 without options or
/// IPv6 without extensions, or no TCP at all. The caller makes more of the packet linear where it does not.
#[inline(always)]
pub fn has_headers<B: Bytes>(bytes: B) -> bool {
    match bytes.at(0, 34) {
        None => false,
        Some(h) => match h.be16(12) {
            ETHERTYPE_IPV4 if h.byte(14) == 0x45 => match bytes.at(34, 20) {
                None => h.byte(23) != PROTO_TCP,
                // A header that claims to be shorter is refused by the parser.
                Some(tcp) => bytes.at(34, (((tcp.byte(12) >> 4) as usize) << 2).max(20)).is_some(),
            },
            ETHERTYPE_IPV6 if h.byte(20) == PROTO_TCP => match bytes.at(54, 20) {
                None => false,
                Some(tcp) => bytes.at(54, (((tcp.byte(12) >> 4) as usize) << 2).max(20)).is_some(),
            },
            _ => false,
        },
    }
}

/// Parses an IP packet that starts at `offset`. `wire_len` counts from there, 0 when not known.
#[inline]
pub fn ip<B: Bytes>(bytes: B, offset: usize, wire_len: u32, out: &mut Packet) -> Result<(), Reason> {
    let Some(start) = bytes.at(offset, 2) else {
        return Err(Reason::TruncatedIp);
    };
    out.segment.l2 = 0;
    let tcp_at = match start.byte(0) >> 4 {
        4 => ipv4(bytes, offset, wire_len, out)?,
        6 => ipv6(bytes, offset, wire_len, out)?,
        _ => return Err(Reason::BadIpHeader),
    };
    tcp(bytes, tcp_at, out)
}

#[inline(always)]
fn ipv4<B: Bytes>(bytes: B, offset: usize, wire_len: u32, out: &mut Packet) -> Result<usize, Reason> {
    let Some(h) = bytes.at(offset, 20) else {
        return Err(Reason::TruncatedIp);
    };
    let first = h.byte(0);
    let header_len = ((first & 0x0f) as u32) << 2;
    if first >> 4 != 4 || header_len < 20 {
        return Err(Reason::BadIpHeader);
    }
    let protocol = h.byte(9);
    if protocol != PROTO_TCP && protocol != PROTO_AH {
        return Err(Reason::NotTcp);
    }
    let fragment = h.be16(6);
    if fragment & 0x1fff != 0 {
        return Err(Reason::Fragment);
    }
    let (ip_len, uncertain) = ip_length(h.be16(2) as u32, wire_len);
    if !uncertain && ip_len < header_len {
        return Err(Reason::BadIpHeader);
    }
    let mut facts = 0;
    if fragment & 0x4000 != 0 {
        facts |= packet::DF;
    }
    if fragment & 0x2000 != 0 {
        facts |= packet::FIRST_FRAGMENT;
    }
    if uncertain {
        facts |= packet::LENGTH_UNCERTAIN;
    }
    let s = &mut out.segment;
    s.packet = facts;
    s.tos = h.byte(1);
    s.ip_id = h.be16(4);
    s.ttl = h.byte(8);
    s.flow_label = 0;
    s.payload_len = ip_len.saturating_sub(header_len);
    out.key.addr = [crate::flow::v4(h.be32(12)), crate::flow::v4(h.be32(16))];
    let at = offset + header_len as usize;
    if protocol == PROTO_AH {
        // RFC 4302 section 2.2: the length is in 4-byte words, minus 2.
        let Some(ah) = bytes.at(at, 8) else {
            return Err(Reason::TruncatedIp);
        };
        if ah.byte(0) != PROTO_TCP {
            return Err(Reason::NotTcp);
        }
        let len = ((ah.byte(1) as u32) + 2) << 2;
        s.payload_len = s.payload_len.saturating_sub(len);
        return Ok(at + len as usize);
    }
    Ok(at)
}

#[inline(always)]
fn ipv6<B: Bytes>(bytes: B, offset: usize, wire_len: u32, out: &mut Packet) -> Result<usize, Reason> {
    let Some(h) = bytes.at(offset, 40) else {
        return Err(Reason::TruncatedIp);
    };
    let first = h.be32(0);
    if first >> 28 != 6 {
        return Err(Reason::BadIpHeader);
    }
    let (mut payload, mut uncertain) = ip_length(h.be16(4) as u32, wire_len.saturating_sub(40));
    let mut next = h.byte(6);
    out.key.addr = [
        [pair(h.be32(8), h.be32(12)), pair(h.be32(16), h.be32(20))],
        [pair(h.be32(24), h.be32(28)), pair(h.be32(32), h.be32(36))],
    ];
    let ttl = h.byte(7);
    let mut facts = packet::IPV6;
    let mut at = offset + 40;
    let mut rounds = 0;
    while rounds < MAX_EXTENSIONS {
        // Hop-by-hop, routing, destination options, fragment, authentication: RFC 8200 section 4, RFC 4302.
        if !matches!(next, 0 | 43 | 60 | 44 | 51) {
            break;
        }
        let Some(ext) = bytes.at(at, 8) else {
            return Err(Reason::TruncatedIp);
        };
        let len = match next {
            44 => {
                let fragment = ext.be16(2);
                if fragment & 0xfff8 != 0 {
                    return Err(Reason::Fragment);
                }
                if fragment & 1 != 0 {
                    facts |= packet::FIRST_FRAGMENT;
                }
                8
            }
            51 => ((ext.byte(1) as u32) + 2) << 2,
            _ => ((ext.byte(1) as u32) + 1) << 3,
        };
        // Jumbo payload option (RFC 2675) as the first hop-by-hop option, as Linux BIG TCP writes it.
        if next == 0 && uncertain && ext.byte(2) == 0xc2 && ext.byte(3) == 4 {
            payload = ext.be32(4);
            uncertain = false;
        }
        next = ext.byte(0);
        if at + len as usize > MAX_HEADERS {
            return Err(Reason::ExtensionDepth);
        }
        at = bytes.forget(at as u32 + len, OFFSETS) as usize;
        payload = payload.saturating_sub(len);
        rounds += 1;
    }
    if matches!(next, 0 | 43 | 60 | 44 | 51) {
        return Err(Reason::ExtensionDepth);
    }
    if next != PROTO_TCP {
        return Err(Reason::NotTcp);
    }
    if uncertain {
        facts |= packet::LENGTH_UNCERTAIN;
    }
    let s = &mut out.segment;
    s.packet = facts;
    s.tos = (first >> 20) as u8;
    s.ip_id = 0;
    s.ttl = ttl;
    s.flow_label = first & 0x000f_ffff;
    s.payload_len = payload;
    Ok(at)
}

/// The length to believe, and whether it is uncertain. 0 in the header is a BIG TCP super-packet: take the
/// buffer's. A header that claims more than the wire carried is cut to it.
#[inline(always)]
const fn ip_length(header: u32, wire_len: u32) -> (u32, bool) {
    if header == 0 {
        (wire_len, wire_len == 0)
    } else if wire_len != 0 && header > wire_len {
        (wire_len, false)
    } else {
        (header, false)
    }
}

#[inline(always)]
pub(crate) const fn pair(high: u32, low: u32) -> u64 {
    ((high as u64) << 32) | low as u64
}

/// Reads the TCP header at `offset`. Addresses (source first), the IP payload's length and the IP facts are in `out`.
#[inline(always)]
fn tcp<B: Bytes>(bytes: B, offset: usize, out: &mut Packet) -> Result<(), Reason> {
    if offset > MAX_HEADERS {
        return Err(Reason::ExtensionDepth);
    }
    let offset = bytes.forget(offset as u32, OFFSETS) as usize;
    let Some(h) = bytes.at(offset, 20) else {
        return Err(Reason::TruncatedTcp);
    };
    let word = h.be16(12);
    let header_len = ((word >> 12) as u32) << 2;
    let ip_payload = out.segment.payload_len;
    let uncertain = out.segment.packet & packet::LENGTH_UNCERTAIN != 0;
    if header_len < 20 || (header_len > ip_payload && !uncertain) {
        return Err(Reason::BadTcpHeader);
    }
    let [src, dst] = out.key.addr;
    let (key, direction) = FlowKey::canonical(src, h.be16(0), dst, h.be16(2));
    out.key = key;
    out.direction = direction as u8;
    let s = &mut out.segment;
    s.seq = SeqNum(h.be32(4));
    s.ack = SeqNum(h.be32(8));
    s.flags = word & 0x0fff;
    s.wnd = h.be16(14);
    s.payload_len = ip_payload.saturating_sub(header_len);
    // The packet before left its options in the same memory.
    s.options = 0;
    s.sack_count = 0;
    s.tsval = 0;
    s.tsecr = 0;
    s.mss = 0;
    s.wscale = 0;
    if header_len > 20 {
        options::parse(bytes, offset + 20, header_len as usize - 20, s);
    }
    Ok(())
}
