//! What a connection did wrong: one entry per anomaly and direction.

use crate::anomaly::ANOMALY_SLOTS;
use crate::flow::Direction;
use crate::seq::SeqNum;
use crate::tracker::notes::{HARD, Note, Notes};
use bytemuck::{Pod, Zeroable};
use core::hint::black_box as hide;

/// Entries per writer; the last [`RESERVED`] are kept for hard anomalies.
pub const ENTRIES: usize = 16;
pub const RESERVED: usize = 6;

/// Count and span of one anomaly; the numbers are those of its first occurrence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Entry {
    pub first_ns: u64,
    pub last_ns: u64,
    pub count: u32,
    pub expected: SeqNum,
    pub actual: SeqNum,
    pub anomaly: u8,
    pub direction: u8,
    pub flags: u8,
    pub pad: u8,
}

/// Entries written while segments of one speaker were processed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Ledger {
    pub entry: [Entry; ENTRIES],
    /// Number of the entry, from 1, by anomaly and direction; 0: none. A search would be a loop in a loop, which costs
    /// the verifier more than the whole tracker.
    pub index: [u8; 2 * ANOMALY_SLOTS],
    pub used: u32,
    /// Notes that found no room.
    pub lost: u32,
}

/// Evidence of one connection; a ledger per writing speaker, for the reason given at [`crate::tracker::state`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Evidence {
    /// [`crate::tracker::state::Connection::created_ns`] of the connection that it belongs to.
    pub created_ns: u64,
    pub ledger: [Ledger; 2],
}

impl Default for Evidence {
    fn default() -> Evidence {
        bytemuck::Zeroable::zeroed()
    }
}

impl Evidence {
    /// Enters the notes of a segment that `writer` sent, and marks those that are the first of their kind.
    #[inline(always)]
    pub fn enter(&mut self, writer: Direction, notes: &mut Notes, now_ns: u64) {
        let ledger = &mut self.ledger[writer.index()];
        let mut i = 0;
        while i < notes.note.len() {
            if i >= notes.count as usize {
                break;
            }
            let note = notes.note[i];
            if ledger.enter(&note, now_ns) {
                notes.first |= 1 << i;
                if note.flags & HARD != 0 {
                    notes.first_hard = 1;
                }
            }
            i += 1;
        }
    }

    /// All entries, both writers.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.ledger.iter().flat_map(|l| l.entry.iter().take((l.used as usize).min(ENTRIES)))
    }
}

impl Ledger {
    #[inline(always)]
    fn enter(&mut self, note: &Note, now_ns: u64) -> bool {
        let key = (note.anomaly as usize & (ANOMALY_SLOTS - 1)) | ((note.direction as usize & 1) * ANOMALY_SLOTS);
        // verifier: 6.1 knows no bound of a number that two were or-ed into, and LLVM drops a mask that it can prove
        // to be without effect. What it cannot see through it keeps.
        let key = hide(key) & (2 * ANOMALY_SLOTS - 1);
        let known = self.index[key] as usize;
        if known > 0 {
            let e = &mut self.entry[hide(known.wrapping_sub(1)) & (ENTRIES - 1)];
            e.count = e.count.wrapping_add(1);
            e.last_ns = now_ns;
            e.flags |= note.flags;
            return false;
        }
        let used = self.used as usize;
        let room = if note.flags & HARD != 0 { ENTRIES } else { ENTRIES - RESERVED };
        if used >= room {
            self.lost = self.lost.wrapping_add(1);
            return false;
        }
        let e = &mut self.entry[hide(used) & (ENTRIES - 1)];
        e.first_ns = now_ns;
        e.last_ns = now_ns;
        e.count = 1;
        e.expected = note.expected;
        e.actual = note.actual;
        e.anomaly = note.anomaly;
        e.direction = note.direction;
        e.flags = note.flags;
        e.pad = 0;
        self.index[key] = used as u8 + 1;
        self.used = used as u32 + 1;
        true
    }
}
