//! What came after the first effective RST of a connection: whether its claimed sender still lives, and what answered.

use monitor_common::flow::Direction;
use monitor_common::recorder::Record;
use monitor_common::segment::flags;
use monitor_common::tracker::SECOND;
use monitor_common::tracker::close::Effect;

/// How long what follows a RST bears on it: T of DIAGNOSIS 4.1.
pub const LATER_NS: u64 = 2 * SECOND;
/// Segments kept. A RST's claimed sender is reported three times at most, further RSTs four times an
/// end, each report and the table with the last eight headers of both.
const MOST: usize = 64;

/// Segments after the first effective RST, both ends, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Later {
    pub segments: Vec<Followed>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Followed {
    pub speaker: Direction,
    pub record: Record,
    /// Bits of a RST's identity, as [`crate::history::History::identity`].
    pub identity: u8,
    /// What a RST does at its receiver; none for other segments.
    pub effect: Option<Effect>,
}

impl Later {
    /// Takes in a segment, once: reports overlap.
    pub fn add(&mut self, new: Followed) {
        let same = |f: &&mut Followed| f.speaker == new.speaker && f.record == new.record;
        if let Some(known) = self.segments.iter_mut().find(same) {
            known.identity |= new.identity;
            known.effect = known.effect.or(new.effect);
            return;
        }
        if self.segments.len() < MOST {
            let at = self.segments.partition_point(|f| f.record.time_ns <= new.record.time_ns);
            self.segments.insert(at, new);
        }
    }

    pub fn resets(&self) -> impl Iterator<Item = &Followed> {
        self.segments.iter().filter(|f| f.record.flags & flags::RST != 0)
    }

    /// All but RSTs.
    pub fn of(&self, speaker: Direction) -> impl Iterator<Item = &Record> {
        self.segments
            .iter()
            .filter(move |f| f.speaker == speaker && f.record.flags & flags::RST == 0)
            .map(|f| &f.record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(time_ns: u64, effect: Option<Effect>) -> Followed {
        let record = Record { time_ns, ..Record::default() };
        Followed { speaker: Direction::Forward, record, identity: 0, effect }
    }

    #[test]
    fn what_is_reported_twice_is_kept_once_and_in_order() {
        let mut later = Later::default();
        later.add(followed(7, None));
        later.add(followed(3, None));
        later.add(followed(7, Some(Effect::Exact)));
        let times: Vec<u64> = later.segments.iter().map(|f| f.record.time_ns).collect();
        assert_eq!(times, [3, 7]);
        assert_eq!(later.segments[1].effect, Some(Effect::Exact));
    }

    #[test]
    fn it_is_bounded() {
        let mut later = Later::default();
        (0..1000).for_each(|n| later.add(followed(n, None)));
        assert_eq!(later.segments.len(), MOST);
    }
}
