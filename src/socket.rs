//! Unix sockets in the state folder, for owner and group, and made again when somebody has removed them.

use crate::act::state_folder::Presence;
use crate::desired::scan::Identity;
use crate::error::{Code, Error, Result};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener as StdUnixListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// The owner and the group may connect.
const MODE: u32 = 0o660;
/// The longest path of a socket: `sun_path` without its final NUL.
const PATH_LIMIT: usize = 107;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// A socket that is listened on. Dropping it closes it and leaves its file.
#[derive(Debug)]
pub(crate) struct Door {
    path: PathBuf,
    failure: &'static str,
    listener: watch::Sender<Arc<UnixListener>>,
    place: Mutex<Place>,
}

#[derive(Debug)]
struct Place {
    /// Which file it is: while it is listened on, no other can be taken for it.
    file: Option<Identity>,
    /// It is not made again any more.
    is_removed: bool,
}

impl Door {
    /// Listens on `path`. The state folder must be held: a socket that is there is taken to be a dead launcher's.
    /// `failure` is what an error says. Within a tokio runtime.
    ///
    /// # Errors
    /// `INVALID_CONFIGURATION` when it cannot be made.
    pub(crate) fn open(path: PathBuf, failure: &'static str) -> Result<Self> {
        let listener = watch::Sender::new(Arc::new(listen(&path, failure)?));
        let place = Mutex::new(Place { file: Identity::of(&path).ok(), is_removed: false });
        Ok(Self { path, failure, listener, place })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next client. Cancel-safe.
    pub(crate) async fn accept(&self) -> std::io::Result<UnixStream> {
        let mut listeners = self.listener.subscribe();
        loop {
            let listener = Arc::clone(&listeners.borrow_and_update());
            tokio::select! {
                // Cancel-safe: a client that is not taken stays in the queue.
                accepted = listener.accept() => return accepted.map(|(stream, _)| stream),
                // Cancel-safe: what has changed is seen the next time. The sender lives as long as this does.
                _ = listeners.changed() => {}
            }
        }
    }

    /// Listens anew where the path names another file, or none. The state folder is held. Within a tokio runtime.
    ///
    /// # Errors
    /// As for [`Door::open`].
    pub(crate) fn mend(&self) -> Result<Presence> {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        if place.is_removed || place.file.is_some() && Identity::of(&self.path).ok() == place.file {
            return Ok(Presence::Whole);
        }
        self.listener.send_replace(Arc::new(listen(&self.path, self.failure)?));
        place.file = Identity::of(&self.path).ok();
        Ok(Presence::Made)
    }

    /// Removes its file, unless that is somebody else's by now. Whoever is being served goes on being served.
    pub(crate) fn remove(&self) {
        let mut place = self.place.lock().unwrap_or_else(PoisonError::into_inner);
        place.is_removed = true;
        if place.file.is_some()
            && Identity::of(&self.path).ok() == place.file
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(socket = %self.path.display(), %error, "a socket cannot be removed");
        }
    }
}

fn listen(path: &Path, failure: &str) -> Result<UnixListener> {
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

    #[tokio::test]
    async fn a_socket_that_was_removed_or_replaced_is_listened_on_again_and_clients_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(SOCKET);
        let door = Door::open(path.clone(), "").unwrap();
        assert_eq!(door.mend().unwrap(), Presence::Whole);
        let (client, served) = tokio::join!(UnixStream::connect(&path), door.accept());
        let (client, served) = (client.unwrap(), served.unwrap());
        for replaced in [false, true] {
            // Whoever waits for a client goes on waiting at the new one.
            let next = door.accept();
            std::fs::remove_file(&path).unwrap();
            if replaced {
                std::fs::write(&path, "").unwrap();
            }
            assert_eq!(door.mend().unwrap(), Presence::Made);
            assert_eq!(door.mend().unwrap(), Presence::Whole);
            let (again, accepted) = tokio::join!(UnixStream::connect(&path), next);
            drop((again.unwrap(), accepted.unwrap()));
        }
        client.try_write(b"x").unwrap();
        served.readable().await.unwrap();
        door.remove();
        assert!(!path.exists());
        // Nor is anything removed that is not its own.
        std::fs::write(&path, "another's").unwrap();
        door.remove();
        assert!(path.exists());
    }
}
