//! The readiness protocol of service managers: one datagram to the socket that `NOTIFY_SOCKET` names.

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Says `state` (`READY=1`, `STOPPING=1`) if anybody listens. Not being heard is no reason to fail.
pub fn notify(state: &str) {
    let Some(name) = std::env::var_os("NOTIFY_SOCKET") else { return };
    if let Err(e) = send(&name, state) {
        tracing::debug!("cannot tell the service manager {state}: {e}");
    }
}

fn send(name: &OsStr, state: &str) -> std::io::Result<()> {
    let address = match name.as_bytes() {
        // The abstract namespace, whose leading zero byte an environment cannot hold.
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_manager_hears_over_a_path_and_over_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("@{}", path.display());
        let abstract_address = SocketAddr::from_abstract_name(&abstract_name.as_bytes()[1..]).unwrap();
        let listeners = [
            (path.as_os_str(), UnixDatagram::bind(&path).unwrap()),
            (OsStr::new(&abstract_name), UnixDatagram::bind_addr(&abstract_address).unwrap()),
        ];
        for (name, listener) in listeners {
            send(name, "READY=1").unwrap();
            let mut heard = [0; 16];
            let n = listener.recv(&mut heard).unwrap();
            assert_eq!(&heard[..n], b"READY=1");
        }
    }
}
