//! Users and folders of tenants: each namespace has a user that nobody else has, each session one of its own.
//!
//! Guarantees: a number is written down and synced before it is used, and is never given to another, so that what a
//! tenant leaves on the machine is never somebody else's. It depends on the name alone unless two names meet.
//! Caveat: numbers are not given back; the range holds more than a machine has tenants in its life.

use super::state_folder::StateFolder;
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
        let Inner { users, written, .. } = &mut *inner;
        let users = match users {
            Some(users) => users,
            None => users.insert(read(&self.users_file).map_err(|cause| self.unavailable(&cause))?),
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
            Ok(length) => *written = length,
            Err(cause) => {
                users.by_owner.remove(&owner);
                *written = 0;
                return Err(self.unavailable(&cause));
            }
        }
        users.taken.insert(user);
        Ok(user)
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
    let line = |(owner, user): (&String, &u32)| format!("{user} {owner}\n");
    if written > 0 && path.metadata().is_ok_and(|file| file.len() == written) {
        let text = users.get_key_value(owner).map(line).unwrap_or_default();
        let mut file = OpenOptions::new().append(true).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        return Ok(written + text.len() as u64);
    }
    let text: String = users.iter().map(line).collect();
    replace(path, text.as_bytes())?;
    Ok(text.len() as u64)
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
mod tests {
    use super::*;
    use crate::model::{Namespace, PatternName, SessionId};

    const RANGE: (u32, u32) = (1_879_048_192, 2_147_483_646);

    fn held(state: &Path, range: (u32, u32)) -> Tenants {
        Tenants::new(StateFolder::open(state), range)
    }

    fn session(namespace: &str, session: &str) -> (Isolation, Key) {
        let namespace = Namespace::new(namespace).expect("a name");
        let isolation = Isolation::Session(namespace, SessionId::new(session).expect("a session"));
        let key = isolation.key(&PatternName::new("p").expect("a name"));
        (isolation, key)
    }

    fn tenant(name: &str, pattern: &str) -> (Isolation, Key) {
        let isolation = Isolation::Namespace(Namespace::new(name).expect("a name"));
        let key = isolation.key(&PatternName::new(pattern).expect("a name"));
        (isolation, key)
    }

    fn user(tenants: &Tenants, (isolation, key): &(Isolation, Key)) -> u32 {
        tenants.user(isolation, key).expect("a user")
    }

    #[test]
    fn a_namespace_has_one_user_and_a_session_its_own_also_for_the_next_launcher() {
        let state = tempfile::tempdir().expect("a folder");
        let tenants = held(state.path(), RANGE);
        let all = [tenant("a", "p"), tenant("b", "p"), session("a", "1"), session("a", "2"), session("b", "1")];
        let users: Vec<u32> = all.iter().map(|one| user(&tenants, one)).collect();
        assert_eq!(users.iter().collect::<BTreeSet<_>>().len(), all.len(), "{users:?}");
        assert_eq!(user(&tenants, &tenant("a", "q")), users[0], "another pattern of the same tenant");
        let next = held(state.path(), RANGE);
        assert_eq!(all.iter().map(|one| user(&next, one)).collect::<Vec<_>>(), users);
        // What is lost comes out the same unless two names have met.
        std::fs::remove_file(state.path().join(USERS_FILE)).expect("removed");
        assert_eq!(user(&next, &tenant("c", "p")), user(&held(state.path(), RANGE), &tenant("c", "p")));
        assert_eq!(user(&held(state.path(), RANGE), &all[3]), users[3], "all is written again");
    }

    #[test]
    fn no_number_is_given_twice_however_few_there_are() {
        let state = tempfile::tempdir().expect("a folder");
        let tenants = held(state.path(), (5_000, 5_007));
        let users: BTreeSet<u32> = (0..8).map(|n| user(&tenants, &session("a", &n.to_string()))).collect();
        assert_eq!(users, (5_000..=5_007).collect());
        let (isolation, key) = session("a", "one too many");
        let error = tenants.user(&isolation, &key).expect_err("all are taken");
        assert_eq!(error.code(), Code::ResourceLimitExceeded);
        assert_eq!(user(&held(state.path(), (5_000, 5_007)), &session("a", "3")), user(&tenants, &session("a", "3")));
    }

    #[test]
    fn a_line_that_was_cut_off_was_never_used_and_a_wrong_one_stops_what_needs_it() {
        let state = tempfile::tempdir().expect("a folder");
        let file = state.path().join(USERS_FILE);
        let first = user(&held(state.path(), RANGE), &tenant("a", "p"));
        let whole = std::fs::read_to_string(&file).expect("written");
        std::fs::write(&file, format!("{whole}190000")).expect("written");
        let tenants = held(state.path(), RANGE);
        assert_eq!(user(&tenants, &tenant("a", "p")), first);
        let second = user(&tenants, &tenant("b", "p"));
        let next = held(state.path(), RANGE);
        assert_eq!((user(&next, &tenant("a", "p")), user(&next, &tenant("b", "p"))), (first, second));
        for wrong in ["x ns:c\n", "7\n", &format!("{first} ns:c\n"), "7 ns:a\n"] {
            std::fs::write(&file, format!("{whole}{wrong}")).expect("written");
            let (isolation, key) = tenant("b", "p");
            let error = held(state.path(), RANGE).user(&isolation, &key).expect_err(wrong);
            assert_eq!(error.code(), Code::StoreUnavailable, "{wrong}");
            assert!(error.to_string().contains("line 2"), "{error}");
        }
    }

    #[test]
    fn folders_of_one_run_go_with_it_and_those_of_a_session_when_it_is_released() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give folders to others");
            return;
        }
        let state = tempfile::tempdir().expect("a folder");
        let tenants = held(state.path(), RANGE);
        let ((_, kept), (_, session)) = (tenant("a", "p"), session("a", "1"));
        let runs = [1, 2].map(RunId::from_random);
        for key in [&kept, &session] {
            tenants.make_folders(key, runs[0], 5_000).expect("made");
            std::fs::write(tenants.folder(key).join(STATE).join("mine"), "x").expect("written");
        }
        let own = |run: RunId| tenants.folder(&kept).join(run.to_string());
        let mode = |path: &Path| path.metadata().map(|found| (found.uid(), found.permissions().mode() & 0o777));
        for each in [own(runs[0]).join(RUNTIME), own(runs[0]).join(TEMPORARY), tenants.folder(&kept).join(STATE)] {
            assert_eq!(mode(&each).expect("there"), (5_000, 0o700), "{}", each.display());
        }
        assert_eq!(mode(&tenants.folder(&kept)).expect("there"), (0, PASSABLE), "a tenant must not put links there");
        tenants.make_folders(&kept, runs[1], 5_000).expect("made");
        assert!(!own(runs[0]).exists(), "what a launcher that died has left");
        tenants.clear(&kept, runs[1]).expect("cleared");
        assert!(!own(runs[1]).exists());
        assert_eq!([&kept, &session, &session].map(|key| tenants.release(key)), [false, true, false]);
        // It is declared again before anybody has come to remove it.
        tenants.make_folders(&session, runs[1], 5_000).expect("made");
        assert!(!tenants.folder(&session).join(STATE).join("mine").exists(), "another session by the same name");
        tenants.sweep().expect("swept");
        assert!(
            tenants.folder(&session).join(STATE).exists() && tenants.folder(&kept).join(STATE).join("mine").exists()
        );
        tenants.retain(&BTreeSet::new());
        tenants.sweep().expect("swept");
        let left: Vec<_> = std::fs::read_dir(state.path().join(FOLDERS)).expect("there").flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }

    #[test]
    fn what_an_earlier_launcher_left_readable_is_closed_before_others_may_pass() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("skipped: only root can give folders to others");
            return;
        }
        let state = tempfile::tempdir().expect("a folder");
        let set = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("changed");
        };
        let mode = |path: &Path| path.metadata().expect("there").permissions().mode() & 0o777;
        let (file, folder) = (state.path().join("old.json"), state.path().join("old"));
        std::fs::write(&file, "").expect("written");
        std::fs::create_dir(&folder).expect("made");
        set(&file, 0o644);
        set(&folder, 0o755);
        set(state.path(), 0o755);
        let (_, key) = tenant("a", "p");
        held(state.path(), RANGE).make_folders(&key, RunId::from_random(1), 5_000).expect("made");
        assert_eq!((mode(&file), mode(&folder), mode(state.path())), (0o640, 0o750, 0o751));
    }
}
