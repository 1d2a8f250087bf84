//! Debian packages: installing them, unpacking them without installing, and fetching them from suites
//! that the system itself does not use.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::place::Scratch;
use crate::process::{command, output, require, run};

/// Installs packages with the system's own apt.
pub fn install(packages: &[&str]) -> Result<()> {
    if let Err(error) = run(command("apt-get").args(["-q", "update"])) {
        // One unreachable third-party source is no reason to stop: what is needed may still be there.
        eprintln!("setup: {error:#}; going on with the package lists that are there");
    }
    let mut apt = command("apt-get");
    apt.env("DEBIAN_FRONTEND", "noninteractive");
    // Another apt may be at work (unattended upgrades): wait for it rather than fail.
    apt.args(["-qq", "-o", "DPkg::Lock::Timeout=600", "install", "-y", "--no-install-recommends"]).args(packages);
    run(&mut apt).with_context(|| {
        format!(
            "cannot install {}; LLVM {} comes from Debian 12's security archive",
            packages.join(" "),
            crate::toolchain::LLVM
        )
    })
}

/// Downloads one package with the system's own apt and unpacks it into a folder of ours.
pub fn unpack(package: &str, into: &Path) -> Result<()> {
    let scratch = Scratch::new(package)?;
    let download = || {
        let mut apt = command("apt-get");
        // Root's downloads are otherwise done as a user who cannot write to the folder.
        apt.args(["-q", "-o", &sandbox_user()?, "download", package]).current_dir(scratch.path());
        run(&mut apt)
    };
    if download().is_err() {
        eprintln!("setup: cannot download {package} with the package lists that are there; updating them");
        run(command("apt-get").args(["-q", "update"]))?;
        download()?;
    }
    unpack_all(scratch.path(), into)
}

/// Unpacks every package file of a folder; the result appears at once or not at all.
fn unpack_all(packages: &Path, into: &Path) -> Result<()> {
    let partial = into.with_extension("partial");
    let _ = std::fs::remove_dir_all(&partial);
    std::fs::create_dir_all(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    let dpkg = require("dpkg")?;
    for file in std::fs::read_dir(packages)? {
        let file = file?.path();
        if file.extension().is_some_and(|extension| extension == "deb") {
            run(command(&dpkg).arg("-x").arg(&file).arg(&partial))?;
        }
    }
    let _ = std::fs::remove_dir_all(into);
    std::fs::rename(&partial, into).with_context(|| format!("cannot create {}", into.display()))
}

fn sandbox_user() -> Result<String> {
    Ok(format!("APT::Sandbox::User={}", output(command("id").arg("-un"))?.trim()))
}

/// A Debian suite with package lists of its own, so that the system's configuration is not touched.
pub struct Suite {
    name: &'static str,
    folder: PathBuf,
}

impl Suite {
    pub fn open(name: &'static str, cache: &Path) -> Result<Self> {
        require("apt-get").context("kernels are fetched as Debian packages")?;
        let folder = cache.join("apt").join(name);
        for part in ["lists/partial", "cache/archives/partial"] {
            let part = folder.join(part);
            std::fs::create_dir_all(&part).with_context(|| format!("cannot create {}", part.display()))?;
        }
        let suite = Self { name, folder };
        let list = suite.folder.join("sources.list");
        if !list.exists() {
            let line = format!(
                "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {} {name} main\n",
                mirror(name)?
            );
            std::fs::write(&list, line).with_context(|| format!("cannot write {}", list.display()))?;
        }
        Ok(suite)
    }

    pub fn update(&self) -> Result<()> {
        let why = || {
            format!(
                "cannot fetch the package lists of {}; if the mirror no longer has that suite, name another in {}",
                self.name,
                self.folder.join("sources.list").display()
            )
        };
        // Output is kept back: four suites' worth of it would bury what matters.
        output(self.apt("apt-get")?.arg("update")).map(drop).with_context(why)
    }

    /// The highest package whose name matches a pattern.
    pub fn newest(&self, pattern: &str) -> Result<String> {
        let found = output(self.apt("apt-cache")?.args(["search", "--names-only", pattern]))?;
        let names = found.lines().filter_map(|line| line.split_whitespace().next());
        let newest = names.max_by(|one, other| by_version(one, other));
        Ok(newest.with_context(|| format!("no package of {} matches {pattern}", self.name))?.to_string())
    }

    /// What the package depends on, as apt prints it.
    pub fn dependencies(&self, package: &str) -> Result<String> {
        output(self.apt("apt-cache")?.args(["depends", package]))
    }

    /// Downloads packages and unpacks them together into a folder.
    pub fn unpack(&self, packages: &[String], into: &Path) -> Result<()> {
        let scratch = Scratch::new(&format!("kernel-{}", self.name))?;
        output(self.apt("apt-get")?.arg("download").args(packages).current_dir(scratch.path()))?;
        unpack_all(scratch.path(), into)
    }

    fn apt(&self, tool: &str) -> Result<Command> {
        let mut apt = command(tool);
        let mut option = |name: &str, value: &str| {
            apt.arg("-o").arg(format!("{name}={value}"));
        };
        let folder = |part: &str| self.folder.join(part).display().to_string();
        option("Dir::Etc::sourcelist", &folder("sources.list"));
        option("Dir::Etc::sourceparts", "/dev/null");
        option("Dir::State", &folder(""));
        option("Dir::State::lists", &folder("lists"));
        option("Dir::State::status", "/dev/null");
        option("Dir::Cache", &folder("cache"));
        option("APT::Architecture", "amd64");
        option("Acquire::Languages", "none");
        option("Debug::NoLocking", "1");
        apt.args(["-q", "-o", &sandbox_user()?]);
        Ok(apt)
    }
}

/// The mirror that this machine's apt already uses for a suite of that kind.
fn mirror(suite: &str) -> Result<String> {
    let targets = output(command("apt-get").args(["indextargets", "--format", "$(REPO_URI) $(RELEASE) $(ORIGIN)"]))?;
    pick_mirror(&targets, suite.ends_with("-security")).with_context(|| {
        format!("this machine's apt names no Debian mirror for {suite}; write a sources.list for it into the kernel cache's apt/{suite}")
    })
}

/// Chooses from lines of address, release and origin. The origin is known only after the first
/// `apt-get update`, so Debian's release names are accepted as well.
fn pick_mirror(targets: &str, security: bool) -> Option<String> {
    const RELEASES: [&str; 5] = ["bullseye", "bookworm", "trixie", "forky", "sid"];
    targets.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (address, release, origin) = (words.next()?, words.next()?, words.next());
        let known = RELEASES.contains(&release.split('-').next()?) || ["stable", "testing"].contains(&release);
        let debian = origin.map_or(known, |origin| origin == "Debian");
        (debian && release.ends_with("-security") == security).then(|| address.to_string())
    })
}

/// Compares names as `sort -V` does: runs of digits by value, the rest by character.
fn by_version(one: &str, other: &str) -> Ordering {
    let (mut one, mut other) = (one, other);
    loop {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (n, m) = (digits(one), digits(other));
        if n > 0 && m > 0 {
            let value = |text: &str| text.parse::<u64>().unwrap_or(u64::MAX);
            let order = value(&one[..n]).cmp(&value(&other[..m]));
            if order != Ordering::Equal {
                return order;
            }
            (one, other) = (&one[n..], &other[m..]);
            continue;
        }
        let (mut left, mut right) = (one.chars(), other.chars());
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (a, b) if a == b => (one, other) = (left.as_str(), right.as_str()),
            (a, b) => return a.cmp(&b),
        }
    }
}

/// Checks that this machine can run and build for what the packages hold.
pub fn require_amd64() -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the kernel matrix is for x86-64 machines; this one is {}", std::env::consts::ARCH);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_value() {
        let names =
            ["linux-image-6.1.0-9-cloud-amd64", "linux-image-6.1.0-56-cloud-amd64", "linux-image-6.1.0-10-cloud-amd64"];
        assert_eq!(names.into_iter().max_by(|a, b| by_version(a, b)), Some(names[1]));
        assert_eq!(by_version("7.3.4", "7.10.1"), Ordering::Less);
        assert_eq!(by_version("a", "a"), Ordering::Equal);
    }

    #[test]
    fn mirror_is_taken_from_debian_only_and_by_kind() {
        let targets = "http://third.example/apt nodistro other\n\
                       http://security.example/ bookworm-security Debian\n\
                       http://main.example/ bookworm Debian\n";
        assert_eq!(pick_mirror(targets, true).as_deref(), Some("http://security.example/"));
        assert_eq!(pick_mirror(targets, false).as_deref(), Some("http://main.example/"));
    }

    #[test]
    fn mirror_is_known_before_the_first_update() {
        let targets = "http://third.example/apt stretchy \nhttp://main.example/ bookworm \n";
        assert_eq!(pick_mirror(targets, false).as_deref(), Some("http://main.example/"));
        assert_eq!(pick_mirror(targets, true), None);
    }
}
