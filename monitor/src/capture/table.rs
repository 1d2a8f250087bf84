//! The kernel's connection table, mapped into this process.
//!
//! Reads are racy copies of plain integers, as the kernel programs' own reads are (see the note on two CPUs in
//! `monitor-ebpf/src/maps.rs`). Freeing an entry takes the set's try-lock, with the same protocol as in the kernel.

use aya::maps::MapData;
use monitor_common::abi::{self, Flow, TableSet, WAYS};
use monitor_common::recorder::Recorder;
use monitor_common::tracker::state::{Connection, Fault};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, Ordering};

/// A memory-mapped array map.
struct Mapping<T> {
    start: *mut T,
    len: usize,
    bytes: usize,
}

// SAFETY: the mapping is shared memory that lives until drop; values are copied out volatile, never referenced.
unsafe impl<T> Send for Mapping<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Mapping<T> {}

impl<T: bytemuck::Pod> Mapping<T> {
    fn new(map: &MapData, len: usize) -> io::Result<Mapping<T>> {
        // Array elements lie at multiples of eight bytes (array_map_alloc in kernel/bpf/arraymap.c).
        assert!(size_of::<T>().is_multiple_of(8), "map values are padded to eight bytes");
        let bytes = size_of::<T>() * len;
        // SAFETY: a fresh shared mapping of the map's own memory; the kernel refuses it if the map is smaller.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { start: start.cast(), len, bytes })
    }

    fn at(&self, index: usize) -> *mut T {
        assert!(index < self.len, "index {index} of {}", self.len);
        // SAFETY: inside the mapping.
        unsafe { self.start.add(index) }
    }

    /// A copy, which a concurrent writer may have changed halfway.
    fn read(&self, index: usize) -> T {
        // SAFETY: inside the mapping, and any bytes are a valid T.
        unsafe { std::ptr::read_volatile(self.at(index)) }
    }
}

impl<T> Drop for Mapping<T> {
    fn drop(&mut self) {
        // SAFETY: made by mmap with this length.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// The table.
pub struct Table {
    sets: Mapping<TableSet>,
    flows: Mapping<Flow>,
    faults: Mapping<[Fault; 2]>,
    spread: Mapping<u64>,
}

impl Table {
    /// Takes the table's maps out of a loaded object.
    pub fn take(ebpf: &mut aya::Ebpf, set_count: u32) -> io::Result<Table> {
        let mut map = |name: &str| match ebpf.take_map(name) {
            Some(aya::maps::Map::Array(data)) => Ok(data),
            _ => Err(io::Error::other(format!("map {name} is missing from the eBPF object"))),
        };
        let (sets, flows, faults, spread) = (map("SETS")?, map("FLOWS")?, map("FAULTS")?, map("SPREAD")?);
        let slots = set_count as usize * WAYS;
        Ok(Table {
            sets: Mapping::new(&sets, set_count as usize)?,
            flows: Mapping::new(&flows, slots)?,
            faults: Mapping::new(&faults, slots)?,
            // A value of four bytes takes eight.
            spread: Mapping::new(&spread, 1)?,
        })
    }

    /// Lets the programs search and place as is best for so many entries.
    pub fn spread_for(&self, entries: usize) {
        let spread = abi::spread(entries, self.set_count());
        // SAFETY: inside the mapping, aligned; the programs read the word as a whole.
        unsafe { AtomicU32::from_ptr(self.spread.at(0).cast()) }.store(spread, Ordering::Relaxed);
    }

    pub fn set_count(&self) -> usize {
        self.sets.len
    }

    pub fn capacity(&self) -> usize {
        self.flows.len
    }

    /// Slots in use of one set.
    pub fn used(&self, set: usize) -> impl Iterator<Item = u32> + use<> {
        self.classes(set).map(|(slot, _)| slot)
    }

    /// The same with what each is worth, [`monitor_common::abi::class`].
    pub fn classes(&self, set: usize) -> impl Iterator<Item = (u32, u8)> + use<> {
        let TableSet { tag, class, .. } = self.sets.read(set);
        let sets = self.sets.len as u32;
        (0..WAYS)
            .filter(move |way| tag[*way] != 0)
            .map(move |way| (abi::slot(set as u32, way as u32, sets), class[way]))
    }

    pub fn connection(&self, slot: u32) -> Connection {
        // SAFETY: a field of an entry inside the mapping, and any bytes are valid.
        let mut core = unsafe { std::ptr::read_volatile(&raw const (*self.flows.at(slot as usize)).core) };
        let fault = if core.is_bare() { <[Fault; 2]>::default() } else { self.faults.read(slot as usize) };
        core.detach();
        Connection { core, fault }
    }

    pub fn recorder(&self, slot: u32) -> Recorder {
        // SAFETY: as above.
        unsafe { std::ptr::read_volatile(&raw const (*self.flows.at(slot as usize)).recorder) }
    }

    /// Every connection in the table.
    pub fn connections(&self) -> impl Iterator<Item = (u32, Connection)> + '_ {
        (0..self.set_count()).flat_map(|set| self.used(set)).map(|slot| (slot, self.connection(slot)))
    }

    /// Frees a slot if it still is the connection that began at `created_ns`. False when another CPU holds the set;
    /// the next sweep comes back to it.
    pub fn free(&self, slot: u32, created_ns: u64) -> bool {
        let (set, way) = abi::set_and_way(slot, self.sets.len as u32);
        let set = self.sets.at(set as usize);
        // SAFETY: fields of a set inside the mapping, aligned as in the kernel, touched only atomically here.
        let (lock, tag, class) = unsafe {
            (
                AtomicU32::from_ptr(&raw mut (*set).lock),
                AtomicU16::from_ptr((&raw mut (*set).tag).cast::<u16>().add(way as usize)),
                AtomicU8::from_ptr((&raw mut (*set).class).cast::<u8>().add(way as usize)),
            )
        };
        // Whoever then reads one holds it: see `try_lock` in monitor-ebpf/src/table.rs.
        let held = lock.fetch_add(1, Ordering::SeqCst) == 0;
        let ours = held && self.connection(slot).created_ns == created_ns;
        if ours {
            tag.store(0, Ordering::SeqCst);
            class.store(0, Ordering::SeqCst);
        }
        lock.fetch_sub(1, Ordering::SeqCst);
        ours
    }
}
