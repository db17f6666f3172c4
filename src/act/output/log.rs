//! One log: which of its bytes are where.
//!
//! Every byte has an address that it keeps for ever: the first that was printed has address 0, and what takes the place of
//! a live file, or is left of one that was cut, goes on where the one before ended. So a reader only has to remember an
//! address, whatever has become of the files meanwhile.

use super::files::{self, Place};
use super::index::{self, Entry, Mark, RunStart};
use super::{LogLimits, unlinked};
use crate::model::{Key, RunId};
use std::collections::VecDeque;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

/// How soon a log is looked at again that has not grown.
pub(super) const QUIET: Duration = Duration::from_secs(2);
/// And one that has not for [`SILENT_AFTER`]; all are looked at at once when free disk goes.
const SILENT: Duration = Duration::from_secs(10);
const SILENT_AFTER: Duration = Duration::from_secs(60);
/// And one that has.
const GROWING: Duration = Duration::from_secs(1);
/// And one that grows as fast as a disk takes it.
const FASTEST: Duration = Duration::from_millis(20);
/// How many times at the least a log is looked at while it grows by its size.
const LOOKS: u64 = 4;
/// Between two marks, in milliseconds.
const SPACING: u64 = 1_000;
/// When there are more marks, every second one of the older half goes.
const MARKS: usize = 512;
/// Runs whose beginnings are known.
const RUNS: usize = 64;
/// What is known is written down at the latest after this many milliseconds. A launcher that is killed loses no more.
const UNWRITTEN: u64 = 10_000;
/// What waits for being written down when that fails: more than is known at the most.
const UNWRITTEN_ENTRIES: usize = 2 * MARKS;
/// Output that is older has reached the disk by itself, and is not given up before its copy has, too: in milliseconds.
const SETTLED: u64 = 30_000;
/// What is left of a live file that is cut for want of room.
const FLOOR: u64 = 64 * 1024;

/// What rotation has to work with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Means {
    pub(super) limits: LogLimits,
    /// Whether there is room for archives.
    pub(super) archiving: bool,
    /// Whether the file system can punch holes.
    pub(super) punching: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Archive {
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Archive {
    pub(super) const fn end(self) -> u64 {
        self.start + self.len
    }
}

/// One log.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) place: Place,
    /// Whose it is, where that is known.
    pub(super) key: Option<Key>,
    /// Device and inode of the live file.
    file: Option<(u64, u64)>,
    /// The address of the first byte of the live file.
    pub(super) base: u64,
    /// What has an address before this one is in archives, or gone.
    pub(super) live_from: u64,
    /// Up to here it was printed when it was last looked at.
    pub(super) end: u64,
    pub(super) archives: VecDeque<Archive>,
    pub(super) runs: Vec<RunStart>,
    pub(super) marks: VecDeque<Mark>,
    /// The live file, when it has no name any more and a process still writes it.
    held: Option<File>,
    /// Whose output it is, while it runs.
    pub(super) process: Option<(RunId, i32)>,
    unwritten: Vec<Entry>,
    written_at: u64,
    /// When it was last looked at, since the boot, and where it ended.
    seen: Option<(Duration, u64)>,
    /// When it was last seen to have grown, since the boot.
    grew: Duration,
}

impl Log {
    /// What the files of a log say. `archives` are those that there are.
    pub(super) fn load(place: Place, archives: Vec<Archive>) -> Self {
        let mut log = Self {
            place,
            key: None,
            file: None,
            base: 0,
            live_from: 0,
            end: 0,
            archives: archives.into(),
            runs: Vec::new(),
            marks: VecDeque::new(),
            held: None,
            process: None,
            unwritten: Vec::new(),
            written_at: 0,
            seen: None,
            grew: Duration::ZERO,
        };
        log.archives.make_contiguous().sort_by_key(|archive| archive.start);
        // What cannot be read of it is as if it were not known.
        for entry in index::read(&log.place.index()).unwrap_or_default() {
            match entry {
                Entry::Key(key) => log.key = Some(key),
                Entry::File { dev, ino, base } => (log.file, log.base) = (Some((dev, ino)), base),
                Entry::Live(at) => log.live_from = at,
                Entry::Run(run) => log.runs.push(run),
                Entry::Mark(mark) => log.marks.push_back(mark),
            }
        }
        let archived = log.archives.back().map_or(0, |last| last.end());
        log.live_from = log.live_from.max(archived).max(log.base);
        let known = log.marks.iter().map(|mark| mark.at).chain(log.runs.iter().map(|run| run.at)).max().unwrap_or(0);
        log.end = log.live_from;
        log.adopt_file(known);
        log
    }

    /// Finds the live file of a log that was just loaded. It may be another than the one that is known, or longer.
    fn adopt_file(&mut self, known: u64) {
        let path = self.place.live();
        let Ok(seen) = path.symlink_metadata() else { return };
        let same = self.file.is_none() && self.live_from <= seen.len() || self.file == Some(identity(&seen));
        if !same || self.base + seen.len() < self.live_from {
            self.end = self.end.max(known);
            return;
        }
        self.file = Some(identity(&seen));
        self.end = self.base + seen.len();
        // A launcher may have died between having written an archive, or having punched, and saying so.
        if let Ok(file) = files::open_live(&path) {
            let from = self.live_from - self.base;
            drop(files::punch(&file, 0, from));
            let begins = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(from)).unwrap_or(from);
            self.live_from = (self.base + begins).clamp(self.live_from, self.end);
        }
    }

    /// What it holds on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.live_bytes() + self.archives.iter().map(|archive| archive.len).sum::<u64>()
    }

    fn live_bytes(&self) -> u64 {
        self.end - self.live_from
    }

    /// The first address that is still there.
    pub(super) fn oldest(&self) -> u64 {
        self.archives.front().map_or(self.live_from, |archive| archive.start)
    }

    /// Sees how far it has come, and whether the file is still the one it was.
    pub(super) fn observe(&mut self) -> io::Result<()> {
        let named = match self.place.live().symlink_metadata() {
            Ok(seen) => Some(seen),
            Err(error) if is_missing(&error) => None,
            Err(error) => return Err(error),
        };
        if self.held.is_none()
            && let Some((_, pid)) = self.process
            && named.as_ref().is_none_or(|seen| self.file.is_some_and(|file| file != identity(seen)))
        {
            self.held = unlinked::open(pid, &self.place.live(), self.file);
        }
        match (&self.held, named) {
            (Some(held), _) => self.go_on_with(&held.metadata()?),
            (None, Some(seen)) => self.go_on_with(&seen),
            (None, None) => (self.file, self.live_from) = (None, self.end),
        }
        Ok(())
    }

    fn go_on_with(&mut self, seen: &Metadata) {
        let file = identity(seen);
        if self.file != Some(file) || self.base + seen.len() < self.end {
            // Another file, or one that somebody has cut.
            (self.file, self.base, self.live_from) = (Some(file), self.end, self.end);
            self.note_file();
        }
        self.end = self.base + seen.len();
    }

    fn note_file(&mut self) {
        if let Some((dev, ino)) = self.file {
            self.unwritten.push(Entry::File { dev, ino, base: self.base });
        }
    }

    /// The live file.
    pub(super) fn open(&self) -> io::Result<Option<File>> {
        if let Some(held) = &self.held {
            return held.try_clone().map(Some);
        }
        match files::open_live(&self.place.live()) {
            Ok(file) => {
                Ok(Some(file).filter(|file| file.metadata().is_ok_and(|seen| self.file == Some(identity(&seen)))))
            }
            Err(error) if is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A run is about to begin; the one before has ended. What it prints comes after all that there is.
    pub(super) fn begin(&mut self, key: &Key, run: RunId, time: u64, means: &Means) -> io::Result<()> {
        self.settle(time)?;
        if !means.punching && self.live_bytes() >= means.limits.max_size {
            self.set_aside()?;
        }
        if self.key.as_ref() != Some(key) {
            self.key = Some(key.clone());
            self.unwritten.push(Entry::Key(key.clone()));
        }
        let start = RunStart { run, at: self.end, time };
        self.runs.push(start);
        let over = self.runs.len().saturating_sub(RUNS);
        self.runs.drain(..over);
        self.unwritten.push(Entry::Run(start));
        self.write_down(time)
    }

    /// Nobody writes it any more.
    pub(super) fn settle(&mut self, time: u64) -> io::Result<()> {
        self.observe()?;
        self.process = None;
        if let Some(file) = self.held.take() {
            // It is gone once it is closed, and has no name by which it could be read.
            if self.live_bytes() > 0 {
                self.archive(&file, self.end, time)?;
            }
            self.file = None;
        }
        self.mark(time);
        self.write_down(time)
    }

    /// Renames the live file: the way for a file system that cannot punch holes, while nobody has it open.
    fn set_aside(&mut self) -> io::Result<()> {
        std::fs::rename(self.place.live(), self.place.archive(self.live_from))?;
        self.archives.push_back(Archive { start: self.live_from, len: self.live_bytes() });
        (self.file, self.live_from) = (None, self.end);
        self.unwritten.push(Entry::Live(self.end));
        Ok(())
    }

    /// Looks at it: rotates it if it has become too long. Says how soon to look again.
    pub(super) fn look(&mut self, now: Duration, time: u64, means: &Means) -> io::Result<Duration> {
        self.observe()?;
        self.mark(time);
        let rotated = self.rotate(time, means);
        if !self.unwritten.is_empty() && time.abs_diff(self.written_at) >= UNWRITTEN {
            self.write_down(time)?;
        }
        rotated?;
        let Some((before, end)) = self.seen.replace((now, self.end)) else {
            self.grew = now;
            return Ok(GROWING);
        };
        if self.end > end {
            self.grew = now;
            return Ok(pace(self.end - end, now.saturating_sub(before), means.limits.max_size));
        }
        Ok(if now.saturating_sub(self.grew) < SILENT_AFTER { QUIET } else { SILENT })
    }

    fn rotate(&mut self, time: u64, means: &Means) -> io::Result<()> {
        let Means { limits: LogLimits { max_size, max_files, .. }, archiving, punching } = *means;
        let most = max_size.saturating_mul(u64::from(max_files) + 1);
        if self.live_bytes() >= max_size
            && let Some(file) = self.open()?
        {
            if !punching {
                return if self.live_bytes() >= most { self.empty(&file) } else { Ok(()) };
            }
            if self.live_bytes() > most {
                // It has grown without anybody looking, and what would not be kept is not copied.
                while self.drop_archive()? {}
                self.cut(&file, self.end - most)?;
            }
            while self.live_bytes() >= max_size {
                let to = self.line_end(&file, self.live_from + max_size)?;
                if archiving && max_files > 0 { self.archive(&file, to, time)? } else { self.cut(&file, to)? }
            }
            let out = files::shorten(&file, self.end - self.base, self.live_from - self.base)?;
            if out > 0 {
                self.base += out;
                self.note_file();
            }
        }
        while self.archives.len() > max_files as usize {
            self.drop_archive()?;
        }
        Ok(())
    }

    fn line_end(&self, file: &File, to: u64) -> io::Result<u64> {
        Ok(self.base + files::line_end(file, self.live_from - self.base, to - self.base)?)
    }

    /// Moves what is before `to` from the live file into an archive. A reader finds it in one of the two at any time: the
    /// archive is whole before it counts, and it counts before the original goes.
    fn archive(&mut self, file: &File, to: u64, time: u64) -> io::Result<()> {
        let (from, beside) = (self.live_from, self.place.unfinished());
        let copied = files::create(&beside).and_then(|copy| {
            files::copy(file, from - self.base, to - self.base, &copy)?;
            let since = self.marks.iter().rev().find(|mark| mark.at <= from).map_or(0, |mark| mark.time);
            if time.saturating_sub(since) > SETTLED { copy.sync_data() } else { Ok(()) }
        });
        if let Err(error) = copied.and_then(|()| std::fs::rename(&beside, self.place.archive(from))) {
            drop(std::fs::remove_file(&beside));
            return Err(error);
        }
        self.archives.push_back(Archive { start: from, len: to - from });
        self.cut(file, to)
    }

    /// Gives up what is before `to` in the live file.
    fn cut(&mut self, file: &File, to: u64) -> io::Result<()> {
        let from = std::mem::replace(&mut self.live_from, to);
        self.unwritten.push(Entry::Live(to));
        files::punch(file, from - self.base, to - self.base)
    }

    /// Gives up all that is in the live file, and what is printed in this moment: the last resort on a file system that
    /// cannot punch holes.
    fn empty(&mut self, file: &File) -> io::Result<()> {
        file.set_len(0)?;
        (self.base, self.live_from) = (self.end, self.end);
        self.note_file();
        Ok(())
    }

    /// Gives up the oldest archive. False when there is none.
    fn drop_archive(&mut self) -> io::Result<bool> {
        let Some(oldest) = self.archives.front() else { return Ok(false) };
        match std::fs::remove_file(self.place.archive(oldest.start)) {
            Err(error) if !is_missing(&error) => return Err(error),
            _ => self.archives.pop_front(),
        };
        Ok(true)
    }

    /// An archive turned out not to be there any more.
    pub(super) fn forget_archive(&mut self, start: u64) {
        self.archives.retain(|archive| archive.start != start);
    }

    /// Somebody has removed the folder, and with it all but what a process still writes.
    pub(super) fn lose_folder(&mut self) {
        self.archives.clear();
        self.unwritten = self.known();
    }

    /// Gives up about so many of its oldest bytes; how many it was. The last lines are kept.
    pub(super) fn shed(&mut self, bytes: u64, punching: bool) -> io::Result<u64> {
        self.observe()?;
        let before = self.bytes();
        while before - self.bytes() < bytes && self.drop_archive()? {}
        let more = bytes.saturating_sub(before - self.bytes()).min(self.live_bytes().saturating_sub(FLOOR));
        if more > 0
            && let Some(file) = self.open()?
        {
            if punching {
                let to = self.line_end(&file, self.live_from + more)?;
                self.cut(&file, to)?;
            } else {
                self.empty(&file)?;
            }
        }
        Ok(before - self.bytes())
    }

    /// When something was last printed or noted, in milliseconds since 1970.
    pub(super) fn last_written(&self) -> u64 {
        let times =
            [self.place.live(), self.place.index()].map(|path| path.metadata().and_then(|seen| seen.modified()).ok());
        times.into_iter().flatten().max().map_or(0, super::millis)
    }

    /// Removes all of it.
    pub(super) fn remove(&mut self) -> io::Result<()> {
        while self.drop_archive()? {}
        for path in [self.place.live(), self.place.index()] {
            match std::fs::remove_file(path) {
                Err(error) if !is_missing(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Remembers when it had come this far.
    fn mark(&mut self, time: u64) {
        let due = |last: &Mark| last.at != self.end && time.abs_diff(last.time) >= SPACING;
        if !self.marks.back().is_none_or(due) {
            return;
        }
        let mark = Mark { at: self.end, time };
        self.marks.push_back(mark);
        self.unwritten.push(Entry::Mark(mark));
        let oldest = self.oldest();
        while self.marks.get(1).is_some_and(|second| second.at <= oldest) {
            self.marks.pop_front();
        }
        if self.marks.len() > MARKS {
            let mut at = 0;
            self.marks.retain(|_| {
                at += 1;
                at > MARKS / 2 || at % 2 == 0
            });
        }
    }

    /// Writes down what is known and not on disk.
    pub(super) fn write_down(&mut self, time: u64) -> io::Result<()> {
        self.written_at = time;
        if self.unwritten.is_empty() {
            return Ok(());
        }
        let appended = index::append(&self.place.index(), &self.unwritten);
        if appended.is_err() && self.unwritten.len() > UNWRITTEN_ENTRIES {
            // No more waits for a full disk than what is known by now.
            self.unwritten = self.known();
        }
        let grown = appended?;
        self.unwritten.clear();
        if grown {
            index::replace(&self.place.index(), &self.place.unfinished(), &self.known())?;
        }
        Ok(())
    }

    fn known(&self) -> Vec<Entry> {
        let mut known: Vec<Entry> = self.key.iter().cloned().map(Entry::Key).collect();
        known.extend(self.file.map(|(dev, ino)| Entry::File { dev, ino, base: self.base }));
        known.push(Entry::Live(self.live_from));
        known.extend(self.runs.iter().copied().map(Entry::Run));
        known.extend(self.marks.iter().copied().map(Entry::Mark));
        known
    }

    /// Whether the live file is a particular one, as a reader has it.
    pub(super) fn is_at(&self, base: u64, at: u64) -> bool {
        self.base == base && self.live_from <= at
    }
}

/// How soon a log is looked at again that has grown so much within some time.
fn pace(grown: u64, within: Duration, max_size: u64) -> Duration {
    let share = u32::try_from((max_size / LOOKS).saturating_mul(1_000) / grown).unwrap_or(u32::MAX);
    (within.saturating_mul(share) / 1_000).clamp(FASTEST, GROWING)
}

fn identity(seen: &Metadata) -> (u64, u64) {
    (seen.dev(), seen.ino())
}

fn is_missing(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}
