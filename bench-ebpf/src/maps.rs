//! Sizes here are placeholders; the benchmark sets them when it loads the object.

use crate::floor::{Area, Key, Long, State};
use crate::player::{Frame, Play};
use aya_ebpf::btf_maps::{Array, HashMap, PerCpuArray, ProgramArray, RingBuf};
use aya_ebpf::macros::btf_map;

/// The floor's connections: as many as the agent's table has slots.
#[btf_map]
pub static TABLE: HashMap<Key, State, 1024> = HashMap::new();

/// What is inserted.
#[btf_map]
pub static NEW: Array<State, 1> = Array::new();

/// The same for the floor with last headers.
#[btf_map]
pub static LONG_TABLE: HashMap<Key, Long, 1024> = HashMap::new();

#[btf_map]
pub static LONG_NEW: Array<Long, 1> = Array::new();

/// As many as it has connections.
#[btf_map]
pub static AREAS: Array<Area, 1024> = Array::new();

/// Index 0: keys not found, 1: inserts refused, 2: events that found no room, 3: the last of [`AREAS`] that was given to a connection.
#[btf_map]
pub static COUNTS: PerCpuArray<u64, 4> = PerCpuArray::new();

/// What events are written to.
#[btf_map]
pub static RING: RingBuf<u64, 1048576> = RingBuf::new();

/// The packets of the conversation that is played.
#[btf_map]
pub static FRAMES: Array<Frame, 1> = Array::new();

/// How it is played, and how far.
#[btf_map]
pub static PLAY: Array<Play, 1> = Array::new();

/// The program under test; one array per kind, because all programs of an array must be of one kind.
#[btf_map]
pub static X_NEXT: ProgramArray<1> = ProgramArray::new();

#[btf_map]
pub static T_NEXT: ProgramArray<1> = ProgramArray::new();
