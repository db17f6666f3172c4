//! What tells by one stat that a file is not what it was.

use rustix::fs::Stat;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;

/// Equal stamps mean equal content. The time of the last change of the inode is among it, which nobody can set: a
/// modification time that does not move, or moves back, hides nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: u64::try_from(stat.st_size).unwrap_or(0),
            modified: (stat.st_mtime, signed(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, signed(stat.st_ctime_nsec)),
        }
    }

    pub(super) fn of_metadata(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Nanoseconds are unsigned on some architectures.
fn signed(nanos: impl TryInto<i64>) -> i64 {
    nanos.try_into().unwrap_or(0)
}
