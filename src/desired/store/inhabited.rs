//! Which folder each root was when it last had a file in it, kept across restarts: an empty root that is another folder
//! than that may be a mount point without its file system.

use super::replace::replace;
use crate::desired::scan::Identity;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) struct Inhabited {
    file: PathBuf,
    known: BTreeMap<PathBuf, Identity>,
}

impl Inhabited {
    /// What the last launcher wrote. When that is lost, an empty root is believed unless the guard holds it.
    pub(super) fn read(state_dir: &Path) -> Self {
        let file = state_dir.join("desired-roots.json");
        let known = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        Self { file, known }
    }

    pub(super) fn of(&self, root: &Path) -> Option<Identity> {
        self.known.get(root).copied()
    }

    /// Writes what is known now, if that is news.
    pub(super) fn write<'a>(&mut self, roots: impl Iterator<Item = (&'a PathBuf, Option<Identity>)>) {
        let mut known = self.known.clone();
        known.extend(roots.filter_map(|(path, identity)| Some((path.clone(), identity?))));
        if known == self.known {
            return;
        }
        self.known = known;
        let written = serde_json::to_vec(&self.known).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|bytes| replace(&self.file, &bytes)) {
            tracing::warn!(file = %self.file.display(), %error, "which folders the roots are could not be written");
        }
    }
}
