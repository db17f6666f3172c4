//! Which keys are in force although their files no longer declare them, kept across restarts: the files alone do not
//! tell, once one has become wrong or unreadable, and what is held together must not go in parts.

use super::replace::replace;
use crate::model::Key;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub(super) struct Dropped {
    file: PathBuf,
    known: BTreeSet<Key>,
    /// Whether the last attempt to write failed; told once.
    failed: bool,
}

impl Dropped {
    /// What the last launcher wrote. When that is lost, such a key is declared by its file until that is read.
    pub(super) fn read(state_dir: &Path) -> Self {
        let file = state_dir.join("desired-dropped.json");
        let known = match std::fs::read(&file) {
            Ok(bytes) => serde_json::from_slice(&bytes).unwrap_or_else(|error| {
                tracing::warn!(file = %file.display(), %error, "which deletions were held could not be read");
                BTreeSet::new()
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "which deletions were held could not be read");
                BTreeSet::new()
            }
        };
        Self { file, known, failed: false }
    }

    pub(super) const fn known(&self) -> &BTreeSet<Key> {
        &self.known
    }

    /// Writes what is so now, if that is news. A hold must be on disk before anybody is told of it.
    pub(super) fn write(&mut self, dropped: BTreeSet<Key>) {
        if dropped == self.known {
            return;
        }
        let written = serde_json::to_vec(&dropped).map_err(std::io::Error::from);
        match written.and_then(|bytes| replace(&self.file, &bytes)) {
            Ok(()) => {
                self.known = dropped;
                self.failed = false;
            }
            Err(error) if !self.failed => {
                self.failed = true;
                tracing::warn!(file = %self.file.display(), %error, "which deletions are held could not be written");
            }
            Err(_) => {}
        }
    }
}
