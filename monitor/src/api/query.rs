//! Filters of the lists as they travel in a URL: the client writes them, the server reads and checks them.

use crate::finding::FindingKind;
use crate::store::Filter;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::str::FromStr;

/// Of `/v1/findings` and `/v1/findings/follow`. Lists are separated by commas.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FindingQuery {
    pub since_ns: Option<u64>,
    #[serde(rename = "type")]
    pub kind: Option<String>,
    pub cause: Option<String>,
    pub culprit: Option<String>,
    pub limit: Option<usize>,
}

impl FindingQuery {
    pub fn filter(&self) -> Result<Filter, String> {
        Ok(Filter {
            since_ns: self.since_ns.unwrap_or(0),
            kinds: list(&self.kind).into_iter().map(kind).collect::<Result<_, _>>()?,
            causes: list(&self.cause).into_iter().map(Into::into).collect(),
            culprits: list(&self.culprit).into_iter().map(Into::into).collect(),
            limit: self.limit,
        })
    }
}

fn kind(name: &str) -> Result<FindingKind, String> {
    match name {
        "reset" => Ok(FindingKind::Reset),
        "rst_ineffective" => Ok(FindingKind::RstIneffective),
        "degraded" => Ok(FindingKind::Degraded),
        _ => Err(format!("unknown type '{name}'; one of reset, rst_ineffective, degraded")),
    }
}

/// Of `/v1/connections`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionQuery {
    pub state: Option<String>,
    pub sync: Option<String>,
    pub client: Option<Prefix>,
    pub server: Option<Prefix>,
    /// Of either end.
    pub port: Option<u16>,
    pub sort: Option<Sort>,
    pub limit: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Sort {
    /// Payload bytes of both directions
    #[default]
    Bytes,
    /// Time since the first segment
    Age,
    /// Time since the last segment
    Idle,
    /// Retransmitted segments
    Retransmissions,
}

pub fn list(text: &Option<String>) -> Vec<&str> {
    text.iter().flat_map(|t| t.split(',')).filter(|part| !part.is_empty()).collect()
}

/// An address, or a network such as `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    addr: IpAddr,
    bits: u8,
}

impl Prefix {
    pub fn contains(&self, addr: IpAddr) -> bool {
        match (self.addr, addr) {
            (IpAddr::V4(a), IpAddr::V4(b)) => same_start(a.to_bits().into(), b.to_bits().into(), 32, self.bits),
            (IpAddr::V6(a), IpAddr::V6(b)) => same_start(a.to_bits(), b.to_bits(), 128, self.bits),
            _ => false,
        }
    }
}

fn same_start(a: u128, b: u128, width: u32, bits: u8) -> bool {
    // A shift by the whole width, which `/0` asks for, is undefined for u128.
    (a ^ b).checked_shr(width - u32::from(bits)).unwrap_or(0) == 0
}

impl FromStr for Prefix {
    type Err = String;

    fn from_str(s: &str) -> Result<Prefix, String> {
        let error = || format!("'{s}' is neither an address nor a network such as 10.0.0.0/8");
        let (addr, bits) = s.split_once('/').map_or((s, None), |(a, b)| (a, Some(b)));
        let addr: IpAddr = addr.parse().map_err(|_| error())?;
        let width = if addr.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(width), str::parse).map_err(|_| error())?;
        if bits > width { Err(error()) } else { Ok(Prefix { addr, bits }) }
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(s: String) -> Result<Prefix, String> {
        s.parse()
    }
}

impl From<Prefix> for String {
    fn from(p: Prefix) -> String {
        format!("{}/{}", p.addr, p.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_holds_its_network_and_a_bare_address_only_itself() {
        let holds = |p: &str, a: &str| p.parse::<Prefix>().unwrap().contains(a.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.1.2") && !holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("0.0.0.0/0", "1.2.3.4") && holds("::/0", "fe80::1"));
        assert!(holds("10.0.0.1", "10.0.0.1") && !holds("10.0.0.1", "10.0.0.2"));
        assert!(holds("2001:db8::/32", "2001:db8:1::5") && !holds("::/0", "1.2.3.4"));
        assert!("10.0.0.0/33".parse::<Prefix>().is_err() && "host".parse::<Prefix>().is_err());
    }
}
