//! The JSON contract: one object per line, `"version": 1`. Field names are stable; new fields may be added.
//!
//! Everything that people and programs read comes from these values: `analyze`, `resets`, `explain`, the metrics.

use monitor_common::flow::{Addr, Direction, FlowKey};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// Version of every object of the contract.
pub const VERSION: u32 = 1;

/// What happened to a connection, why, and how sure we are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    #[serde(rename = "type")]
    pub kind: FindingKind,
    pub version: u32,
    /// Names the finding within one agent run or one `analyze` call; the argument of `explain`.
    pub id: u64,
    /// Time of the reset, or of the end of a degraded connection: nanoseconds since the Unix epoch.
    pub time_ns: u64,
    /// The capture file, offline.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub file: Option<String>,
    /// Community ID version 1, seed 0.
    pub community_id: String,
    pub client: Endpoint,
    pub server: Endpoint,
    /// Absent in `degraded`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reset: Option<Reset>,
    /// How the reset came to exist: DIAGNOSIS 3.1, or `timeout_no_rst`.
    pub mechanism: String,
    pub cause: String,
    pub variant: Option<String>,
    pub culprit: String,
    /// 0-99, never above `confidence` where the observer cannot tell who.
    pub culprit_confidence: u8,
    /// 0-99.
    pub confidence: u8,
    /// `certain`, `high`, `medium`, `low`.
    pub band: String,
    /// Phase of the connection before its end.
    pub phase: String,
    pub desync: Option<Desync>,
    pub anomalies: Vec<AnomalyCount>,
    pub visibility: Visibility,
    pub also_considered: Vec<Considered>,
    /// Facts that speak against the cause, in words; each costs 30 of the confidence.
    #[serde(default)]
    pub contradictions: Vec<String>,
    pub kernel: Option<Kernel>,
    /// What a kernel said, or what the kernel of the host concerned would have told.
    #[serde(default)]
    pub kernel_evidence: String,
    /// One sentence with the numbers filled in.
    pub summary: String,
    /// What to check next.
    pub advice: String,
    /// The chain from the first divergence to the end, oldest first, at most 12 lines.
    pub evidence: Vec<EvidenceLine>,
    pub volume: Volume,
    /// Further resets of the same connection within two seconds: the same one repeated, or answers to it.
    pub echoes: u32,
    /// Others like it that are not listed one by one, in a storm.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub similar: Option<Similar>,
    /// Silence both ways before the reset, or before the segment that it answers.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub idle_ns: Option<u64>,
    /// Other findings about the same event.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub related: Vec<Related>,
}

/// Findings of the same type, cause, variant and culprit that were counted with one of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Similar {
    pub count: u64,
    pub first_ns: u64,
    pub last_ns: u64,
}

impl Similar {
    /// Both together.
    pub fn and(self, other: Similar) -> Similar {
        match (self.count, other.count) {
            (0, _) => other,
            (_, 0) => self,
            (a, b) => Similar {
                count: a + b,
                first_ns: self.first_ns.min(other.first_ns),
                last_ns: self.last_ns.max(other.last_ns),
            },
        }
    }
}

/// A connection that the same event touched, under another 4-tuple.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Related {
    pub community_id: String,
    pub client: Endpoint,
    pub server: Endpoint,
    /// Its finding, if there is one.
    pub id: Option<u64>,
    /// What they share: `nat_bypass`, `nat_rebind`.
    pub by: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    Reset,
    RstIneffective,
    Degraded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Endpoint {
    pub addr: IpAddr,
    pub port: u16,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reset {
    /// `client` or `server`: the address that the RST carries, not necessarily who made it.
    pub sender: String,
    pub seq: u32,
    pub ack: u32,
    /// As text: `RST` or `RST|ACK`.
    pub flags: String,
    /// `active` (RST+ACK at the sender's SND.NXT), `reply_to_ack` (RST alone, seq = an ACK of the other end),
    /// `reply_to_noack` (RST+ACK, seq 0), `other`.
    pub shape: String,
    /// `exact`, `in_window`, `out_of_window`, `unverified`.
    pub effect: String,
}

/// `direction` everywhere: `client_to_server` or `server_to_client`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Desync {
    pub kind: String,
    /// Direction of the data that is no longer accepted.
    pub direction: String,
    /// When the numbers first diverged.
    pub first_ns: u64,
    /// From then to the end.
    pub lead_ns: u64,
    pub expected: u32,
    pub actual: u32,
    pub distance_bytes: i64,
    /// Where the numbers went apart: `beyond_observer` (towards the receiver of the data), `before_observer` (towards
    /// its sender), `unknown`.
    #[serde(default)]
    pub location: String,
    /// Bytes of that direction acknowledged since, as far as is certain.
    #[serde(default)]
    pub delivered_bytes: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AnomalyCount {
    pub name: String,
    pub direction: String,
    pub count: u32,
    pub first_ns: u64,
    pub last_ns: u64,
    /// Weighed as hard at least once.
    pub hard: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Visibility {
    /// The handshake was not seen.
    pub mid_stream: bool,
    pub scale_known: bool,
    /// Only one end's segments were seen.
    pub one_way: bool,
    /// Packets are proven missing from the observation.
    pub capture_lossy: bool,
    /// The capture ended in damage before this connection did.
    pub truncated: bool,
    /// Reports or evidence about this connection may be missing.
    pub events_lost: bool,
    /// While this connection was watched, entries of the table were removed or reports withheld for want of room.
    #[serde(default)]
    pub under_pressure: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Considered {
    pub cause: String,
    pub confidence: u8,
    pub why_not: String,
}

/// What the local kernel said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Name of the `sk_rst_reason`, `skb_drop_reason` or errno without its prefix.
    pub reason: String,
    /// Tracepoint that said it.
    pub source: String,
    pub netns: u32,
    /// The process that acted; none for replies and timers, which act for nobody.
    pub pid: Option<u32>,
    pub command: Option<String>,
    /// Path of its cgroup (v2), or of the one that the socket was made in.
    #[serde(default)]
    pub cgroup: Option<String>,
    /// Identifier of the container, by that path.
    #[serde(default)]
    pub container: Option<String>,
    /// systemd's unit, by that path.
    #[serde(default)]
    pub unit: Option<String>,
    /// The socket's cookie, where it has one.
    #[serde(default)]
    pub cookie: Option<u64>,
    /// Segments of this connection that the kernel dropped, the first dropped first.
    #[serde(default)]
    pub drops: Vec<KernelDrop>,
}

/// Segments of one end, dropped for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelDrop {
    /// Name of the `skb_drop_reason` without its prefix.
    pub reason: String,
    /// Way of the segments.
    pub direction: String,
    pub count: u32,
    pub first_ns: u64,
    pub last_ns: u64,
    /// Sequence number of the last one.
    pub seq: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EvidenceLine {
    pub time_ns: u64,
    pub direction: String,
    /// Name of an anomaly or of a test of forged resets, or `reset`, `desync`, `progress`, `kernel`, `segment`,
    /// `same_fault`, `signature`.
    pub what: String,
    /// In words, with expected and actual numbers.
    pub text: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Payload bytes, retransmissions included.
    pub client_bytes: u64,
    pub server_bytes: u64,
    pub client_segments: u32,
    pub server_segments: u32,
    /// First to last segment seen.
    pub duration_ns: u64,
    /// One direction carried more than 256 KiB with at least 8 KiB in flight; else it was interactive.
    #[serde(default)]
    pub bulk: bool,
}

impl Endpoint {
    pub fn of(key: &FlowKey, speaker: Direction) -> Endpoint {
        Endpoint { addr: ip(key.addr[speaker.index()]), port: key.port[speaker.index()] }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        SocketAddr::new(self.addr, self.port).fmt(f)
    }
}

/// The address of a key: IPv4 where it is mapped.
pub fn ip(addr: Addr) -> IpAddr {
    let bits = ((addr[0] as u128) << 64) | addr[1] as u128;
    Ipv6Addr::from(bits).to_canonical()
}

/// `certain` from 95, `high` from 80, `medium` from 55, else `low`.
pub fn band(confidence: u8) -> &'static str {
    match confidence {
        95.. => "certain",
        80..=94 => "high",
        55..=79 => "medium",
        _ => "low",
    }
}
