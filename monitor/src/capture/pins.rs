//! Links that outlive a killed agent, where that was asked for.

use super::classifier::Classifier;
use super::interfaces;
use super::live::Link;
use aya::programs::links::FdLink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Pins the links of `interface` under `folder` and notes the pins; returns what cannot be pinned. A pin of an earlier
/// run goes first: its maps are nobody's any more, so there is nothing to take over.
pub fn keep(
    folder: &Path,
    interface: &str,
    ingress: Link,
    egress: Option<Link>,
    pins: &mut Vec<PathBuf>,
) -> Result<Vec<Link>, String> {
    std::fs::create_dir_all(folder)
        .map_err(|e| format!("cannot make {}: {e}; --pin needs a folder of a mounted bpffs", folder.display()))?;
    let mut kept = Vec::new();
    for (side, link) in [("ingress", Some(ingress)), ("egress", egress)] {
        match link {
            Some(Link::Xdp(fd) | Link::Classifier(Classifier::Tcx(fd))) => {
                pin(folder, &format!("{interface}-{side}"), fd, pins)?;
            }
            // A filter needs no pin to stay, and it should not outlive us unasked for.
            Some(link @ Link::Classifier(Classifier::Clsact(_))) => kept.push(link),
            None => {}
        }
    }
    Ok(kept)
}

/// The kernel frees a link some time after its last pin is gone.
const FREED_LIMIT: Duration = Duration::from_secs(2);

/// Removes what a killed agent left pinned for `interface`, and waits until its XDP hook is free.
pub fn release(folder: &Path, interface: &str) {
    let mut removed = false;
    for name in [format!("{interface}-ingress"), format!("{interface}-egress")] {
        let path = folder.join(name);
        match std::fs::remove_file(&path) {
            Ok(()) => {
                tracing::info!("removed {}, which an earlier run left pinned", path.display());
                removed = true;
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => tracing::warn!("cannot remove {}: {e}", path.display()),
        }
    }
    let held =
        || interfaces::list().is_ok_and(|all| all.iter().any(|i| i.name == interface && i.xdp_program.is_some()));
    let deadline = Instant::now() + FREED_LIMIT;
    // What is still there after that is somebody else's; attaching will name it.
    while removed && held() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn pin(folder: &Path, name: &str, link: FdLink, pins: &mut Vec<PathBuf>) -> Result<(), String> {
    let path = folder.join(name);
    link.pin(&path)
        .map_err(|e| format!("cannot pin {}: {e}; --pin needs a folder of a mounted bpffs", path.display()))?;
    pins.push(path);
    Ok(())
}
