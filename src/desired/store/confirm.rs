//! Confirmations of held-back deletions: files that `confirm-prune` leaves, named like the token.

use crate::act::state_folder::make_private;
use crate::desired::set::Desired;
use crate::model::Moment;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A confirmation that names nothing that is held is kept for this long, in which a launcher that has just started has
/// read its roots. Kept longer it would let the same set go by mistake some day.
const KEPT: Duration = Duration::from_secs(60);

pub(super) struct Confirmations {
    folder: PathBuf,
    /// When each was first seen.
    seen: BTreeMap<PathBuf, Moment>,
}

impl Confirmations {
    pub(super) fn new(folder: PathBuf) -> Self {
        if let Err(error) = make_private(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "confirmations of deletions cannot be received");
        }
        Self { folder, seen: BTreeMap::new() }
    }

    /// Makes the folder again where somebody has removed it. Where that fails, whoever confirms makes it.
    pub(super) fn mend(&self) {
        drop(make_private(&self.folder));
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Uses what confirmations there are.
    pub(super) fn apply(&mut self, desired: &mut Desired, now: Moment) {
        let entries = std::fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let present: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        self.seen.retain(|path, _| present.contains(path));
        for path in present {
            let Some(token) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.'))
            else {
                continue;
            };
            let since = *self.seen.entry(path.clone()).or_insert(now);
            if desired.confirm(token) {
                tracing::info!(token, "a held-back deletion was confirmed");
            } else if now.since(since) < KEPT {
                continue;
            } else {
                tracing::warn!(token, "a confirmation names nothing that is held and is dropped");
            }
            self.seen.remove(&path);
            drop(std::fs::remove_file(&path));
        }
    }

    /// How long until the next one is dropped.
    pub(super) fn due(&self, now: Moment) -> Option<Duration> {
        self.seen.values().map(|since| now.until(since.after(KEPT))).min()
    }
}
