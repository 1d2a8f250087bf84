//! What these scenarios ask of TCP sockets beyond the standard library: the options and calls with
//! which applications, administrators and checkpointing tools end connections in unusual ways.

use std::io;
use std::mem::size_of;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, socket};

use crate::LabError;
use crate::error::During;
use crate::netns::Namespace;
use crate::story::PATIENCE;

/// States of a TCP socket, as `TCP_INFO` gives them (include/net/tcp_states.h).
pub mod state {
    pub const ESTABLISHED: u8 = 1;
    pub const FIN_WAIT1: u8 = 4;
    pub const FIN_WAIT2: u8 = 5;
    pub const CLOSE: u8 = 7;
    pub const CLOSE_WAIT: u8 = 8;
    pub const LAST_ACK: u8 = 9;
}

fn set<T: Copy>(fd: RawFd, level: i32, name: i32, value: T) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `value`, which lives until the call returns.
    let result =
        unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), size_of::<T>() as libc::socklen_t) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

fn set_tcp(socket: &impl AsRawFd, name: i32, value: i32, what: &str) -> Result<(), LabError> {
    set(socket.as_raw_fd(), libc::IPPROTO_TCP, name, value).during(format!("set {what}"))
}

/// close() becomes an abort (RFC 9293 3.10.5): RST, and unsent data is thrown away.
pub fn linger_zero(socket: &impl AsRawFd) -> Result<(), LabError> {
    let value = libc::linger { l_onoff: 1, l_linger: 0 };
    set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value).during("set SO_LINGER")
}

/// How long a closed socket waits for the other end's FIN; negative: not at all, reset it.
pub fn linger2(socket: &impl AsRawFd, seconds: i32) -> Result<(), LabError> {
    set_tcp(socket, libc::TCP_LINGER2, seconds, "TCP_LINGER2")
}

/// How long data may stay unacknowledged, or a window closed (RFC 5482).
pub fn user_timeout(socket: &impl AsRawFd, limit: Duration) -> Result<(), LabError> {
    set_tcp(socket, libc::TCP_USER_TIMEOUT, limit.as_millis() as i32, "TCP_USER_TIMEOUT")
}

/// Keepalive (RFC 9293 3.8.4): the first probe after `idle`, then every `interval`, `count` in all.
pub fn keepalive(socket: &impl AsRawFd, idle: Duration, interval: Duration, count: i32) -> Result<(), LabError> {
    set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1i32).during("set SO_KEEPALIVE")?;
    set_tcp(socket, libc::TCP_KEEPIDLE, idle.as_secs() as i32, "TCP_KEEPIDLE")?;
    set_tcp(socket, libc::TCP_KEEPINTVL, interval.as_secs() as i32, "TCP_KEEPINTVL")?;
    set_tcp(socket, libc::TCP_KEEPCNT, count, "TCP_KEEPCNT")
}

/// Off before connect(): the acknowledgement that ends the handshake waits for data to travel with.
pub fn quick_ack(socket: &impl AsRawFd, on: bool) -> Result<(), LabError> {
    set_tcp(socket, libc::TCP_QUICKACK, i32::from(on), "TCP_QUICKACK")
}

/// On a listener before anyone connects, so that the handshake offers it.
pub fn receive_buffer(socket: &impl AsRawFd, bytes: i32) -> Result<(), LabError> {
    set(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_RCVBUF, bytes).during("set SO_RCVBUF")
}

/// Forgets the connection without telling anyone, as a crash, a failover or a checkpoint does: a
/// socket in repair mode is closed in silence.
pub fn vanish(socket: TcpStream) -> Result<(), LabError> {
    const TCP_REPAIR_ON: i32 = 1;
    set_tcp(&socket, libc::TCP_REPAIR, TCP_REPAIR_ON, "TCP_REPAIR")
}

/// connect() with AF_UNSPEC: dissolves the association.
pub fn disconnect(socket: &impl AsRawFd) -> Result<(), LabError> {
    let address = libc::sockaddr { sa_family: libc::AF_UNSPEC as u16, sa_data: [0; 14] };
    // SAFETY: `address` is a valid sockaddr of the length given.
    let result = unsafe {
        libc::connect(socket.as_raw_fd(), &raw const address, size_of::<libc::sockaddr>() as libc::socklen_t)
    };
    Errno::result(result).map(drop).during("disconnect with AF_UNSPEC")
}

/// What the kernel says of a connection.
pub fn info(socket: &impl AsRawFd) -> Result<libc::tcp_info, LabError> {
    // SAFETY: tcp_info is made of integers, for which zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `info`, which is that large.
    let result = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len)
    };
    Errno::result(result).during("read TCP_INFO")?;
    Ok(info)
}

/// Bytes written that are not acknowledged, sent or not.
pub fn outstanding(socket: &impl AsRawFd) -> Result<usize, LabError> {
    count(socket, libc::TIOCOUTQ, "bytes not acknowledged")
}

/// Bytes received that nobody has read.
pub fn unread(socket: &impl AsRawFd) -> Result<usize, LabError> {
    count(socket, libc::FIONREAD, "unread bytes")
}

fn count(socket: &impl AsRawFd, request: libc::Ioctl, what: &str) -> Result<usize, LabError> {
    let mut count: libc::c_int = 0;
    // SAFETY: both requests write one int to the address given.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut count) };
    Errno::result(result).during(format!("count {what}"))?;
    Ok(usize::try_from(count).unwrap_or(0))
}

/// Listens on all IPv4 addresses. `backlog` 3 lets four connections wait: the kernel counts one more.
pub fn listen(namespace: &Namespace, port: u16, backlog: i32) -> Result<TcpListener, LabError> {
    let address = SocketAddr::new(std::net::Ipv4Addr::UNSPECIFIED.into(), port);
    let listener = namespace.run(|| TcpListener::bind(address))?.during(format!("listen on port {port}"))?;
    // SAFETY: a plain call on a descriptor that `listener` keeps open; on a socket that listens
    // already it sets the backlog.
    Errno::result(unsafe { libc::listen(listener.as_raw_fd(), backlog) }).during("set the backlog")?;
    Ok(listener)
}

/// A socket that is not connected yet, for options that must come first.
pub struct Unconnected(OwnedFd);

impl AsRawFd for Unconnected {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Unconnected {
    pub fn create(namespace: &Namespace) -> Result<Self, LabError> {
        namespace
            .run(|| socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Tcp))?
            .map(Self)
            .during("make a socket")
    }

    /// Connects, at the latest within [`PATIENCE`].
    pub fn connect(self, remote: SocketAddr) -> Result<TcpStream, LabError> {
        let patience = libc::timeval { tv_sec: PATIENCE.as_secs() as libc::time_t, tv_usec: 0 };
        set(self.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, patience).during("set a write timeout")?;
        nix::sys::socket::connect(self.as_raw_fd(), &SockaddrStorage::from(remote))
            .during(format!("connect to {remote}"))?;
        Ok(self.into_stream())
    }

    /// Sends SYN and returns without waiting for an answer.
    pub fn begin(&self, remote: SocketAddr) -> Result<(), LabError> {
        nix::fcntl::fcntl(&self.0, nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK))
            .during("make a socket non-blocking")?;
        match nix::sys::socket::connect(self.as_raw_fd(), &SockaddrStorage::from(remote)) {
            Err(Errno::EINPROGRESS) => Ok(()),
            Ok(()) => Err(LabError::Plot(format!("{remote} answered before it could"))),
            Err(error) => Err(error).during(format!("connect to {remote}")),
        }
    }

    fn into_stream(self) -> TcpStream {
        // SAFETY: the descriptor is open, a TCP socket, and given up by its only owner.
        unsafe { TcpStream::from_raw_fd(self.0.into_raw_fd()) }
    }
}

/// Read and write give up after [`PATIENCE`].
pub fn impatient(stream: TcpStream) -> Result<TcpStream, LabError> {
    stream.set_read_timeout(Some(PATIENCE)).during("set a read timeout")?;
    stream.set_write_timeout(Some(PATIENCE)).during("set a write timeout")?;
    Ok(stream)
}
