//! IPv4 and IPv6: where TCP is found, and what else they carry that may hold TCP.

use super::walk::Walk;
use super::{Layer, Peeled, Reason, Step};

/// IP numbers (IANA "Protocol Numbers").
mod protocol {
    pub(super) const IPV4: u8 = 4;
    pub(super) const TCP: u8 = 6;
    pub(super) const UDP: u8 = 17;
    pub(super) const IPV6: u8 = 41;
    pub(super) const GRE: u8 = 47;
    pub(super) const AH: u8 = 51;
    pub(super) const ETHERIP: u8 = 97;
    pub(super) const MPLS: u8 = 137;
    pub(super) const ETHERNET: u8 = 143;
}

/// More extension headers than any real packet has.
const MAX_EXTENSIONS: usize = 16;

/// The version field decides, not what announced the packet.
#[inline]
pub(super) fn ip(w: &mut Walk<'_>) -> Peeled {
    match w.u8(0)? >> 4 {
        4 => v4(w),
        6 => v6(w),
        _ => Err(Reason::NotIp),
    }
}

/// RFC 791 3.1.
#[inline]
fn v4(w: &mut Walk<'_>) -> Peeled {
    let head: [u8; 20] = w.array(0)?;
    w.nest()?;
    let header = usize::from(head[0] & 0xf) * 4;
    let total = u16::from_be_bytes([head[2], head[3]]);
    // Length 0 is segmentation offload: the card fills it in after the capture.
    if header < 20 || total != 0 && usize::from(total) < header {
        return Err(Reason::Malformed);
    }
    if u16::from_be_bytes([head[6], head[7]]) & 0x1fff != 0 {
        return Err(Reason::IpFragment);
    }
    if head[9] == protocol::TCP {
        return Ok(Step::Found(w.wire()));
    }
    let enclosing = w.wire();
    if total != 0 {
        w.bound(total.into());
    }
    behind(w, head[9], header, enclosing)
}

/// RFC 8200 3 and 4.
#[inline]
fn v6(w: &mut Walk<'_>) -> Peeled {
    const HEADER: usize = 40;
    let head: [u8; HEADER] = w.array(0)?;
    w.nest()?;
    if head[6] == protocol::TCP {
        return Ok(Step::Found(w.wire()));
    }
    let enclosing = w.wire();
    // Length 0 is a jumbogram (RFC 2675) or segmentation offload.
    let payload = u16::from_be_bytes([head[4], head[5]]);
    if payload != 0 {
        w.bound(u32::from(payload) + HEADER as u32);
    }
    behind(w, head[6], HEADER, enclosing)
}

/// What is `at` bytes behind the beginning of an IP header, with extension headers.
fn behind(w: &mut Walk<'_>, first: u8, mut at: usize, enclosing: u32) -> Peeled {
    let mut next = first;
    for _ in 0..MAX_EXTENSIONS {
        match next {
            protocol::TCP => return Ok(Step::Found(enclosing)),
            // Hop-by-hop, routing, destination options, mobility, HIP, Shim6.
            0 | 43 | 60 | 135 | 139 | 140 => {
                let [following, len] = w.array(at)?;
                next = following;
                at += (usize::from(len) + 1) * 8;
            }
            44 => {
                let [following, _, o1, o2] = w.array(at)?;
                if u16::from_be_bytes([o1, o2]) & 0xfff8 != 0 {
                    return Err(Reason::IpFragment);
                }
                next = following;
                at += 8;
            }
            // RFC 4302 2.2: in words of 4 bytes, less 2.
            protocol::AH => {
                let [following, len] = w.array(at)?;
                next = following;
                at += (usize::from(len) + 2) * 4;
            }
            other => {
                let (layer, extra) = carried(other).ok_or(Reason::NotTcp)?;
                w.skip(at + extra)?;
                return Ok(Step::Next(layer));
            }
        }
    }
    Err(Reason::TooDeep)
}

/// Tunnels right over IP: the header inside, and the bytes before it.
fn carried(protocol: u8) -> Option<(Layer, usize)> {
    Some(match protocol {
        protocol::UDP => (Layer::Udp, 0),
        protocol::IPV4 | protocol::IPV6 => (Layer::Ip, 0),
        protocol::GRE => (Layer::Gre, 0),
        // RFC 3378: version and reserved bits.
        protocol::ETHERIP => (Layer::Ethernet, 2),
        protocol::MPLS => (Layer::Mpls, 0),
        protocol::ETHERNET => (Layer::Ethernet, 0),
        _ => return None,
    })
}
