//! The status file: where everything stands, for scripts.

use crate::error::Result;
use crate::model::{DesiredStatus, Key, KeyStatus};
use std::path::PathBuf;
use std::sync::Arc;

/// A part of the status that changed.
#[derive(Debug, Clone)]
pub enum StatusUpdate {
    /// These keys, or, with `None`, they are gone.
    Keys(Vec<(Key, Option<Arc<KeyStatus>>)>),
    /// How the reading of the desired directories went.
    Desired(Arc<DesiredStatus>),
    /// Whether survivors are adopted and every root was decided on.
    Ready(bool),
}

/// Writes the status file.
#[derive(Debug)]
pub struct StatusWriter {}

impl StatusWriter {
    /// Starts the task that keeps `path` up to date; `wall_time` gives the time of day as RFC 3339.
    pub fn spawn(path: PathBuf, launcher_pid: u32, wall_time: fn() -> String) -> Self {
        let _ = (path, launcher_pid, wall_time);
        unimplemented!()
    }

    /// Takes a change: never blocks; several of one key become one.
    pub fn publish(&self, update: StatusUpdate) {
        drop(update);
        unimplemented!()
    }

    /// Writes what is left and ends the task.
    pub async fn finish(self) -> Result<()> {
        unimplemented!()
    }
}
