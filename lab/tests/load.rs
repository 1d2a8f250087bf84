//! The running agent under load: a flood and a storm of resets through its own programs, played inside the kernel. What
//! it costs is bounded, what is not told is counted, and the answers still come. Needs root.

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use common::{agent, permitted};
use monitor::capture::player::{self, Client, Kind, Player, Script, client_of};
use whyrst_lab::agent::{Agent, Setup};
use whyrst_lab::frame::{Flags, Options, Segment};
use whyrst_lab::netns::Namespace;
use whyrst_lab::seq::SeqNum;
use whyrst_lab::wait;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PATIENCE: Duration = Duration::from_secs(60);
/// `enum bpf_prog_type`.
const XDP: u32 = 6;

struct Watched {
    agent: Agent,
    program: OwnedFd,
    kind: Kind,
    _namespaces: [Namespace; 2],
}

impl Watched {
    fn start(arguments: &[&str]) -> Watched {
        let namespaces = [Namespace::create("load-a").unwrap(), Namespace::create("load-b").unwrap()];
        namespaces[0].veth("l0", &namespaces[1], "l1").unwrap();
        let setup = Setup { arguments: arguments.iter().map(ToString::to_string).collect(), quiet: true };
        let mut agent = Agent::spawn(agent(), &namespaces[0], &["l0"], &setup).unwrap();
        agent.wait_ready().unwrap();
        // Any of its programs that take packets: both hooks do the same.
        let mut programs: Vec<_> = agent
            .programs()
            .unwrap()
            .into_iter()
            .filter_map(|id| {
                let program = player::program_by_id(id).ok()?;
                let (kind, name) = player::describe(program.as_fd()).ok()?;
                ["xdp_in", "xdp_in_linear", "tc_in"].contains(&name.as_str()).then_some((kind, program))
            })
            .collect();
        let (kind, program) = programs.pop().expect("the agent has an ingress program");
        let kind = if kind == XDP { Kind::Xdp } else { Kind::Classifier };
        Watched { agent, program, kind, _namespaces: namespaces }
    }

    /// Plays `count` segments, each from another client.
    fn play(&self, segment: &Segment, seq_step: u32, count: u32) {
        let from_client = segment.destination.ip() == SERVER;
        let client = if from_client { Client::Source } else { Client::Destination };
        let script = Script { client: Some(client), seq_step, ..Script::default() };
        let player = Player::new(self.kind, script, self.program.as_fd(), None).unwrap();
        player.play(&segment.to_frame([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1]), 0, count).unwrap();
    }

    fn metric(&self, name: &str) -> u64 {
        let page = self.agent.metrics().unwrap();
        let value = page.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("no {name} in\n{page}")) as u64
    }

    /// Resident memory, KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.agent.pid())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches("kB").trim().parse().unwrap()
    }
}

fn segment(from_client: bool, port: u16, flags: Flags, seq: u32, ack: u32) -> Segment {
    let client = SocketAddr::from(client_of(0));
    let server = SocketAddr::from((SERVER, port));
    let (source, destination) = if from_client { (client, server) } else { (server, client) };
    Segment {
        source,
        destination,
        seq: SeqNum(seq),
        ack: SeqNum(ack),
        flags,
        wnd: 64_240,
        options: Options::default(),
        payload: Vec::new(),
        ttl: 64,
        ip_id: 0,
    }
}

/// A hundred thousand connections are reset within moments; then a flood of stray RSTs of a million. The findings that
/// are listed stand for all that the agent was told of, the counters for all there were.
#[test]
fn storms_and_floods_are_counted_and_the_agent_answers() {
    if !permitted() {
        return;
    }
    const CONNECTIONS: u32 = 100_000;
    const PORT: u16 = 80;
    let watched = Watched::start(&["--max-connections", "131072"]);
    let handshake = [
        segment(true, PORT, Flags::SYN, 1_000, 0),
        segment(false, PORT, Flags::SYN_ACK, 5_000, 1_001),
        segment(true, PORT, Flags::ACK, 1_001, 5_001),
    ];
    for s in &handshake {
        watched.play(s, 0, CONNECTIONS);
    }
    // Those that pushed each other out while they were half open are taken up again.
    watched.play(&segment(false, PORT, Flags::ACK, 5_001, 1_001), 0, CONNECTIONS);
    watched.play(&segment(true, PORT, Flags::ACK, 1_001, 5_001), 0, CONNECTIONS);
    let before = watched.memory();
    watched.play(&segment(false, PORT, Flags::RST_ACK, 5_001, 1_001), 0, CONNECTIONS);
    watched.play(&segment(true, 1003, Flags::RST, 7, 0), 0x85eb_ca6b, 1_000_000);

    let effective = watched.metric("whyrst_resets_observed_total{effect=\"effective\"}");
    let rejected = watched.metric("whyrst_table_rejected_segments_total{reason=\"full\"}");
    assert!(effective + rejected >= u64::from(CONNECTIONS) + 1_000_000, "{effective} and {rejected}");
    let told = |status: &serde_json::Value| {
        let number = |v: &serde_json::Value| v.as_u64().unwrap();
        number(&status["findings"]["resets"])
    };
    let mut last = 0;
    let status = wait::until("the agent to have told all", PATIENCE, || {
        let status = watched.agent.status()?;
        let (now, settled) = (told(&status), told(&status) == last);
        last = now;
        std::thread::sleep(Duration::from_secs(3));
        Ok((settled && now > 0).then_some(status))
    })
    .unwrap();
    let lost = &status["lost"];
    let unreported = lost["events_ring_buffer"].as_u64().unwrap() + lost["events_withheld"].as_u64().unwrap();
    let events = watched.metric("whyrst_events_total");
    assert_eq!(events + unreported, effective, "every reset was reported or counted as not reported");
    assert!(unreported > 0, "this is more than a ring buffer holds");

    // Listed are a few, which stand for the rest.
    let output = watched.agent.run_cli(&["resets", "--limit", "0", "--output", "json"]).unwrap();
    let findings: Vec<serde_json::Value> = output
        .stdout
        .split(|b| *b == b'\n')
        .filter(|l| !l.is_empty())
        .map(|l| serde_json::from_slice(l).unwrap())
        .collect();
    let similar: u64 = findings.iter().filter_map(|f| f["similar"]["count"].as_u64()).sum();
    let resets = told(&status);
    println!(
        "{resets} resets told by {} findings, {similar} counted with them; {unreported} not reported",
        findings.len()
    );
    assert!(findings.len() <= 600, "{} findings listed", findings.len());
    assert_eq!(findings.len() as u64 + similar, resets);
    assert!(findings.iter().any(|f| f["visibility"]["under_pressure"] == true));
    let text =
        String::from_utf8_lossy(&watched.agent.run_cli(&["resets", "--limit", "0"]).unwrap().stdout).into_owned();
    assert!(text.contains("more like this"), "{text}");

    let grown = watched.memory().saturating_sub(before);
    println!("{} MiB before, {} MiB more", before >> 10, grown >> 10);
    // Ends that wait for what follows are 8192 at most, findings 10,000.
    assert!(grown < 400 << 10, "{grown} KiB more");
    assert!(watched.agent.stop().unwrap().success());
}
