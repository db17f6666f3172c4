//! The state folder of a launcher that runs: held by the lock of a file in it, and held again when somebody has removed,
//! renamed or replaced the folder or that file.
//!
//! Guarantees: whoever makes or replaces a file of the folder by its path calls [`StateFolder::hold`] first, and what that
//! returned for is the folder whose lock this launcher holds. So the lock of a folder that is there anew is taken before
//! anything else is made in it, and nothing is ever written into one that another launcher holds.
//! Caveats: between that call and the writing lie microseconds in which the folder can be replaced once more.

use super::lock::lock_file;
use super::records::remedy;
use crate::desired::scan::Identity;
use crate::error::{Code, Error, Result};
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The locked file of a state folder; it says the pid of the holder.
pub(super) const LOCK_FILE: &str = "lock";
/// The most folders that were ours before and stay locked, so that what is recorded in them is not taken over by another
/// launcher while it lives. Somebody who renames the folder more often than that has other troubles.
const FORMER: usize = 16;

/// A state folder, held.
#[derive(Debug)]
pub struct StateFolder {
    path: PathBuf,
    hold: Mutex<Hold>,
    /// Apart from that: whoever wants to know does not wait for a disk that does not answer.
    told: Mutex<Told>,
}

/// How it stands with something that belongs into a state folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// It is there.
    Whole,
    /// It was not, and was made again.
    Made,
    /// It is not yet: somebody else is at it, who tells why when it fails.
    Pending,
}

#[derive(Debug)]
enum Hold {
    /// Nobody has to be kept out.
    Open,
    /// This launcher's.
    Locked(Locks),
    /// It is over: nothing of it is made any more.
    LetGo,
}

#[derive(Debug)]
struct Locks {
    current: Lock,
    /// Of folders that were renamed away; one that comes back is taken again.
    former: Vec<Lock>,
}

#[derive(Debug, Default)]
struct Told {
    /// What is wrong with the folder, until all of it has been made again.
    trouble: Option<Error>,
    /// How often it has had to be taken again.
    incidents: u64,
}

#[derive(Debug)]
struct Lock {
    file: File,
    identity: Identity,
}

impl StateFolder {
    /// Locks a state folder, which is made when it is absent, for its owner only. `ALREADY_RUNNING` names the pid of
    /// the holder, `STORE_UNAVAILABLE` says why the folder cannot be used.
    pub fn acquire(path: &Path) -> Result<Arc<Self>> {
        let locks = Locks { current: Lock::take(path)?, former: Vec::new() };
        Ok(Self::new(path, Hold::Locked(locks)))
    }

    /// A folder that nobody has to be kept out of.
    pub fn open(path: &Path) -> Arc<Self> {
        Self::new(path, Hold::Open)
    }

    fn new(path: &Path, hold: Hold) -> Arc<Self> {
        Arc::new(Self { path: path.to_owned(), hold: Mutex::new(hold), told: Mutex::default() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sees to it that the folder at the path is the one whose lock is held, and takes the one that is there now, or makes
    /// it, where it is not. The former lock is let go of only when the new one is held, and not even then while the
    /// file that it is on still has a name. Costs one stat when nothing has happened. Blocks on the file system.
    ///
    /// # Errors
    /// `ALREADY_RUNNING` when another launcher holds what is there: nothing may then be written into it;
    /// `STORE_UNAVAILABLE` when it cannot be locked, or this launcher has ended.
    pub fn hold(&self) -> Result<()> {
        let mut hold = self.locked();
        let locks = match &mut *hold {
            Hold::Open => return Ok(()),
            Hold::Locked(locks) => locks,
            Hold::LetGo => return Err(let_go(&self.path)),
        };
        let there = Identity::of(&self.path.join(LOCK_FILE)).ok();
        if there == Some(locks.current.identity) {
            return Ok(());
        }
        let found = what_is_there(&self.path);
        match self.take_again(locks) {
            Ok(()) => {
                let mut told = self.told();
                told.incidents += 1;
                told.note(found);
                Ok(())
            }
            Err(error) => {
                let error = if error.code() == Code::AlreadyRunning { given_way(error) } else { error };
                self.told().note(error.clone());
                Err(error)
            }
        }
    }

    fn take_again(&self, locks: &mut Locks) -> Result<()> {
        make_private(&self.path).map_err(|cause| unusable(&self.path, &cause))?;
        let there = Identity::of(&self.path.join(LOCK_FILE)).ok();
        let back = locks.former.iter().position(|lock| Some(lock.identity) == there);
        let lock = match back {
            Some(index) => locks.former.swap_remove(index),
            None => Lock::take(&self.path)?,
        };
        locks.former.push(std::mem::replace(&mut locks.current, lock));
        locks.former.retain(Lock::has_name);
        if locks.former.len() > FORMER {
            locks.former.remove(0);
        }
        Ok(())
    }

    /// What is wrong with the folder: that it cannot be held, or that what was in it is still being made again.
    pub fn trouble(&self) -> Option<Error> {
        self.told().trouble.clone()
    }

    /// How often the folder has had to be taken again.
    pub fn incidents(&self) -> u64 {
        self.told().incidents
    }

    /// Everything in it has been made again after so many incidents. True when that ends a trouble.
    pub fn mended(&self, incidents: u64) -> bool {
        let mut told = self.told();
        told.incidents == incidents && told.trouble.take().is_some()
    }

    /// Lets go of the folder for good: from now on nothing of it is made any more.
    pub fn let_go(&self) {
        *self.locked() = Hold::LetGo;
    }

    fn locked(&self) -> MutexGuard<'_, Hold> {
        // What is done under it is whole after each statement.
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // As above.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Told {
    /// Takes note of what is wrong, and says so when that is news.
    fn note(&mut self, error: Error) {
        if self.trouble.as_ref() != Some(&error) {
            tracing::warn!(%error, "the state folder is not as this launcher left it");
            self.trouble = Some(error);
        }
    }
}

impl Lock {
    fn take(folder: &Path) -> Result<Self> {
        make_private(folder).map_err(|cause| unusable(folder, &cause))?;
        Self::of(folder, lock_file(folder, &folder.join(LOCK_FILE))?)
    }

    /// A file that was locked, if it still is that of the folder.
    fn of(folder: &Path, file: File) -> Result<Self> {
        let identity = rustix::fs::fstat(&file).map_err(|errno| unusable(folder, &errno.into()))?;
        let identity = Identity::from(&identity);
        if Identity::of(&folder.join(LOCK_FILE)).ok() == Some(identity) {
            Ok(Self { file, identity })
        } else {
            Err(unusable(folder, &io::Error::new(ErrorKind::Interrupted, "its lock was replaced while it was taken")))
        }
    }

    /// Whether somebody can still come by the file.
    fn has_name(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
    }
}

/// Makes a folder that only its owner can enter, and those above it.
pub(crate) fn make_private(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What is now at the path of a folder that was held.
fn what_is_there(path: &Path) -> Error {
    let message = match path.symlink_metadata() {
        Err(error) if error.kind() == ErrorKind::NotFound => "The state folder was removed or renamed",
        Err(_) => "The state folder cannot be reached",
        Ok(_) => match path.join(LOCK_FILE).symlink_metadata() {
            Err(error) if error.kind() == ErrorKind::NotFound => "The state folder or its lock was removed",
            _ => "The state folder or its lock was replaced",
        },
    };
    Error::new(Code::StoreUnavailable, message).with("state_dir", path.display()).suggest(format!(
        "nothing: what is lacking is made again from memory; a folder that was renamed may be renamed back, see ls -ld {}*",
        path.display()
    ))
}

/// Why the state folder cannot be locked.
pub(super) fn unusable(path: &Path, cause: &io::Error) -> Error {
    let shown = path.display();
    let in_the_way = path.symlink_metadata().is_ok() && !path.is_dir();
    let suggestion = if in_the_way {
        format!("something that is no folder is in its place: look at it with ls -l {shown}, and mv it elsewhere")
    } else {
        remedy(path, cause)
    };
    Error::new(Code::StoreUnavailable, "The state folder cannot be used")
        .with("state_dir", shown)
        .caused_by(cause)
        .suggest(suggestion)
}

fn given_way(error: Error) -> Error {
    let stop = match error.context_value("pid") {
        Some(pid) => format!("kill {pid}"),
        None => "see fuser -v".to_owned(),
    };
    error.suggest(format!(
        "stop that launcher ({stop}); until then this one writes nothing there, and takes the folder again by itself"
    ))
}

fn let_go(path: &Path) -> Error {
    Error::new(Code::StoreUnavailable, "The state folder has been let go of").with("state_dir", path.display())
}

#[cfg(test)]
mod tests;
