//! `analyze --segments` and `--all`: one TCP segment or connection a line.

use super::human;
use super::look::{Look, Tone};
use crate::capture::replay::{ConnectionLine, SegmentLine};
use monitor_common::segment::flags;

const FLAGS: [(u16, &str); 8] = [
    (flags::SYN, "SYN"),
    (flags::FIN, "FIN"),
    (flags::RST, "RST"),
    (flags::PSH, "PSH"),
    (flags::ACK, "ACK"),
    (flags::URG, "URG"),
    (flags::ECE, "ECE"),
    (flags::CWR, "CWR"),
];

pub fn segment(s: &SegmentLine, look: &Look) -> String {
    let names: Vec<_> = FLAGS.iter().filter(|(bit, _)| s.flags & bit != 0).map(|(_, name)| *name).collect();
    let mut out = format!(
        "{:>6}  {}  {} -> {}  {}  seq {} ack {} len {} win {}",
        s.frame,
        look.paint(Tone::Dim, &look.time(s.time_ns)),
        s.src,
        s.dst,
        if names.is_empty() { "none".to_owned() } else { names.join("|") },
        s.seq,
        s.ack,
        s.len,
        s.window,
    );
    if !s.anomalies.is_empty() {
        out.push_str(&format!("  {}", look.paint(Tone::Warn, &s.anomalies.join(", "))));
    }
    out.push('\n');
    out
}

pub fn connection(c: &ConnectionLine, look: &Look) -> String {
    let r = &c.row;
    let kind = r.kind.as_ref().map(|k| format!(" ({k})")).unwrap_or_default();
    format!(
        "{}  {} -> {}  {}, {}{kind}; {} and {} sent in {}, {}\n",
        look.paint(Tone::Dim, &look.time(c.first_ns)),
        r.client,
        r.server,
        r.phase,
        r.sync,
        human::bytes(r.client_bytes),
        human::bytes(r.server_bytes),
        human::duration(r.age_ns),
        human::counted(r.retransmissions.into(), "retransmission", "retransmissions"),
    )
}
