//! `status`: one object about the agent.

use crate::expose::view::{Snapshot, View, ViewError};
use crate::finding::VERSION;
use crate::snapshot::Attached;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusReport {
    #[serde(rename = "type")]
    pub kind: String,
    pub version: u32,
    pub agent_version: String,
    /// First digits of the eBPF object's SHA-256.
    pub object: String,
    pub kernel: String,
    pub time_ns: u64,
    pub started_ns: u64,
    pub interfaces: Vec<Attached>,
    pub tracepoints: BTreeMap<String, String>,
    pub notes: Vec<String>,
    pub table: Table,
    pub connections: Connections,
    pub traffic: Traffic,
    pub findings: Findings,
    pub kernel_words: KernelWords,
    pub lost: Lost,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub entries: u64,
    pub capacity: u64,
    pub bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Connections {
    pub by_phase: BTreeMap<String, u64>,
    pub by_sync: BTreeMap<String, u64>,
    /// Desynchronised now, by kind.
    pub desynchronised: BTreeMap<String, u64>,
    pub opened: u64,
    pub established: u64,
    pub closed: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Traffic {
    pub received_packets: u64,
    pub received_segments: u64,
    pub received_bytes: u64,
    pub transmitted_packets: u64,
    pub transmitted_segments: u64,
    pub transmitted_bytes: u64,
    /// Packets without a segment, by reason.
    pub unparsed: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Findings {
    pub held: u64,
    pub capacity: u64,
    pub resets: u64,
    pub ineffective: u64,
    pub degraded: u64,
    /// RST segments as the kernel programs counted them.
    pub resets_effective: u64,
    pub resets_ineffective: u64,
    pub followers: u64,
}

/// What the tracepoints contributed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KernelWords {
    /// Segments of tracked connections that this kernel dropped for reasons that bear on a verdict.
    pub drops: u64,
    /// Words about the same addresses and ports in another network namespace, which were not taken.
    pub elsewhere: u64,
}

/// What was missed. All 0 on a good day.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lost {
    pub events_ring_buffer: u64,
    #[serde(default)]
    pub events_withheld: u64,
    pub events_agent: u64,
    pub evidence: u64,
    pub drop_reasons: u64,
    pub table_full: u64,
    pub table_busy: u64,
    pub evictions: BTreeMap<String, u64>,
}

impl StatusReport {
    pub async fn of(view: &View, now_ns: u64) -> Result<StatusReport, ViewError> {
        let Snapshot { status: s, counters: c, population: p } = view.snapshot().await?;
        let (totals, occupancy) = (view.store().totals(), view.store().occupancy());
        Ok(StatusReport {
            kind: "status".into(),
            version: VERSION,
            agent_version: s.version,
            object: s.object,
            kernel: s.kernel,
            time_ns: now_ns,
            started_ns: s.started_unix_ns,
            interfaces: s.interfaces,
            tracepoints: s.tracepoints.into_iter().collect(),
            notes: s.notes,
            table: Table { entries: p.entries, capacity: s.table_capacity, bytes: s.table_bytes },
            connections: Connections {
                by_phase: p.by_phase.into_iter().collect(),
                by_sync: p.by_sync.into_iter().collect(),
                desynchronised: p.desynced_by_kind.into_iter().collect(),
                opened: c.connections_opened,
                established: c.connections_established,
                closed: c.connections_closed,
            },
            traffic: Traffic {
                received_packets: c.received_packets,
                received_segments: c.received_segments,
                received_bytes: c.received_bytes,
                transmitted_packets: c.transmitted_packets,
                transmitted_segments: c.transmitted_segments,
                transmitted_bytes: c.transmitted_bytes,
                unparsed: c.unparsed.into_iter().collect(),
            },
            findings: Findings {
                held: occupancy.held as u64,
                capacity: occupancy.capacity as u64,
                resets: totals.reset_count(),
                ineffective: totals.ineffective_count(),
                degraded: totals.degraded_count(),
                resets_effective: c.resets_effective,
                resets_ineffective: c.resets_ineffective,
                followers: view.store().followers() as u64,
            },
            kernel_words: KernelWords { drops: c.kernel_drops, elsewhere: c.kernel_elsewhere },
            lost: Lost {
                events_ring_buffer: c.events_lost,
                events_withheld: c.events_withheld,
                events_agent: view.store().lost_in_agent(),
                evidence: c.evidence_full,
                drop_reasons: c.kernel_drops_lost,
                table_full: c.table_full,
                table_busy: c.table_busy,
                evictions: c.evictions.into_iter().collect(),
            },
        })
    }
}
