//! PPP, PPPoE, and Cisco's HDLC, which share lines.

use super::walk::Walk;
use super::{Layer, Peeled, Reason, Step};

/// PPP in HDLC-like framing (RFC 1662), or Cisco HDLC, told apart by the address byte as Wireshark does.
pub(super) fn hdlc(w: &mut Walk<'_>) -> Peeled {
    match w.u8(0)? {
        0x0f | 0x8f => cisco_hdlc(w),
        _ => ppp(w),
    }
}

/// The direction byte of LINKTYPE_PPP_WITH_DIR, then PPP.
pub(super) fn with_direction(w: &mut Walk<'_>) -> Peeled {
    w.skip(1)?;
    hdlc(w)
}

/// From address and control, if present (RFC 1661 6.6), or the protocol on, one byte if odd (6.5).
pub(super) fn ppp(w: &mut Walk<'_>) -> Peeled {
    if let Ok([0xff, 0x03]) = w.array(0) {
        w.skip(2)?;
    }
    let first = w.u8(0)?;
    let protocol = if first & 1 == 1 {
        w.skip(1)?;
        first.into()
    } else {
        let protocol = w.be16(0)?;
        w.skip(2)?;
        protocol
    };
    match protocol {
        0x0021 | 0x0057 => Ok(Step::Next(Layer::Ip)),
        0x0281 | 0x0283 => Ok(Step::Next(Layer::Mpls)),
        _ => Err(Reason::NotIp),
    }
}

/// Address, control, then an Ethernet type (RFC 1547 4.3.1).
pub(super) fn cisco_hdlc(w: &mut Walk<'_>) -> Peeled {
    let t = w.be16(2)?;
    w.skip(4)?;
    match t {
        0x0800 | 0x86dd | 0x8847 | 0x8848 | 0x6558 => Ok(Step::Next(Layer::EtherType(t))),
        _ => Err(Reason::NotIp),
    }
}

/// RFC 2516 4: version and type, code (0 in the session stage), session, length.
pub(super) fn pppoe(w: &mut Walk<'_>) -> Peeled {
    let code = w.u8(1)?;
    let len = w.be16(4)?;
    if code != 0 {
        return Err(Reason::NotIp);
    }
    w.skip(6)?;
    w.bound(len.into());
    Ok(Step::Next(Layer::Ppp))
}
