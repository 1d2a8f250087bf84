//! Community ID version 1: a flow hash that other tools (Zeek, Suricata, Wireshark) compute alike, to join findings
//! with their records. Specification: <https://github.com/corelight/community-id-spec>.

use crate::finding::ip;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use monitor_common::flow::{Addr, FlowKey};
use sha1::{Digest, Sha1};
use std::net::IpAddr;

/// Seed of the contract; the specification's default.
const SEED: u16 = 0;
/// IANA protocol number of TCP.
const TCP: u8 = 6;

/// The ID of a flow. The canonical key already stands in the order that the specification asks for: the smaller
/// (address, port) first, compared as in network byte order.
pub fn community_id(key: &FlowKey) -> String {
    let mut hash = Sha1::new();
    hash.update(SEED.to_be_bytes());
    add(&mut hash, key.addr[0]);
    add(&mut hash, key.addr[1]);
    hash.update([TCP, 0]);
    hash.update(key.port[0].to_be_bytes());
    hash.update(key.port[1].to_be_bytes());
    format!("1:{}", BASE64_STANDARD.encode(hash.finalize()))
}

fn add(hash: &mut Sha1, addr: Addr) {
    match ip(addr) {
        IpAddr::V4(v4) => hash.update(v4.octets()),
        IpAddr::V6(v6) => hash.update(v6.octets()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::SocketAddr;

    fn id(a: &str, b: &str) -> String {
        let part = |s: &str| {
            let at: SocketAddr = s.parse().unwrap();
            let bits = match at.ip() {
                IpAddr::V4(v4) => u128::from(v4.to_ipv6_mapped()),
                IpAddr::V6(v6) => u128::from(v6),
            };
            ([(bits >> 64) as u64, bits as u64], at.port())
        };
        let ((a, a_port), (b, b_port)) = (part(a), part(b));
        community_id(&FlowKey::canonical(a, a_port, b, b_port).0)
    }

    #[test]
    fn reference_vector_of_the_specification() {
        assert_eq!(id("128.232.110.120:34855", "66.35.250.204:80"), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        assert_eq!(id("66.35.250.204:80", "128.232.110.120:34855"), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
    }
    /// Wireshark 4.0's value for a connection of a public capture.
    #[test]
    fn ipv6_as_wireshark_computes_it() {
        assert_eq!(
            id("[3ffe:501:410:0:2c0:dfff:fe47:33e]:22", "[3ffe:507:0:1:200:86ff:fe05:80da]:1022"),
            "1:KCHULnC2GCfanzHfU34Gr1Za/Zo="
        );
    }

    #[test]
    fn equal_addresses_are_ordered_by_port() {
        assert_eq!(id("127.0.0.1:9", "127.0.0.1:5"), id("127.0.0.1:5", "127.0.0.1:9"));
    }
}
