//! Which keys are in force although their files no longer declare them, kept across restarts: the files alone do not
//! tell, once one has become wrong or unreadable, and what is held together must not go in parts.

use super::replace::replace;
use crate::desired::scan::Identity;
use crate::model::Key;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

pub(super) struct Dropped {
    file: PathBuf,
    known: BTreeSet<Key>,
    /// Which file says so, if one does.
    on_disk: Option<Identity>,
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
        let on_disk = Identity::of(&file).ok();
        Self { file, known, on_disk, failed: false }
    }

    pub(super) const fn known(&self) -> &BTreeSet<Key> {
        &self.known
    }

    /// Writes what is so now, if that is news, or if somebody has removed what was written. A hold must be on disk before
    /// anybody is told of it.
    pub(super) fn write(&mut self, dropped: BTreeSet<Key>) {
        if dropped == self.known && self.on_disk == Identity::of(&self.file).ok() {
            return;
        }
        let written = serde_json::to_vec(&dropped).map_err(std::io::Error::from);
        match written.and_then(|bytes| replace(&self.file, &bytes)) {
            Ok(identity) => {
                self.known = dropped;
                self.on_disk = Some(identity);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn s14_what_is_on_disk_already_is_not_written_again() {
        let state = tempfile::tempdir().expect("a folder");
        let held: BTreeSet<Key> = [Key::parse("ns:a:p").expect("a key")].into();
        let written = || std::fs::metadata(state.path().join("desired-dropped.json")).expect("it is there").ino();
        let mut dropped = Dropped::read(state.path());
        dropped.write(BTreeSet::new());
        assert_eq!(std::fs::read_dir(state.path()).expect("a folder").count(), 0, "there is nothing to say");
        dropped.write(held.clone());
        let before = written();
        dropped.write(held.clone());
        let mut next = Dropped::read(state.path());
        next.write(held.clone());
        assert_eq!(written(), before);
        std::fs::remove_file(state.path().join("desired-dropped.json")).expect("somebody removes it");
        next.write(held.clone());
        assert_eq!(Dropped::read(state.path()).known, held, "it is made again");
        next.write(BTreeSet::new());
        assert_ne!(written(), before);
    }

    #[test]
    fn what_launchers_of_version_1_wrote_is_read() {
        let known = Dropped::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1/state"))).known;
        let names: Vec<&str> = known.iter().map(Key::as_str).collect();
        assert_eq!(names, ["ns:held-3:plain", "ns:held-4:plain", "ns:held-5:plain"]);
    }
}
