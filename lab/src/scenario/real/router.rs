//! What the router can be made to do to passing connections.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

use crate::LabError;
use crate::error::During;
use crate::netns::Namespace;

/// The table that [`filter`] loads and [`pass`] removes.
const TABLE: &str = "whyrst_filter";

/// Rules for what the namespace forwards; they replace earlier ones.
pub fn filter(router: &Namespace, rules: &str) -> Result<(), LabError> {
    router.nft(&ruleset("forward", rules))
}

/// Rules for what comes to the namespace's own sockets.
pub fn filter_input(host: &Namespace, rules: &str) -> Result<(), LabError> {
    host.nft(&ruleset("input", rules))
}

fn ruleset(hook: &str, rules: &str) -> String {
    // Declared before it is deleted, since deleting what is not there is an error.
    format!(
        "table inet {TABLE} {{ }}
        delete table inet {TABLE}
        table inet {TABLE} {{
            chain {hook} {{
                type filter hook {hook} priority filter;
                {rules}
            }}
        }}"
    )
}

/// Removes the rules of [`filter`].
pub fn pass(router: &Namespace) -> Result<(), LabError> {
    router.nft(&format!("delete table inet {TABLE}"))
}

/// Packets that the first counter of the rules has counted.
pub fn counted(router: &Namespace) -> Result<u64, LabError> {
    let listing = router.output("nft", &["list", "table", "inet", TABLE])?;
    let mut words = listing.split_whitespace().skip_while(|&word| word != "packets");
    let number = words.nth(1).and_then(|number| number.parse().ok());
    number.ok_or_else(|| LabError::Plot(format!("nft printed no packet count: {listing}")))
}

/// Forgets all tracked connections, as a restart, a failover or a full table does.
pub fn forget_connections(router: &Namespace) -> Result<(), LabError> {
    router.run(flush_connection_tracking)?.during("flush connection tracking")
}

/// ctnetlink: deleting without saying what deletes all of this namespace.
fn flush_connection_tracking() -> io::Result<()> {
    const NFNL_SUBSYS_CTNETLINK: u16 = 1;
    const IPCTNL_MSG_CT_DELETE: u16 = 2;
    const HEADER: usize = 16;
    let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    // nlmsghdr (length, type, flags, sequence, port), then nfgenmsg: any family, version 0, no id.
    let mut message = [0u8; HEADER + 4];
    message[..4].copy_from_slice(&((HEADER + 4) as u32).to_ne_bytes());
    message[4..6].copy_from_slice(&kind.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message[8..12].copy_from_slice(&1u32.to_ne_bytes());
    let fd = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkNetFilter)?;
    sendto(fd.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut reply = [0u8; 256];
    let len = recv(fd.as_raw_fd(), &mut reply, MsgFlags::empty())?;
    // The answer is an nlmsgerr: a negative errno, zero for success.
    match reply[..len].get(HEADER..HEADER + 4) {
        Some(&[a, b, c, d]) => match i32::from_ne_bytes([a, b, c, d]) {
            0 => Ok(()),
            error => Err(Errno::from_raw(-error).into()),
        },
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
