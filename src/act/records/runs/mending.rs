//! Writing again what somebody has removed, and finding what belongs to no run.

use super::{ABANDONED, FileName, Known, Owed, RunFiles, decode, remove_file};
use crate::act::records::unavailable;
use crate::act::state_folder::Presence;
use crate::desired::scan::Identity;
use crate::error::{Error, Result};
use crate::model::{RunId, RunRecord};
use std::collections::{BTreeSet, HashMap};
use std::fs::OpenOptions;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

/// A folder that was found whole this often, and in which nothing was made or removed since, is not listed again: with
/// ten thousand runs that takes some milliseconds.
const LOOKS: u8 = 2;

/// A record that no run accounts for.
#[derive(Debug)]
pub(crate) struct Stray {
    /// Its file.
    pub(crate) path: PathBuf,
    /// The boot that it is of, as its name says.
    pub(crate) boot: String,
    /// What it says, or why it cannot be read.
    pub(crate) record: std::result::Result<RunRecord, String>,
}

/// Which folder it is and when something was last made or removed in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    identity: Identity,
    changed: (i64, u64),
}

impl Stamp {
    fn of(folder: &Path) -> Option<Self> {
        let stat = rustix::fs::stat(folder).ok()?;
        Some(Self { identity: Identity::from(&stat), changed: (stat.st_mtime, stat.st_mtime_nsec) })
    }
}

impl RunFiles {
    /// Writes every record again that should be there and is not, and does what failed before.
    pub(in crate::act::records) fn mend(&self) -> Result<Presence> {
        let mut presence = Presence::Whole;
        if !self.folder.is_dir() {
            self.state.hold()?;
            super::super::make_folder(&self.folder)?;
            presence = Presence::Made;
        }
        let before = Stamp::of(&self.folder);
        let owes = self.known().values().any(|known| known.owed != Owed::Nothing);
        if !owes && self.is_quiet(before) {
            return Ok(Presence::Whole);
        }
        let present = self.list()?;
        let lacks = |known: &Known| known.owed != Owed::Nothing || !present.contains(&known.name.print());
        let lacking: Vec<RunId> = self.known().iter().filter(|(_, known)| lacks(known)).map(|(run, _)| *run).collect();
        let mut failure = None;
        for run in lacking {
            match self.mend_one(run) {
                Ok(Presence::Whole) => {}
                Ok(made) => presence = made,
                // The others may be smaller, or on a disk that has space again by then.
                Err(error) => failure = Some(error),
            }
        }
        if self.mend_kept(&present)? {
            presence = Presence::Made;
        }
        if let Some(failure) = failure {
            return Err(failure);
        }
        if presence == Presence::Whole {
            self.note_whole(before);
        }
        Ok(presence)
    }

    /// Whether the folder was found whole as it is now. A change in the same moment as a look may leave the same stamp, so
    /// that one look is not enough.
    fn is_quiet(&self, stamp: Option<Stamp>) -> bool {
        let quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        quiet.is_some_and(|(found, looks)| Some(found) == stamp && looks >= LOOKS)
    }

    fn note_whole(&self, stamp: Option<Stamp>) {
        let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        let looks = quiet.filter(|(found, _)| Some(*found) == stamp).map_or(0, |(_, looks)| looks);
        *quiet = stamp.map(|stamp| (stamp, looks.saturating_add(1)));
    }

    fn mend_one(&self, run: RunId) -> Result<Presence> {
        // Nobody saves or removes a record meanwhile: what is known now is so until this one is written.
        let _alone = self.order.write().unwrap_or_else(PoisonError::into_inner);
        let Some(Known { name, record, owed }) = self.known().get(&run).cloned() else { return Ok(Presence::Whole) };
        match owed {
            Owed::Removal => self.discard(run)?,
            Owed::Writing => self.replace(&record)?,
            Owed::Nothing if self.folder.join(name.print()).symlink_metadata().is_ok() => return Ok(Presence::Whole),
            Owed::Nothing => self.put(&name, &record)?,
        }
        Ok(Presence::Made)
    }

    /// Writes again what blocks a key or protects a cgroup. Whether anything lacked.
    fn mend_kept(&self, present: &BTreeSet<String>) -> Result<bool> {
        let _alone = self.order.write().unwrap_or_else(PoisonError::into_inner);
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut made = false;
        for (name, bytes) in kept.iter().filter(|(name, _)| !present.contains(*name)) {
            self.state.hold()?;
            super::super::make_folder(&self.folder)?;
            let path = self.folder.join(name);
            let fresh = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            match fresh.and_then(|mut file| file.write_all(bytes)) {
                Ok(()) => made = true,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unavailable("The record of a run cannot be written again", &path, &error)),
            }
        }
        Ok(made)
    }

    /// The records on disk that belong to no run, and are not of those that block a key. Earlier revisions of known runs,
    /// which a crash of nobody can have left, are removed.
    pub(in crate::act::records) fn strays(&self) -> Result<Vec<Stray>> {
        let present = self.list()?;
        // Whoever was writing a record when it was listed has it among the known ones now.
        let alone = self.order.write().unwrap_or_else(PoisonError::into_inner);
        let mut strays = Vec::new();
        {
            let known = self.known();
            let revisions: HashMap<&str, u32> =
                known.values().map(|known| (known.name.run.as_str(), known.name.revision)).collect();
            let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
            for printed in
                present.iter().filter(|printed| !printed.ends_with(ABANDONED) && !kept.contains_key(*printed))
            {
                let Some(name) = FileName::parse(printed) else { continue };
                match revisions.get(name.run.as_str()) {
                    Some(revision) if *revision > name.revision => drop(remove_file(&self.folder.join(printed))),
                    Some(_) => {}
                    None => strays.push(name),
                }
            }
        }
        drop(alone);
        let read = |name: FileName| {
            let path = self.folder.join(name.print());
            match std::fs::read(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                read => {
                    let record = read.map_err(|error| error.to_string()).and_then(|bytes| decode(&bytes, &name));
                    Some(Stray { path, boot: name.boot, record })
                }
            }
        };
        Ok(strays.into_iter().filter_map(read).collect())
    }

    fn list(&self) -> Result<BTreeSet<String>> {
        let listed = std::fs::read_dir(&self.folder).and_then(|entries| {
            entries
                .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
                .collect::<io::Result<BTreeSet<String>>>()
        });
        match listed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
            listed => listed.map_err(|error| -> Error {
                unavailable("The folder of run records cannot be read", &self.folder, &error)
            }),
        }
    }
}
