//! The task that owns the desired roots and the patterns, and says how the desired set changes.
//!
//! It looks when something is noticed, when it is poked, when something has to settle, and at least every resync
//! interval. The first event after a quiet time is looked at at once; in a storm of events there is a pause after each
//! pass, so that looking takes at most a third of one processor and no storm puts off a look.

mod confirm;
mod dropped;
mod inhabited;
mod journal;
mod pass;
mod replace;
mod survey;

#[cfg(test)]
pub(super) use pass::Book;
pub use survey::{Survey, survey};

use super::root::{RootLock, RootSpec};
use super::spec::Defaults;
use super::watch::{self, Connect};
use crate::model::{Instance, Moment};
use crate::observed::event::DesiredChange;
use journal::Journal;
use pass::{Pass, Ran};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};

/// The shortest pause between two passes: what arrives together is looked at together.
const PAUSE: Duration = Duration::from_millis(5);
/// The longest, however long a pass takes.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Commands that wait for the store: a poke, and reloads by a person.
const COMMANDS: usize = 4;

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

/// A way to talk to the store. The store ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub struct StoreHandle {
    commands: mpsc::Sender<Command>,
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
    changes: mpsc::Sender<DesiredChange>,
) -> StoreHandle {
    spawn_with(settings, restored, clock, changes, watch::connect)
}

pub(super) fn spawn_with(
    settings: StoreSettings,
    restored: Vec<Arc<Instance>>,
    clock: fn() -> Moment,
    changes: mpsc::Sender<DesiredChange>,
    connect: Connect,
) -> StoreHandle {
    let (commands, inbox) = mpsc::channel(COMMANDS);
    tokio::spawn(async move {
        let opened = blocking(move || Pass::new(settings, &restored, clock, connect)).await;
        if let Some(pass) = opened {
            run(pass, inbox, changes).await;
        }
    });
    StoreHandle { commands }
}

/// Why the store looks again.
enum Wake {
    Look,
    Reconfigure(Box<StoreSettings>),
    End,
}

async fn run(mut pass: Pass, mut inbox: mpsc::Receiver<Command>, changes: mpsc::Sender<DesiredChange>) {
    let events = pass.wake();
    let mut journal = Journal::default();
    loop {
        let Some((returned, ran)) = blocking(move || (pass.run(), pass)).await.map(|(ran, pass)| (pass, ran)) else {
            return;
        };
        pass = returned;
        let Ran { change, again, took } = ran;
        if let Some(change) = change {
            journal.note(&change);
            if changes.send(change).await.is_err() {
                return;
            }
        }
        tokio::time::sleep((took * 2).clamp(PAUSE, LONGEST_PAUSE)).await;
        match next(&events, &mut inbox, again).await {
            Wake::Look => {}
            Wake::Reconfigure(settings) => {
                let Some(reconfigured) = blocking(move || {
                    pass.reconfigure(*settings);
                    pass
                })
                .await
                else {
                    return;
                };
                pass = reconfigured;
            }
            Wake::End => return,
        }
    }
}

async fn next(events: &Notify, inbox: &mut mpsc::Receiver<Command>, again: Duration) -> Wake {
    // Each arm may be dropped without loss: a permit and a command stay where they are until they are taken.
    tokio::select! {
        () = events.notified() => Wake::Look,
        () = tokio::time::sleep(again) => Wake::Look,
        command = inbox.recv() => match command {
            Some(Command::Poke) => Wake::Look,
            Some(Command::Reconfigure(settings)) => Wake::Reconfigure(settings),
            None => Wake::End,
        },
    }
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
