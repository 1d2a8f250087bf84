//! The Prometheus page: one table of families, filled anew from a [`View`] at every scrape.
//!
//! Label values come from closed sets and are present from the start with 0, so that rates work; combinations of
//! cause, culprit and phase appear as they occur. No label holds an address, a port or a process.

use super::view::{Snapshot, View, ViewError};
use crate::store::{LEAD_BUCKETS_SECONDS, LeadTimes, Totals};
use monitor_common::Anomaly;
use monitor_common::parse::Reason;
use monitor_common::tracker::state::{Phase, kind};
use prometheus::core::{Collector, Desc};
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::{self, MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};
use std::collections::HashMap;
use std::time::Instant;

/// Value of a bounded label for a name outside of its set: a mistake of ours that must not hide counts.
const OTHER: &str = "other";

/// One family of the page.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    pub kind: MetricType,
    pub labels: &'static [&'static str],
    pub help: &'static str,
}

macro_rules! families {
    ($($id:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(const $id: Family = Family {
            name: $name, kind: MetricType::$kind, labels: &[$($label),*], help: $help,
        };)*
        /// Every family but those of the process itself.
        pub const FAMILIES: &[Family] = &[$($id,)*];
    };
}

families! {
    RECEIVED_PACKETS: COUNTER "whyrst_received_packets_total" []
        "Packets seen at the ingress of monitored interfaces.";
    TRANSMITTED_PACKETS: COUNTER "whyrst_transmitted_packets_total" []
        "Packets seen at the egress of monitored interfaces.";
    RECEIVED_SEGMENTS: COUNTER "whyrst_received_segments_total" []
        "TCP segments tracked at ingress.";
    TRANSMITTED_SEGMENTS: COUNTER "whyrst_transmitted_segments_total" []
        "TCP segments tracked at egress; a segmentation-offload packet counts once.";
    RECEIVED_BYTES: COUNTER "whyrst_received_bytes_total" []
        "TCP payload bytes tracked at ingress, retransmissions included.";
    TRANSMITTED_BYTES: COUNTER "whyrst_transmitted_bytes_total" []
        "TCP payload bytes tracked at egress, retransmissions included.";
    DUPLICATE_PACKETS: COUNTER "whyrst_duplicate_packets_total" []
        "Forwarded packets seen again at egress after they were tracked at ingress.";
    UNTRANSLATED_PACKETS: COUNTER "whyrst_untranslated_packets_total" []
        "Packets that bypassed this host's address translation.";
    CONNECTIONS: GAUGE "whyrst_connections" ["state"]
        "Connections in the table now, by state.";
    CONNECTIONS_OPENED: COUNTER "whyrst_connections_opened_total" []
        "Connections taken into the table, mid-stream pickups included.";
    CONNECTIONS_ESTABLISHED: COUNTER "whyrst_connections_established_total" []
        "Handshakes seen to their end.";
    CONNECTIONS_CLOSED: COUNTER "whyrst_connections_closed_total" []
        "Connections closed by two acknowledged FINs.";
    ANOMALIES: COUNTER "whyrst_anomalies_total" ["anomaly"]
        "Segments with an anomaly, by its name.";
    DESYNCHRONISED_CONNECTIONS: GAUGE "whyrst_desynchronised_connections" ["kind"]
        "Connections that are desynchronised now, by kind.";
    DESYNCHRONISATIONS: COUNTER "whyrst_desynchronisations_total" ["kind"]
        "Directions of connections that became desynchronised, by kind.";
    RESETS: COUNTER "whyrst_resets_total" ["cause", "culprit", "phase"]
        "Effective resets with a verdict, counted once by their first verdict.";
    RESETS_OBSERVED: COUNTER "whyrst_resets_observed_total" ["effect"]
        "RST segments counted by the kernel programs, whether the receiver had to accept them or not; exact even when events are lost.";
    DEGRADED: COUNTER "whyrst_degraded_connections_total" ["cause"]
        "Connections that suffered from a fault, or that an end gave up, without an effective reset.";
    FINDINGS_FOLDED: COUNTER "whyrst_findings_folded_total" []
        "Findings of storms that are not listed one by one but counted with one like them; they count in all other totals.";
    VERDICTS_REVISED: COUNTER "whyrst_verdicts_revised_total" []
        "Findings whose cause, culprit or phase changed after they were counted.";
    LEAD: HISTOGRAM "whyrst_desync_to_reset_seconds" []
        "Time from the first divergence of the numbers to the reset.";
    PARSE_FAILURES: COUNTER "whyrst_parse_failures_total" ["reason"]
        "Packets that should have been readable and were not.";
    IGNORED_PACKETS: COUNTER "whyrst_ignored_packets_total" ["reason"]
        "Packets that are none of ours: other protocols, and fragments after the first.";
    EVENTS: COUNTER "whyrst_events_total" []
        "Reports of the kernel programs to the agent.";
    EVENTS_LOST: COUNTER "whyrst_events_lost_total" ["stage"]
        "Reports lost: no room in the ring buffer, withheld because they were of a flood and it was half full, or not usable by the agent.";
    TABLE_ENTRIES: GAUGE "whyrst_table_entries" []
        "Entries of the connection table in use.";
    TABLE_CAPACITY: GAUGE "whyrst_table_capacity" []
        "Entries that the connection table has.";
    TABLE_REJECTED: COUNTER "whyrst_table_rejected_segments_total" ["reason"]
        "Segments not tracked: their part of the table was full of live connections, or busy on another CPU.";
    EVICTIONS: COUNTER "whyrst_evictions_total" ["reason"]
        "Entries removed from the connection table, by what they were.";
    EVIDENCE_LOST: COUNTER "whyrst_evidence_lost_total" []
        "Anomalies for which the evidence table had no room.";
    KERNEL_DROPS: COUNTER "whyrst_kernel_drops_total" []
        "Segments of tracked connections that this host's kernel dropped, for reasons that bear on a verdict.";
    KERNEL_DROPS_LOST: COUNTER "whyrst_kernel_drops_lost_total" []
        "Such segments whose reason found no room.";
    PROGRAM_RUN_SECONDS: COUNTER "whyrst_program_run_seconds_total" ["program"]
        "Time that a kernel program ran; only while the kernel's BPF statistics are on.";
    PROGRAM_RUNS: COUNTER "whyrst_program_runs_total" ["program"]
        "Runs of a kernel program; only while the kernel's BPF statistics are on.";
    INTERFACE_ATTACHED: GAUGE "whyrst_interface_attached" ["interface", "ingress", "egress"]
        "1 for each interface that the programs are attached to, with how.";
    SCRAPE_DURATION: GAUGE "whyrst_scrape_duration_seconds" []
        "Time that reading the tables for this page took.";
    BUILD_INFO: GAUGE "whyrst_build_info" ["version", "object", "kernel"]
        "1, with the version of the agent, the hash of its eBPF object and the kernel it runs on.";
}

/// The page as text.
pub async fn render(view: &View) -> Result<String, ViewError> {
    let start = Instant::now();
    let snapshot = view.snapshot().await?;
    let page = Page {
        snapshot,
        totals: view.store().totals(),
        lost_in_agent: view.store().lost_in_agent(),
        read_seconds: start.elapsed().as_secs_f64(),
        descriptions: FAMILIES.iter().map(describe).collect(),
    };
    let registry = Registry::new();
    registry.register(Box::new(page)).expect("a fresh registry has no duplicates");
    registry.register(Box::new(ProcessCollector::for_self())).expect("process_ names are not ours");
    let mut text = String::new();
    TextEncoder::new().encode_utf8(&registry.gather(), &mut text).map_err(|_| ViewError::Failed)?;
    Ok(text)
}

fn describe(f: &Family) -> Desc {
    let labels = f.labels.iter().map(|l| (*l).to_owned()).collect();
    Desc::new(f.name.to_owned(), f.help.to_owned(), labels, HashMap::new()).expect("the table holds valid names")
}

/// One scrape.
struct Page {
    snapshot: Snapshot,
    totals: Totals,
    lost_in_agent: u64,
    read_seconds: f64,
    descriptions: Vec<Desc>,
}

impl Collector for Page {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut out = Vec::new();
        self.traffic(&mut out);
        self.connections(&mut out);
        self.verdicts(&mut out);
        self.limits(&mut out);
        self.about(&mut out);
        out
    }
}

impl Page {
    fn traffic(&self, out: &mut Vec<MetricFamily>) {
        let c = &self.snapshot.counters;
        for (f, value) in [
            (RECEIVED_PACKETS, c.received_packets),
            (TRANSMITTED_PACKETS, c.transmitted_packets),
            (RECEIVED_SEGMENTS, c.received_segments),
            (TRANSMITTED_SEGMENTS, c.transmitted_segments),
            (RECEIVED_BYTES, c.received_bytes),
            (TRANSMITTED_BYTES, c.transmitted_bytes),
            (DUPLICATE_PACKETS, c.duplicate_packets),
            (UNTRANSLATED_PACKETS, c.untranslated_packets),
        ] {
            out.push(single(f, value as f64));
        }
        let reasons = |failure| Reason::ALL.iter().filter(move |r| r.is_failure() == failure).map(|r| r.name());
        // An unknown reason is a failure to be looked at.
        let (failed, ignored): (Vec<_>, Vec<_>) =
            c.unparsed.iter().cloned().partition(|(name, _)| !reasons(false).any(|r| r == name));
        out.push(by_name(PARSE_FAILURES, reasons(true), &failed));
        out.push(by_name(IGNORED_PACKETS, reasons(false), &ignored));
    }

    fn connections(&self, out: &mut Vec<MetricFamily>) {
        let (c, p) = (&self.snapshot.counters, &self.snapshot.population);
        let kinds = || kind::NAMES.into_iter().skip(1);
        out.push(by_name(CONNECTIONS, Phase::ALL.iter().map(|p| p.name()), &p.by_phase));
        out.push(single(CONNECTIONS_OPENED, c.connections_opened as f64));
        out.push(single(CONNECTIONS_ESTABLISHED, c.connections_established as f64));
        out.push(single(CONNECTIONS_CLOSED, c.connections_closed as f64));
        out.push(by_name(ANOMALIES, Anomaly::ALL.iter().map(|a| a.name()), &c.anomalies));
        out.push(by_name(DESYNCHRONISED_CONNECTIONS, kinds(), &p.desynced_by_kind));
        out.push(by_name(DESYNCHRONISATIONS, kinds(), &c.desynchronisations));
    }

    fn verdicts(&self, out: &mut Vec<MetricFamily>) {
        let (c, t) = (&self.snapshot.counters, &self.totals);
        let mut resets = family(RESETS);
        for (key, count) in &t.resets {
            push(&mut resets, RESETS, &[&key.cause, &key.culprit, &key.phase], *count as f64);
        }
        out.push(resets);
        let mut observed = family(RESETS_OBSERVED);
        push(&mut observed, RESETS_OBSERVED, &["effective"], c.resets_effective as f64);
        push(&mut observed, RESETS_OBSERVED, &["ineffective"], c.resets_ineffective as f64);
        out.push(observed);
        let mut degraded = family(DEGRADED);
        for (cause, count) in &t.degraded {
            push(&mut degraded, DEGRADED, &[cause], *count as f64);
        }
        out.push(degraded);
        out.push(single(FINDINGS_FOLDED, t.folded as f64));
        out.push(single(VERDICTS_REVISED, t.revised as f64));
        out.push(histogram(LEAD, &t.lead));
    }

    fn limits(&self, out: &mut Vec<MetricFamily>) {
        let Snapshot { counters: c, population: p, status: s } = &self.snapshot;
        out.push(single(EVENTS, c.events_sent as f64));
        let mut lost = family(EVENTS_LOST);
        push(&mut lost, EVENTS_LOST, &["ring_buffer"], c.events_lost as f64);
        push(&mut lost, EVENTS_LOST, &["withheld"], c.events_withheld as f64);
        push(&mut lost, EVENTS_LOST, &["agent"], self.lost_in_agent as f64);
        out.push(lost);
        out.push(single(TABLE_ENTRIES, p.entries as f64));
        out.push(single(TABLE_CAPACITY, s.table_capacity as f64));
        let mut rejected = family(TABLE_REJECTED);
        push(&mut rejected, TABLE_REJECTED, &["full"], c.table_full as f64);
        push(&mut rejected, TABLE_REJECTED, &["busy"], c.table_busy as f64);
        out.push(rejected);
        out.push(by_name(EVICTIONS, ["done", "half_open", "idle"].into_iter(), &c.evictions));
        out.push(single(EVIDENCE_LOST, c.evidence_full as f64));
        out.push(single(KERNEL_DROPS, c.kernel_drops as f64));
        out.push(single(KERNEL_DROPS_LOST, c.kernel_drops_lost as f64));
    }

    fn about(&self, out: &mut Vec<MetricFamily>) {
        let s = &self.snapshot.status;
        let (mut seconds, mut runs) = (family(PROGRAM_RUN_SECONDS), family(PROGRAM_RUNS));
        for (program, run_seconds, run_count) in &self.snapshot.counters.programs {
            push(&mut seconds, PROGRAM_RUN_SECONDS, &[program], *run_seconds);
            push(&mut runs, PROGRAM_RUNS, &[program], *run_count as f64);
        }
        out.extend([seconds, runs]);
        let mut attached = family(INTERFACE_ATTACHED);
        for i in &s.interfaces {
            push(&mut attached, INTERFACE_ATTACHED, &[&i.name, &i.ingress, &i.egress], 1.0);
        }
        out.push(attached);
        out.push(single(SCRAPE_DURATION, self.read_seconds));
        let mut build = family(BUILD_INFO);
        push(&mut build, BUILD_INFO, &[&s.version, &s.object, &s.kernel], 1.0);
        out.push(build);
    }
}

fn family(f: Family) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(f.name.to_owned());
    family.set_help(f.help.to_owned());
    family.set_field_type(f.kind);
    family
}

fn single(f: Family, value: f64) -> MetricFamily {
    let mut out = family(f);
    push(&mut out, f, &[], value);
    out
}

/// One series per name of the closed set, 0 where `counts` does not mention it.
fn by_name(f: Family, names: impl Iterator<Item = &'static str>, counts: &[(String, u64)]) -> MetricFamily {
    let mut out = family(f);
    let mut rest: u64 = counts.iter().map(|(_, n)| n).sum();
    for name in names {
        let count: u64 = counts.iter().filter(|(n, _)| n == name).map(|(_, n)| n).sum();
        rest -= count;
        push(&mut out, f, &[name], count as f64);
    }
    if rest > 0 {
        push(&mut out, f, &[OTHER], rest as f64);
    }
    out
}

fn push(out: &mut MetricFamily, f: Family, values: &[&str], value: f64) {
    let mut metric = proto::Metric::default();
    let labels = f.labels.iter().zip(values).map(|(name, value)| {
        let mut pair = proto::LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    });
    metric.set_label(labels.collect());
    if f.kind == MetricType::COUNTER {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    out.mut_metric().push(metric);
}

fn histogram(f: Family, lead: &LeadTimes) -> MetricFamily {
    let mut below = 0;
    let buckets = LEAD_BUCKETS_SECONDS.iter().zip(lead.counts).map(|(bound, count)| {
        below += count;
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(below);
        bucket
    });
    let mut histogram = proto::Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_sum(lead.sum_seconds);
    histogram.set_sample_count(lead.count);
    let mut metric = proto::Metric::default();
    metric.set_histogram(histogram);
    let mut out = family(f);
    out.mut_metric().push(metric);
    out
}
