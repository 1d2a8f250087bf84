//! Tunnels: GRE and all that runs over UDP.

pub(super) mod gre;
pub(super) mod udp;

use super::walk::Walk;
use super::{Layer, Peeled, Reason, Step};

/// Network service header (RFC 8300 2.2): the length in words of 4 bytes, the next protocol.
pub(super) fn nsh(w: &mut Walk<'_>) -> Peeled {
    let [_, len, _, protocol] = w.array(0)?;
    let len = usize::from(len & 0x3f) * 4;
    if len < 8 {
        return Err(Reason::Malformed);
    }
    w.skip(len)?;
    next_protocol(protocol).map(Step::Next)
}

/// The registry shared by NSH (RFC 8300 9.1.4) and VXLAN-GPE, as far as the two agree.
fn next_protocol(protocol: u8) -> Result<Layer, Reason> {
    match protocol {
        1 | 2 => Ok(Layer::Ip),
        3 => Ok(Layer::Ethernet),
        4 => Ok(Layer::Nsh),
        5 => Ok(Layer::Mpls),
        _ => Err(Reason::NotIp),
    }
}
