//! What a running launcher is asked for about one key, apart from what is asked of the store.

use crate::model::{Caller, Key};
use std::time::Duration;

/// Something that somebody asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// About which key.
    pub key: Key,
    /// Who.
    pub by: Caller,
    /// What.
    pub ask: Ask,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Of a declared key: renew its `ttl`; if it has finished, run it again.
    Launch,
    /// Of a key that nothing declares any more and that is still ending: let its grace period end this much from now
    /// at the latest.
    Hasten(Duration),
    /// Stop it until it is resumed, or for this long.
    Suspend {
        /// For people.
        reason: String,
        /// `None` is until it is resumed.
        lasting: Option<Duration>,
    },
    /// End its suspension.
    Resume,
    /// End its process with its own grace period and start another, without counting a failure; a backoff ends.
    Restart,
    /// Forget its failures and close its circuit.
    Reset,
    /// Give up a process whose identity cannot be verified.
    Abandon,
}
