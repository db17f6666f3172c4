//! What instances print: their logs, which are rotated, bounded and read here.
//!
//! A process writes straight to its live file, so it needs nothing of the launcher, never waits for it and survives it. One
//! thread, the keeper, looks at the logs of what runs. What has become too long it copies into an archive, and only then
//! gives the room of the original back, by punching a hole into the live file: no line is lost, and nobody has to open
//! anything anew. Under a ceiling or for want of free disk, the oldest output of whoever holds most is given up.
//!
//! Nothing here is decided from what is printed, and no process waits for anything here.

mod files;
mod index;
mod keeper;
mod ledger;
mod log;
mod reading;
mod unlinked;

use super::clock;
use super::credentials::{Masks, declared};
use super::turns::Turns;
use crate::error::{Code, Error, Result};
use crate::model::{Instance, Key, Mask, RunId};
use files::{Part, Place};
use keeper::Keeper;
use log::{Archive, Log, Means};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The name of the folder for logs in the state folder.
pub const LOGS_FOLDER: &str = "logs";

/// How much of the output of instances is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// The size in bytes at which a log is rotated.
    pub max_size: u64,
    /// How many archives of a log are kept.
    pub max_files: u32,
    /// The most that the logs of a namespace hold together, in bytes.
    pub namespace: Option<u64>,
    /// The most that all logs hold together, in bytes.
    pub total: Option<u64>,
    /// The free disk, in bytes, below which logs stop growing.
    pub reserve: Option<u64>,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self {
            max_size: 16 << 20,
            max_files: 4,
            namespace: Some(1 << 30),
            total: Some(8 << 30),
            reserve: Some(512 << 20),
        }
    }
}

/// The logs of one state folder. Dropping it writes down what is known of them.
#[derive(Debug)]
pub struct Output {
    shared: Arc<Shared>,
    masks: Arc<Masks>,
    keeper: Option<JoinHandle<()>>,
    /// For those who read.
    turns: Turns,
}

/// What the keeper and everybody else share.
#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    /// By [`Key::file_name`].
    logs: Mutex<HashMap<String, Arc<Mutex<Log>>>>,
    /// What was in the folder at the start, and is not in `logs` yet.
    found: Mutex<HashMap<String, Vec<Archive>>>,
    limits: Mutex<LogLimits>,
    /// Whether there is room for archives.
    archiving: AtomicBool,
    punching: AtomicBool,
    /// Which folder it was when it was last looked at.
    identity: Mutex<Option<(u64, Option<SystemTime>)>>,
    /// The [`Key::file_name`]s of the keys that something declares.
    declared: Mutex<HashSet<String>>,
    schedule: Mutex<Schedule>,
    wake: Condvar,
}

/// When which log is looked at, since the boot, and what the keeper was told.
#[derive(Debug, Default)]
struct Schedule {
    due: BTreeSet<(Duration, String)>,
    at: HashMap<String, Duration>,
    /// The last for each key.
    told: HashMap<Key, Told>,
    closing: bool,
}

/// What the keeper is told, which then need not be waited for.
#[derive(Debug, Clone, Copy)]
enum Told {
    /// A run prints, by a process of this pid.
    Runs(RunId, i32),
    /// Nothing of a run lives any more.
    Over(RunId),
    /// Nothing declares the key any more, and nothing of it lives.
    Gone,
}

impl Schedule {
    fn put(&mut self, name: &str, at: Duration) {
        if let Some(before) = self.at.insert(name.to_owned(), at) {
            self.due.remove(&(before, name.to_owned()));
        }
        self.due.insert((at, name.to_owned()));
    }

    /// Everything is looked at now.
    fn hurry(&mut self, now: Duration) {
        self.due = self.at.keys().map(|name| (now, name.clone())).collect();
        self.at.values_mut().for_each(|at| *at = now);
    }

    fn take(&mut self, now: Duration) -> Option<String> {
        if self.due.first()?.0 > now {
            return None;
        }
        let (_, name) = self.due.pop_first()?;
        self.at.remove(&name);
        Some(name)
    }
}

impl Output {
    /// Takes over the logs in a folder, which exists, and starts the keeper.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when the folder cannot be read or the thread cannot be started.
    pub fn start(folder: &Path, limits: LogLimits) -> Result<Self> {
        let unusable = |message: &str, cause: std::io::Error| {
            Error::new(Code::StoreUnavailable, message).with("log_dir", folder.display()).caused_by(&cause).suggest(
                format!("look at it with ls -ld {}; look at the limit of threads with ulimit -u", folder.display()),
            )
        };
        let found = find(folder).map_err(|cause| unusable("The folder for logs cannot be read", cause))?;
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            logs: Mutex::default(),
            found: Mutex::new(found),
            limits: Mutex::new(limits),
            archiving: AtomicBool::new(true),
            punching: AtomicBool::new(true),
            identity: Mutex::new(identity_of(folder)),
            declared: Mutex::default(),
            schedule: Mutex::default(),
            wake: Condvar::new(),
        });
        let keeper = Keeper::new(Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("logs".to_owned()).spawn(move || keeper.run());
        let keeper = thread.map_err(|cause| unusable("The thread that looks after logs cannot be started", cause))?;
        Ok(Self { shared, masks: Arc::default(), keeper: Some(keeper), turns: Turns::default() })
    }

    /// What programs must not be quoted with, for who gives it to them.
    pub(super) fn masks(&self) -> Arc<Masks> {
        Arc::clone(&self.masks)
    }

    /// What the program of an instance must not be quoted with.
    pub fn mask(&self, instance: &Instance) -> Mask {
        declared(&instance.content.launch).and(self.masks.of(&instance.key))
    }

    /// Takes over other limits.
    pub fn retune(&self, limits: LogLimits) {
        *lock(&self.shared.limits) = limits;
        // Whatever is over them now is noticed when it is next looked at.
        self.shared.wake.notify_one();
    }

    /// These keys are declared, so that their logs are kept. Others become known as they are started.
    pub fn declare<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        lock(&self.shared.declared).extend(keys.into_iter().map(Key::file_name));
    }

    /// Does what may block for somebody who reads a log, in the turn of its namespace.
    pub async fn blocking<T: Send + 'static>(&self, key: &Key, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.turns.blocking(key.namespace(), work).await
    }

    /// A run is about to begin, and its log is to be opened. May block.
    pub(crate) fn begin(&self, key: &Key, run: RunId) {
        self.declare([key]);
        let log = self.shared.log(&key.file_name());
        let begun = lock(&log).begin(key, run, now(), &self.shared.means());
        if let Err(error) = begun {
            // The process is started all the same: what it prints is kept, only less is known of it.
            tracing::debug!(%key, %error, "the beginning of a run could not be noted in its log");
        }
    }

    /// A run prints from now on, by a process of this pid.
    pub(super) fn runs(&self, key: &Key, run: RunId, pid: i32) {
        self.tell(key, Told::Runs(run, pid));
    }

    /// Nothing of a run lives any more.
    pub(super) fn over(&self, key: &Key, run: RunId) {
        self.tell(key, Told::Over(run));
    }

    /// Nothing declares a key any more, and nothing of it lives.
    pub(super) fn gone(&self, key: &Key) {
        self.masks.forget(key);
        self.tell(key, Told::Gone);
    }

    fn tell(&self, key: &Key, told: Told) {
        lock(&self.shared.schedule).told.insert(key.clone(), told);
        self.shared.wake.notify_one();
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        lock(&self.shared.schedule).closing = true;
        self.shared.wake.notify_one();
        if let Some(keeper) = self.keeper.take() {
            drop(keeper.join());
        }
    }
}

impl Shared {
    /// The log of a name, made known if it is not.
    fn log(&self, name: &str) -> Arc<Mutex<Log>> {
        let mut logs = lock(&self.logs);
        if let Some(log) = logs.get(name) {
            return Arc::clone(log);
        }
        let archives = lock(&self.found).remove(name).unwrap_or_default();
        let log = Arc::new(Mutex::new(Log::load(Place::new(&self.folder, name), archives)));
        logs.insert(name.to_owned(), Arc::clone(&log));
        log
    }

    fn all(&self) -> Vec<Arc<Mutex<Log>>> {
        lock(&self.logs).values().map(Arc::clone).collect()
    }

    fn means(&self) -> Means {
        Means {
            limits: *lock(&self.limits),
            archiving: self.archiving.load(Ordering::Relaxed),
            punching: self.punching.load(Ordering::Relaxed),
        }
    }

    /// Notices when the folder is another than it was. Who looks after the state folder makes it anew; here nothing is
    /// made, since what is around it may belong to another launcher by then.
    fn notice_folder(&self) {
        let Some(seen) = identity_of(&self.folder) else { return };
        if lock(&self.identity).replace(seen).is_some_and(|before| before != seen) {
            self.folder_was_lost();
        }
    }

    fn folder_was_lost(&self) {
        tracing::warn!(
            log_dir = %self.folder.display(),
            "the folder for logs had been removed: what was in it is lost, and what runs prints into files without a name \
             until it is started again"
        );
        for log in self.all() {
            lock(&log).lose_folder();
        }
    }
}

/// Which folder it is: an inode may be given again at once, but not at the same time.
fn identity_of(folder: &Path) -> Option<(u64, Option<SystemTime>)> {
    let seen = folder.metadata().ok().filter(std::fs::Metadata::is_dir)?;
    Some((seen.ino(), seen.created().ok()))
}

/// The logs of a folder and their archives.
fn find(folder: &Path) -> std::io::Result<HashMap<String, Vec<Archive>>> {
    let mut found: HashMap<String, Vec<Archive>> = HashMap::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let file_name = entry.file_name();
        let Some((name, part)) = file_name.to_str().and_then(files::part_of) else { continue };
        let archives = found.entry(name.to_owned()).or_default();
        match part {
            Part::Archive(start) => archives.push(Archive { start, len: entry.metadata()?.len() }),
            // A launcher died while it wrote it.
            Part::Unfinished => drop(std::fs::remove_file(entry.path())),
            Part::Live | Part::Index => {}
        }
    }
    Ok(found)
}

/// Nothing that can panic half-way leaves anything behind that must not be seen.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub use reading::{Cursor, Piece, Section};

/// Milliseconds of the wall clock since 1970.
fn now() -> u64 {
    millis(clock::wall())
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
