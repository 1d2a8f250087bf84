//! Client, router and server: three namespaces, two veth pairs, real kernel stacks.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::error::LabError;
use crate::netns::Namespace;
use crate::offload;
use crate::tagger::Tagger;

/// Where one can watch: the four interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    Client,
    RouterToClient,
    RouterToServer,
    Server,
}

impl Point {
    pub const ALL: [Self; 4] = [Self::Client, Self::RouterToClient, Self::RouterToServer, Self::Server];

    pub fn interface(self) -> &'static str {
        match self {
            Self::Client => "c0",
            Self::RouterToClient => "rc",
            Self::RouterToServer => "rs",
            Self::Server => "s0",
        }
    }
}

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.interface())
    }
}

#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub client: IpAddr,
    pub router_to_client: IpAddr,
    pub router_to_server: IpAddr,
    pub server: IpAddr,
    /// Routed to the router; belongs to nobody until a story translates it.
    pub vip: IpAddr,
}

impl Addresses {
    pub const IPV4: Self = Self {
        client: IpAddr::V4(Ipv4Addr::new(10, 71, 1, 2)),
        router_to_client: IpAddr::V4(Ipv4Addr::new(10, 71, 1, 1)),
        router_to_server: IpAddr::V4(Ipv4Addr::new(10, 71, 2, 1)),
        server: IpAddr::V4(Ipv4Addr::new(10, 71, 2, 2)),
        vip: IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10)),
    };

    pub const IPV6: Self = Self {
        client: IpAddr::V6(Ipv6Addr::new(0xfd71, 1, 0, 0, 0, 0, 0, 2)),
        router_to_client: IpAddr::V6(Ipv6Addr::new(0xfd71, 1, 0, 0, 0, 0, 0, 1)),
        router_to_server: IpAddr::V6(Ipv6Addr::new(0xfd71, 2, 0, 0, 0, 0, 0, 1)),
        server: IpAddr::V6(Ipv6Addr::new(0xfd71, 2, 0, 0, 0, 0, 0, 2)),
        vip: IpAddr::V6(Ipv6Addr::new(0xfd96, 0, 0, 0, 0, 0, 0, 0x10)),
    };
}

/// What stands on the client's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientStack {
    Kernel,
    /// No address on `c0`: a [`crate::raw::RawPeer`] takes the client's place.
    Raw,
}

/// What the hosts are connected with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wiring {
    pub ipv6: bool,
    /// Frames between router and server carry this VLAN tag, in their bytes.
    pub vlan: Option<u16>,
}

pub struct Topology {
    // Dropped first to last: the ends, then the router between them.
    taggers: Vec<Tagger>,
    pub client: Namespace,
    pub server: Namespace,
    pub router: Namespace,
    pub addresses: Addresses,
}

impl Topology {
    pub fn create(client_stack: ClientStack, wiring: Wiring) -> Result<Self, LabError> {
        let Wiring { ipv6, vlan } = wiring;
        let mut topology = Self {
            taggers: Vec::new(),
            client: Namespace::create("client")?,
            server: Namespace::create("server")?,
            router: Namespace::create("router")?,
            addresses: if ipv6 { Addresses::IPV6 } else { Addresses::IPV4 },
        };
        topology.calm(client_stack, ipv6)?;
        topology.client.veth("c0", &topology.router, "rc")?;
        topology.server.veth("s0", &topology.router, "rs")?;
        for point in Point::ALL {
            offload::set(topology.namespace(point), point.interface(), false)?;
        }
        if let Some(id) = vlan {
            topology.tag(id)?;
        }
        topology.assign_addresses(client_stack, vlan)?;
        Ok(topology)
    }

    /// Settings that make runs alike. They come before the interfaces, which inherit some of them.
    fn calm(&self, client_stack: ClientStack, ipv6: bool) -> Result<(), LabError> {
        for namespace in [&self.client, &self.router, &self.server] {
            // A model-based congestion control paces by measured bandwidth: other timing each run.
            namespace.sysctl("net.ipv4.tcp_congestion_control", "reno")?;
            let silent = !ipv6 || (client_stack == ClientStack::Raw && std::ptr::eq(namespace, &self.client));
            for scope in ["all", "default"] {
                namespace.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), if silent { "1" } else { "0" })?;
            }
        }
        if ipv6 {
            for namespace in [&self.client, &self.router, &self.server] {
                // A router asks for neighbours from its link-local address, which duplicate
                // detection would keep unusable for two seconds.
                namespace.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
                namespace.sysctl("net.ipv6.conf.default.router_solicitations", "0")?;
            }
        }
        self.router.sysctl("net.ipv4.ip_forward", "1")?;
        self.router.sysctl("net.ipv6.conf.all.forwarding", "1")
    }

    /// Both hosts of the server's link get a second interface, whose frames travel tagged; watchers
    /// stay on the link itself.
    fn tag(&mut self, id: u16) -> Result<(), LabError> {
        for point in [Point::RouterToServer, Point::Server] {
            let below = point.interface();
            let tagger = Tagger::start(self.namespace(point), below, &tagged(below), id)?;
            self.taggers.push(tagger);
        }
        Ok(())
    }

    fn assign_addresses(&self, client_stack: ClientStack, vlan: Option<u16>) -> Result<(), LabError> {
        let addresses = &self.addresses;
        let server_side = |below: &str| if vlan.is_some() { tagged(below) } else { below.to_owned() };
        self.router.address("rc", addresses.router_to_client)?;
        self.router.address(&server_side("rs"), addresses.router_to_server)?;
        self.server.address(&server_side("s0"), addresses.server)?;
        self.server.default_route(addresses.router_to_server)?;
        if client_stack == ClientStack::Kernel {
            self.client.address("c0", addresses.client)?;
            self.client.default_route(addresses.router_to_client)?;
        }
        Ok(())
    }

    pub fn namespace(&self, point: Point) -> &Namespace {
        match point {
            Point::Client => &self.client,
            Point::RouterToClient | Point::RouterToServer => &self.router,
            Point::Server => &self.server,
        }
    }

    pub fn server_socket(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.addresses.server, port)
    }
}

/// The interface whose frames travel tagged over another.
fn tagged(below: &str) -> String {
    format!("{below}v")
}
