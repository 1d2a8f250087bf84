//! IEEE 802.11 data frames and the headers capture drivers put before them.

use super::walk::Walk;
use super::{Layer, Peeled, Reason, Step};

/// IEEE 802.11-2020 9.2 and 9.3.2: header, then LLC.
pub(super) fn wlan(w: &mut Walk<'_>) -> Peeled {
    const TO_DS: u16 = 0x0100;
    const FROM_DS: u16 = 0x0200;
    const PROTECTED: u16 = 0x4000;
    const ORDER: u16 = 0x8000;
    let control = w.le16(0)?;
    let (kind, subtype) = (control >> 2 & 3, control >> 4 & 0xf);
    // Data frames only, and not those that carry none.
    if kind != 2 || subtype & 4 != 0 {
        return Err(Reason::NotIp);
    }
    if control & PROTECTED != 0 {
        return Err(Reason::Encrypted);
    }
    let mut header = 24;
    if control & TO_DS != 0 && control & FROM_DS != 0 {
        // The fourth address.
        header += 6;
    }
    let mut aggregate = false;
    if subtype & 8 != 0 {
        aggregate = w.u8(header)? & 0x80 != 0;
        // QoS control, and HT control when the order bit says so.
        header += if control & ORDER != 0 { 6 } else { 2 };
    }
    w.skip(header)?;
    if aggregate {
        // The first of the A-MSDU's subframes (9.3.2.2): two addresses and a length.
        let len = w.be16(12)?;
        w.skip(14)?;
        w.bound(len.into());
    }
    Ok(Step::Next(Layer::Llc))
}

/// Radiotap: version, pad, length (little-endian), presence words, fields (<https://www.radiotap.org>).
pub(super) fn radiotap(w: &mut Walk<'_>) -> Peeled {
    const MORE_WORDS: u32 = 1 << 31;
    const TIMESTAMP: u32 = 1;
    const FLAGS: u32 = 2;
    /// The 802.11 header is padded to a multiple of 4 bytes.
    const DATA_PAD: u8 = 0x20;
    let len = usize::from(w.le16(2)?);
    let present = w.le32(4)?;
    let mut fields = 8;
    let mut word = present;
    while word & MORE_WORDS != 0 && fields + 4 <= len {
        word = w.le32(fields)?;
        fields += 4;
    }
    let mut padded = false;
    if present & FLAGS != 0 {
        if present & TIMESTAMP != 0 {
            // Fields are aligned to their size from the beginning of the header.
            fields = fields.next_multiple_of(8) + 8;
        }
        padded = fields < len && w.u8(fields)? & DATA_PAD != 0;
    }
    if len < 8 {
        return Err(Reason::Malformed);
    }
    w.skip(len)?;
    if padded { unpadded(w) } else { Ok(Step::Next(Layer::Wlan)) }
}

/// A data frame whose header has two bytes of padding, as some drivers leave it after QoS control.
fn unpadded(w: &mut Walk<'_>) -> Peeled {
    let before = w.offset();
    let step = wlan(w)?;
    let header = w.offset() - before;
    w.skip(header.next_multiple_of(4) - header)?;
    Ok(step)
}

/// Prism and AVS headers: both say their length in the second word, AVS in big-endian after its magic,
/// Prism in the byte order of the machine, little-endian in practice.
pub(super) fn prism(w: &mut Walk<'_>) -> Peeled {
    let len = match w.be32(0)? {
        0x8021_1001 | 0x8021_1002 => w.be32(4)?,
        _ => w.le32(4)?,
    };
    if len < 8 {
        return Err(Reason::Malformed);
    }
    w.skip(usize::try_from(len).unwrap_or(usize::MAX))?;
    Ok(Step::Next(Layer::Wlan))
}

/// Per-Packet Information: version, flags, length, then the DLT of what follows, little-endian.
pub(super) fn ppi(w: &mut Walk<'_>) -> Peeled {
    let (len, link_type) = (w.le16(2)?, w.le32(4)?);
    if len < 8 {
        return Err(Reason::Malformed);
    }
    w.skip(len.into())?;
    Ok(Step::Next(Layer::Link(u16::try_from(link_type).map_err(|_| Reason::UnsupportedLink)?)))
}
