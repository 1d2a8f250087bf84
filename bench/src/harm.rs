//! What the host loses by the agent: throughput and CPU of bulk transfers between two namespaces, and time of a routed
//! packet against what connection tracking adds to it. All configurations take turns in every round, because
//! neighbours and clocks change more from minute to minute than the agent costs.

use crate::agent::Agent;
use crate::namespace::{Namespace, Visit};
use crate::player::{Hook, OBJECT, Play, Player};
use crate::process;
use crate::statistics::Spread;
use crate::traffic::conversation::Conversation;
use anyhow::{Context, Result, ensure};
use aya::programs::links::FdLink;
use aya::programs::tc::TcAttachOptions;
use aya::programs::{LinkOrder, SchedClassifier, TcAttachType, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use monitor::capture::classifier::Side;
use monitor::capture::interfaces;
use serde::Serialize;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

pub const ROWS: [&str; 3] = ["harm-veth", "harm-routed", "in-place"];

/// One configuration of a bulk transfer in one direction.
#[derive(Clone, Debug, Serialize)]
pub struct Bulk {
    /// Into or out of the interface that is watched.
    pub into: bool,
    pub with: &'static str,
    pub gbit_per_second: Spread,
    /// CPU of both ends' processes, with what the kernel did on their account.
    pub cpu_ns_per_kb: Spread,
    /// Of each round, to the same round without any program, and to an empty program at ingress and egress.
    pub to_none: Spread,
    pub to_empty: Spread,
}

/// What a run of a program costs where it is used, the mean of ingress and egress, by the kernel's statistics, whose own
/// clocks are part of it.
#[derive(Clone, Debug, Serialize)]
pub struct InPlace {
    /// Of the stream, into or out of the interface that is watched.
    pub into: bool,
    pub empty_ns: Spread,
    pub floor_ns: Spread,
    pub whyrst_ns: Spread,
    /// Of whyrst's to the floor's, each less the empty program's in the same round.
    pub ratio: Spread,
}

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

/// CPUs of the two ends.
const CLIENT_CPU: &str = "0";
const SERVER_CPU: &str = "1";
pub const WATCHED: &str = "whyrst0";
const PEER: &str = "whyrst1";
pub const ADDRESSES: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
const PORT: &str = "5222";

#[derive(Clone, Copy, PartialEq, Eq)]
enum With {
    Nothing,
    Empty,
    Floor,
    Agent,
    AgentNative,
}

impl With {
    const ALL: [With; 5] = [With::Nothing, With::Empty, With::Floor, With::Agent, With::AgentNative];

    fn name(self) -> &'static str {
        match self {
            With::Nothing => "no program",
            With::Empty => "empty TC programs",
            With::Floor => "floor TC programs",
            With::Agent => "whyrst",
            With::AgentNative => "whyrst --ingress xdp",
        }
    }
}

/// A round's figures.
#[derive(Clone, Copy)]
struct Transfer {
    gbit_per_second: f64,
    cpu_ns_per_kb: f64,
}

/// Two namespaces and the pair between them.
pub struct Pair {
    pub here: Namespace,
    pub there: Namespace,
}

impl Pair {
    pub fn new() -> Result<Pair> {
        let (here, there) = (Namespace::new("here")?, Namespace::new("there")?);
        here.ip(&["link", "add", WATCHED, "type", "veth", "peer", "name", PEER, "netns", &there.name])?;
        for (namespace, link, address) in [(&here, WATCHED, ADDRESSES[0]), (&there, PEER, ADDRESSES[1])] {
            namespace.ip(&["address", "add", &format!("{address}/24"), "dev", link])?;
            namespace.ip(&["link", "set", link, "up"])?;
            // Back-pressure: without a queue a burst overflows the veth's ring and is lost.
            within(namespace, "tc", &["qdisc", "replace", "dev", link, "root", "pfifo", "limit", "10000"])?;
            let _visit = Visit::to(namespace)?;
            // The default of many systems paces itself, by the clock and not by what it costs.
            std::fs::write("/proc/sys/net/ipv4/tcp_congestion_control", "reno").context("cannot choose reno")?;
        }
        Ok(Pair { here, there })
    }
}

pub fn veth(whyrst: &Path, folder: &Path, rounds: u32, seconds: u32) -> Result<Vec<Bulk>> {
    let pair = Pair::new()?;
    let mut figures: Vec<Vec<[Transfer; 2]>> = With::ALL.map(|_| Vec::new()).to_vec();
    for round in 0..rounds as usize {
        for n in 0..With::ALL.len() {
            let which = (n + round) % With::ALL.len();
            let _attached = attached(With::ALL[which], &pair.here, whyrst, folder)?;
            figures[which].push([transfer(&pair, true, seconds)?, transfer(&pair, false, seconds)?]);
        }
    }
    let mut out = Vec::new();
    for (way, into) in [(0, true), (1, false)] {
        let speed = |which: usize| figures[which].iter().map(move |f| f[way].gbit_per_second);
        for (which, with) in With::ALL.into_iter().enumerate() {
            let ratio = |to: usize| Spread::of(speed(which).zip(speed(to)).map(|(a, b)| a / b));
            out.push(Bulk {
                into,
                with: with.name(),
                gbit_per_second: Spread::of(speed(which)),
                cpu_ns_per_kb: Spread::of(figures[which].iter().map(|f| f[way].cpu_ns_per_kb)),
                to_none: ratio(0),
                to_empty: ratio(1),
            });
        }
    }
    Ok(out)
}

/// The same stream, and what each run of the programs took.
pub fn in_place(whyrst: &Path, folder: &Path, rounds: u32, seconds: u32) -> Result<Vec<InPlace>> {
    const CASES: [With; 3] = [With::Empty, With::Floor, With::Agent];
    let pair = Pair::new()?;
    let _statistics = aya::sys::enable_stats(aya::sys::Stats::RunTime).context("cannot have the kernel count")?;
    // By way and case.
    let mut ns: [[Vec<f64>; 3]; 2] = Default::default();
    for _ in 0..rounds {
        for (case, with) in CASES.into_iter().enumerate() {
            let attached = attached(with, &pair.here, whyrst, folder)?;
            for (way, into) in [(0, true), (1, false)] {
                let (time_before, count_before) = attached.runs();
                transfer(&pair, into, seconds)?;
                let (time, count) = attached.runs();
                ensure!(count > count_before, "{} did not run", with.name());
                ns[way][case].push((time - time_before).as_nanos() as f64 / (count - count_before) as f64);
            }
        }
    }
    let mut out = Vec::new();
    for (way, into) in [(0, true), (1, false)] {
        let [empty, floor, whyrst] = &ns[way];
        let net = |of: &[f64]| -> Vec<f64> { of.iter().zip(empty).map(|(a, b)| a - b).collect() };
        out.push(InPlace {
            into,
            empty_ns: Spread::of(empty.iter().copied()),
            floor_ns: Spread::of(floor.iter().copied()),
            whyrst_ns: Spread::of(whyrst.iter().copied()),
            ratio: Spread::of(net(whyrst).iter().zip(net(floor)).map(|(a, b)| a / b)),
        });
    }
    Ok(out)
}

/// What is attached to the watched end; dropped, it is gone.
#[derive(Default)]
pub struct Attached {
    _links: Vec<FdLink>,
    _agent: Option<process::Agent>,
    /// Numbers of the programs.
    programs: Vec<u32>,
}

impl Attached {
    /// Time and number of all runs.
    fn runs(&self) -> (Duration, u64) {
        let ours = aya::programs::loaded_programs().flatten().filter(|p| self.programs.contains(&p.id()));
        ours.fold((Duration::ZERO, 0), |(time, count), p| (time + p.run_time(), count + p.run_count()))
    }
}

fn attached(with: With, here: &Namespace, whyrst: &Path, folder: &Path) -> Result<Attached> {
    let agent = |more: &[&str]| -> Result<Attached> {
        let agent = process::start(here, whyrst, &folder.join("harm.sock"), more)?;
        let programs = ["tc_in", "tc_out"].into_iter().filter_map(newest).collect();
        Ok(Attached { _agent: Some(agent), programs, ..Attached::default() })
    };
    match with {
        With::Nothing => Ok(Attached::default()),
        With::Empty => both_ways(&mut floors(65_536)?, here, "t_empty"),
        With::Floor => both_ways(&mut floors(65_536)?, here, "t_floor"),
        With::Agent => agent(&[]),
        With::AgentNative => agent(&["--ingress", "xdp"]),
    }
}

/// Number of the program of this name that was loaded last.
fn newest(name: &str) -> Option<u32> {
    let loaded = aya::programs::loaded_programs().flatten();
    loaded.filter(|p| p.name_as_str() == Some(name)).map(|p| p.id()).max()
}

/// A program of the floor object at both TC hooks. Both are one program with one table: what one way writes the other
/// reads, as the agent's do.
pub fn both_ways(ebpf: &mut Ebpf, here: &Namespace, name: &str) -> Result<Attached> {
    let program: &mut SchedClassifier = ebpf.program_mut(name).context("a program is missing")?.try_into()?;
    if program.fd().is_err() {
        program.load()?;
    }
    let mut out = Attached { programs: vec![program.info()?.id()], ..Attached::default() };
    let _visit = Visit::to(here)?;
    for hook in [TcAttachType::Ingress, TcAttachType::Egress] {
        let id = program.attach_with_options(WATCHED, hook, TcAttachOptions::TcxOrder(LinkOrder::default()))?;
        out._links.push(program.take_link(id)?.try_into()?);
    }
    Ok(out)
}

pub fn floors(connections: u32) -> Result<Ebpf> {
    Ok(EbpfLoader::new().map_max_entries("TABLE", connections).map_max_entries("FRAMES", 16).load(OBJECT)?)
}

/// One stream of iperf3, each end on a CPU of its own.
fn transfer(pair: &Pair, into: bool, seconds: u32) -> Result<Transfer> {
    let _server = Server::start(&pair.here)?;
    let seconds_text = seconds.to_string();
    let mut arguments = vec!["-c", CLIENT_CPU, "iperf3", "-c", ADDRESSES[0], "-p", PORT, "-t", &seconds_text, "-J"];
    if !into {
        arguments.push("-R");
    }
    let text = within(&pair.there, "taskset", &arguments)?;
    let report: serde_json::Value = serde_json::from_str(&text).context("iperf3 gave no JSON")?;
    let number = |pointer: &str| report.pointer(pointer).and_then(serde_json::Value::as_f64);
    let bytes = number("/end/sum_received/bytes").context("iperf3 moved nothing")?;
    let took = number("/end/sum_received/seconds").context("iperf3 took no time")?;
    let percent = ["/end/cpu_utilization_percent/host_total", "/end/cpu_utilization_percent/remote_total"];
    let cpus: f64 = percent.into_iter().filter_map(number).sum::<f64>() / 100.0;
    ensure!(bytes > 0.0 && took > 0.0, "iperf3 moved nothing: {text}");
    Ok(Transfer { gbit_per_second: bytes * 8.0 / took / 1e9, cpu_ns_per_kb: cpus * took * 1e9 / (bytes / 1e3) })
}

/// An iperf3 server for one transfer, ended when dropped. nsenter and taskset become it.
struct Server(Child);

impl Server {
    fn start(namespace: &Namespace) -> Result<Server> {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", namespace.path().display()));
        command.args(["taskset", "-c", SERVER_CPU, "iperf3", "-s", "-1", "-p", PORT]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        let server = Server(child.context("cannot start iperf3")?);
        // Until it listens; a client that comes too early is refused.
        std::thread::sleep(Duration::from_millis(500));
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended by itself, unless something failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program prints in a namespace.
fn within(namespace: &Namespace, program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.path().display())).arg(program).args(arguments);
    let out = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {program}"))?;
    let (said, error) = (String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    ensure!(out.status.success(), "{program} failed: {}{}", error.trim(), said.trim());
    Ok(said.into_owned())
}

// The routed path.

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

pub fn routed(player: &mut Player, agent: &mut Agent, rounds: u32, packets: u32) -> Result<Vec<Routed>> {
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
    let mut ebpf = floors(16)?;
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
