//! The only place that touches raw packet pointers.

use monitor_common::parse::{Bytes, View};

/// The linear part of a packet.
#[derive(Clone, Copy)]
pub struct Raw {
    start: usize,
    end: usize,
    cell: *mut u32,
}

impl Raw {
    /// `start` and `end` are the context's `data` and `data_end`; `cell` is map memory to forget numbers through.
    #[inline(always)]
    pub fn new(start: usize, end: usize, cell: *mut u32) -> Raw {
        Raw { start, end, cell }
    }
}

/// Bytes whose bounds were checked.
#[derive(Clone, Copy)]
pub struct Piece(*const u8);

impl Bytes for Raw {
    type View = Piece;
    #[inline(always)]
    fn at(self, offset: usize, len: usize) -> Option<Piece> {
        let from = self.start + offset;
        if from + len > self.end { None } else { Some(Piece(from as *const u8)) }
    }

    #[inline(always)]
    fn forget(self, number: u32, mask: u32) -> u32 {
        // SAFETY: the cell is a field of a map value that outlives the program's run. The verifier does not follow
        // what map memory holds.
        unsafe {
            core::ptr::write_volatile(self.cell, number);
            core::ptr::read_volatile(self.cell) & mask
        }
    }
}

impl View for Piece {
    #[inline(always)]
    fn byte(self, offset: usize) -> u8 {
        // SAFETY: `Raw::at` checked the bounds, and the verifier refuses any read that it did not.
        unsafe { *self.0.add(offset) }
    }
    #[inline(always)]
    fn be16(self, offset: usize) -> u16 {
        // SAFETY: as above. The pointer may be unaligned; BPF loads from packets may be, and a byte-wise read would
        // cost three instructions a byte.
        u16::from_be(unsafe { *self.0.add(offset).cast::<u16>() })
    }
    #[inline(always)]
    fn be32(self, offset: usize) -> u32 {
        // SAFETY: as for be16.
        u32::from_be(unsafe { *self.0.add(offset).cast::<u32>() })
    }
}
