//! What the virtual machines boot into: busybox, the network tools with their libraries, the kernel's
//! modules, our static binaries and the fixtures, all in one initramfs. No disk image and no shared
//! folder: cloud kernels have no 9p.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cpio::Archive;
use crate::process::{command, describe, find, output, require};

/// Host programs that come along if they are there. The first four are what the lab needs.
const TOOLS: [&str; 6] = ["ip", "tc", "nft", "ss", "setpriv", "tcpdump"];

/// Modules that are loaded before the command, with what they depend on. What a kernel has built in or
/// does not know is skipped (`nft_counter` and `nft_objref` are modules of their own only on old kernels).
/// The guest has no modprobe, so what the kernel would load by itself has to be named.
const MODULES: [&str; 24] = [
    "af_packet",
    "veth",
    "dummy",
    "sch_ingress",
    "cls_bpf",
    "sch_netem",
    "inet_diag",
    "tcp_diag",
    "nf_tables",
    "nfnetlink",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nf_nat",
    "nft_ct",
    "nft_nat",
    "nft_masq",
    "nft_redir",
    "nft_chain_nat",
    "nft_counter",
    "nft_objref",
    "nft_limit",
    "nft_reject",
    "nft_reject_inet",
    "nft_log",
];

/// Prints the lines that [`crate::qemu`] reads. The exit status goes over the serial console: these
/// kernels have no /dev/port, so QEMU's debug-exit device cannot carry it.
const INIT: &str = r#"#!/bin/busybox sh
export PATH=/sbin:/bin HOME=/root NO_COLOR=1
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mount -t tmpfs run /run; mount -t bpf bpf /sys/fs/bpf; mount -t tracefs tracefs /sys/kernel/tracing
mount -t securityfs securityfs /sys/kernel/security; mount -t cgroup2 cgroup2 /sys/fs/cgroup
for m in $(cat /lib/modules/order); do insmod /lib/modules/$m || echo "insmod $m failed"; done
/sbin/ip link set lo up
# The BIOS has left escape sequences on the line.
echo; echo "KM_UP $(cut -d' ' -f1 /proc/uptime) $(uname -r) btf=$(stat -c %s /sys/kernel/btf/vmlinux 2>/dev/null || echo none)"
sh /command.sh; rc=$?
bad=$(dmesg | grep -cE 'BUG:|WARNING:|Oops|general protection|Call Trace')
[ "$bad" = 0 ] || dmesg | grep -E -A15 'BUG:|WARNING:|Oops|general protection' | head -60
# The command may have ended in the middle of a line.
echo; echo "KM_DMESG=$bad"; echo "KM_RC=$rc"; echo "KM_DOWN $(cut -d' ' -f1 /proc/uptime)"
poweroff -f
"#;

/// A kernel's unpacked packages.
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    pub image: PathBuf,
    /// The folder whose `lib/modules` holds the modules, as depmod and modprobe want it.
    base: PathBuf,
}

impl Kernel {
    /// Finds kernel and modules in a folder of unpacked packages.
    pub fn open(folder: &Path) -> Result<Self> {
        let entries =
            |of: &str| std::fs::read_dir(folder.join(of)).into_iter().flatten().flatten().map(|entry| entry.path());
        let modules = ["lib/modules", "usr/lib/modules"].into_iter().flat_map(entries).find(|path| path.is_dir());
        let modules = modules.with_context(|| format!("no kernel modules in {}; try `--refresh`", folder.display()))?;
        // Up to 6.x the kernel is in boot/, from 7.x on beside its modules.
        let in_boot = entries("boot").find(|path| path.to_string_lossy().contains("/vmlinuz-"));
        let image = in_boot.unwrap_or_else(|| modules.join("vmlinuz"));
        anyhow::ensure!(image.is_file(), "no kernel image in {}; try `--refresh`", folder.display());
        let release = modules.file_name().map(|name| name.to_string_lossy().into_owned());
        let base = modules.ancestors().nth(3).map(Path::to_path_buf);
        Ok(Self {
            release: release.context("the modules' folder has no name")?,
            image,
            base: base.context("the modules' folder has no parent")?,
        })
    }

    /// Makes the index that modprobe needs; the packages come without.
    pub fn index(&self) -> Result<()> {
        output(command(require("depmod")?).arg("-b").arg(&self.base).arg(&self.release)).map(drop)
    }

    /// The files of a module and of what it depends on, in the order of loading; none if it is built
    /// in or this kernel does not have it.
    fn files_of(&self, module: &str) -> Result<Vec<PathBuf>> {
        let mut modprobe = command(require("modprobe")?);
        // Without this machine's own configuration, which may forbid modules or give them options.
        modprobe.args(["-C", "/dev/null"]);
        modprobe.arg("-d").arg(&self.base).args(["-S", &self.release, "--show-depends", module]);
        let Ok(text) = output(&mut modprobe) else {
            return Ok(Vec::new());
        };
        Ok(text.lines().filter_map(|line| Some(PathBuf::from(line.strip_prefix("insmod ")?.trim()))).collect())
    }
}

/// What goes into the machine besides its kernel's modules.
pub struct Contents {
    pub busybox: PathBuf,
    /// Static programs for /bin.
    pub binaries: Vec<PathBuf>,
    /// Becomes /fixtures.
    pub fixtures: PathBuf,
    /// Shell script that is run as root.
    pub command: String,
}

pub fn build(kernel: &Kernel, contents: &Contents) -> Result<Vec<u8>> {
    let mut archive = Archive::default();
    for folder in
        ["bin", "sbin", "proc", "sys", "dev", "run", "tmp", "root", "etc", "lib/modules", "var/tmp", "fixtures"]
    {
        archive.folder(folder);
    }
    archive.file("init", 0o755, INIT.into());
    archive.file("command.sh", 0o755, format!("{}\n", contents.command).into_bytes());
    archive.file("etc/passwd", 0o644, b"root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n".to_vec());
    archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n".to_vec());
    archive.file("etc/hosts", 0o644, b"127.0.0.1 localhost\n::1 localhost\n".to_vec());
    archive.file("bin/busybox", 0o755, read(&contents.busybox)?);
    for binary in &contents.binaries {
        program(&mut archive, "bin", binary)?;
    }
    // In /sbin, which comes first in PATH: busybox has applets of the same names in /bin. Its shell
    // still prefers its own applets, so scripts have to call /sbin/ip by its full path.
    for tool in TOOLS.iter().filter_map(|tool| find(tool)) {
        program(&mut archive, "sbin", &tool)?;
    }
    modules(&mut archive, kernel)?;
    if contents.fixtures.is_dir() {
        tree(&mut archive, "fixtures", &contents.fixtures)?;
    }
    Ok(archive.to_bytes())
}

/// Adds a program of this machine and the libraries that it loads.
fn program(archive: &mut Archive, folder: &str, file: &Path) -> Result<()> {
    let name = file.file_name().with_context(|| format!("{} is no file", file.display()))?;
    archive.file(&format!("{folder}/{}", name.to_string_lossy()), 0o755, read(file)?);
    // ldd fails for static programs, which is fine.
    let libraries = output(command("ldd").arg(file)).unwrap_or_default();
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        if !archive.contains(library) {
            archive.file(library, 0o755, read(Path::new(library))?);
        }
    }
    Ok(())
}

fn modules(archive: &mut Archive, kernel: &Kernel) -> Result<()> {
    let mut order = String::new();
    for module in MODULES {
        for file in kernel.files_of(module)? {
            let name = file
                .file_name()
                .with_context(|| format!("{} is no file", file.display()))?
                .to_string_lossy()
                .into_owned();
            // busybox's insmod reads no compressed modules (.ko.xz since 6.12); a module's signature
            // is part of what was compressed and stays valid.
            let (name, content) = match name.rsplit_once('.') {
                Some((plain, "xz")) => (plain, unpacked("xz", &file)?),
                Some((plain, "zst")) => (plain, unpacked("zstd", &file)?),
                _ => (name.as_str(), read(&file)?),
            };
            let path = format!("lib/modules/{name}");
            if !archive.contains(&path) {
                archive.file(&path, 0o644, content);
                order.push_str(&format!("{name}\n"));
            }
        }
    }
    archive.file("lib/modules/order", 0o644, order.into_bytes());
    Ok(())
}

fn unpacked(tool: &str, file: &Path) -> Result<Vec<u8>> {
    let mut tool = command(require(tool)?);
    tool.arg("-dc").arg(file);
    let out = tool.output().with_context(|| format!("cannot start `{}`", describe(&tool)))?;
    anyhow::ensure!(
        out.status.success(),
        "`{}` failed: {}",
        describe(&tool),
        String::from_utf8_lossy(&out.stderr).trim()
    );
    Ok(out.stdout)
}

fn tree(archive: &mut Archive, path: &str, folder: &Path) -> Result<()> {
    archive.folder(path);
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        let path = format!("{path}/{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            tree(archive, &path, &entry.path())?;
        } else {
            archive.file(&path, 0o644, read(&entry.path())?);
        }
    }
    Ok(())
}

fn read(file: &Path) -> Result<Vec<u8>> {
    std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
