//! Capture files through the same tracker and diagnosis as live packets.

use super::host::{Engine, MOST_CONNECTIONS, Report, Slot, reused};
use super::payload;
use crate::diagnose::silent;
use crate::finding::{Endpoint, Finding, VERSION};
use crate::history::{End, History, PayloadFacts};
use crate::later::LATER_NS;
use crate::pipeline::{Pipeline, Settings};
use crate::relatives;
use capture_file::Reader;
use capture_file::link::{Located, locate};
use monitor_common::Anomaly;
use monitor_common::evidence::Evidence;
use monitor_common::flow::FlowKey;
use monitor_common::icmp::{self, Quote};
use monitor_common::parse::{self, Packet as ParsedPacket};
use monitor_common::segment::flags;
use monitor_common::tracker::notes::{HARD, Note};
use monitor_common::tracker::state::Hook;
use serde::Serialize;
use std::path::Path;

/// What `analyze` is asked for beyond findings.
#[derive(Clone, Copy, Debug)]
pub struct ReplayOptions {
    /// One `segment` object per TCP frame.
    pub segments: bool,
    /// One `connection` object per connection.
    pub connections: bool,
    /// Connections tracked at a time.
    pub most_connections: usize,
}

impl Default for ReplayOptions {
    fn default() -> ReplayOptions {
        ReplayOptions { segments: false, connections: false, most_connections: MOST_CONNECTIONS }
    }
}

/// One line of `analyze --output json`, in the order of the capture.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Output {
    Finding(Box<Finding>),
    Segment(SegmentLine),
    Connection(Box<ConnectionLine>),
}

#[derive(Clone, Debug, Serialize)]
pub struct SegmentLine {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub version: u32,
    /// Number of the packet in the file, from 1.
    pub frame: u64,
    pub time_ns: u64,
    pub src: Endpoint,
    pub dst: Endpoint,
    pub seq: u32,
    pub ack: u32,
    pub len: u32,
    /// The 12 bits as on the wire.
    pub flags: u16,
    /// As on the wire, not scaled.
    pub window: u16,
    pub anomalies: Vec<&'static str>,
    /// Those of them that were weighed as hard.
    pub hard: Vec<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
pub struct ConnectionLine {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub version: u32,
    pub first_ns: u64,
    pub last_ns: u64,
    #[serde(flatten)]
    pub row: crate::snapshot::ConnectionRow,
}

/// The last line: `"type":"summary"`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub version: u32,
    pub files: u64,
    pub packets: u64,
    pub segments: u64,
    pub connections: u64,
    /// Connections that made room for others before the capture's end, because as many as allowed were tracked. One that
    /// goes on counts as another.
    pub evicted: u64,
    /// Resets for which no connection was looked for that they may carry on, because too many were looked for before.
    pub unsearched: u64,
    /// RST segments.
    pub resets: u64,
    pub findings: u64,
    /// (reason, packets) of what gave no segment, other protocols included.
    pub unreadable: std::collections::BTreeMap<String, u64>,
    /// Files that could not be read to their end.
    pub damaged: u64,
}

/// Progress of one file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress {
    pub bytes_read: u64,
    pub total_bytes: Option<u64>,
    pub packets: u64,
}

/// Why a file could not be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    #[error("cannot read {path} to its end")]
    Capture { path: String, source: capture_file::Error },
    #[error("cannot write: {0}")]
    Output(#[from] std::io::Error),
}

/// Progress is told this often, in packets.
const PROGRESS_EVERY: u64 = 65_536;
/// Later than any real capture, and far from where adding a time-out would overflow.
const LAST_NS: u64 = u64::MAX / 4;
/// Looking for a reset's relatives is a walk over all connections. What it may visit grows with the packets read, so that
/// a capture made of such resets takes no time squared; no more is saved up than this, which takes about a second.
const VISITS_PER_PACKET: u64 = 64;
const MOST_VISITS: u64 = 1 << 24;

/// Analyses one file (`-` is standard input). Adds to `summary`; findings up to the damage come out before the
/// error does.
pub fn analyze(
    path: &Path,
    options: ReplayOptions,
    summary: &mut Summary,
    sink: &mut dyn FnMut(Output) -> std::io::Result<()>,
    progress: &mut dyn FnMut(Progress),
) -> anyhow::Result<()> {
    let name = path.display().to_string();
    summary.files += 1;
    let opened = if name == "-" { Reader::from_reader(std::io::stdin()) } else { Reader::open(path) };
    let mut reader = match opened {
        Ok(reader) => reader,
        Err(source) => {
            summary.damaged += 1;
            return Err(ReplayError::Capture { path: name, source }.into());
        }
    };
    let mut replay = Replay::new(options, &name, summary.findings + 1);
    let mut damage = None;
    loop {
        match reader.next() {
            Ok(Some(packet)) => {
                replay.on_packet(&packet, summary, sink)?;
                if summary.packets.is_multiple_of(PROGRESS_EVERY) {
                    let (bytes_read, total_bytes) = (reader.bytes_read(), reader.total_bytes());
                    progress(Progress { bytes_read, total_bytes, packets: summary.packets });
                }
            }
            Ok(None) => break,
            Err(source) => {
                damage = Some(ReplayError::Capture { path: name, source });
                break;
            }
        }
    }
    replay.finish(damage.is_some(), summary, sink)?;
    progress(Progress { bytes_read: reader.bytes_read(), total_bytes: reader.total_bytes(), packets: summary.packets });
    match damage {
        Some(e) => {
            summary.damaged += 1;
            Err(e.into())
        }
        None => Ok(()),
    }
}

/// One file's tracking.
struct Replay {
    options: ReplayOptions,
    engine: Engine,
    pipeline: Pipeline,
    /// What the search for relatives may still visit.
    visits: u64,
    packet: ParsedPacket,
    /// Time of the latest packet of any protocol: how long the capture watched.
    last_ns: u64,
    /// Findings that wait for their turn behind a segment line.
    found: Vec<Finding>,
}

impl Replay {
    fn new(options: ReplayOptions, file: &str, first_id: u64) -> Replay {
        let settings = Settings { hold_ns: LATER_NS, kernel_watched: false, report_desync_at_once: false };
        Replay {
            options,
            engine: Engine::with_room_for(options.most_connections),
            pipeline: Pipeline::new(settings, first_id, Some(file.to_string())),
            visits: MOST_VISITS,
            packet: ParsedPacket::default(),
            last_ns: 0,
            found: Vec::new(),
        }
    }

    fn on_packet(
        &mut self,
        packet: &capture_file::Packet<'_>,
        summary: &mut Summary,
        sink: &mut dyn FnMut(Output) -> std::io::Result<()>,
    ) -> Result<(), ReplayError> {
        summary.packets += 1;
        let now_ns = packet.time_ns.min(LAST_NS);
        self.last_ns = self.last_ns.max(now_ns);
        let parsed = match locate(packet.link_type, packet.data, packet.wire_len) {
            Located::Ip { offset, wire_len } => {
                parse::ip(packet.data, offset, wire_len, &mut self.packet).map(|()| offset).map_err(|r| r.name())
            }
            Located::Not(reason) => Err(reason.name()),
        };
        let offset = match parsed {
            Ok(offset) => offset,
            Err(reason) => {
                match summary.unreadable.get_mut(reason) {
                    Some(n) => *n += 1,
                    None => drop(summary.unreadable.insert(reason.to_string(), 1)),
                }
                let mut quote = Quote::default();
                if let Located::Ip { offset, .. } = locate(packet.link_type, packet.data, packet.wire_len)
                    && icmp::ip(packet.data, offset, &mut quote)
                {
                    self.engine.on_quote(&quote, now_ns);
                }
                return Ok(());
            }
        };
        summary.segments += 1;
        summary.resets += u64::from(self.packet.segment.has(flags::RST));
        self.flush(now_ns, summary, sink)?;
        let (mut facts, parsed) = (None, &self.packet);
        let tracked = self.engine.track(parsed, Hook::Ingress, now_ns, |slot| {
            payload::look(&mut slot.payload, packet.data, offset, parsed, now_ns);
            facts = slot.payload.as_ref().map(|p| p.facts());
        });
        self.visits = (self.visits + VISITS_PER_PACKET).min(MOST_VISITS);
        if let Some(former) = tracked.ended {
            let report = reused(&former, &self.packet, Hook::Ingress, now_ns);
            self.report(&report, payload::facts(&former.payload), summary);
            if self.options.connections {
                sink(Output::Connection(Box::new(connection_line(&former))))?;
            }
        }
        self.report(&tracked.report, facts.unwrap_or_default(), summary);
        if self.options.segments {
            sink(Output::Segment(self.segment_line(packet.frame, packet.time_ns)))?;
        }
        if self.engine.is_full() {
            self.make_room(summary, sink)?;
        }
        Ok(())
    }

    fn report(&mut self, report: &Report, facts: PayloadFacts, summary: &mut Summary) {
        match report {
            Report::None => {}
            Report::Ended(life) => self.pipeline.on_ended(life),
            Report::Brief(event) => {
                self.pipeline.set_payload(facts);
                self.pipeline.on_brief(event);
            }
            Report::Full(full) => {
                let (engine, visits) = (&self.engine, &mut self.visits);
                self.pipeline.set_payload(facts);
                self.pipeline.on_full(full, &mut |stray, reset_by, found| {
                    let Some(left) = visits.checked_sub(engine.len() as u64) else {
                        summary.unsearched += 1;
                        return;
                    };
                    *visits = left;
                    relatives::find(stray, reset_by, engine.iter().map(|s| &s.connection), found);
                });
            }
        }
    }

    #[cold]
    fn make_room(
        &mut self,
        summary: &mut Summary,
        sink: &mut dyn FnMut(Output) -> std::io::Result<()>,
    ) -> Result<(), ReplayError> {
        for slot in self.engine.make_room() {
            summary.evicted += 1;
            let end = if silent::is_over(&slot.connection, self.last_ns) { End::Silent } else { End::Open };
            self.end_of_life(&slot, end, false, sink)?;
        }
        Ok(())
    }

    /// What is due before the packet of `now_ns`: nothing later bears on it.
    fn flush(
        &mut self,
        now_ns: u64,
        summary: &mut Summary,
        sink: &mut dyn FnMut(Output) -> std::io::Result<()>,
    ) -> Result<(), ReplayError> {
        let (engine, found) = (&self.engine, &mut self.found);
        let lookup = &mut |_, key: &FlowKey| engine.get(key).map(|s| (s.connection, s.recorder));
        self.pipeline.flush(now_ns, lookup, &|t| t, &mut |finding| found.push(finding));
        self.hand_out(summary, sink)
    }

    fn hand_out(
        &mut self,
        summary: &mut Summary,
        sink: &mut dyn FnMut(Output) -> std::io::Result<()>,
    ) -> Result<(), ReplayError> {
        for finding in self.found.drain(..) {
            summary.findings += 1;
            sink(Output::Finding(Box::new(finding)))?;
        }
        Ok(())
    }

    /// A connection leaves the table.
    fn end_of_life(
        &mut self,
        slot: &Slot,
        end: End,
        truncated: bool,
        sink: &mut dyn FnMut(Output) -> std::io::Result<()>,
    ) -> Result<(), ReplayError> {
        if self.options.connections {
            sink(Output::Connection(Box::new(connection_line(slot))))?;
        }
        if silent::is_worth_an_end(&slot.connection) {
            let none = Evidence::default();
            let evidence = slot.evidence.as_deref().unwrap_or(&none);
            let mut history = History::from_parts(&slot.connection, evidence, &slot.recorder);
            history.end = end;
            history.truncated = truncated;
            self.pipeline.set_payload(payload::facts(&slot.payload));
            self.pipeline.on_end(history);
        }
        Ok(())
    }

    fn finish(
        &mut self,
        truncated: bool,
        summary: &mut Summary,
        sink: &mut dyn FnMut(Output) -> std::io::Result<()>,
    ) -> Result<(), ReplayError> {
        summary.connections += self.engine.opened;
        let engine = std::mem::take(&mut self.engine);
        let told = |slot: &&Slot| self.options.connections || silent::is_worth_an_end(&slot.connection);
        let mut left: Vec<&Slot> = engine.iter().filter(told).collect();
        // A hash table's order is not the capture's.
        left.sort_unstable_by_key(|s| (s.connection.created_ns, s.connection.key.port, s.connection.key.addr));
        for slot in left {
            let end = if silent::is_over(&slot.connection, self.last_ns) { End::Silent } else { End::Open };
            self.end_of_life(slot, end, truncated, sink)?;
            if self.pipeline.is_crowded() {
                let (found, last_ns) = (&mut self.found, self.last_ns);
                let lookup = &mut |_, key: &FlowKey| engine.get(key).map(|s| (s.connection, s.recorder));
                self.pipeline.flush(last_ns, lookup, &|t| t, &mut |finding| found.push(finding));
                self.hand_out(summary, sink)?;
            }
        }
        let found = &mut self.found;
        let lookup = &mut |_, key: &FlowKey| engine.get(key).map(|s| (s.connection, s.recorder));
        self.pipeline.finish(lookup, &|t| t, &mut |finding| found.push(finding));
        self.hand_out(summary, sink)
    }

    fn segment_line(&self, frame: u64, time_ns: u64) -> SegmentLine {
        let (s, dir) = (&self.packet.segment, self.packet.direction());
        let names = |wanted: &dyn Fn(&Note) -> bool| {
            let notes = self.engine.notes().iter().filter(|note| wanted(note));
            notes.filter_map(|n| Anomaly::from_number(n.anomaly)).map(|a| a.name()).collect()
        };
        SegmentLine {
            kind: "segment",
            version: VERSION,
            frame,
            time_ns,
            src: Endpoint::of(&self.packet.key, dir),
            dst: Endpoint::of(&self.packet.key, dir.other()),
            seq: s.seq.0,
            ack: s.ack.0,
            len: s.payload_len,
            flags: s.flags,
            window: s.wnd,
            anomalies: names(&|_| true),
            hard: names(&|note| note.flags & HARD != 0),
        }
    }
}

fn connection_line(slot: &Slot) -> ConnectionLine {
    let c = &slot.connection;
    let last_ns = c.last_ns();
    ConnectionLine {
        kind: "connection",
        version: VERSION,
        first_ns: c.created_ns,
        last_ns,
        row: crate::rows::row(c, last_ns),
    }
}

#[cfg(test)]
mod flood_tests;
