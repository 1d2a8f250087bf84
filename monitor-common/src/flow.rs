//! The canonical key: one entry for both directions of a flow.

use bytemuck::{Pod, Zeroable};
use core::mem::size_of;

/// Who sent a segment: the endpoint that stands first (`Forward`) or second (`Reverse`) in the canonical key.
/// Says nothing about client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Direction {
    Forward = 0,
    Reverse = 1,
}

impl Direction {
    #[inline(always)]
    pub const fn index(self) -> usize {
        self as usize
    }

    #[inline(always)]
    pub const fn other(self) -> Direction {
        match self {
            Direction::Forward => Direction::Reverse,
            Direction::Reverse => Direction::Forward,
        }
    }

    /// The direction with this index; only the lowest bit counts.
    #[inline(always)]
    pub const fn from_index(index: u8) -> Direction {
        if index & 1 == 0 { Direction::Forward } else { Direction::Reverse }
    }
}

/// An address as two big-endian halves in host integers; IPv4 as `::ffff:a.b.c.d` (RFC 4291 section 2.5.5.2).
pub type Addr = [u64; 2];

/// The address of an IPv4 host (`bits` in host order, 127.0.0.1 = 0x7f00_0001).
#[inline(always)]
pub const fn v4(bits: u32) -> Addr {
    [0, 0xffff_0000_0000 | bits as u64]
}

/// Unordered 4-tuple; 40 bytes. The numerically smaller (address, port) stands first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Pod, Zeroable)]
#[repr(C)]
pub struct FlowKey {
    pub addr: [Addr; 2],
    /// Ports in host byte order.
    pub port: [u16; 2],
    /// Reserved for a zone (VLAN, namespace); 0 today.
    pub zone: u32,
}

impl FlowKey {
    /// The key of a packet, and which of its two directions the packet goes.
    #[inline(always)]
    pub fn canonical(src: Addr, src_port: u16, dst: Addr, dst_port: u16) -> (FlowKey, Direction) {
        let src_first = if src[0] != dst[0] {
            src[0] < dst[0]
        } else if src[1] != dst[1] {
            src[1] < dst[1]
        } else {
            src_port <= dst_port
        };
        if src_first {
            let key = FlowKey { addr: [src, dst], port: [src_port, dst_port], zone: 0 };
            (key, Direction::Forward)
        } else {
            let key = FlowKey { addr: [dst, src], port: [dst_port, src_port], zone: 0 };
            (key, Direction::Reverse)
        }
    }

    /// Equality without a branch per word, and without the call to `memcmp` that the derived one becomes.
    #[inline(always)]
    pub fn is(&self, other: &FlowKey) -> bool {
        let (a, b) = (&self.addr, &other.addr);
        let addresses = (a[0][0] ^ b[0][0]) | (a[0][1] ^ b[0][1]) | (a[1][0] ^ b[1][0]) | (a[1][1] ^ b[1][1]);
        let ports = (self.port[0] ^ other.port[0]) | (self.port[1] ^ other.port[1]);
        addresses | ports as u64 | (self.zone ^ other.zone) as u64 == 0
    }

    /// 32-bit hash for the connection table; its upper bits are good ones.
    ///
    /// NH (RFC 4418 section 5) over the halves of the addresses, and multiply-shift: products that do not wait for each other,
    /// because every packet waits for the hash. BPF has no multiplication with a result of 128 bits. NH's sums are not reduced modulo
    /// 2^32 here, and collide no more often: the product of a difference of two halves and one of two keys, each below 2^32, is not
    /// 0 modulo 2^64, so of 2^32 keys at most one makes the sums of two tuples equal.
    #[inline(always)]
    pub fn hash(&self, keys: &HashKeys) -> u32 {
        let product = |word: u64, i: usize| {
            let (low, high) = (word & u32::MAX as u64, word >> 32);
            (low + keys.half[i] as u64).wrapping_mul(high + keys.half[i + 1] as u64)
        };
        let ports = self.port[0] as u64 | (self.port[1] as u64) << 16 | (self.zone as u64) << 32;
        let [[a, b], [c, d]] = self.addr;
        let addresses =
            product(a, 0).wrapping_add(product(b, 2)).wrapping_add(product(c, 4).wrapping_add(product(d, 6)));
        (addresses.wrapping_add(ports.wrapping_mul(keys.ports)).wrapping_mul(keys.last) >> 32) as u32
    }
}

/// What the hash depends on. Random for each table: who does not know it can do no better than chance at choosing tuples that share
/// a set, however many it may choose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct HashKeys {
    /// Added to the halves of the addresses' four words.
    pub half: [u32; 8],
    /// Odd.
    pub ports: u64,
    /// Odd.
    pub last: u64,
}

impl HashKeys {
    pub const ZERO: HashKeys = HashKeys { half: [0; 8], ports: 0, last: 0 };

    /// Of random bytes.
    pub fn new(bytes: [u8; size_of::<HashKeys>()]) -> HashKeys {
        let mut keys: HashKeys = bytemuck::cast(bytes);
        keys.ports |= 1;
        keys.last |= 1;
        keys
    }

    /// The same keys for the same seed, by splitmix64: for tables whose tuples nobody chooses to harm.
    pub fn from_seed(seed: u64) -> HashKeys {
        let mut bytes = [0; size_of::<HashKeys>()];
        let mut state = seed;
        for word in bytes.chunks_exact_mut(8) {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            word.copy_from_slice(&(z ^ (z >> 31)).to_ne_bytes());
        }
        HashKeys::new(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_share_one_key() {
        let (a, b) = (v4(0x0a00_0001), v4(0x0a00_0002));
        let (k1, d1) = FlowKey::canonical(a, 40_000, b, 80);
        let (k2, d2) = FlowKey::canonical(b, 80, a, 40_000);
        assert_eq!(k1, k2);
        assert_eq!((d1, d2), (Direction::Forward, Direction::Reverse));
        assert_eq!(d1.other(), d2);
        assert_eq!(k1.hash(&HashKeys::from_seed(7)), k2.hash(&HashKeys::from_seed(7)));
        assert_ne!(k1.hash(&HashKeys::from_seed(7)), k1.hash(&HashKeys::from_seed(8)));
    }

    #[test]
    fn equal_addresses_are_ordered_by_port() {
        let a = v4(0x7f00_0001);
        let (k, d) = FlowKey::canonical(a, 9, a, 5);
        assert_eq!(k.port, [5, 9]);
        assert_eq!(d, Direction::Reverse);
    }

    #[test]
    fn key_is_forty_bytes() {
        assert_eq!(core::mem::size_of::<FlowKey>(), 40);
    }
}
