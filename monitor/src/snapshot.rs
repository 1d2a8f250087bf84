//! What the live capture knows at one moment, as plain values for the CLI and the metrics.

use crate::api::query::ConnectionQuery;
use crate::finding::Endpoint;
use serde::{Deserialize, Serialize};

/// The running capture, as seen by those who only read it.
pub trait Source: Send + Sync {
    /// Connections in the table now that match, sorted; a walk over the whole table.
    fn connections(&self, query: &ConnectionQuery) -> Listing;
    /// Exact counters of the kernel programs, summed over CPUs.
    fn counters(&self) -> Counters;
    fn status(&self) -> Status;
    /// How connections are spread over phases and sync states; a walk over the whole table.
    fn population(&self) -> Population;
}

/// Rows, made one by one as they are taken: there may be millions.
pub struct Listing {
    pub rows: Box<dyn Iterator<Item = ConnectionRow> + Send>,
    /// How many match, listed or not.
    pub matched: usize,
    pub total: usize,
}

/// One connection of `conns`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConnectionRow {
    pub community_id: String,
    pub client: Endpoint,
    pub server: Endpoint,
    /// `syn_sent`, `syn_received`, `established`, `fin_wait`, `closing`, `time_wait`, `reset`.
    pub phase: String,
    /// `in_sync`, `suspect`, `desynced`, `recovered`: the worse direction.
    pub sync: String,
    /// Kind of desynchronisation, when there is one.
    pub kind: Option<String>,
    pub age_ns: u64,
    pub idle_ns: u64,
    pub client_bytes: u64,
    pub server_bytes: u64,
    pub client_segments: u32,
    pub server_segments: u32,
    pub retransmissions: u32,
    pub mid_stream: bool,
    /// Lives of this 4-tuple before this one.
    pub incarnation: u16,
}

/// Counters since load. Names map one to one to metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    pub received_packets: u64,
    pub transmitted_packets: u64,
    pub received_segments: u64,
    pub transmitted_segments: u64,
    pub received_bytes: u64,
    pub transmitted_bytes: u64,
    /// Egress copies of forwarded packets, tracked at ingress already.
    pub duplicate_packets: u64,
    pub untranslated_packets: u64,
    pub connections_opened: u64,
    pub connections_established: u64,
    pub connections_closed: u64,
    pub resets_effective: u64,
    pub resets_ineffective: u64,
    /// (kind, count)
    pub desynchronisations: Vec<(String, u64)>,
    /// (reason, count), reasons of `monitor_common::parse::Reason`.
    pub unparsed: Vec<(String, u64)>,
    /// (name, count)
    pub anomalies: Vec<(String, u64)>,
    pub events_lost: u64,
    pub events_sent: u64,
    /// Reports about floods that were not made while the ring buffer was half full.
    pub events_withheld: u64,
    pub table_full: u64,
    pub table_busy: u64,
    /// Evictions by reason: `done`, `half_open`, `idle`.
    pub evictions: Vec<(String, u64)>,
    pub evidence_full: u64,
    /// Segments of tracked connections that the kernel dropped, for a reason that bears on a verdict.
    pub kernel_drops: u64,
    /// ... for whose reasons there was no room.
    pub kernel_drops_lost: u64,
    /// What tracepoints said of the same addresses and ports in another network namespace.
    pub kernel_elsewhere: u64,
    /// (program, seconds run, runs); empty when the kernel's BPF statistics are off.
    pub programs: Vec<(String, f64, u64)>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Population {
    /// (phase, connections) for every phase.
    pub by_phase: Vec<(String, u64)>,
    /// (sync state, connections) for every state.
    pub by_sync: Vec<(String, u64)>,
    /// (kind, connections desynchronised now) for every kind.
    pub desynced_by_kind: Vec<(String, u64)>,
    pub entries: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: String,
    pub kernel: String,
    pub started_unix_ns: u64,
    pub interfaces: Vec<Attached>,
    pub table_capacity: u64,
    pub table_bytes: u64,
    /// Optional tracepoints: (name, `attached` or why not).
    pub tracepoints: Vec<(String, String)>,
    /// What this kernel or these privileges lack, and what that costs.
    pub notes: Vec<String>,
    /// Hash of the loaded eBPF object (first 12 hex digits of SHA-256).
    pub object: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attached {
    pub name: String,
    pub ifindex: u32,
    /// `xdp_native`, `xdp_generic`, `tcx`, `clsact` or `none`.
    pub ingress: String,
    /// `tcx`, `clsact` or `none`.
    pub egress: String,
    /// Why this choice, where it is not the first one.
    pub note: Option<String>,
}
