//! All maps. Sizes here are placeholders; the loader sets them from its configuration.
//!
//! # Two CPUs, one connection
//!
//! A packet changes the entry of its connection without a lock: a spin lock costs half of the hot path, and BPF
//! spin locks permit no helper inside. What makes that right:
//!
//! * `FLOWS[slot].half[d]` and `FAULTS[slot][d]` are written by packets of speaker `d` only (`.sync` excepted), and a speaker
//!   is observed at one hook, one receive queue at a time. So there is one writer, and one reader on the other
//!   CPU (ingress reads what egress wrote and the other way round) of aligned fields of at most 8 bytes, which
//!   are never torn.
//! * A stale read is a read a packet earlier. It can delay a candidate's settlement by a packet. It cannot raise
//!   one: an acknowledgement is caused by data whose egress program has ended long before.
//! * `.sync` and a half's RTT sample are written from both sides. A lost update costs one hit of a counter whose
//!   state lasts for seconds; the next segment repeats it.
//! * `EVIDENCE[slot].ledger[d]` and `FLOWS[slot].recorder.record[d]` have the same single writer `d`.
//! * A report copies an entry while the other end's packet may be changing it: the last header of the other end may then be
//!   made of two. It is shown, and at most one of eight.
//! * Tags and classes in `SETS` change only under the set's try-lock ([`crate::table`]); readers need no lock, because
//!   a tag is published after its entry and the key in the entry decides.
//! * The faults are zeroed by whoever sees the first segment that is not predicted, under a claim in `bare`; one that another CPU
//!   sees meanwhile waits for that, two microseconds at most; then it is not tracked, and counted as `table_busy`.
//! * `SCRATCH` is per CPU and per hook: programs run with bottom halves disabled, so a hook does not interrupt
//!   itself on a CPU.
//! * The agent frees idle entries under the same try-lock. A program that found the entry before may write to it
//!   for some microseconds after; it has been silent for minutes, so its slot is not reused within them.

use aya_ebpf::Global;
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, RingBuf};
use aya_ebpf::macros::btf_map;
use monitor_common::abi::{Flow, Offsets, Scratch, TableSet, Tally};
use monitor_common::drops::{Drops, REASONS};
use monitor_common::event::KernelEvent;
use monitor_common::evidence::Evidence;
use monitor_common::flow::HashKeys;
use monitor_common::tracker::state::Fault;

/// `BPF_F_MMAPABLE`: the agent reads these without a system call per entry.
const MMAPABLE: usize = 1 << 10;

/// Which of a set's slots holds a key. Written by the hooks and by the agent's sweep, under the set's lock.
#[btf_map]
pub static SETS: Array<TableSet, 64, MMAPABLE> = Array::new();

/// See `monitor_common::abi::first_way`; written by the agent.
#[btf_map]
pub static SPREAD: Array<u32, 1, MMAPABLE> = Array::new();

/// What every packet touches of a connection, and its last headers, per slot (one of each end waits in the state:
/// `Recorder::settle`). Created by the first packet, freed by eviction or the agent's sweep; a life of the
/// flow begins with the last headers of the one before, told apart by time.
#[btf_map]
pub static FLOWS: Array<Flow, 1024, MMAPABLE> = Array::new();

/// The rest of the state per slot, both directions. Zeroed by the first packet that is not predicted (`Core::bare`).
#[btf_map]
pub static FAULTS: Array<[Fault; 2], 1024, MMAPABLE> = Array::new();

/// Anomalies per slot, only for connections that have any. Deleted by the agent's sweep.
#[btf_map]
pub static EVIDENCE: HashMap<u32, Evidence, 1024> = HashMap::new();

/// A zeroed value: what is inserted into `EVIDENCE` is larger than the stack.
#[btf_map]
pub static EMPTY: Array<Evidence, 1> = Array::new();

/// Reports to the agent, which comes by itself, and is woken once in each quarter (`emit`).
#[btf_map]
pub static EVENTS: RingBuf<KernelEvent, 4194304> = RingBuf::new();

/// Counters and room to work, index 0 ingress, 1 egress.
#[btf_map]
pub static SCRATCH: PerCpuArray<Scratch, 2> = PerCpuArray::new();

/// The event that a tracepoint is building, one per CPU and tracepoint. A tracepoint can be interrupted by itself on
/// kernels without a guard against that (before 5.18); the later event then wins.
#[btf_map]
pub static FACTS: PerCpuArray<KernelEvent, 4> = PerCpuArray::new();

/// Dropped segments per slot, only for connections that have any. Created at the first drop by the tracepoint, read by
/// the agent for a verdict, deleted by its sweep with the slot.
#[btf_map]
pub static DROPS: HashMap<u32, Drops, 1024> = HashMap::new();

/// Not 0: drops for this `enum skb_drop_reason` are of interest. Written by the loader, by names.
#[btf_map]
pub static DROP_REASONS: Array<u32, REASONS> = Array::new();

/// Counters of the tracepoints.
#[btf_map]
pub static TALLY: PerCpuArray<Tally, 1> = PerCpuArray::new();

/// Interfaces whose ingress is observed; written by the loader, looked up for forwarded packets only.
#[btf_map]
pub static INTERFACES: HashMap<u32, u32, 1024> = HashMap::new();

/// Number of sets in use.
#[unsafe(no_mangle)]
pub static SET_COUNT: Global<u32> = Global::new(64);

/// Half of the bytes of `EVENTS`; see `emit`.
#[unsafe(no_mangle)]
pub static RING_HALF: Global<u32> = Global::new(2097152);

/// Drawn at load.
#[unsafe(no_mangle)]
pub static HASH_KEYS: Global<HashKeys> = Global::new(HashKeys::ZERO);

/// Not 0: time comes from the map `CLOCK`, so that a test owns it. The verifier drops the branch otherwise.
#[unsafe(no_mangle)]
pub static TEST_CLOCK: Global<u32> = Global::new(0);

/// The time that a test gives, nanoseconds.
#[btf_map]
pub static CLOCK: Array<u64, 1> = Array::new();

/// Offsets of the running kernel's structures, from its BTF; see `monitor_common::abi::Offsets`.
#[unsafe(no_mangle)]
pub static OFFSETS: Global<Offsets> = Global::new(Offsets::UNKNOWN);

/// Inode number of the network namespace whose interfaces are watched: the same tuple elsewhere is another connection.
/// 0 takes every namespace's word.
#[unsafe(no_mangle)]
pub static NETNS: Global<u32> = Global::new(0);
