//! What a scenario plays on.

use std::any::Any;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::net::{Net, Side};
use super::{Kind, apps};
use crate::LabError;
use crate::forwarder::{Delay, Device, Forwarder};
use crate::raw::RawPeer;

pub struct Stage {
    // Closed before the hosts are removed.
    kept: Vec<Box<dyn Any>>,
    pub net: Net,
}

impl Stage {
    pub fn set_up(kind: Kind) -> Result<Self, LabError> {
        Ok(Self { kept: Vec::new(), net: Net::create(kind)? })
    }

    /// Holds sockets until everybody has been asked: closing one would be a part of what happened.
    pub fn keep(&mut self, what: Box<dyn Any>) {
        self.kept.push(what);
    }

    /// The server's address with this port.
    pub fn server(&self, port: u16) -> SocketAddr {
        self.net.socket(Side::Server, port)
    }

    /// A listener on the server's host.
    pub fn listen(&self, port: u16) -> Result<TcpListener, LabError> {
        apps::listen(&self.net.server, self.server(port))
    }

    /// A connection from the client's host to the server's.
    pub fn connect(&self, port: u16) -> Result<TcpStream, LabError> {
        apps::connect(&self.net.client, self.server(port))
    }

    /// A connection with both ends in hand: the client's, the server's.
    pub fn pair(&self, port: u16) -> Result<(TcpStream, TcpStream), LabError> {
        apps::pair(&self.net.client, &self.net.server, self.server(port))
    }

    /// Puts a device between the ends of [`Kind::Wire`]; without one nothing passes.
    pub fn device<D: Device + 'static>(&self, delay: Delay, device: D) -> Result<Forwarder<D>, LabError> {
        Forwarder::start(self.net.router()?, delay, device)
    }

    /// The peer of [`Kind::Raw`].
    pub fn raw(&self, side: Side, port: u16) -> Result<RawPeer, LabError> {
        let interface = match side {
            Side::Client => "c0",
            Side::Server => "s0",
        };
        let gateway = self.net.address(side.other());
        RawPeer::open(self.net.host(side), interface, self.net.socket(side, port), gateway)
    }

    pub fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}
