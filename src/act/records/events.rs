//! The history of events: one append-only file, `events.log`, from which the next launcher knows what happened before it.
//!
//! It is for people, and nothing is decided from it. So it is handed to the kernel in groups and never synced: a launcher
//! that is killed loses what it had not handed over within the last milliseconds, a machine that loses its power some
//! seconds. A disk that cannot be written keeps nobody waiting: what waits is bounded, and the oldest of it is dropped.

use super::frame::{self, Unusable};
use super::log::identity_of;
use super::{EVENT_LOG, held, make_private, open_file, unavailable, with_suffix};
use crate::act::state_folder::StateFolder;
use crate::desired::scan::Identity;
use crate::error::Error;
use crate::model::{Caller, Key, Moment, RunId};
use crate::plan::NoteLevel;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// The most events that wait for the disk: what a restart of a few thousand instances makes while a disk is stuck, some
/// five megabytes. Beyond that the oldest are lost.
const WAITING: usize = 20_000;
/// The most events written at once, so that a group is bounded in memory and in time.
const GROUP: usize = 2_048;
/// A file shorter than this is never written anew: reading it takes some ten milliseconds.
const REWRITE_ABOVE: u64 = 4 << 20;
/// It is written anew when it is this many times as long as after the last time.
const REWRITE_RATIO: u64 = 3;
/// A longer file is not of this program: what is kept of twenty thousand events, three times, with reasons of two
/// kilobytes each.
const READ_LIMIT: u64 = 128 << 20;
/// Between two attempts after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// Something that happened to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// Which key.
    pub key: Key,
    /// Which run, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<RunId>,
    /// How much it matters.
    pub level: NoteLevel,
    /// A constant text, such as `process started`.
    pub message: Cow<'static, str>,
    /// Why, as a sentence or as a printed error.
    pub reason: String,
    /// Who asked for it, where somebody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Caller>,
    /// When.
    pub at: Moment,
    /// The time of day then, as RFC 3339.
    pub wall: String,
}

/// The file and the thread that writes it. Dropping it writes what waits, once, and ends the thread.
#[derive(Debug)]
pub struct EventLog {
    path: PathBuf,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Happening>>,
    /// The whole of what is kept, to be written in place of the file.
    anew: Option<Vec<Arc<Happening>>>,
    /// Whether the file should be written anew.
    bloated: bool,
    /// The file that is written, once something was.
    file: Option<Identity>,
    lost: u64,
    closing: bool,
}

impl EventLog {
    /// Reads what the launchers before this one wrote, oldest first, and begins to write. What cannot be read is told in
    /// `notices` and is no obstacle.
    pub(super) fn open(folder: &Arc<StateFolder>, notices: &mut Vec<Error>) -> io::Result<(Self, Vec<Happening>)> {
        let path = folder.path().join(EVENT_LOG);
        let (earlier, length) = read(&path, notices);
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let folder = Arc::clone(folder);
        // One that is removed before the first write is noticed too.
        shared.lock().file = Identity::of(&path).ok();
        let mut out = Out { folder, path: path.clone(), file: None, length, after_rewrite: 0, incomplete: false };
        let writer = move || write_all(&mut out, &theirs);
        let thread = std::thread::Builder::new().name("events".to_owned()).spawn(writer)?;
        Ok((Self { path, shared, thread: Some(thread) }, earlier))
    }

    /// Whether the file that was written is no longer the one at the path, so that the whole of what is kept should be
    /// given, see [`EventLog::rewrite`].
    pub fn is_displaced(&self) -> bool {
        let file = self.shared.lock().file;
        file.is_some_and(|file| Identity::of(&self.path).ok() != Some(file))
    }

    /// Leaves an event to be written; never waits. True when the whole of what is kept should be given, see
    /// [`EventLog::rewrite`].
    pub fn push(&self, happening: Arc<Happening>) -> bool {
        let mut state = self.shared.lock();
        state.waiting.push_back(happening);
        if state.waiting.len() > WAITING {
            state.waiting.pop_front();
            state.lost += 1;
        }
        let bloated = std::mem::take(&mut state.bloated);
        drop(state);
        self.shared.wake.notify_one();
        bloated
    }

    /// Has the file replaced by one that holds only what is given, which includes all that was pushed before.
    pub fn rewrite(&self, kept: Vec<Arc<Happening>>) {
        let mut state = self.shared.lock();
        state.waiting.clear();
        state.anew = Some(kept);
        drop(state);
        self.shared.wake.notify_one();
    }
}

impl Drop for EventLog {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while the lock is held, and the state is whole after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a file says, and how long its whole lines are. A newer launcher's file is kept under another name.
fn read(path: &Path, notices: &mut Vec<Error>) -> (Vec<Happening>, u64) {
    let told = |message: &str, error: &io::Error| unavailable(message, path, error);
    let text = match std::fs::metadata(path).map(|metadata| metadata.len()) {
        Err(error) if error.kind() == ErrorKind::NotFound => return (Vec::new(), 0),
        Ok(length) if length > READ_LIMIT => Err(io::Error::new(ErrorKind::FileTooLarge, "it is too long")),
        Ok(_) => std::fs::read(path),
        Err(error) => Err(error),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => {
            notices.push(told("The history of events cannot be read, and begins anew", &error));
            return (Vec::new(), 0);
        }
    };
    let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    let (mut events, mut damaged) = (Vec::new(), 0_usize);
    for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match frame::decode(line) {
            Ok(happening) => events.push(happening),
            Err(Unusable::Damaged(_)) => damaged += 1,
            Err(Unusable::Newer(version)) => {
                let aside = with_suffix(path, ".newer");
                let kept = std::fs::rename(path, &aside);
                let error = kept.err().unwrap_or_else(|| io::Error::other(format!("it is of version {version}")));
                notices.push(told("A newer launcher wrote the history of events, which begins anew", &error));
                return (Vec::new(), 0);
            }
        }
    }
    if damaged > 0 {
        let error = io::Error::new(ErrorKind::InvalidData, format!("{damaged} lines are damaged"));
        notices.push(told("Parts of the history of events are left out", &error));
    }
    (events, whole as u64)
}

/// The open file.
struct Out {
    folder: Arc<StateFolder>,
    path: PathBuf,
    file: Option<(File, Identity)>,
    /// Up to here the file is whole lines.
    length: u64,
    after_rewrite: u64,
    /// It was removed by somebody, so that what it held is missing.
    incomplete: bool,
}

enum Job {
    Append(Vec<Arc<Happening>>),
    Anew(Vec<Arc<Happening>>),
}

fn write_all(out: &mut Out, shared: &Shared) {
    let mut failing = false;
    while let Some(job) = next(shared, failing) {
        let written = match &job {
            Job::Append(events) => out.append(events),
            Job::Anew(events) => out.anew(events),
        };
        let mut state = shared.lock();
        match written {
            Ok(()) => {
                state.bloated |= out.is_bloated();
                state.file = out.file.as_ref().map(|(_, identity)| *identity);
                let lost = std::mem::take(&mut state.lost);
                drop(state);
                if std::mem::take(&mut failing) {
                    tracing::info!(path = %out.path.display(), lost, "the history of events is written again");
                }
            }
            Err(error) => {
                put_back(&mut state, job);
                let closing = state.closing;
                drop(state);
                if !std::mem::replace(&mut failing, true) {
                    let error = unavailable("The history of events cannot be written", &out.path, &error);
                    tracing::warn!(%error, "events are kept in memory only");
                }
                if closing {
                    return;
                }
            }
        }
    }
}

/// Waits for something to write; `None` when there will be nothing more.
fn next(shared: &Shared, failing: bool) -> Option<Job> {
    let mut state = shared.lock();
    if failing {
        let waited = shared.wake.wait_timeout_while(state, RETRY, |state| !state.closing);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    let idle = |state: &mut State| state.waiting.is_empty() && state.anew.is_none() && !state.closing;
    state = shared.wake.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = state.anew.take() {
        return Some(Job::Anew(kept));
    }
    let count = state.waiting.len().min(GROUP);
    let group: Vec<_> = state.waiting.drain(..count).collect();
    (!group.is_empty()).then_some(Job::Append(group))
}

/// What could not be written waits again, unless there is too much of it or something newer takes its place.
fn put_back(state: &mut State, job: Job) {
    match job {
        Job::Anew(kept) => {
            state.anew.get_or_insert(kept);
        }
        Job::Append(_) if state.anew.is_some() => {}
        Job::Append(events) => {
            for happening in events.into_iter().rev() {
                state.waiting.push_front(happening);
            }
            let over = state.waiting.len().saturating_sub(WAITING);
            state.waiting.drain(..over);
            state.lost += over as u64;
        }
    }
}

impl Out {
    fn append(&mut self, events: &[Arc<Happening>]) -> io::Result<()> {
        let bytes = lines(events)?;
        let there = Identity::of(&self.path).ok();
        let (file, identity) = match self.file.take() {
            Some((file, identity)) if there == Some(identity) => (file, identity),
            gone => self.open(gone.is_some())?,
        };
        // A write that failed half-way, or a launcher that died in one, left a part of a line.
        file.set_len(self.length)?;
        file.write_all_at(&bytes, self.length)?;
        self.file = Some((file, identity));
        self.length += bytes.len() as u64;
        Ok(())
    }

    fn open(&mut self, displaced: bool) -> io::Result<(File, Identity)> {
        held(&self.folder)?;
        make_private(self.folder.path())?;
        let file = open_file(&self.path, false)?;
        self.incomplete |= displaced;
        // What another file says is not what this launcher wrote, and the whole of that is about to be given.
        self.length = if displaced { 0 } else { self.length.min(file.metadata()?.len()) };
        let identity = identity_of(&file)?;
        Ok((file, identity))
    }

    fn anew(&mut self, events: &[Arc<Happening>]) -> io::Result<()> {
        let bytes = lines(events)?;
        held(&self.folder)?;
        make_private(self.folder.path())?;
        let temporary = with_suffix(&self.path, ".tmp");
        let file = open_file(&temporary, true)?;
        file.write_all_at(&bytes, 0)?;
        let identity = identity_of(&file)?;
        std::fs::rename(&temporary, &self.path)?;
        self.file = Some((file, identity));
        self.length = bytes.len() as u64;
        self.after_rewrite = self.length;
        self.incomplete = false;
        Ok(())
    }

    fn is_bloated(&self) -> bool {
        self.incomplete || self.length > REWRITE_ABOVE.max(REWRITE_RATIO * self.after_rewrite)
    }
}

fn lines(events: &[Arc<Happening>]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for happening in events {
        frame::encode(&**happening, &mut bytes)?;
    }
    Ok(bytes)
}
