//! What is told by files: the commit of a work tree, and what a program printed last.

use crate::act::Output;
use crate::desired::scan::{Checkout, checkout};
use crate::model::Key;
use std::path::PathBuf;
use std::sync::Arc;

/// What files tell about a key.
#[derive(Debug)]
pub(super) struct Places {
    /// What the git work tree of its declaration has checked out.
    pub(super) checkout: Option<Checkout>,
    /// The last lines that were printed, oldest first.
    pub(super) printed: Vec<String>,
}

impl Places {
    /// Reads a handful of small files, where that may block, in the turn of the key's namespace.
    pub(super) async fn look(output: &Arc<Output>, key: &Key, declared: Option<PathBuf>) -> Self {
        let (own, of) = (Arc::clone(output), key.clone());
        let look = move || Self {
            checkout: declared.as_deref().and_then(checkout),
            printed: own.last_lines(&of, None).unwrap_or_default(),
        };
        output.blocking(key, look).await
    }
}
