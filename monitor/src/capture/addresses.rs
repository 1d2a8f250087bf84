//! The addresses of this host's interfaces: whether a RST that leaves here is the host's own or made in another's name.

use monitor_common::flow::{Addr, v4};
use std::collections::HashSet;

/// Addresses of this network namespace; none when the kernel does not tell.
pub fn list() -> Option<HashSet<Addr>> {
    let mut head: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: a place for a pointer.
    if unsafe { libc::getifaddrs(&raw mut head) } != 0 {
        return None;
    }
    let mut out = HashSet::new();
    let mut next = head;
    while !next.is_null() {
        // SAFETY: an element of the list, which lives until freeifaddrs.
        let entry = unsafe { &*next };
        out.extend(address(entry.ifa_addr));
        next = entry.ifa_next;
    }
    // SAFETY: the head that getifaddrs gave, once.
    unsafe { libc::freeifaddrs(head) };
    Some(out)
}

fn address(a: *const libc::sockaddr) -> Option<Addr> {
    if a.is_null() {
        return None;
    }
    // SAFETY: not null, and every socket address begins with its family.
    match i32::from(unsafe { (*a).sa_family }) {
        libc::AF_INET => {
            // SAFETY: the family says what it is; the kernel does not promise its alignment.
            let a = unsafe { a.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(v4(u32::from_be(a.sin_addr.s_addr)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let a = unsafe { a.cast::<libc::sockaddr_in6>().read_unaligned() };
            let bits = u128::from_be_bytes(a.sin6_addr.s6_addr);
            Some([(bits >> 64) as u64, bits as u64])
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_address_is_among_them() {
        let all = list().expect("the kernel tells");
        assert!(all.contains(&v4(0x7f00_0001)), "{all:x?}");
    }
}
