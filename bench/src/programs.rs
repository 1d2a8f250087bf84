//! How large the agent's programs are for the verifier.

use anyhow::{Context, Result, bail};
use aya::Ebpf;
use aya::maps::Map;
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd, bpf_prog_type};
use aya_obj::{Object, ProgramSection};
use monitor::capture::object;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What the verifier says of one program.
#[derive(Clone, Debug, Serialize)]
pub struct Size {
    pub program: String,
    /// Instructions that it walked, over all paths.
    pub verified: u32,
    /// Bytes of stack; of functions called too, separated by `+`.
    pub stack: String,
}

/// Descriptors of the loaded maps by name; to be asked for before any is taken.
pub fn maps(ebpf: &Ebpf) -> HashMap<String, RawFd> {
    let fd = |map: &Map| match map {
        Map::Array(d)
        | Map::HashMap(d)
        | Map::LruHashMap(d)
        | Map::PerCpuArray(d)
        | Map::PerCpuHashMap(d)
        | Map::ProgramArray(d)
        | Map::PerfEventArray(d)
        | Map::RingBuf(d) => Some(d.fd().as_fd().as_raw_fd()),
        _ => None,
    };
    ebpf.maps().filter_map(|(name, map)| Some((name.to_string(), fd(map)?))).collect()
}

/// Loads each of the agent's packet programs once more, with the same maps, for the verifier's statistics.
pub fn sizes(maps: &HashMap<String, RawFd>, names: &[&str]) -> Result<Vec<Size>> {
    let mut object = Object::parse(object::BYTES)?;
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let known: Vec<_> = object.maps.iter().map(|(name, map)| (name.clone(), map.clone())).collect();
    let with_fd = known.iter().filter_map(|(name, map)| Some((name.as_str(), *maps.get(name)?, map)));
    object.relocate_maps(with_fd, &text)?;
    object.relocate_calls(&text)?;
    names.iter().map(|name| size(&object, name).with_context(|| format!("program {name}"))).collect()
}

/// `BPF_F_XDP_HAS_FRAGS`.
const FRAGS: u32 = 1 << 5;
/// `BPF_LOG_STATS`.
const STATS: u32 = 4;

fn size(object: &Object, name: &str) -> Result<Size> {
    let program = object.programs.get(name).context("is not in the object")?;
    let function = object.functions.get(&program.function_key()).context("has no code")?;
    let (kind, attach, flags) = match program.section {
        ProgramSection::Xdp { frags, .. } => {
            (bpf_prog_type::BPF_PROG_TYPE_XDP, bpf_attach_type::BPF_XDP as u32, if frags { FRAGS } else { 0 })
        }
        ProgramSection::SchedClassifier => (bpf_prog_type::BPF_PROG_TYPE_SCHED_CLS, 0, 0),
        _ => bail!("is neither XDP nor a classifier"),
    };
    let mut log = vec![0u8; 64 << 10];
    // SAFETY: all zeroes is valid for this union of integers.
    let mut attr = unsafe { std::mem::zeroed::<bpf_attr>() };
    // SAFETY: the fields of BPF_PROG_LOAD, in an otherwise zeroed union.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = kind as u32;
    load.expected_attach_type = attach;
    load.prog_flags = flags;
    load.insns = function.instructions.as_ptr() as u64;
    load.insn_cnt = function.instructions.len() as u32;
    load.license = program.license.as_ptr() as u64;
    load.log_level = STATS;
    load.log_buf = log.as_mut_ptr() as u64;
    load.log_size = log.len() as u32;
    // SAFETY: instructions, licence and log live until the call returns, and their lengths are told.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_PROG_LOAD as libc::c_long, &mut attr, size_of::<bpf_attr>())
    };
    let error = std::io::Error::last_os_error();
    let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    if fd < 0 {
        bail!("the kernel refuses it ({error}): {text}");
    }
    // SAFETY: a new descriptor that nobody else has.
    drop(unsafe { OwnedFd::from_raw_fd(fd as RawFd) });
    parse(name, &text).with_context(|| format!("cannot read the verifier's statistics: {text}"))
}

/// `stack depth 416+0` and `processed 287413 insns (limit 1000000) ...`.
fn parse(name: &str, log: &str) -> Option<Size> {
    let after = |word: &str| log.lines().find_map(|line| line.trim().strip_prefix(word));
    Some(Size {
        program: name.to_string(),
        verified: after("processed ")?.split(' ').next()?.parse().ok()?,
        stack: after("stack depth ")?.trim().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_read_from_the_verifiers_log() {
        let log = "verification time 201 usec\nstack depth 48+16\nprocessed 67 insns (limit 1000000) max_states_per_insn 0 total_states 4 peak_states 4 mark_read 0\n";
        let size = parse("x", log).unwrap();
        assert_eq!((size.verified, size.stack.as_str()), (67, "48+16"));
        assert!(parse("x", "").is_none());
    }
}
