//! Unix sockets in the state folder, for owner and group.

use crate::error::{Code, Error, Result};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// The owner and the group may connect.
const MODE: u32 = 0o660;
/// The longest path of a socket: `sun_path` without its final NUL.
const PATH_LIMIT: usize = 107;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// Listens on `path`. The state lock must be held: a socket that is there is taken to be a dead launcher's. `failure`
/// is what an error says.
///
/// # Errors
/// `INVALID_CONFIGURATION` when it cannot be made.
pub(crate) fn listen(path: &Path, failure: &str) -> Result<UnixListener> {
    let shown = path.display();
    let unusable = || Error::new(Code::InvalidConfiguration, failure).with("path", shown);
    if path.as_os_str().len() > PATH_LIMIT {
        let length = path.as_os_str().len();
        return Err(unusable()
            .because(format!("the path has {length} bytes, and the kernel allows {PATH_LIMIT}"))
            .suggest("give --state-dir a shorter path; a relative one counts as it is written"));
    }
    bind(path).map_err(|cause| {
        unusable().caused_by(&cause).suggest(format!(
            "the launcher must be able to write in {}, on a file system that has sockets",
            path.parent().unwrap_or(path).display()
        ))
    })
}

/// Nobody can connect before the mode is set: until it listens, the kernel refuses.
fn bind(path: &Path) -> std::io::Result<UnixListener> {
    let unready = unready(path);
    match std::fs::remove_file(&unready) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(&unready)?)?;
    std::fs::set_permissions(&unready, std::fs::Permissions::from_mode(MODE))?;
    rustix::net::listen(&socket, BACKLOG)?;
    std::fs::rename(&unready, path)?;
    UnixListener::from_std(StdUnixListener::from(socket))
}

/// What the socket is called until it is ready: `.api.new` for `api.sock`, which is as long, so that the one path is as
/// good as the other.
fn unready(path: &Path) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{stem}.new"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{HTTP_SOCKET, SOCKET};
    use std::os::unix::fs::FileTypeExt as _;
    use tokio::net::UnixStream;

    #[tokio::test]
    async fn the_socket_is_for_owner_and_group_and_replaces_one_that_is_left() {
        let folder = tempfile::tempdir().unwrap();
        for (count, name) in [SOCKET, HTTP_SOCKET].into_iter().enumerate() {
            let path = folder.path().join(name);
            assert!(unready(&path).as_os_str().len() <= path.as_os_str().len());
            drop(listen(&path, "").unwrap());
            assert!(UnixStream::connect(&path).await.is_err(), "nobody listens any more");
            let listener = listen(&path, "").unwrap();
            let metadata = std::fs::metadata(&path).unwrap();
            assert!(metadata.file_type().is_socket());
            assert_eq!(metadata.permissions().mode() & 0o777, MODE);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), count + 1);
            let (client, accepted) = tokio::join!(UnixStream::connect(&path), listener.accept());
            let _client = client.unwrap();
            assert_eq!(accepted.unwrap().0.peer_cred().unwrap().uid(), rustix::process::getuid().as_raw());
        }
    }

    #[tokio::test]
    async fn a_path_that_is_too_long_is_refused_with_the_way_out() {
        let folder = tempfile::tempdir().unwrap().path().join("x".repeat(100));
        let error = listen(&folder.join(SOCKET), "no socket").unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::InvalidConfiguration, "no socket"));
        assert!(error.suggestion().unwrap().contains("--state-dir"), "{error}");
    }
}
