//! The benign one: a server reads part of a request and closes. Data that nobody will read remains,
//! so the kernel must send RST instead of FIN (RFC 9293 3.6.1, RFC 2525 2.17). Nothing is wrong
//! with sequence numbers or windows.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use super::{App, Ending, Narrator, Outcome, PATIENCE, Story, any_address, expect_reset};
use crate::LabError;
use crate::error::During;
use crate::topology::{ClientStack, Point, Topology};
use crate::wait;

const SERVER_PORT: u16 = 8000;
const REQUEST_BYTES: usize = 5000;
const READ_BYTES: usize = 1000;

#[derive(Clone, Debug)]
pub struct Facts {
    pub client: SocketAddr,
    pub server: SocketAddr,
    pub request_bytes: usize,
    pub read_bytes: usize,
}

pub struct Unread {
    topology: Topology,
    ipv6: bool,
}

pub fn prepare(options: &super::Options) -> Result<Unread, LabError> {
    Ok(Unread { topology: Topology::create(ClientStack::Kernel, options.wiring())?, ipv6: options.ipv6 })
}

impl Story for Unread {
    fn topology(&self) -> &Topology {
        &self.topology
    }

    fn agent_points(&self) -> &'static [Point] {
        &[Point::Server]
    }

    fn capture_points(&self) -> &'static [Point] {
        &[Point::Client, Point::Server]
    }

    fn tell(&self, narrator: &mut Narrator) -> Result<Outcome, LabError> {
        let topology = &self.topology;
        let server = topology.server_socket(SERVER_PORT);
        let address = SocketAddr::new(any_address(self.ipv6), SERVER_PORT);
        let listener =
            topology.server.run(|| TcpListener::bind(address))?.during(format!("listen on port {SERVER_PORT}"))?;

        let mut request = topology
            .client
            .run(|| TcpStream::connect_timeout(&server, PATIENCE))?
            .during(format!("connect to {server}"))?;
        request.set_read_timeout(Some(PATIENCE)).during("set a read timeout")?;
        let client = request.local_addr().during("learn the client's address")?;
        narrator.step(format!("the client {client} is connected to {server}"));

        let half_reader = App::start("the server's application", move || read_some(&listener));
        request.write_all(&[b'x'; REQUEST_BYTES]).during("send the request")?;
        narrator.step(format!("the client sends a request of {REQUEST_BYTES} bytes"));
        half_reader.finish(PATIENCE)??;
        narrator.step(format!(
            "the server reads {READ_BYTES} bytes and closes; {} bytes lie unread, so its kernel sends RST instead of FIN",
            REQUEST_BYTES - READ_BYTES
        ));
        let error = match request.read(&mut [0; 100]) {
            Ok(count) => return Err(LabError::Plot(format!("the client read {count} bytes instead of a reset"))),
            Err(error) => error,
        };
        let client_saw = expect_reset("the client", &error)?;
        narrator.step(format!("the client gets \"{error}\""));

        Ok(Outcome {
            steps: narrator.take_steps(),
            client_saw,
            server_saw: Ending::OwnDoing,
            facts: super::Facts::Unread(Facts { client, server, request_bytes: REQUEST_BYTES, read_bytes: READ_BYTES }),
        })
    }
}

/// Reads the first part, waits until the rest has arrived (else a late segment would meet a closed
/// socket, which is another story), and closes.
fn read_some(listener: &TcpListener) -> Result<(), LabError> {
    let (mut stream, _) = listener.accept().during("accept")?;
    stream.set_read_timeout(Some(PATIENCE)).during("set a read timeout")?;
    stream.read_exact(&mut [0; READ_BYTES]).during("read the request")?;
    let mut rest = [0; REQUEST_BYTES - READ_BYTES];
    wait::until("the rest of the request", PATIENCE, || match stream.peek(&mut rest) {
        Ok(count) if count == rest.len() => Ok(Some(())),
        Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof)).during("wait for the request"),
        Ok(_) => Ok(None),
        Err(error) => Err(error).during("wait for the request"),
    })
}
