//! Applications: what they write and read, how they close, and what their sockets tell them in the end.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use crate::LabError;
use crate::app::App;
use crate::error::During;
use crate::netns::Namespace;
use crate::story::PATIENCE;
use crate::wait;

/// How soon an application notices that it should do something else.
const POLL: Duration = Duration::from_millis(20);

/// How a connection ended for one application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The other end has sent everything.
    Eof,
    /// The errno that the socket gave.
    Error(i32),
    /// It was told to stop.
    Stopped,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eof => f.write_str("end of file"),
            Self::Error(number) => fmt::Debug::fmt(&Errno::from_raw(*number), f),
            Self::Stopped => f.write_str("nothing"),
        }
    }
}

/// Waits for a listener of before to go: a process that another scenario is starting holds all our descriptors from its
/// fork to its exec.
pub fn listen(host: &Namespace, address: SocketAddr) -> Result<TcpListener, LabError> {
    let what = format!("listen on {address}");
    wait::until(&what, PATIENCE, || match host.run(|| TcpListener::bind(address))? {
        Err(taken) if taken.kind() == ErrorKind::AddrInUse => Ok(None),
        listener => listener.during(what.clone()).map(Some),
    })
}

pub fn connect(host: &Namespace, address: SocketAddr) -> Result<TcpStream, LabError> {
    host.run(|| TcpStream::connect_timeout(&address, PATIENCE))?.during(format!("connect to {address}"))
}

/// The next connection, waited for no longer than [`PATIENCE`].
pub fn accept(listener: &TcpListener) -> Result<TcpStream, LabError> {
    listener.set_nonblocking(true).during("make a listener non-blocking")?;
    let stream = wait::until("a connection to be accepted", PATIENCE, || match listener.accept() {
        Ok((stream, _)) => Ok(Some(stream)),
        Err(none) if none.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(source) => Err(source).during("accept a connection"),
    })?;
    stream.set_nonblocking(false).during("make a connection blocking")?;
    Ok(stream)
}

/// A connection with both ends in hand: the client's, the server's.
pub fn pair(client: &Namespace, server: &Namespace, address: SocketAddr) -> Result<(TcpStream, TcpStream), LabError> {
    let listener = listen(server, address)?;
    let stream = connect(client, address)?;
    Ok((stream, accept(&listener)?))
}

pub fn local(stream: &TcpStream) -> Result<SocketAddr, LabError> {
    stream.local_addr().during("learn a socket's own address")
}

/// Makes `close` abort the connection, after `seconds` if something is unsent.
pub fn linger(stream: &TcpStream, seconds: i32) -> Result<(), LabError> {
    let linger = libc::linger { l_onoff: 1, l_linger: seconds };
    setsockopt(stream, sockopt::Linger, &linger).during("set SO_LINGER")
}

/// `IPPROTO_TCP` options that are one number.
pub fn tcp_option(stream: &impl AsRawFd, option: i32, value: i32) -> Result<(), LabError> {
    let length = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the kernel reads `length` bytes of `value`, which is that large.
    let result =
        unsafe { libc::setsockopt(stream.as_raw_fd(), libc::IPPROTO_TCP, option, (&raw const value).cast(), length) };
    Errno::result(result).map(drop).during(format!("set TCP option {option}"))
}

/// Fixes the receive buffer, which switches its automatic growth off.
pub fn receive_buffer(stream: &impl std::os::fd::AsFd, bytes: usize) -> Result<(), LabError> {
    setsockopt(stream, sockopt::RcvBuf, &bytes).during("set SO_RCVBUF")
}

/// Bytes whose values depend on where in the stream they are, so that a repetition repeats exactly.
pub fn pattern(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|at| b'a' + (at % 23) as u8).collect()
}

fn error_of(error: &io::Error) -> End {
    match error.raw_os_error() {
        Some(number) => End::Error(number),
        None => End::Error(libc::EIO),
    }
}

fn idle(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
        && error.raw_os_error() != Some(libc::ETIMEDOUT)
}

/// Reads all that comes, until the end or until told to stop; then it closes its copy of the socket.
pub struct Reader {
    bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    app: App<End>,
}

impl Reader {
    pub fn start(mut stream: TcpStream) -> Result<Self, LabError> {
        stream.set_read_timeout(Some(POLL)).during("set a read timeout")?;
        let (bytes, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (Arc::clone(&bytes), Arc::clone(&stop));
        let app = App::start("a reading application", move || {
            let mut buffer = vec![0; 65536];
            while !stopped.load(Ordering::Relaxed) {
                match stream.read(&mut buffer) {
                    Ok(0) => return End::Eof,
                    Ok(len) => drop(count.fetch_add(len as u64, Ordering::Relaxed)),
                    Err(error) if idle(&error) => {}
                    Err(error) => return error_of(&error),
                }
            }
            End::Stopped
        });
        Ok(Self { bytes, stop, app })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Waits until it has read this much.
    pub fn reached(&self, bytes: u64, limit: Duration) -> Result<(), LabError> {
        let waited = wait::until("data", limit, || Ok((self.bytes() >= bytes).then_some(())));
        waited.map_err(|_| LabError::Plot(format!("{} bytes of {bytes} were read in {limit:?}", self.bytes())))
    }

    /// Waits until nothing has come for this long; returns the bytes read until then.
    pub fn stalled(&self, quiet: Duration, limit: Duration) -> Result<u64, LabError> {
        let mut last = (self.bytes(), std::time::Instant::now());
        wait::until(&format!("the transfer to stall for {quiet:?}"), limit, || {
            let now = self.bytes();
            if now != last.0 {
                last = (now, std::time::Instant::now());
            }
            Ok((last.1.elapsed() >= quiet).then_some(now))
        })
    }

    /// Tells it to stop and close, and waits for that.
    pub fn stop(&self) -> Result<End, LabError> {
        self.stop.store(true, Ordering::Relaxed);
        self.app.finish(PATIENCE)
    }

    pub fn finish(&self, limit: Duration) -> Result<End, LabError> {
        self.app.finish(limit)
    }

    /// What ended it, if it has ended.
    pub fn ended(&self) -> Option<End> {
        self.app.finished()
    }
}

/// Writes a pattern, then keeps the socket open until it ends or it is told to stop.
pub struct Writer {
    bytes: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    app: App<End>,
}

/// How a [`Writer`] paces itself.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub chunk: usize,
    pub pause: Duration,
}

impl Pace {
    pub const BULK: Self = Self { chunk: 16384, pause: Duration::ZERO };
}

impl Writer {
    /// Writes `total` bytes.
    pub fn start(mut stream: TcpStream, total: u64, pace: Pace) -> Result<Self, LabError> {
        stream.set_write_timeout(Some(POLL)).during("set a write timeout")?;
        stream.set_read_timeout(Some(POLL)).during("set a read timeout")?;
        let (bytes, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (Arc::clone(&bytes), Arc::clone(&stop));
        let app = App::start("a writing application", move || {
            let mut written = 0;
            while written < total {
                if stopped.load(Ordering::Relaxed) {
                    return End::Stopped;
                }
                let len = pace.chunk.min(usize::try_from(total - written).unwrap_or(pace.chunk));
                match stream.write(&pattern(written, len)) {
                    Ok(len) => {
                        written += len as u64;
                        count.store(written, Ordering::Relaxed);
                    }
                    Err(error) if idle(&error) => {}
                    Err(error) => return error_of(&error),
                }
                if !pace.pause.is_zero() {
                    std::thread::sleep(pace.pause);
                }
            }
            let mut buffer = [0; 4096];
            while !stopped.load(Ordering::Relaxed) {
                match stream.read(&mut buffer) {
                    Ok(0) => return End::Eof,
                    Ok(_) => {}
                    Err(error) if idle(&error) => {}
                    Err(error) => return error_of(&error),
                }
            }
            End::Stopped
        });
        Ok(Self { bytes, stop, app })
    }

    /// Bytes that the socket has taken.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Tells it to stop and close, and waits for that.
    pub fn stop(&self) -> Result<End, LabError> {
        self.stop.store(true, Ordering::Relaxed);
        self.app.finish(PATIENCE)
    }

    pub fn finish(&self, limit: Duration) -> Result<End, LabError> {
        self.app.finish(limit)
    }

    pub fn ended(&self) -> Option<End> {
        self.app.finished()
    }
}

/// The situation needs this end; anything else is another situation.
pub fn expect(who: &str, wanted: End, got: End) -> Result<(), LabError> {
    if wanted == got {
        return Ok(());
    }
    Err(LabError::Plot(format!("{who} should have got {wanted}, but got {got}")))
}
