//! The loaded programs without an interface, for tests of load: packets come from a [`Player`], time from the test.

use super::classifier::{self, Side};
use super::counters;
use super::loader::{self, Clock, LoadError, Sizes};
use super::player::{self, Kind, Player, Script};
use super::table::Table;
use crate::snapshot::Counters;
use aya::Ebpf;
use aya::maps::{Array, HashMap, IterableMap, MapData, PerCpuArray, RingBuf};
use aya::programs::{SchedClassifier, Xdp};
use monitor_common::abi::Scratch;
use monitor_common::evidence::Evidence;
use monitor_common::flow::HashKeys;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

const SEED: u64 = 0x0123_4567_89ab_cdef;

#[derive(Debug, thiserror::Error)]
pub enum BedError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("map {0} is missing or of another type")]
    Map(&'static str),
    #[error("{what}: {source}")]
    System { what: &'static str, source: io::Error },
}

/// A newtype that aya may copy from maps.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);
// SAFETY: `Scratch` is bytemuck Pod.
unsafe impl aya::Pod for Plain<Scratch> {}
// SAFETY: `Evidence` is bytemuck Pod.
unsafe impl aya::Pod for Plain<Evidence> {}

pub struct Bed {
    ebpf: Ebpf,
    ingress: &'static str,
    clock: Array<MapData, u64>,
    scratch: PerCpuArray<MapData, Plain<Scratch>>,
    evidence: HashMap<MapData, u32, Plain<Evidence>>,
    pub events: RingBuf<MapData>,
    pub table: Arc<Table>,
}

impl Bed {
    pub fn new(sizes: Sizes) -> Result<Bed, BedError> {
        let mut ebpf = loader::load(sizes, Clock::Test, None, 0, HashKeys::from_seed(SEED))?;
        let (_, ingress) = loader::load_xdp(&mut ebpf)?;
        classifier::load(&mut ebpf, Side::Egress)?;
        let table = Table::take(&mut ebpf, sizes.sets())
            .map_err(|source| BedError::System { what: "cannot map the table", source })?;
        let mut bed = Bed {
            clock: take(&mut ebpf, "CLOCK")?,
            scratch: take(&mut ebpf, "SCRATCH")?,
            evidence: take(&mut ebpf, "EVIDENCE")?,
            events: take(&mut ebpf, "EVENTS")?,
            ebpf,
            ingress,
            table: Arc::new(table),
        };
        bed.set_time(1_000_000_000)?;
        Ok(bed)
    }

    pub fn set_time(&mut self, now_ns: u64) -> Result<(), BedError> {
        let failed = |e| BedError::System { what: "cannot set the clock", source: io::Error::other(e) };
        self.clock.set(0, now_ns, 0).map_err(failed)
    }

    pub fn time(&self) -> Result<u64, BedError> {
        let failed = |e| BedError::System { what: "cannot read the clock", source: io::Error::other(e) };
        self.clock.get(&0, 0).map_err(failed)
    }

    pub fn program(&mut self, kind: Kind) -> Result<BorrowedFd<'_>, BedError> {
        let failed = |e| BedError::System { what: "a program has no descriptor", source: io::Error::other(e) };
        Ok(match kind {
            Kind::Xdp => loader::program::<Xdp>(&mut self.ebpf, self.ingress)?.fd().map_err(failed)?.as_fd(),
            Kind::Classifier => {
                loader::program::<SchedClassifier>(&mut self.ebpf, "tc_out")?.fd().map_err(failed)?.as_fd()
            }
        })
    }

    /// Something that plays `script` through the program of this hook.
    pub fn player(&mut self, kind: Kind, script: Script) -> Result<Player, BedError> {
        let failed = |what| move |source| BedError::System { what, source };
        let clock = self.clock.map().fd().as_fd().try_clone_to_owned().map_err(failed("cannot copy a descriptor"))?;
        let program = self.program(kind)?;
        Player::new(kind, script, program, Some(clock.as_fd())).map_err(failed("cannot load the player"))
    }

    /// One frame, now.
    pub fn frame(&mut self, kind: Kind, frame: &[u8]) -> Result<(), BedError> {
        let program = self.program(kind)?;
        let failed = |source| BedError::System { what: "a test run", source };
        player::run_once(program, frame).map(drop).map_err(failed)
    }

    /// Sums of both hooks.
    pub fn counters(&self) -> Counters {
        let read = |index: u32| -> Vec<Scratch> {
            self.scratch.get(&index, 0).map(|v| v.iter().map(|p| p.0).collect()).unwrap_or_default()
        };
        counters::sum(&read(0), &read(1))
    }

    pub fn evidence(&self, slot: u32) -> Option<Evidence> {
        self.evidence.get(&slot, 0).ok().map(|p| p.0)
    }
}

fn take<M: TryFrom<aya::maps::Map>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, BedError> {
    ebpf.take_map(name).and_then(|m| M::try_from(m).ok()).ok_or(BedError::Map(name))
}
