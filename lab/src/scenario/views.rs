//! Poorer copies of a capture: what somebody would have who started late, saw one way only, or whose
//! capture lost packets. A verdict may become weaker by that, never wrong.

use std::path::Path;

use crate::error::{During, LabError};
use crate::frame::Segment;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variation {
    Whole,
    /// Without the first so many percent of the packets.
    From(u8),
    /// Only what the client sent, or only what the server sent.
    OnlyClient,
    OnlyServer,
    /// Without so many percent of the packets, chosen by chance with this seed.
    Thinned {
        percent: u8,
        seed: u32,
    },
}

impl Variation {
    pub fn name(self) -> String {
        match self {
            Self::Whole => "whole".into(),
            Self::From(percent) => format!("from {percent} % on"),
            Self::OnlyClient => "client to server only".into(),
            Self::OnlyServer => "server to client only".into(),
            Self::Thinned { percent, seed } => format!("{percent} % missing, seed {seed}"),
        }
    }
}

const FILE_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;

/// Writes the poorer copy. `server_port` tells the two ways apart.
pub fn vary(from: &Path, to: &Path, variation: Variation, server_port: u16) -> Result<(), LabError> {
    let bytes = std::fs::read(from).during(format!("read {}", from.display()))?;
    let records = records(&bytes)?;
    let total = records.len();
    let mut chance = Chance::new(match variation {
        Variation::Thinned { seed, .. } => seed,
        _ => 1,
    });
    let mut out = bytes[..FILE_HEADER].to_vec();
    for (index, record) in records.into_iter().enumerate() {
        let keep = match variation {
            Variation::Whole => true,
            Variation::From(percent) => index * 100 >= total * usize::from(percent),
            Variation::OnlyClient => sender_port(record).is_none_or(|port| port != server_port),
            Variation::OnlyServer => sender_port(record).is_none_or(|port| port == server_port),
            Variation::Thinned { percent, .. } => !chance.hits(u32::from(percent), 100),
        };
        if keep {
            out.extend_from_slice(record);
        }
    }
    std::fs::write(to, out).during(format!("write {}", to.display()))
}

/// Records with their headers, of a file of [`crate::capture`].
fn records(bytes: &[u8]) -> Result<Vec<&[u8]>, LabError> {
    let cut = || LabError::Plot("a capture of ours is cut short".into());
    let mut rest = bytes.get(FILE_HEADER..).ok_or_else(cut)?;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let length = rest.get(8..12).and_then(|field| field.try_into().ok()).map(u32::from_le_bytes).ok_or_else(cut)?;
        let (record, behind) = rest.split_at_checked(RECORD_HEADER + length as usize).ok_or_else(cut)?;
        records.push(record);
        rest = behind;
    }
    Ok(records)
}

fn sender_port(record: &[u8]) -> Option<u16> {
    Segment::from_frame(&record[RECORD_HEADER..]).map(|segment| segment.source.port())
}

/// Numbers that look random and are the same in every run (Marsaglia's xorshift).
#[derive(Clone, Debug)]
pub struct Chance(u32);

impl Chance {
    /// The state must not be zero, where the generator would stay.
    pub fn new(seed: u32) -> Self {
        Self(seed.wrapping_mul(2_654_435_769) | 1)
    }

    pub fn draw(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 17;
        self.0 ^= self.0 << 5;
        self.0
    }

    /// True `part` times of `whole`.
    pub fn hits(&mut self, part: u32, whole: u32) -> bool {
        self.draw() % whole < part
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture;

    #[test]
    fn chance_is_fair_and_repeats_itself() {
        let (mut one, mut two) = (Chance::new(7), Chance::new(7));
        let hits = (0..10_000).filter(|_| one.hits(1, 100)).count();
        assert!((50..200).contains(&hits), "{hits}");
        assert_eq!(hits, (0..10_000).filter(|_| two.hits(1, 100)).count());
    }

    #[test]
    fn a_copy_has_only_what_was_kept() {
        let folder = std::env::temp_dir().join(format!("whyrst-lab-views-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (from, to) = (folder.join("from.pcap"), folder.join("to.pcap"));
        let mut file = capture::file_header(100).to_vec();
        for number in 0..10u8 {
            file.extend(capture::record(1, 2, 3, 3));
            file.extend([number; 3]);
        }
        std::fs::write(&from, &file).unwrap();
        vary(&from, &to, Variation::Whole, 1).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), file);
        vary(&from, &to, Variation::From(30), 1).unwrap();
        let late = std::fs::read(&to).unwrap();
        assert_eq!(late.len(), FILE_HEADER + 7 * (RECORD_HEADER + 3));
        assert_eq!(late[FILE_HEADER + RECORD_HEADER], 3);
        std::fs::write(&from, &file[..file.len() - 1]).unwrap();
        assert!(vary(&from, &to, Variation::Whole, 1).is_err());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
