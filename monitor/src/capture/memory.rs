//! Memory that the maps may take: what the machine has free, and what the cgroups of this process leave.
//!
//! The kernel charges maps to the memory cgroup of who loads them (Linux 5.11), and it allocates all of them at load:
//! asked for more than there is, it first takes the memory of others, and then kills.

use super::loader::Sizes;
use std::fs;
use std::path::{Path, PathBuf};

/// What is left and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Available {
    pub bytes: u64,
    /// For an error's text: `available on this machine`.
    pub by: String,
}

/// Of what is available this much may be taken, in per cent: the agent and everybody else need some, too.
const SHARE: u64 = 90;
const MIB: u64 = 1 << 20;

/// An error, in words, if maps of these sizes do not fit.
pub fn check(sizes: &Sizes) -> Result<(), String> {
    match available() {
        Some(available) => fits(sizes, &available),
        None => Ok(()),
    }
}

fn fits(sizes: &Sizes, available: &Available) -> Result<(), String> {
    let room = available.bytes / 100 * SHARE;
    let needed = sizes.bytes();
    if needed <= room {
        return Ok(());
    }
    let head = format!(
        "--max-connections {} needs {} MiB of kernel memory, and {} MiB are {}",
        sizes.connections,
        needed.div_ceil(MIB),
        available.bytes / MIB,
        available.by
    );
    Err(match most(sizes, room) {
        Some(n) => format!("{head}; at most {n} connections fit: use --max-connections {n}, or give it more memory"),
        None => format!("{head}; not even the smallest table fits: give it more memory"),
    })
}

/// The largest table that fits into `room` bytes, a round number.
fn most(sizes: &Sizes, room: u64) -> Option<u32> {
    let fit = |connections| Sizes { connections, ..*sizes }.bytes() <= room;
    let (mut low, mut high) = (0, sizes.connections);
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if fit(middle) {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    let step = 10u32.pow(low.checked_ilog10()?.saturating_sub(1));
    Some(low / step * step)
}

/// The least of what the machine and each cgroup above this process have left. None where nothing can be read.
pub fn available() -> Option<Available> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| mem_available(&text));
    let machine = machine.map(|bytes| Available { bytes, by: "available on this machine".into() });
    machine.into_iter().chain(in_cgroups()).min_by_key(|a| a.bytes)
}

/// `MemAvailable` of `/proc/meminfo`, bytes.
fn mem_available(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|l| l.strip_prefix("MemAvailable:"))?;
    rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn in_cgroups() -> Vec<Available> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    memory_folders(&own, &mounts)
        .into_iter()
        .filter_map(|(kind, folder)| {
            let bytes = left(kind, &folder)?;
            Some(Available { bytes, by: format!("left to the memory cgroup {}", folder.display()) })
        })
        .collect()
}

/// Versions of cgroups name the same things differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Folders of the cgroups that limit this process' memory, from its own up to the mount's root. A container often sees
/// its own cgroup as the root of the mount, whatever `/proc/self/cgroup` calls it: folders that are not there say
/// nothing.
fn memory_folders(own: &str, mounts: &str) -> Vec<(Version, PathBuf)> {
    let mut out = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let version = if controllers.is_empty() {
            Version::Two
        } else if controllers.split(',').any(|c| c == "memory") {
            Version::One
        } else {
            continue;
        };
        let Some(root) = mount_point(mounts, version) else { continue };
        let below = Path::new(path.trim_start_matches('/'));
        out.extend(below.ancestors().map(|part| (version, root.join(part))));
    }
    out
}

/// Where the hierarchy that accounts memory is mounted (proc_pid_mountinfo(5)).
fn mount_point(mounts: &str, version: Version) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (name, options) = (kind.next()?, kind.nth(1)?);
        let wanted = match version {
            Version::Two => name == "cgroup2",
            Version::One => name == "cgroup" && options.split(',').any(|o| o == "memory"),
        };
        wanted.then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// What a cgroup has left: its limit less what is in use and not page cache that can go at once. None without a limit.
fn left(version: Version, folder: &Path) -> Option<u64> {
    let (limit, usage, inactive) = match version {
        Version::Two => ("memory.max", "memory.current", "inactive_file"),
        Version::One => ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    };
    let number = |name: &str| fs::read_to_string(folder.join(name)).ok()?.trim().parse::<u64>().ok();
    // `max` in version 2; version 1 has a number beyond all memory in its place.
    let limit = number(limit).filter(|n| *n < 1 << 60)?;
    let stat = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
    let cache = stat.lines().find_map(|l| l.strip_prefix(inactive)?.trim().parse::<u64>().ok()).unwrap_or(0);
    Some(limit.saturating_sub(number(usage).unwrap_or(0).saturating_sub(cache)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: Sizes = Sizes { connections: 1_000_000, ring_bytes: 4 << 20 };

    fn available(bytes: u64) -> Available {
        Available { bytes, by: "available on this machine".into() }
    }

    #[test]
    fn what_fits_is_let_through_and_what_does_not_is_told_what_would() {
        let enough = SIZES.bytes() / SHARE * 101;
        assert_eq!(fits(&SIZES, &available(enough)), Ok(()));
        let text = fits(&SIZES, &available(SIZES.bytes() / 2)).unwrap_err();
        assert!(
            text.contains("--max-connections 1000000 needs") && text.contains("available on this machine"),
            "{text}"
        );
        let advised: u32 =
            text.split("use --max-connections ").nth(1).unwrap().split(',').next().unwrap().parse().unwrap();
        let smaller = Sizes { connections: advised, ..SIZES };
        assert_eq!(fits(&smaller, &available(SIZES.bytes() / 2)), Ok(()), "the advice fits");
        // Not much smaller than it has to be.
        let larger = Sizes { connections: advised + advised / 8, ..SIZES };
        assert!(fits(&larger, &available(SIZES.bytes() / 2)).is_err());
        assert!(fits(&SIZES, &available(1 << 20)).unwrap_err().contains("smallest table"));
    }

    #[test]
    fn the_machines_free_memory_is_read_in_bytes() {
        assert_eq!(mem_available("MemTotal: 9 kB\nMemAvailable:   2048 kB\n"), Some(2 << 20));
        assert_eq!(mem_available("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn cgroups_of_both_versions_are_found_with_all_that_are_above() {
        let mounts = "\
29 23 0:26 / /sys/fs/cgroup rw,nosuid - tmpfs tmpfs rw
33 29 0:28 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu
34 29 0:29 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
30 29 0:27 / /sys/fs/cgroup/unified rw shared:4 - cgroup2 cgroup2 rw,nsdelegate
";
        let own = "4:memory:/a/b\n2:cpu:/a\n0::/user.slice\n";
        let folders: Vec<_> =
            memory_folders(own, mounts).into_iter().map(|(v, p)| (v, p.to_str().unwrap().to_owned())).collect();
        let expected = [
            (Version::One, "/sys/fs/cgroup/memory/a/b"),
            (Version::One, "/sys/fs/cgroup/memory/a"),
            (Version::One, "/sys/fs/cgroup/memory/"),
            (Version::Two, "/sys/fs/cgroup/unified/user.slice"),
            (Version::Two, "/sys/fs/cgroup/unified/"),
        ];
        assert_eq!(folders, expected.map(|(v, p)| (v, p.to_owned())));
    }

    #[test]
    fn a_cgroup_leaves_its_limit_less_use_that_is_not_cache() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        assert_eq!(left(Version::Two, folder.path()), None, "the root has no limit");
        write("memory.max", "max\n");
        write("memory.current", "700\n");
        assert_eq!(left(Version::Two, folder.path()), None);
        write("memory.max", "1000\n");
        assert_eq!(left(Version::Two, folder.path()), Some(300));
        write("memory.stat", "anon 500\ninactive_file 150\nactive_file 50\n");
        assert_eq!(left(Version::Two, folder.path()), Some(450));
        write("memory.current", "2000\n");
        assert_eq!(left(Version::Two, folder.path()), Some(0));
        write("memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(left(Version::One, folder.path()), None, "no limit in version 1");
        write("memory.limit_in_bytes", "5000\n");
        write("memory.usage_in_bytes", "1000\n");
        assert_eq!(left(Version::One, folder.path()), Some(4000));
    }
}
