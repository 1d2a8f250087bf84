//! The agent's programs, loaded by the agent's own loader.

use crate::player::{Hook, Play, Player};
use crate::programs;
use crate::statistics::Spread;
use crate::traffic::conversation::{Conversation, Ending};
use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::ProgramFd;
use monitor::capture::classifier::{self, Classifier, Side};
use monitor::capture::counters;
use monitor::capture::loader::{self, Clock, Sizes};
use monitor::snapshot::Counters;
use monitor_common::abi::Scratch;
use monitor_common::event::Ended;
use monitor_common::evidence::Evidence;
use monitor_common::flow::HashKeys;
use serde::Serialize;
use std::hint::black_box;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Instant;

/// The hash seed; fixed, so that two runs spread connections alike.
const SEED: u64 = 0x0123_4567_89ab_cdef;

pub struct Agent {
    ebpf: Ebpf,
    /// By hook.
    names: [&'static str; 3],
    /// What the verifier says of the programs.
    pub verified: Result<Vec<programs::Size>>,
    events: RingBuf<MapData>,
    scratch: PerCpuArray<MapData, Plain<Scratch>>,
    /// Tables in arrays that user space can map; all zeroes means empty.
    arrays: Vec<Mapped>,
    sets: u32,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T: Copy>(T);
// SAFETY: `Scratch` is bytemuck Pod.
unsafe impl aya::Pod for Plain<Scratch> {}
// SAFETY: `Evidence` is bytemuck Pod.
unsafe impl aya::Pod for Plain<Evidence> {}

impl Agent {
    pub fn load(sizes: Sizes) -> Result<Agent> {
        let sets = sizes.sets();
        let mut ebpf = loader::load(sizes, Clock::Kernel, None, 0, HashKeys::from_seed(SEED))?;
        let (_, xdp) = loader::load_xdp(&mut ebpf)?;
        let tc_in = classifier::load(&mut ebpf, Side::Ingress)?;
        let tc_out = classifier::load(&mut ebpf, Side::Egress)?;
        let sizes = programs::sizes(&ebpf, &[xdp, tc_in, tc_out]);
        let mut arrays = Vec::new();
        for (_, map) in ebpf.maps() {
            if let Map::Array(data) = map {
                arrays.extend(Mapped::new(data)?);
            }
        }
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("no map {name}"));
        let events = take("EVENTS")?.try_into()?;
        let scratch = take("SCRATCH")?.try_into()?;
        Ok(Agent { events, scratch, arrays, sets, ebpf, names: [xdp, tc_in, tc_out], verified: sizes })
    }

    /// Whose forwarded packets count as seen.
    pub fn watch(&mut self, interfaces: &[u32]) -> Result<()> {
        let map = self.ebpf.map_mut("INTERFACES").context("no map INTERFACES")?;
        let mut map: HashMap<&mut MapData, u32, u32> = map.try_into()?;
        for index in interfaces {
            map.insert(index, monitor_common::abi::interface::MONITORED, 0)?;
        }
        Ok(())
    }

    /// Attaches one of the TC programs in this thread's network namespace; dropped, it is gone.
    pub fn attach(&mut self, interface: &str, side: Side) -> Result<Classifier> {
        Ok(classifier::attach(&mut self.ebpf, interface, side)?)
    }

    pub fn program(&self, hook: Hook) -> Result<ProgramFd> {
        let name = self.names[hook as usize];
        Ok(self.ebpf.program(name).with_context(|| format!("no program {name}"))?.fd()?.try_clone()?)
    }

    /// What the running agent does after a walk over a table with so many entries.
    pub fn spread_for(&mut self, entries: u32) -> Result<()> {
        let map = self.ebpf.map_mut("SPREAD").context("no map SPREAD")?;
        let mut map: Array<&mut MapData, u32> = map.try_into()?;
        map.set(0, monitor_common::abi::spread(entries as usize, self.sets as usize), 0)?;
        Ok(())
    }

    /// Forgets every connection.
    pub fn clear(&mut self) -> Result<()> {
        self.arrays.iter_mut().for_each(Mapped::zero);
        let evidence = self.ebpf.map_mut("EVIDENCE").context("no map EVIDENCE")?;
        let mut evidence: HashMap<&mut MapData, u32, Plain<Evidence>> = evidence.try_into()?;
        let slots: Vec<u32> = evidence.keys().collect::<Result<_, _>>()?;
        for slot in slots {
            evidence.remove(&slot)?;
        }
        self.drain();
        Ok(())
    }

    /// Takes all events out of the ring buffer.
    pub fn drain(&mut self) -> u64 {
        let mut taken = 0;
        while self.events.next().is_some() {
            taken += 1;
        }
        taken
    }

    pub fn counters(&self) -> Result<Counters> {
        let read = |index| -> Result<Vec<Scratch>> { Ok(self.scratch.get(&index, 0)?.iter().map(|p| p.0).collect()) };
        Ok(counters::sum(&read(0)?, &read(1)?))
    }
}

/// An array map's values in this process.
struct Mapped {
    start: *mut libc::c_void,
    length: usize,
}

/// `BPF_F_MMAPABLE`.
const MMAPABLE: u32 = 1 << 10;

impl Mapped {
    /// None if the map cannot be mapped.
    fn new(data: &MapData) -> Result<Option<Mapped>> {
        let info = data.info()?;
        if info.map_flags() & MMAPABLE == 0 {
            return Ok(None);
        }
        let page = 4096;
        let length =
            (info.value_size().next_multiple_of(8) as usize * info.max_entries() as usize).next_multiple_of(page);
        let fd = data.fd().as_fd().as_raw_fd();
        // SAFETY: a new shared mapping of a map that allows it; nothing in this process relies on its content.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, fd, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error()).context("cannot map a table");
        }
        Ok(Some(Mapped { start, length }))
    }

    fn zero(&mut self) {
        // SAFETY: the mapping is this long and writable. The programs do not run meanwhile.
        unsafe { std::ptr::write_bytes(self.start.cast::<u8>(), 0, self.length) };
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: made by `new`, not used after.
        unsafe { libc::munmap(self.start, self.length) };
    }
}

/// How fast events come out of the ring buffer.
#[derive(Clone, Debug, Serialize)]
pub struct Reading {
    /// Of each event, with its header.
    pub bytes: usize,
    /// Of each round.
    pub per_second: Spread,
}

/// Takes events out and copies them, as the agent's own thread does.
pub fn reading(player: &mut Player, agent: &mut Agent, rounds: u32) -> Result<Reading> {
    const CONNECTIONS: u32 = 1024;
    let conversation = Conversation::reported(Ending::Close);
    player.conversation(&conversation)?;
    agent.clear()?;
    let mut play = Play::new(&conversation, CONNECTIONS, true);
    let program = agent.program(Hook::Xdp)?;
    let packets = conversation.frames.len() as u32 * CONNECTIONS;
    let (mut figures, mut bytes) = (Vec::new(), 0);
    for _ in 0..rounds * 10 {
        player.run(Hook::Xdp, &program, &mut play, packets)?;
        let start = Instant::now();
        let mut taken = 0u32;
        while let Some(item) = agent.events.next() {
            if let Some(event) = Ended::read(&item) {
                black_box(event);
                bytes = item.len();
                taken += 1;
            }
        }
        figures.push(f64::from(taken) / start.elapsed().as_secs_f64());
        ensure!(taken == CONNECTIONS, "{taken} events of {CONNECTIONS}");
    }
    Ok(Reading { bytes: bytes + 8, per_second: Spread::of(figures) })
}
