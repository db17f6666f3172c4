//! Files that instances name as their credentials: read by the launcher at each start, and copied to where only the
//! process can read them.
//!
//! Guarantees: nothing is read but what lies in a folder that the configuration names for the namespace, wherever links
//! lead; copies are kept in memory where the machine has a file system for that; no copy outlives its run, nor the next
//! start of a launcher. Whoever can write into such a folder decides what is read in it, and nothing else.

mod sources;

pub use sources::CredentialSource;

use super::spawner::ChildUser;
use crate::error::{Code, Error};
use crate::model::id::short_hash;
use crate::model::{Instance, Key, Mask, RunId, StartSpec};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown};
use rustix::process::geteuid;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The variable that tells a process where its credentials are.
const VARIABLE: &str = "CREDENTIALS_DIRECTORY";
/// Where copies are made, if that is a file system in memory: the first only root may write to.
const IN_MEMORY: [&str; 2] = ["/run", "/dev/shm"];
/// File systems in memory: tmpfs and ramfs.
const MAGIC: [u64; 2] = [0x0102_1994, 0x8584_58f6];
/// How our folder there begins, of which each state folder has one.
const PREFIX: &str = "pattern-launcher-credentials-";
/// And where there is none, in the state folder.
const ON_DISK: &str = "credentials";

/// The credentials of all runs.
#[derive(Debug)]
pub(crate) struct Credentials {
    sources: Vec<CredentialSource>,
    /// Where copies are made, the best first.
    places: Vec<PathBuf>,
    masks: Arc<Masks>,
}

/// How many different sets of secrets an instance is remembered to have been started with.
const FORMER: usize = 16;

/// What the programs of instances must not be quoted with: everything that they were started with under this launcher, since
/// the last lines of a log may be those of a run that had other secrets.
#[derive(Debug, Default)]
pub struct Masks(Mutex<BTreeMap<Key, VecDeque<Mask>>>);

impl Masks {
    /// For an instance.
    pub fn of(&self, key: &Key) -> Mask {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(key).into_iter().flatten().cloned().fold(Mask::default(), Mask::and)
    }

    fn add(&self, key: &Key, mask: Mask) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let masks = all.entry(key.clone()).or_default();
        if !masks.contains(&mask) {
            masks.push_back(mask);
        }
        if masks.len() > FORMER {
            masks.pop_front();
        }
    }

    pub(super) fn forget(&self, key: &Key) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key));
    }
}

impl Credentials {
    /// Those of the launcher that has this state folder.
    pub(crate) fn new(sources: Vec<CredentialSource>, state_dir: &Path, masks: Arc<Masks>) -> Self {
        // They are told to processes, which work elsewhere.
        let state_dir = std::fs::canonicalize(state_dir).unwrap_or_else(|_| state_dir.to_owned());
        let name = format!("{PREFIX}{}", short_hash(state_dir.as_os_str().as_encoded_bytes()));
        let memory = IN_MEMORY.iter().map(Path::new).filter(|folder| is_memory(folder));
        let mut places: Vec<PathBuf> = memory.map(|folder| folder.join(&name)).collect();
        places.push(state_dir.join(ON_DISK));
        let sources = sources.into_iter().map(CredentialSource::absolute).collect();
        Self { sources, places, masks }
    }

    /// Copies what an instance names to where only `user`, or else the launcher's own, can read it.
    pub(crate) fn give(&self, instance: &Instance, run: RunId, user: Option<&ChildUser>) -> Result<(), Error> {
        let launch = &instance.content.launch;
        let declared = declared(launch);
        let wanted = &launch.credentials;
        if wanted.is_empty() {
            self.masks.add(&instance.key, declared);
            return Ok(());
        }
        let read = sources::read(&self.sources, wanted, instance.isolation.namespace())
            .map_err(|error| error.with("process_id", &instance.key))?;
        self.masks.add(&instance.key, declared.and(mask(read.values())));
        let mut failure = None;
        for place in &self.places {
            match copy(place, &folder_name(&instance.key, run), &read, user) {
                Ok(()) => return Ok(()),
                Err(cause) => failure = Some((place, cause)),
            }
        }
        let (place, cause) = failure.unwrap_or((&self.places[0], io::ErrorKind::NotFound.into()));
        Err(Error::new(Code::StoreUnavailable, "The credentials of a process cannot be put where it finds them")
            .with("process_id", &instance.key)
            .with("folder", place.display())
            .caused_by(&cause)
            .suggest(format!("check the space and the permissions of {}", place.display())))
    }

    /// Where a process finds its credentials, if it has been given any.
    pub(crate) fn variable(&self, key: &Key, run: RunId) -> Option<(String, String)> {
        let folder = self.folder(key, run)?;
        Some((VARIABLE.to_owned(), folder.display().to_string()))
    }

    /// The folder of a run that has one.
    pub(crate) fn folder(&self, key: &Key, run: RunId) -> Option<PathBuf> {
        self.folders(key, run).find(|folder| folder.symlink_metadata().is_ok())
    }

    fn folders(&self, key: &Key, run: RunId) -> impl Iterator<Item = PathBuf> {
        let name = folder_name(key, run);
        self.places.iter().map(move |place| place.join(&name))
    }

    /// A run goes on under this launcher: what it was given is not to be quoted.
    pub(crate) fn adopt(&self, key: &Key, run: RunId) {
        let Some(found) = self.folder(key, run).and_then(|folder| std::fs::read_dir(folder).ok()) else { return };
        let values: Vec<Vec<u8>> = found.flatten().filter_map(|file| std::fs::read(file.path()).ok()).collect();
        self.masks.add(key, mask(values.iter()));
    }

    /// Removes what a run was given, of which nothing lives.
    pub(crate) fn clear(&self, key: &Key, run: RunId) -> io::Result<()> {
        self.folders(key, run).try_for_each(|folder| remove(&folder))
    }

    /// Removes what was given to any runs but these; `damaged` are the file names of keys whose runs are not known.
    pub(crate) fn retain<'a>(&self, runs: impl Iterator<Item = (&'a Key, RunId)>, damaged: &[String]) {
        let kept: BTreeSet<String> = runs.map(|(key, run)| folder_name(key, run)).collect();
        let is_kept =
            |name: &str| kept.contains(name) || damaged.iter().any(|key| name.starts_with(&format!("{key}.")));
        let entries = self.places.iter().filter_map(|place| std::fs::read_dir(place).ok()).flatten().flatten();
        for entry in entries.filter(|entry| !entry.file_name().to_str().is_some_and(is_kept)) {
            if let Err(error) = remove(&entry.path()) {
                tracing::warn!(%error, folder = %entry.path().display(), "the credentials of a run that is over cannot be removed");
            }
        }
    }

    /// Leaves nothing behind where nothing is given.
    pub(crate) fn remove_if_empty(&self) {
        for place in &self.places {
            // It is not empty, or was never made.
            drop(std::fs::remove_dir(place));
        }
    }
}

/// No key's file name has a dot.
fn folder_name(key: &Key, run: RunId) -> String {
    format!("{}.{run}", key.file_name())
}

fn is_memory(folder: &Path) -> bool {
    rustix::fs::statfs(folder).is_ok_and(|found| u64::try_from(found.f_type).is_ok_and(|kind| MAGIC.contains(&kind)))
}

/// What the declaration of an instance says that its program must not be quoted with.
pub(super) fn declared(launch: &StartSpec) -> Mask {
    Mask::of(launch.config.iter().chain(&launch.pattern.environment))
}

fn mask<'a>(values: impl Iterator<Item = &'a Vec<u8>>) -> Mask {
    let texts: Vec<String> = values.map(|value| String::from_utf8_lossy(value).into_owned()).collect();
    Mask::of_values(texts.iter().map(String::as_str))
}

/// Makes the folder of a run in a place, with these files in it.
fn copy(place: &Path, name: &str, files: &BTreeMap<&str, Vec<u8>>, user: Option<&ChildUser>) -> io::Result<()> {
    make_place(place)?;
    let folder = place.join(name);
    let made = fill(&folder, files, user);
    if made.is_err() {
        // Why it failed counts; what is left of it goes with the start that failed.
        drop(remove(&folder));
    }
    made
}

/// In a folder that everybody may write to, somebody else may have put something in the place of ours.
fn make_place(place: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o711).create(place) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = place.symlink_metadata()?;
    if !found.is_dir() || found.uid() != geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is somebody else's"));
    }
    // Whatever the umask was.
    if found.mode() & 0o7777 == 0o711 { Ok(()) } else { std::fs::set_permissions(place, Permissions::from_mode(0o711)) }
}

fn fill(folder: &Path, files: &BTreeMap<&str, Vec<u8>>, user: Option<&ChildUser>) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(folder)?;
    let owner = |file: &File| match user {
        Some(user) => Ok(fchown(file, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))?),
        None => Ok::<(), io::Error>(()),
    };
    for (name, value) in files {
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rustix::fs::open(folder.join(name), flags, Mode::from_raw_mode(0o400))?);
        file.write_all(value)?;
        owner(&file)?;
        file.set_permissions(Permissions::from_mode(0o400))?;
    }
    let opened = File::open(folder)?;
    owner(&opened)?;
    opened.set_permissions(Permissions::from_mode(0o500))
}

fn remove(folder: &Path) -> io::Result<()> {
    match folder.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        // Who may not write to it cannot remove what is in it, unless it is root.
        Ok(found) if found.is_dir() => std::fs::set_permissions(folder, Permissions::from_mode(0o700))?,
        Ok(_) => return std::fs::remove_file(folder),
    }
    std::fs::remove_dir_all(folder)
}

#[cfg(test)]
mod tests;
