//! The main guard: the same packets through the host's engine and through the loaded kernel programs give the same
//! state, field by field, and the same reports.
//!
//! The programs run under `BPF_PROG_TEST_RUN`, with the clock in a map, so nothing but the code differs.

use super::classifier::{self, Side};
use super::host::{Engine, Report, reused};
use super::loader::{self, Clock, LoadError, Sizes};
use super::table::Table;
use aya::Ebpf;
use aya::maps::{Array, HashMap as BpfHashMap, MapData, RingBuf};
use aya::programs::{SchedClassifier, TestRun, TestRunOptions, Xdp};
use capture_file::Reader;
use capture_file::link::linktype;
use monitor_common::Anomaly;
use monitor_common::abi::WAYS;
use monitor_common::event::{Ended, Event, FullEvent, tag};
use monitor_common::evidence::Evidence;
use monitor_common::flow::{FlowKey, HashKeys};
use monitor_common::icmp::{self, Quote};
use monitor_common::parse::{self, Packet};
use monitor_common::recorder::Recorder;
use monitor_common::tracker::notes::Notes;
use monitor_common::tracker::state::{Connection, Hook};
use std::collections::HashMap;
use std::fmt::Debug;
use std::path::Path;

/// Room for every connection of a test, so that no eviction can make a difference.
const SIZES: Sizes = Sizes { connections: 65_536, ring_bytes: 1 << 20 };
const SEED: u64 = 0x0123_4567_89ab_cdef;
/// `BPF_PROG_TEST_RUN` takes frames of one page less head and tail room, and none shorter than an Ethernet header.
const FRAME: std::ops::RangeInclusive<usize> = 14..=3400;

/// Which hook gets a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Through {
    /// XDP.
    Ingress,
    /// TC.
    TcIngress,
    Egress,
    /// By turns, so that both hooks work on one connection.
    Both,
}

impl Through {
    pub const ALL: [Through; 4] = [Through::Ingress, Through::TcIngress, Through::Egress, Through::Both];

    fn hook(self, frame: u64) -> Hook {
        match self {
            Through::Ingress | Through::TcIngress => Hook::Ingress,
            Through::Egress => Hook::Egress,
            Through::Both if frame.is_multiple_of(2) => Hook::Egress,
            Through::Both => Hook::Ingress,
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("cannot read {path}: {source}")]
    Capture { path: String, source: capture_file::Error },
    #[error("{what}: {source}")]
    System { what: &'static str, source: std::io::Error },
    #[error("test run of frame {frame}: {source}")]
    Run { frame: u64, source: aya::programs::ProgramError },
    #[error("map {0}")]
    Map(String),
    #[error("{program} returned {got}, not {expected}: it must always pass the packet on (frame {frame})")]
    Verdict { program: &'static str, got: u32, expected: u32, frame: u64 },
    #[error("{at}: kernel and host differ in {what}\n{difference}")]
    Differ { at: String, what: &'static str, difference: String },
}

/// What was compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Compared {
    pub frames: u64,
    /// Frames that a test run cannot take.
    pub left_out: u64,
    pub segments: u64,
    pub connections: u64,
    pub events: u64,
    /// Of these, ends of lives with which nothing was wrong.
    pub ended: u64,
    /// Those with anomalies of that life.
    pub with_evidence: u64,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain(Evidence);
// SAFETY: `Evidence` is bytemuck Pod.
unsafe impl aya::Pod for Plain {}

/// Both builds, side by side.
pub struct Guard {
    ebpf: Ebpf,
    ingress: &'static str,
    clock: Array<MapData, u64>,
    events: RingBuf<MapData>,
    evidence: BpfHashMap<MapData, u32, Plain>,
    table: Table,
    host: Engine,
    through: Through,
    pub compared: Compared,
}

impl Guard {
    pub fn new(through: Through) -> Result<Guard, GuardError> {
        let mut ebpf = loader::load(SIZES, Clock::Test, None, 0, HashKeys::from_seed(SEED))?;
        let (_, ingress) = loader::load_xdp(&mut ebpf)?;
        for side in [Side::Ingress, Side::Egress] {
            classifier::load(&mut ebpf, side)?;
        }
        let table = Table::take(&mut ebpf, SIZES.sets())
            .map_err(|source| GuardError::System { what: "cannot map the table", source })?;
        Ok(Guard {
            clock: take(&mut ebpf, "CLOCK")?,
            events: take(&mut ebpf, "EVENTS")?,
            evidence: take(&mut ebpf, "EVIDENCE")?,
            ebpf,
            ingress,
            table,
            host: Engine::new(),
            through,
            compared: Compared::default(),
        })
    }

    /// Feeds an Ethernet capture to both and compares reports frame by frame, state at the end.
    pub fn capture(&mut self, path: &Path) -> Result<(), GuardError> {
        let name = path.display().to_string();
        let open = |source| GuardError::Capture { path: name.clone(), source };
        let mut reader = Reader::open(path).map_err(open)?;
        let mut frames = Vec::new();
        // Damage ends a capture; what stands before it counts.
        while let Ok(Some(p)) = reader.next() {
            if p.link_type == linktype::ETHERNET {
                frames.push((p.frame, p.time_ns, p.data.to_vec()));
            }
        }
        for (frame, time_ns, data) in &frames {
            self.frame(&name, *frame, *time_ns, data)?;
        }
        self.state(&name)
    }

    /// Feeds one frame to both.
    pub fn frame(&mut self, name: &str, number: u64, time_ns: u64, data: &[u8]) -> Result<(), GuardError> {
        if !FRAME.contains(&data.len()) {
            self.compared.left_out += 1;
            return Ok(());
        }
        // The clock 0 means "never" in several fields, as it does to the kernel's own clock.
        let now_ns = time_ns.clamp(1, u64::MAX / 4);
        let hook = self.through.hook(number);
        if !self.run_kernel(hook, number, now_ns, data)? {
            self.compared.left_out += 1;
            return Ok(());
        }
        self.compared.frames += 1;

        let mut packet = Packet::default();
        let wire_len = if hook == Hook::Ingress { 0 } else { data.len() as u32 };
        let mut expected: Vec<Report> = Vec::new();
        if parse::ethernet(data, wire_len, &mut packet).is_ok() {
            self.compared.segments += 1;
            let tracked = self.host.on_packet(&packet, hook, now_ns);
            if let Some(former) = tracked.ended {
                expected.push(reused(&former, &packet, hook, now_ns));
            }
            expected.push(tracked.report);
        } else {
            let mut quote = Quote::default();
            if icmp::ethernet(data, &mut quote) {
                self.host.on_quote(&quote, now_ns);
            }
        }
        expected.retain(|r| !matches!(r, Report::None));
        self.reports(name, number, expected)
    }

    /// False if the kernel cannot try this frame.
    fn run_kernel(&mut self, hook: Hook, number: u64, now_ns: u64, data: &[u8]) -> Result<bool, GuardError> {
        self.clock.set(0, now_ns, 0).map_err(|e| GuardError::Map(format!("CLOCK: {e}")))?;
        // An entry is found wherever it was put.
        self.table.spread_for([0, 1, WAYS][number as usize / 16 % 3] * self.table.set_count());
        let options = TestRunOptions { data_in: Some(data), ..TestRunOptions::new() };
        let failed = |source| GuardError::Run { frame: number, source };
        let (program, expected, result) = match hook {
            Hook::Ingress if self.through != Through::TcIngress => {
                let xdp = loader::program::<Xdp>(&mut self.ebpf, self.ingress)?;
                (self.ingress, 2, xdp.test_run(options).map_err(failed)?)
            }
            _ => {
                let name = if hook == Hook::Ingress { "tc_in" } else { "tc_out" };
                let tc = loader::program::<SchedClassifier>(&mut self.ebpf, name)?;
                match tc.test_run(options) {
                    // Newer kernels refuse socket buffers without a whole IP header.
                    Err(e) if data.len() < 14 + 40 && loader::errno(&e) == Some(libc::EINVAL) => return Ok(false),
                    result => (name, u32::MAX, result.map_err(failed)?),
                }
            }
        };
        if result.return_value != expected {
            return Err(GuardError::Verdict { program, got: result.return_value, expected, frame: number });
        }
        Ok(true)
    }

    /// The kernel's reports of this frame against the host's.
    fn reports(&mut self, name: &str, number: u64, expected: Vec<Report>) -> Result<(), GuardError> {
        let at = || format!("{name}, frame {number}, {:?}", self.through);
        let mut expected = expected.into_iter();
        while let Some(item) = self.events.next() {
            self.compared.events += 1;
            let head = u32::from_ne_bytes([item[0], item[1], item[2], item[3]]);
            match (head, expected.next()) {
                (tag::ENDED, Some(Report::Ended(host))) => {
                    let Some(kernel) = Ended::read(&item) else {
                        let difference = format!("{} bytes", item.len());
                        return Err(GuardError::Differ { at: at(), what: "a report's length", difference });
                    };
                    self.compared.ended += 1;
                    same(&at, "the report of an end", &kernel, &host)?;
                }
                (tag::BRIEF, Some(Report::Brief(host))) => {
                    let Some(mut kernel) = Event::read(&item) else {
                        let difference = format!("{} bytes", item.len());
                        return Err(GuardError::Differ { at: at(), what: "a report's length", difference });
                    };
                    kernel.slot = 0;
                    let mut host = *host;
                    all_recorded(&mut kernel.connection, Recorder::default());
                    all_recorded(&mut host.connection, Recorder::default());
                    stale_notes_cleared(&mut kernel.notes);
                    stale_notes_cleared(&mut host.notes);
                    same(&at, "a report", &kernel, &host)?;
                }
                (tag::FULL, Some(Report::Full(host))) => {
                    let Some(mut kernel) = FullEvent::read(&item) else {
                        let difference = format!("{} bytes", item.len());
                        return Err(GuardError::Differ { at: at(), what: "a report's length", difference });
                    };
                    kernel.event.slot = 0;
                    let mut host = *host;
                    kernel.recorder = all_recorded(&mut kernel.event.connection, kernel.recorder);
                    host.recorder = all_recorded(&mut host.event.connection, host.recorder);
                    unused_cleared(&mut kernel.evidence);
                    unused_cleared(&mut host.evidence);
                    stale_notes_cleared(&mut kernel.event.notes);
                    stale_notes_cleared(&mut host.event.notes);
                    let anomalies: u32 = host.evidence.ledger.iter().map(|l| l.used).sum();
                    self.compared.with_evidence += u64::from(anomalies > 0);
                    same(&at, "a report with evidence", &kernel, &host)?;
                }
                (_, host) => {
                    let difference = format!("kernel: report of kind {head:#x}\nhost: {host:?}");
                    return Err(GuardError::Differ { at: at(), what: "reports", difference });
                }
            }
        }
        match expected.next() {
            None => Ok(()),
            Some(host) => Err(GuardError::Differ {
                at: at(),
                what: "reports",
                difference: format!("kernel: nothing\nhost: {host:?}"),
            }),
        }
    }

    /// Names and counts of all anomalies on the host's side, in the catalogue's order.
    pub fn anomalies(&self) -> Vec<(&'static str, u32)> {
        let entries = || self.host.iter().filter_map(|slot| slot.evidence.as_deref()).flat_map(Evidence::entries);
        let count = |a: &Anomaly| entries().filter(|e| e.anomaly == *a as u8).map(|e| e.count).sum();
        Anomaly::ALL.iter().map(|a| (a.name(), count(a))).filter(|(_, count)| *count > 0).collect()
    }

    /// The whole table against the host's.
    pub fn state(&mut self, name: &str) -> Result<(), GuardError> {
        let at = || format!("{name}, at the end, {:?}", self.through);
        let kernel: HashMap<FlowKey, u32> = self.table.connections().map(|(slot, c)| (c.key, slot)).collect();
        if kernel.len() != self.host.len() {
            let difference = format!("kernel: {} connections\nhost: {}", kernel.len(), self.host.len());
            return Err(GuardError::Differ { at: at(), what: "the number of connections", difference });
        }
        for host in self.host.iter() {
            let Some(slot) = kernel.get(&host.connection.key) else {
                let difference = format!("{:?} is not in the kernel's table", host.connection.key);
                return Err(GuardError::Differ { at: at(), what: "connections", difference });
            };
            let (mut theirs, mut ours) = (self.table.connection(*slot), host.connection);
            let their_recorder = all_recorded(&mut theirs, self.table.recorder(*slot));
            let our_recorder = all_recorded(&mut ours, host.recorder);
            same(&at, "a connection", &theirs, &ours)?;
            same(&at, "a flight recorder", &their_recorder, &our_recorder)?;
            let mut kernel_evidence = self
                .evidence
                .get(slot, 0)
                .ok()
                .map(|p| p.0)
                .filter(|e| e.created_ns == host.connection.created_ns)
                .unwrap_or_default();
            let mut host_evidence = host.evidence.as_deref().copied().unwrap_or_default();
            unused_cleared(&mut kernel_evidence);
            unused_cleared(&mut host_evidence);
            same(&at, "evidence", &kernel_evidence, &host_evidence)?;
        }
        self.compared.connections = self.host.len() as u64;
        Ok(())
    }
}

/// Header prediction leaves a header of each end with the state; the host's reports have them in the recorder already.
fn all_recorded(c: &mut Connection, mut recorder: Recorder) -> Recorder {
    recorder.settle_all(c);
    recorder
}

/// Entries beyond `used` are leftovers of the slot's former connection.
fn unused_cleared(e: &mut Evidence) {
    for ledger in &mut e.ledger {
        let used = (ledger.used as usize).min(ledger.entry.len());
        ledger.entry[used..].fill(bytemuck::Zeroable::zeroed());
    }
}

/// Notes beyond `count` are those of an earlier packet.
fn stale_notes_cleared(notes: &mut Notes) {
    let count = (notes.count as usize).min(notes.note.len());
    notes.note[count..].fill(bytemuck::Zeroable::zeroed());
}

fn take<M: TryFrom<aya::maps::Map>>(ebpf: &mut Ebpf, name: &str) -> Result<M, GuardError> {
    ebpf.take_map(name).and_then(|m| M::try_from(m).ok()).ok_or_else(|| GuardError::Map(format!("{name} is missing")))
}

/// Equal, or an error that shows the fields that are not.
fn same<T: Debug + PartialEq>(
    at: &dyn Fn() -> String,
    what: &'static str,
    kernel: &T,
    host: &T,
) -> Result<(), GuardError> {
    if kernel == host {
        return Ok(());
    }
    let (k, h) = (format!("{kernel:#?}"), format!("{host:#?}"));
    let difference: Vec<String> = k
        .lines()
        .zip(h.lines())
        .filter(|(a, b)| a != b)
        .take(20)
        .map(|(a, b)| format!("kernel {} | host {}", a.trim(), b.trim()))
        .collect();
    Err(GuardError::Differ { at: at(), what, difference: difference.join("\n") })
}
