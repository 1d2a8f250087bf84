//! MPLS (RFC 3032). The bottom label does not say what follows. The first four bits tell IP, as for
//! Wireshark; Ethernet is told by its type field, where Wireshark goes by known makers of the addresses
//! and misses locally administered ones.

use super::ethernet::plausible_type;
use super::walk::Walk;
use super::{Layer, Peeled, Reason, Step};

/// One label.
pub(super) fn mpls(w: &mut Walk<'_>) -> Peeled {
    let label = w.be32(0)?;
    w.skip(4)?;
    // Bottom of stack.
    if label & 0x100 == 0 {
        return Ok(Step::Next(Layer::Mpls));
    }
    match w.u8(0)? >> 4 {
        4 | 6 => Ok(Step::Next(Layer::Ip)),
        // A generic associated channel (RFC 4385 5): operations, not traffic.
        1 => Err(Reason::NotIp),
        // Ethernet, with a control word (RFC 4448 4.6) or without one before an address that may begin
        // with the same four bits of 0.
        _ if plausible_type(w, 12) => Ok(Step::Next(Layer::Ethernet)),
        0 if plausible_type(w, 16) => {
            w.skip(4)?;
            Ok(Step::Next(Layer::Ethernet))
        }
        _ => Err(Reason::NotIp),
    }
}
