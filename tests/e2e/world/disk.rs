//! A state folder on a small file system of its own, which a test can fill and make read-only.
//!
//! It is mounted in a mount namespace of the test's own thread, so that nothing of it is seen by anybody else and nothing
//! of it is left when the test ends, however it ends. The daemon, being started by that thread, lives in it too.

use super::command::program;
use rustix::io::Errno;
use rustix::thread::UnshareFlags;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// What there is room for: enough for the records, logs and status of some instances.
const SIZE: &str = "2m";
/// The file that takes up what is left.
const BALLAST: &str = "ballast";

/// A file system of 2 MiB; dropping it unmounts it.
pub(crate) struct Disk {
    /// Where it is always writable.
    own: PathBuf,
    /// Where the state folder is.
    shown: PathBuf,
}

impl Disk {
    /// Mounts it at `own`, and shows it at `shown`; `None`, said loudly, where this user may not mount.
    pub(crate) fn mount(own: &Path, shown: &Path) -> Option<Self> {
        for folder in [own, shown] {
            fs::create_dir(folder).unwrap();
        }
        #[expect(unsafe_code, reason = "a mount namespace of its own can be had in no other way")]
        // SAFETY: only the file descriptor table must not be taken from under other threads, and it is not.
        let namespace = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) };
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        let mounted = namespace.and_then(|()| {
            run("mount", &["--make-rprivate", "/"])?;
            run("mount", &["-t", "tmpfs", "-o", &format!("size={SIZE},mode=700"), "tmpfs", &path(own)])?;
            run("mount", &["--bind", &path(own), &path(shown)])
        });
        match mounted {
            Ok(()) => Some(Self { own: own.to_owned(), shown: shown.to_owned() }),
            Err(errno) => {
                eprintln!("skipped: no file system can be mounted here: {errno}");
                None
            }
        }
    }

    /// Takes up all the room that is left.
    pub(crate) fn fill(&self) {
        let mut ballast = File::create(self.own.join(BALLAST)).unwrap();
        for size in [65_536, 4_096] {
            while ballast.write_all(&vec![1; size]).is_ok() {}
        }
    }

    /// Gives it back.
    pub(crate) fn free(&self) {
        fs::remove_file(self.own.join(BALLAST)).unwrap();
    }

    /// From now on nothing below the state folder can be opened for writing; what is open stays so.
    pub(crate) fn make_read_only(&self) {
        let path = |path: &Path| path.to_str().unwrap().to_owned();
        run("mount", &["--bind", "-o", "ro", &path(&self.own), &path(&self.shown)]).unwrap();
    }

    /// Takes that back.
    pub(crate) fn make_writable(&self) {
        run("umount", &["-l", self.shown.to_str().unwrap()]).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // As often as something is mounted there: a test can end while it is read-only.
        for folder in [&self.shown, &self.shown, &self.own] {
            let _ = run("umount", &["-l", "-q", folder.to_str().unwrap()]);
        }
    }
}

/// Runs a program of the machine in this thread's namespace.
fn run(name: &str, arguments: &[&str]) -> Result<(), Errno> {
    let output = program(name).args(arguments).output().map_err(|error| Errno::from_io_error(&error).unwrap())?;
    if output.status.success() {
        return Ok(());
    }
    eprintln!("{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Err(Errno::PERM)
}
