//! The way through the folders of a root.

use super::super::sight::{Sight, Stillness};
use super::file::{self, Look};
use super::{Folder, Identity, Known, Scanner};
use crate::desired::stamp::Stamp;
use crate::error::{Code, Error};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Entries of a root, whatever they are: twenty times the 10,000 instances that are ordinary. Reading more would take
/// the time of many resync intervals.
const ENTRY_LIMIT: usize = 200_000;
/// Folders inside folders: deeper than people nest, and below the 1,024 files that a process may have open by default,
/// since each level holds one open.
const DEPTH_LIMIT: usize = 64;

/// What the walk found.
pub(super) struct Walked {
    pub(super) seen: Vec<(PathBuf, Sight)>,
    pub(super) folders: Vec<Folder>,
    /// Why not everything could be seen.
    pub(super) failure: Option<Error>,
    /// What changed meanwhile.
    pub(super) changed: Option<PathBuf>,
    pub(super) identity: Option<Identity>,
    /// Everything in the root itself, read or not.
    pub(super) entries: usize,
}

pub(super) struct Walk<'a> {
    scanner: &'a mut Scanner,
    rereads: &'a BTreeSet<PathBuf>,
    arrived: &'a HashSet<PathBuf>,
    real: PathBuf,
    others: Vec<Identity>,
    /// The folders from the root to where the walk is.
    trail: Vec<Identity>,
    visited: Vec<Visited>,
    total: usize,
    walked: Walked,
}

/// A folder as it was when it was listed.
struct Visited {
    real: PathBuf,
    stamp: Stamp,
    names: u64,
}

struct Entry {
    name: OsString,
    kind: FileType,
}

/// Where in the root something is.
struct Place<'a> {
    folder: BorrowedFd<'a>,
    name: &'a OsStr,
    /// Relative to the root.
    path: PathBuf,
    /// The real path of the folder.
    real: &'a Path,
}

impl Place<'_> {
    fn real(&self) -> PathBuf {
        self.real.join(self.name)
    }
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        scanner: &'a mut Scanner,
        rereads: &'a BTreeSet<PathBuf>,
        arrived: &'a HashSet<PathBuf>,
        real: PathBuf,
    ) -> Self {
        let others = scanner.others.iter().filter_map(|path| Identity::of(path).ok()).collect();
        let walked =
            Walked { seen: Vec::new(), folders: Vec::new(), failure: None, changed: None, identity: None, entries: 0 };
        Self { scanner, rereads, arrived, real, others, trail: Vec::new(), visited: Vec::new(), total: 0, walked }
    }

    pub(super) fn root(&mut self, root: &OwnedFd) {
        let real = self.real.clone();
        if let Some(stat) = self.stat_folder(root, &real) {
            self.walked.identity = Some(Identity::from(&stat));
            self.folder(root, &stat, Path::new(""), &real);
        }
    }

    /// What was found, once it is certain that it was all there at one time.
    pub(super) fn finish(mut self) -> Walked {
        let moved = self.walked.identity != Identity::of(&self.scanner.spec.path).ok();
        if moved {
            self.walked.changed.get_or_insert(self.scanner.spec.path.clone());
        }
        let changed = self.visited.iter().find(|visited| !visited.is_as_it_was()).map(|visited| visited.real.clone());
        self.walked.changed = self.walked.changed.or(changed);
        self.walked
    }

    fn folder(&mut self, fd: &OwnedFd, stat: &Stat, path: &Path, real: &Path) {
        let identity = Identity::from(stat);
        let is_other_root = !self.trail.is_empty() && self.others.contains(&identity);
        if is_other_root || self.trail.contains(&identity) {
            return;
        }
        if self.trail.len() >= DEPTH_LIMIT {
            self.fail(&format!("{} lies more than {DEPTH_LIMIT} folders deep", real.display()), "move it further up");
            return;
        }
        let entries = match list(fd) {
            Ok(entries) => entries,
            Err(error) => return self.unreadable(real, &error),
        };
        if self.trail.is_empty() {
            self.walked.entries = entries.len();
        }
        self.total += entries.len();
        if self.total > ENTRY_LIMIT {
            let root = self.scanner.spec.path.display().to_string();
            self.fail(&format!("{root} holds more than {ENTRY_LIMIT} files"), &format!("move some out of {root}"));
            return;
        }
        self.walked.folders.push(Folder { real: real.to_path_buf(), identity });
        self.visited.push(Visited { real: real.to_path_buf(), stamp: Stamp::of(stat), names: names(&entries) });
        self.trail.push(identity);
        for entry in entries.iter().filter(|entry| is_relevant(entry)) {
            let place = Place { folder: fd.as_fd(), name: &entry.name, path: path.join(&entry.name), real };
            self.entry(&place, entry.kind);
        }
        self.trail.pop();
    }

    fn entry(&mut self, place: &Place<'_>, kind: FileType) {
        if place.name.to_str().is_none() {
            return self.trouble(place, file::unprintable(&self.scanner.spec.path.join(&place.path)));
        }
        match kind {
            FileType::Directory => self.enter(place, place.real()),
            FileType::Symlink | FileType::Unknown if self.leads_out(place) => {
                let error = file::leads_out(&self.scanner.spec.path.join(&place.path), &self.scanner.spec.path);
                self.trouble(place, error);
            }
            FileType::RegularFile | FileType::Symlink | FileType::Unknown => self.follow(place, kind),
            FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => {}
        }
    }

    /// In a root of less trust, a link must not show what lies elsewhere: an error would quote it.
    fn leads_out(&self, place: &Place<'_>) -> bool {
        self.scanner.spec.is_narrowed()
            && std::fs::canonicalize(place.real()).is_ok_and(|target| !target.starts_with(&self.real))
    }

    /// Looks at what an entry is, links followed.
    fn follow(&mut self, place: &Place<'_>, kind: FileType) {
        self.scanner.cost.stats += 1;
        let is_link = kind != FileType::RegularFile;
        match rustix::fs::statat(place.folder, place.name, AtFlags::empty()) {
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::RegularFile if is_instance_file(place.name) => self.file(place, &stat, is_link),
                FileType::Directory if is_link => match std::fs::canonicalize(place.real()) {
                    Ok(real) => self.enter(place, real),
                    Err(error) => self.broken(place, &error),
                },
                FileType::Directory => self.enter(place, place.real()),
                FileType::RegularFile
                | FileType::Symlink
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => {}
            },
            Err(Errno::NOENT) if !is_link => self.note_change(place.real()),
            Err(error) => self.broken(place, &error.into()),
        }
    }

    /// A link that cannot be followed fails its file, or the scan if it led to a folder that declared something.
    fn broken(&mut self, place: &Place<'_>, error: &std::io::Error) {
        let path = self.scanner.spec.path.join(&place.path);
        if self.scanner.knows_below(&place.path) {
            self.unreadable(&path, error);
        } else if is_instance_file(place.name) {
            self.trouble(place, file::unreadable(&path, error));
        }
    }

    fn enter(&mut self, place: &Place<'_>, real: PathBuf) {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match rustix::fs::openat(place.folder, place.name, flags, Mode::empty()) {
            Ok(fd) => {
                if let Some(stat) = self.stat_folder(&fd, &real) {
                    self.folder(&fd, &stat, &place.path, &real);
                }
            }
            Err(Errno::NOENT | Errno::NOTDIR) => self.note_change(real),
            Err(error) => self.unreadable(&real, &error.into()),
        }
    }

    fn stat_folder(&mut self, fd: &OwnedFd, real: &Path) -> Option<Stat> {
        rustix::fs::fstat(fd).map_err(|error| self.unreadable(real, &error.into())).ok()
    }

    fn file(&mut self, place: &Place<'_>, stat: &Stat, is_link: bool) {
        let path = self.scanner.spec.path.join(&place.path);
        if u64::try_from(stat.st_size).unwrap_or(0) > file::SIZE_LIMIT {
            return self.trouble(place, file::too_large(&path));
        }
        let round = self.scanner.round;
        let stamp = Stamp::of(stat);
        let known = self.scanner.known.get_mut(&place.path).filter(|known| known.stamp == Some(stamp));
        if let Some(known) = known.filter(|_| !self.rereads.contains(&place.path)) {
            known.round = round;
            return;
        }
        self.scanner.cost.reads += 1;
        // What a link leads to may be half-written, however the link itself came.
        let whole = !is_link && self.arrived.contains(&place.real());
        let arrived = if whole { Stillness::Still } else { Stillness::Unknown };
        match file::read(place.folder, place.name, &path, arrived) {
            Look::Seen(sight, stamp) => {
                self.scanner.known.insert(place.path.clone(), Known { stamp, round });
                self.walked.seen.push((place.path.clone(), sight));
            }
            Look::NoFile => self.note_change(place.real()),
        }
    }

    fn trouble(&mut self, place: &Place<'_>, error: Error) {
        let known = Known { stamp: None, round: self.scanner.round };
        self.scanner.known.insert(place.path.clone(), known);
        self.walked.seen.push((place.path.clone(), Sight::Trouble(error)));
    }

    fn note_change(&mut self, what: PathBuf) {
        self.walked.changed.get_or_insert(what);
    }

    fn unreadable(&mut self, folder: &Path, cause: &std::io::Error) {
        let suggestion = match cause.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE) => file::MORE_FILES.to_owned(),
            _ => format!("let the launcher's user read it, or remove it: ls -ld {}", folder.display()),
        };
        let error = Error::new(Code::StoreUnavailable, format!("The folder {} cannot be read", folder.display()))
            .with("folder", folder.display())
            .with("root", self.scanner.spec.path.display())
            .because(cause.to_string())
            .suggest(suggestion);
        self.walked.failure.get_or_insert(error);
    }

    fn fail(&mut self, message: &str, suggestion: &str) {
        let error = Error::new(Code::StoreUnavailable, message)
            .with("root", self.scanner.spec.path.display())
            .suggest(suggestion);
        self.walked.failure.get_or_insert(error);
    }
}

impl Visited {
    /// Whether the folder lists what it listed. Files with names that are not read may come and go.
    fn is_as_it_was(&self) -> bool {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::stat(&self.real).is_ok_and(|stat| Stamp::of(&stat) == self.stamp)
            || rustix::fs::open(&self.real, flags, Mode::empty())
                .is_ok_and(|fd| list(&fd).is_ok_and(|entries| names(&entries) == self.names))
    }
}

/// Everything in a folder, sorted by name.
fn list(folder: &OwnedFd) -> Result<Vec<Entry>, std::io::Error> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            entries.push(Entry { name: OsString::from_vec(name.to_vec()), kind: entry.file_type() });
        }
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(entries)
}

fn names(entries: &[Entry]) -> u64 {
    let mut hash = DefaultHasher::new();
    for entry in entries.iter().filter(|entry| is_relevant(entry)) {
        entry.name.hash(&mut hash);
        (entry.kind == FileType::Directory).hash(&mut hash);
    }
    hash.finish()
}

/// Whether an entry may be a file that is read, or a folder.
fn is_relevant(entry: &Entry) -> bool {
    let kind = match entry.kind {
        FileType::RegularFile => is_instance_file(&entry.name),
        FileType::Directory | FileType::Symlink | FileType::Unknown => true,
        FileType::Fifo | FileType::Socket | FileType::CharacterDevice | FileType::BlockDevice => false,
    };
    kind && !is_hidden(&entry.name)
}

/// Whether files and folders of that name are not read.
pub(in crate::desired) fn is_hidden(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b".") || name.as_bytes().ends_with(b"~")
}

/// Whether files of that name declare instances.
pub(in crate::desired) fn is_instance_file(name: &OsStr) -> bool {
    let extension = Path::new(name).extension();
    extension.is_some_and(|extension| extension == "yaml" || extension == "yml")
}

#[cfg(test)]
mod tests {
    use super::super::super::root::RootSpec;
    use super::*;
    use std::fs;

    /// Walks a root, lets `meanwhile` happen before the walk is over, and says what it noticed of it.
    fn changed(meanwhile: impl FnOnce(&Path)) -> Option<PathBuf> {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().join("root");
        fs::create_dir_all(root.join("sub")).expect("a root");
        fs::write(root.join("sub/a.yaml"), "").expect("written");
        let spec = RootSpec::open(root.clone());
        let mut scanner = Scanner::new(spec, Vec::new(), BTreeSet::new(), None);
        let (real, opened) = scanner.open().expect("opened");
        let (rereads, arrived) = (BTreeSet::new(), HashSet::new());
        let mut walk = Walk::new(&mut scanner, &rereads, &arrived, real);
        walk.root(&opened);
        meanwhile(&root);
        walk.finish().changed
    }

    #[test]
    fn a_root_that_changes_while_it_is_read_is_noticed() {
        assert!(changed(|_| ()).is_none());
        assert!(changed(|root| fs::write(root.join("sub/b.yaml"), "").expect("written")).is_some());
        assert!(changed(|root| fs::rename(root.join("sub/a.yaml"), root.join("a.yaml")).expect("renamed")).is_some());
        let replaced = changed(|root| {
            fs::rename(root, root.with_extension("away")).expect("renamed");
            fs::create_dir(root).expect("a root");
        });
        assert!(replaced.is_some());
    }

    #[test]
    fn files_that_are_not_read_may_come_and_go_meanwhile() {
        assert!(changed(|root| fs::write(root.join("sub/.a.yaml.swp"), "").expect("written")).is_none());
        assert!(changed(|root| fs::write(root.join("sub/a.yaml"), "x").expect("written")).is_none());
    }
}
