//! The locks that keep a second launcher out of a state folder and of a desired root.
//!
//! They are `flock`s, held by open files: the kernel lets go of them however the launcher ends, and since the files
//! close on exec no child keeps them.

use super::state_folder::{StateFolder, unusable};
use crate::desired::RootLock;
use crate::error::{Code, Error, Result};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;

/// Opens the lock of a state folder, which is made when it is absent, and locks it. `ALREADY_RUNNING` names the pid of the
/// holder.
pub(super) fn lock_file(state_dir: &Path, path: &Path) -> Result<File> {
    let unusable = |cause: io::Error| unusable(state_dir, &cause);
    let mut options = OpenOptions::new();
    let mut file =
        options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path).map_err(unusable)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => {
            let mut text = String::new();
            let written = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            let pid = holder(&file).or(written);
            return Err(held("state folder", "state_dir", state_dir, pid));
        }
        Err(errno) => return Err(unusable(errno.into())),
    }
    if let Err(error) = say_who(&file) {
        // It is the lock that counts, and the kernel tells its holder: what runs must find a launcher also while the disk
        // is full.
        tracing::warn!(path = %path.display(), %error, "the pid of this launcher cannot be written to its lock");
    }
    Ok(file)
}

/// Writes the pid over the one that is there, which needs no room that was not there before.
fn say_who(file: &File) -> io::Result<()> {
    let text = format!("{}\n", rustix::process::getpid().as_raw_nonzero());
    let written = file.write_all_at(text.as_bytes(), 0);
    // Better no pid than that of another launcher.
    file.set_len(if written.is_ok() { text.len() as u64 } else { 0 }).and(written)
}

/// Locks the folder that the cgroups of a state folder are made in. Its name hangs on the path of the state folder and not
/// on what lies there, so it keeps a second launcher out also while the lock of the state folder is gone with the folder.
/// `None` where such folders cannot be locked.
pub(super) fn lock_cgroups(folder: &Path) -> Result<Option<File>> {
    let Ok(file) = File::open(folder) else { return Ok(None) };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::WOULDBLOCK) => {
            let pid = holder(&file);
            Err(held("cgroup of the state folder", "cgroup", folder, pid))
        }
        Err(errno) => {
            tracing::debug!(cgroup = %folder.display(), %errno, "cgroups cannot be locked here");
            Ok(None)
        }
    }
}

/// Locks the folders of desired roots.
#[derive(Debug, Clone, Copy, Default)]
pub struct RootLocks;

impl RootLock for RootLocks {
    fn hold(&self, root: &Path) -> Result<Box<dyn Send>> {
        let unavailable = |cause: io::Error| {
            Error::new(Code::StoreUnavailable, "The desired folder cannot be locked")
                .with("desired_dir", root.display())
                .caused_by(&cause)
                .suggest(format!("check that {} is a folder that this user may read", root.display()))
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(root, flags, Mode::empty()).map_err(|errno| unavailable(errno.into()))?;
        let folder = File::from(folder);
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(held("desired folder", "desired_dir", root, holder(&folder))),
            // Some network file systems lock nothing that is open for reading only. The lock of the state folder is
            // then the only one.
            Err(errno) => tracing::warn!(root = %root.display(), %errno, "the desired folder cannot be locked"),
        }
        Ok(Box::new(folder))
    }
}

/// Locks the folders of desired roots, and knows the state folder of the launcher that does.
#[derive(Debug, Clone)]
pub struct LauncherLocks(pub Arc<StateFolder>);

impl RootLock for LauncherLocks {
    fn hold(&self, root: &Path) -> Result<Box<dyn Send>> {
        RootLocks.hold(root)
    }

    fn hold_state(&self) -> Result<()> {
        self.0.hold()
    }
}

/// The process that holds the lock of a file, as far as the kernel says.
fn holder(file: &File) -> Option<i32> {
    let metadata = file.metadata().ok()?;
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let device = format!("{:02x}:{:02x}", rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    let inode = metadata.ino().to_string();
    let holders = |exactly: bool| {
        locks.lines().find_map(|line| {
            // 1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF; one that waits has -> after the number.
            let fields: Vec<&str> = line.split_ascii_whitespace().collect();
            let (found_device, found_inode) = fields.get(5)?.rsplit_once(':')?;
            let matches =
                fields.get(1) == Some(&"FLOCK") && found_inode == inode && (!exactly || found_device == device);
            let pid = fields.get(4)?.parse().ok().filter(|pid| *pid > 0);
            if matches { pid } else { None }
        })
    };
    // Overlay and btrfs files are listed under a device other than the one they show.
    holders(true).or_else(|| holders(false))
}

fn held(what: &str, name: &str, folder: &Path, pid: Option<i32>) -> Error {
    let own = rustix::process::getpid().as_raw_nonzero().get();
    if pid == Some(own) {
        return Error::new(Code::InvalidConfiguration, format!("The {what} is used twice in this program"))
            .with(name, folder.display())
            .suggest(format!(
                "name {} only once, by one launcher, also under other names and by links",
                folder.display()
            ));
    }
    let error =
        Error::new(Code::AlreadyRunning, format!("Another launcher holds the {what}")).with(name, folder.display());
    let option = name.replace('_', "-");
    match pid {
        Some(pid) => error
            .with("pid", pid)
            .suggest(format!("stop it with kill {pid}, or give this launcher a folder of its own: --{option} DIR")),
        None => error.suggest(format!(
            "find it with fuser -v {}, or give this launcher a folder of its own: --{option} DIR",
            folder.display()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_root_is_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let lock = RootLocks.hold(folder.path()).expect("the first");
        let open = File::open(folder.path()).expect("open");
        assert_eq!(holder(&open), Some(std::process::id().cast_signed()));
        assert_eq!(RootLocks.hold(folder.path()).err().map(|e| e.code()), Some(Code::InvalidConfiguration));
        drop(lock);
        drop(RootLocks.hold(folder.path()).expect("the next"));
        let gone = RootLocks.hold(&folder.path().join("gone")).err().map(|e| e.code());
        assert_eq!(gone, Some(Code::StoreUnavailable));
    }

    #[test]
    fn a_holder_that_is_another_process_is_told() {
        let error = held("state folder", "state_dir", Path::new("/s"), Some(1));
        assert_eq!((error.code(), error.context_value("pid")), (Code::AlreadyRunning, Some("1")));
        assert!(error.suggestion().is_some_and(|text| text.contains("kill 1") && text.contains("--state-dir")));
    }
}
