//! Segments of one connection that the local kernel dropped, added up by reason.
//!
//! The tracepoint for drops fires for every packet of the machine, so nothing is reported per drop: a connection has a
//! few places, one for each reason and speaker, and the agent reads them when a verdict on it is due.

use crate::seq::SeqNum;
use bytemuck::{Pod, Zeroable};

/// Reasons (by speaker) of one connection that are told apart.
pub const PLACES: usize = 6;

/// Reasons of `enum skb_drop_reason` that can be asked for are below it; what subsystems add is numbered from 65,536.
pub const REASONS: usize = 256;

/// Drops of one speaker's segments for one reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Dropped {
    pub first_ns: u64,
    pub last_ns: u64,
    /// 0: the place is free.
    pub count: u32,
    /// Sequence number of the last of them, host byte order.
    pub seq: SeqNum,
    /// Value of the running kernel's `enum skb_drop_reason`; names come from BTF.
    pub reason: u16,
    /// Who sent the segments: index of [`crate::flow::Direction`].
    pub speaker: u8,
    /// TCP flags of the last of them.
    pub flags: u8,
    /// The host itself was about to send the last of them.
    pub leaving: u8,
    pub pad: [u8; 3],
}

/// What was dropped of one connection. 208 bytes.
///
/// Two CPUs that drop segments of one connection at the same moment may lose one count of a place; the socket's lock
/// makes that rare, and no decision rests on the number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Drops {
    /// Which life of the slot it belongs to, as in [`crate::evidence::Evidence`].
    pub created_ns: u64,
    /// Drops for which all places were taken.
    pub other: u32,
    pub pad: u32,
    pub place: [Dropped; PLACES],
}

/// The segment that was dropped.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    pub reason: u16,
    pub speaker: u8,
    pub flags: u8,
    pub leaving: u8,
    pub seq: SeqNum,
}

impl Drops {
    /// Enters a drop. False when it is only counted, because other reasons have all places.
    #[inline(always)]
    pub fn enter(&mut self, s: &Segment, now_ns: u64) -> bool {
        let mut i = 0;
        while i < PLACES {
            let place = &mut self.place[i];
            if place.count == 0 {
                place.first_ns = now_ns;
                place.reason = s.reason;
                place.speaker = s.speaker;
            }
            if place.reason == s.reason && place.speaker == s.speaker {
                place.last_ns = now_ns;
                place.seq = s.seq;
                place.flags = s.flags;
                place.leaving = s.leaving;
                place.count = place.count.saturating_add(1);
                return true;
            }
            i += 1;
        }
        self.other = self.other.saturating_add(1);
        false
    }

    /// The places in use.
    pub fn taken(&self) -> impl Iterator<Item = &Dropped> {
        self.place.iter().filter(|p| p.count > 0)
    }
}

const _: () = {
    assert!(core::mem::size_of::<Dropped>() == 32);
    assert!(core::mem::size_of::<Drops>().is_multiple_of(8));
};

#[cfg(test)]
mod tests {
    use super::*;

    fn dropped(reason: u16, speaker: u8, seq: u32) -> Segment {
        Segment { reason, speaker, flags: 0x10, leaving: 0, seq: SeqNum(seq) }
    }

    #[test]
    fn drops_add_up_by_reason_and_speaker() {
        let mut d = Drops::default();
        assert!(d.enter(&dropped(7, 0, 100), 10));
        assert!(d.enter(&dropped(7, 1, 900), 20));
        assert!(d.enter(&dropped(7, 0, 300), 30));
        let of = |speaker| d.taken().find(|p| p.speaker == speaker).copied().unwrap_or_default();
        assert_eq!(d.taken().count(), 2);
        assert_eq!((of(0).count, of(0).first_ns, of(0).last_ns, of(0).seq), (2, 10, 30, SeqNum(300)));
        assert_eq!((of(1).count, of(1).first_ns, of(1).seq), (1, 20, SeqNum(900)));
        assert_eq!(d.other, 0);
    }

    #[test]
    fn a_reason_too_many_is_counted_and_takes_nobodys_place() {
        let mut d = Drops::default();
        for reason in 1..=PLACES as u16 {
            assert!(d.enter(&dropped(reason, 0, 0), 1));
        }
        let full = d;
        assert!(!d.enter(&dropped(99, 0, 0), 2));
        assert!(!d.enter(&dropped(1, 1, 0), 3));
        assert_eq!(d.other, 2);
        assert_eq!(d.place, full.place);
        // Those that have a place go on.
        assert!(d.enter(&dropped(PLACES as u16, 0, 5), 4));
        assert_eq!(d.place[PLACES - 1].count, 2);
    }

    #[test]
    fn counts_stop_at_the_top() {
        let mut d = Drops::default();
        d.enter(&dropped(1, 0, 0), 1);
        d.place[0].count = u32::MAX;
        d.enter(&dropped(1, 0, 0), 2);
        assert_eq!(d.place[0].count, u32::MAX);
    }
}
