//! The kernel programs: attached, read, swept.

use super::btf::Btf;
use super::cgroup::Cgroups;
use super::classifier::{self, Classifier, Side};
use super::device::{self, Device};
use super::facts::Names;
use super::ingress::{self, IngressMode, Way};
use super::interfaces::{self, Interface};
use super::loader::{self, Clock, Frames, LoadError, Sizes};
use super::memory;
use super::object;
use super::pace::{Every, Pace};
use super::sweep::Sweep;
use super::table::Table;
use crate::api::query::ConnectionQuery;
use crate::finding::Finding;
use crate::history::{History, KernelFact};
use crate::pipeline::{Kernel, Pipeline, Settings};
use crate::relatives;
use crate::snapshot::{Attached, Counters, Listing, Population, Source, Status};
use aya::Ebpf;
use aya::maps::{HashMap as BpfHashMap, MapData, PerCpuArray, RingBuf};
use aya::programs::links::FdLink;
use aya::programs::{BtfTracePoint, XdpMode};
use aya_log::EbpfLogger;
use monitor_common::abi::{Offsets, Scratch, Tally, interface};
use monitor_common::drops::Drops;
use monitor_common::event::{Ended, Event, FullEvent, KernelEvent, source, tag};
use monitor_common::evidence::Evidence;
use monitor_common::flow::HashKeys;
use monitor_common::tracker::state::Connection;
use std::io::PipeReader;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// What to attach to and how.
#[derive(Clone, Debug)]
pub struct LiveOptions {
    pub interfaces: Vec<String>,
    /// Every suitable interface.
    pub all: bool,
    pub ingress: IngressMode,
    /// Connections tracked at once.
    pub max_connections: u32,
    /// Bytes of the event ring buffer, a power of two.
    pub ring_bytes: u32,
    /// Attach tracepoints for the local kernel's own reset reasons.
    pub kernel_evidence: bool,
    /// Believe the tracepoints about a tuple in whatever network namespace it is.
    pub all_namespaces: bool,
    /// Keep links pinned under this folder of a bpffs, so that they outlive a killed agent.
    pub pin: Option<PathBuf>,
}

/// Why the capture could not start. Each message says what failed, on what, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    #[error("{0}")]
    NotPermitted(String),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Failed(String),
}

/// Ends wait this long for the tracepoints' word.
const HOLD_NS: u64 = 30_000_000;
/// Addresses of this host come and go.
const ADDRESSES_EVERY: Duration = Duration::from_secs(10);
/// Reports taken in one go before those that are due are handed out.
const BATCH: usize = 64;
/// Time that reports may take before the sweep gets its turn. A storm of them never costs more than a CPU: what the agent
/// leaves in the ring buffer makes the kernel programs withhold further ones, and count them.
const AT_ONCE: Duration = Duration::from_millis(5);
/// Losses and evictions are looked for this often while reports come, before these become findings, which say if there were any.
const PRESSURE_EVERY: Duration = Duration::from_millis(500);
/// ... and else. What is found late is taken to have happened late, which makes more findings cautious, not fewer.
const PRESSURE_AT_REST: Duration = Duration::from_secs(5);
/// [`Sink::settle`] is called this often.
const SETTLE_EVERY: Duration = Duration::from_secs(1);

/// A newtype that aya may copy from and to maps.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);

// SAFETY: `Scratch`, `Evidence`, `Drops` and `Tally` are bytemuck Pod: any bytes are valid and there is no padding.
unsafe impl aya::Pod for Plain<Scratch> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Evidence> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Drops> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Tally> {}

/// Where findings go.
pub trait Sink {
    fn record(&mut self, finding: Finding);
    /// Called once a second, whatever happens.
    fn settle(&mut self);
}

/// A program's place on an interface; dropped, it is gone.
pub enum Link {
    Xdp(FdLink),
    Classifier(Classifier),
}

/// An attached capture. Dropping it detaches everything.
pub struct Live {
    shared: Arc<Shared>,
    ring: RingBuf<MapData>,
    names: Arc<Names>,
    cgroups: Option<Cgroups>,
    /// Inode number of the network namespace that is watched; 0 where this kernel has but one, or all are believed.
    netns: u32,
    pipeline: Pipeline,
    sweep: Sweep,
    walks: Walks,
    /// What had been lost or removed for want of room when it was looked at last.
    pressed: u64,
    /// Time of the last report taken from the ring buffer.
    heard_ns: u64,
    logger: Option<EbpfLogger<&'static dyn log::Log>>,
    _links: Vec<Link>,
    pinned: Option<Pins>,
}

/// Walks over the whole table for the sake of one report: a flood of stray resets must not make the agent do nothing
/// else.
#[derive(Default)]
struct Walks {
    not_before: Option<Instant>,
    skipped: u64,
}

impl Walks {
    /// Pauses after a walk, as multiples of what it took.
    const PAUSE: u32 = 19;

    fn run(&mut self, walk: impl FnOnce()) {
        let began = Instant::now();
        if self.not_before.is_some_and(|t| began < t) {
            self.skipped += 1;
            return;
        }
        walk();
        let end = Instant::now();
        self.not_before = Some(end + (end - began) * Self::PAUSE);
    }
}

/// Pins to remove at an orderly end.
struct Pins(Vec<PathBuf>);

impl Drop for Pins {
    fn drop(&mut self) {
        for path in &self.0 {
            if let Err(e) = std::fs::remove_file(path) {
                tracing::warn!("cannot remove the pin {}: {e}", path.display());
            }
        }
    }
}

/// What readers of the capture share with it.
struct Shared {
    table: Arc<Table>,
    scratch: Mutex<PerCpuArray<MapData, Plain<Scratch>>>,
    evidence: Mutex<BpfHashMap<MapData, u32, Plain<Evidence>>>,
    drops: Mutex<BpfHashMap<MapData, u32, Plain<Drops>>>,
    tally: Mutex<PerCpuArray<MapData, Plain<Tally>>>,
    ebpf: Mutex<Ebpf>,
    status: Status,
    evicted_idle: AtomicU64,
    programs: Vec<&'static str>,
}

impl Live {
    pub fn attach(options: &LiveOptions) -> Result<Live, AttachError> {
        let wanted = choose(options)?;
        let btf = if options.kernel_evidence { Btf::of_kernel() } else { Btf::parse(Vec::new()) };
        let mut notes = Vec::new();
        if options.kernel_evidence
            && let Err(e) = &btf
        {
            notes.push(format!("no evidence from the local kernel: {e}"));
        }
        let btf = btf.ok();
        let sizes = Sizes { connections: options.max_connections, ring_bytes: options.ring_bytes };
        memory::check(&sizes).map_err(AttachError::Usage)?;
        let netns = if options.all_namespaces { 0 } else { watched_namespace(btf.as_ref()) };
        let mut ebpf = loader::load(sizes, Clock::Kernel, btf.as_ref(), netns, hash_keys()?).map_err(classify)?;
        // What the programs say of themselves goes where the agent's own log goes.
        let logger =
            EbpfLogger::init(&mut ebpf).inspect_err(|e| tracing::warn!("the programs' own log is not read: {e}")).ok();
        let mut programs = vec![classifier::load(&mut ebpf, Side::Egress).map_err(classify)?];
        let names = Arc::new(Names::of(btf.as_ref()));
        if names.has_drop_reasons() {
            loader::want_drops(&mut ebpf, &names).map_err(AttachError::Failed)?;
        }
        let tracepoints = match &btf {
            Some(btf) => attach_tracepoints(&mut ebpf, btf, &mut programs),
            None => Vec::new(),
        };
        let kernel_watched = programs.contains(&"send_reset");
        if btf.is_some() && !names.has_reset_reasons() {
            notes.push("this kernel gives no reasons for its resets (Linux 6.10 and later do)".into());
        }
        if btf.is_some() && !names.has_drop_reasons() {
            notes.push("this kernel gives no reasons for the packets that it drops (Linux 5.17 and later do)".into());
        }
        let mut cgroups = btf.as_ref().and_then(|_| Cgroups::mounted());
        match &mut cgroups {
            Some(cgroups) => drop(cgroups.refresh()),
            None if btf.is_some() => notes.push(
                "no names of containers and units: no cgroup v2 file system is mounted where this agent runs".into(),
            ),
            None => {}
        }
        mark_monitored(&mut ebpf, &wanted)?;

        let mut pins = Pins(Vec::new());
        for i in &wanted {
            if let Some(folder) = &options.pin {
                super::pins::release(folder, &i.name);
            }
            classifier::remove_leftovers(&i.name);
        }
        // Ingress everywhere before egress anywhere: a forwarded packet seen at egress first looks translated.
        let mut loaded = Loaded::default();
        let mut ingress = Vec::new();
        for i in &wanted {
            ingress.push(attach_ingress(&mut ebpf, &mut loaded, i, options.ingress)?);
        }
        programs.extend(loaded.programs());
        if loaded.xdp.is_some_and(|(frames, _)| frames == Frames::Linear) {
            notes
                .push("this kernel has no XDP fragments: native XDP is refused on interfaces with jumbo frames".into());
        }
        let mut links = Vec::new();
        let mut attached = Vec::new();
        for (i, ingress) in wanted.iter().zip(ingress) {
            let (l, a) = attach_egress(&mut ebpf, i, ingress, options, &mut pins)?;
            links.extend(l);
            attached.push(a);
        }
        let ring = take::<RingBuf<MapData>>(&mut ebpf, "EVENTS")?;
        let scratch = take(&mut ebpf, "SCRATCH")?;
        let evidence = take(&mut ebpf, "EVIDENCE")?;
        let (drops, tally) = (take(&mut ebpf, "DROPS")?, take(&mut ebpf, "TALLY")?);
        let table = Table::take(&mut ebpf, sizes.sets())
            .map_err(|e| AttachError::Failed(format!("cannot map the connection table: {e}")))?;
        let status = Status {
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: kernel_release(),
            started_unix_ns: unix_now(),
            interfaces: attached,
            table_capacity: table.capacity() as u64,
            table_bytes: sizes.bytes(),
            tracepoints,
            notes,
            object: object::short_hash(),
        };
        let sweep = Sweep::new(table.set_count());
        let settings = Settings { hold_ns: HOLD_NS, kernel_watched, report_desync_at_once: true };
        let listens = status.tracepoints.iter().any(|(_, state)| state == ATTACHED);
        let shared = Arc::new(Shared {
            table: Arc::new(table),
            scratch: Mutex::new(scratch),
            evidence: Mutex::new(evidence),
            drops: Mutex::new(drops),
            tally: Mutex::new(tally),
            ebpf: Mutex::new(ebpf),
            status,
            evicted_idle: AtomicU64::new(0),
            programs,
        });
        let mut pipeline = Pipeline::new(settings, 1, None);
        if listens {
            let kernel = OwnKernel { shared: shared.clone(), names: names.clone(), netns };
            pipeline = pipeline.with_kernel(Box::new(kernel));
        }
        Ok(Live {
            shared,
            ring,
            names,
            cgroups,
            netns,
            pipeline,
            sweep,
            walks: Walks::default(),
            pressed: 0,
            heard_ns: 0,
            logger,
            _links: links,
            pinned: options.pin.is_some().then_some(pins),
        })
    }

    pub fn source(&self) -> Arc<dyn Source> {
        self.shared.clone()
    }

    /// Reads events, sweeps the table and hands findings to `sink`, until the other end of `stop` is closed. Wants a thread
    /// of its own: a look costs most for the code that it brings back into the caches, and this is little.
    pub fn run(&mut self, sink: &mut dyn Sink, stop: &PipeReader) {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        let mut addresses = Every::new(ADDRESSES_EVERY, start);
        let mut pressure = [PRESSURE_AT_REST, PRESSURE_EVERY].map(|period| Every::new(period, start));
        let mut settling = Every::new(SETTLE_EVERY, start);
        self.pipeline.set_local_addresses(super::addresses::list());
        while pace.wait(stop, &self.ring) {
            let began = Instant::now();
            let mut taken = self.drain(BATCH);
            let heard = taken > 0;
            pace.looked(began, heard);
            if pressure[heard as usize].is_due(began) {
                self.look_at_pressure();
            }
            while taken == BATCH && began.elapsed() < AT_ONCE {
                self.flush(self.heard_ns, sink);
                taken = self.drain(BATCH);
            }
            for _ in 0..pace.steps(began) {
                self.sweep_some();
            }
            if addresses.is_due(began) {
                self.pipeline.set_local_addresses(super::addresses::list());
            }
            // What is left in the ring buffer may have a word on what is due.
            self.flush(if taken == BATCH { self.heard_ns } else { monotonic_now() }, sink);
            if settling.is_due(began) {
                sink.settle();
            }
            if let Some(logger) = &mut self.logger {
                logger.flush();
            }
        }
        while self.drain(BATCH) == BATCH {}
        let offset = clock_offset();
        let table = &self.shared.table;
        self.pipeline.finish(
            &mut |slot, _| Some((table.connection(slot), table.recorder(slot))),
            &|t| t.saturating_add(offset),
            &mut |finding| sink.record(finding),
        );
        drop(self.pinned.take());
    }

    /// Hands out what is due at `now_ns`.
    fn flush(&mut self, now_ns: u64, sink: &mut dyn Sink) {
        let offset = clock_offset();
        let table = &self.shared.table;
        let lookup = &mut |slot, _: &_| Some((table.connection(slot), table.recorder(slot)));
        self.pipeline.flush(now_ns, lookup, &|t| t.saturating_add(offset), &mut |finding| sink.record(finding));
    }

    /// Takes up to `most` reports; returns how many there were.
    fn drain(&mut self, most: usize) -> usize {
        let mut taken = 0;
        while taken < most {
            let Some(item) = self.ring.next() else { break };
            taken += 1;
            let shared = &self.shared;
            match bytes_tag(&item) {
                Some(tag::FULL) => {
                    if let Some(full) = FullEvent::read(&item) {
                        self.heard_ns = full.event.time_ns;
                        self.pipeline.on_full(&full, &mut |stray, reset_by, found| {
                            let all = shared.table.connections().map(|(_, c)| c);
                            self.walks.run(|| relatives::find(stray, reset_by, all, found));
                        });
                    }
                }
                Some(tag::ENDED) => {
                    if let Some(life) = Ended::read(&item) {
                        self.heard_ns = life.time_ns;
                        self.pipeline.on_ended(&life);
                    }
                }
                Some(tag::BRIEF) => {
                    if let Some(event) = Event::read(&item) {
                        self.heard_ns = event.time_ns;
                        self.pipeline.on_brief(&event);
                    }
                }
                Some(tag::KERNEL) => {
                    if let Some(event) = read::<KernelEvent>(&item)
                        && let Some(about) = self.names.fact(&event, self.cgroups.as_mut())
                    {
                        let gone = gave_up(&event).then(|| shared.history(&event)).flatten();
                        self.pipeline.on_fact(about);
                        if let Some(history) = gone {
                            self.pipeline.on_timeout(history, event.time_ns);
                        }
                    }
                }
                _ => tracing::warn!("a report of {} bytes that this agent does not know", item.len()),
            }
        }
        taken
    }

    /// Tells the pipeline if something was lost or removed for want of room since the last look.
    fn look_at_pressure(&mut self) {
        let c = self.shared.counted();
        let half_open: u64 = c.evictions.iter().filter(|(name, _)| name == "half_open").map(|(_, n)| n).sum();
        let pressed =
            half_open + c.table_full + c.events_lost + c.events_withheld + c.evidence_full + self.walks.skipped;
        if pressed != self.pressed {
            self.pressed = pressed;
            self.pipeline.on_pressure(monotonic_now());
        }
    }

    fn sweep_some(&mut self) {
        let (shared, names, netns) = (&self.shared, &self.names, self.netns);
        let pipeline = &mut self.pipeline;
        let freed = self.sweep.step(
            &shared.table,
            monotonic_now(),
            &mut |slot| {
                let mut map = shared.evidence.lock().unwrap_or_else(|e| e.into_inner());
                let evidence = map.get(&slot, 0).ok().map(|p| p.0);
                if evidence.is_some() && map.remove(&slot).is_err() {
                    tracing::debug!("evidence of slot {slot} was gone already");
                }
                evidence
            },
            &mut |slot, c| {
                let mut map = shared.drops.lock().unwrap_or_else(|e| e.into_inner());
                let drops = map.get(&slot, 0).ok().map(|p| p.0);
                if drops.is_some() && map.remove(&slot).is_err() {
                    tracing::debug!("drops of slot {slot} were gone already");
                }
                let drops = drops.filter(|d| d.created_ns == c.created_ns);
                drops.map_or_else(Vec::new, |d| names.drops(&d, netns))
            },
            &mut |history| pipeline.on_end(history),
        );
        shared.evicted_idle.fetch_add(freed, Ordering::Relaxed);
    }
}

impl Source for Shared {
    fn connections(&self, query: &ConnectionQuery) -> Listing {
        super::listing::connections(&self.table, query, monotonic_now())
    }

    fn counters(&self) -> Counters {
        let mut c = self.counted();
        if stats_enabled() {
            let ebpf = self.ebpf.lock().unwrap_or_else(|e| e.into_inner());
            for name in &self.programs {
                if let Some(Ok(info)) = ebpf.program(name).map(|p| p.info()) {
                    c.programs.push((name.to_string(), info.run_time().as_secs_f64(), info.run_count()));
                }
            }
        }
        c
    }

    fn status(&self) -> Status {
        self.status.clone()
    }

    fn population(&self) -> Population {
        super::counters::population(self.table.connections().map(|(_, c)| c))
    }
}

impl Shared {
    /// What the programs have counted.
    fn counted(&self) -> Counters {
        let scratch = self.scratch.lock().unwrap_or_else(|e| e.into_inner());
        let read = |index| -> Vec<Scratch> {
            scratch.get(&index, 0).map(|v| v.iter().map(|p| p.0).collect()).unwrap_or_default()
        };
        let mut c = super::counters::sum(&read(0), &read(1));
        let tally = self.tally.lock().unwrap_or_else(|e| e.into_inner());
        super::counters::add_tallies(&mut c, tally.get(&0, 0).iter().flat_map(|all| all.iter().map(|p| p.0)));
        c.evictions.push(("idle".into(), self.evicted_idle.load(Ordering::Relaxed)));
        c
    }

    /// The connection that a kernel report is about, as the table has it now.
    fn history(&self, event: &KernelEvent) -> Option<History> {
        if event.slot as usize >= self.table.capacity() {
            return None;
        }
        let connection = self.table.connection(event.slot);
        if connection.key != event.key {
            return None;
        }
        let evidence = self.evidence.lock().unwrap_or_else(|e| e.into_inner());
        let evidence = evidence.get(&event.slot, 0).map(|p| p.0).unwrap_or_default();
        let mut history = History::from_parts(&connection, &evidence, &self.table.recorder(event.slot));
        history.slot = Some(event.slot);
        Some(history)
    }
}

/// The kernel under this agent, as far as it adds things up instead of reporting them.
struct OwnKernel {
    shared: Arc<Shared>,
    names: Arc<Names>,
    netns: u32,
}

impl Kernel for OwnKernel {
    fn drops(&self, slot: u32, c: &Connection) -> Vec<KernelFact> {
        let map = self.shared.drops.lock().unwrap_or_else(|e| e.into_inner());
        match map.get(&slot, 0) {
            Ok(Plain(d)) if d.created_ns == c.created_ns => self.names.drops(&d, self.netns),
            _ => Vec::new(),
        }
    }
}

/// A socket's retransmissions, probes or its user's patience are exhausted (DIAGNOSIS 3.2, trap e): nothing goes out, so
/// nothing but this says that the connection is dead.
fn gave_up(event: &KernelEvent) -> bool {
    event.source == source::ERROR_REPORT && event.reason == libc::ETIMEDOUT as u32
}

/// Inode number of this thread's network namespace, in which the interfaces are; 0 where namespaces cannot be told apart,
/// because this kernel has but one.
fn watched_namespace(btf: Option<&Btf>) -> u32 {
    let several = btf.is_some_and(|b| b.offsets().skc_net != Offsets::MISSING);
    if !several {
        return 0;
    }
    match std::fs::metadata("/proc/thread-self/ns/net") {
        // Numbers of namespaces are 32 bits wide in the kernel (struct ns_common).
        Ok(file) => file.ino() as u32,
        Err(e) => {
            tracing::warn!("cannot tell this network namespace ({e}); what sockets of others say is believed");
            0
        }
    }
}

/// State of a tracepoint that works.
const ATTACHED: &str = "attached";

/// The interfaces to attach to.
fn choose(options: &LiveOptions) -> Result<Vec<Interface>, AttachError> {
    let all = interfaces::list().map_err(|e| AttachError::Failed(format!("cannot list network interfaces: {e}")))?;
    if options.all {
        let suitable: Vec<_> =
            all.into_iter().filter(|i| i.up && i.ethernet && i.controller.is_none() && !i.loopback).collect();
        if suitable.is_empty() {
            return Err(AttachError::Usage(
                "no suitable interface: none is up, has Ethernet frames and is not part of a bridge or bond; \
                 name one with -i"
                    .into(),
            ));
        }
        return Ok(suitable);
    }
    let mut out: Vec<Interface> = Vec::new();
    for name in &options.interfaces {
        let Some(i) = all.iter().find(|i| i.name == *name) else {
            let known: Vec<&str> = all.iter().map(|i| i.name.as_str()).collect();
            return Err(AttachError::Usage(format!("no interface {name} here; there are: {}", known.join(", "))));
        };
        if !i.ethernet {
            return Err(AttachError::Usage(format!(
                "{name} has no Ethernet frames (a tunnel or a raw IP device), which whyrst cannot watch yet; \
                 watch the interface below it"
            )));
        }
        if !out.iter().any(|o| o.index == i.index) {
            out.push(i.clone());
        }
    }
    if out.is_empty() {
        return Err(AttachError::Usage("no interface given; use -i NAME or --all".into()));
    }
    Ok(out)
}

/// Programs for ingress, loaded when the first interface needs them.
#[derive(Default)]
struct Loaded {
    xdp: Option<(Frames, &'static str)>,
    tc: Option<&'static str>,
}

impl Loaded {
    fn programs(&self) -> impl Iterator<Item = &'static str> {
        self.xdp.map(|(_, name)| name).into_iter().chain(self.tc)
    }

    fn xdp(&mut self, ebpf: &mut Ebpf) -> Result<&'static str, LoadError> {
        let xdp = match self.xdp {
            Some(xdp) => xdp,
            None => *self.xdp.insert(loader::load_xdp(ebpf)?),
        };
        Ok(xdp.1)
    }

    fn tc(&mut self, ebpf: &mut Ebpf) -> Result<&'static str, LoadError> {
        match self.tc {
            Some(name) => Ok(name),
            None => Ok(self.tc.insert(classifier::load(ebpf, Side::Ingress)?)),
        }
    }
}

/// An ingress attachment, and why it is not native XDP.
struct Ingress {
    link: Link,
    name: &'static str,
    note: Option<String>,
}

fn attach_ingress(
    ebpf: &mut Ebpf,
    loaded: &mut Loaded,
    i: &Interface,
    wanted: IngressMode,
) -> Result<Ingress, AttachError> {
    let choice = ingress::choose(wanted, i, &device::ask(&i.name), &ports(i));
    let mut refused = None;
    for way in choice.ways {
        match attach_way(ebpf, loaded, i, *way) {
            Ok((link, name)) => {
                let note = refused.map(|e: LoadError| e.to_string()).or(choice.why);
                return Ok(Ingress { link, name, note });
            }
            // Another way would be refused, too, and for a reason that says less.
            Err(e) if e.is_permission() => return Err(classify(e)),
            Err(e) => {
                // It came after we looked, or XDP was asked for by name.
                if let Some(owner) = foreign(i, &e)
                    && !choice.ways.contains(&Way::Tc)
                {
                    return Err(classify(LoadError::Foreign { interface: i.name.clone(), owner }));
                }
                refused = Some(e);
            }
        }
    }
    Err(match refused {
        Some(e) => classify(e),
        None => AttachError::Failed(format!("no way to attach to {}", i.name)),
    })
}

fn attach_way(
    ebpf: &mut Ebpf,
    loaded: &mut Loaded,
    i: &Interface,
    way: Way,
) -> Result<(Link, &'static str), LoadError> {
    let (mode, name) = match way {
        Way::Native => (XdpMode::Driver, "xdp_native"),
        Way::Generic => (XdpMode::Skb, "xdp_generic"),
        Way::Tc => {
            loaded.tc(ebpf)?;
            let link = classifier::attach(ebpf, &i.name, Side::Ingress)?;
            let name = link.name();
            return Ok((Link::Classifier(link), name));
        }
    };
    let program = loaded.xdp(ebpf)?;
    Ok((Link::Xdp(loader::attach_xdp(ebpf, program, &i.name, i.index, mode)?), name))
}

/// The devices below a bond.
fn ports(i: &Interface) -> Vec<Device> {
    let all = interfaces::list().unwrap_or_default();
    all.iter().filter(|p| p.controller == Some(i.index)).map(|p| device::ask(&p.name)).collect()
}

fn attach_egress(
    ebpf: &mut Ebpf,
    i: &Interface,
    ingress: Ingress,
    options: &LiveOptions,
    pins: &mut Pins,
) -> Result<(Vec<Link>, Attached), AttachError> {
    // What loops back passes egress and ingress of the same device: one hook sees all of it.
    let egress =
        if i.loopback { None } else { Some(classifier::attach(ebpf, &i.name, Side::Egress).map_err(classify)?) };
    let attached = Attached {
        name: i.name.clone(),
        ifindex: i.index,
        ingress: ingress.name.into(),
        egress: egress.as_ref().map_or("none", Classifier::name).into(),
        note: if i.loopback {
            Some("loopback: ingress sees both directions, so egress is not attached".into())
        } else {
            ingress.note
        },
    };
    let egress = egress.map(Link::Classifier);
    let links = match &options.pin {
        None => std::iter::once(ingress.link).chain(egress).collect(),
        Some(folder) => {
            super::pins::keep(folder, &i.name, ingress.link, egress, &mut pins.0).map_err(AttachError::Failed)?
        }
    };
    Ok((links, attached))
}

/// Who holds the interface's XDP hook, when that is why attaching failed.
fn foreign(i: &Interface, error: &LoadError) -> Option<String> {
    let LoadError::Attach { source, .. } = error else { return None };
    let busy = loader::errno(source).is_some_and(|e| e == libc::EBUSY || e == libc::EEXIST);
    if !busy {
        return None;
    }
    // Listed anew: it may have come after we looked.
    let id = interfaces::list().ok()?.into_iter().find(|n| n.index == i.index).and_then(|n| n.xdp_program)?;
    let name = aya::programs::loaded_programs()
        .flatten()
        .find(|p| p.id() == id)
        .map(|p| format!("id {id}, name {}, tag {:016x}", p.name_as_str().unwrap_or("?"), p.tag()));
    Some(name.unwrap_or_else(|| format!("id {id}")))
}

/// Loads and attaches the optional tracepoints; says of each what became of it.
fn attach_tracepoints(ebpf: &mut Ebpf, btf: &Btf, programs: &mut Vec<&'static str>) -> Vec<(String, String)> {
    const ALL: [(&str, &str); 4] = [
        ("send_reset", "tcp_send_reset"),
        ("receive_reset", "tcp_receive_reset"),
        ("error_report", "inet_sk_error_report"),
        ("segment_drop", "kfree_skb"),
    ];
    let kernel = match aya::Btf::from_sys_fs() {
        Ok(kernel) => kernel,
        Err(e) => return ALL.iter().map(|(_, t)| (t.to_string(), format!("no BTF: {e}"))).collect(),
    };
    let mut out = Vec::new();
    for (program, tracepoint) in ALL {
        let state = if btf.tracepoint_arguments(tracepoint).is_none() {
            "this kernel does not have it".to_string()
        } else if tracepoint == "kfree_skb" && !btf.has_drop_reason() {
            "this kernel's has no reason (5.17 and later do)".to_string()
        } else {
            let attached = loader::program::<BtfTracePoint>(ebpf, program).and_then(|p| {
                p.load(tracepoint, &kernel)
                    .and_then(|()| p.attach().map(drop))
                    .map_err(|source| LoadError::Program { name: program, source })
            });
            match attached {
                Ok(()) => {
                    programs.push(program);
                    ATTACHED.to_string()
                }
                Err(e) => {
                    tracing::warn!("without tracepoint {tracepoint}: {e}");
                    e.to_string().lines().next().unwrap_or("refused").to_string()
                }
            }
        };
        out.push((tracepoint.to_string(), state));
    }
    out
}

fn mark_monitored(ebpf: &mut Ebpf, wanted: &[Interface]) -> Result<(), AttachError> {
    let mut map: BpfHashMap<MapData, u32, u32> = take(ebpf, "INTERFACES")?;
    for i in wanted {
        map.insert(i.index, interface::MONITORED, 0)
            .map_err(|e| AttachError::Failed(format!("cannot note {} as monitored: {e}", i.name)))?;
    }
    Ok(())
}

fn take<M: TryFrom<aya::maps::Map>>(ebpf: &mut Ebpf, name: &str) -> Result<M, AttachError> {
    ebpf.take_map(name)
        .and_then(|m| M::try_from(m).ok())
        .ok_or_else(|| AttachError::Failed(format!("map {name} is missing from the eBPF object")))
}

fn classify(error: LoadError) -> AttachError {
    if error.is_permission() {
        AttachError::NotPermitted(format!(
            "{error}\nwhyrst run needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON (before Linux 5.11 also an unlimited \
             RLIMIT_MEMLOCK); run it as root or give it these capabilities"
        ))
    } else {
        AttachError::Failed(error.to_string())
    }
}

fn hash_keys() -> Result<HashKeys, AttachError> {
    let mut bytes = [0u8; size_of::<HashKeys>()];
    // SAFETY: a buffer of that many bytes.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got == bytes.len() as isize {
        Ok(HashKeys::new(bytes))
    } else {
        Err(AttachError::Failed(format!("no random numbers: {}", std::io::Error::last_os_error())))
    }
}

fn bytes_tag(item: &[u8]) -> Option<u32> {
    item.get(..4).map(|b| u32::from_ne_bytes([b[0], b[1], b[2], b[3]]))
}

/// Ring buffer records begin at multiples of eight; they may be longer than the value, never shorter.
fn read<T: bytemuck::Pod>(item: &[u8]) -> Option<T> {
    item.get(..size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a timespec to write to; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(id, &mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// The clock of `bpf_ktime_get_ns`.
pub fn monotonic_now() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

fn unix_now() -> u64 {
    clock(libc::CLOCK_REALTIME)
}

/// What to add to the tracker's clock for Unix time.
fn clock_offset() -> u64 {
    unix_now().saturating_sub(monotonic_now())
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map(|s| s.trim().to_string()).unwrap_or_default()
}

fn stats_enabled() -> bool {
    std::fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|s| s.trim() == "1")
}
