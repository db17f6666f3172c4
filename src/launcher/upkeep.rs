//! The watch over the state folder: each second all that belongs into it is looked at, and made again where it lacks.
//!
//! Somebody may remove, rename or replace the folder, or anything in it, while the launcher runs. The launcher goes on from
//! memory, but the next one would read the disk: a process whose record is not there is started a second time, or ended.
//! So what lacks is made again, the lock before all else, see [`StateFolder::hold`].
//!
//! Deliberately absent: the launch folder. It is a desired root, and one that disappears means nothing, see
//! [`super::launch_dir`]. Nor can output be brought back: a process goes on writing into the file that was removed until
//! it is started anew.

use crate::act::records::{AUDIT_LOG, EVENT_LOG, MEMORY_LOG, RUNS_FOLDER, remedy};
use crate::act::state_folder::Presence;
use crate::act::status_file::STATUS_FILE;
use crate::act::{HostFiles, Records, StateFolder, StatusFile};
use crate::desired::store::{Boots, StoreHandle};
use crate::error::{Code, Error, Result};
use crate::reconciler::Board;
use crate::socket::Door;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::task::AbortHandle;

/// Between two looks: what is lacking meanwhile would be lost with the launcher.
const EVERY: Duration = Duration::from_secs(1);
/// Between two looks while others are at what lacks.
const SOON: Duration = Duration::from_millis(100);
/// A look that takes longer waits for a disk that does not answer.
const SLOW: Duration = Duration::from_secs(10);

/// Looks at one thing and makes it again where it lacks. Blocks on the file system.
type Part = Box<dyn Fn() -> Result<Presence> + Send>;

/// What belongs into the state folder, and how it stands with it.
pub(super) struct Upkeep {
    folder: Arc<StateFolder>,
    records: Arc<Records>,
    status: OnceLock<StatusFile>,
    parts: Mutex<Vec<(&'static str, Part)>>,
    lacking: Mutex<Vec<Error>>,
    /// A look has been going on for too long.
    is_stuck: AtomicBool,
}

/// What else than its records a launcher keeps in the state folder.
pub(super) struct Belongings {
    pub(super) status: StatusFile,
    pub(super) board: Arc<Board>,
    pub(super) boots: Boots,
    pub(super) host: HostFiles,
    pub(super) doors: Vec<Arc<Door>>,
}

impl fmt::Debug for Upkeep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upkeep").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Upkeep {
    /// Of a folder and its records, to begin with.
    pub(super) fn of(folder: &Arc<StateFolder>, records: &Arc<Records>) -> Arc<Self> {
        Arc::new(Self {
            folder: Arc::clone(folder),
            records: Arc::clone(records),
            status: OnceLock::new(),
            parts: Mutex::default(),
            lacking: Mutex::default(),
            is_stuck: AtomicBool::new(false),
        })
    }

    /// Looks for as long as the launcher runs.
    pub(super) fn begin(self: &Arc<Self>, belongings: Belongings, store: StoreHandle) -> AbortHandle {
        let Belongings { status, board, boots, host, doors } = belongings;
        drop(self.status.set(status.clone()));
        let (runs, memories, audit) = (Arc::clone(&self.records), Arc::clone(&self.records), self.records.audit());
        let (logs, tenants) = (host.clone(), host.clone());
        // The records of runs first: without them what runs is nobody's when the launcher dies now.
        self.also(RUNS_FOLDER, move || runs.mend_runs());
        self.also("cgroup-base", move || host.mend_cgroups());
        self.also(MEMORY_LOG, move || Ok(memories.mend_memories()));
        self.also("tenant-users", move || tenants.mend_tenants());
        self.also("boot-id.json", move || {
            if boots.is_noted() { Ok(Presence::Whole) } else { boots.note_again().map(|()| Presence::Made) }
        });
        self.also("logs", move || logs.mend_logs());
        for door in doors {
            self.also("a socket", move || door.mend());
        }
        self.also(STATUS_FILE, move || Ok(status.mend()));
        self.also(EVENT_LOG, move || Ok(board.chronicle().mend()));
        self.also(AUDIT_LOG, move || audit.mend());
        tokio::spawn(watch(Arc::clone(self), store)).abort_handle()
    }

    fn also(&self, name: &'static str, part: impl Fn() -> Result<Presence> + Send + 'static) {
        self.parts().push((name, Box::new(part)));
    }

    /// What is wrong with the state folder and what is kept in it, each with what to do.
    pub(super) fn problems(&self) -> Vec<String> {
        if self.is_stuck.load(Ordering::Relaxed) {
            let shown = self.folder.path().display();
            return vec![format!(
                "the state folder {shown} has not answered for {} s: see findmnt -T {shown}",
                SLOW.as_secs()
            )];
        }
        let trouble = self.folder.trouble();
        if let Some(trouble) = trouble.as_ref().filter(|trouble| trouble.code() == Code::AlreadyRunning) {
            // All that cannot be written cannot be written for this.
            return vec![trouble.to_string()];
        }
        let trouble = trouble.map(|error| error.to_string());
        let mut problems: Vec<String> = trouble.into_iter().chain(self.problems_of_writers()).collect();
        for error in self.lacking().iter() {
            let error = error.to_string();
            if !problems.contains(&error) {
                problems.push(error);
            }
        }
        problems
    }

    /// Looks at everything once. Returns when to look again. Blocks on the file system.
    fn look(&self) -> Duration {
        let incidents = self.folder.incidents();
        let (mut made, mut lacking, mut pending) = (Vec::new(), Vec::new(), false);
        // Where it is not held, it says so itself, and nothing may be made in it.
        if self.folder.hold().is_err() {
            self.lacking().clear();
            return EVERY;
        }
        if let Err(error) = self.writable() {
            lacking.push(error);
        }
        for (name, part) in self.parts().iter() {
            match part() {
                Ok(Presence::Whole) => {}
                Ok(Presence::Made) => made.push(*name),
                Ok(Presence::Pending) => pending = true,
                Err(error) => lacking.push(error),
            }
        }
        self.tell(&made, &lacking);
        let whole = lacking.is_empty() && !pending;
        *self.lacking() = lacking;
        if whole && made.is_empty() && self.folder.mended(incidents) {
            tracing::info!(state = %self.folder.path().display(), "the state folder is whole again");
        }
        let is_under_way = pending || !made.is_empty();
        if is_under_way && self.problems_of_writers().next().is_none() && self.lacking().is_empty() {
            SOON
        } else {
            EVERY
        }
    }

    /// Why what others write for themselves cannot be written.
    fn problems_of_writers(&self) -> impl Iterator<Item = String> {
        let records = self.records.health().error.map(|error| format!("records cannot be written: {error}"));
        let status = self.status.get().and_then(StatusFile::error);
        let status = status.map(|error| format!("the status file is not up to date: {error}"));
        records.into_iter().chain(status)
    }

    fn tell(&self, made: &[&str], lacking: &[Error]) {
        if !made.is_empty() && self.folder.trouble().is_none() {
            tracing::warn!(made = made.join(", "), "what somebody removed from the state folder was made again");
        }
        let before = self.lacking();
        for error in lacking.iter().filter(|error| !before.contains(error)) {
            tracing::warn!(%error, "something of the state folder is lacking");
        }
    }

    fn writable(&self) -> Result<()> {
        let path = self.folder.path();
        rustix::fs::access(path, rustix::fs::Access::WRITE_OK).map_err(|errno| {
            let cause = errno.into();
            Error::new(Code::StoreUnavailable, format!("the state folder {} cannot be written", path.display()))
                .caused_by(&cause)
                .suggest(remedy(path, &cause))
        })
    }

    fn parts(&self) -> MutexGuard<'_, Vec<(&'static str, Part)>> {
        // It only grows.
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lacking(&self) -> MutexGuard<'_, Vec<Error>> {
        // It is replaced as a whole.
        self.lacking.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks again and again. What the store keeps in the folder it looks after itself whenever it looks at all, which it is
/// asked to where the folder had to be taken again.
async fn watch(upkeep: Arc<Upkeep>, store: StoreHandle) {
    let (mut pause, mut incidents) = (EVERY, 0);
    loop {
        tokio::time::sleep(pause).await;
        let looking = Arc::clone(&upkeep);
        let mut look = tokio::task::spawn_blocking(move || looking.look());
        let looked = if let Ok(looked) = tokio::time::timeout(SLOW, &mut look).await {
            looked
        } else {
            upkeep.is_stuck.store(true, Ordering::Relaxed);
            let looked = look.await;
            upkeep.is_stuck.store(false, Ordering::Relaxed);
            looked
        };
        // A look that broke is a defect, of which the panic has told.
        pause = looked.unwrap_or(EVERY);
        let now = upkeep.folder.incidents();
        if now != incidents {
            incidents = now;
            store.poke();
            upkeep.records.look_for_strays();
        }
    }
}
