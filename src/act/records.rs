//! What is on disk about keys and runs.

use crate::error::{Error, Result};
use crate::model::{BootId, Key, Memory, RunId, RunRecord};
use std::path::Path;

/// The records of one state folder.
#[derive(Debug)]
pub struct Records {}

/// What the records said when they were opened.
#[derive(Debug, Default)]
pub struct Loaded {
    /// What is remembered about each key, one memory a key, in key order.
    pub memories: Vec<Memory>,
    /// The runs that have a readable record; a crash can leave two of one key.
    pub runs: Vec<RunRecord>,
    /// Run records that cannot be read: [`Key::file_name`] of the key, which they block, and why.
    pub damaged: Vec<(String, Error)>,
    /// What else was not as it should be: worth a log line, blocks nothing.
    pub notices: Vec<Error>,
}

/// Whether what is to be remembered reaches the disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordsHealth {
    /// Why the last write failed; `None` while the records are writable.
    pub error: Option<Error>,
    /// Changes that are not on disk yet.
    pub pending: usize,
}

impl RecordsHealth {
    /// Whether the last write succeeded.
    pub const fn is_writable(&self) -> bool {
        self.error.is_none()
    }
}

impl Records {
    /// Opens the records of a state folder, which is made when it is absent, reads them, and starts the thread that
    /// writes memories. The caller holds the lock of the state folder. Run records of another boot than `boot` that
    /// cannot be read are removed, since nothing of that boot lives.
    pub fn open(state_dir: &Path, boot: BootId) -> Result<(Self, Loaded)> {
        let _ = (state_dir, boot);
        unimplemented!()
    }

    /// Remembers this about its key, soon: never blocks, never fails.
    pub fn save_memory(&self, memory: Memory) {
        drop(memory);
        unimplemented!()
    }

    /// Forgets a key, soon: never blocks, never fails.
    pub fn drop_memory(&self, key: Key) {
        drop(key);
        unimplemented!()
    }

    /// Returns once everything said before is on disk, or could not be written.
    pub async fn flush(&self) -> Result<()> {
        unimplemented!()
    }

    /// Whether memories reach the disk.
    pub fn health(&self) -> RecordsHealth {
        unimplemented!()
    }

    /// Writes the record of a run, or writes it again. About 40 µs of file system calls, no sync: the record is scoped
    /// to the boot. A full disk is `STORE_UNAVAILABLE`, and the record is as it was before.
    pub fn save_run(&self, record: &RunRecord) -> Result<()> {
        let _ = record;
        unimplemented!()
    }

    /// Removes the record of a run; one that is not there is no error.
    pub fn drop_run(&self, key: &Key, run: RunId) -> Result<()> {
        let _ = (key, run);
        unimplemented!()
    }
}

/// Reads the records beside a launcher that may be running: writes, locks and repairs nothing.
pub fn load_readonly(state_dir: &Path, boot: BootId) -> Result<Loaded> {
    let _ = (state_dir, boot);
    unimplemented!()
}
