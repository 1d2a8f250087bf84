//! Findings that are alike, counted: what happens again and again, where, and since when (`--group`).

use crate::finding::{Finding, FindingKind, VERSION};
use crate::surroundings::flows;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// Silence that is worth a group of its own, as for `idle_gap`.
const IDLE_NS: u64 = 50_000_000_000;
/// Clients told apart in one group; more are counted as that many.
const CLIENTS: usize = 4096;

/// One line of `--group`: `"type":"group"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Group {
    #[serde(rename = "type")]
    pub kind: GroupKind,
    pub version: u32,
    /// Findings, those that a storm's example stands for included.
    pub count: u64,
    /// Different client addresses among them, at most 4096.
    pub clients: u64,
    /// Type of the findings.
    pub finding: FindingKind,
    pub cause: String,
    pub variant: Option<String>,
    pub culprit: String,
    /// /24 of the server, or /64 of IPv6.
    pub server_network: String,
    pub server_port: u16,
    /// How far the ends' numbers lay apart, where that is what they share.
    pub distance_bytes: Option<i64>,
    /// How long nothing had moved before, where that was 50 s or more: a usual limit of devices within 5 %, else a step
    /// of 10 %.
    pub idle_seconds: Option<u64>,
    /// Highest confidence among them.
    pub confidence: u8,
    pub first_ns: u64,
    pub last_ns: u64,
    /// The surest of them, the newest of those.
    pub example_id: u64,
    /// Its capture file, offline.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GroupKind {
    #[default]
    Group,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    finding: &'static str,
    cause: String,
    variant: Option<String>,
    culprit: String,
    network: String,
    port: u16,
    distance: Option<i64>,
    idle: Option<u64>,
}

/// Collects findings.
#[derive(Default)]
pub struct Groups {
    groups: BTreeMap<Key, (Group, BTreeSet<IpAddr>)>,
}

impl Groups {
    /// A finding with the id of one before it (of the same file) is the same one again and must not be added twice; the
    /// caller's lists hold each once.
    pub fn add(&mut self, f: &Finding) {
        let key = Key {
            finding: name(f.kind),
            cause: f.cause.clone(),
            variant: f.variant.clone(),
            culprit: f.culprit.clone(),
            network: network(f.server.addr),
            port: f.server.port,
            distance: f.desync.as_ref().map(|d| d.distance_bytes).filter(|d| *d != 0),
            idle: f.idle_ns.filter(|ns| *ns >= IDLE_NS).map(flows::age),
        };
        let (group, clients) = self.groups.entry(key.clone()).or_insert_with(|| (empty(key, f), BTreeSet::new()));
        group.count += 1 + f.similar.map_or(0, |s| s.count);
        if clients.len() < CLIENTS {
            clients.insert(f.client.addr);
        }
        group.clients = clients.len() as u64;
        group.first_ns = group.first_ns.min(f.time_ns);
        group.last_ns = group.last_ns.max(f.similar.map_or(f.time_ns, |s| s.last_ns.max(f.time_ns)));
        if f.confidence >= group.confidence {
            group.confidence = f.confidence;
            group.example_id = f.id;
            group.file.clone_from(&f.file);
        }
    }

    /// The most frequent first, of these the oldest.
    pub fn finish(self) -> Vec<Group> {
        let mut all: Vec<Group> = self.groups.into_values().map(|(group, _)| group).collect();
        all.sort_by_key(|g| (std::cmp::Reverse(g.count), g.first_ns));
        all
    }
}

fn empty(key: Key, f: &Finding) -> Group {
    Group {
        kind: GroupKind::Group,
        version: VERSION,
        count: 0,
        clients: 0,
        finding: f.kind,
        cause: key.cause,
        variant: key.variant,
        culprit: key.culprit,
        server_network: key.network,
        server_port: key.port,
        distance_bytes: key.distance,
        idle_seconds: key.idle,
        confidence: 0,
        first_ns: f.time_ns,
        last_ns: f.time_ns,
        example_id: f.id,
        file: None,
    }
}

fn name(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Reset => "reset",
        FindingKind::Degraded => "degraded",
        FindingKind::RstIneffective => "rst_ineffective",
    }
}

pub fn network(addr: IpAddr) -> String {
    let bits = if addr.is_ipv4() { 24 } else { 64 };
    format!("{}/{bits}", flows::prefix(addr))
}
