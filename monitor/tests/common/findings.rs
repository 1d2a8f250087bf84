//! Hand-made findings, one of each type.

use monitor::finding::{
    AnomalyCount, Considered, Desync, Endpoint, EvidenceLine, Finding, FindingKind, Kernel, KernelDrop, Related, Reset,
    VERSION, Visibility, Volume,
};

const S: u64 = 1_000_000_000;
/// 2026-11-23 08:00:00 UTC.
pub const NOON: u64 = 1_795_420_800 * S;

pub fn endpoint(text: &str) -> Endpoint {
    let address: std::net::SocketAddr = text.parse().unwrap();
    Endpoint { addr: address.ip(), port: address.port() }
}

/// A stack that lost its place in its own sequence.
pub fn desynchronised(id: u64) -> Finding {
    let end = NOON + id * S;
    let first = end - 13_102_000_000;
    Finding {
        kind: FindingKind::Reset,
        version: VERSION,
        id,
        time_ns: end,
        file: None,
        community_id: format!("1:{id}KDmev6m5PMibrgLQU9qZlK+B5=").replace("0K", "/K"),
        client: endpoint("10.9.1.2:43122"),
        server: endpoint("10.9.2.2:5001"),
        reset: Some(Reset {
            sender: "client".into(),
            seq: 3_203_633,
            ack: 4_711,
            flags: "RST|ACK".into(),
            shape: "active".into(),
            effect: "exact".into(),
        }),
        mechanism: "active_abort".into(),
        cause: "endpoint_sequence_fault".into(),
        variant: Some("gap_never_sent".into()),
        culprit: "client".into(),
        culprit_confidence: 60,
        confidence: 82,
        band: "high".into(),
        phase: "established".into(),
        desync: Some(Desync {
            kind: "gap".into(),
            direction: "client_to_server".into(),
            first_ns: first,
            lead_ns: end - first,
            expected: 199_633,
            actual: 202_633,
            distance_bytes: 3000,
            location: "before_observer".into(),
            delivered_bytes: 0,
        }),
        anomalies: vec![AnomalyCount {
            name: "hole_never_retransmitted".into(),
            direction: "client_to_server".into(),
            count: 26,
            first_ns: first,
            last_ns: end - S,
            hard: true,
        }],
        visibility: Visibility { scale_known: true, ..Visibility::default() },
        also_considered: vec![Considered {
            cause: "seq_translation_fault".into(),
            confidence: 40,
            why_not: "a device that shifts numbers would have shifted the duplicate reports of retransmissions, too".into(),
        }],
        contradictions: vec!["the same end was in order on another path".into()],
        kernel: None,
        kernel_evidence: "No kernel's word was at hand.".into(),
        summary: "The client's TCP skipped 3,000 bytes that it never sent, 13.1 s before it reset the connection; the \
                  server went on acknowledging 199633."
            .into(),
        advice: "Look at the client's TCP stack, driver and offload engine; try with offloads off.".into(),
        evidence: vec![
            EvidenceLine {
                time_ns: first,
                direction: "client_to_server".into(),
                what: "seq_gap".into(),
                text: "the client goes on at 202633 where 199633 was expected: 3000 bytes are missing".into(),
            },
            EvidenceLine {
                time_ns: first + S,
                direction: "client_to_server".into(),
                what: "hole_never_retransmitted".into(),
                text: "the server has asked for 199633 in 26 duplicate acknowledgements; the client retransmitted other data and never this".into(),
            },
            EvidenceLine {
                time_ns: end,
                direction: "client_to_server".into(),
                what: "reset".into(),
                text: "RST|ACK with sequence number 3203633".into(),
            },
        ],
        volume: Volume {
            client_bytes: 3_203_633,
            server_bytes: 0,
            client_segments: 2213,
            server_segments: 1120,
            duration_ns: 14_200_000_000,
            bulk: true,
        },
        echoes: 2,
        similar: None,
        idle_ns: Some(1_180_000_000),
        related: vec![Related {
            community_id: "1:LQU9qZlK+B5F3KDmev6m5PMibrg=".into(),
            client: endpoint("10.9.1.2:43122"),
            server: endpoint("10.9.3.3:5001"),
            id: Some(id.wrapping_sub(1)),
            by: "nat_bypass".into(),
        }],
    }
}

/// An application that closed with unread data, with the local kernel's word for it.
pub fn unread(id: u64) -> Finding {
    Finding {
        client: endpoint("[2001:db8::7]:40000"),
        server: endpoint("[2001:db8::1]:443"),
        reset: Some(Reset { sender: "server".into(), seq: 1, ack: 1001, ..desynchronised(id).reset.unwrap() }),
        cause: "close_with_unread_data".into(),
        variant: None,
        culprit: "server".into(),
        culprit_confidence: 97,
        confidence: 97,
        band: "certain".into(),
        desync: None,
        anomalies: Vec::new(),
        also_considered: Vec::new(),
        kernel: Some(Kernel {
            reason: "TCP_ABORT_ON_CLOSE".into(),
            source: "tcp_send_reset".into(),
            netns: 4_026_531_840,
            pid: Some(812),
            command: Some("app\x1b[2J".into()),
            cgroup: Some("/system.slice/app.service".into()),
            container: None,
            unit: Some("app.service".into()),
            cookie: Some(77),
            drops: vec![KernelDrop {
                reason: "TCP_RFC7323_PAWS".into(),
                direction: "client_to_server".into(),
                count: 1,
                first_ns: 1,
                last_ns: 1,
                seq: 5,
            }],
        }),
        summary: "The server's application closed with 1,000 unread bytes.".into(),
        advice: "Read until the end of the stream before closing.".into(),
        evidence: Vec::new(),
        echoes: 0,
        similar: None,
        idle_ns: None,
        related: Vec::new(),
        ..desynchronised(id)
    }
}

pub fn ineffective(id: u64) -> Finding {
    Finding {
        kind: FindingKind::RstIneffective,
        reset: Some(Reset { effect: "out_of_window".into(), ..desynchronised(id).reset.unwrap() }),
        cause: "unknown_reset".into(),
        variant: None,
        culprit: "third_party".into(),
        desync: None,
        summary: "A RST 4,552 bytes below the window was ignored.".into(),
        ..desynchronised(id)
    }
}

pub fn degraded(id: u64) -> Finding {
    Finding {
        kind: FindingKind::Degraded,
        reset: None,
        mechanism: "timeout_no_rst".into(),
        cause: "sack_translation_fault".into(),
        variant: None,
        culprit: "middlebox".into(),
        summary: "Acknowledgements are translated but selective ones are not.".into(),
        ..desynchronised(id)
    }
}
