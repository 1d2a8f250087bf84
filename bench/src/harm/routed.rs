//! What a packet costs that is routed, with the agent and with connection tracking.

use super::with;
use crate::agent::Agent;
use crate::namespace::{Namespace, Visit};
use crate::player::{Hook, Play, Player};
use crate::statistics::Spread;
use crate::traffic::conversation::Conversation;
use anyhow::{Context, Result, ensure};
use aya::programs::{Xdp, XdpMode};
use monitor::capture::classifier::Side;
use monitor::capture::interfaces;
use serde::Serialize;
use std::io::Write;
use std::process::{Command, Stdio};

pub const ROW: &str = "harm-routed";

/// One configuration of the routed path.
#[derive(Clone, Debug, Serialize)]
pub struct Routed {
    pub connections: u32,
    pub with: &'static str,
    /// Nanoseconds per packet, gross.
    pub ns: Spread,
    /// To the same round without anything.
    pub added: Spread,
    /// Of the medians of `added`, to connection tracking's.
    pub to_conntrack: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Road {
    Nothing,
    Conntrack,
    Native,
    Tc,
    TcBoth,
}

impl Road {
    const ALL: [Road; 5] = [Road::Nothing, Road::Conntrack, Road::Native, Road::Tc, Road::TcBoth];

    fn name(self) -> &'static str {
        match self {
            Road::Nothing => "no program",
            Road::Conntrack => "nf_conntrack",
            Road::Native => "whyrst, native XDP where it comes in",
            Road::Tc => "whyrst, TC where it comes in",
            Road::TcBoth => "whyrst, TC in and out",
        }
    }
}

const IN: &str = "whyrst2";
const OUT: &str = "whyrst3";
/// What the frames of [`Conversation`] are sent to.
const ROUTER_MAC: &str = "02:00:00:00:00:01";
/// A rule that needs connection tracking in the forward path.
const CONNTRACK: &str =
    "table inet whyrst {\n chain f {\n  type filter hook forward priority 0\n  ct state established counter\n }\n}\n";
/// Of nobody: who gets the packets drops them early.
const NOBODY_MAC: &str = "02:00:00:00:00:77";

pub fn measure(player: &mut Player, agent: &mut Agent, rounds: u32, packets: u32) -> Result<Vec<Routed>> {
    let (router, ends) = (Namespace::new("router")?, Namespace::new("ends")?);
    for (link, peer, address) in [(IN, "peer2", "198.51.100.1/24"), (OUT, "peer3", "203.0.113.1/24")] {
        router.ip(&["link", "add", link, "type", "veth", "peer", "name", peer, "netns", &ends.name])?;
        router.ip(&["address", "add", address, "dev", link])?;
        router.ip(&["link", "set", link, "up"])?;
        ends.ip(&["link", "set", peer, "up"])?;
    }
    router.ip(&["link", "set", IN, "address", ROUTER_MAC])?;
    router.ip(&["route", "add", "10.2.0.0/16", "via", "203.0.113.2"])?;
    router.ip(&["neighbour", "replace", "203.0.113.2", "lladdr", NOBODY_MAC, "dev", OUT, "nud", "permanent"])?;
    let mut ebpf = with::floors(16)?;
    let xdp: &mut Xdp = ebpf.program_mut("x_empty").context("no program x_empty")?.try_into()?;
    xdp.load()?;
    let _visit = Visit::to(&router)?;
    for (key, value) in [("ip_forward", "1"), ("conf/all/rp_filter", "0"), (&format!("conf/{IN}/rp_filter"), "0")] {
        std::fs::write(format!("/proc/sys/net/ipv4/{key}"), value).with_context(|| format!("cannot set {key}"))?;
    }
    let all = interfaces::list()?;
    let index = |name: &str| all.iter().find(|i| i.name == name).map(|i| i.index).context("no interface");
    // Frames can be injected where the driver has a queue for XDP only.
    xdp.attach_to_if_index(index(IN)?, XdpMode::Driver)?;
    agent.watch(&[index(IN)?, index(OUT)?])?;

    let conversation = Conversation::acknowledgements();
    player.conversation(&conversation)?;
    let mut out = Vec::new();
    for connections in [1u32, 65_536] {
        agent.clear()?;
        agent.spread_for(connections)?;
        // The agent sees the connections begin; what is routed is what comes then, and never goes back.
        let mut play = Play::new(&conversation, connections, false);
        player.run(Hook::Xdp, &agent.program(Hook::Xdp)?, &mut play, conversation.lead as u32 * connections)?;
        let mut figures: Vec<Vec<f64>> = Road::ALL.map(|_| Vec::new()).to_vec();
        for round in 0..rounds as usize {
            for n in 0..Road::ALL.len() {
                let which = (n + round) % Road::ALL.len();
                let road = Road::ALL[which];
                let mut links = Vec::new();
                match road {
                    Road::Conntrack => nft(CONNTRACK)?,
                    Road::Tc | Road::TcBoth => links.push(agent.attach(IN, Side::Ingress)?),
                    Road::Nothing | Road::Native => {}
                }
                if road == Road::TcBoth {
                    links.push(agent.attach(OUT, Side::Egress)?);
                }
                let program = match road {
                    Road::Native => agent.program(Hook::Xdp)?,
                    _ => player.floor(Hook::Xdp, "empty")?,
                };
                // Until every connection is known.
                player.inject(&program, &mut play, (2 * connections).max(50_000), index(IN)?)?;
                let before = forwarded()?;
                figures[which].push(player.inject(&program, &mut play, packets, index(IN)?)?);
                let sent = forwarded()? - before;
                ensure!(sent >= u64::from(packets) / 100 * 99, "of {packets} packets only {sent} were forwarded");
                agent.drain();
                drop(links);
                if road == Road::Conntrack {
                    nft("delete table inet whyrst\n")?;
                }
            }
        }
        let added = |which: usize| -> Spread {
            Spread::of(figures[which].iter().zip(&figures[0]).map(|(with, without)| with - without))
        };
        let conntrack = added(1).median;
        for (which, road) in Road::ALL.into_iter().enumerate() {
            let added = added(which);
            out.push(Routed {
                connections,
                with: road.name(),
                ns: Spread::of(figures[which].iter().copied()),
                to_conntrack: added.median / conntrack,
                added,
            });
        }
    }
    Ok(out)
}

/// Packets that this thread's namespace has forwarded.
fn forwarded() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/thread-self/net/snmp")?;
    let mut lines = text.lines().filter_map(|l| l.strip_prefix("Ip: "));
    let (names, values) = (lines.next().context("no Ip names")?, lines.next().context("no Ip values")?);
    let at = names.split_whitespace().position(|n| n == "ForwDatagrams").context("no ForwDatagrams")?;
    values.split_whitespace().nth(at).and_then(|n| n.parse().ok()).context("no ForwDatagrams")
}

/// Feeds a ruleset to nft in this thread's namespace, which children inherit.
fn nft(rules: &str) -> Result<()> {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().context("cannot start nft")?;
    child.stdin.take().context("nft has no input")?.write_all(rules.as_bytes())?;
    ensure!(child.wait()?.success(), "nft refused: {rules}");
    Ok(())
}
