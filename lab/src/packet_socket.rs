//! An AF_PACKET socket on one interface: whole frames out, whole frames and their times in.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockType, recvmsg, send, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeSpec;

use crate::error::{During, LabError};
use crate::netns::Namespace;

/// Holds any frame, also a 64 KiB super-packet where segmentation offload is on.
pub const MAX_FRAME: usize = 65536 + 64;

/// Enough for a burst that arrives while the reader is not scheduled.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

pub struct PacketSocket {
    fd: OwnedFd,
    mac: [u8; 6],
}

/// What is known of a received frame besides its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Received {
    /// Length of the frame; bytes beyond the caller's buffer are lost.
    pub len: usize,
    /// Sent by this host rather than to it.
    pub outgoing: bool,
    /// When the kernel saw it, since the epoch.
    pub time: Duration,
}

impl PacketSocket {
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self, LabError> {
        namespace
            .run(|| Self::open_here(interface))?
            .during(format!("open a packet socket on {interface} in {}", namespace.name()))
    }

    fn open_here(interface: &str) -> io::Result<Self> {
        // Without a protocol the socket hears nothing until bind() names interface and protocol
        // together; otherwise frames of other interfaces could come in between.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
        setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER_BYTES)?;
        setsockopt(&fd, sockopt::ReceiveTimestampns, &true)?;
        bind_to(&fd, if_nametoindex(interface)?)?;
        let mac = own_mac(&fd)?;
        Ok(Self { fd, mac })
    }

    /// Hardware address of the interface.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    pub fn send(&self, frame: &[u8]) -> Result<(), LabError> {
        send(self.fd.as_raw_fd(), frame, MsgFlags::empty()).map(drop).during("send a frame")
    }

    /// The next frame, or `None` when none came within `wait`. Zero drains without waiting.
    pub fn receive(&self, buffer: &mut [u8], wait: Duration) -> Result<Option<Received>, LabError> {
        let deadline = Instant::now() + wait;
        loop {
            match self.receive_now(buffer) {
                Err(Errno::EAGAIN) => {}
                Err(Errno::EINTR) => continue,
                result => return result.map(Some).during("receive a frame"),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            wait_readable(&self.fd, left).during("wait for a frame")?;
        }
    }

    fn receive_now(&self, buffer: &mut [u8]) -> nix::Result<Received> {
        let mut parts = [IoSliceMut::new(buffer)];
        let mut control = nix::cmsg_space!(TimeSpec);
        let message = recvmsg::<LinkAddr>(
            self.fd.as_raw_fd(),
            &mut parts,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_TRUNC,
        )?;
        let time = message.cmsgs()?.find_map(|part| match part {
            ControlMessageOwned::ScmTimestampns(time) => Some(time),
            _ => None,
        });
        let source = message.address.as_ref();
        Ok(Received {
            len: message.bytes,
            outgoing: source.is_some_and(|from| from.pkttype() == libc::PACKET_OUTGOING),
            time: time.map_or(Duration::ZERO, Duration::from),
        })
    }

    /// Frames lost since the last call because nobody read them in time.
    pub fn dropped(&self) -> Result<u32, LabError> {
        let mut stats = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut len = size_of_val(&stats) as libc::socklen_t;
        // SAFETY: the kernel writes at most `len` bytes to `stats`, which is that large.
        let result = unsafe {
            libc::getsockopt(
                self.fd.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut stats).cast(),
                &mut len,
            )
        };
        Errno::result(result).during("read packet socket statistics")?;
        Ok(stats.tp_drops)
    }
}

fn link_layer(ifindex: u32) -> libc::sockaddr_ll {
    libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: (libc::ETH_P_ALL as u16).to_be(),
        sll_ifindex: ifindex as i32,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    }
}

// nix can neither build a `LinkAddr` nor read the short one that getsockname() yields.
fn bind_to(fd: &OwnedFd, ifindex: u32) -> nix::Result<()> {
    let address = link_layer(ifindex);
    let len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: `address` is a valid sockaddr_ll of `len` bytes.
    let result = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) };
    Errno::result(result).map(drop)
}

fn own_mac(fd: &OwnedFd) -> nix::Result<[u8; 6]> {
    let mut address = link_layer(0);
    let mut len = size_of_val(&address) as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes to `address`, which is that large.
    let result = unsafe { libc::getsockname(fd.as_raw_fd(), (&raw mut address).cast(), &mut len) };
    Errno::result(result)?;
    match address.sll_addr {
        [a, b, c, d, e, f, ..] if address.sll_halen == 6 => Ok([a, b, c, d, e, f]),
        _ => Err(Errno::EADDRNOTAVAIL),
    }
}

/// Waits until one of two sockets has a frame, at most `limit`.
pub fn wait_any(sockets: &[PacketSocket; 2], limit: Duration) -> Result<(), LabError> {
    let mut wanted =
        sockets.each_ref().map(|socket| libc::pollfd { fd: socket.fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    let limit = libc::timespec { tv_sec: limit.as_secs() as _, tv_nsec: limit.subsec_nanos().into() };
    // SAFETY: exactly two pollfds and one timespec are passed, and they outlive the call; no signal mask.
    match Errno::result(unsafe { libc::ppoll(wanted.as_mut_ptr(), 2, &raw const limit, std::ptr::null()) }) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error).during("wait for a frame"),
    }
}

fn wait_readable(fd: &OwnedFd, limit: Duration) -> nix::Result<()> {
    // Rounded up, so that a wait of less than a millisecond does not spin.
    let milliseconds = i32::try_from(limit.as_millis() + 1).unwrap_or(i32::MAX);
    let mut wanted = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: exactly one pollfd is passed, and it outlives the call.
    match Errno::result(unsafe { libc::poll(&mut wanted, 1, milliseconds) }) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error),
    }
}
