//! The namespaces of a scenario and how they are connected.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Kind;
use crate::error::LabError;
use crate::netns::Namespace;
use crate::offload;
use crate::topology::{Addresses, ClientStack, Point, Topology, Wiring};

/// An end of the connection, by its TCP role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    Client,
    Server,
}

impl Side {
    pub fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

pub struct Net {
    pub client: Namespace,
    pub server: Namespace,
    /// The router, or where the device lives; nothing is between the ends of [`Kind::Raw`].
    between: Option<Namespace>,
    pub addresses: Addresses,
    routed: Option<Topology>,
}

/// One link from end to end, as far as the ends know.
const LINK: Addresses = Addresses {
    client: IpAddr::V4(Ipv4Addr::new(10, 71, 3, 2)),
    server: IpAddr::V4(Ipv4Addr::new(10, 71, 3, 3)),
    // Nobody's.
    router_to_client: IpAddr::V4(Ipv4Addr::new(10, 71, 3, 1)),
    router_to_server: IpAddr::V4(Ipv4Addr::new(10, 71, 3, 1)),
    vip: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)),
};

impl Net {
    pub fn create(kind: Kind) -> Result<Self, LabError> {
        match kind {
            Kind::Routed => {
                let topology = Topology::create(ClientStack::Kernel, Wiring::default())?;
                Ok(Self {
                    client: topology.client.clone(),
                    server: topology.server.clone(),
                    between: Some(topology.router.clone()),
                    addresses: topology.addresses,
                    routed: Some(topology),
                })
            }
            Kind::Wire => Self::link(Some(Namespace::create("device")?), None),
            Kind::Raw(side) => Self::link(None, Some(side)),
        }
    }

    fn link(between: Option<Namespace>, raw: Option<Side>) -> Result<Self, LabError> {
        let (client, server) = (Namespace::create("client")?, Namespace::create("server")?);
        for namespace in [Some(&client), Some(&server), between.as_ref()].into_iter().flatten() {
            // As in the routed topology: the same timing each run, and no neighbour discovery.
            namespace.sysctl("net.ipv4.tcp_congestion_control", "reno")?;
            for scope in ["all", "default"] {
                namespace.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "1")?;
            }
        }
        match &between {
            Some(device) => {
                client.veth("c0", device, "rc")?;
                server.veth("s0", device, "rs")?;
                offload::set(device, "rc", false)?;
                offload::set(device, "rs", false)?;
            }
            None => client.veth("c0", &server, "s0")?,
        }
        for (namespace, interface, address, side) in
            [(&client, "c0", LINK.client, Side::Client), (&server, "s0", LINK.server, Side::Server)]
        {
            offload::set(namespace, interface, false)?;
            if raw != Some(side) {
                namespace.address(interface, address)?;
            }
        }
        Ok(Self { client, server, between, addresses: LINK, routed: None })
    }

    pub fn host(&self, side: Side) -> &Namespace {
        match side {
            Side::Client => &self.client,
            Side::Server => &self.server,
        }
    }

    pub fn address(&self, side: Side) -> IpAddr {
        match side {
            Side::Client => self.addresses.client,
            Side::Server => self.addresses.server,
        }
    }

    pub fn socket(&self, side: Side, port: u16) -> SocketAddr {
        SocketAddr::new(self.address(side), port)
    }

    /// The router of [`Kind::Routed`], the device of [`Kind::Wire`].
    pub fn router(&self) -> Result<&Namespace, LabError> {
        self.between.as_ref().ok_or_else(|| LabError::Plot("nothing is between these two ends".into()))
    }

    /// All of [`Kind::Routed`].
    pub fn routed(&self) -> Result<&Topology, LabError> {
        self.routed.as_ref().ok_or_else(|| LabError::Plot("there is no router here".into()))
    }

    pub fn namespace(&self, point: Point) -> Result<&Namespace, LabError> {
        match point {
            Point::Client => Ok(&self.client),
            Point::Server => Ok(&self.server),
            Point::RouterToClient | Point::RouterToServer => self.router(),
        }
    }
}
