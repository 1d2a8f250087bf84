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
fn maps(ebpf: &Ebpf) -> HashMap<String, RawFd> {
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

/// Loads each of the agent's packet programs once more, with the same maps and types, for the verifier's statistics.
pub fn sizes(ebpf: &Ebpf, names: &[&str]) -> Result<Vec<Size>> {
    let maps = maps(ebpf);
    let types = types(ebpf, names.first().context("no program is named")?)?;
    let mut object = Object::parse(object::BYTES)?;
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let known: Vec<_> = object.maps.iter().map(|(name, map)| (name.clone(), map.clone())).collect();
    let with_fd = known.iter().filter_map(|(name, map)| Some((name.as_str(), *maps.get(name)?, map)));
    object.relocate_maps(with_fd, &text)?;
    object.relocate_calls(&text)?;
    names.iter().map(|name| size(&object, name, &types).with_context(|| format!("program {name}"))).collect()
}

/// `BPF_F_XDP_HAS_FRAGS`.
const FRAGS: u32 = 1 << 5;
/// `BPF_LOG_STATS`.
const STATS: u32 = 4;

/// The types of a loaded program, as the loader made them fit for this kernel. Without them no function is global for the
/// verifier, and it walks each once for every way into it.
fn types(ebpf: &Ebpf, name: &str) -> Result<OwnedFd> {
    let info = ebpf.program(name).with_context(|| format!("no program {name}"))?.info()?;
    // SAFETY: all zeroes is valid for this union of integers.
    let mut attr = unsafe { std::mem::zeroed::<bpf_attr>() };
    attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = info.btf_id().with_context(|| format!("{name} has no types"))?;
    syscall(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &mut attr).context("the kernel does not give the program's types")
}

/// `bpf(2)`, of which the answer is a descriptor.
fn syscall(command: bpf_cmd, attr: &mut bpf_attr) -> std::io::Result<OwnedFd> {
    // SAFETY: a valid attribute of its size; the kernel checks what it says.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &mut *attr, size_of::<bpf_attr>()) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

fn size(object: &Object, name: &str, types: &OwnedFd) -> Result<Size> {
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
    let functions = function.func_info.func_info_bytes();
    load.prog_btf_fd = types.as_raw_fd() as u32;
    load.func_info = functions.as_ptr() as u64;
    load.func_info_cnt = function.func_info.len() as u32;
    load.func_info_rec_size = function.func_info_rec_size as u32;
    // Instructions, licence, types and log live until the call returns, and their lengths are told.
    let loaded = syscall(bpf_cmd::BPF_PROG_LOAD, &mut attr);
    let end = log.iter().position(|b| *b == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]);
    if let Err(error) = loaded {
        bail!("the kernel refuses it ({error}): {text}");
    }
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
