//! From a cgroup's number, which the kernel programs report, to its path, the container and the unit that it is of.
//!
//! The number of a cgroup (v2) is the inode number of its folder. Numbers are not used twice while the machine is up, so
//! what was learnt once stays right, also of cgroups that are gone. Only names of folders are read: that needs no
//! capability, and it works for processes that have ended.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Cgroups known at once; a machine with more of them gets some names less.
const MOST: usize = 16_384;
/// Folders within folders; the kernel's own limit is far beyond what anybody uses.
const DEEPEST: usize = 32;
/// An unknown number makes all folders be read anew, after a pause of so many times what that took the last time: it
/// never costs more than a few per cent of the agent's time.
const PAUSE: u32 = 30;
const SHORTEST_PAUSE: Duration = Duration::from_millis(20);

/// What a cgroup says of who is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cgroup {
    /// From the root of the hierarchy.
    pub path: String,
    /// Identifier of the container, the innermost where they are nested.
    pub container: Option<String>,
    /// systemd's unit, where it is not the container's own scope.
    pub unit: Option<String>,
}

/// The hierarchy as far as it has been read.
pub struct Cgroups {
    root: PathBuf,
    known: HashMap<u64, String>,
    /// No reading anew before.
    not_before: Option<Instant>,
}

impl Cgroups {
    /// The cgroup v2 hierarchy that is mounted here; none without one.
    pub fn mounted() -> Option<Cgroups> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        Some(Cgroups::at(mount_point(&mounts)?))
    }

    pub fn at(root: PathBuf) -> Cgroups {
        Cgroups { root, known: HashMap::new(), not_before: None }
    }

    /// Reads all folders; returns how many there are.
    pub fn refresh(&mut self) -> usize {
        let begin = Instant::now();
        let found = self.read_all();
        let pause = (begin.elapsed() * PAUSE).max(SHORTEST_PAUSE);
        self.not_before = Some(Instant::now() + pause);
        found
    }

    fn read_all(&mut self) -> usize {
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let Ok(root) = fs::metadata(&self.root) else { return 0 };
        self.known.insert(root.ino(), "/".into());
        let mut found = 1;
        let mut waiting = vec![(self.root.clone(), String::new(), 0)];
        while let Some((folder, path, depth)) = waiting.pop() {
            // A cgroup may go while it is read.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if self.known.len() >= MOST || !entry.file_type().is_ok_and(|t| t.is_dir()) {
                    continue;
                }
                let Ok(name) = entry.file_name().into_string() else { continue };
                let path = format!("{path}/{name}");
                self.known.insert(entry.ino(), path.clone());
                found += 1;
                if depth < DEEPEST {
                    waiting.push((entry.path(), path, depth + 1));
                }
            }
        }
        found
    }

    /// The cgroup of this number, if it can be found.
    pub fn find(&mut self, id: u64) -> Option<Cgroup> {
        if id == 0 {
            return None;
        }
        if !self.known.contains_key(&id) && self.not_before.is_none_or(|t| Instant::now() >= t) {
            self.refresh();
        }
        let path = self.known.get(&id)?.clone();
        Some(Cgroup { container: container(&path), unit: unit(&path), path })
    }
}

/// Mount point of the first cgroup2 file system in the text of `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
fn mount_point(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        (kind.split(' ').next() == Some("cgroup2")).then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

/// The container in a cgroup's path, by the names that runtimes give: `docker-ID.scope`, `cri-containerd-ID.scope`,
/// `crio-ID.scope`, `libpod-ID.scope`, `nerdctl-ID.scope` under systemd, the bare identifier under `docker`, `kubepods`,
/// `libpod_parent` without it, `lxc.payload.NAME`. Monitors beside a container (`libpod-conmon-ID.scope`) are not in it.
fn container(path: &str) -> Option<String> {
    path.split('/').rev().find_map(container_of).map(str::to_owned)
}

fn container_of(name: &str) -> Option<&str> {
    const SCOPES: [&str; 6] = ["docker-", "cri-containerd-", "crio-", "libpod-", "nerdctl-", "containerd-"];
    if is_identifier(name) {
        return Some(name);
    }
    if let Some(name) = name.strip_prefix("lxc.payload.") {
        return (!name.is_empty()).then_some(name);
    }
    // Without systemd podman and CRI-O name the folder as the scope.
    let scope = name.strip_suffix(".scope").unwrap_or(name);
    SCOPES.iter().filter_map(|prefix| scope.strip_prefix(prefix)).find(|id| is_identifier(id))
}

/// 32 random bytes in hexadecimal digits, as all of these runtimes take.
fn is_identifier(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn unit(path: &str) -> Option<String> {
    let is_unit = |name: &&str| name.ends_with(".service") || name.ends_with(".scope") || name.ends_with(".socket");
    path.split('/').rev().find(is_unit).filter(|name| container_of(name).is_none()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4f5c1ad0be3b6a6e2a1f4dc6b1b0f4f7d0a5a3b7e8c9d0e1f2a3b4c5d6e7f809";

    #[test]
    fn containers_are_known_by_the_names_that_runtimes_give() {
        for path in [
            format!("/system.slice/docker-{ID}.scope"),
            format!("/docker/{ID}"),
            format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod7.slice/cri-containerd-{ID}.scope"),
            format!("/kubepods/besteffort/pod1b2c/{ID}"),
            format!("/kubepods.slice/kubepods-pod7.slice/crio-{ID}.scope"),
            format!("/kubepods.slice/kubepods-pod7.slice/crio-{ID}.scope/container"),
            format!("/machine.slice/libpod-{ID}.scope/container"),
            format!("/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{ID}.scope"),
            format!("/libpod_parent/libpod-{ID}"),
            format!("/system.slice/nerdctl-{ID}.scope"),
            // A unit of a systemd within the container.
            format!("/system.slice/docker-{ID}.scope/system.slice/nginx.service"),
        ] {
            assert_eq!(container(&path).as_deref(), Some(ID), "{path}");
        }
        assert_eq!(container("/lxc.payload.web/init.scope").as_deref(), Some("web"));
    }

    #[test]
    fn what_only_looks_like_a_container_is_none() {
        let upper = ID.to_uppercase();
        for path in [
            "/".to_string(),
            "/system.slice/docker.service".into(),
            format!("/machine.slice/libpod-conmon-{ID}.scope"),
            format!("/system.slice/crio-conmon-{ID}.scope"),
            format!("/system.slice/docker-{}.scope", &ID[..63]),
            format!("/docker/{upper}"),
            "/user.slice/user-1000.slice/session-3.scope".into(),
            "/lxc.payload.".into(),
        ] {
            assert_eq!(container(&path), None, "{path}");
        }
    }

    #[test]
    fn the_unit_is_the_innermost_and_not_the_containers_scope() {
        let is = |path: &str| unit(path);
        assert_eq!(is("/system.slice/nginx.service").as_deref(), Some("nginx.service"));
        assert_eq!(
            is("/system.slice/system-getty.slice/getty@tty1.service/sub").as_deref(),
            Some("getty@tty1.service")
        );
        assert_eq!(
            is("/user.slice/user-1000.slice/user@1000.service/app.slice/app.service").as_deref(),
            Some("app.service")
        );
        assert_eq!(is("/user.slice/user-1000.slice/session-3.scope").as_deref(), Some("session-3.scope"));
        assert_eq!(is(&format!("/system.slice/docker-{ID}.scope")), None);
        assert_eq!(is("/"), None);
    }

    #[test]
    fn the_hierarchy_may_be_mounted_anywhere() {
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_point(hybrid), Some("/sys/fs/cgroup/unified".into()));
        assert_eq!(mount_point("31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"), None);
        assert_eq!(mount_point("nonsense"), None);
    }

    /// Any file system gives folders numbers.
    #[test]
    fn folders_are_found_by_number_also_new_and_removed_ones() {
        let root = tempfile::tempdir().expect("a folder for temporary files");
        let made = |path: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(&path).expect("the folder is ours");
            fs::metadata(&path).expect("just made").ino()
        };
        let scope = format!("system.slice/docker-{ID}.scope");
        let (known, top) = (made(&scope), made(""));
        let mut all = Cgroups::at(root.path().into());
        let found = all.find(known).expect("it is there");
        assert_eq!((found.path, found.container), (format!("/{scope}"), Some(ID.to_string())));
        assert_eq!(all.find(top).expect("the root has a number").path, "/");
        assert_eq!(all.find(0), None);

        let later = made("system.slice/late.service");
        all.not_before = Some(Instant::now() + Duration::from_secs(60));
        assert_eq!(all.find(later), None, "not every question is worth reading everything");
        all.not_before = None;
        assert_eq!(all.find(later).and_then(|c| c.unit).as_deref(), Some("late.service"));
        fs::remove_dir(root.path().join(&scope)).expect("it is empty");
        all.refresh();
        assert_eq!(all.find(known).and_then(|c| c.container).as_deref(), Some(ID));
    }
}
