//! VLAN tags on a wire, also where the kernel has no VLAN devices.
//!
//! A tap interface on which the host's stack lives, and threads of ours that move its frames to and
//! from an interface without an address, adding and removing the tag. The tag is in the bytes of the
//! frame, as on a wire, so programs on the interface below see it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::error::{During, LabError};
use crate::netns::Namespace;
use crate::packet_socket::{MAX_FRAME, PacketSocket};

/// How soon threads notice that they should end.
const PAUSE: Duration = Duration::from_millis(50);
const ETHERTYPE_VLAN: [u8; 2] = [0x81, 0x00];
/// Both hardware addresses.
const TAG_AT: usize = 12;

/// Moves frames until it is dropped.
pub struct Tagger {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Tagger {
    /// Makes interface `name`, up, whose frames travel over `below` with VLAN tag `id`.
    pub fn start(namespace: &Namespace, below: &str, name: &str, id: u16) -> Result<Self, LabError> {
        let tap = namespace.run(|| open_tap(name))?.during(format!("make tap interface {name}"))?;
        namespace.ip(&["link", "set", name, "up"])?;
        let (down, up) = (PacketSocket::open(namespace, below)?, PacketSocket::open(namespace, below)?);
        let copy = tap.try_clone().during("duplicate a file descriptor")?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stop_down, stop_up) = (Arc::clone(&stop), Arc::clone(&stop));
        let threads = vec![
            thread::spawn(move || move_down(copy, &down, id, &stop_down)),
            thread::spawn(move || move_up(&up, tap, &stop_up)),
        ];
        Ok(Self { stop, threads })
    }
}

impl Drop for Tagger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// What the host sends. Errors lose a frame, as wires do; a story that misses it says so.
fn move_down(mut tap: File, below: &PacketSocket, id: u16, stop: &AtomicBool) {
    let mut buffer = vec![0; MAX_FRAME];
    while !stop.load(Ordering::Relaxed) {
        match tap.read(&mut buffer) {
            Ok(len) if len > TAG_AT => {
                let mut frame = buffer[..TAG_AT].to_vec();
                frame.extend(ETHERTYPE_VLAN);
                frame.extend(id.to_be_bytes());
                frame.extend(&buffer[TAG_AT..len]);
                let _ = below.send(&frame);
            }
            Ok(_) => {}
            Err(none) if none.kind() == io::ErrorKind::WouldBlock => wait_readable(&tap),
            Err(_) => return,
        }
    }
}

/// What comes in. The kernel takes the outer tag off before packet sockets see a frame.
fn move_up(below: &PacketSocket, mut tap: File, stop: &AtomicBool) {
    let mut buffer = vec![0; MAX_FRAME];
    while !stop.load(Ordering::Relaxed) {
        match below.receive(&mut buffer, PAUSE) {
            Ok(Some(received)) if !received.outgoing => {
                let _ = tap.write(&buffer[..received.len.min(MAX_FRAME)]);
            }
            Ok(_) => {}
            Err(_) => return,
        }
    }
}

fn wait_readable(tap: &File) {
    let mut wanted = libc::pollfd { fd: tap.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: exactly one pollfd is passed, and it outlives the call. An error shows in the next read.
    unsafe { libc::poll(&mut wanted, 1, PAUSE.as_millis() as i32) };
}

/// A tap interface of the calling thread's namespace; it vanishes with the last file.
fn open_tap(name: &str) -> io::Result<File> {
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut ifr_name = [0 as libc::c_char; libc::IFNAMSIZ];
    // One place is left for the terminating zero.
    if name.len() >= ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (slot, byte) in ifr_name.iter_mut().zip(name.bytes()) {
        *slot = byte as libc::c_char;
    }
    let flags = (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short;
    let request = libc::ifreq { ifr_name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
    // SAFETY: `request` lives until the call returns and has the layout that TUNSETIFF expects.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &raw const request) } {
        0 => Ok(file),
        _ => Err(io::Error::last_os_error()),
    }
}
