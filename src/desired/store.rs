//! The task that owns the desired roots and the patterns, and says how the desired set changes.

use super::root::{RootLock, RootSpec};
use super::spec::Defaults;
use crate::error::Error;
use crate::model::{Instance, Moment};
use crate::observed::event::DesiredChange;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

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
/// is not declared again.
pub fn spawn(
    settings: StoreSettings,
    restored: Vec<Arc<Instance>>,
    clock: fn() -> Moment,
    changes: mpsc::Sender<DesiredChange>,
) -> StoreHandle {
    todo!("{settings:?}{restored:?}{clock:?}{changes:?}")
}

/// What one look at the directories finds, without waiting for anything to settle.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// What would be desired, by key.
    pub instances: Vec<Arc<Instance>>,
    /// Everything that is wrong: files, duplicates, patterns, roots that cannot be read.
    pub errors: Vec<Error>,
}

/// Looks once, for `check` and `plan`. Blocks on the file system; takes no locks and writes nothing.
pub fn survey(settings: &StoreSettings, restored: &[Arc<Instance>], now: Moment) -> Survey {
    todo!("{settings:?}{restored:?}{now:?}")
}
