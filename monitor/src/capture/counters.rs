//! Per-CPU counters added up, and the table counted.

use crate::rows::{SYNC_NAMES, sync};
use crate::snapshot::{Counters, Population};
use monitor_common::Anomaly;
use monitor_common::abi::{self, Scratch, Tally};
use monitor_common::parse::Reason;
use monitor_common::tracker::state::{Connection, Phase, kind};

/// Sums of both hooks' counters over CPUs.
pub fn sum(ingress: &[Scratch], egress: &[Scratch]) -> Counters {
    let total = |of: &dyn Fn(&abi::Counters) -> u64, hook: &[Scratch]| -> u64 {
        hook.iter().map(|s| of(&s.counters)).fold(0, u64::wrapping_add)
    };
    let both = |of: &dyn Fn(&abi::Counters) -> u64| total(of, ingress).wrapping_add(total(of, egress));
    Counters {
        received_packets: total(&|c| c.packets, ingress),
        transmitted_packets: total(&|c| c.packets, egress),
        received_segments: total(&|c| c.segments, ingress),
        transmitted_segments: total(&|c| c.segments, egress),
        received_bytes: total(&|c| c.payload_bytes, ingress),
        transmitted_bytes: total(&|c| c.payload_bytes, egress),
        duplicate_packets: both(&|c| c.duplicates),
        untranslated_packets: both(&|c| c.untranslated),
        connections_opened: both(&|c| c.connections_opened),
        connections_established: both(&|c| c.connections_established),
        connections_closed: both(&|c| c.connections_closed),
        resets_effective: both(&|c| c.resets_effective),
        resets_ineffective: both(&|c| c.resets_ineffective),
        desynchronisations: (1..kind::NAMES.len())
            .map(|k| (kind::NAMES[k].to_string(), both(&|c| c.desynchronised[k])))
            .collect(),
        unparsed: Reason::ALL.iter().map(|r| (r.name().to_string(), both(&|c| c.unparsed[*r as usize]))).collect(),
        anomalies: Anomaly::ALL.iter().map(|a| (a.name().to_string(), both(&|c| c.anomalies[*a as usize]))).collect(),
        events_lost: both(&|c| c.events_lost),
        events_sent: both(&|c| c.events_sent),
        events_withheld: both(&|c| c.events_withheld),
        table_full: both(&|c| c.table_full),
        table_busy: both(&|c| c.table_busy),
        evictions: vec![
            ("done".into(), both(&|c| c.evicted_done)),
            ("half_open".into(), both(&|c| c.evicted_half_open)),
        ],
        evidence_full: both(&|c| c.evidence_full),
        kernel_drops: 0,
        kernel_drops_lost: 0,
        kernel_elsewhere: 0,
        programs: Vec::new(),
    }
}

/// Adds what the tracepoints counted, one tally per CPU.
pub fn add_tallies(c: &mut Counters, tallies: impl Iterator<Item = Tally>) {
    for t in tallies {
        c.events_sent += t.facts_sent;
        c.events_lost += t.facts_lost;
        c.kernel_drops += t.drops;
        c.kernel_drops_lost += t.drops_lost;
        c.kernel_elsewhere += t.elsewhere;
    }
}

/// How connections are spread over phases, sync states and kinds.
pub fn population(connections: impl Iterator<Item = Connection>) -> Population {
    let mut phases = [0u64; Phase::ALL.len()];
    let mut syncs = [0u64; SYNC_NAMES.len()];
    let mut kinds = [0u64; kind::NAMES.len()];
    let mut entries = 0;
    for c in connections {
        entries += 1;
        phases[c.phase() as usize] += 1;
        let (state, kind) = sync(&c);
        if let Some(n) = syncs.get_mut(state as usize) {
            *n += 1;
        }
        if let Some(k) = kind.and_then(|name| kind::NAMES.iter().position(|n| *n == name)) {
            // A connection that was reset is over, not desynchronised now.
            if c.phase() != Phase::Reset {
                kinds[k] += 1;
            }
        }
    }
    Population {
        by_phase: Phase::ALL.iter().map(|p| (p.name().to_string(), phases[*p as usize])).collect(),
        by_sync: SYNC_NAMES.iter().zip(syncs).map(|(n, v)| (n.to_string(), v)).collect(),
        desynced_by_kind: (1..kind::NAMES.len()).map(|k| (kind::NAMES[k].to_string(), kinds[k])).collect(),
        entries,
    }
}
