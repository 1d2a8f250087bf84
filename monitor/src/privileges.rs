//! Capabilities: what attaching needs, and what is left of them afterwards.
//!
//! Capabilities belong to threads. They are dropped on the main thread before any other is started, because a thread
//! inherits them when it is made and cannot lose another's.

use crate::snapshot::Status;
use caps::{CapSet, Capability};

/// What loading and attaching need, with the reason.
pub const NEEDED: [(Capability, &str); 3] = [
    (Capability::CAP_BPF, "load programs and make maps"),
    (Capability::CAP_NET_ADMIN, "attach to interfaces"),
    (Capability::CAP_PERFMON, "read kernel memory in tracing programs; 5.10 needs it for every program"),
];

/// Effective capabilities of this thread; empty where they cannot be read.
pub fn effective() -> caps::CapsHashSet {
    caps::read(None, CapSet::Effective).unwrap_or_default()
}

/// Those of [`NEEDED`] that this thread lacks. CAP_SYS_ADMIN stands for CAP_BPF and CAP_PERFMON.
pub fn missing_for_attach() -> Vec<&'static str> {
    missing(&effective())
}

fn missing(have: &caps::CapsHashSet) -> Vec<&'static str> {
    let admin = have.contains(&Capability::CAP_SYS_ADMIN);
    NEEDED
        .iter()
        .filter(|(c, _)| !have.contains(c) && (!admin || *c == Capability::CAP_NET_ADMIN))
        .map(|(c, _)| name(*c))
        .collect()
}

pub const fn name(c: Capability) -> &'static str {
    match c {
        Capability::CAP_BPF => "CAP_BPF",
        Capability::CAP_NET_ADMIN => "CAP_NET_ADMIN",
        Capability::CAP_PERFMON => "CAP_PERFMON",
        Capability::CAP_SYS_ADMIN => "CAP_SYS_ADMIN",
        _ => "another capability",
    }
}

/// What an attached agent goes on needing.
///
/// Map operations on an open descriptor need CAP_BPF where unprivileged BPF is disabled. A clsact filter is not owned
/// by a descriptor, so taking it away at the end is a netlink request, which needs CAP_NET_ADMIN.
pub fn needed_after_attach(status: &Status) -> Vec<Capability> {
    let mut keep = vec![Capability::CAP_BPF];
    if status.interfaces.iter().any(|i| [&i.ingress, &i.egress].into_iter().any(|hook| hook == "clsact")) {
        keep.push(Capability::CAP_NET_ADMIN);
    }
    keep
}

/// What is left after [`drop_after_attach`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    pub kept: Vec<&'static str>,
}

#[derive(Debug, thiserror::Error)]
pub enum DropError {
    #[error("cannot drop capabilities: {0}")]
    Capabilities(#[from] caps::errors::CapsError),
    #[error("cannot set no_new_privs: {0}")]
    NoNewPrivileges(std::io::Error),
}

/// Keeps of this thread's capabilities only those in `keep` that it has, and rules out gaining any by `exec`.
pub fn drop_after_attach(keep: &[Capability]) -> Result<Dropped, DropError> {
    let permitted = caps::read(None, CapSet::Permitted)?;
    let left: caps::CapsHashSet = keep.iter().copied().filter(|c| permitted.contains(c)).collect();
    // Ambient and inheritable first: the kernel holds ambient within both of the others.
    caps::clear(None, CapSet::Ambient)?;
    caps::clear(None, CapSet::Inheritable)?;
    caps::set(None, CapSet::Effective, &left)?;
    caps::set(None, CapSet::Permitted, &left)?;
    no_new_privileges().map_err(DropError::NoNewPrivileges)?;
    let mut kept: Vec<_> = left.iter().map(|c| name(*c)).collect();
    kept.sort_unstable();
    Ok(Dropped { kept })
}

fn no_new_privileges() -> std::io::Result<()> {
    // SAFETY: PR_SET_NO_NEW_PRIVS takes four integers and touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } == 0 {
        Ok(())
    } else {
        Err(std::io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::Attached;

    #[test]
    fn sys_admin_stands_for_bpf_and_perfmon_but_not_for_net_admin() {
        assert_eq!(missing(&[Capability::CAP_SYS_ADMIN].into()), ["CAP_NET_ADMIN"]);
        assert_eq!(missing(&[Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN].into()), Vec::<&str>::new());
        assert_eq!(missing(&caps::CapsHashSet::new()), ["CAP_BPF", "CAP_NET_ADMIN", "CAP_PERFMON"]);
    }

    #[test]
    fn net_admin_stays_only_for_filters_that_no_descriptor_owns() {
        let with = |egress: &str| Status {
            interfaces: vec![Attached { egress: egress.into(), ..Attached::default() }],
            ..Status::default()
        };
        assert_eq!(needed_after_attach(&with("tcx")), [Capability::CAP_BPF]);
        assert_eq!(needed_after_attach(&with("clsact")), [Capability::CAP_BPF, Capability::CAP_NET_ADMIN]);
    }

    #[test]
    fn dropping_leaves_nothing_but_what_was_named_and_forbids_gaining() {
        std::thread::spawn(|| {
            let had_bpf = effective().contains(&Capability::CAP_BPF);
            let dropped = drop_after_attach(&[Capability::CAP_BPF]).unwrap();
            assert_eq!(dropped.kept, if had_bpf { vec!["CAP_BPF"] } else { vec![] });
            assert_eq!(effective().len(), dropped.kept.len());
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        })
        .join()
        .unwrap();
    }
}
