//! Tunnels over UDP, recognised by their registered ports.

use super::super::walk::Walk;
use super::super::{Layer, Peeled, Reason, Step};

const HEADER: usize = 8;

/// A tunnel's header: moves past it.
type Tunnel = fn(&mut Walk<'_>) -> Peeled;

pub(in super::super) fn udp(w: &mut Walk<'_>) -> Peeled {
    let [a, b, c, d, l1, l2, ..]: [u8; HEADER] = w.array(0)?;
    let (source, destination) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    // The lower port first, as Wireshark does: of 4789 to 4790 it is VXLAN.
    let tunnel = tunnel(source.min(destination)).or_else(|| tunnel(source.max(destination)));
    let tunnel = tunnel.ok_or(Reason::NotTcp)?;
    let len = u16::from_be_bytes([l1, l2]);
    // 0 with segmentation offload or a jumbogram (RFC 2675 4).
    if usize::from(len) >= HEADER {
        w.bound(len.into());
    }
    w.skip(HEADER)?;
    tunnel(w)
}

fn tunnel(port: u16) -> Option<Tunnel> {
    Some(match port {
        1701 => l2tp,
        2152 => gtp_u,
        3544 => teredo,
        4341 => lisp,
        4754 => super::gre::gre,
        4789 => vxlan,
        4790 => vxlan_gpe,
        5072 => ayiya,
        6081 => geneve,
        6635 => super::super::mpls::mpls,
        37008 => tzsp,
        _ => return None,
    })
}

/// RFC 7348 5.
fn vxlan(w: &mut Walk<'_>) -> Peeled {
    w.skip(8)?;
    Ok(Step::Next(Layer::Ethernet))
}

/// draft-ietf-nvo3-vxlan-gpe section 3: the next protocol in the fourth byte if the P bit is set.
fn vxlan_gpe(w: &mut Walk<'_>) -> Peeled {
    let [flags, _, _, protocol] = w.array(0)?;
    w.skip(8)?;
    if flags & 0x04 == 0 {
        return Err(Reason::NotIp);
    }
    super::next_protocol(protocol).map(Step::Next)
}

/// RFC 9300 5.1: flags, nonce, locator bits.
fn lisp(w: &mut Walk<'_>) -> Peeled {
    w.skip(8)?;
    Ok(Step::Next(Layer::Ip))
}

/// RFC 8926 3.4: the options' length in words of 4 bytes, an Ethernet type.
fn geneve(w: &mut Walk<'_>) -> Peeled {
    let first = w.u8(0)?;
    let t = w.be16(2)?;
    w.skip(8 + usize::from(first & 0x3f) * 4)?;
    Ok(Step::Next(Layer::EtherType(t)))
}

/// 3GPP TS 29.281 5.1 and 5.2: user packets, after optional fields and extension headers.
fn gtp_u(w: &mut Walk<'_>) -> Peeled {
    const USER_PACKET: u8 = 255;
    const MAX_EXTENSIONS: usize = 16;
    let [flags, kind] = w.array(0)?;
    // Version 1, protocol type GTP.
    if flags & 0xf0 != 0x30 || kind != USER_PACKET {
        return Err(Reason::NotIp);
    }
    let len = w.be16(2)?;
    w.skip(8)?;
    w.bound(len.into());
    if flags & 0x07 != 0 {
        let mut extension = w.u8(3)?;
        w.skip(4)?;
        if flags & 0x04 == 0 {
            extension = 0;
        }
        for _ in 0..MAX_EXTENSIONS {
            if extension == 0 {
                break;
            }
            let len = usize::from(w.u8(0)?) * 4;
            if len == 0 {
                return Err(Reason::Malformed);
            }
            extension = w.u8(len - 1)?;
            w.skip(len)?;
        }
    }
    match w.u8(0)? {
        0x45..=0x4f | 0x60..=0x6f => Ok(Step::Next(Layer::Ip)),
        // PPP and Ethernet contexts exist, but nothing in the packet says so.
        _ => Err(Reason::NotIp),
    }
}

/// draft-massar-v6ops-ayiya-02 section 3: identity and signature of varying length, then any IP protocol.
fn ayiya(w: &mut Walk<'_>) -> Peeled {
    let [identity, signature, _, next] = w.array(0)?;
    // 2^n bytes of identity, 4n bytes of signature; 8 bytes before them.
    w.skip(8 + (1 << (identity >> 4)) + usize::from(signature >> 4) * 4)?;
    match next {
        4 | 41 => Ok(Step::Next(Layer::Ip)),
        _ => Err(Reason::NotTcp),
    }
}

/// RFC 4380 5.1.1: authentication and origin indications, each begun by a byte of 0, then IPv6.
fn teredo(w: &mut Walk<'_>) -> Peeled {
    if let Ok([0, 1, id, auth]) = w.array(0) {
        w.skip(4 + usize::from(id) + usize::from(auth) + 9)?;
    }
    if let Ok([0, 0]) = w.array(0) {
        w.skip(8)?;
    }
    match w.u8(0)? >> 4 {
        6 => Ok(Step::Next(Layer::Ip)),
        _ => Err(Reason::NotTcp),
    }
}

/// RFC 2661 3.1: data messages of version 2 carry PPP.
fn l2tp(w: &mut Walk<'_>) -> Peeled {
    const CONTROL: u16 = 0x8000;
    const LENGTH: u16 = 0x4000;
    const SEQUENCE: u16 = 0x0800;
    const OFFSET: u16 = 0x0200;
    let flags = w.be16(0)?;
    if flags & 0x000f != 2 || flags & CONTROL != 0 {
        return Err(Reason::NotTcp);
    }
    let mut header = 6;
    if flags & LENGTH != 0 {
        header += 2;
    }
    if flags & SEQUENCE != 0 {
        header += 4;
    }
    if flags & OFFSET != 0 {
        header += 2 + usize::from(w.be16(header)?);
    }
    w.skip(header)?;
    Ok(Step::Next(Layer::Ppp))
}

/// TaZmen Sniffer Protocol: version, type, encapsulation, then tags of type and length up to one of type 1.
fn tzsp(w: &mut Walk<'_>) -> Peeled {
    const MAX_TAGS: usize = 32;
    let encapsulation = w.be16(2)?;
    w.skip(4)?;
    for _ in 0..MAX_TAGS {
        match w.u8(0)? {
            // Padding has no length.
            0 => w.skip(1)?,
            1 => {
                w.skip(1)?;
                return match encapsulation {
                    1 => Ok(Step::Next(Layer::Ethernet)),
                    18 => Ok(Step::Next(Layer::Wlan)),
                    _ => Err(Reason::NotIp),
                };
            }
            _ => {
                let len = w.u8(1)?;
                w.skip(2 + usize::from(len))?;
            }
        }
    }
    Err(Reason::Malformed)
}
