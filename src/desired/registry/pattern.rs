//! One pattern: what was seen of it, and what is believed.

use super::executable::{self, Sighting, Unsteady, open_regular};
use super::{Lookup, Paths, SETTLE};
use crate::desired::manifest::parse_manifest;
use crate::desired::stamp::Stamp;
use crate::error::{Code, Error};
use crate::model::{Manifest, Moment, PatternName};
use std::fs;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

/// The most bytes of a manifest that are read: one more than the parser accepts, so that it says so.
const READ_LIMIT: u64 = 256 * 1024 + 1;

/// A pattern that has been seen at least once.
#[derive(Debug)]
pub(super) struct Pattern {
    /// Whether its manifest is there now.
    present: bool,
    /// What was last seen, and since when it has looked like that.
    seen: Option<(Seen, Moment)>,
    /// Whether what was seen has held still and is believed.
    settled: bool,
    /// The last good manifest, digest included.
    good: Option<Arc<Manifest>>,
    /// Whether the last good manifest had an executable that could be run when it came to be believed.
    good_ran: bool,
    /// Why the manifest cannot be used as it is.
    invalid: Option<Error>,
    /// What is wrong with the executable.
    unusable: Option<Error>,
    /// The hash of an executable by its stamp.
    hashed: Option<(Stamp, Option<String>)>,
}

/// One look at a manifest and its executable.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    /// The stamp of the manifest's file.
    stamp: Option<Stamp>,
    /// What it says.
    parsed: Result<Arc<Manifest>, Error>,
    /// The hash of its text: an error that stays the same may hide a change.
    text: Option<String>,
    executable: Option<Sighting>,
}

/// Whether a look found the manifest where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    There,
    Absent,
}

/// How much is believed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Belief {
    /// All of it: nothing runs from an earlier one yet.
    AtOnce,
    /// What has held still.
    Settled,
}

impl Pattern {
    pub(super) const fn new() -> Self {
        Self {
            present: false,
            seen: None,
            settled: false,
            good: None,
            good_ran: false,
            invalid: None,
            unusable: None,
            hashed: None,
        }
    }

    /// Whether it has ever been more than a folder.
    pub(super) const fn is_known(&self) -> bool {
        self.present || self.good.is_some()
    }

    /// Its manifest is not there. Gives how long to wait before looking whether that was a moment's absence.
    pub(super) fn disappear(&mut self) -> Option<Duration> {
        let was_present = std::mem::replace(&mut self.present, false);
        self.seen = None;
        self.settled = false;
        was_present.then_some(SETTLE)
    }

    /// Looks at the files. Gives how long to wait before what changed can be believed.
    pub(super) fn look(
        &mut self,
        paths: &Paths,
        name: &str,
        now: Moment,
        belief: Belief,
    ) -> (Presence, Option<Duration>) {
        let Some(seen) = self.see(paths, name) else {
            return (Presence::Absent, self.disappear());
        };
        self.present = true;
        let since = match &self.seen {
            Some((before, since)) if same(before, &seen) => *since,
            Some(_) | None => {
                self.settled = false;
                now
            }
        };
        let unchanged = self.settled;
        self.seen = Some((seen, since));
        if unchanged {
            return (Presence::There, None);
        }
        let waited = now.since(since);
        if belief == Belief::Settled && waited < SETTLE && !self.says_the_same() {
            return (Presence::There, Some(SETTLE.saturating_sub(waited)));
        }
        if let Err(Unsteady) = self.believe() {
            self.seen = None;
            return (Presence::There, Some(SETTLE));
        }
        self.settled = true;
        (Presence::There, None)
    }

    /// One look; `None` when there is no manifest.
    fn see(&self, paths: &Paths, name: &str) -> Option<Seen> {
        let unreadable = |error: &io::Error| {
            let file = paths.shown(name);
            let message = format!("{file}: the manifest cannot be read");
            let error = Error::new(Code::InvalidManifest, message).with("file", &file).caused_by(error);
            let suggestion = format!("make it a readable file: ls -la {file}");
            Seen { stamp: None, parsed: Err(error.suggest(suggestion)), text: None, executable: None }
        };
        let stamp = match fs::metadata(paths.manifest(name)) {
            Ok(metadata) => Stamp::of_metadata(&metadata),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                // A link that leads nowhere is trouble with the file, and no absence of it.
                return fs::symlink_metadata(paths.manifest(name)).is_ok().then(|| unreadable(&error));
            }
            Err(error) => return Some(unreadable(&error)),
        };
        if self.settled
            && let Some((before, _)) = &self.seen
            && before.stamp.as_ref() == Some(&stamp)
        {
            let executable = before.parsed.as_ref().ok().map(|manifest| executable::look(manifest));
            return Some(Seen { executable, ..before.clone() });
        }
        Some(match read(paths, name) {
            Ok((bytes, stamp)) => {
                let folder = paths.folder(name);
                let parsed = parse_manifest(paths.shown(name).as_ref(), &folder, &bytes).map(Arc::new);
                let executable = parsed.as_ref().ok().map(|manifest| executable::look(manifest));
                Seen { stamp: Some(stamp), parsed, text: Some(crate::model::id::short_hash(&bytes)), executable }
            }
            Err(error) => unreadable(&error),
        })
    }

    /// Whether what was seen says what is believed already, so that there is nothing to wait for.
    fn says_the_same(&self) -> bool {
        let Some((seen, _)) = &self.seen else { return false };
        let (Ok(parsed), Some(good), None) = (&seen.parsed, &self.good, &self.invalid) else { return false };
        let same_file = match (&seen.executable, &self.hashed) {
            (Some(Sighting::Own(_, stamp)), Some((known, _))) => stamp == known,
            (Some(Sighting::Elsewhere), _) => true,
            (Some(Sighting::Own(..) | Sighting::Unusable(_)) | None, _) => false,
        };
        same_file && with_digest(parsed, good.revision.digest.clone()) == **good
    }

    /// Takes what was seen for what is.
    fn believe(&mut self) -> Result<(), Unsteady> {
        let Some((seen, _)) = &self.seen else { return Ok(()) };
        let parsed = match &seen.parsed {
            Ok(parsed) => Arc::clone(parsed),
            Err(error) => {
                self.invalid = Some(error.clone());
                return Ok(());
            }
        };
        let digest = match &seen.executable {
            Some(Sighting::Own(path, stamp)) => {
                let known = self.hashed.as_ref().filter(|(known, _)| known == stamp).map(|(_, digest)| digest.clone());
                let digest = known.map_or_else(|| executable::hash(path, stamp), Ok)?;
                self.hashed = Some((*stamp, digest.clone()));
                digest
            }
            Some(Sighting::Unusable(error)) => {
                self.unusable = Some(error.clone());
                // What runs, runs on: a manifest that names no program is not better than the last one that did.
                if let Some(good) = self.good.as_ref().filter(|_| self.good_ran) {
                    let unchanged = with_digest(&parsed, good.revision.digest.clone()) == **good;
                    self.invalid = if unchanged { None } else { Some(error.clone()) };
                    return Ok(());
                }
                self.adopt(with_digest(&parsed, None), false);
                return Ok(());
            }
            Some(Sighting::Elsewhere) | None => None,
        };
        self.unusable = None;
        self.adopt(with_digest(&parsed, digest), true);
        Ok(())
    }

    fn adopt(&mut self, manifest: Manifest, runs: bool) {
        if self.good.as_deref() != Some(&manifest) {
            self.good = Some(Arc::new(manifest));
        }
        self.good_ran = runs;
        self.invalid = None;
    }

    /// What is known of it.
    pub(super) fn lookup(&self, paths: &Paths, name: &PatternName) -> Option<Lookup> {
        match (self.present, &self.good, &self.invalid) {
            (true, Some(good), None) => Some(Lookup::Found(Arc::clone(good))),
            (true, Some(good), Some(error)) => Some(Lookup::LastGood(Arc::clone(good), error.clone())),
            (true, None, Some(error)) => Some(Lookup::Invalid(error.clone())),
            (false, Some(_), _) => Some(Lookup::Gone(paths.gone(name))),
            (true, None, None) | (false, None, _) => None,
        }
    }

    /// The last good manifest, while the pattern is there.
    pub(super) fn manifest(&self) -> Option<&Arc<Manifest>> {
        self.good.as_ref().filter(|_| self.present)
    }

    /// What is wrong with it.
    pub(super) fn problems(&self) -> impl Iterator<Item = Error> {
        let unusable = self.unusable.clone().filter(|error| self.invalid.as_ref() != Some(error));
        let all = if self.present { [self.invalid.clone(), unusable] } else { [None, None] };
        all.into_iter().flatten()
    }
}

/// Whether two looks saw the same content. A manifest that was rewritten with the same text is the same.
fn same(a: &Seen, b: &Seen) -> bool {
    a.text == b.text && a.parsed == b.parsed && a.executable == b.executable
}

fn with_digest(manifest: &Manifest, digest: Option<String>) -> Manifest {
    let mut manifest = manifest.clone();
    manifest.revision.digest = digest;
    manifest
}

fn read(paths: &Paths, name: &str) -> io::Result<(Vec<u8>, Stamp)> {
    let file = open_regular(&paths.manifest(name))?;
    let stamp = Stamp::of_metadata(&file.metadata()?);
    let mut bytes = Vec::new();
    file.take(READ_LIMIT).read_to_end(&mut bytes)?;
    Ok((bytes, stamp))
}
