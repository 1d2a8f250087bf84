//! Two namespaces, and pairs of interfaces between them.

use crate::namespace::{Namespace, Visit};
use anyhow::{Context, Result, ensure};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

pub struct Pair {
    pub here: Namespace,
    pub there: Namespace,
    pub links: Vec<Link>,
}

/// A veth pair: the end that is watched, and the other.
pub struct Link {
    pub watched: String,
    pub here: Ipv4Addr,
    pub there: Ipv4Addr,
}

impl Pair {
    pub fn new(links: u8) -> Result<Pair> {
        let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
        let mut pair = Pair { here, there, links: Vec::new() };
        for number in 0..links {
            let link = pair.link(number)?;
            pair.links.push(link);
        }
        for namespace in [&pair.here, &pair.there] {
            let _visit = Visit::to(namespace)?;
            // The default of many systems paces itself, by the clock and not by what it costs.
            std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno").context("cannot choose reno")?;
        }
        Ok(pair)
    }

    fn link(&self, number: u8) -> Result<Link> {
        let (watched, peer) = (format!("whyrst{number}"), format!("peer{number}"));
        let address = |end: u8| Ipv4Addr::new(192, 0, 2, number * 4 + end);
        let link = Link { here: address(1), there: address(2), watched };
        self.here.ip(&[
            "link",
            "add",
            &link.watched,
            "type",
            "veth",
            "peer",
            "name",
            &peer,
            "netns",
            &self.there.name,
        ])?;
        for (namespace, name, address) in [(&self.here, &link.watched, link.here), (&self.there, &peer, link.there)] {
            namespace.ip(&["address", "add", &format!("{address}/30"), "dev", name])?;
            namespace.ip(&["link", "set", name, "up"])?;
            // Back-pressure: without a queue a burst overflows the veth's ring and is lost.
            within(namespace, "tc", &["qdisc", "replace", "dev", name, "root", "pfifo", "limit", "10000"])?;
        }
        Ok(link)
    }
}

/// What a program prints in a namespace.
pub fn within(namespace: &Namespace, program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.path().display())).arg(program).args(arguments);
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {program}"))?;
    let (said, error) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    ensure!(out.status.success(), "{program} failed: {}{}", error.trim(), said.trim());
    Ok(said.into_owned())
}
