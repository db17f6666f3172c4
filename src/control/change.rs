//! Suspending, resuming, restarting, resetting, updating, abandoning.

use super::{Control, Wait, spec};
use crate::desired::store::{self, Edit, UpdateOutcome};
use crate::error::{Code, Error, Result};
use crate::model::{Caller, Generation, Key, KeyStatus, RunId, Secret};
use crate::observed::Ask;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// The longest reason of a suspension, in bytes: a sentence.
const REASON_LIMIT: usize = 200;

/// A suspension that is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Suspend {
    /// For people: printable, at most 200 bytes.
    pub reason: String,
    /// It ends by itself after this long; `None` is when it is resumed.
    pub lasting: Option<Duration>,
}

/// A change of a launched instance; what is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// In place of its config.
    pub config: Option<BTreeMap<String, Secret>>,
    /// In place of its slots: slot name, then key, then value.
    pub slots: Option<BTreeMap<String, BTreeMap<String, Secret>>>,
    /// In place of its grace period.
    pub grace_period: Option<Duration>,
    /// The generation that the change was made from.
    pub expected: Option<Generation>,
}

/// What an update came to.
#[derive(Debug, Clone)]
pub enum Updated {
    /// It is in force.
    Applied(Arc<KeyStatus>),
    /// Nothing was changed: the generation is another than the one that the change was made from.
    Moved(Generation),
}

impl Control {
    /// Stops an instance visibly, whoever declares it. Waits until the tree of its process is gone. It stays suspended
    /// when the launcher is started again.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND`, `INVALID_INSTANCE` when the reason is too long, `STORE_UNAVAILABLE` when it cannot be
    /// written down, `TERMINATION_FAILED` as for [`Control::terminate`].
    pub async fn suspend(&self, key: &Key, how: Suspend, wait: Wait, by: &Caller) -> Result<Arc<KeyStatus>> {
        let Suspend { reason, lasting } = how;
        if reason.len() > REASON_LIMIT || reason.chars().any(char::is_control) {
            return Err(Error::new(Code::InvalidInstance, "the reason of a suspension cannot be used")
                .with("reason", Error::echo(&reason))
                .suggest(format!("give one line of at most {REASON_LIMIT} bytes")));
        }
        let run = self.ask(key, Ask::Suspend { reason, lasting }, by).await?;
        self.records.flush().await?;
        if wait == Wait::ForOutcome {
            self.wait_until_gone(key, run).await?;
        }
        self.known(key)
    }

    /// Ends a suspension, and waits until the process is healthy. An instance that is not suspended is left as it is.
    ///
    /// # Errors
    /// As for [`Control::launch`] of a declared key.
    pub async fn resume(&self, key: &Key, wait: Wait, by: &Caller) -> Result<Arc<KeyStatus>> {
        self.ask(key, Ask::Resume, by).await?;
        self.records.flush().await?;
        self.up(key, wait).await
    }

    /// Ends the process of a key with its own grace period, starts another, and waits until that is healthy.
    ///
    /// # Errors
    /// As for [`Control::launch`] of a declared key; `MAX_ERRORS_EXCEEDED` while its circuit is open.
    pub async fn restart(&self, key: &Key, wait: Wait, by: &Caller) -> Result<Arc<KeyStatus>> {
        let before: Option<RunId> = self.ask(key, Ask::Restart, by).await?;
        if wait == Wait::ForOutcome {
            self.wait_until_gone(key, before).await?;
        }
        self.up(key, wait).await
    }

    /// Forgets the failures of a key and closes its circuit.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND`, `STORE_UNAVAILABLE`.
    pub async fn reset(&self, key: &Key, by: &Caller) -> Result<Arc<KeyStatus>> {
        self.ask(key, Ask::Reset, by).await?;
        self.records.flush().await?;
        self.known(key)
    }

    /// Changes what a launched instance is started with, and waits until its new process is healthy.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND`, `DECLARED_BY_FILE`, `INVALID_INSTANCE`, `STORE_UNAVAILABLE`, and as for
    /// [`Control::launch`].
    pub async fn update(&self, key: &Key, change: Update, wait: Wait, by: &Caller) -> Result<Updated> {
        let before = self.known(key)?;
        let Update { config, slots, grace_period, expected } = change;
        let config = config.map(|config| spec::check_config(&config)).transpose()?;
        let slots = slots.map(|slots| spec::check_slots(&slots)).transpose()?;
        let grace_period = grace_period.map(spec::check_grace).transpose()?;
        if expected.is_some_and(|expected| expected != before.generation) {
            return Ok(Updated::Moved(before.generation));
        }
        // Only who names a generation minds that it moves while this is under way.
        let seen = expected.and_then(|_| before.declared.clone());
        let edit = Edit { config, slots, grace_period };
        let update = store::Update { key: key.clone(), edit, expected: seen, by: by.clone() };
        let outcome = self.store.update(update).await?;
        self.board.chronicle().audited().await;
        match outcome {
            UpdateOutcome::Done(_) => Ok(Updated::Applied(self.up(key, wait).await?)),
            UpdateOutcome::Moved(_) => Ok(Updated::Moved(self.known(key)?.generation)),
        }
    }

    /// Gives up a process whose identity cannot be verified. Returns what its record said.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND`, `ALREADY_RUNNING` when its process is known to be ours, `STORE_UNAVAILABLE` when the record
    /// cannot be set aside.
    pub async fn abandon(&self, key: &Key, by: &Caller) -> Result<String> {
        let before = self.board.status(key).and_then(|status| status.last_error.clone());
        self.ask(key, Ask::Abandon, by).await?;
        Ok(before.unwrap_or_else(|| format!("what was recorded of {key}")))
    }

    async fn up(&self, key: &Key, wait: Wait) -> Result<Arc<KeyStatus>> {
        match wait {
            Wait::ForOutcome => self.wait_until_up(key).await,
            Wait::No => self.known(key),
        }
    }
}
