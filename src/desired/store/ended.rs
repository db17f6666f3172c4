//! Which launched instances were ended by request lately, kept across restarts.
//!
//! A launcher that starts while such an instance is still ending finds it in the memories and its file gone. Without
//! this it would believe in the memory until the absence counts, start the instance again meanwhile, and take several of
//! them for a mass deletion.

use crate::desired::scan::Identity;
use crate::model::{Instance, Key};
use std::collections::{BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Result, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The name of the file in the state folder: one process id on each line.
const FILE: &str = "ended-launches";
/// As many are remembered: all that 10,000 instances, which are ordinary, can have ended within a grace period.
const KEPT: usize = 10_000;

pub(super) struct Ended {
    path: PathBuf,
    recent: VecDeque<Key>,
    /// Lines of the file, of which only the last are of interest.
    lines: usize,
    /// Which file they are in.
    on_disk: Option<Identity>,
    /// Whether the last attempt to write failed; told once.
    failed: bool,
}

impl Ended {
    /// What the last launcher wrote, as far as it can be read.
    pub(super) fn read(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        // A launcher that died while it wrote has left a line that is no process id, or one that nothing has.
        let mut recent: VecDeque<Key> = text.lines().filter_map(|line| Key::parse(line).ok()).collect();
        // Nothing may be appended to a torn line: the file is then written anew.
        let torn = !text.is_empty() && !text.ends_with('\n');
        let lines = if torn { 2 * KEPT } else { text.lines().count() };
        recent.drain(..recent.len().saturating_sub(KEPT));
        let on_disk = Identity::of(&path).ok();
        Self { path, recent, lines, on_disk, failed: false }
    }

    /// Those of the restored instances that were ended: their files are gone, and that is no loss.
    pub(super) fn among<'a>(&self, restored: &'a [Arc<Instance>]) -> impl Iterator<Item = &'a Arc<Instance>> {
        let ended: BTreeSet<Key> = self.recent.iter().cloned().collect();
        let is_gone = |path: &Path| path.symlink_metadata().is_err_and(|error| error.kind() == ErrorKind::NotFound);
        restored.iter().filter(move |instance| {
            instance.origin.api_managed && ended.contains(&instance.key) && is_gone(&instance.origin.path())
        })
    }

    /// Notes that these are about to be ended. Not synced: the death of a launcher loses none of it, and a power cut ends
    /// the processes too.
    pub(super) fn note<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        let before = self.recent.len();
        self.recent.extend(keys.cloned());
        let fresh = self.recent.len() - before;
        if fresh == 0 {
            return;
        }
        self.recent.drain(..self.recent.len().saturating_sub(KEPT));
        let rewrite = self.lines + fresh > 2 * KEPT || self.failed || self.is_displaced();
        self.put(fresh, rewrite);
    }

    /// Notes it in memory, while the state folder cannot be written.
    pub(super) fn keep<'a>(&mut self, keys: impl Iterator<Item = &'a Key>) {
        self.recent.extend(keys.cloned());
        self.recent.drain(..self.recent.len().saturating_sub(KEPT));
        self.failed = true;
    }

    /// Writes all of it again where somebody has removed what was written, or it could not be written.
    pub(super) fn mend(&mut self) {
        if !self.recent.is_empty() && (self.failed || self.is_displaced()) {
            self.put(0, true);
        }
    }

    fn is_displaced(&self) -> bool {
        self.on_disk != Identity::of(&self.path).ok()
    }

    fn put(&mut self, fresh: usize, rewrite: bool) {
        let written = if rewrite { self.recent.len() } else { fresh.min(self.recent.len()) };
        match self.write(self.recent.len() - written, rewrite) {
            Ok(identity) => {
                self.on_disk = Some(identity);
                self.lines = if rewrite { written } else { self.lines + written };
                self.failed = false;
            }
            Err(error) if !self.failed => {
                self.failed = true;
                tracing::warn!(file = %self.path.display(), %error, "which instances were ended could not be written");
            }
            Err(_) => {}
        }
    }

    fn write(&self, from: usize, rewrite: bool) -> Result<Identity> {
        let text: String = self.recent.range(from..).flat_map(|key| [key.as_str(), "\n"]).collect();
        let mut file: File = OpenOptions::new()
            .create(true)
            .append(!rewrite)
            .write(true)
            .truncate(rewrite)
            .mode(0o600)
            .open(&self.path)?;
        file.write_all(text.as_bytes())?;
        Ok(Identity::from(&rustix::fs::fstat(&file)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key::parse(&format!("ns:t{number}:p")).expect("a key")
    }

    #[test]
    fn what_was_noted_is_known_to_the_next_launcher_and_the_file_stays_small() {
        let state = tempfile::tempdir().expect("a folder");
        let mut ended = Ended::read(state.path());
        for number in 0..2 * KEPT + 10 {
            ended.note([key(number)].iter());
        }
        let lines = std::fs::read_to_string(state.path().join(FILE)).expect("text").lines().count();
        assert!((KEPT..=2 * KEPT).contains(&lines), "{lines}");
        let next = Ended::read(state.path());
        assert_eq!(next.recent, ended.recent);
        assert_eq!(next.recent.back(), Some(&key(2 * KEPT + 9)));
    }

    #[test]
    fn what_somebody_removed_is_written_again_as_a_whole() {
        let state = tempfile::tempdir().expect("a folder");
        let mut ended = Ended::read(state.path());
        ended.mend();
        assert!(!state.path().join(FILE).exists(), "there is nothing to say");
        ended.note([key(1)].iter());
        std::fs::remove_file(state.path().join(FILE)).expect("somebody removes it");
        ended.mend();
        assert_eq!(Ended::read(state.path()).recent, [key(1)]);
        std::fs::remove_file(state.path().join(FILE)).expect("somebody removes it");
        ended.note([key(2)].iter());
        ended.mend();
        assert_eq!(Ended::read(state.path()).recent, [key(1), key(2)]);
    }

    #[test]
    fn a_torn_line_is_nothing() {
        let state = tempfile::tempdir().expect("a folder");
        std::fs::write(state.path().join(FILE), "ns:a:p\nns:b").expect("written");
        let mut ended = Ended::read(state.path());
        assert_eq!(ended.recent, [Key::parse("ns:a:p").expect("a key")]);
        ended.note([key(1)].iter());
        assert_eq!(Ended::read(state.path()).recent, ended.recent);
    }

    #[test]
    fn what_launchers_of_version_1_wrote_is_read() {
        let then = Ended::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1/state")));
        let names: Vec<&str> = then.recent.iter().map(Key::as_str).collect();
        assert_eq!(names, ["ns:ended:plain", "ns:ending:stubborn"]);
    }
}
