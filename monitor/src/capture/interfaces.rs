//! Network interfaces, as the kernel lists them over netlink: sysfs may show another namespace's.

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage, LinkXdp};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use std::io;

/// What attaching needs to know of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    pub index: u32,
    pub name: String,
    pub up: bool,
    pub loopback: bool,
    /// Frames begin with an Ethernet header.
    pub ethernet: bool,
    /// Bridge, bond or team that it is a part of, by index: its packets pass that one, too.
    pub controller: Option<u32>,
    /// Program that is attached for XDP already.
    pub xdp_program: Option<u32>,
}

/// All interfaces of this network namespace.
pub fn list() -> io::Result<Vec<Interface>> {
    let mut socket = Socket::new(NETLINK_ROUTE)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_DUMP | NLM_F_REQUEST;
    let mut request =
        NetlinkMessage::new(header, NetlinkPayload::from(RouteNetlinkMessage::GetLink(LinkMessage::default())));
    request.finalize();
    let mut buffer = vec![0; request.buffer_len()];
    request.serialize(&mut buffer);
    socket.send(&buffer, 0)?;

    let mut out = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
            let length = (message.header.length as usize).next_multiple_of(4);
            match message.payload {
                NetlinkPayload::Done(_) => return Ok(out),
                NetlinkPayload::Error(e) if e.code.is_some() => return Err(e.to_io()),
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => out.push(interface(&link)),
                _ => {}
            }
            if length == 0 || length >= rest.len() {
                break;
            }
            rest = &rest[length..];
        }
    }
}

fn interface(link: &LinkMessage) -> Interface {
    let mut i = Interface {
        index: link.header.index,
        name: String::new(),
        up: link.header.flags.contains(LinkFlags::Up),
        loopback: link.header.flags.contains(LinkFlags::Loopback),
        ethernet: matches!(link.header.link_layer_type, LinkLayerType::Ether | LinkLayerType::Loopback),
        controller: None,
        xdp_program: None,
    };
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::IfName(name) => i.name.clone_from(name),
            LinkAttribute::Controller(index) => i.controller = Some(*index),
            LinkAttribute::Xdp(parts) => {
                i.xdp_program = parts.iter().find_map(|p| match p {
                    LinkXdp::ProgId(id) if *id != 0 => Some(*id),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    i
}

#[cfg(test)]
mod tests {
    #[test]
    fn loopback_is_listed() {
        let all = super::list().expect("the kernel lists interfaces to everybody");
        let lo = all.iter().find(|i| i.loopback).expect("every namespace has a loopback");
        assert_eq!((lo.name.as_str(), lo.index, lo.ethernet), ("lo", 1, true));
    }
}
