//! What the tasks of all runs share.

use super::census::Census;
use super::cgroup::RunCgroup;
use super::known::KnownPids;
use super::mailbox::Mailbox;
use super::output::Output;
use super::prepare::Surroundings;
use super::records::Records;
use super::spawner::Client;
use super::turns::{Turn, Turns};
use super::usage::Meters;
use crate::error::Error;
use crate::model::RunId;
use crate::observed::Event;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What the tasks of all runs share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// What every start has in common.
    pub(crate) surroundings: Arc<Surroundings>,
    /// Where runs are recorded.
    pub(crate) records: Arc<Records>,
    /// What they print.
    pub(crate) output: Arc<Output>,
    /// Who makes children.
    pub(crate) spawner: Client,
    /// Which children have an owner.
    pub(crate) known: Arc<KnownPids>,
    /// What reads how much runs use.
    pub(crate) meters: Meters,
    /// Who lists all processes.
    pub(crate) census: Census,
    /// Cancelled when the runs are to be left alone.
    pub(crate) leave: CancellationToken,
    /// The tasks of all runs.
    pub(crate) tasks: TaskTracker,
    events: mpsc::Sender<Event>,
    mailboxes: Mutex<HashMap<RunId, Arc<Mailbox>>>,
    /// Those of our cgroups in which something lived without a record when they were last looked at.
    orphans: Mutex<Vec<RunCgroup>>,
    /// Room for calls that may block.
    turns: Turns,
    /// Room for starts.
    starts: Turns,
}

impl Shared {
    /// With no runs yet.
    pub(crate) fn new(
        surroundings: Surroundings,
        records: Arc<Records>,
        output: Arc<Output>,
        spawner: Client,
        known: Arc<KnownPids>,
        meters: Meters,
        events: mpsc::Sender<Event>,
    ) -> Self {
        Self {
            surroundings: Arc::new(surroundings),
            records,
            output,
            spawner,
            known,
            meters,
            census: Census::default(),
            leave: CancellationToken::new(),
            tasks: TaskTracker::new(),
            events,
            mailboxes: Mutex::default(),
            orphans: Mutex::default(),
            turns: Turns::default(),
            starts: Turns::default(),
        }
    }

    /// Reports to the loop; waits while the loop has not caught up. When the runs are being left alone, or the loop is
    /// gone, there is nobody to report to.
    pub(crate) async fn report(&self, event: Event) {
        tokio::select! {
            // Cancel-safe: what is not sent is dropped, on purpose.
            sent = self.events.send(event) => drop(sent),
            () = self.leave.cancelled() => {}
        }
    }

    /// Does what may block, away from the loop, in the turn of a namespace.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        namespace: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        self.turns.blocking(namespace, work).await
    }

    /// Waits for the turn of a namespace to start a process, which lasts until its program runs. Otherwise all the starts
    /// that one namespace has slots for would stand ahead of another's in every queue on the way, and share the cores with
    /// it.
    pub(crate) async fn turn_to_start(&self, namespace: &str) -> Turn<'_> {
        self.starts.take(namespace).await
    }

    /// The orders of a run whose task is to be started.
    pub(crate) fn open_mailbox(&self, run: RunId) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).insert(run, Arc::clone(&mailbox));
        mailbox
    }

    /// The orders of a run that has a task.
    pub(crate) fn mailbox(&self, run: RunId) -> Option<Arc<Mailbox>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).get(&run).cloned()
    }

    /// Whether a run, named as it prints, has a task.
    pub(crate) fn has_task(&self, run: &str) -> bool {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).keys().any(|known| known.to_string() == run)
    }

    /// The task of a run has nothing left to do.
    pub(crate) fn close_mailbox(&self, run: RunId) {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner).remove(&run);
    }

    /// These are the orphans now; those that were known before.
    pub(crate) fn set_orphans(&self, found: Vec<RunCgroup>) -> Vec<RunCgroup> {
        std::mem::replace(&mut *self.orphans.lock().unwrap_or_else(PoisonError::into_inner), found)
    }

    /// For what the loop is not told of because it could change nothing.
    pub(crate) fn note_failure(run: RunId, what: &'static str, error: &Error) {
        tracing::error!(%run, %error, "{what}");
    }
}
