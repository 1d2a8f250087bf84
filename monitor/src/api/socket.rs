//! The socket file: made with the right mode, taken over from a dead agent, never from a live one.

use std::fs::{DirBuilder, File, Permissions};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Owner and group talk to the agent, nobody else.
const SOCKET_MODE: u32 = 0o660;
const DIRECTORY_MODE: u32 = 0o750;

#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    #[error("another agent is listening on {0}; stop it, or choose another socket with --socket PATH")]
    Live(PathBuf),
    #[error("{0} exists and is no socket; remove it, or choose another path with --socket PATH")]
    NotASocket(PathBuf),
    #[error(
        "cannot make the socket {0}: permission denied; run as root, or choose a writable folder with --socket PATH"
    )]
    NotPermitted(PathBuf),
    #[error("cannot make the socket {0}: {1}; choose another path with --socket PATH")]
    Other(PathBuf, std::io::Error),
}

/// A bound socket. Its file goes when this is dropped, unless somebody else's stands there by then.
#[derive(Debug)]
pub struct Socket {
    // Dropped in this order.
    listener: UnixListener,
    file: SocketFile,
}

/// Removes the file on drop, which has to come after the listener's.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
}

impl Socket {
    /// Outside of any runtime, so that a socket in use is found before anything is attached.
    pub fn bind(path: &Path) -> Result<Socket, SocketError> {
        bind(path).map_err(|e| match e {
            Refused::Known(e) => e,
            Refused::Io(e) if e.kind() == ErrorKind::PermissionDenied => SocketError::NotPermitted(path.to_owned()),
            Refused::Io(e) => SocketError::Other(path.to_owned(), e),
        })
    }

    pub fn split(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

enum Refused {
    Known(SocketError),
    Io(std::io::Error),
}

impl From<std::io::Error> for Refused {
    fn from(e: std::io::Error) -> Refused {
        Refused::Io(e)
    }
}

fn bind(path: &Path) -> Result<Socket, Refused> {
    // The path limit of AF_UNIX gives a better message here than from bind.
    SocketAddr::from_pathname(path)?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(folder)?;
    // Two agents that start at once must not both take the same stale file away.
    let lock = File::open(folder)?;
    lock.lock()?;
    remove_stale(path)?;
    let listener = listener_with_mode(path)?;
    Ok(Socket { listener, file: SocketFile { path: path.to_owned() } })
}

fn remove_stale(path: &Path) -> Result<(), Refused> {
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e.into()),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(Refused::Known(SocketError::NotASocket(path.to_owned())));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(Refused::Known(SocketError::Live(path.to_owned()))),
        Err(e) if e.kind() == ErrorKind::ConnectionRefused => Ok(std::fs::remove_file(path)?),
        Err(e) => Err(e.into()),
    }
}

/// The file is never more open than [`SOCKET_MODE`]: on Linux, bind gives it the mode of the socket's own inode, less
/// the umask (net/unix/af_unix.c, unix_bind_bsd). Afterwards the umask's part is added.
fn listener_with_mode(path: &Path) -> std::io::Result<UnixListener> {
    use socket2::{Domain, SockAddr, Socket as Raw, Type};
    let socket = Raw::new(Domain::UNIX, Type::STREAM, None)?;
    File::from(socket.as_fd().try_clone_to_owned()?).set_permissions(Permissions::from_mode(SOCKET_MODE))?;
    socket.bind(&SockAddr::unix(path)?)?;
    std::fs::set_permissions(path, Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(64)?;
    socket.set_nonblocking(true)?;
    Ok(std::os::fd::OwnedFd::from(socket).into())
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // A successor answers; identities would not do, because inode numbers are reused at once.
        let _ = remove_stale(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use std::os::unix::fs::MetadataExt;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn socket_and_missing_folder_get_their_modes_and_the_file_goes_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("sub/w.sock");
        let socket = Socket::bind(&path).unwrap();
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o660, 0o750));
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn the_file_of_a_dead_agent_is_replaced_and_a_live_one_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "std leaves the file, as a killed agent does");
        let _live = Socket::bind(&path).unwrap();
        let e = Socket::bind(&path).unwrap_err();
        assert!(matches!(e, SocketError::Live(_)), "{e}");
    }

    #[test]
    fn anything_but_a_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.sock");
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Socket::bind(&path).unwrap_err(), SocketError::NotASocket(_)));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[test]
    fn a_successor_s_file_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w.sock");
        let (listener, file) = Socket::bind(&path).unwrap().split();
        drop(listener);
        let _successor = Socket::bind(&path).unwrap();
        drop(file);
        assert!(path.exists());
    }
}
