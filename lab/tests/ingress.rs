//! The same packets seen at two ingress hooks of one interface, by two agents at once: native XDP beside TC, and generic
//! XDP beside TC. One interface takes one kind of XDP, so the three meet in pairs. Needs root.

mod common;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use common::traffic::{PATIENCE, close, connected_to, neighbours, pinned, receive, send, traffic};
use common::{agent, permitted};
use serde_json::Value;
use whyrst_lab::agent::{Agent, Setup};
use whyrst_lab::netns::Namespace;
use whyrst_lab::story::{self, Kind, Narrator, Options};
use whyrst_lab::verdict::Expected;
use whyrst_lab::wait;

fn started(namespace: &Namespace, interfaces: &[&str], way: &str) -> Agent {
    let arguments = ["--ingress", way, "--listen", "off"].map(str::to_owned).to_vec();
    let mut agent = Agent::spawn(agent(), namespace, interfaces, &Setup { arguments, quiet: true }).unwrap();
    agent.wait_ready().unwrap();
    agent
}

/// What an agent tracks, by the ports, without ages, which depend on when one asks.
fn connections(agent: &Agent) -> BTreeMap<String, Value> {
    let output = agent.run_cli(&["conns", "--limit", "0", "--output", "json"]).unwrap();
    let rows = output.stdout.split(|b| *b == b'\n').filter(|line| !line.is_empty());
    rows.map(|line| {
        let mut row: Value = serde_json::from_slice(line).unwrap();
        for age in ["age_ns", "idle_ns"] {
            row.as_object_mut().unwrap().remove(age);
        }
        (format!("{} {}", row["client"], row["server"]), row)
    })
    .collect()
}

/// Counters of what was on the wire.
fn counted(agent: &Agent) -> [u64; 4] {
    let status = agent.status().unwrap();
    ["received_segments", "received_bytes", "transmitted_segments", "transmitted_bytes"].map(|f| traffic(&status, f))
}

/// A story of which both agents must tell the same.
fn told_alike(kind: Kind, options: &Options, ways: [&str; 2]) {
    let story = story::prepare(kind, options).unwrap();
    let points = story.agent_points();
    let interfaces: Vec<_> = points.iter().map(|point| point.interface()).collect();
    let host = story.topology().namespace(points[0]);
    let agents = ways.map(|way| started(host, &interfaces, way));
    let outcome = story.tell(&mut Narrator::silent()).unwrap();
    let expected = Expected::of(&outcome);
    let [first, second] = agents.each_ref().map(|agent| {
        let findings = agent.wait_for_resets(expected.resets).unwrap();
        let verdict = expected.find(&findings).unwrap().clone();
        assert_eq!(expected.differences(&verdict), [], "{ways:?}: {verdict:#?}");
        (findings.len(), verdict)
    });
    assert_eq!(first.0, second.0, "{kind:?}, {ways:?}: as many findings");
    assert_eq!(first.1.disagreements(&second.1), [], "{kind:?}, {ways:?}");
    assert_eq!(first.1.confidence, second.1.confidence, "{kind:?}, {ways:?}");
    let [first, second] = agents.each_ref().map(connections);
    assert!(!first.is_empty());
    assert_eq!(first, second, "{kind:?}, {ways:?}");
    let [first, second] = agents.each_ref().map(counted);
    assert_eq!(first, second, "{kind:?}, {ways:?}");
    for agent in agents {
        assert!(agent.stop().unwrap().success());
    }
}

/// Segments as on a wire, one packet each: every field that is told is the same.
#[test]
fn verdicts_and_state_are_the_same_at_every_hook() {
    if !permitted() {
        return;
    }
    told_alike(Kind::Sequence, &Options::default(), ["xdp", "tc"]);
    // A router with address translation: forwarded packets, seen at two interfaces.
    told_alike(Kind::Nat, &Options::default(), ["xdp", "tc"]);
    for ways in [["xdp", "tc"], ["xdp-generic", "tc"]] {
        told_alike(Kind::Unread, &Options { ipv6: true, vlan: Some(100), ..Options::default() }, ways);
    }
}

/// With offloads TC gets many segments as one packet. What XDP sees one by one in front of GRO adds up to the same.
#[test]
fn super_packets_add_up_to_their_segments() {
    if !permitted() {
        return;
    }
    const BYTES: usize = 20_000_000;
    for ways in [["xdp", "tc"], ["xdp-generic", "tc"]] {
        let (client_host, server_host) = neighbours();
        let agents = ways.map(|way| started(&server_host, &["s0"], way));
        let address = SocketAddr::from(([10, 71, 9, 2], 7002));
        // One CPU, so that the entry has one writer and every count is exact.
        pinned(0, || {
            let (client, server) = connected_to(&client_host, &server_host, address);
            for (from, to) in [(&client, &server), (&server, &client)] {
                thread::scope(|scope| {
                    scope.spawn(|| send(from, BYTES));
                    receive(to, BYTES);
                });
            }
            close(client, server);
        });
        let [mut xdp, tc] = agents.each_ref().map(|agent| {
            wait::until("the last segment to be counted", PATIENCE, || {
                let row = connections(agent).into_values().next();
                Ok(row.filter(|row| row["phase"] == "time_wait"))
            })
            .unwrap()
        });
        let [xdp_counts, tc_counts] = agents.each_ref().map(counted);
        println!("{ways:?}: {xdp_counts:?} {tc_counts:?}; {xdp} {tc}");
        if ways[0] == "xdp" {
            // `gso_segs` of what GRO made is the number of frames that came in.
            assert_eq!(xdp_counts, tc_counts);
            for fewer in ["client_segments", "retransmissions"] {
                assert!(tc[fewer].as_u64() <= xdp[fewer].as_u64(), "{xdp} {tc}");
                xdp[fewer] = tc[fewer].clone();
            }
        } else {
            // Generic XDP gets the same super-packets, but not told how many segments they are.
            assert_eq!(xdp_counts[1..], tc_counts[1..]);
            assert!(tc_counts[0] > xdp_counts[0], "{xdp_counts:?} {tc_counts:?}");
        }
        assert_eq!(xdp, tc, "{ways:?}");
        assert_eq!((&tc["sync"], &tc["client_bytes"]), (&"in_sync".into(), &(BYTES as u64).into()), "{tc}");
        for agent in agents {
            assert!(agent.findings().unwrap().is_empty());
            assert!(agent.stop().unwrap().success());
        }
    }
}
