//! Links that exist only inside a host: loopback, firewall logs, process captures.

use super::walk::Walk;
use super::{Layer, Peeled, Reason, Step};

/// LINKTYPE_NULL: the address family in the byte order of the capturing machine.
pub(super) fn null(w: &mut Walk<'_>) -> Peeled {
    let family = w.be32(0)?;
    // Families are small: the order that makes it small is the right one.
    family_payload(w, if family > 0xffff { family.swap_bytes() } else { family })
}

/// LINKTYPE_LOOP: the same in network byte order.
pub(super) fn loopback(w: &mut Walk<'_>) -> Peeled {
    let family = w.be32(0)?;
    family_payload(w, family)
}

fn family_payload(w: &mut Walk<'_>, family: u32) -> Peeled {
    w.skip(4)?;
    match family {
        // AF_INET everywhere; AF_INET6 of Linux (unknown to Wireshark), of NetBSD and OpenBSD, of FreeBSD,
        // of macOS.
        2 | 10 | 24 | 28 | 30 => Ok(Step::Next(Layer::Ip)),
        // Some writers put an Ethernet type there.
        0x0800 | 0x86dd => Ok(Step::Next(Layer::Ip)),
        _ => Err(Reason::NotIp),
    }
}

/// LINKTYPE_NFLOG: family, version, resource (1, 1, 2 bytes), then attributes of length and type in the
/// byte order of the capturing machine, padded to 4 bytes; type 9 is the packet, and ends the walk.
pub(super) fn nflog(w: &mut Walk<'_>) -> Peeled {
    /// More attributes than netfilter has.
    const MAX_ATTRIBUTES: usize = 64;
    const PAYLOAD: u16 = 9;
    let family = w.u8(0)?;
    if !matches!(family, 2 | 10) {
        return Err(Reason::NotIp);
    }
    w.skip(4)?;
    // Nothing says the byte order; a length of 256 or more in one order is small in the other, and the
    // first attribute (the packet header, 8 bytes) is small.
    let little = w.le16(0)? <= w.be16(0)?;
    for _ in 0..MAX_ATTRIBUTES {
        let (len, kind) = if little { (w.le16(0)?, w.le16(2)?) } else { (w.be16(0)?, w.be16(2)?) };
        if len < 4 {
            return Err(Reason::Malformed);
        }
        // The upper bits are flags (NLA_F_NESTED, NLA_F_NET_BYTEORDER).
        if kind & 0x3fff == PAYLOAD {
            w.bound(len.into());
            w.skip(4)?;
            return Ok(Step::Next(Layer::Ip));
        }
        w.skip(usize::from(len).next_multiple_of(4))?;
    }
    Err(Reason::NotIp)
}

/// LINKTYPE_PFLOG: the first byte is the header's length without its padding to 4 bytes.
pub(super) fn pflog(w: &mut Walk<'_>) -> Peeled {
    let len = usize::from(w.u8(0)?);
    if len < 4 {
        return Err(Reason::Malformed);
    }
    w.skip(len.next_multiple_of(4))?;
    Ok(Step::Next(Layer::Ip))
}

/// LINKTYPE_ENC (OpenBSD IPsec): family, parameter index, flags, 4 bytes each.
pub(super) fn enc(w: &mut Walk<'_>) -> Peeled {
    w.skip(12)?;
    Ok(Step::Next(Layer::Ip))
}

/// LINKTYPE_PKTAP (macOS): little-endian header length, record type, DLT of what follows.
pub(super) fn pktap(w: &mut Walk<'_>) -> Peeled {
    let (len, link_type) = (w.le32(0)?, w.le32(8)?);
    if len < 12 {
        return Err(Reason::Malformed);
    }
    w.skip(usize::try_from(len).unwrap_or(usize::MAX))?;
    Ok(Step::Next(Layer::Link(u16::try_from(link_type).map_err(|_| Reason::UnsupportedLink)?)))
}
