//! The task that owns the desired roots and the patterns, and says how the desired set changes.
//!
//! It looks when something is noticed, when it is poked, when something has to settle, and at least every resync
//! interval. The first event after a quiet time is looked at at once; in a storm of events there is a pause after each
//! pass, so that looking takes at most a third of one processor and no storm puts off a look.
//!
//! It also writes the launched files. What is to be written waits for no pause: all that waits is written as one batch,
//! counts at once, and is delivered to the loop together with the answers, which are given once the loop has published
//! what they speak of.

mod confirm;
mod dropped;
mod ended;
pub(super) mod files;
mod inhabited;
mod journal;
mod pass;
mod planning;
mod reboot;
mod refusals;
pub(crate) mod replace;
mod request;
mod survey;
mod task;
mod writing;

#[cfg(test)]
pub(super) use pass::Book;
pub use reboot::{Boots, drop_sessions, ends_with_boot};
pub use request::{Answer, Delivery, Edit, Launch, LaunchedFile, Update, UpdateOutcome};
pub use survey::{Survey, survey};

use super::registry::{PatternBook, Registry};
use super::root::{RootLock, RootSpec};
use super::spec::Defaults;
use super::watch::{self, Connect};
use crate::error::{Code, Error, Result};
use crate::model::{Caller, Instance, Key, Moment};
use arc_swap::ArcSwap;
use pass::Pass;
use request::{Reply, What, Write};
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};

/// The shortest pause between two passes: what arrives together is looked at together.
const PAUSE: Duration = Duration::from_millis(5);
/// The longest, however long a pass takes.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Commands that wait for the store: a poke, and reloads by a person.
const COMMANDS: usize = 4;
/// Writes that wait for the store: some seconds' worth of a disk that syncs slowly. More are refused at once.
const WRITES: usize = 4_096;
/// Writes of one batch: each holds a file open until all are synced, and a process may have 1,024 open by default.
const BATCH: usize = 128;
/// The store's own writing wakes nothing, and so may hide what somebody else does to the same file at the same time:
/// after a batch it looks within this time in any case, and once more before it relies on being woken again.
const AFTER_WRITING: Duration = Duration::from_secs(1);

/// What the store reads, and how.
#[derive(Debug, Clone)]
pub struct StoreSettings {
    /// The desired roots in the order of the configuration, the launch directory last.
    pub roots: Vec<RootSpec>,
    /// The patterns directory.
    pub patterns_dir: PathBuf,
    /// For instances whose files say less.
    pub defaults: Defaults,
    /// A scan happens at least this often, whatever is noticed.
    pub resync: Duration,
    /// The state folder: confirmations of held-back deletions are left in it, see [`confirm_dir`].
    pub state_dir: PathBuf,
    /// Keeps a second launcher out of the roots; `None` where nothing has to be kept out.
    pub locks: Option<Arc<dyn RootLock>>,
}

impl StoreSettings {
    /// Where launched instances are declared; empty when nothing can be launched.
    fn launch_dir(&self) -> &Path {
        self.roots.iter().find(|root| root.api_managed).map_or(Path::new(""), |root| &root.path)
    }
}

/// A way to talk to the store. The store ends when the last handle is dropped, or with the loop that it tells.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    commands: mpsc::Sender<Command>,
    writes: mpsc::Sender<Write>,
    patterns: Arc<ArcSwap<PatternBook>>,
}

#[derive(Debug)]
enum Command {
    Poke,
    Reconfigure(Box<StoreSettings>),
}

impl StoreHandle {
    /// Asks for a scan now. Pokes that arrive before it begins are one.
    pub fn poke(&self) {
        // A full queue holds a command that is followed by a scan.
        drop(self.commands.try_send(Command::Poke));
    }

    /// Takes new settings, and scans.
    pub async fn reconfigure(&self, settings: StoreSettings) {
        drop(self.commands.send(Command::Reconfigure(Box::new(settings))).await);
    }

    /// Has an instance declared by a launched file, unless some file declares it already. Answers once that is on disk
    /// and the loop has taken it in. Whoever stops waiting takes nothing back.
    ///
    /// # Errors
    /// Those of [`PatternBook::resolve_request`]; `DECLARED_BY_FILE` when a file is in the way, `STORE_UNAVAILABLE` when
    /// it cannot be written, `RESOURCE_LIMIT_EXCEEDED` when too many wait.
    pub async fn launch(&self, launch: Launch) -> Result<LaunchedFile> {
        self.ask(|reply| What::Launch { launch, reply }).await
    }

    /// Removes the launched file of `key` and ends what it declares, with at most this grace period. Answers once it is
    /// gone from the disk and the loop has taken that in; its process may still be ending.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND` when nothing declares it, `DECLARED_BY_FILE` when a person's file does, `STORE_UNAVAILABLE`
    /// when the file cannot be removed, `RESOURCE_LIMIT_EXCEEDED` when too many wait.
    pub async fn remove(&self, key: Key, grace: Option<Duration>, by: Caller) -> Result<()> {
        self.ask(|reply| What::Remove { key, grace, by, reply: Some(reply) }).await
    }

    /// Rewrites the launched file of a key. Answers once that is on disk and the loop has taken it in.
    ///
    /// # Errors
    /// As [`StoreHandle::remove`], and those of [`PatternBook::resolve_request`].
    pub async fn update(&self, update: Update) -> Result<UpdateOutcome> {
        self.ask(|reply| What::Update { update, reply }).await
    }

    /// Removes the launched file of a key whose `ttl` is over. Neither waits nor answers; whether it came to anything is
    /// seen by what is declared, and it is to be asked again as long as that does not change.
    pub fn expire(&self, key: Key) {
        let what = What::Remove { key, grace: None, by: Caller::Launcher, reply: None };
        // When too many wait, it is asked again.
        drop(self.writes.try_send(what.into()));
    }

    /// The patterns as they are now.
    pub fn patterns(&self) -> Arc<PatternBook> {
        self.patterns.load_full()
    }

    async fn ask<T>(&self, what: impl FnOnce(Reply<T>) -> What) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.writes.try_send(what(reply).into()).map_err(|refused| match refused {
            TrySendError::Full(_) => Error::new(
                Code::ResourceLimitExceeded,
                format!("More than {WRITES} launches and terminations wait to be written"),
            )
            .suggest("try again in a second"),
            TrySendError::Closed(_) => ended(),
        })?;
        answer.await.unwrap_or_else(|_| Err(ended()))
    }
}

fn ended() -> Error {
    Error::new(Code::InternalError, "the store has ended")
        .suggest("start the launcher again; the processes go on meanwhile and are taken over")
}

/// Where an empty file named like the token of a held-back deletion lets that deletion happen.
pub fn confirm_dir(state_dir: &Path) -> PathBuf {
    state_dir.join("confirm-prune")
}

/// Starts the store. `restored` is what the persisted memories declare: it holds until the files say otherwise, and
/// is not declared again. Must be called within a tokio runtime.
pub fn spawn(
    settings: StoreSettings,
    restored: Vec<Arc<Instance>>,
    clock: fn() -> Moment,
    deliveries: mpsc::Sender<Delivery>,
) -> StoreHandle {
    spawn_with(settings, restored, clock, deliveries, watch::connect)
}

pub(super) fn spawn_with(
    settings: StoreSettings,
    restored: Vec<Arc<Instance>>,
    clock: fn() -> Moment,
    deliveries: mpsc::Sender<Delivery>,
    connect: Connect,
) -> StoreHandle {
    let (commands, received) = mpsc::channel(COMMANDS);
    let (writes, waiting) = mpsc::channel(WRITES);
    let unread = Registry::open(settings.patterns_dir.clone());
    let book = PatternBook::of(&unread, settings.defaults.clone(), settings.launch_dir().to_path_buf());
    let patterns = Arc::new(ArcSwap::from_pointee(book));
    let published = Arc::clone(&patterns);
    tokio::spawn(async move {
        let opened = blocking(move || Pass::new(settings, &restored, clock, connect, published)).await;
        if let Some(pass) = opened {
            let inbox = Inbox { commands: received, writes: waiting, backlog: VecDeque::new() };
            task::run(pass, inbox, deliveries).await;
        }
    });
    StoreHandle { commands, writes, patterns }
}

/// What waits for the store.
struct Inbox {
    commands: mpsc::Receiver<Command>,
    writes: mpsc::Receiver<Write>,
    /// Writes that an earlier batch has left for the next.
    backlog: VecDeque<Write>,
}

/// Runs what blocks on a thread that may. `None` when it panicked or the runtime ends.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => Some(done),
        Err(error) => {
            if error.is_panic() {
                tracing::error!(%error, "the store has failed");
            }
            None
        }
    }
}

#[cfg(test)]
mod tests;
