//! The locks that keep a second launcher out.

use crate::error::Result;
use std::path::Path;

/// Holds the state folder for as long as it lives.
#[derive(Debug)]
pub struct StateLock {}

impl StateLock {
    /// Locks the state folder, which is made when it is absent. `ALREADY_RUNNING` names the pid of the holder.
    pub fn acquire(state_dir: &Path) -> Result<Self> {
        let _ = state_dir;
        unimplemented!()
    }
}
