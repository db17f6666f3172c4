//! Reads one desired root: one look at everything in it, at one time.
//!
//! A file that was read before and has not changed costs one stat. Nothing is concluded here from what is missing: a
//! scan says whether it was complete, and [`super::set::Desired`] decides.

mod file;
mod git;
mod walk;

use super::root::RootSpec;
use super::sight::{Emptiness, Outcome, Scan, Sight, Stillness};
use super::stamp::Stamp;
use crate::error::{Code, Error};
pub(crate) use git::{Checkout, checkout};
use rustix::fd::AsFd as _;
use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use walk::Walk;
pub(super) use walk::{is_hidden, is_instance_file};

/// What makes a folder this one and no other: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Of the folder or file behind a path, links followed.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        Ok(Self::from(&rustix::fs::stat(path)?))
    }
}

impl From<&rustix::fs::Stat> for Identity {
    fn from(stat: &rustix::fs::Stat) -> Self {
        Self { device: stat.st_dev, inode: stat.st_ino }
    }
}

/// A folder that a scan went through, by its real path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Folder {
    /// No part of it is a link.
    pub real: PathBuf,
    /// Which folder it was.
    pub identity: Identity,
}

/// One look at a file of a folder, beside any scan; `None` when there is none.
pub(super) fn look_at(folder: &Path, file: &Path) -> Option<Sight> {
    let path = folder.join(file);
    let (parent, name) = (path.parent()?, path.file_name()?);
    if path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return None;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match rustix::fs::open(parent, flags, Mode::empty()) {
        Ok(parent) => match file::read(parent.as_fd(), name, &path, Stillness::Unknown) {
            file::Look::Seen(sight, _) => Some(sight),
            file::Look::NoFile => None,
        },
        Err(error) => Some(Sight::Trouble(file::unreadable(&path, &error.into()))),
    }
}

/// What scanning has cost, for tests and figures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Files whose metadata was asked for.
    pub stats: u64,
    /// Files that were read.
    pub reads: u64,
}

/// Reads one root again and again.
#[derive(Debug)]
pub struct Scanner {
    spec: RootSpec,
    /// Other roots: where one lies inside this one, it is not read as a part of it.
    others: Vec<PathBuf>,
    /// Every file that is there, with its stamp when it was read; `None` when it could not be.
    known: HashMap<PathBuf, Known>,
    /// Files that may have been there before this scanner was made.
    remembered: BTreeSet<PathBuf>,
    folders: Vec<Folder>,
    inhabited: Option<Identity>,
    round: u64,
    cost: Cost,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    stamp: Option<Stamp>,
    /// The scan that saw it last.
    round: u64,
}

impl Scanner {
    /// A scanner of `spec` that knows nothing yet. `remembered` are the files that declared something when last heard
    /// of; `inhabited` is which folder the root was when it last had a file in it, where that is known.
    pub fn new(
        spec: RootSpec,
        others: Vec<PathBuf>,
        remembered: BTreeSet<PathBuf>,
        inhabited: Option<Identity>,
    ) -> Self {
        let known = HashMap::new();
        Self { spec, others, known, remembered, folders: Vec::new(), inhabited, round: 0, cost: Cost::default() }
    }

    /// Looks at everything once. Files of `rereads` are read although they seem unchanged; files of `arrived`, by their
    /// real paths, came by rename and so are whole. Blocks on the file system.
    pub fn scan(&mut self, rereads: &BTreeSet<PathBuf>, arrived: &HashSet<PathBuf>) -> Scan {
        self.round += 1;
        let mut scan = Scan { outcome: Outcome::Complete, emptiness: Emptiness::Ordinary, seen: Vec::new() };
        let (real, root) = match self.open() {
            Ok(opened) => opened,
            Err(error) => {
                scan.outcome = Outcome::Failed(error);
                return scan;
            }
        };
        let repository = git::repository(&real);
        if let Some(error) = repository.as_deref().and_then(git::busy) {
            scan.outcome = Outcome::Busy(error);
            return scan;
        }
        let mut walk = Walk::new(self, rereads, arrived, real);
        walk.root(&root);
        let walked = walk.finish();
        scan.seen = walked.seen;
        self.folders = walked.folders;
        let busy = walked.changed.map(|what| self.changed(&what));
        let busy = busy.or_else(|| repository.as_deref().and_then(git::busy));
        scan.outcome = match (walked.failure, busy) {
            (Some(error), _) => Outcome::Failed(error),
            (None, Some(error)) => Outcome::Busy(error),
            (None, None) => Outcome::Complete,
        };
        if scan.outcome == Outcome::Complete {
            let round = self.round;
            self.known.retain(|_, known| known.round == round);
            self.remembered.clear();
            scan.emptiness = self.judge_emptiness(walked.identity, walked.entries);
        }
        scan
    }

    fn open(&self) -> Result<(PathBuf, rustix::fd::OwnedFd), Error> {
        let path = &self.spec.path;
        let unreadable = |cause: std::io::Error| {
            let suggestion = if cause.kind() == std::io::ErrorKind::NotFound {
                format!("mkdir -p {}", path.display())
            } else {
                format!("make it a folder that the launcher's user may read: ls -ld {}", path.display())
            };
            Error::new(Code::StoreUnavailable, format!("The desired root {} cannot be read", path.display()))
                .with("root", path.display())
                .because(cause.to_string())
                .suggest(suggestion)
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|e| unreadable(e.into()))?;
        let real = std::fs::canonicalize(path).map_err(unreadable)?;
        Ok((real, root))
    }

    fn changed(&self, what: &Path) -> Error {
        Error::new(Code::StoreUnavailable, format!("{} changes while it is read", what.display()))
            .with("root", self.spec.path.display())
            .suggest("wait: it is read again at once, and nothing ends meanwhile")
    }

    /// Whether an empty root is to be believed: an unmounted file system, or a root that was replaced by a bare folder,
    /// looks empty and is not.
    fn judge_emptiness(&mut self, identity: Option<Identity>, entries: usize) -> Emptiness {
        if !self.known.is_empty() {
            self.inhabited = identity;
            return Emptiness::Ordinary;
        }
        match (self.inhabited, identity) {
            (Some(before), Some(now)) if before.device != now.device => Emptiness::Suspicious,
            (Some(before), Some(now)) if before != now && entries == 0 => Emptiness::Suspicious,
            _ => Emptiness::Ordinary,
        }
    }

    /// Whether the last scans saw a file, given by its path relative to the root.
    pub fn knows(&self, file: &Path) -> bool {
        self.known.contains_key(file)
    }

    /// The folders that the last scan went through.
    pub fn folders(&self) -> &[Folder] {
        &self.folders
    }

    /// Which folder the root was when it last had a file in it.
    pub const fn inhabited(&self) -> Option<Identity> {
        self.inhabited
    }

    /// The launcher has written a file into the folder that the root is now.
    pub const fn inhabit(&mut self, identity: Identity) {
        self.inhabited = Some(identity);
    }

    /// What it is a scanner of.
    pub const fn spec(&self) -> &RootSpec {
        &self.spec
    }

    /// What all scans have cost together.
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// Whether something is known, or remembered, below a folder.
    fn knows_below(&self, folder: &Path) -> bool {
        self.known.keys().chain(&self.remembered).any(|file| file != folder && file.starts_with(folder))
    }
}
