//! What a process printed, on its way to a client.

use super::proto::StreamLogsResponse;
use super::status;
use crate::control::logs::Logs;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Chunks on their way to a client; a client that does not read makes the reading wait.
pub(super) const CHUNKS: usize = 4;

/// One reading of one log.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) logs: Logs,
    pub(super) closing: CancellationToken,
    /// Held for as long as it goes on.
    pub(super) _slot: OwnedSemaphorePermit,
}

type Chunks = mpsc::Sender<Result<StreamLogsResponse, Status>>;

impl Reading {
    /// Sends until the end, until the client goes or until the launcher ends.
    pub(super) async fn run(mut self, to: Chunks) {
        loop {
            let next = tokio::select! {
                biased;
                // Cancel-safe: a cancelled token stays cancelled.
                () = self.closing.cancelled() => Err(status::closing()),
                // Cancel-safe: a closed channel stays closed.
                () = to.closed() => return,
                // Nothing of the reading is needed once another arm has won.
                next = self.logs.next() => next.map_err(Status::from),
            };
            match next {
                Ok(None) => return,
                Ok(Some(piece)) => {
                    let sent = StreamLogsResponse { data: piece.data, missed: piece.missed };
                    tokio::select! {
                        // Cancel-safe: a cancelled token stays cancelled.
                        () = self.closing.cancelled() => {}
                        // What is not sent is wanted by nobody.
                        sent = to.send(Ok(sent)) => if sent.is_err() { return },
                    }
                }
                Err(end) => {
                    // The client may not be reading, and then is not told.
                    drop(to.try_send(Err(end)));
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
