//! The eBPF object into the kernel, and onto interfaces.

use super::btf::Btf;
use super::facts::Names;
use super::object;
use aya::maps::{Array, MapData};
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader, VerifierLogLevel};
use monitor_common::abi::{Flow, NEIGHBOURS, Offsets, TableSet, WAYS};
use monitor_common::drops::{Drops, REASONS};
use monitor_common::event::FullEvent;
use monitor_common::evidence::Evidence;
use monitor_common::flow::HashKeys;
use monitor_common::tracker::state::Fault;

/// Table sizes, set before load.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Connections to hold at once; the table has half as many slots again, because sets fill unevenly.
    pub connections: u32,
    pub ring_bytes: u32,
}

impl Sizes {
    pub fn sets(&self) -> u32 {
        let slots = self.connections as u64 + self.connections as u64 / 2;
        (slots.div_ceil(WAYS as u64) as u32).next_multiple_of(NEIGHBOURS)
    }

    pub fn slots(&self) -> u32 {
        self.sets() * WAYS as u32
    }

    /// Connections that may have anomalies at once.
    pub fn evidence(&self) -> u32 {
        (self.connections / 4).max(1024)
    }

    /// Connections of which the kernel may have dropped segments at once.
    pub fn drops(&self) -> u32 {
        (self.connections / 8).max(1024)
    }

    /// Memory of the maps, bytes: as the kernel allocates them, all at load.
    pub fn bytes(&self) -> u64 {
        let per_slot = [size_of::<Flow>(), size_of::<[Fault; 2]>()].map(|value| (value, self.slots()));
        let arrays = [(size_of::<TableSet>(), self.sets()), per_slot[0], per_slot[1]];
        let arrays: u64 = arrays.iter().map(|(value, n)| pages(*value as u64 * *n as u64)).sum();
        let hashes = hash_bytes(size_of::<Evidence>(), self.evidence()) + hash_bytes(size_of::<Drops>(), self.drops());
        arrays + hashes + self.ring_bytes as u64
    }

    /// Of these, what each connection more costs, bytes.
    pub fn bytes_per_connection() -> u64 {
        let of = |connections| Sizes { connections, ring_bytes: 0 }.bytes();
        (of(2 << 20) - of(1 << 20)) >> 20
    }
}

fn pages(bytes: u64) -> u64 {
    bytes.next_multiple_of(4096)
}

/// A preallocated hash map with keys of four bytes: elements with a header of 48 bytes (`struct htab_elem`), and as many
/// buckets of 16 bytes as the next power of two (kernel/bpf/hashtab.c).
fn hash_bytes(value: usize, entries: u32) -> u64 {
    let element = 48 + 8 + (value as u64).next_multiple_of(8);
    pages(element * entries as u64) + pages(16 * entries.next_power_of_two() as u64)
}

/// Why the programs could not be loaded or attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("cannot load the eBPF object: {}", chain(.0))]
    Object(#[from] aya::EbpfError),
    #[error("program {name} is missing from the eBPF object")]
    Missing { name: &'static str },
    #[error("the kernel refuses program {name}: {}", chain(.source))]
    Program { name: &'static str, source: ProgramError },
    #[error("cannot attach to {interface} ({hook}): {}", chain(.source))]
    Attach { interface: String, hook: &'static str, source: ProgramError },
    #[error(
        "{interface} already has an XDP program ({owner}); whyrst never replaces one. Detach it, or leave {interface} out"
    )]
    Foreign { interface: String, owner: String },
    #[error("{interface}: {text}")]
    Interface { interface: String, text: String },
}

impl LoadError {
    /// The kernel refused for lack of privileges.
    pub fn is_permission(&self) -> bool {
        let source: &(dyn std::error::Error + 'static) = match self {
            LoadError::Object(e) => e,
            LoadError::Program { source, .. } | LoadError::Attach { source, .. } => source,
            _ => return false,
        };
        match errno(source) {
            Some(libc::EPERM) => true,
            // From loading a program it is the verifier's word about an access of the program.
            Some(libc::EACCES) => !matches!(self, LoadError::Program { .. }),
            _ => false,
        }
    }
}

/// The system's error number behind an error.
pub fn errno(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut source = Some(error);
    while let Some(e) = source {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return io.raw_os_error();
        }
        source = e.source();
    }
    None
}

/// An error and its sources on one line; the verifier's log, when there is one, comes last.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(e) = source {
        let more = e.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = e.source();
    }
    text
}

/// How a test owns the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    Kernel,
    /// From the map `CLOCK`.
    Test,
}

/// Loads the object's maps; programs follow one by one, because each is optional on some kernel.
///
/// `netns` is the inode number of the network namespace that is watched; 0 takes every namespace's word.
pub fn load(sizes: Sizes, clock: Clock, btf: Option<&Btf>, netns: u32, keys: HashKeys) -> Result<Ebpf, LoadError> {
    debug_assert!(size_of::<FullEvent>() < sizes.ring_bytes as usize);
    let sets = sizes.sets();
    let ring_half = sizes.ring_bytes / 2;
    let test_clock = u32::from(clock == Clock::Test);
    let offsets = btf.map_or(Offsets::UNKNOWN, Btf::offsets);
    let mut loader = EbpfLoader::new();
    // With debug logging a refusal comes with the instructions that led to it.
    let verbose = tracing::enabled!(tracing::Level::DEBUG);
    loader
        .verifier_log_level(
            if verbose { VerifierLogLevel::DEBUG } else { VerifierLogLevel::empty() } | VerifierLogLevel::STATS,
        )
        .override_global("SET_COUNT", &sets, true)
        .override_global("RING_HALF", &ring_half, true)
        .override_global("HASH_KEYS", bytemuck::bytes_of(&keys), true)
        .override_global("TEST_CLOCK", &test_clock, true)
        .override_global("OFFSETS", bytemuck::bytes_of(&offsets), true)
        .override_global("NETNS", &netns, true)
        .map_max_entries("SETS", sets)
        .map_max_entries("FLOWS", sizes.slots())
        .map_max_entries("FAULTS", sizes.slots())
        .map_max_entries("EVIDENCE", sizes.evidence())
        .map_max_entries("DROPS", sizes.drops())
        .map_max_entries("EVENTS", sizes.ring_bytes);
    Ok(loader.load(object::BYTES)?)
}

/// Tells the program for drops which of this kernel's reasons it should look at.
pub fn want_drops(ebpf: &mut Ebpf, names: &Names) -> Result<(), String> {
    let map = ebpf.map_mut("DROP_REASONS").ok_or("map DROP_REASONS is missing from the eBPF object")?;
    let mut map: Array<&mut MapData, u32> = Array::try_from(map).map_err(|e| chain(&e))?;
    for number in names.wanted_drops() {
        debug_assert!((number as usize) < REASONS);
        map.set(number, 1, 0).map_err(|e| chain(&e))?;
    }
    Ok(())
}

/// Whether frames of several buffers (jumbo frames) are seen by native XDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    Fragments,
    Linear,
}

/// Loads the program for XDP: with fragments where the kernel has them (5.18), else without.
pub fn load_xdp(ebpf: &mut Ebpf) -> Result<(Frames, &'static str), LoadError> {
    let xdp = program::<Xdp>(ebpf, "xdp_in")?;
    match xdp.load() {
        Ok(()) => Ok((Frames::Fragments, "xdp_in")),
        Err(first) => {
            let name = "xdp_in_linear";
            let xdp = program::<Xdp>(ebpf, name)?;
            match xdp.load() {
                Ok(()) => {
                    tracing::info!("no XDP fragments on this kernel ({})", chain(&first).lines().next().unwrap_or(""));
                    Ok((Frames::Linear, name))
                }
                Err(source) => Err(LoadError::Program { name, source }),
            }
        }
    }
}

pub fn program<'a, P>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program>,
{
    ebpf.program_mut(name).and_then(|p| <&mut P>::try_from(p).ok()).ok_or(LoadError::Missing { name })
}

/// Attaches the program for XDP in `mode` through a link that lives no longer than this process.
pub fn attach_xdp(
    ebpf: &mut Ebpf,
    program_name: &'static str,
    interface: &str,
    ifindex: u32,
    mode: XdpMode,
) -> Result<FdLink, LoadError> {
    let xdp = program::<Xdp>(ebpf, program_name)?;
    let id = xdp.attach_to_if_index(ifindex, mode).map_err(|source| LoadError::Attach {
        interface: interface.into(),
        hook: if mode == XdpMode::Driver { "native XDP" } else { "generic XDP" },
        source,
    })?;
    let link = xdp.take_link(id).map_err(|source| LoadError::Attach {
        interface: interface.into(),
        hook: "XDP link",
        source,
    })?;
    // aya falls back to netlink where links are refused with EINVAL; such a program would outlive us.
    FdLink::try_from(link).map_err(|_| LoadError::Interface {
        interface: interface.into(),
        text: "the kernel gives no BPF link for XDP here, so the program could stay behind after a crash".into(),
    })
}
