//! The status file: where everything stands, for scripts and for people.
//!
//! One JSON object, replaced by rename so that a reader never sees half of it; each instance is a line of its own, so
//! that `grep` is of use. It is not synced: after a crash of the machine the next launcher writes a new one. Nothing is
//! written when nothing changed and the file is there. A file that cannot be written is tried again and keeps nothing
//! from running; [`StatusFile::error`] says so, since nobody who reads the old one can tell.

use super::records::unavailable;
use super::state_folder::{Presence, StateFolder};
use crate::desired::scan::Identity;
use crate::error::{Code, Error, Result};
use crate::model::{DesiredStatus, Key, KeyStatus};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

/// The name of the status file in the state folder.
pub const STATUS_FILE: &str = "status.json";
/// The version of the file's format; a new field needs no new version.
const VERSION: u32 = 1;
/// Between two writes, so that a storm of changes costs ten files a second.
const PAUSE: Duration = Duration::from_millis(100);
/// What happens within this time of the first change is written with it: a restart is a handful of changes within a few
/// milliseconds, in which the machine has better things to do.
const GATHER: Duration = Duration::from_millis(20);
/// Between two writes, for each byte of the file: twenty times the 5 ns that serializing and writing it takes, so that
/// at most 5 % of one core goes into the file however many instances there are.
const PAUSE_PER_BYTE: Duration = Duration::from_nanos(100);
/// Between two attempts after a failure.
const RETRY: Duration = Duration::from_secs(1);

/// A part of the status that changed.
#[derive(Debug, Clone)]
pub enum StatusUpdate {
    /// These keys, or, with `None`, they are gone.
    Keys(Vec<(Key, Option<Arc<KeyStatus>>)>),
    /// How the reading of the desired directories went.
    Desired(Arc<DesiredStatus>),
    /// Whether survivors are adopted and every root was decided on.
    Ready(bool),
}

/// Keeps the status file up to date. Dropping it ends the task without a last write.
#[derive(Debug)]
pub struct StatusWriter {
    file: StatusFile,
    task: Option<JoinHandle<Result<()>>>,
}

/// How it stands with the file, for whoever looks after the state folder.
#[derive(Debug, Clone)]
pub struct StatusFile {
    path: PathBuf,
    shared: Arc<Shared>,
}

/// What was published and not yet taken over. A later change of a key takes the place of an earlier one, so that there
/// are never more than there are keys; publishing neither waits nor fails.
#[derive(Debug, Default)]
struct Shared {
    pending: Mutex<Pending>,
    changed: Notify,
    /// The end has come.
    over: Notify,
    written: Mutex<Written>,
}

/// How the last write went.
#[derive(Debug, Default)]
struct Written {
    /// The file, which is kept open so that no other can be taken for it, and which it is.
    file: Option<(File, Identity)>,
    error: Option<Error>,
}

#[derive(Debug, Default)]
struct Pending {
    keys: BTreeMap<Key, Option<Arc<KeyStatus>>>,
    desired: Option<Arc<DesiredStatus>>,
    ready: Option<bool>,
    /// It is to be written although nothing has changed.
    again: bool,
    finishing: bool,
    abandoned: bool,
}

/// What the file says.
#[derive(Debug, Default)]
struct View {
    launcher_pid: u32,
    ready: bool,
    desired: Arc<DesiredStatus>,
    instances: BTreeMap<Key, Arc<KeyStatus>>,
}

#[derive(Serialize)]
struct Head<'a> {
    version: u32,
    written_at: &'a str,
    launcher_pid: u32,
    ready: bool,
    desired: &'a DesiredStatus,
}

impl StatusWriter {
    /// Starts the task that keeps the file in a state folder up to date; `wall_time` gives the time of day as RFC 3339. The
    /// file is written for the first time at once. Must be called within a tokio runtime.
    pub fn spawn(
        folder: &Arc<StateFolder>,
        launcher_pid: u32,
        wall_time: impl Fn() -> String + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let view = View { launcher_pid, ..View::default() };
        let file = StatusFile { path: folder.path().join(STATUS_FILE), shared: Arc::clone(&shared) };
        let task = tokio::spawn(keep_up_to_date(Arc::clone(folder), view, shared, wall_time));
        Self { file, task: Some(task) }
    }

    /// How it stands with the file.
    pub fn file(&self) -> StatusFile {
        self.file.clone()
    }

    /// Takes a change: never blocks; several of one key become one.
    pub fn publish(&self, update: StatusUpdate) {
        let mut pending = self.file.shared.lock();
        match update {
            StatusUpdate::Keys(keys) => pending.keys.extend(keys),
            StatusUpdate::Desired(desired) => pending.desired = Some(desired),
            StatusUpdate::Ready(ready) => pending.ready = Some(ready),
        }
        drop(pending);
        self.file.shared.changed.notify_one();
    }

    /// Writes what is left, once, and ends the task. Fails with `STORE_UNAVAILABLE` when that could not be written.
    pub async fn finish(mut self) -> Result<()> {
        self.file.shared.lock().finishing = true;
        self.file.shared.end();
        match self.task.take() {
            Some(task) => task.await.unwrap_or_else(|error| {
                Err(Error::new(Code::InternalError, "The task that writes the status file is gone").caused_by(&error))
            }),
            None => Ok(()),
        }
    }
}

impl Drop for StatusWriter {
    fn drop(&mut self) {
        self.file.shared.lock().abandoned = true;
        self.file.shared.end();
    }
}

impl StatusFile {
    /// Why the last write failed; `None` while the file is up to date.
    pub fn error(&self) -> Option<Error> {
        self.shared.written().error.clone()
    }

    /// Whether the file that was written is the one at the path. Where it is not, it is written again.
    pub fn mend(&self) -> Presence {
        let there = Identity::of(&self.path).ok();
        let written = self.shared.written();
        let identity = written.file.as_ref().map(|(_, identity)| *identity);
        if identity.is_some() && identity == there && written.error.is_none() {
            return Presence::Whole;
        }
        drop(written);
        self.shared.lock().again = true;
        self.shared.changed.notify_one();
        Presence::Pending
    }
}

impl Shared {
    fn end(&self) {
        self.over.notify_one();
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // What is done under the lock cannot leave the changes half taken over.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        // As above.
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of how a write went, and says so when it is news; gives how long the file is.
    fn note(&self, path: &Path, outcome: io::Result<(File, u32)>) -> Result<u32> {
        let mut written = self.written();
        let noted = outcome.and_then(|(file, length)| {
            let identity = Identity::from(&rustix::fs::fstat(&file)?);
            written.file = Some((file, identity));
            Ok(length)
        });
        let noted = noted.map_err(|error| unwritable(path, &error));
        match (&written.error, &noted) {
            (None, Err(error)) => tracing::warn!(%error, "the status file is no longer up to date"),
            (Some(_), Ok(_)) => tracing::info!("the status file is up to date again"),
            (None, Ok(_)) | (Some(_), Err(_)) => {}
        }
        written.error = noted.as_ref().err().cloned();
        noted
    }
}

async fn keep_up_to_date(
    folder: Arc<StateFolder>,
    mut view: View,
    shared: Arc<Shared>,
    wall_time: impl Fn() -> String,
) -> Result<()> {
    let path = folder.path().join(STATUS_FILE);
    let mut dirty = true;
    loop {
        let (changed, finishing) = {
            let mut pending = shared.lock();
            // A writer that was told to finish is dropped afterwards, so that finishing goes first.
            if pending.abandoned && !pending.finishing {
                return Ok(());
            }
            dirty |= std::mem::take(&mut pending.again);
            (view.take_over(&mut pending), pending.finishing)
        };
        dirty |= changed;
        let mut pause = None;
        if dirty {
            let (returned, outcome) = write_view(&folder, view, wall_time()).await?;
            view = returned;
            let outcome = shared.note(&path, outcome);
            dirty = outcome.is_err();
            if finishing {
                return outcome.map(drop);
            }
            pause = Some(outcome.map_or(RETRY, |bytes| PAUSE.max(PAUSE_PER_BYTE.saturating_mul(bytes))));
        } else if finishing {
            return Ok(());
        }
        if let Some(pause) = pause {
            rest(pause, &shared).await;
        } else {
            shared.changed.notified().await;
            rest(GATHER, &shared).await;
        }
    }
}

/// Waits, unless the end has come. What changes meanwhile is announced when it is over.
async fn rest(pause: Duration, shared: &Shared) {
    drop(tokio::time::timeout(pause, shared.over.notified()).await);
}

/// Serializes and writes away from the threads that serve the loop.
async fn write_view(
    folder: &Arc<StateFolder>,
    view: View,
    written_at: String,
) -> Result<(View, io::Result<(File, u32)>)> {
    let folder = Arc::clone(folder);
    tokio::task::spawn_blocking(move || {
        let outcome = view.print(&written_at).and_then(|bytes| {
            folder.hold().map_err(|error| io::Error::other(error.summary()))?;
            let file = replace(&folder.path().join(STATUS_FILE), &bytes)?;
            Ok((file, u32::try_from(bytes.len()).unwrap_or(u32::MAX)))
        });
        (view, outcome)
    })
    .await
    .map_err(|error| Error::new(Code::InternalError, "The status file was not written to its end").caused_by(&error))
}

impl View {
    /// Takes over what was published; returns whether anything is different from before.
    fn take_over(&mut self, pending: &mut Pending) -> bool {
        let mut changed = false;
        for (key, status) in std::mem::take(&mut pending.keys) {
            changed |= match status {
                Some(status) if self.instances.get(&key).is_some_and(|before| *before == status) => false,
                Some(status) => {
                    self.instances.insert(key, status);
                    true
                }
                None => self.instances.remove(&key).is_some(),
            };
        }
        if let Some(desired) = pending.desired.take() {
            changed |= self.desired != desired;
            self.desired = desired;
        }
        if let Some(ready) = pending.ready.take() {
            changed |= self.ready != ready;
            self.ready = ready;
        }
        changed
    }

    fn print(&self, written_at: &str) -> io::Result<Vec<u8>> {
        let Self { launcher_pid, ready, desired, instances } = self;
        let head = Head { version: VERSION, written_at, launcher_pid: *launcher_pid, ready: *ready, desired };
        let mut out = serde_json::to_vec(&head)?;
        let closing = out.pop();
        out.extend_from_slice(b",\"instances\":[");
        for (number, status) in instances.values().enumerate() {
            out.extend_from_slice(if number == 0 { b"\n" } else { b",\n" });
            serde_json::to_writer(&mut out, status)?;
        }
        out.extend_from_slice(b"\n]");
        out.extend(closing);
        out.push(b'\n');
        Ok(out)
    }
}

fn replace(path: &Path, bytes: &[u8]) -> io::Result<File> {
    let temporary = path.with_extension("json.tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    std::fs::rename(&temporary, path)?;
    Ok(file)
}

fn unwritable(path: &Path, error: &io::Error) -> Error {
    unavailable("The status file cannot be written", path.parent().unwrap_or(path), error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Generation, IsolationLevel, ProcessState, VerdictStatus};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn status(tenant: &str, error_count: u32) -> (Key, Option<Arc<KeyStatus>>) {
        let key = Key::parse(&format!("ns:{tenant}:consumer")).expect("a key");
        let status = KeyStatus {
            process_id: key.clone(),
            pattern_name: "consumer".to_owned(),
            namespace: tenant.to_owned(),
            session_id: String::new(),
            isolation: IsolationLevel::Namespace,
            desired: None,
            state: ProcessState::Running,
            healthy: true,
            pid: Some(1),
            run_id: None,
            started_at_boot_seconds: None,
            ports: None,
            address: None,
            limits_effective: None,
            tracking: None,
            isolation_effective: Vec::new(),
            generation: Generation(1),
            observed_generation: Generation(1),
            error_count,
            restart_count: 0,
            circuit_open: false,
            last_error: Some("a\nline".to_owned()),
            declared_at: None,
            api_managed: false,
            asked_by: None,
            suspension: None,
            expires_at_boot_seconds: None,
            differences: Vec::new(),
            failed_run: None,
            failure: None,
            declared: None,
            verdict: VerdictStatus {
                action: "none".to_owned(),
                reason: "in sync".to_owned(),
                looks_again_in_seconds: None,
            },
            conditions: Vec::new(),
        };
        (key, Some(Arc::new(status)))
    }

    fn read(path: &Path) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).expect("it is there")).expect("a reader never sees half of it")
    }

    async fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
        for _ in 0..2_000 {
            if holds() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("still waiting for {what}");
    }

    #[tokio::test]
    async fn the_last_word_on_everything_is_in_the_file_when_it_is_finished() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(STATUS_FILE);
        let writer = StatusWriter::spawn(&StateFolder::open(folder.path()), 17, || "2026-01-01T00:00:00Z".to_owned());
        writer.publish(StatusUpdate::Keys(vec![status("b", 1), status("a", 1), status("c", 1)]));
        writer.publish(StatusUpdate::Keys(vec![(status("c", 1).0, None), status("b", 2)]));
        writer.publish(StatusUpdate::Ready(true));
        writer.finish().await.expect("it is written");
        let file = read(&path);
        assert_eq!((&file["version"], &file["launcher_pid"], &file["ready"]), (&1.into(), &17.into(), &true.into()));
        assert_eq!(file["written_at"], "2026-01-01T00:00:00Z");
        let instances = file["instances"].as_array().expect("a list");
        let ids: Vec<_> = instances.iter().map(|instance| instance["process_id"].as_str().expect("text")).collect();
        assert_eq!(ids, ["ns:a:consumer", "ns:b:consumer"]);
        assert_eq!(instances[1]["error_count"], 2);
        let text = std::fs::read_to_string(&path).expect("it reads");
        assert_eq!(text.lines().filter(|line| line.contains("process_id")).count(), 2, "a line each:\n{text}");
        assert_eq!(std::fs::metadata(&path).expect("it is there").permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_storm_costs_few_writes_and_no_change_costs_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(STATUS_FILE);
        let writes = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&writes);
        let writer = StatusWriter::spawn(&StateFolder::open(folder.path()), 1, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            String::new()
        });
        for count in 0..1_000 {
            writer.publish(StatusUpdate::Keys(vec![status("a", count)]));
            tokio::task::yield_now().await;
        }
        wait_for("the last change", || path.exists() && read(&path)["instances"][0]["error_count"] == 999).await;
        let after_storm = writes.load(Ordering::Relaxed);
        assert!(after_storm <= 10, "{after_storm} writes");
        let inode = std::fs::metadata(&path).expect("it is there").ino();
        writer.publish(StatusUpdate::Keys(vec![status("a", 999), (status("b", 0).0, None)]));
        writer.publish(StatusUpdate::Ready(false));
        writer.finish().await.expect("there is nothing to write");
        assert_eq!(writes.load(Ordering::Relaxed), after_storm);
        assert_eq!(std::fs::metadata(&path).expect("it is there").ino(), inode);
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_written_is_written_once_it_can() {
        let folder = tempfile::tempdir().expect("a folder");
        let state = folder.path().join("state");
        let attempts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&attempts);
        let writer = StatusWriter::spawn(&StateFolder::open(&state), 1, move || {
            counted.fetch_add(1, Ordering::Relaxed);
            String::new()
        });
        writer.publish(StatusUpdate::Ready(true));
        let file = writer.file();
        wait_for("the first attempt", || attempts.load(Ordering::Relaxed) > 0 && file.error().is_some()).await;
        assert_eq!(file.mend(), Presence::Pending);
        std::fs::create_dir(&state).expect("it is made");
        wait_for("the file", || state.join(STATUS_FILE).exists() && read(&state.join(STATUS_FILE))["ready"] == true)
            .await;
        wait_for("its health", || file.error().is_none() && file.mend() == Presence::Whole).await;
        std::fs::remove_dir_all(&state).expect("it is removed");
        writer.publish(StatusUpdate::Ready(false));
        assert_eq!(writer.finish().await.expect_err("it cannot be written").code(), Code::StoreUnavailable);
    }

    #[tokio::test]
    async fn a_file_that_somebody_removed_or_replaced_is_written_again_although_nothing_has_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join(STATUS_FILE);
        let writer = StatusWriter::spawn(&StateFolder::open(folder.path()), 1, String::new);
        let file = writer.file();
        wait_for("the file", || file.mend() == Presence::Whole).await;
        for replaced in [false, true] {
            std::fs::remove_file(&path).expect("it is there");
            if replaced {
                std::fs::write(&path, "another").expect("it is written");
            }
            assert_eq!(file.mend(), Presence::Pending);
            wait_for("the file again", || file.mend() == Presence::Whole).await;
            assert_eq!(read(&path)["launcher_pid"], 1);
        }
    }
}
