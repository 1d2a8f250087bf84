//! Observations of one segment, collected before they are weighed and reported.

use crate::anomaly::{Anomaly, Level};
use crate::flow::Direction;
use crate::seq::SeqNum;
use bytemuck::{Pod, Zeroable};
use core::ops::{Deref, DerefMut};

/// Most observations that one segment can make; further ones are counted.
pub const MAX_NOTES: usize = 8;

/// [`Note::flags`]: weighed as hard.
pub const HARD: u8 = 1;

/// One anomaly of one segment. `direction` is the speaker at fault, which for a settled candidate is not the
/// sender of the segment that settled it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Note {
    pub expected: SeqNum,
    pub actual: SeqNum,
    pub anomaly: u8,
    pub direction: u8,
    pub flags: u8,
    pub pad: u8,
}

/// [`Notes::effect`] of a segment that is no RST.
pub const NO_RESET: u8 = u8::MAX;

/// The observations of the segment at hand, and what it changed.
///
/// A struct in memory, also for what could be return values: in the kernel a constant that lives in a register
/// across the tracker (a phase, say) makes the verifier walk the tracker once for each of its values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Notes {
    pub note: [Note; MAX_NOTES],
    pub outcome: Outcome,
}

/// All but the notes themselves. Aligned, so that it is cleared by two stores: for what is not, LLVM calls a function that stores byte
/// by byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C, align(8))]
pub struct Outcome {
    pub count: u8,
    pub overflow: u8,
    /// Notes with [`HARD`] set.
    pub hard: u8,
    /// [`crate::tracker::close::Effect`] of a RST, else [`NO_RESET`].
    pub effect: u8,
    /// [`crate::tracker::state::Phase`] before and after the segment.
    pub before: u8,
    pub after: u8,
    /// [`crate::tracker::state::sync_state`] of both directions, a byte each, before and after.
    pub sync_before: [u8; 2],
    pub sync_after: [u8; 2],
    /// Bit for each note that was the first of its kind in the connection; filled by `Evidence::enter`.
    pub first: u8,
    /// One of those is hard.
    pub first_hard: u8,
    /// [`crate::event::identity`] of a RST, and of a segment that follows its speaker's effective RST.
    pub identity: u8,
    /// Not 0: the segment is one of the first after its speaker's effective RST.
    pub after_reset: u8,
    /// Not 0: the speaker's data is not acknowledged although the other end is heard; a reason to look, no fault.
    pub suspicion: u8,
    pub pad: u8,
}

impl Outcome {
    const NOTHING: Outcome = Outcome {
        count: 0,
        overflow: 0,
        hard: 0,
        effect: NO_RESET,
        before: 0,
        after: 0,
        sync_before: [0; 2],
        sync_after: [0; 2],
        first: 0,
        first_hard: 0,
        identity: 0,
        after_reset: 0,
        suspicion: 0,
        pad: 0,
    };
}

impl Deref for Notes {
    type Target = Outcome;

    #[inline(always)]
    fn deref(&self) -> &Outcome {
        &self.outcome
    }
}

impl DerefMut for Notes {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Outcome {
        &mut self.outcome
    }
}

impl Notes {
    #[inline(always)]
    pub fn clear(&mut self) {
        self.outcome = Outcome::NOTHING;
    }

    #[inline(always)]
    pub fn push(&mut self, anomaly: Anomaly, speaker: Direction, expected: SeqNum, actual: SeqNum) {
        let hard = matches!(anomaly.level(), Level::Hard);
        self.push_weighed(anomaly, speaker, expected, actual, hard);
    }

    /// For the few anomalies whose weight depends on the numbers.
    #[inline(always)]
    pub fn push_weighed(&mut self, anomaly: Anomaly, speaker: Direction, expected: SeqNum, actual: SeqNum, hard: bool) {
        let i = self.count as usize;
        if i >= MAX_NOTES {
            self.overflow = self.overflow.saturating_add(1);
            return;
        }
        let note = &mut self.note[i & (MAX_NOTES - 1)];
        note.expected = expected;
        note.actual = actual;
        note.anomaly = anomaly as u8;
        note.direction = speaker as u8;
        note.flags = if hard { HARD } else { 0 };
        note.pad = 0;
        self.count = i as u8 + 1;
        self.hard += hard as u8;
    }

    pub fn iter(&self) -> impl Iterator<Item = &Note> {
        self.note.iter().take(self.count as usize)
    }
}
