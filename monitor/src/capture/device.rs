//! What a network device would lose by native XDP: its driver and its receive offloads, as ethtool tells them. Needs no
//! privileges and no sysfs, which may show another namespace's devices.

use std::ffi::{CString, c_char};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

/// Facts of one device; what cannot be asked for counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    /// Kernel driver: `veth`, `tun`, `virtio_net`, `mlx5_core`, ...
    pub driver: Option<String>,
    /// Receive offload that merges segments before the driver's XDP hook would see them, and is switched on:
    /// `rx-lro` or `rx-gro-hw`.
    pub receive_offload: Option<String>,
}

/// Names of `netdev_features_strings` in net/ethtool/common.c.
const RECEIVE_OFFLOADS: [&str; 2] = ["rx-gro-hw", "rx-lro"];

// Commands of linux/ethtool.h.
const GDRVINFO: u32 = 0x03;
const GSTRINGS: u32 = 0x1b;
const GSSET_INFO: u32 = 0x37;
const GFEATURES: u32 = 0x3a;
/// `ETH_SS_FEATURES`.
const FEATURE_NAMES: u32 = 4;
/// `ETH_GSTRING_LEN`, bytes of a feature's name.
const NAME: usize = 32;
/// More than any kernel has; a larger answer is not believed.
const MOST_FEATURES: usize = 1024;

/// Asks the kernel about the interface of this network namespace with that name.
pub fn ask(interface: &str) -> Device {
    // ethtool answers on a socket of any kind.
    let Ok(socket) = UnixDatagram::unbound() else { return Device::default() };
    let ask = |data: &mut [u8]| call(&socket, interface, data);
    Device { driver: driver(&ask).ok(), receive_offload: receive_offload(&ask).ok().flatten() }
}

type Ask<'a> = &'a dyn Fn(&mut [u8]) -> io::Result<()>;

/// `struct ethtool_drvinfo`: after the command, 32 bytes of the driver's name.
fn driver(ask: Ask<'_>) -> io::Result<String> {
    let mut data = [0; 196];
    put(&mut data, 0, GDRVINFO);
    ask(&mut data)?;
    Ok(text(&data[4..36]))
}

fn receive_offload(ask: Ask<'_>) -> io::Result<Option<String>> {
    // struct ethtool_sset_info: command, reserved, mask of sets, their sizes.
    let mut sets = [0; 20];
    put(&mut sets, 0, GSSET_INFO);
    put(&mut sets, 8, 1 << FEATURE_NAMES);
    ask(&mut sets)?;
    let count = (get(&sets, 16) as usize).min(MOST_FEATURES);
    // struct ethtool_gstrings: command, set, number of strings, strings.
    let mut names = vec![0; 12 + count * NAME];
    put(&mut names, 0, GSTRINGS);
    put(&mut names, 4, FEATURE_NAMES);
    put(&mut names, 8, count as u32);
    ask(&mut names)?;
    // struct ethtool_gfeatures: command, number of blocks, blocks of 32 features: available, requested, active, never.
    let blocks = count.div_ceil(32);
    let mut features = vec![0; 8 + blocks * 16];
    put(&mut features, 0, GFEATURES);
    put(&mut features, 4, blocks as u32);
    ask(&mut features)?;
    let active = |i: usize| get(&features, 8 + i / 32 * 16 + 8) & 1 << (i % 32) != 0;
    let name = |i: usize| text(&names[12 + i * NAME..][..NAME]);
    Ok((0..count).filter(|i| active(*i)).map(name).find(|n| RECEIVE_OFFLOADS.contains(&n.as_str())))
}

/// Sends an ethtool request in `data` and takes the answer in its place.
fn call(socket: &UnixDatagram, interface: &str, data: &mut [u8]) -> io::Result<()> {
    let name = CString::new(interface)?;
    let name = name.to_bytes_with_nul();
    // SAFETY: all zeroes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() > request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name) {
        *to = *from as c_char;
    }
    request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
    // SAFETY: the request names `data`, which is as long as its own count fields say and outlives the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &mut request) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

fn put(data: &mut [u8], at: usize, number: u32) {
    data[at..at + 4].copy_from_slice(&number.to_ne_bytes());
}

fn get(data: &[u8], at: usize) -> u32 {
    data.get(at..at + 4).map_or(0, |b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}

/// Up to the first zero.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A driver that answers as the kernel does, with these features.
    fn answers(features: &'static [(&'static str, bool)]) -> impl Fn(&mut [u8]) -> io::Result<()> {
        move |data| {
            match get(data, 0) {
                GDRVINFO => data[4..11].copy_from_slice(b"a_drive"),
                GSSET_INFO => put(data, 16, features.len() as u32),
                GSTRINGS => {
                    for (i, (name, _)) in features.iter().enumerate() {
                        data[12 + i * NAME..][..name.len()].copy_from_slice(name.as_bytes());
                    }
                }
                GFEATURES => {
                    for (i, (_, on)) in features.iter().enumerate() {
                        let at = 8 + i / 32 * 16 + 8;
                        let bits = get(data, at) | u32::from(*on) << (i % 32);
                        put(data, at, bits);
                    }
                }
                other => panic!("command {other}"),
            }
            Ok(())
        }
    }

    #[test]
    fn an_offload_counts_when_it_is_active() {
        const OFF: &[(&str, bool)] = &[("rx-gro", true), ("rx-lro", false), ("rx-gro-hw", false)];
        assert_eq!(receive_offload(&answers(OFF)).unwrap(), None);
        const ON: &[(&str, bool)] = &[("rx-gro", true), ("rx-lro", false), ("rx-gro-hw", true)];
        assert_eq!(receive_offload(&answers(ON)).unwrap().as_deref(), Some("rx-gro-hw"));
        assert_eq!(driver(&answers(ON)).unwrap(), "a_drive");
    }

    #[test]
    fn features_beyond_the_first_block_are_found() {
        const MANY: &[(&str, bool)] = &{
            let mut all = [("tx-something", true); 40];
            all[37] = ("rx-lro", true);
            all
        };
        assert_eq!(receive_offload(&answers(MANY)).unwrap().as_deref(), Some("rx-lro"));
    }

    /// The kernel's own answer, which needs no privileges: the loopback has no driver's name and merges nothing.
    #[test]
    fn the_loopback_merges_nothing() {
        assert_eq!(ask("lo").receive_offload, None);
        assert_eq!(ask("no-such-device"), Device::default());
        assert_eq!(ask("a-name-that-is-longer-than-an-interface"), Device::default());
    }
}
