//! Users and folders of tenants: each namespace has a user that nobody else has, each session one of its own.
//!
//! Guarantees: a number is written down and synced before it is used, and is never given to another, so that what a
//! tenant leaves on the machine is never somebody else's. It depends on the name alone unless two names meet.
//! Caveat: numbers are not given back; the range holds more than a machine has tenants in its life.

use super::state_folder::{Presence, StateFolder};
use crate::desired::scan::Identity;
use crate::desired::store::replace::replace;
use crate::error::{Code, Error};
use crate::model::{Isolation, IsolationLevel, Key, RunId};
use rustix::fs::{AtFlags, CWD, Gid, Mode, Uid, chownat};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The file in the state folder that says which user each tenant has.
const USERS_FILE: &str = "tenant-users";
/// The folder in the state folder that has a folder for each instance of a tenant.
const FOLDERS: &str = "tenants";
/// What is kept for as long as the instance is declared, and for namespaces beyond.
const STATE: &str = "state";
/// In the folder of one run.
const RUNTIME: &str = "run";
/// In the folder of one run, for temporary files.
const TEMPORARY: &str = "tmp";
/// Others than the owner may pass through a folder and not look into it.
const PASSABLE: u32 = 0o711;

/// The users and folders of tenants.
#[derive(Debug)]
pub(crate) struct Tenants {
    state_folder: Arc<StateFolder>,
    users_file: PathBuf,
    folders: PathBuf,
    range: (u32, u32),
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Which user each owner has; `None` until the file has been read.
    users: Option<Users>,
    /// What the file is long when all of it has been written by us.
    written: u64,
    /// The file that says all that is known here; `None` while there is nothing to be said.
    file: Option<Identity>,
    /// Instances that are declared no more, whose folders are to go.
    released: BTreeSet<String>,
    /// Whether somebody is about to remove them.
    sweep_is_due: bool,
    /// How many folders have been put aside to be removed.
    aside: u64,
    /// Whether what an earlier launcher left in the state folder has been closed to others.
    closed: bool,
}

/// Which user each owner has.
#[derive(Debug, Default)]
struct Users {
    by_owner: BTreeMap<String, u32>,
    taken: BTreeSet<u32>,
}

impl Tenants {
    /// Those of a state folder. Nothing is read or made before it is needed.
    pub(crate) fn new(state_folder: Arc<StateFolder>, range: (u32, u32)) -> Self {
        // They are told to processes, which work elsewhere.
        let state_dir = state_folder.path();
        let state_dir = std::path::absolute(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        let (users_file, folders) = (state_dir.join(USERS_FILE), state_dir.join(FOLDERS));
        Self { state_folder, users_file, folders, range, inner: Mutex::default() }
    }

    /// The user of whom an instance at this level belongs to, which is also the number of its group.
    pub(crate) fn user(&self, isolation: &Isolation, key: &Key) -> Result<u32, Error> {
        let owner = match isolation {
            Isolation::Namespace(namespace) => format!("ns:{namespace}"),
            Isolation::None | Isolation::Session(..) => key.to_string(),
        };
        let mut inner = self.lock();
        let Inner { users, written, file, .. } = &mut *inner;
        let users = if let Some(users) = users {
            users
        } else {
            *file = Identity::of(&self.users_file).ok();
            users.insert(read(&self.users_file).map_err(|cause| self.unavailable(&cause))?)
        };
        if let Some(user) = users.by_owner.get(&owner) {
            return Ok(*user);
        }
        let user = free(&owner, self.range, &users.taken).ok_or_else(|| {
            Error::new(Code::ResourceLimitExceeded, "All users that tenants may have are taken")
                .with("tenant_uids", format_args!("{}-{}", self.range.0, self.range.1))
                .suggest("give --tenant-uids a larger range that nothing else on this machine uses")
        })?;
        // What another launcher has put there says who its tenants are.
        self.state_folder.hold()?;
        users.by_owner.insert(owner.clone(), user);
        match write(&self.users_file, &users.by_owner, &owner, *written) {
            Ok(length) => (*written, *file) = (length, Identity::of(&self.users_file).ok()),
            Err(cause) => {
                users.by_owner.remove(&owner);
                *written = 0;
                return Err(self.unavailable(&cause));
            }
        }
        users.taken.insert(user);
        Ok(user)
    }

    /// Writes down again which user each tenant has, where somebody has removed or replaced the file: a launcher that did
    /// not know could give one of them to another. Before anybody has needed it, it is read, so that it is known then.
    pub(crate) fn mend(&self) -> Result<Presence, Error> {
        let mut inner = self.lock();
        let there = Identity::of(&self.users_file).ok();
        let Inner { users, written, file, .. } = &mut *inner;
        let Some(users) = users else {
            // One that cannot be read is told of by the start that needs it.
            (*users, *file) = (there.and_then(|_| read(&self.users_file).ok()), there);
            return Ok(Presence::Whole);
        };
        if users.by_owner.is_empty() || there == *file {
            return Ok(Presence::Whole);
        }
        self.state_folder.hold()?;
        *written = replace_all(&self.users_file, &users.by_owner).map_err(|cause| self.unavailable(&cause))?;
        *file = Identity::of(&self.users_file).ok();
        Ok(Presence::Made)
    }

    /// Makes the folders of a run whose predecessor is gone, for this user.
    pub(crate) fn make_folders(&self, key: &Key, run: RunId, user: u32) -> Result<(), Error> {
        self.state_folder.hold()?;
        let folder = self.folder(key);
        let made = || {
            let mut inner = self.lock();
            if inner.released.remove(&key.file_name()) {
                self.put_aside(&mut inner, &folder)?;
            }
            let state_dir = self.folders.parent().unwrap_or(&self.folders);
            if !inner.closed {
                close_to_others(state_dir)?;
                inner.closed = true;
            }
            // Nobody but root can put anything else in the place of what is in a folder of ours.
            for passable in [state_dir, &self.folders, &folder] {
                make_passable(passable)?;
            }
            own_folder(&folder.join(STATE), user)?;
            drop(inner);
            // What its predecessors left, should a launcher have died before it came to that.
            for entry in std::fs::read_dir(&folder)?.flatten().filter(|entry| entry.file_name() != STATE) {
                remove(&entry.path())?;
            }
            let own = self.run_folder(key, run);
            make_passable(&own)?;
            own_folder(&own.join(RUNTIME), user)?;
            own_folder(&own.join(TEMPORARY), user)
        };
        made().map_err(|cause: io::Error| {
            Error::new(Code::StoreUnavailable, "The folders of a tenant cannot be made")
                .with("process_id", key)
                .with("folder", folder.display())
                .caused_by(&cause)
                .suggest(format!("check the space and the permissions of {}", self.folders.display()))
        })
    }

    /// What a process is told of its folders.
    pub(crate) fn environment(&self, key: &Key, run: RunId, user: u32) -> [(&'static str, String); 5] {
        let state = self.folder(key).join(STATE).display().to_string();
        let at = |name: &str| self.run_folder(key, run).join(name).display().to_string();
        [
            ("STATE_DIR", state.clone()),
            ("RUNTIME_DIR", at(RUNTIME)),
            ("TMPDIR", at(TEMPORARY)),
            ("HOME", state),
            ("USER", user.to_string()),
        ]
    }

    /// The folder of an instance.
    pub(crate) fn folder(&self, key: &Key) -> PathBuf {
        self.folders.join(key.file_name())
    }

    fn run_folder(&self, key: &Key, run: RunId) -> PathBuf {
        self.folder(key).join(run.to_string())
    }

    /// Removes what is for one run, whose tree is gone.
    pub(crate) fn clear(&self, key: &Key, run: RunId) -> io::Result<()> {
        remove(&self.run_folder(key, run))
    }

    /// A key is declared no more: if it is a session's, its folders go with it. Only says so, at once; returns whether
    /// [`Self::sweep`] is to be called, which does it for all that were released by then.
    pub(crate) fn release(&self, key: &Key) -> bool {
        if key.level() != IsolationLevel::Session {
            return false;
        }
        let mut inner = self.lock();
        inner.released.insert(key.file_name());
        !std::mem::replace(&mut inner.sweep_is_due, true)
    }

    /// Sessions other than these are declared no more.
    pub(crate) fn retain(&self, sessions: &BTreeSet<String>) {
        let Ok(found) = std::fs::read_dir(&self.folders) else { return };
        let names = found.flatten().filter_map(|entry| entry.file_name().into_string().ok());
        let gone = names.filter(|name| name.starts_with(SESSIONS) && !sessions.contains(name));
        self.lock().released.extend(gone);
    }

    /// Removes the folders of what has been released, and what an earlier launcher did not come to remove.
    pub(crate) fn sweep(&self) -> io::Result<()> {
        self.lock().sweep_is_due = false;
        if self.state_folder.hold().is_err() {
            // What is there is another launcher's.
            return Ok(());
        }
        let mut inner = self.lock();
        for name in std::mem::take(&mut inner.released) {
            self.put_aside(&mut inner, &self.folders.join(name))?;
        }
        drop(inner);
        let Ok(found) = std::fs::read_dir(&self.folders) else { return Ok(()) };
        for entry in found.flatten().filter(|entry| entry.file_name().as_encoded_bytes().starts_with(ASIDE.as_bytes()))
        {
            remove(&entry.path())?;
        }
        Ok(())
    }

    /// Takes a folder out of the way at once; removing what a tenant has put there can take long.
    fn put_aside(&self, inner: &mut Inner, folder: &Path) -> io::Result<()> {
        loop {
            inner.aside += 1;
            let aside = self.folders.join(format!("{ASIDE}{}", inner.aside));
            // What an earlier launcher put aside is in nobody's way.
            if aside.symlink_metadata().is_err() {
                return match std::fs::rename(folder, aside) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                    _ => Ok(()),
                };
            }
        }
    }

    fn unavailable(&self, cause: &io::Error) -> Error {
        Error::new(Code::StoreUnavailable, "The users of tenants cannot be read or written down")
            .with("file", self.users_file.display())
            .caused_by(cause)
            .suggest(format!(
                "mend {}: a line for each tenant, its number, a space and its name; nobody may have two",
                self.users_file.display()
            ))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the names begin of what is to be removed.
const ASIDE: &str = ".gone-";
/// How the folders of sessions begin.
const SESSIONS: &str = "session-";

/// The first number from where the name leads that nobody has.
fn free(owner: &str, (low, high): (u32, u32), taken: &BTreeSet<u32>) -> Option<u32> {
    let size = u64::from(high - low) + 1;
    let hash = crate::model::id::short_hash(owner.as_bytes());
    let first = u64::from_str_radix(hash.get(..15)?, 16).ok()? % size;
    (0..size)
        .filter_map(|step| u32::try_from((first + step) % size).ok())
        .map(|offset| low + offset)
        .find(|user| !taken.contains(user))
}

/// What the file says. A last line without an end was never used.
fn read(path: &Path) -> io::Result<Users> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Users::default()),
        Err(error) => return Err(error),
    };
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let mut users = Users::default();
    for (number, line) in whole.lines().enumerate() {
        let entry = line.split_once(' ').and_then(|(user, owner)| Some((owner, user.parse().ok()?)));
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("line {} {what}", number + 1));
        let (owner, user) = entry.ok_or_else(|| wrong("is no number and name"))?;
        if !users.taken.insert(user) || users.by_owner.insert(owner.to_owned(), user).is_some() {
            return Err(wrong("says again what an earlier line has said"));
        }
    }
    Ok(users)
}

/// Adds an owner to the file, or writes all of it where it is not as it was left. Synced when this returns. Returns how
/// long the file then is.
fn write(path: &Path, users: &BTreeMap<String, u32>, owner: &str, written: u64) -> io::Result<u64> {
    if written > 0 && path.metadata().is_ok_and(|file| file.len() == written) {
        let text = users.get_key_value(owner).map(line).unwrap_or_default();
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        return Ok(written + text.len() as u64);
    }
    replace_all(path, users)
}

fn replace_all(path: &Path, users: &BTreeMap<String, u32>) -> io::Result<u64> {
    let text: String = users.iter().map(line).collect();
    replace(path, text.as_bytes())?;
    Ok(text.len() as u64)
}

fn line((owner, user): (&String, &u32)) -> String {
    format!("{user} {owner}\n")
}

/// Makes a folder that only `user` can enter.
fn own_folder(path: &Path, user: u32) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = path.symlink_metadata()?;
    if !found.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    if found.uid() == user {
        return Ok(());
    }
    let (owner, group) = (Uid::from_raw(user), Gid::from_raw(user));
    Ok(chownat(CWD, path, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn make_passable(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(PASSABLE).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let mode = Mode::from_raw_mode(path.metadata()?.permissions().mode());
    let passable = Mode::from_raw_mode(PASSABLE);
    if mode.contains(passable) { Ok(()) } else { Ok(rustix::fs::chmod(path, mode | passable)?) }
}

/// Takes from others what they may do with what is in a state folder, and the list of it. What is made there is private
/// from the beginning, but earlier launchers relied on the folder being so.
fn close_to_others(state_dir: &Path) -> io::Result<()> {
    let close = |path: &Path, rights: u32| -> io::Result<()> {
        let mode = path.symlink_metadata()?.permissions().mode();
        if mode & rights == 0 {
            return Ok(());
        }
        Ok(rustix::fs::chmod(path, Mode::from_raw_mode(mode & !rights))?)
    };
    for entry in std::fs::read_dir(state_dir)? {
        let entry = entry?;
        if entry.file_name() != FOLDERS && !entry.file_type()?.is_symlink() {
            close(&entry.path(), 0o007)?;
        }
    }
    close(state_dir, 0o006)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
