//! The audit log: who asked for what, and when. `audit.log` has a JSON object on each line, for people and for programs.
//!
//! Guarantees: what is asked for stands in it before the answer is given, so that it survives the death of the launcher;
//! there is room for at least twenty thousand lines, however much happens that nobody asked for; it holds no secrets. One
//! that somebody removes is written again as it was; one that is moved away is begun anew.
//! Caveats: what was before that many lines is not written again; it is not synced, so that a power cut may take the last seconds of it; and a disk that cannot be written keeps
//! no answer waiting for longer than a second.

use super::events::Happening;
use super::log::identity_of;
use super::{AUDIT_LOG, held, make_private, unavailable, with_suffix};
use crate::act::state_folder::{Presence, StateFolder};
use crate::desired::scan::Identity;
use crate::desired::store::replace::replace;
use crate::error::{Error, Result};
use crate::model::Caller;
use serde::Serialize;
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// A file that is this long becomes the one before, which is replaced: so there are never more than twice as many bytes.
/// A line is some two hundred bytes.
const LIMIT: u64 = 8 << 20;
/// The most lines that wait for the disk; beyond that the oldest are lost, and how many is said in the launcher's log.
const WAITING: usize = 20_000;
/// Between two attempts after a failure.
const RETRY: Duration = Duration::from_secs(1);
/// An answer waits for its line no longer than this.
const PATIENCE: Duration = Duration::from_secs(1);

/// One line.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// RFC 3339.
    time: &'a str,
    /// Who asked, as it is printed everywhere.
    by: String,
    /// The user, where the kernel vouches for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    /// What was asked for, such as `launched`.
    action: &'a str,
    /// About which process.
    #[serde(skip_serializing_if = "Option::is_none")]
    process_id: Option<&'a str>,
    /// The run that was there.
    #[serde(skip_serializing_if = "Option::is_none")]
    run_id: Option<String>,
    /// More about it.
    #[serde(skip_serializing_if = "str::is_empty")]
    what: &'a str,
}

impl Line<'_> {
    fn text(&self) -> String {
        // Strings and numbers can always be written.
        serde_json::to_string(self).unwrap_or_default() + "\n"
    }
}

const fn user(by: &Caller) -> Option<u32> {
    match by {
        Caller::Peer { uid, .. } => Some(*uid),
        Caller::Remote(_) | Caller::Program | Caller::Launcher => None,
    }
}

/// The file and the thread that writes it. Dropping it writes what waits, once, and ends the thread.
#[derive(Debug)]
pub struct AuditLog {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
    wake: Condvar,
    progress: watch::Sender<Progress>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<String>,
    /// Lines that were ever left to be written.
    pushed: u64,
    lost: u64,
    /// The thread is to look at its file although there may be nothing to write.
    looking: bool,
    /// The file that was written last, or that was there.
    file: Option<Identity>,
    /// Why it cannot be written.
    error: Option<Error>,
    closing: bool,
}

#[derive(Debug, Default, Clone, Copy)]
struct Progress {
    /// Of the lines that were ever left to be written, all but the last few: these are written, or lost.
    settled: u64,
    failing: bool,
}

impl AuditLog {
    /// Begins to write, behind what is there.
    pub(super) fn open(folder: &Arc<StateFolder>) -> io::Result<Self> {
        let mut out = Out::new(folder, LIMIT);
        let state = State { file: out.identity(), ..State::default() };
        let shared = Arc::new(Shared {
            path: out.path.clone(),
            state: Mutex::new(state),
            wake: Condvar::new(),
            progress: watch::Sender::default(),
        });
        let theirs = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("audit".to_owned()).spawn(move || write_all(&mut out, &theirs))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Leaves to be written what somebody asked for; never waits. What nobody asked for is left out.
    pub fn push(&self, happening: &Happening) {
        let Some(by) = &happening.by else { return };
        let line = Line {
            time: &happening.wall,
            by: by.to_string(),
            uid: user(by),
            action: &happening.message,
            process_id: Some(happening.key.as_str()),
            run_id: happening.run.map(|run| run.to_string()),
            what: &happening.reason,
        };
        let mut state = self.shared.lock();
        state.waiting.push_back(line.text());
        state.pushed += 1;
        if state.waiting.len() > WAITING {
            state.waiting.pop_front();
            state.lost += 1;
        }
        drop(state);
        self.shared.wake.notify_one();
    }

    /// Whether the file that was written is the one at the path. Where it is not, the thread that writes is told to look.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` while it cannot be written.
    pub(crate) fn mend(&self) -> Result<Presence> {
        let mut state = self.shared.lock();
        if let Some(error) = &state.error {
            return Err(error.clone());
        }
        if state.file.is_none() || state.file == Identity::of(&self.shared.path).ok() {
            return Ok(Presence::Whole);
        }
        state.looking = true;
        drop(state);
        self.shared.wake.notify_one();
        Ok(Presence::Pending)
    }

    /// Waits until everything that was pushed has been handed to the kernel, for a second at the longest.
    pub async fn written(&self) {
        let pushed = self.shared.lock().pushed;
        let mut progress = self.shared.progress.subscribe();
        let settled = progress.wait_for(|progress| progress.settled >= pushed || progress.failing);
        // Whoever asked has been heard; a line that is late is no reason to say otherwise.
        drop(tokio::time::timeout(PATIENCE, settled).await);
    }
}

impl Drop for AuditLog {
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

fn write_all(out: &mut Out, shared: &Shared) {
    let mut failing = false;
    while let Some(lines) = next(shared, failing) {
        let written = out.append(&lines);
        let mut state = shared.lock();
        match written {
            Ok(()) => {
                let lost = std::mem::take(&mut state.lost);
                let settled = state.pushed - state.waiting.len() as u64;
                (state.file, state.error) = (out.identity(), None);
                drop(state);
                shared.progress.send_replace(Progress { settled, failing: false });
                if std::mem::take(&mut failing) {
                    tracing::info!(path = %out.path.display(), lost, "the audit log is written again");
                }
            }
            Err(error) => {
                for line in lines.into_iter().rev() {
                    state.waiting.push_front(line);
                }
                let over = state.waiting.len().saturating_sub(WAITING);
                state.waiting.drain(..over);
                state.lost += over as u64;
                let error = unavailable("The audit log cannot be written", &out.path, &error);
                state.error = Some(error.clone());
                let closing = state.closing;
                drop(state);
                shared.progress.send_modify(|progress| progress.failing = true);
                if !std::mem::replace(&mut failing, true) {
                    tracing::error!(%error, "what is asked for is not on record");
                }
                if closing {
                    return;
                }
            }
        }
    }
}

/// Waits for something to write, which may be nothing but the file itself; `None` when there will be nothing more.
fn next(shared: &Shared, failing: bool) -> Option<Vec<String>> {
    let mut state = shared.lock();
    if failing {
        let waited = shared.wake.wait_timeout_while(state, RETRY, |state| !state.closing);
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    let idle = |state: &mut State| state.waiting.is_empty() && !state.looking && !state.closing && !failing;
    state = shared.wake.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
    let looking = std::mem::take(&mut state.looking) || failing;
    let lines: Vec<String> = state.waiting.drain(..).collect();
    (!lines.is_empty() || looking && !state.closing).then_some(lines)
}

struct Out {
    folder: Arc<StateFolder>,
    path: PathBuf,
    file: Option<File>,
    limit: u64,
}

impl Out {
    fn new(folder: &Arc<StateFolder>, limit: u64) -> Self {
        let path = folder.path().join(AUDIT_LOG);
        // While it is open, what is in it can be written again.
        let file = OpenOptions::new().read(true).append(true).open(&path).ok();
        Self { folder: Arc::clone(folder), path, file, limit }
    }

    fn identity(&self) -> Option<Identity> {
        identity_of(self.file.as_ref()?).ok()
    }

    fn append(&mut self, lines: &[String]) -> io::Result<()> {
        let there = Identity::of(&self.path).ok();
        if there.is_none() || there != self.identity() {
            self.file = Some(self.open()?);
        }
        if self.file.as_ref().map(File::metadata).transpose()?.is_some_and(|seen| seen.len() >= self.limit) {
            held(&self.folder)?;
            std::fs::rename(&self.path, with_suffix(&self.path, ".1"))?;
            self.file = Some(self.open()?);
        }
        self.file.as_mut().map_or(Ok(()), |file| file.write_all(lines.concat().as_bytes()))
    }

    fn open(&self) -> io::Result<File> {
        held(&self.folder)?;
        make_private(self.folder.path())?;
        if let Some(bytes) = self.removed()? {
            replace(&self.path, &bytes)?;
        }
        appending(&self.path)
    }

    /// What is in the file, where somebody has removed it and put no other in its place.
    fn removed(&self) -> io::Result<Option<Vec<u8>>> {
        let Some(file) = &self.file else { return Ok(None) };
        if self.path.exists() || file.metadata()?.nlink() > 0 {
            return Ok(None);
        }
        let (mut file, mut bytes) = (file, Vec::new());
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }
}

/// Opens a file so that each write goes to its end, whoever else writes.
fn appending(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)
}

/// Writes down what a command asks of the launcher without its API, in one write.
///
/// # Errors
/// What the kernel says.
pub fn note_command(path: &Path, time: &str, by: &Caller, action: &str, what: &str) -> io::Result<()> {
    let line = Line { time, by: by.to_string(), uid: user(by), action, process_id: None, run_id: None, what };
    appending(path)?.write_all(line.text().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootId, Key, Moment};
    use crate::plan::NoteLevel;
    use serde_json::Value;
    use std::os::unix::fs::PermissionsExt as _;

    fn asked(action: &'static str, by: Option<Caller>) -> Happening {
        Happening {
            key: Key::parse("ns:a:p").unwrap(),
            run: None,
            level: NoteLevel::Info,
            message: action.into(),
            reason: "by request: \"maintenance\"\nnow".to_owned(),
            by,
            at: Moment::new(BootId::from_u128(1), Duration::from_secs(1)),
            wall: "2026-01-02T03:04:05Z".to_owned(),
        }
    }

    fn lines(path: &Path) -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[tokio::test]
    async fn what_was_asked_for_is_written_before_it_is_waited_for_no_longer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let log = AuditLog::open(&StateFolder::open(folder.path())).unwrap();
        log.push(&asked("suspended", Some(Caller::Peer { uid: 7, pid: Some(8) })));
        log.push(&asked("process started", None));
        log.push(&asked("launch ended", Some(Caller::Launcher)));
        log.written().await;
        let lines = lines(&path);
        assert_eq!(lines.len(), 2, "what nobody asked for is no matter of an audit");
        let expected = serde_json::json!({
            "time": "2026-01-02T03:04:05Z", "by": "uid 7 (pid 8)", "uid": 7, "action": "suspended",
            "process_id": "ns:a:p", "what": "by request: \"maintenance\"\nnow",
        });
        assert_eq!(lines[0], expected);
        assert_eq!((&lines[1]["by"], &lines[1]["action"]), (&"the launcher".into(), &"launch ended".into()));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn the_next_launcher_and_commands_write_behind_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        for round in 0..3 {
            let log = AuditLog::open(&StateFolder::open(folder.path())).unwrap();
            log.push(&asked("launched", Some(Caller::Program)));
            log.written().await;
            note_command(&path, "then", &Caller::Peer { uid: 1, pid: None }, "confirm-prune", "token 1").unwrap();
            log.push(&asked("launched", Some(Caller::Program)));
            log.written().await;
            drop(log);
            assert_eq!(lines(&path).len(), 3 * (round + 1));
        }
        assert_eq!(lines(&path)[1]["action"], "confirm-prune");
        // One that was moved away is left as it is.
        let log = AuditLog::open(&StateFolder::open(folder.path())).unwrap();
        log.push(&asked("launched", Some(Caller::Program)));
        log.written().await;
        std::fs::rename(&path, folder.path().join("kept")).unwrap();
        log.push(&asked("launched", Some(Caller::Program)));
        log.written().await;
        assert_eq!((lines(&folder.path().join("kept")).len(), lines(&path).len()), (10, 1));
    }

    #[tokio::test]
    async fn one_that_was_removed_is_written_again_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state/audit.log");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        let log = AuditLog::open(&StateFolder::open(path.parent().unwrap())).unwrap();
        assert_eq!(log.mend(), Ok(Presence::Whole), "there is nothing to be written");
        for _ in 0..3 {
            log.push(&asked("launched", Some(Caller::Program)));
        }
        log.written().await;
        // Also one that another launcher has written, and with the folder.
        drop(log);
        let log = AuditLog::open(&StateFolder::open(path.parent().unwrap())).unwrap();
        for round in 0..2 {
            std::fs::remove_dir_all(path.parent().unwrap()).unwrap();
            assert_eq!(log.mend(), Ok(Presence::Pending));
            while log.mend() != Ok(Presence::Whole) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            assert_eq!(lines(&path).len(), 3 + round);
            log.push(&asked("suspended", Some(Caller::Program)));
            log.written().await;
            assert_eq!(lines(&path).len(), 4 + round);
        }
        // One that was moved away to be kept stays there, and another that was put in its place stays, too.
        std::fs::rename(&path, folder.path().join("kept")).unwrap();
        while log.mend() != Ok(Presence::Whole) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(lines(&path).len(), 0);
        log.push(&asked("launched", Some(Caller::Program)));
        log.written().await;
        let another = folder.path().join("another");
        std::fs::write(&another, std::fs::read_to_string(&path).unwrap().repeat(2)).unwrap();
        std::fs::rename(&another, &path).unwrap();
        while log.mend() != Ok(Presence::Whole) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(lines(&path).len(), 2, "as an editor does");
    }

    #[test]
    fn two_files_are_all_there_ever_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let mut out = Out::new(&StateFolder::open(folder.path()), 1_000);
        for number in 0..100 {
            out.append(&[format!("{{\"number\": {number}, \"more\": \"{}\"}}\n", "x".repeat(80))]).unwrap();
        }
        let (now, before) = (lines(&path), lines(&with_suffix(&path, ".1")));
        assert!(now.len() + before.len() >= 10, "{} {}", now.len(), before.len());
        assert_eq!(now.last().unwrap()["number"], 99);
        let numbers: Vec<u64> = before.iter().chain(&now).map(|line| line["number"].as_u64().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{numbers:?}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[tokio::test]
    async fn a_disk_that_cannot_be_written_keeps_nobody_waiting_and_loses_nothing_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        // Nothing can be made below a file.
        std::fs::write(&state, "").unwrap();
        let log = AuditLog::open(&StateFolder::open(&state)).unwrap();
        for _ in 0..3 {
            log.push(&asked("launched", Some(Caller::Program)));
            log.written().await;
        }
        std::fs::remove_file(&state).unwrap();
        drop(log);
        assert_eq!(lines(&state.join("audit.log")).len(), 3);
    }
}
