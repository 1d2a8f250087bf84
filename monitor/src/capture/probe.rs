//! What this kernel and these privileges allow, found out without changing anything: files are read, and programs
//! and maps of the smallest kind are made and closed at once.

use super::device::{self, Device};
use super::ingress::{self, Choice, IngressMode};
use super::interfaces;
use crate::privileges;
use aya::maps::MapType;
use aya::programs::ProgramType;
use aya::sys::{is_map_supported, is_program_supported};
use serde::Serialize;
use std::fs;
use std::path::Path;

/// Facts only; `doctor` says what they mean.
#[derive(Clone, Debug, Serialize)]
pub struct Probe {
    /// As `uname -r` prints it.
    pub kernel: String,
    /// Major and minor version, when the release has that form.
    pub kernel_version: Option<(u32, u32)>,
    pub btf: Btf,
    /// `net.core.bpf_jit_enable`; `None` where it is hidden, as in most containers.
    pub jit: Option<u32>,
    /// `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: Option<u32>,
    /// `kernel.bpf_stats_enabled`.
    pub bpf_stats_enabled: Option<bool>,
    /// Current lockdown mode; `None` where securityfs is not mounted.
    pub lockdown: Option<String>,
    /// Name and whether this process has it.
    pub capabilities: Vec<(&'static str, bool)>,
    /// In the first user namespace: capabilities of another do not count for BPF.
    pub initial_user_namespace: Option<bool>,
    pub xdp: Support,
    pub tc: Support,
    pub ring_buffer: Support,
    /// Soft limit of locked memory; `None` is unlimited. It matters before 5.11 only.
    pub memlock_bytes: Option<u64>,
    pub cgroups: Cgroups,
    pub interfaces: Vec<Interface>,
}

/// What the running kernel's type information says.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Btf {
    /// Size of `/sys/kernel/btf/vmlinux`; `None` without it.
    pub bytes: Option<u64>,
    /// tcx links, 6.6.
    pub tcx: bool,
    /// XDP on packets of several buffers, 5.18.
    pub xdp_frags: bool,
    /// `enum sk_rst_reason`, 6.10.
    pub reset_reasons: bool,
    /// Its members for resets by close, 6.12.
    pub active_reset_reasons: bool,
    /// `enum skb_drop_reason`, 5.17.
    pub drop_reasons: bool,
    /// Tracepoint and whether it exists.
    pub tracepoints: Vec<(&'static str, bool)>,
}

/// Where the names of containers and units come from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Cgroups {
    /// A cgroup v2 file system is mounted here.
    pub mounted: bool,
    /// Cgroups that can be seen there.
    pub visible: usize,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Support {
    Yes,
    No,
    /// Could not be tried, with the reason.
    Unknown(String),
}

/// An interface of this network namespace, with what sysfs adds.
#[derive(Clone, Debug, Serialize)]
pub struct Interface {
    pub name: String,
    pub ifindex: u32,
    pub up: bool,
    pub loopback: bool,
    pub ethernet: bool,
    /// Part of a bridge, bond or team.
    pub enslaved: bool,
    /// Id of an XDP program that is attached already.
    pub xdp_program: Option<u32>,
    pub driver: Option<String>,
    pub mtu: Option<u32>,
    /// What `run` does without being told.
    #[serde(skip)]
    pub choice: Choice,
}

/// Tracepoints that carry the local kernel's own reasons.
pub const TRACEPOINTS: [&str; 4] = ["tcp_send_reset", "tcp_receive_reset", "inet_sk_error_report", "kfree_skb"];

/// Finds everything out; takes some milliseconds.
pub fn probe() -> Probe {
    let kernel = read("/proc/sys/kernel/osrelease").unwrap_or_else(|| "unknown".into());
    let capabilities = privileges::effective();
    let has = |c| capabilities.contains(&c);
    Probe {
        kernel_version: version(&kernel),
        kernel,
        btf: btf(Path::new("/sys/kernel/btf/vmlinux")),
        jit: number("/proc/sys/net/core/bpf_jit_enable"),
        unprivileged_bpf_disabled: number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        bpf_stats_enabled: number("/proc/sys/kernel/bpf_stats_enabled").map(|n| n != 0),
        lockdown: read("/sys/kernel/security/lockdown").and_then(|text| selected(&text)),
        capabilities: privileges::NEEDED
            .iter()
            .map(|(c, _)| *c)
            .chain([caps::Capability::CAP_SYS_ADMIN])
            .map(|c| (privileges::name(c), has(c)))
            .collect(),
        initial_user_namespace: initial_user_namespace(),
        xdp: support(is_program_supported(ProgramType::Xdp)),
        tc: support(is_program_supported(ProgramType::SchedClassifier)),
        ring_buffer: support(is_map_supported(MapType::RingBuf)),
        memlock_bytes: memlock(),
        cgroups: cgroups(),
        interfaces: interfaces(),
    }
}

fn cgroups() -> Cgroups {
    match super::cgroup::Cgroups::mounted() {
        Some(mut all) => Cgroups { mounted: true, visible: all.refresh() },
        None => Cgroups::default(),
    }
}

fn support<E: std::error::Error>(result: Result<bool, E>) -> Support {
    match result {
        Ok(true) => Support::Yes,
        Ok(false) => Support::No,
        Err(e) => {
            let mut reason = e.to_string();
            if let Some(source) = e.source() {
                reason = format!("{reason}: {source}");
            }
            Support::Unknown(reason)
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|s| s.trim().to_owned())
}

fn number(path: &str) -> Option<u32> {
    read(path)?.parse().ok()
}

/// `6.1` of `6.1.0-49-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// `none` of `[none] integrity confidentiality`.
fn selected(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    rest.split_once(']').map(|(mode, _)| mode.to_owned())
}

fn initial_user_namespace() -> Option<bool> {
    // PROC_USER_INIT_INO of include/linux/proc_ns.h.
    let link = fs::read_link("/proc/self/ns/user").ok()?;
    Some(link.to_str()? == "user:[4026531837]")
}

fn memlock() -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: getrlimit writes one rlimit through a pointer to one.
    let failed = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) } != 0;
    (!failed && limit.rlim_cur != libc::RLIM_INFINITY).then_some(limit.rlim_cur)
}

/// Looks names up in the string table of the kernel's BTF. All that is asked is whether a name exists, and these
/// names belong to one thing only, so the types need not be walked.
fn btf(path: &Path) -> Btf {
    let Ok(data) = fs::read(path) else { return Btf::default() };
    let names = strings(&data).unwrap_or_default();
    let has = |name: &str| names.split(|b| *b == 0).any(|n| n == name.as_bytes());
    Btf {
        bytes: Some(data.len() as u64),
        tcx: has("tcx_prog_attach"),
        xdp_frags: has("bpf_xdp_load_bytes"),
        reset_reasons: has("sk_rst_reason"),
        active_reset_reasons: has("SK_RST_REASON_TCP_ABORT_ON_CLOSE"),
        drop_reasons: has("skb_drop_reason"),
        tracepoints: TRACEPOINTS.iter().map(|t| (*t, has(&format!("btf_trace_{t}")))).collect(),
    }
}

/// The string section (`struct btf_header` of include/uapi/linux/btf.h).
fn strings(data: &[u8]) -> Option<&[u8]> {
    let u32_at = |offset: usize| Some(u32::from_ne_bytes(data.get(offset..offset + 4)?.try_into().ok()?) as usize);
    if data.get(..2)? != 0xeb9f_u16.to_ne_bytes() {
        return None;
    }
    let start = u32_at(4)?.checked_add(u32_at(16)?)?;
    data.get(start..start.checked_add(u32_at(20)?)?)
}

fn interfaces() -> Vec<Interface> {
    // Without netlink there is nothing to say about interfaces; everything else still holds.
    let all = interfaces::list().unwrap_or_default();
    let asked: Vec<_> = all.iter().map(|i| device::ask(&i.name)).collect();
    let ports = |of: &interfaces::Interface| -> Vec<Device> {
        let ports = all.iter().zip(&asked).filter(|(i, _)| i.controller == Some(of.index));
        ports.map(|(_, d)| d.clone()).collect()
    };
    all.iter().zip(&asked).map(|(i, d)| interface(i, d, &ports(i))).collect()
}

fn interface(i: &interfaces::Interface, device: &Device, ports: &[Device]) -> Interface {
    let folder = Path::new("/sys/class/net").join(&i.name);
    let file = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u32>().ok();
    // sysfs may be another namespace's, with other interfaces of the same name.
    let ours = file("ifindex") == Some(i.index);
    Interface {
        driver: device.driver.clone(),
        mtu: ours.then(|| file("mtu")).flatten(),
        name: i.name.clone(),
        ifindex: i.index,
        up: i.up,
        loopback: i.loopback,
        ethernet: i.ethernet,
        enslaved: i.controller.is_some(),
        xdp_program: i.xdp_program,
        choice: ingress::choose(IngressMode::Auto, i, device, ports),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distribution_kernels_are_read() {
        assert_eq!(version("6.1.0-49-cloud-amd64"), Some((6, 1)));
        assert_eq!(version("5.10"), Some((5, 10)));
        assert_eq!(version("unknown"), None);
    }

    #[test]
    fn the_lockdown_mode_is_the_bracketed_one() {
        assert_eq!(selected("none [integrity] confidentiality").as_deref(), Some("integrity"));
    }

    #[test]
    fn btf_that_is_cut_short_has_no_names() {
        assert_eq!(strings(&0xeb9f_u16.to_ne_bytes()), None);
        assert_eq!(strings(b"nonsense, but long enough for a header"), None);
    }

    #[test]
    fn probing_this_machine_finds_its_kernel_and_loopback() {
        let p = probe();
        assert!(p.kernel_version.is_some(), "{}", p.kernel);
        assert!(p.interfaces.iter().any(|i| i.name == "lo"), "{:?}", p.interfaces);
    }
}
