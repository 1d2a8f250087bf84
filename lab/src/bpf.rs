//! Which kernel programs exist: enough to prove that none was left behind.
//!
//! By id, because other programs of the same names may be at work on this machine.

use std::collections::BTreeSet;
use std::io;

use crate::LabError;
use crate::error::During;

/// `BPF_PROG_GET_FD_BY_ID` of `enum bpf_cmd`.
const PROG_GET_FD_BY_ID: libc::c_int = 13;

/// The first fields of `union bpf_attr` for commands that take an id; the kernel takes the rest as 0.
#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// Ids of the programs that a process holds, itself or through links, as its open files tell.
pub fn programs_of(pid: u32) -> Result<BTreeSet<u32>, LabError> {
    let directory = format!("/proc/{pid}/fdinfo");
    let mut ids = BTreeSet::new();
    for entry in std::fs::read_dir(&directory).during(format!("list {directory}"))? {
        let entry = entry.during(format!("list {directory}"))?;
        // A file that was closed meanwhile holds nothing.
        let text = std::fs::read_to_string(entry.path()).unwrap_or_default();
        ids.extend(text.lines().filter_map(program_id));
    }
    Ok(ids)
}

/// `prog_id:<tab>17`; links without a program say 0.
fn program_id(line: &str) -> Option<u32> {
    let id = line.strip_prefix("prog_id:")?.trim().parse().ok()?;
    (id != 0).then_some(id)
}

/// Whether the kernel still has the program.
pub fn program_exists(id: u32) -> Result<bool, LabError> {
    let mut attributes = ById { id, next_id: 0, open_flags: 0 };
    // SAFETY: the kernel reads `size` bytes of `attributes`, which lives until the call returns.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, PROG_GET_FD_BY_ID, &raw mut attributes, size_of::<ById>() as libc::c_uint)
    };
    if fd >= 0 {
        // SAFETY: the descriptor was made by the call above and is nobody else's.
        unsafe { libc::close(fd as libc::c_int) };
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOENT) => Ok(false),
        _ => Err(error).during(format!("look for kernel program {id}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_name_a_program_count() {
        assert_eq!(program_id("prog_id:\t17"), Some(17));
        assert_eq!(program_id("prog_id:\t0"), None);
        assert_eq!(program_id("link_id:\t17"), None);
    }
}
