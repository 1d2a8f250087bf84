//! From a frame to the IP packet in it.
//!
//! [`locate`] peels one header after the other, in a loop without recursion: each header type is a
//! function that moves a `Walk` past itself and names the next `Layer`. Every read is checked, at
//! most 48 headers and 8 nested IP headers are looked at, nothing is allocated.
//!
//! What is recognised, and by which numbers, follows Wireshark 4.0 with default preferences, so that the
//! two agree on what a frame holds. Where it does not, the comment there says so.

mod ethernet;
mod host;
mod ip;
mod mpls;
mod ppp;
mod sll;
mod tunnel;
mod walk;
mod wlan;

use walk::Walk;
pub(crate) use walk::array;

/// LINKTYPE values (<https://www.tcpdump.org/linktypes.html>) that [`locate`] can see through.
pub mod linktype {
    #![allow(missing_docs, reason = "the names are the registry's")]
    pub const NULL: u16 = 0;
    pub const ETHERNET: u16 = 1;
    pub const PPP: u16 = 9;
    pub const FDDI: u16 = 10;
    /// DLT_RAW of most systems, found in files though the registry has 101.
    pub const DLT_RAW: u16 = 12;
    /// DLT_RAW of OpenBSD.
    pub const DLT_RAW_OPENBSD: u16 = 14;
    pub const PPP_HDLC: u16 = 50;
    pub const PPP_ETHER: u16 = 51;
    pub const RAW: u16 = 101;
    pub const C_HDLC: u16 = 104;
    pub const IEEE802_11: u16 = 105;
    pub const LOOP: u16 = 108;
    pub const ENC: u16 = 109;
    pub const LINUX_SLL: u16 = 113;
    pub const PFLOG: u16 = 117;
    pub const IEEE802_11_PRISM: u16 = 119;
    pub const IEEE802_11_RADIOTAP: u16 = 127;
    pub const IEEE802_11_AVS: u16 = 163;
    pub const PPI: u16 = 192;
    pub const PPP_WITH_DIR: u16 = 204;
    pub const IPV4: u16 = 228;
    pub const IPV6: u16 = 229;
    pub const NFLOG: u16 = 239;
    pub const IPOIB: u16 = 242;
    pub const PKTAP: u16 = 258;
    pub const LINUX_SLL2: u16 = 276;
    pub const DSA_TAG_DSA: u16 = 284;
    pub const DSA_TAG_EDSA: u16 = 285;
}

/// Most headers looked at in one frame: a frame of 1500 bytes of VLAN tags must not cost more.
const MAX_HEADERS: usize = 48;

/// Most IP headers, one inside the other.
const MAX_NESTED_IP: u8 = 8;

/// Where the IP packet with TCP is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Located {
    /// The innermost IP header (version 4 or 6) whose transport is TCP, possibly after IPv6 extension
    /// headers or an authentication header.
    Ip {
        /// Offset of the IP header from the beginning of the frame, in bytes; below the frame's
        /// captured length. At least the fixed IP header is captured; options, extension headers and
        /// TCP header may be cut.
        offset: usize,
        /// Length on the wire in bytes from the IP header on: to the end of the frame, or of whatever
        /// encloses the packet and says its length. Padding of short frames counts. This is the
        /// packet's length when its own length field is 0 (segmentation offload).
        wire_len: u32,
    },
    /// There is none.
    Not(Reason),
}

/// Why a frame has no TCP to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Reason {
    /// The link type is not known here.
    UnsupportedLink,
    /// Something other than IP: ARP, spanning tree, a management frame.
    NotIp,
    /// IP, but another transport, or TCP only quoted in an ICMP error.
    NotTcp,
    /// A fragment that is not the first: the TCP header is in another frame.
    IpFragment,
    /// Captured too short to tell.
    Truncated,
    /// A length or version field that cannot be true.
    Malformed,
    /// Encrypted on the link (802.11 with its protection bit).
    Encrypted,
    /// More headers than are looked at.
    TooDeep,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Self; 8] = [
        Self::UnsupportedLink,
        Self::NotIp,
        Self::NotTcp,
        Self::IpFragment,
        Self::Truncated,
        Self::Malformed,
        Self::Encrypted,
        Self::TooDeep,
    ];

    /// Stable name for counters and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnsupportedLink => "unsupported_link",
            Self::NotIp => "not_ip",
            Self::NotTcp => "not_tcp",
            Self::IpFragment => "ip_fragment",
            Self::Truncated => "truncated",
            Self::Malformed => "malformed",
            Self::Encrypted => "encrypted",
            Self::TooDeep => "too_deep",
        }
    }
}

/// The header to look at next.
#[derive(Clone, Copy)]
enum Layer {
    /// Whatever a LINKTYPE says.
    Link(u16),
    Ethernet,
    /// What an Ethernet type announces.
    EtherType(u16),
    /// IEEE 802.2.
    Llc,
    Mpls,
    /// From the protocol field on, with or without address and control.
    Ppp,
    Pppoe,
    Wlan,
    Radiotap,
    Ip,
    Gre,
    Udp,
    Nsh,
}

enum Step {
    Next(Layer),
    /// The walk stands on the IP header; the length on the wire from there.
    Found(u32),
}

type Peeled = Result<Step, Reason>;

/// Finds the innermost IP header that carries TCP in a frame.
///
/// `link_type` is a LINKTYPE of the registry, `data` the captured bytes, `wire_len` the frame's length on
/// the wire in bytes (less than `data.len()` is taken as `data.len()`).
#[inline]
pub fn locate(link_type: u16, data: &[u8], wire_len: u32) -> Located {
    let mut walk = Walk::new(data, wire_len);
    let mut layer = Layer::Link(link_type);
    for _ in 0..MAX_HEADERS {
        match peel(&mut walk, layer) {
            Ok(Step::Next(next)) => layer = next,
            Ok(Step::Found(wire_len)) => return Located::Ip { offset: walk.offset(), wire_len },
            Err(reason) => return Located::Not(reason),
        }
    }
    Located::Not(Reason::TooDeep)
}

#[inline]
fn peel(w: &mut Walk<'_>, layer: Layer) -> Peeled {
    match layer {
        Layer::Link(link_type) => link(w, link_type),
        Layer::Ethernet => ethernet::ethernet(w),
        Layer::EtherType(t) => ethernet::ether_type(w, t),
        Layer::Ip => ip::ip(w),
        Layer::Llc => ethernet::llc(w),
        Layer::Mpls => mpls::mpls(w),
        Layer::Ppp => ppp::ppp(w),
        Layer::Pppoe => ppp::pppoe(w),
        Layer::Wlan => wlan::wlan(w),
        Layer::Radiotap => wlan::radiotap(w),
        Layer::Gre => tunnel::gre::gre(w),
        Layer::Udp => tunnel::udp::udp(w),
        Layer::Nsh => tunnel::nsh(w),
    }
}

#[inline]
fn link(w: &mut Walk<'_>, link_type: u16) -> Peeled {
    match link_type {
        linktype::ETHERNET => ethernet::ethernet(w),
        linktype::RAW | linktype::DLT_RAW | linktype::DLT_RAW_OPENBSD | linktype::IPV4 | linktype::IPV6 => ip::ip(w),
        linktype::LINUX_SLL => sll::v1(w),
        linktype::LINUX_SLL2 => sll::v2(w),
        other => rare_link(w, other),
    }
}

fn rare_link(w: &mut Walk<'_>, link_type: u16) -> Peeled {
    match link_type {
        linktype::NULL => host::null(w),
        linktype::LOOP => host::loopback(w),
        linktype::PPP | linktype::PPP_HDLC => ppp::hdlc(w),
        linktype::PPP_ETHER => ppp::pppoe(w),
        linktype::PPP_WITH_DIR => ppp::with_direction(w),
        linktype::C_HDLC => ppp::cisco_hdlc(w),
        linktype::FDDI => ethernet::fddi(w),
        linktype::IPOIB => ethernet::ipoib(w),
        linktype::DSA_TAG_DSA => ethernet::dsa(w, 4),
        linktype::DSA_TAG_EDSA => ethernet::dsa(w, 8),
        linktype::IEEE802_11 => wlan::wlan(w),
        linktype::IEEE802_11_RADIOTAP => wlan::radiotap(w),
        linktype::IEEE802_11_PRISM | linktype::IEEE802_11_AVS => wlan::prism(w),
        linktype::PPI => wlan::ppi(w),
        linktype::NFLOG => host::nflog(w),
        linktype::PFLOG => host::pflog(w),
        linktype::ENC => host::enc(w),
        linktype::PKTAP => host::pktap(w),
        _ => Err(Reason::UnsupportedLink),
    }
}
