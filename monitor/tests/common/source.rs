//! A capture that never changes.

use super::findings::{NOON, endpoint};
use monitor::api::query::ConnectionQuery;
use monitor::api::rows;
use monitor::snapshot::{Attached, ConnectionRow, Counters, Listing, Population, Source, Status};

pub struct Fake {
    pub rows: Vec<ConnectionRow>,
    pub counters: Counters,
    pub status: Status,
}

impl Source for Fake {
    fn connections(&self, query: &ConnectionQuery) -> Listing {
        let total = self.rows.len();
        let (rows, matched) = rows::select(self.rows.clone(), query);
        Listing { rows: Box::new(rows.into_iter()), matched, total }
    }

    fn counters(&self) -> Counters {
        self.counters.clone()
    }

    fn status(&self) -> Status {
        self.status.clone()
    }

    fn population(&self) -> Population {
        let count = |name: &str, n| (name.to_owned(), n);
        Population {
            by_phase: vec![count("established", 2), count("time_wait", 1)],
            by_sync: vec![count("in_sync", 2), count("desynced", 1)],
            desynced_by_kind: vec![count("gap", 1), count("offset", 0)],
            entries: self.rows.len() as u64,
        }
    }
}

impl Default for Fake {
    fn default() -> Fake {
        Fake { rows: rows(), counters: counters(), status: status() }
    }
}

fn rows() -> Vec<ConnectionRow> {
    let row = |client: &str, server: &str, phase: &str, bytes, age_s: u64| ConnectionRow {
        community_id: format!("1:{bytes}="),
        client: endpoint(client),
        server: endpoint(server),
        phase: phase.into(),
        sync: "in_sync".into(),
        kind: None,
        age_ns: age_s * 1_000_000_000,
        idle_ns: 4_210_000_000,
        client_bytes: bytes,
        server_bytes: 1,
        client_segments: 12,
        server_segments: 9,
        retransmissions: 0,
        mid_stream: false,
        incarnation: 0,
    };
    vec![
        row("10.0.0.1:40001", "10.0.1.1:5432", "established", 1_000, 30),
        ConnectionRow {
            sync: "desynced".into(),
            kind: Some("gap".into()),
            retransmissions: 26,
            mid_stream: true,
            incarnation: 2,
            ..row("10.9.1.2:43122", "10.9.2.2:5001", "established", 3_203_633, 20)
        },
        row("[2001:db8::7]:40000", "[2001:db8::1]:443", "time_wait", 500, 7_500),
    ]
}

fn counters() -> Counters {
    let count = |name: &str, n| (name.to_owned(), n);
    Counters {
        received_packets: 1_234_567,
        transmitted_packets: 20,
        received_segments: 1_234_000,
        transmitted_segments: 19,
        received_bytes: 8 << 30,
        transmitted_bytes: 5_000,
        duplicate_packets: 3,
        untranslated_packets: 1,
        connections_opened: 40,
        connections_established: 38,
        connections_closed: 30,
        resets_effective: 4,
        resets_ineffective: 2,
        desynchronisations: vec![count("gap", 1)],
        unparsed: vec![count("not_ip", 9), count("truncated_tcp_header", 2)],
        anomalies: vec![count("rexmit", 26), count("hole_never_retransmitted", 1)],
        events_lost: 5,
        events_sent: 77,
        events_withheld: 0,
        table_full: 0,
        table_busy: 1,
        evictions: vec![count("done", 6), count("half_open", 0), count("idle", 2)],
        evidence_full: 0,
        kernel_drops: 12,
        kernel_drops_lost: 0,
        kernel_elsewhere: 3,
        programs: vec![("ingress".into(), 1.25, 1_234_567), ("egress".into(), 0.5, 20)],
    }
}

fn status() -> Status {
    Status {
        version: "0.1.0".into(),
        kernel: "6.1.0-49-amd64".into(),
        started_unix_ns: NOON,
        interfaces: vec![
            Attached {
                name: "eth0".into(),
                ifindex: 2,
                ingress: "xdp_native".into(),
                egress: "tcx".into(),
                note: None,
            },
            Attached {
                name: "wlan0".into(),
                ifindex: 3,
                ingress: "xdp_generic".into(),
                egress: "clsact".into(),
                note: Some("the driver has no native XDP".into()),
            },
        ],
        table_capacity: 65_536,
        table_bytes: 88 << 20,
        tracepoints: vec![
            ("tcp_send_reset".into(), "attached".into()),
            ("tcp_receive_reset".into(), "not in this kernel".into()),
        ],
        notes: vec!["this kernel has no reset reasons: causes at the local host are inferred".into()],
        object: "0123456789ab".into(),
    }
}
