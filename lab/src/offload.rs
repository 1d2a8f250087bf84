//! Switches off segmentation and checksum offload, so that what a capture shows is what a wire
//! would carry: segments of one MSS each, with valid checksums.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::error::{During, LabError};
use crate::netns::Namespace;

/// `struct ethtool_value` of `linux/ethtool.h`.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

// Command numbers of `linux/ethtool.h`; the older one-feature commands need no string tables.
const ETHTOOL_SRXCSUM: u32 = 0x15;
const ETHTOOL_STXCSUM: u32 = 0x17;
const ETHTOOL_STSO: u32 = 0x1f;
const ETHTOOL_SGSO: u32 = 0x24;
const ETHTOOL_SGRO: u32 = 0x2c;

/// Segmentation goes first: a kernel refuses or silently drags along dependent features otherwise.
const SWITCHES: [(u32, &str); 5] = [
    (ETHTOOL_STSO, "tso"),
    (ETHTOOL_SGSO, "gso"),
    (ETHTOOL_SGRO, "gro"),
    (ETHTOOL_STXCSUM, "tx checksum"),
    (ETHTOOL_SRXCSUM, "rx checksum"),
];

/// Switches all of them off (or on) for one interface.
pub fn set(namespace: &Namespace, interface: &str, on: bool) -> Result<(), LabError> {
    namespace.run(|| {
        let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
            .during("open a socket for ethtool")?;
        let mut switches = SWITCHES;
        // And comes last: the kernel refuses it without checksums.
        if on {
            switches.reverse();
        }
        for (command, label) in switches {
            match switch(socket.as_raw_fd(), interface, command, on) {
                // A driver without the feature has nothing to switch off.
                Err(refused) if refused.raw_os_error() == Some(libc::EOPNOTSUPP) && !on => {}
                result => result.during(format!("switch {label} of {interface} (ethtool -K)"))?,
            }
        }
        Ok(())
    })?
}

fn switch(socket: i32, interface: &str, command: u32, on: bool) -> io::Result<()> {
    let mut value = EthtoolValue { cmd: command, data: u32::from(on) };
    let mut name = [0 as libc::c_char; libc::IFNAMSIZ];
    // One place is left for the terminating zero.
    if interface.len() >= name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (slot, byte) in name.iter_mut().zip(interface.bytes()) {
        *slot = byte as libc::c_char;
    }
    let mut request =
        libc::ifreq { ifr_name: name, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: (&raw mut value).cast() } };
    // SAFETY: `request` and the value it points to live until the call returns, and both have the
    // layout that SIOCETHTOOL expects for these commands.
    match unsafe { libc::ioctl(socket, libc::SIOCETHTOOL as _, &raw mut request) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
