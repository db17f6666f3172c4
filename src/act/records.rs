//! What is on disk about keys and runs, so that the next launcher knows what this one did.
//!
//! **Memories** (one per declared key) are lines of one append-only log, `memory.log`. One thread writes them in
//! groups, each group one write and one `fdatasync`; a caller only leaves its change behind. A disk that cannot be
//! written keeps nothing from running: changes wait, are tried again, and [`Records::health`] says so.
//!
//! **Run records** (one per run) are files of their own below `runs/`, written before a child is released and removed
//! when its tree is gone. They matter only within one boot, so none is synced; each is one write and one rename to a
//! name that did not exist, since replacing a file makes some file systems write the old one back first.
//!
//! Both are JSON with a version and a checksum, see `frame.rs`. Both hold secrets: files are `0600`, folders `0700`.

mod audit;
mod events;
mod frame;
mod log;
mod queue;
mod runs;
mod writer;

pub use audit::{AuditLog, note_command};
pub use events::{EventLog, Happening};

use super::state_folder::{Presence, StateFolder, make_private};
use crate::desired::scan::Identity;
use crate::error::{Code, Error, Result};
use crate::model::{BootId, Key, Memory, RunId, RunRecord};
use log::{MemoryLog, Op};
use queue::Queue;
use runs::RunFiles;
pub(crate) use runs::Stray;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{Notify, oneshot};
use writer::Writer;

/// The name of the log of memories in the state folder.
pub const MEMORY_LOG: &str = "memory.log";
/// The name of the folder of run records in the state folder.
pub const RUNS_FOLDER: &str = "runs";
/// The name of the history of events in the state folder.
pub const EVENT_LOG: &str = "events.log";
/// The name of the audit log in the state folder.
pub const AUDIT_LOG: &str = "audit.log";

/// The records of one state folder. Dropping it writes what is left, once, and ends the writing thread.
#[derive(Debug)]
pub struct Records {
    folder: Arc<StateFolder>,
    queue: Arc<Queue>,
    runs: RunFiles,
    events: Arc<EventLog>,
    audit: Arc<AuditLog>,
    strays: Notify,
    _writer: Writer,
}

/// What the records said when they were read.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What is remembered about each key, one memory a key, in key order.
    pub memories: Vec<Memory>,
    /// The runs that have a readable record; a crash can leave two of one key.
    pub runs: Vec<RunRecord>,
    /// Run records that cannot be read: [`Key::file_name`] of the key, which they block, and why.
    pub damaged: Vec<(String, Error)>,
    /// What else was not as it should be: worth a log line, blocks nothing.
    pub notices: Vec<Error>,
    /// What happened under the launchers before this one, oldest first.
    pub events: Vec<Happening>,
}

/// Whether what is to be remembered reaches the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordsHealth {
    /// Why the last write failed; `None` while the records are writable.
    pub error: Option<Error>,
    /// Changes that are not on disk yet, at most one for each key.
    pub pending: usize,
}

impl RecordsHealth {
    /// Whether the last write succeeded.
    pub const fn is_writable(&self) -> bool {
        self.error.is_none()
    }
}

impl Records {
    /// The folder that they are in.
    pub(crate) fn state_folder(&self) -> Arc<StateFolder> {
        self.runs.state_folder()
    }

    /// As [`Records::open_in`], in a folder that nobody has to be kept out of.
    pub fn open(state_dir: &Path, boot: BootId) -> Result<(Self, Loaded)> {
        Self::open_in(&StateFolder::open(state_dir), boot)
    }

    /// Opens the records of a state folder, which is made when it is absent, reads them, and starts the thread that
    /// writes memories. Run records of another boot than `boot` that cannot be read are removed, since nothing of that
    /// boot lives.
    ///
    /// Fails with `STORE_UNAVAILABLE` when the folder cannot be read or written, or a newer launcher wrote the log.
    pub fn open_in(folder: &Arc<StateFolder>, boot: BootId) -> Result<(Self, Loaded)> {
        let (held, state_dir) = (folder, folder.path());
        make_folder(state_dir)?;
        let (log, history) = MemoryLog::open(held)?;
        let mut loaded = Loaded { memories: history.memories, notices: history.damage, ..Loaded::default() };
        make_folder(&state_dir.join(RUNS_FOLDER))?;
        let runs = RunFiles::open(held, boot, &mut loaded)?;
        let queue = Arc::new(Queue::default());
        queue.written(log.identity());
        let no_thread = |error| unavailable("The thread that writes records cannot be started", state_dir, &error);
        let writer = Writer::start(log, Arc::clone(&queue)).map_err(no_thread)?;
        let (events, earlier) = EventLog::open(held, &mut loaded.notices).map_err(no_thread)?;
        loaded.events = earlier;
        let audit = Arc::new(AuditLog::open(held).map_err(no_thread)?);
        let folder = Arc::clone(held);
        Ok((
            Self { folder, queue, runs, events: Arc::new(events), audit, strays: Notify::new(), _writer: writer },
            loaded,
        ))
    }

    /// Remembers this about its key, soon: never blocks on the disk, never fails.
    pub fn save_memory(&self, memory: Memory) {
        self.queue.push(Op::Save(Box::new(memory)));
    }

    /// Forgets a key, soon: never blocks on the disk, never fails.
    pub fn drop_memory(&self, key: Key) {
        self.queue.push(Op::Drop(key));
    }

    /// Returns once everything said before is on disk. Fails with `STORE_UNAVAILABLE` when a write failed meanwhile;
    /// what could not be written is tried again all the same.
    pub async fn flush(&self) -> Result<()> {
        let (answer, answered) = oneshot::channel();
        self.queue.ask(answer);
        answered
            .await
            .unwrap_or_else(|_| Err(Error::new(Code::InternalError, "The thread that writes records is gone")))
    }

    /// Where what happens is written down.
    pub fn events(&self) -> Arc<EventLog> {
        Arc::clone(&self.events)
    }

    /// The audit log.
    pub fn audit(&self) -> Arc<AuditLog> {
        Arc::clone(&self.audit)
    }

    /// Whether memories reach the disk.
    pub fn health(&self) -> RecordsHealth {
        self.queue.health()
    }

    /// Writes the record of a run, or writes it again. About 40 µs of file system calls, no sync: the record is scoped
    /// to the boot. A full disk is `STORE_UNAVAILABLE`, and what was recorded before is still recorded.
    ///
    /// A run that was recorded once stays owed its latest record: one that could not be written is written by
    /// [`Records::mend_runs`].
    pub fn save_run(&self, record: &RunRecord) -> Result<()> {
        self.runs.save(record)
    }

    /// Writes again what is lacking of the records of all runs that are not over, and of those records that block a key.
    /// The folder of the state is held.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when something still lacks.
    pub fn mend_runs(&self) -> Result<Presence> {
        self.runs.mend()
    }

    /// The records on disk that no run accounts for and that block no key: a folder that came back under its name has
    /// brought them, or somebody.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when that cannot be said.
    pub(crate) fn stray_runs(&self) -> Result<Vec<Stray>> {
        self.runs.strays()
    }

    /// Has whoever looks for such records every minute look now: another folder is there.
    pub fn look_for_strays(&self) {
        self.strays.notify_one();
    }

    /// Waits until somebody wants them to be looked for. Cancel-safe.
    pub(crate) async fn strays_wanted(&self) {
        self.strays.notified().await;
    }

    /// Whether what is remembered is in the file that the next launcher would read. Where it is not, the thread that
    /// writes is told to look.
    pub fn mend_memories(&self) -> Presence {
        let there = Identity::of(&self.folder.path().join(MEMORY_LOG)).ok();
        let written = self.queue.file();
        if (written.is_none() || written == there) && self.health().is_writable() {
            return Presence::Whole;
        }
        self.queue.look();
        Presence::Pending
    }

    /// Sets aside what the last launcher left of a key, so that nothing reads it any more: it is kept under its name with
    /// `.abandoned` added. The record of the run `except` stays.
    pub fn abandon_runs(&self, key_file_name: &str, except: Option<RunId>) -> Result<()> {
        self.runs.abandon(key_file_name, except)
    }

    /// Removes the record of a run; one that is not there is no error.
    pub fn drop_run(&self, run: RunId) -> Result<()> {
        self.runs.remove(run)
    }
}

/// Reads the records beside a launcher that may be running: writes, locks and repairs nothing. A folder that does not
/// exist holds no records.
pub fn load_readonly(state_dir: &Path, boot: BootId) -> Result<Loaded> {
    let history = log::read(&state_dir.join(MEMORY_LOG))?;
    let mut loaded = Loaded { memories: history.memories, notices: history.damage, ..Loaded::default() };
    runs::read(&state_dir.join(RUNS_FOLDER), boot, &mut loaded)?;
    Ok(loaded)
}

/// Sees to it that a state folder is this launcher's before something of it is made anew.
fn held(folder: &StateFolder) -> io::Result<()> {
    folder.hold().map_err(|error| io::Error::other(error.summary()))
}

fn make_folder(folder: &Path) -> Result<()> {
    make_private(folder).map_err(|error| unavailable("The state folder cannot be made", folder, &error))
}

fn open_file(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(truncate).mode(0o600).open(path)
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// The error of a file operation on a record, with what to do about this one.
pub(super) fn unavailable(message: &str, path: &Path, error: &io::Error) -> Error {
    Error::new(Code::StoreUnavailable, message)
        .with("path", path.display())
        .because(error.to_string())
        .suggest(remedy(path, error))
}

/// What a person can do when something in the state folder cannot be read or written.
pub(crate) fn remedy(path: &Path, error: &io::Error) -> String {
    let shown = path.display();
    let kind = error.kind();
    if matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        format!("free space there; df -h {shown} shows what is left")
    } else if kind == io::ErrorKind::ReadOnlyFilesystem {
        format!("make it writable again; findmnt -T {shown} shows the mount; or choose another folder with --state-dir")
    } else if kind == io::ErrorKind::PermissionDenied {
        format!("let the launcher's user own it; ls -ld {shown} shows the owner; or choose another with --state-dir")
    } else if matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE)) {
        "raise the launcher's limit of open files: prlimit --nofile".to_owned()
    } else {
        format!("look at it with ls -ld {shown}, or choose another folder with --state-dir")
    }
}

#[cfg(test)]
mod tests;
