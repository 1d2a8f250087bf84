//! A connection between the two hosts, with both applications in our hands.

use std::any::Any;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::socket::{self, Unconnected, impatient};
use crate::LabError;
use crate::error::During;
use crate::story::PATIENCE;
use crate::topology::Topology;
use crate::wait;

pub const PORT: u16 = 8080;
/// Enough for every listener that is not meant to overflow.
pub const BACKLOG: i32 = 16;

/// One connection as its ends see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    pub client: SocketAddr,
    pub server: SocketAddr,
}

/// What a scenario made happen.
pub struct Produced {
    /// The connection in question.
    pub flow: Flow,
    /// Sockets that must stay open while others look: closing one would be another story.
    pub kept: Box<dyn Any>,
}

impl Produced {
    pub fn one(flow: Flow, kept: impl Any) -> Self {
        Self { flow, kept: Box::new(kept) }
    }
}

pub struct Pair {
    pub client: TcpStream,
    pub server: TcpStream,
    /// Still there: a restarted server would listen again.
    pub listener: TcpListener,
    pub flow: Flow,
}

/// A further connection to the listener of a [`Pair`].
pub struct Another {
    pub client: TcpStream,
    pub server: TcpStream,
    pub flow: Flow,
}

/// What must be set before the handshake.
#[derive(Clone, Copy, Default)]
pub struct Before {
    /// SO_RCVBUF of the client and of the server.
    pub client_buffer: Option<i32>,
    pub server_buffer: Option<i32>,
}

impl Pair {
    pub fn connect(topology: &Topology) -> Result<Self, LabError> {
        Self::connect_with(topology, Before::default())
    }

    pub fn connect_with(topology: &Topology, before: Before) -> Result<Self, LabError> {
        let remote = topology.server_socket(PORT);
        Self::connect_to(topology, remote, before)
    }

    /// `remote` may be an address that the router translates.
    pub fn connect_to(topology: &Topology, remote: SocketAddr, before: Before) -> Result<Self, LabError> {
        let listener = socket::listen(&topology.server, PORT, BACKLOG)?;
        if let Some(bytes) = before.server_buffer {
            socket::receive_buffer(&listener, bytes)?;
        }
        let (client, server, flow) = connect(topology, &listener, remote, before)?;
        Ok(Self { client, server, listener, flow })
    }

    /// A second connection to the same listener.
    pub fn another(&self, topology: &Topology, before: Before) -> Result<Another, LabError> {
        let (client, server, flow) = connect(topology, &self.listener, self.flow.server, before)?;
        Ok(Another { client, server, flow })
    }

    /// A request and a response of this many bytes, both read to the end.
    pub fn exchange(&mut self, request: usize, response: usize) -> Result<(), LabError> {
        carry(&mut self.client, &mut self.server, request)?;
        carry(&mut self.server, &mut self.client, response)
    }
}

fn connect(
    topology: &Topology,
    listener: &TcpListener,
    remote: SocketAddr,
    before: Before,
) -> Result<(TcpStream, TcpStream, Flow), LabError> {
    let unconnected = Unconnected::create(&topology.client)?;
    if let Some(bytes) = before.client_buffer {
        socket::receive_buffer(&unconnected, bytes)?;
    }
    let client = impatient(unconnected.connect(remote)?)?;
    let (server, _) = listener.accept().during("accept")?;
    let flow = Flow { client: client.local_addr().during("learn the client's address")?, server: remote };
    Ok((client, impatient(server)?, flow))
}

/// Sends, and reads at the other end.
pub fn carry(from: &mut TcpStream, to: &mut TcpStream, bytes: usize) -> Result<(), LabError> {
    from.write_all(&vec![b'x'; bytes]).during("send")?;
    to.read_exact(&mut vec![0; bytes]).during("receive")
}

/// Writes until the other end's window is closed and our buffer is full; how much that was.
pub fn fill(stream: &mut TcpStream) -> Result<usize, LabError> {
    stream.set_nonblocking(true).during("make a socket non-blocking")?;
    let chunk = [b'f'; 16384];
    let mut written = 0;
    // Full for this long: the window is closed, and not only the network busy.
    let full_for = Duration::from_millis(300);
    let mut last = std::time::Instant::now();
    while last.elapsed() < full_for {
        match stream.write(&chunk) {
            Ok(count) => {
                written += count;
                last = std::time::Instant::now();
            }
            Err(full) if full.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(Duration::from_millis(10)),
            Err(error) => return Err(error).during("fill the window"),
        }
    }
    stream.set_nonblocking(false).during("make a socket blocking")?;
    Ok(written)
}

/// Waits until the other end has acknowledged everything.
pub fn all_acknowledged(stream: &TcpStream) -> Result<(), LabError> {
    wait::until("everything to be acknowledged", PATIENCE, || Ok((socket::outstanding(stream)? == 0).then_some(())))
}

/// Waits until this much lies in the receive buffer.
pub fn arrived(stream: &TcpStream, bytes: usize) -> Result<(), LabError> {
    wait::until("the data to arrive", PATIENCE, || Ok((socket::unread(stream)? >= bytes).then_some(())))
}

/// Waits for a state of `TCP_INFO`.
pub fn reaches(stream: &TcpStream, state: u8) -> Result<(), LabError> {
    wait::until(&format!("TCP state {state}"), PATIENCE, || {
        Ok((socket::info(stream)?.tcpi_state == state).then_some(()))
    })
}

/// Reads what is left and the error that ends the stream; it must be the one expected.
pub fn ends_with(who: &str, stream: &mut TcpStream, errno: i32) -> Result<(), LabError> {
    let wanted = io::Error::from_raw_os_error(errno);
    let mut buffer = [0; 65536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(LabError::Plot(format!("{who} saw the end of the stream instead of \"{wanted}\""))),
            Ok(_) => {}
            Err(error) if error.raw_os_error() == Some(errno) => return Ok(()),
            Err(error) => return Err(LabError::Plot(format!("{who} got \"{error}\" instead of \"{wanted}\""))),
        }
    }
}

/// Reads until the other end's FIN.
pub fn reads_to_end(who: &str, stream: &mut TcpStream) -> Result<u64, LabError> {
    io::copy(stream, &mut io::sink()).during(format!("read to the end as {who}"))
}

/// Sends FIN and keeps receiving.
pub fn finish_sending(stream: &TcpStream) -> Result<(), LabError> {
    stream.shutdown(Shutdown::Write).during("send FIN")
}
