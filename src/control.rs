//! What can be asked of a running launcher: the library, the gRPC API and the command line all go through here.
//!
//! Nothing is done here that a file in a desired folder could not bring about: a launch writes a file into the store,
//! a termination removes one, and the loop does the rest. What stands is read from the published board, so that getting
//! a process that runs visits neither the store nor the loop.
//!
//! A caller that goes away ends its wait and nothing else: every promise is kept by the store and the loop.

mod change;
mod end;
mod explain;
mod launch;
pub mod logs;
pub mod spec;
mod wait;

pub use change::{Suspend, Update, Updated};
pub use end::Termination;
pub use explain::Explanation;
pub use launch::Launched;
pub use logs::{Logs, LogsWanted};
pub use spec::LaunchSpec;
pub use wait::Wait;

use crate::act::{Output, Records, clock};
use crate::desired::StoreHandle;
use crate::desired::registry::PatternBook;
use crate::error::{Error, Result};
use crate::metrics::{Metrics, MetricsSnapshot};
use crate::model::{Caller, Key, KeyStatus, RunId};
use crate::observed::ask::{not_declared, shutting_down};
use crate::observed::{Ask, Asked};
use crate::reconciler::{Board, Happening, Request};
use std::sync::Arc;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

/// A way to ask things of a running launcher. Cheap to clone; any number of tasks may ask at once.
#[derive(Debug, Clone)]
pub struct Control {
    /// What anyone may read.
    board: Arc<Board>,
    /// Writes launch files.
    store: StoreHandle,
    /// To the loop.
    requests: mpsc::Sender<Request>,
    /// What has to be on disk before it is answered.
    records: Arc<Records>,
    /// What processes print.
    output: Arc<Output>,
    /// What is counted and measured.
    metrics: Arc<Metrics>,
    /// Done when the launcher begins to end: what is waited for will not come.
    closing: CancellationToken,
}

impl Control {
    pub(crate) const fn new(
        board: Arc<Board>,
        store: StoreHandle,
        requests: mpsc::Sender<Request>,
        records: Arc<Records>,
        output: Arc<Output>,
        metrics: Arc<Metrics>,
        closing: CancellationToken,
    ) -> Self {
        Self { board, store, requests, records, output, metrics, closing }
    }

    /// Where everything stands.
    pub const fn board(&self) -> &Arc<Board> {
        &self.board
    }

    /// The patterns as last read.
    pub fn patterns(&self) -> Arc<PatternBook> {
        self.store.patterns()
    }

    /// What processes print.
    pub(crate) const fn output(&self) -> &Arc<Output> {
        &self.output
    }

    /// Done when the launcher begins to end.
    pub const fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Where a declared key stands, or one of which something still lives.
    pub fn status(&self, key: &Key) -> Option<Arc<KeyStatus>> {
        self.board.status(key)
    }

    /// Where a key stands that must be known.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND`, with a key that is nearly the same if there is one.
    pub fn known(&self, key: &Key) -> Result<Arc<KeyStatus>> {
        self.status(key).ok_or_else(|| self.not_found(key))
    }

    /// Every declared key, in the order of the process ids. What was terminated by request and is still ending is not
    /// declared any more.
    pub fn list(&self) -> Vec<Arc<KeyStatus>> {
        let mut all: Vec<_> = self.board.statuses().into_iter().filter(|status| status.desired.is_some()).collect();
        all.sort_by(|a, b| a.process_id.cmp(&b.process_id));
        all
    }

    /// What was counted and measured, as numbers.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.board.standing(clock::now(), |standing| self.metrics.snapshot(standing))
    }

    /// What was counted and measured, in the text format of Prometheus.
    pub fn prometheus(&self) -> String {
        self.board.standing(clock::now(), |standing| self.metrics.prometheus(standing))
    }

    /// The metrics as JSON.
    pub fn json(&self) -> String {
        self.board.standing(clock::now(), |standing| self.metrics.json(standing))
    }

    /// What happens from now on. Who is too slow is told how many were missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Happening>> {
        self.board.chronicle().listen()
    }

    pub(crate) fn not_found(&self, key: &Key) -> Error {
        not_declared(key, self.board.statuses().iter().map(|status| &status.process_id))
    }

    /// Asks the loop, and answers once it has decided and published.
    async fn ask(&self, key: &Key, ask: Ask, by: &Caller) -> Result<Option<RunId>> {
        let (answer, answered) = oneshot::channel();
        let asked = Asked { key: key.clone(), by: by.clone(), ask };
        let sent = self.requests.send(Request::Ask { asked, answer }).await;
        if sent.is_err() {
            return Err(shutting_down());
        }
        // The loop drops what it has not answered when it ends.
        let answer = answered.await.unwrap_or_else(|_| Err(shutting_down()));
        self.board.chronicle().audited().await;
        answer
    }
}
