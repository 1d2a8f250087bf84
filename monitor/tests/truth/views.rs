//! What different observers see of the same packets. Deterministic: a view of a capture is the same in each run.

use crate::datagram::Datagram;
use crate::model::Rng;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    Full,
    /// Without any SYN.
    WithoutHandshakes,
    /// From this part of the capture on, in per cent of its packets.
    From(u8),
    /// Only what the client (or server) sends.
    OneWay {
        server: bool,
    },
    /// Packets are missing here that went on to their receivers.
    Thinned {
        per_mille: u16,
        seed: u8,
    },
    /// Both at once, as of a monitor port under load that was attached late.
    LateAndThinned,
}

impl View {
    pub const ALL: [View; 13] = [
        View::Full,
        View::WithoutHandshakes,
        View::From(20),
        View::From(55),
        View::OneWay { server: false },
        View::OneWay { server: true },
        View::Thinned { per_mille: 10, seed: 1 },
        View::Thinned { per_mille: 10, seed: 2 },
        View::Thinned { per_mille: 10, seed: 3 },
        View::Thinned { per_mille: 100, seed: 4 },
        View::Thinned { per_mille: 100, seed: 5 },
        View::Thinned { per_mille: 100, seed: 6 },
        View::LateAndThinned,
    ];
}

pub fn of(all: &[Datagram], view: View) -> Vec<&Datagram> {
    let thinned = |all: &[Datagram], per_mille: u16, seed: u64| -> Vec<usize> {
        let mut rng = Rng::new(seed.wrapping_mul(1_000_003) ^ all.len() as u64);
        (0..all.len()).filter(|_| !rng.chance(u64::from(per_mille))).collect()
    };
    let late = |percent: u8| all.len() * usize::from(percent) / 100;
    match view {
        View::Full => all.iter().collect(),
        View::WithoutHandshakes => all.iter().filter(|d| !d.is_syn()).collect(),
        View::From(percent) => all[late(percent)..].iter().collect(),
        View::OneWay { server } => all.iter().filter(|d| d.server() == server).collect(),
        View::Thinned { per_mille, seed } => {
            thinned(all, per_mille, u64::from(seed)).into_iter().map(|i| &all[i]).collect()
        }
        View::LateAndThinned => {
            let rest = &all[late(10)..];
            thinned(rest, 50, 7).into_iter().map(|i| &rest[i]).collect()
        }
    }
}
