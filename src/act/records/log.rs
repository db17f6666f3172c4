//! The log of memories: one append-only file, compacted when most of it is history.
//!
//! Guarantees: what [`MemoryLog::append`] returned for is synced. A launcher or machine that dies while it writes
//! leaves a prefix of the history: a last line without its line feed was never confirmed and is cut off. Anything else
//! that cannot be read is damage: the file is kept aside under another name, the rest is used, and the damage is told.

use super::MEMORY_LOG;
use super::frame::{self, Unusable};
use super::{held, make_private, open_file, unavailable, with_suffix};
use crate::act::state_folder::StateFolder;
use crate::desired::scan::Identity;
use crate::error::{Code, Error, Result};
use crate::model::{Key, Memory};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A log shorter than this is never compacted: reading it takes a few milliseconds.
const COMPACT_ABOVE: u64 = 1 << 20;
/// A log is compacted when it is this many times as long as what is live in it: then each byte is rewritten at most
/// once for three that were appended.
const COMPACT_RATIO: u64 = 4;
/// What is added to the name of a file that is found in the place of the log.
const REPLACED: &str = ".replaced";
/// The most damaged logs that are kept; the last place is overwritten after that.
const KEPT_DAMAGED: u32 = 10;

/// One change of what is remembered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Op {
    /// Remember this about its key.
    Save(Box<Memory>),
    /// Forget the key.
    Drop(Key),
}

impl Op {
    pub(super) fn key(&self) -> &Key {
        match self {
            Self::Save(memory) => &memory.instance.key,
            Self::Drop(key) => key,
        }
    }
}

/// What a log says.
#[derive(Debug, Default)]
pub(super) struct History {
    /// One for each key, in key order.
    pub(super) memories: Vec<Memory>,
    /// Lines that could not be used.
    pub(super) damage: Vec<Error>,
}

/// Where the line of a key stands in the file, its line feed included.
#[derive(Debug, Clone, Copy)]
struct Extent {
    at: u64,
    length: u64,
}

/// The open log.
#[derive(Debug)]
pub(super) struct MemoryLog {
    folder: Arc<StateFolder>,
    path: PathBuf,
    file: File,
    identity: Identity,
    /// Up to here the file is whole lines, synced.
    length: u64,
    live: BTreeMap<Key, Extent>,
    live_length: u64,
    /// A write failed, so that the file may be longer than `length`, or no longer be the one at `path`.
    suspect: bool,
    /// Compaction failed at this length; the next attempt waits for as much again.
    compact_above: u64,
    #[cfg(test)]
    pub(super) syncs: usize,
    /// The next write fails half-way, as on a full disk.
    #[cfg(test)]
    pub(super) full: bool,
}

impl MemoryLog {
    /// Opens the log in a state folder, which is made when it is absent; cuts off a torn end, sets a damaged one aside.
    pub(super) fn open(folder: &Arc<StateFolder>) -> Result<(Self, History)> {
        let path = &folder.path().join(MEMORY_LOG);
        let cannot = |error: io::Error| unavailable("The log of memories cannot be opened", path, &error);
        let text = read_file(path)?;
        let parsed = parse(path, &text)?;
        if !parsed.history.damage.is_empty() {
            set_aside(path, &text).map_err(cannot)?;
        }
        let file = open_file(path, false).map_err(cannot)?;
        let identity = identity_of(&file).map_err(cannot)?;
        let mut log = Self {
            folder: Arc::clone(folder),
            path: path.to_owned(),
            file,
            identity,
            length: parsed.length,
            live_length: parsed.live.values().map(|extent| extent.length).sum(),
            live: parsed.live,
            suspect: true,
            compact_above: COMPACT_ABOVE,
            #[cfg(test)]
            syncs: 0,
            #[cfg(test)]
            full: false,
        };
        log.repair().and_then(|()| sync_folder(path)).map_err(cannot)?;
        if !parsed.history.damage.is_empty() {
            log.compact().map_err(cannot)?;
        }
        Ok((log, parsed.history))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a group of changes with one write and one sync. When it fails, nothing of the group counts.
    pub(super) fn append<'a>(&mut self, ops: impl Iterator<Item = &'a Op>) -> io::Result<()> {
        // Before it is said where the lines will stand: a log that is made anew is shorter.
        if self.suspect || self.is_displaced() {
            self.suspect = true;
            self.repair()?;
        }
        let mut bytes = Vec::new();
        let mut lines = Vec::new();
        for op in ops {
            let begin = bytes.len();
            frame::encode(op, &mut bytes)?;
            lines.push((op, Extent { at: self.length + begin as u64, length: (bytes.len() - begin) as u64 }));
        }
        if lines.is_empty() {
            return Ok(());
        }
        self.suspect = true;
        self.write(&bytes)?;
        self.sync()?;
        self.suspect = false;
        self.length += bytes.len() as u64;
        for (op, extent) in lines {
            self.note(op, extent);
        }
        Ok(())
    }

    /// Which file it is.
    pub(super) const fn identity(&self) -> Identity {
        self.identity
    }

    /// Whether the path names another file than the one that is open, or none.
    fn is_displaced(&self) -> bool {
        Identity::of(&self.path).ok() != Some(self.identity)
    }

    /// Whether most of the file is history.
    pub(super) fn is_bloated(&self) -> bool {
        self.length > self.compact_above.max(COMPACT_RATIO * self.live_length)
    }

    /// Replaces the file by one that holds only what is live, in the order in which it was said.
    pub(super) fn compact(&mut self) -> io::Result<()> {
        self.compact_above = self.length + COMPACT_ABOVE;
        let mut extents: Vec<(Key, Extent)> = self.live.iter().map(|(key, extent)| (key.clone(), *extent)).collect();
        extents.sort_unstable_by_key(|(_, extent)| extent.at);
        let temporary = with_suffix(&self.path, ".tmp");
        let mut out = io::BufWriter::new(open_file(&temporary, true)?);
        let mut length = 0;
        let mut live = BTreeMap::new();
        let mut line = Vec::new();
        for (key, extent) in extents {
            line.resize(usize::try_from(extent.length).map_err(io::Error::other)?, 0);
            self.file.read_exact_at(&mut line, extent.at)?;
            out.write_all(&line)?;
            live.insert(key, Extent { at: length, length: extent.length });
            length += extent.length;
        }
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        let identity = identity_of(&file)?;
        std::fs::rename(&temporary, &self.path)?;
        sync_folder(&self.path)?;
        (self.file, self.identity) = (file, identity);
        (self.length, self.live_length, self.live) = (length, length, live);
        (self.suspect, self.compact_above) = (false, COMPACT_ABOVE);
        Ok(())
    }

    /// Makes the file at the path end where the last confirmed line ends. If the path no longer names the file that is
    /// open (somebody removed or renamed it, or its folder), what is live is written to a new one. One that is in its
    /// place is kept under another name: it is not known whose it is.
    fn repair(&mut self) -> io::Result<()> {
        held(&self.folder)?;
        make_private(self.folder.path())?;
        if self.is_displaced() {
            match std::fs::rename(&self.path, with_suffix(&self.path, REPLACED)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            self.compact()?;
            return Ok(());
        }
        let reopened = open_file(&self.path, false)?;
        if identity_of(&reopened)? != self.identity {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "it was replaced while it was opened"));
        }
        self.file = reopened;
        if self.file.metadata()?.len() != self.length {
            self.file.set_len(self.length)?;
            self.sync()?;
        }
        self.suspect = false;
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if std::mem::take(&mut self.full) {
            self.file.write_all_at(&bytes[..bytes.len() / 2], self.length)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all_at(bytes, self.length)
    }

    fn sync(&mut self) -> io::Result<()> {
        #[cfg(test)]
        {
            self.syncs += 1;
        }
        self.file.sync_data()
    }

    fn note(&mut self, op: &Op, extent: Extent) {
        let before = match op {
            Op::Save(memory) => {
                self.live_length += extent.length;
                self.live.insert(memory.instance.key.clone(), extent)
            }
            Op::Drop(key) => self.live.remove(key),
        };
        self.live_length -= before.map_or(0, |extent| extent.length);
    }
}

/// Reads a log without changing anything.
pub(super) fn read(path: &Path) -> Result<History> {
    let text = read_file(path)?;
    Ok(parse(path, &text)?.history)
}

/// What the bytes of a log say.
pub(super) struct Parsed {
    pub(super) history: History,
    /// Where the last whole line ends.
    length: u64,
    live: BTreeMap<Key, Extent>,
}

pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Parsed> {
    let mut memories: BTreeMap<Key, (Memory, Extent)> = BTreeMap::new();
    let mut damage = Vec::new();
    let mut at = 0;
    for (number, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
        let Some(content) = line.strip_suffix(b"\n") else { break };
        let extent = Extent { at, length: line.len() as u64 };
        at += extent.length;
        match frame::decode(content) {
            Ok(Op::Save(memory)) => drop(memories.insert(memory.instance.key.clone(), (*memory, extent))),
            Ok(Op::Drop(key)) => drop(memories.remove(&key)),
            Err(Unusable::Damaged(why)) => damage.push(damaged_line(path, number + 1, content, why)),
            Err(Unusable::Newer(version)) => return Err(newer_log(path, version)),
        }
    }
    let live = memories.iter().map(|(key, (_, extent))| (key.clone(), *extent)).collect();
    let memories = memories.into_values().map(|(memory, _)| memory).collect();
    Ok(Parsed { history: History { memories, damage }, length: at, live })
}

fn damaged_line(path: &Path, number: usize, line: &[u8], why: String) -> Error {
    let error = Error::new(Code::StoreUnavailable, "A line of the log of memories is damaged and was left out")
        .with("path", path.display())
        .with("line", number);
    let error = match legible_key(line) {
        Some(key) => error.with("process_id", key),
        None => error,
    };
    error.because(why).suggest(format!(
        "nothing, if the instance runs as it should; the whole log is kept beside it, see ls {}*",
        with_suffix(path, ".damaged-").display()
    ))
}

/// The key that a damaged line seems to be about.
fn legible_key(line: &[u8]) -> Option<Key> {
    let text = String::from_utf8_lossy(line);
    let rest = ["\"key\":\"", "\"drop\":\""].iter().find_map(|marker| Some(text.split_once(marker)?.1))?;
    Key::parse(rest.split_once('"')?.0).ok()
}

fn newer_log(path: &Path, version: u64) -> Error {
    Error::new(Code::StoreUnavailable, "A newer launcher wrote the log of memories")
        .with("path", path.display())
        .with("version", version)
        .with("supported", frame::VERSION)
        .suggest(format!(
            "start the launcher that wrote it; or, to lose ports, streaks and circuits and keep what runs, mv {} {}",
            path.display(),
            with_suffix(path, ".newer").display()
        ))
}

fn read_file(path: &Path) -> Result<Vec<u8>> {
    match std::fs::read(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(unavailable("The log of memories cannot be read", path, &error)),
    }
}

fn set_aside(path: &Path, text: &[u8]) -> io::Result<()> {
    let place = |number: u32| with_suffix(path, &format!(".damaged-{number}"));
    let number = (1..KEPT_DAMAGED).find(|number| !place(*number).exists()).unwrap_or(KEPT_DAMAGED);
    let mut copy = open_file(&place(number), true)?;
    copy.write_all(text)?;
    copy.sync_all()
}

/// Which file an open one is.
pub(super) fn identity_of(file: &File) -> io::Result<Identity> {
    Ok(Identity::from(&rustix::fs::fstat(file)?))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}
