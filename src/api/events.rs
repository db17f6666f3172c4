//! What happens, sent to whoever watches.

use super::convert::{Filter, event};
use super::proto::{Event, WatchEventsResponse};
use super::status;
use crate::control::Control;
use crate::error::Result;
use crate::plan::PROCESS_FAILED;
use crate::reconciler::Happening;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Events on their way to a client. A client that does not read makes the chronicle run ahead, and is told by how much.
pub(super) const EVENTS: usize = 64;

/// One client's watching.
#[derive(Debug)]
pub(super) struct Watching {
    pub(super) filter: Filter,
    pub(super) happenings: broadcast::Receiver<Arc<Happening>>,
    /// Knows what processes printed.
    pub(super) control: Control,
    pub(super) closing: CancellationToken,
    /// Held for as long as it goes on.
    pub(super) _slot: OwnedSemaphorePermit,
}

type Events = mpsc::Sender<Result<WatchEventsResponse, Status>>;

impl Watching {
    /// Sends until the client goes or the launcher ends.
    pub(super) async fn run(mut self, to: Events) {
        let closing = self.closing.clone();
        tokio::select! {
            biased;
            // Cancel-safe: a cancelled token stays cancelled. The client may not be reading, and then is not told.
            () = closing.cancelled() => drop(to.try_send(Err(status::closing()))),
            // Cancel-safe: a closed channel stays closed.
            () = to.closed() => {}
            // Nothing of the watching is needed once another arm has won.
            () = self.send(&to) => {}
        }
    }

    async fn send(&mut self, to: &Events) {
        let mut missed = 0;
        loop {
            match self.happenings.recv().await {
                Ok(happening) if self.filter.passes(&happening.key) => {
                    let event = Event { last_lines: self.last_lines(&happening).await, ..event(&happening) };
                    let response = WatchEventsResponse { event: Some(event), missed };
                    missed = 0;
                    if to.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
                Ok(_) => {}
                Err(RecvError::Lagged(count)) => missed += count,
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// What a run that failed has printed. It is read when somebody watches, and is neither kept with the event nor in
    /// anybody's way when nobody does.
    async fn last_lines(&self, happening: &Happening) -> Vec<String> {
        let Some(run) = happening.run.filter(|_| happening.message == PROCESS_FAILED) else { return Vec::new() };
        self.control.last_lines_of(&happening.key, run).await.unwrap_or_default()
    }
}
