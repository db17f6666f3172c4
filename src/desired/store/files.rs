//! Writes and removes files so that what was answered survives a power cut: several at once, with as few waits for the
//! disk as possible.
//!
//! A file is written under a name that is not read, synced, given its name, and then its folder is synced. Nothing is
//! ever half there under a name that is read. What a launcher that died has left is known by its name, and removed.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// What the names of unfinished files begin with: hidden, so that they are not read.
const DRAFT: &str = ".launch-";
/// What they end with.
const DRAFT_END: &str = ".draft";
/// What is added to the name of a file that lost its keys to a person's: not a name that is read.
const SET_ASIDE: &str = ".set-aside";
/// Files of one name that are kept aside; the next one takes the place of the last.
const KEPT_ASIDE: u32 = 1_000;

/// Threads that wait for the disk at the same time: each takes a few of a full batch, which the disk's queue holds.
const SYNCERS: usize = 16;

/// Whether a file of that name is, or was, on its way to another name.
pub(in crate::desired) fn is_draft(name: &OsStr) -> bool {
    name.as_bytes().starts_with(DRAFT.as_bytes()) && name.as_bytes().ends_with(DRAFT_END.as_bytes())
}

/// One thing to be done to a file, given by its path relative to the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Deed {
    /// Write it; there must be none.
    Create { file: PathBuf, bytes: Vec<u8> },
    /// Write it in the place of the one that is there.
    Replace { file: PathBuf, bytes: Vec<u8> },
    /// Remove it; it may be gone already.
    Remove { file: PathBuf },
    /// Give it a name that is not read.
    SetAside { file: PathBuf },
}

impl Deed {
    pub(super) fn file(&self) -> &Path {
        match self {
            Self::Create { file, .. }
            | Self::Replace { file, .. }
            | Self::Remove { file }
            | Self::SetAside { file } => file,
        }
    }

    fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Create { bytes, .. } | Self::Replace { bytes, .. } => Some(bytes),
            Self::Remove { .. } | Self::SetAside { .. } => None,
        }
    }
}

/// Why a deed could not be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Failure {
    /// At what.
    pub(super) doing: &'static str,
    /// What the kernel said.
    pub(super) errno: Errno,
}

impl Failure {
    const fn at(doing: &'static str) -> impl Fn(Errno) -> Self {
        move |errno| Self { doing, errno }
    }
}

/// Where a writer that dies stops, for tests of what it leaves.
#[cfg(test)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Drafts are written and synced.
    Synced,
    /// They have their names.
    Named,
}

/// Writes files.
#[derive(Debug, Default)]
pub(super) struct Writer {
    drafts: u64,
    /// How often it has waited for the disk.
    pub(super) syncs: usize,
    /// It dies after this.
    #[cfg(test)]
    pub(super) dies_after: Option<Step>,
}

/// A file that is written and has not got its name yet.
struct Draft {
    folder: Option<OwnedFd>,
    name: String,
    file: OwnedFd,
    synced: bool,
}

impl Writer {
    /// Does all of it below `folder`, and tells of each whether it was done; what failed has left nothing behind.
    pub(super) fn carry_out(&mut self, folder: &Path, deeds: &[Deed]) -> Vec<Result<(), Failure>> {
        let root = match open_folder(folder) {
            Ok(root) => root,
            Err(errno) => return vec![Err(Failure { doing: "opening the folder", errno }); deeds.len()],
        };
        let before = self.syncs;
        let mut drafts: Vec<Option<Result<Draft, Failure>>> =
            deeds.iter().map(|deed| Some(self.draft(root.as_fd(), deed.file(), deed.bytes()?))).collect();
        for draft in drafts.iter().flatten().flatten() {
            start_writing_back(draft.file.as_fd());
        }
        self.sync_drafts(root.as_fd(), &mut drafts);
        #[cfg(test)]
        if self.dies_after == Some(Step::Synced) {
            return vec![Err(Failure { doing: "living", errno: Errno::INTR }); deeds.len()];
        }
        let mut results: Vec<Result<(), Failure>> = Vec::with_capacity(deeds.len());
        for (deed, draft) in deeds.iter().zip(drafts) {
            results.push(draft.transpose().and_then(|draft| commit(root.as_fd(), deed, draft)));
        }
        #[cfg(test)]
        if self.dies_after == Some(Step::Named) {
            return vec![Err(Failure { doing: "living", errno: Errno::INTR }); deeds.len()];
        }
        self.sync_folders(root.as_fd(), deeds, &mut results);
        tracing::debug!(files = deeds.len(), syncs = self.syncs - before, "launched files were written");
        results
    }

    fn draft(&mut self, root: BorrowedFd<'_>, file: &Path, bytes: &[u8]) -> Result<Draft, Failure> {
        let folder = match parent(file) {
            Some(parent) => Some(open_at(root, parent).map_err(Failure::at("opening its folder"))?),
            None => None,
        };
        let (name, file) = self.open_draft(folder.as_ref().map_or(root, AsFd::as_fd))?;
        let draft = Draft { folder, name, file, synced: false };
        match write_all(draft.file.as_fd(), bytes) {
            Ok(()) => Ok(draft),
            Err(errno) => {
                draft.discard(root);
                Err(Failure { doing: "writing it", errno })
            }
        }
    }

    /// Opens a file under a name that nothing has. One that a dead launcher has left is passed by.
    fn open_draft(&mut self, place: BorrowedFd<'_>) -> Result<(String, OwnedFd), Failure> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            self.drafts += 1;
            let name = format!("{DRAFT}{}{DRAFT_END}", self.drafts);
            match rustix::fs::openat(place, name.as_str(), flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => return Ok((name, file)),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(Failure { doing: "making it", errno }),
            }
        }
    }

    /// Waits until all drafts are on disk. Those who wait for the disk at the same time share its work, so that a hundred
    /// files take about as long as a few.
    fn sync_drafts(&mut self, root: BorrowedFd<'_>, drafts: &mut [Option<Result<Draft, Failure>>]) {
        let mut written: Vec<&mut Result<Draft, Failure>> =
            drafts.iter_mut().flatten().filter(|draft| draft.is_ok()).collect();
        self.syncs += written.len();
        let share = written.len().div_ceil(SYNCERS).max(1);
        std::thread::scope(|scope| {
            let mut parts = written.chunks_mut(share);
            // This thread takes a share as well; it is all there is for a single file.
            let own = parts.next();
            for part in parts {
                // Where there are no more threads, what is left is done below.
                drop(std::thread::Builder::new().spawn_scoped(scope, || sync_all(root, part)));
            }
            sync_all(root, own.unwrap_or_default());
        });
        sync_all(root, &mut written);
    }

    /// Waits until the names are on disk. Where that fails, what was made is taken back.
    fn sync_folders(&mut self, root: BorrowedFd<'_>, deeds: &[Deed], results: &mut [Result<(), Failure>]) {
        let mut folders: BTreeMap<Option<&Path>, Vec<usize>> = BTreeMap::new();
        for (index, deed) in deeds.iter().enumerate().filter(|(index, _)| results[*index].is_ok()) {
            folders.entry(parent(deed.file())).or_default().push(index);
        }
        for (folder, indices) in folders {
            let synced = match folder {
                Some(folder) => open_at(root, folder).and_then(|folder| self.sync(folder.as_fd())),
                None => self.sync(root),
            };
            let Err(errno) = synced else { continue };
            for index in indices {
                if let Deed::Create { file, .. } = &deeds[index] {
                    // It is as if it had never been there, unless even that fails: then the next scan finds it.
                    rustix::fs::unlinkat(root, file, AtFlags::empty()).unwrap_or_default();
                }
                results[index] = Err(Failure { doing: "syncing its folder", errno });
            }
        }
    }

    fn sync(&mut self, file: BorrowedFd<'_>) -> Result<(), Errno> {
        self.syncs += 1;
        rustix::fs::fsync(file)
    }
}

impl Draft {
    fn discard(&self, root: BorrowedFd<'_>) {
        let place = self.folder.as_ref().map_or(root, AsFd::as_fd);
        // What cannot be removed is removed when the next launcher starts.
        rustix::fs::unlinkat(place, self.name.as_str(), AtFlags::empty()).unwrap_or_default();
    }
}

fn sync_all(root: BorrowedFd<'_>, drafts: &mut [&mut Result<Draft, Failure>]) {
    for draft in drafts {
        let Ok(written) = draft else { continue };
        if written.synced {
            continue;
        }
        match rustix::fs::fsync(&written.file) {
            Ok(()) => written.synced = true,
            Err(errno) => {
                written.discard(root);
                **draft = Err(Failure { doing: "syncing it", errno });
            }
        }
    }
}

/// Gives a file its name, or takes it away.
fn commit(root: BorrowedFd<'_>, deed: &Deed, draft: Option<Draft>) -> Result<(), Failure> {
    match (deed, draft) {
        (Deed::Create { file, .. }, Some(draft)) => {
            name_draft(root, &draft, file, create).map_err(Failure::at("giving it its name"))
        }
        (Deed::Replace { file, .. }, Some(draft)) => {
            name_draft(root, &draft, file, |place, from, to| rustix::fs::renameat(place, from, place, to))
                .map_err(Failure::at("giving it its name"))
        }
        (Deed::SetAside { file }, _) => set_aside(root, file).map_err(Failure::at("setting it aside")),
        (Deed::Remove { file }, _) => match rustix::fs::unlinkat(root, file, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(Failure { doing: "removing it", errno }),
        },
        // Nothing was written, so nothing can be named.
        (Deed::Create { .. } | Deed::Replace { .. }, None) => Err(Failure { doing: "writing it", errno: Errno::INVAL }),
    }
}

fn name_draft(
    root: BorrowedFd<'_>,
    draft: &Draft,
    file: &Path,
    how: impl FnOnce(BorrowedFd<'_>, &str, &OsStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let place = draft.folder.as_ref().map_or(root, AsFd::as_fd);
    let named = how(place, &draft.name, file.file_name().unwrap_or(file.as_os_str()));
    if named.is_err() {
        draft.discard(root);
    }
    named
}

/// Gives a draft a name that nothing has yet.
fn create(place: BorrowedFd<'_>, from: &str, to: &OsStr) -> Result<(), Errno> {
    match rustix::fs::renameat_with(place, from, place, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {}
        done => return done,
    }
    // The file system cannot do that in one step; a link does not replace anything either.
    match rustix::fs::linkat(place, from, place, to, AtFlags::empty()) {
        Ok(()) => rustix::fs::unlinkat(place, from, AtFlags::empty()),
        Err(Errno::EXIST) => Err(Errno::EXIST),
        // It knows no links either. Only this launcher writes here, as long as it holds the lock of the folder.
        Err(_) => match rustix::fs::statat(place, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => rustix::fs::renameat(place, from, place, to),
            Err(errno) => Err(errno),
        },
    }
}

fn set_aside(root: BorrowedFd<'_>, file: &Path) -> Result<(), Errno> {
    let mut number = 1;
    loop {
        let mut aside = file.as_os_str().to_owned();
        aside.push(SET_ASIDE);
        if number > 1 {
            aside.push(format!(".{number}"));
        }
        let free = matches!(rustix::fs::statat(root, aside.as_os_str(), AtFlags::SYMLINK_NOFOLLOW), Err(Errno::NOENT));
        if free || number == KEPT_ASIDE {
            return rustix::fs::renameat(root, file, root, aside.as_os_str());
        }
        number += 1;
    }
}

/// Removes the unfinished files that a launcher which died has left in a folder. Returns how many.
pub(super) fn remove_drafts(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let drafts = entries.filter(|entry| is_draft(&entry.file_name()));
    drafts.filter(|entry| std::fs::remove_file(entry.path()).is_ok()).count()
}

fn parent(file: &Path) -> Option<&Path> {
    file.parent().filter(|parent| !parent.as_os_str().is_empty())
}

fn open_folder(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn open_at(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(root, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(file, bytes) {
            Ok(0) => return Err(Errno::NOSPC),
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Asks for a file to be written to the disk without waiting for it, so that the disk works on all files at once and the
/// syncs that follow find little left to do. Without it a sync does all of it, so that a failure does not matter.
#[expect(unsafe_code, reason = "rustix does not have this call")]
fn start_writing_back(file: BorrowedFd<'_>) {
    use std::os::fd::AsRawFd as _;
    // SAFETY: the call takes a file descriptor, which is open for as long as it is borrowed, and numbers.
    unsafe { libc::sync_file_range(file.as_raw_fd(), 0, 0, libc::SYNC_FILE_RANGE_WRITE) };
}
