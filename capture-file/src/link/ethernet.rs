//! Ethernet, its tags, and the other IEEE 802 links with LLC.

use super::walk::Walk;
use super::{Layer, Peeled, Reason, Step};

/// IEEE 802.3 3.2.6: larger values are types, not lengths; between this and 0x600 they are neither.
const MAX_LENGTH: u16 = 1500;
const MIN_TYPE: u16 = 0x600;

#[inline]
pub(super) fn ethernet(w: &mut Walk<'_>) -> Peeled {
    let t = w.be16(12)?;
    w.skip(14)?;
    type_or_length(w, t)
}

/// A type field that has just been passed, in Ethernet or after a tag.
#[inline]
fn type_or_length(w: &mut Walk<'_>, t: u16) -> Peeled {
    match t {
        MIN_TYPE.. => ether_type(w, t),
        ..=MAX_LENGTH => {
            w.bound(t.into());
            Ok(Step::Next(Layer::Llc))
        }
        _ => Err(Reason::NotIp),
    }
}

/// IEEE 802 numbers (IANA registry "Ethertypes").
#[inline]
pub(super) fn ether_type(w: &mut Walk<'_>, t: u16) -> Peeled {
    match t {
        0x0800 | 0x86dd => super::ip::ip(w),
        // 802.1Q, 802.1ad, and the number used for stacked tags before it.
        0x8100 | 0x88a8 | 0x9100 => tag(w, 2),
        0x8847 | 0x8848 => Ok(Step::Next(Layer::Mpls)),
        0x8864 => Ok(Step::Next(Layer::Pppoe)),
        other => rare_type(w, other),
    }
}

fn rare_type(w: &mut Walk<'_>, t: u16) -> Peeled {
    match t {
        // Transparent Ethernet bridging.
        0x6558 => Ok(Step::Next(Layer::Ethernet)),
        // 802.1ah: the I-TAG, then a whole Ethernet header.
        0x88e7 => skip_to(w, 4, Layer::Ethernet),
        // Cisco FabricPath: the FTAG, then a whole Ethernet header.
        0x8903 => skip_to(w, 2, Layer::Ethernet),
        // VN-Tag; 802.1BR E-TAG; Cisco metadata (one security group tag); 802.1CB R-TAG; HSR.
        0x8926 => tag(w, 4),
        0x893f => tag(w, 6),
        0x8909 => tag(w, 6),
        0xf1c1 => tag(w, 4),
        0x892f => tag(w, 4),
        0x880b => Ok(Step::Next(Layer::Ppp)),
        // Jumbo frames with LLC.
        0x8870 => Ok(Step::Next(Layer::Llc)),
        0x894f => Ok(Step::Next(Layer::Nsh)),
        _ => Err(Reason::NotIp),
    }
}

/// A tag of `len` bytes, then the next type.
#[inline]
fn tag(w: &mut Walk<'_>, len: usize) -> Peeled {
    let t = w.be16(len)?;
    w.skip(len + 2)?;
    match t {
        MIN_TYPE.. => Ok(Step::Next(Layer::EtherType(t))),
        _ => type_or_length(w, t),
    }
}

fn skip_to(w: &mut Walk<'_>, len: usize, next: Layer) -> Peeled {
    w.skip(len)?;
    Ok(Step::Next(next))
}

/// IEEE 802.2 with or without SNAP (RFC 1042), and NLPIDs (RFC 2684).
pub(super) fn llc(w: &mut Walk<'_>) -> Peeled {
    let [dsap, ssap, control] = w.array(0)?;
    match (dsap, ssap, control) {
        (0xaa, 0xaa | 0xab, 0x03) => {
            let [_, _, _, o1, o2, o3, t1, t2] = w.array(0)?;
            w.skip(8)?;
            match [o1, o2, o3] {
                // 00-00-00 is RFC 1042, 00-00-F8 is 802.1H for types that RFC 1042 cannot carry.
                [0, 0, 0] | [0, 0, 0xf8] => Ok(Step::Next(Layer::EtherType(u16::from_be_bytes([t1, t2])))),
                _ => Err(Reason::NotIp),
            }
        }
        // IP's own service access point; two bytes of control unless the frame is unnumbered.
        (0x06, _, _) => skip_to(w, if control & 3 == 3 { 3 } else { 4 }, Layer::Ip),
        (0xfe, 0xfe, 0x03) if matches!(w.u8(3)?, 0xcc | 0x8e) => skip_to(w, 4, Layer::Ip),
        _ => Err(Reason::NotIp),
    }
}

/// FDDI (ANSI X3.139): frame control, two addresses, then LLC in asynchronous LLC frames.
pub(super) fn fddi(w: &mut Walk<'_>) -> Peeled {
    let control = w.u8(0)?;
    if control & 0xf8 != 0x50 {
        return Err(Reason::NotIp);
    }
    skip_to(w, 13, Layer::Llc)
}

/// IP over InfiniBand: the 40 bytes of the global routing header, type, two reserved bytes (RFC 4391).
pub(super) fn ipoib(w: &mut Walk<'_>) -> Peeled {
    let t = w.be16(40)?;
    skip_to(w, 44, Layer::EtherType(t))
}

/// Marvell switch tags between the addresses and the type: 4 bytes (DSA) or 8 (EDSA).
pub(super) fn dsa(w: &mut Walk<'_>, tag: usize) -> Peeled {
    let t = w.be16(12 + tag)?;
    w.skip(14 + tag)?;
    type_or_length(w, t)
}

/// Whether the bytes at `at` could be the type of an Ethernet header, for pseudowires that do not say
/// what they carry.
pub(super) fn plausible_type(w: &Walk<'_>, at: usize) -> bool {
    matches!(
        w.peek16(at),
        Some(0x0800 | 0x0806 | 0x86dd | 0x8100 | 0x88a8 | 0x9100 | 0x8847 | 0x8848 | 0x8863 | 0x8864)
    )
}
