//! Who has this address? ARP for IPv4 (RFC 826) and neighbour discovery for IPv6 (RFC 4861), both
//! sides of it: the kernel does neither for an interface without an address.

use std::net::{IpAddr, Ipv6Addr};

use etherparse::icmpv6::NeighborAdvertisementHeader;
use etherparse::{
    ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header, Icmpv6Type, NetSlice, PacketBuilder, SlicedPacket,
    TransportSlice,
};

const BROADCAST: [u8; 6] = [0xff; 6];
/// RFC 4861 7.1: anything below has crossed a router and must be ignored.
const NDP_HOP_LIMIT: u8 = 255;
const OPTION_SOURCE_LINK_ADDRESS: u8 = 1;
const OPTION_TARGET_LINK_ADDRESS: u8 = 2;

/// A frame that asks for the hardware address of `target`.
pub fn request(mac: [u8; 6], own: IpAddr, target: IpAddr) -> Vec<u8> {
    match (own, target) {
        (IpAddr::V4(own), IpAddr::V4(target)) => arp(
            BROADCAST,
            ArpEthIpv4Packet {
                operation: ArpOperation::REQUEST,
                sender_mac: mac,
                sender_ipv4: own.octets(),
                target_mac: [0; 6],
                target_ipv4: target.octets(),
            },
        ),
        (IpAddr::V6(own), IpAddr::V6(target)) => {
            let [.., a, b, c] = target.octets();
            // The solicited-node group of RFC 4291 2.7.1 and its Ethernet address.
            let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            let group_mac = [0x33, 0x33, 0xff, a, b, c];
            let body = ndp_body(target, OPTION_SOURCE_LINK_ADDRESS, mac);
            ndp(mac, group_mac, own, group, Icmpv6Type::NeighborSolicitation, &body)
        }
        (own, target) => panic!("{own} cannot ask for {target}"),
    }
}

/// The answer to `frame`, if it asks for `own`.
pub fn answer(frame: &[u8], mac: [u8; 6], own: IpAddr) -> Option<Vec<u8>> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    match (packet.net?, own) {
        (NetSlice::Arp(slice), IpAddr::V4(own)) => {
            let asked = slice.to_packet().try_eth_ipv4().ok()?;
            let for_us = asked.operation == ArpOperation::REQUEST && asked.target_ipv4 == own.octets();
            for_us.then(|| {
                arp(
                    asked.sender_mac,
                    ArpEthIpv4Packet {
                        operation: ArpOperation::REPLY,
                        sender_mac: mac,
                        sender_ipv4: own.octets(),
                        target_mac: asked.sender_mac,
                        target_ipv4: asked.sender_ipv4,
                    },
                )
            })
        }
        (NetSlice::Ipv6(ip), IpAddr::V6(own)) => {
            let Some(TransportSlice::Icmpv6(icmp)) = packet.transport else {
                return None;
            };
            let asker = ip.header().source_addr();
            let for_us = matches!(icmp.icmp_type(), Icmpv6Type::NeighborSolicitation)
                && icmp.payload().starts_with(&own.octets())
                && !asker.is_unspecified();
            let asker_mac: [u8; 6] = frame.get(6..12)?.try_into().ok()?;
            for_us.then(|| {
                let kind = Icmpv6Type::NeighborAdvertisement(NeighborAdvertisementHeader {
                    router: false,
                    solicited: true,
                    r#override: true,
                });
                let body = ndp_body(own, OPTION_TARGET_LINK_ADDRESS, mac);
                ndp(mac, asker_mac, own, asker, kind, &body)
            })
        }
        _ => None,
    }
}

/// The hardware address of `target`, if `frame` tells it.
pub fn resolved(frame: &[u8], target: IpAddr) -> Option<[u8; 6]> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    match (packet.net?, target) {
        (NetSlice::Arp(slice), IpAddr::V4(target)) => {
            let told = slice.to_packet().try_eth_ipv4().ok()?;
            (told.operation == ArpOperation::REPLY && told.sender_ipv4 == target.octets()).then_some(told.sender_mac)
        }
        (NetSlice::Ipv6(_), IpAddr::V6(target)) => {
            let Some(TransportSlice::Icmpv6(icmp)) = packet.transport else {
                return None;
            };
            let told = matches!(icmp.icmp_type(), Icmpv6Type::NeighborAdvertisement(_))
                && icmp.payload().starts_with(&target.octets());
            // Linux always adds the option; the source address of the frame serves without it.
            told.then(|| frame.get(6..12)?.try_into().ok()).flatten()
        }
        _ => None,
    }
}

fn arp(destination: [u8; 6], packet: ArpEthIpv4Packet) -> Vec<u8> {
    let header = Ethernet2Header { source: packet.sender_mac, destination, ether_type: EtherType::ARP };
    let mut frame = header.to_bytes().to_vec();
    frame.extend_from_slice(&packet.to_bytes());
    frame
}

fn ndp_body(target: Ipv6Addr, option: u8, mac: [u8; 6]) -> Vec<u8> {
    let mut body = target.octets().to_vec();
    // Option length counts units of eight bytes.
    body.extend([option, 1]);
    body.extend(mac);
    body
}

fn ndp(
    source_mac: [u8; 6],
    destination_mac: [u8; 6],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    kind: Icmpv6Type,
    body: &[u8],
) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(source_mac, destination_mac)
        .ipv6(source.octets(), destination.octets(), NDP_HOP_LIMIT)
        .icmpv6(kind);
    let mut frame = Vec::with_capacity(builder.size(body.len()));
    builder.write(&mut frame, body).expect("writing to a Vec does not fail, and the body is 24 bytes");
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 2];

    #[test]
    fn an_arp_request_has_the_bytes_of_rfc_826() {
        let frame = request(OURS, "10.71.1.2".parse().unwrap(), "10.71.1.1".parse().unwrap());
        #[rustfmt::skip]
        let expected = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff,  2, 0, 0, 0, 0, 1,  0x08, 0x06,
            0, 1,  0x08, 0,  6, 4,  0, 1,
            2, 0, 0, 0, 0, 1,  10, 71, 1, 2,
            0, 0, 0, 0, 0, 0,  10, 71, 1, 1,
        ];
        assert_eq!(frame, expected);
    }

    #[test]
    fn a_question_is_answered_and_the_answer_understood() {
        for (us, them, stranger) in [("10.71.1.2", "10.71.1.1", "10.71.1.9"), ("fd71:1::2", "fd71:1::1", "fd71:1::9")] {
            let [us, them, stranger]: [IpAddr; 3] = [us, them, stranger].map(|a| a.parse().unwrap());
            let question = request(OURS, us, them);
            assert_eq!(answer(&question, THEIRS, stranger), None);
            let reply = answer(&question, THEIRS, them).expect("it asks for them");
            assert_eq!(resolved(&reply, them), Some(THEIRS));
            assert_eq!(resolved(&reply, stranger), None);
            assert_eq!(resolved(&question, them), None);
        }
    }
}
