//! GRE (RFC 2784, 2890, 1701, PPTP's of RFC 2637) and ERSPAN over it.

use super::super::walk::Walk;
use super::super::{Layer, Peeled, Reason, Step};

const CHECKSUM: u16 = 0x8000;
const ROUTING: u16 = 0x4000;
const KEY: u16 = 0x2000;
const SEQUENCE: u16 = 0x1000;
/// PPTP only.
const ACKNOWLEDGMENT: u16 = 0x0080;

const ERSPAN_I_II: u16 = 0x88be;
const ERSPAN_III: u16 = 0x22eb;
const WCCP: u16 = 0x883e;

/// More source routes than any real packet has.
const MAX_ROUTES: usize = 16;

pub(in super::super) fn gre(w: &mut Walk<'_>) -> Peeled {
    let (flags, protocol) = (w.be16(0)?, w.be16(2)?);
    let mut header = 4;
    if flags & (CHECKSUM | ROUTING) != 0 {
        header += 4;
    }
    if flags & KEY != 0 {
        header += 4;
    }
    if flags & SEQUENCE != 0 {
        header += 4;
    }
    let pptp = flags & 7 == 1;
    if pptp && flags & ACKNOWLEDGMENT != 0 {
        header += 4;
    }
    w.skip(header)?;
    if flags & ROUTING != 0 {
        source_routes(w)?;
    }
    match protocol {
        ERSPAN_I_II | ERSPAN_III => erspan(w, protocol, flags & SEQUENCE != 0),
        // Version 2 of WCCP puts a redirect header before the packet, version 1 does not.
        WCCP => {
            if w.u8(0)? >> 4 != 4 {
                w.skip(4)?;
            }
            Ok(Step::Next(Layer::Ip))
        }
        _ => payload(protocol).map(Step::Next),
    }
}

/// RFC 1701: entries of family, offset and length, up to one of length 0.
fn source_routes(w: &mut Walk<'_>) -> Result<(), Reason> {
    for _ in 0..MAX_ROUTES {
        let len = w.u8(3)?;
        w.skip(4 + usize::from(len))?;
        if len == 0 {
            return Ok(());
        }
    }
    Err(Reason::TooDeep)
}

/// What GRE's protocol field announces: Ethernet types, with some numbers of its own.
pub(in super::super) fn payload(protocol: u16) -> Result<Layer, Reason> {
    match protocol {
        0x0800 | 0x86dd => Ok(Layer::Ip),
        // 0x6400 is Wireshark's "Raw Ethernet" of some access points.
        0x6558 | 0x6400 => Ok(Layer::Ethernet),
        0x8847 | 0x8848 => Ok(Layer::Mpls),
        0x880b => Ok(Layer::Ppp),
        0x894f => Ok(Layer::Nsh),
        // Aruba access points: 802.11 without FCS, the traffic class in bits 4 to 8.
        0x8200..=0x8370 if protocol & 0xf == 0 => Ok(Layer::Wlan),
        _ => Err(Reason::NotIp),
    }
}

/// draft-foschiano-erspan-03 section 4: mirrored Ethernet frames.
fn erspan(w: &mut Walk<'_>, protocol: u16, sequence: bool) -> Peeled {
    if protocol == ERSPAN_I_II && !sequence {
        // Type I has no header of its own, and no sequence number is its only mark.
        return Ok(Step::Next(Layer::Ethernet));
    }
    match w.u8(0)? >> 4 {
        // Type II.
        1 => {
            w.skip(8)?;
            Ok(Step::Next(Layer::Ethernet))
        }
        // Type III: 12 bytes, and 8 more if the O bit is set; bits 1 to 5 of the last word say what
        // was mirrored. Only Ethernet is looked into, as in Wireshark.
        2 => {
            let last = w.be16(10)?;
            w.skip(if last & 1 != 0 { 20 } else { 12 })?;
            match last >> 10 & 0x1f {
                0 => Ok(Step::Next(Layer::Ethernet)),
                _ => Err(Reason::NotIp),
            }
        }
        _ => Err(Reason::NotIp),
    }
}
