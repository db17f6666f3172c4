//! The files of logs: their names, and what is done to their bytes.
//!
//! A log is a live file, which its processes write, archives named after the address of their first byte, and an index.

use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The most that is read into memory at once.
pub(super) const BLOCK: usize = 64 * 1024;
/// A live file whose length is above this, holes included, is shortened: ext4 ends at 16 TiB.
const LONGEST: u64 = 1 << 40;
/// What is taken out of a file is a multiple of this: more than any block.
const UNIT: u64 = 1 << 20;

/// What a file of the log folder is to its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The file that processes write.
    Live,
    /// What is known of the log.
    Index,
    /// What was printed from this address on.
    Archive(u64),
    /// Something that was not written to its end.
    Unfinished,
}

/// Where the files of one log are.
#[derive(Debug, Clone)]
pub(super) struct Place {
    folder: PathBuf,
    name: String,
}

impl Place {
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        Self { folder: folder.to_owned(), name: name.to_owned() }
    }

    pub(super) fn live(&self) -> PathBuf {
        self.folder.join(format!("{}.log", self.name))
    }

    pub(super) fn index(&self) -> PathBuf {
        self.folder.join(format!("{}.log.index", self.name))
    }

    pub(super) fn archive(&self, start: u64) -> PathBuf {
        self.folder.join(format!("{}.log.{start:020}", self.name))
    }

    pub(super) fn unfinished(&self) -> PathBuf {
        self.folder.join(format!("{}.log.tmp", self.name))
    }
}

/// Which log a file belongs to, by its name; `None` when to none.
pub(super) fn part_of(file_name: &str) -> Option<(&str, Part)> {
    if let Some(name) = file_name.strip_suffix(".log") {
        return Some((name, Part::Live));
    }
    let (name, rest) = file_name.rsplit_once(".log.")?;
    let part = match rest {
        "index" => Part::Index,
        "tmp" => Part::Unfinished,
        digits if digits.len() == 20 => Part::Archive(digits.parse().ok()?),
        _ => return None,
    };
    Some((name, part))
}

/// Creates a private file, in place of one of that name.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).mode(0o600).open(path)
}

/// Opens a file that processes write.
pub(super) fn open_live(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_NOCTTY).open(path)
}

/// Opens it where it has no name: by a link of `/proc`.
pub(super) fn open_output(link: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOCTTY).open(link)
}

/// Copies `from..to` of a file to the beginning of another, within the kernel where that is possible.
pub(super) fn copy(source: &File, from: u64, to: u64, target: &File) -> io::Result<()> {
    let (mut at, mut out) = (from, 0);
    let mut block = Vec::new();
    while at < to {
        let left = usize::try_from(to - at).unwrap_or(usize::MAX);
        let done = match rustix::fs::copy_file_range(source, Some(&mut { at }), target, Some(&mut { out }), left) {
            Ok(done) => done,
            Err(Errno::INTR) => continue,
            Err(Errno::NOSYS | Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::PERM) => {
                block.resize(BLOCK.min(left), 0);
                let read = source.read_at(&mut block, at)?;
                target.write_all_at(&block[..read], out)?;
                read
            }
            Err(errno) => return Err(errno.into()),
        };
        if done == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the log became shorter while it was copied"));
        }
        at += done as u64;
        out += done as u64;
    }
    Ok(())
}

/// Gives the room of `from..to` back, where all that is before has been given back already. The file stays as long as it
/// is, so whoever appends to it notices nothing.
pub(super) fn punch(file: &File, from: u64, to: u64) -> io::Result<()> {
    // Only whole blocks are given back, and of the one that `from` is in a part was left the last time.
    let from = from / UNIT * UNIT;
    if from < to {
        rustix::fs::fallocate(file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, from, to - from)?;
    }
    Ok(())
}

/// Whether the file system of a folder can do that.
pub(super) fn can_punch(folder: &Path) -> io::Result<bool> {
    let probe = tempfile::tempfile_in(folder)?;
    probe.write_all_at(&[1; 8192], 0)?;
    match punch(&probe, 0, 4096) {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Takes out what is before `until` of a very long file, which has become a hole, and gives back how much. What stands
/// behind it moves forward, whoever appends meanwhile. File systems that cannot do this have no such limit.
pub(super) fn shorten(file: &File, length: u64, until: u64) -> io::Result<u64> {
    let out = until / UNIT * UNIT;
    // It must not reach the end of the file.
    if length < LONGEST || out == 0 || out >= length {
        return Ok(0);
    }
    match rustix::fs::fallocate(file, FallocateFlags::COLLAPSE_RANGE, 0, out) {
        Ok(()) => Ok(out),
        Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

/// Where the last line ends that ends before `to`, if one ends within a block of it and after `from`; else `to`.
pub(super) fn line_end(file: &File, from: u64, to: u64) -> io::Result<u64> {
    let begin = to.saturating_sub(BLOCK as u64).max(from);
    let mut block = vec![0; usize::try_from(to - begin).unwrap_or(BLOCK)];
    file.read_exact_at(&mut block, begin)?;
    Ok(block.iter().rposition(|byte| *byte == b'\n').map_or(to, |newline| begin + newline as u64 + 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn names_say_what_a_file_is() {
        let place = Place::new(Path::new("/logs"), "ns-a-p.log-0123");
        let part = |path: PathBuf| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            part_of(&name).map(|(log, part)| (log.to_owned(), part))
        };
        let named = |part| Some(("ns-a-p.log-0123".to_owned(), part));
        assert_eq!(part(place.live()), named(Part::Live));
        assert_eq!(part(place.index()), named(Part::Index));
        assert_eq!(part(place.archive(16_777_216)), named(Part::Archive(16_777_216)));
        assert_eq!(part(place.archive(u64::MAX)), named(Part::Archive(u64::MAX)));
        assert_eq!(part(place.unfinished()), named(Part::Unfinished));
        assert_eq!(part_of("a.log.1"), None);
        assert_eq!(part_of("notes.txt"), None);
    }

    #[test]
    fn a_very_long_file_is_shortened_where_the_file_system_has_an_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.log");
        let mut appended = OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let file = open_live(&path).unwrap();
        let length = LONGEST + 5;
        if file.set_len(length).is_err() {
            return eprintln!("skipped: this file system takes no file of 1 TiB");
        }
        appended.write_all(b"kept\n").unwrap();
        let out = shorten(&file, length + 5, length).unwrap();
        if out == 0 {
            return eprintln!("skipped: this file system does not shorten files from the front");
        }
        appended.write_all(b"more\n").unwrap();
        let mut last = [0; 10];
        file.read_exact_at(&mut last, length - out).unwrap();
        assert_eq!(&last, b"kept\nmore\n");
        assert_eq!(file.metadata().unwrap().len(), length - out + 10);
        assert_eq!(shorten(&file, LONGEST - 1, LONGEST - 1).unwrap(), 0, "an ordinary file is left alone");
    }
}
