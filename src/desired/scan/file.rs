//! One look at one file.

use super::super::lease::{Lease, read_lease};
use super::super::sight::{Sight, Stillness};
use crate::desired::stamp::Stamp;
use crate::error::{Code, Error};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, Mode, OFlags};
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The largest file that is read, in bytes: parsing is quadratic in the worst case, and people write a few hundred.
pub(super) const SIZE_LIMIT: u64 = 256 * 1_024;

/// What a look found.
pub(super) enum Look {
    /// It was read, or cannot be; the stamp is that of what was read.
    Seen(Sight, Option<Stamp>),
    /// It is no file any more.
    NoFile,
}

/// Reads the file `name` of an open folder. `path` is named in errors; `arrived` is whether it came by rename.
pub(super) fn read(folder: BorrowedFd<'_>, name: &OsStr, path: &Path, arrived: Stillness) -> Look {
    // A FIFO that took the file's place must not be waited for, nor a terminal become ours.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(folder, name, flags, Mode::empty()) {
        Ok(opened) => File::from(opened),
        Err(rustix::io::Errno::NXIO | rustix::io::Errno::NODEV) => return Look::NoFile,
        Err(error) => return Look::Seen(Sight::Trouble(unreadable(path, &error.into())), None),
    };
    let stat = match rustix::fs::fstat(&file) {
        Ok(stat) => stat,
        Err(error) => return Look::Seen(Sight::Trouble(unreadable(path, &error.into())), None),
    };
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Look::NoFile;
    }
    let lease = read_lease(file.as_fd());
    let stillness = match &lease {
        Lease::Granted { .. } => Stillness::Still,
        Lease::Refused => Stillness::Unknown,
        Lease::Unsupported => arrived,
    };
    let mut bytes = Vec::with_capacity(usize::try_from(stat.st_size).unwrap_or(0).min(4_096));
    let read = (&file).take(SIZE_LIMIT + 1).read_to_end(&mut bytes);
    drop(lease);
    match read {
        Err(error) => Look::Seen(Sight::Trouble(unreadable(path, &error)), None),
        Ok(length) if length as u64 > SIZE_LIMIT => Look::Seen(Sight::Trouble(too_large(path)), None),
        Ok(_) => Look::Seen(Sight::content(bytes, stillness), Some(Stamp::of(&stat))),
    }
}

/// What to do where this launcher has no descriptors left.
pub(super) const MORE_FILES: &str = "raise the launcher's limit of open files: prlimit --nofile";

/// A file that cannot be read.
pub(super) fn unreadable(path: &Path, cause: &std::io::Error) -> Error {
    let suggestion = match cause.raw_os_error() {
        Some(libc::ENOENT) => format!("the link leads nowhere: ls -l {}", path.display()),
        Some(libc::EMFILE | libc::ENFILE) => MORE_FILES.to_owned(),
        _ => format!("let the launcher's user read it: ls -l {}", path.display()),
    };
    Error::new(Code::StoreUnavailable, format!("{} cannot be read", path.display()))
        .with("file", path.display())
        .because(cause.to_string())
        .suggest(suggestion)
}

/// A file that is not read because of its size.
pub(super) fn too_large(path: &Path) -> Error {
    Error::new(Code::InvalidInstance, format!("{} is larger than {} KiB", path.display(), SIZE_LIMIT / 1_024))
        .with("file", path.display())
        .suggest("split it into several files: any number of documents may be declared by any number of files")
}

/// A link that a narrowed root may not have.
pub(super) fn leads_out(path: &Path, root: &Path) -> Error {
    Error::new(Code::PermissionDenied, format!("{} is a link that leads out of its narrowed root", path.display()))
        .with("file", path.display())
        .with("root", root.display())
        .suggest(format!("put the file itself below {}", root.display()))
}

/// A name that could not be written down.
pub(super) fn unprintable(path: &Path) -> Error {
    Error::new(Code::InvalidInstance, format!("The name of {} is not UTF-8", path.display()))
        .with("file", path.display())
        .suggest("rename it")
}
