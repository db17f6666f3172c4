//! Waiting until a key stands where a caller wants it.

use super::Control;
use crate::error::Result;
use crate::model::{Key, KeyStatus};
use crate::observed::ask::shutting_down;
use std::sync::Arc;

/// Whether a call waits for what it brings about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until it has come about, or is not going to.
    ForOutcome,
    /// No: it answers once it is decided and will survive a crash.
    No,
}

impl Control {
    /// Waits until `judge` has an answer. It is asked about the key now and after every publication that may concern
    /// it.
    pub(super) async fn wait<T>(
        &self,
        key: &Key,
        mut judge: impl FnMut(Option<&Arc<KeyStatus>>) -> Option<Result<T>>,
    ) -> Result<T> {
        let mut published = self.board.subscribe(key);
        loop {
            if let Some(outcome) = judge(self.board.status(key).as_ref()) {
                return outcome;
            }
            tokio::select! {
                // Cancel-safe: a publication that is not noticed now is noticed the next time.
                () = published.changed() => {}
                // Waiting for a token holds nothing.
                () = self.closing.cancelled() => return Err(shutting_down()),
            }
        }
    }
}
