//! Linux cooked captures, versions 1 and 2 (LINKTYPE_LINUX_SLL, LINKTYPE_LINUX_SLL2).

use super::walk::Walk;
use super::{Layer, Peeled, Reason, Step, tunnel};

/// Packet type, ARPHRD, address length (2 each), address (8), protocol (2).
#[inline]
pub(super) fn v1(w: &mut Walk<'_>) -> Peeled {
    let (device, protocol) = (w.be16(2)?, w.be16(14)?);
    w.skip(16)?;
    payload(device, protocol)
}

/// Protocol, reserved (2 each), interface (4), ARPHRD (2), packet type, address length (1 each),
/// address (8).
#[inline]
pub(super) fn v2(w: &mut Walk<'_>) -> Peeled {
    let (protocol, device) = (w.be16(0)?, w.be16(8)?);
    w.skip(20)?;
    payload(device, protocol)
}

#[inline]
fn payload(device: u16, protocol: u16) -> Peeled {
    match device {
        // ARPHRD_IPGRE: the protocol is GRE's, whose numbers are not all Ethernet types.
        778 => tunnel::gre::payload(protocol).map(Step::Next),
        801 => Ok(Step::Next(Layer::Wlan)),
        803 => Ok(Step::Next(Layer::Radiotap)),
        // ARPHRD_NETLINK: the protocol is a netlink family.
        824 => Err(Reason::NotIp),
        _ => match protocol {
            // LINUX_SLL_P_802_2.
            0x0004 => Ok(Step::Next(Layer::Llc)),
            0x0600.. => Ok(Step::Next(Layer::EtherType(protocol))),
            _ => Err(Reason::NotIp),
        },
    }
}
