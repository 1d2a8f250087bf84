//! The hash of the connection table against tuples that one peer can choose.

use monitor_common::abi::set_index;
use monitor_common::flow::{Addr, FlowKey, HashKeys, v4};

const KEYS: u64 = 16_384;
const SETS: usize = 4096;

/// The fullest of the sets, and how many keys have the hash of one before.
fn spread(seed: u64, tuple: impl Fn(u64) -> (Addr, u16, Addr, u16)) -> (u32, usize) {
    let (mut sets, mut hashes, keys) = (vec![0u32; SETS], Vec::new(), HashKeys::from_seed(seed));
    for n in 0..KEYS {
        let (src, sport, dst, dport) = tuple(n);
        let hash = FlowKey::canonical(src, sport, dst, dport).0.hash(&keys);
        sets[set_index(hash, SETS as u32) as usize] += 1;
        hashes.push(hash);
    }
    hashes.sort_unstable();
    (sets.into_iter().max().unwrap(), hashes.windows(2).filter(|w| w[0] == w[1]).count())
}

/// Four to a set on average. Of a random function no set holds more than 24 in 10^8 of such tables (Poisson), and
/// of 16,384 hashes of 32 bits 0.03 are equal to another.
#[test]
fn what_one_peer_can_choose_spreads_over_the_sets() {
    let server = v4(0xc000_0201);
    let prefix = 0x2001_0db8_0000_0000;
    let server6 = [prefix, 1];
    for seed in 0..8 {
        for (what, (fullest, equal)) in [
            ("ports", spread(seed, |n| (v4(0x0a00_0001), n as u16, server, 443))),
            ("addresses", spread(seed, |n| (v4(0x0a00_0000 + n as u32), 40_000, server, 443))),
            ("both", spread(seed, |n| (v4(0x0a00_0000 + n as u32), n as u16, server, 443))),
            ("multiples of 2^16", spread(seed, |n| (v4((n as u32) << 16), 40_000, server, 443))),
            ("suffixes", spread(seed, |n| ([prefix, n << 40], 40_000, server6, 443))),
            ("prefixes", spread(seed, |n| ([n << 50, 5], 40_000, server6, 443))),
            // Both halves of the address, and the port with the prefix: what cancels out in a chain of exclusive ors.
            ("both halves", spread(seed, |n| ([n << 20, n << 20], 40_000, server6, 443))),
            (
                "port times constant",
                spread(seed, |n| ([(n << 16 | 443).wrapping_mul(0x9e37_79b9_7f4a_7c15), 7], n as u16, server6, 443)),
            ),
        ] {
            assert!(fullest <= 24, "{what}, keys {seed}: {fullest} in a set");
            assert!(equal <= 3, "{what}, keys {seed}: {equal} have the hash of another");
        }
    }
}
