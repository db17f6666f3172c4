//! Reading a log by addresses, while it is rotated.

use super::log::Log;
use super::{Output, files, lock, millis, now};
use crate::model::{Key, RunId};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

/// How far back the last lines are looked for: lines are rarely that long, and reading more would not be a look at the
/// end.
const TAIL_BYTES: u64 = 64 << 20;
/// Last lines that are shown of a log or a run, so that all of them are ten kilobytes at the most:
const LAST_LINES: usize = 20;
/// what is longer than so many bytes is cut there, and ends with three dots.
const LAST_LINE: usize = 512;
/// Attempts at reading what is being moved at this moment. Each takes less time than a copy.
const ATTEMPTS: usize = 16;

/// Which part of a log is read; all that is kept by default.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Section {
    /// Only what was printed after this time, and at the most about a second of what was printed before.
    pub since: Option<SystemTime>,
    /// Only what the run before the last one printed; runs that printed nothing do not count.
    pub previous: bool,
    /// Only so many last lines.
    pub tail: Option<u64>,
}

/// A place in a log.
#[derive(Debug)]
pub struct Cursor {
    log: Arc<Mutex<Log>>,
    at: u64,
    until: Option<u64>,
}

/// Something that was printed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// The bytes; none when nothing more has been printed.
    pub data: Vec<u8>,
    /// How many bytes before them had been given up when they were to be read.
    pub missed: u64,
}

/// Where some bytes are.
enum Found {
    Archive {
        start: u64,
        file: File,
        left: u64,
    },
    Live {
        base: u64,
        file: File,
        left: u64,
    },
    /// They are gone; what follows begins here.
    Gone(u64),
    /// They have not been printed yet.
    Nothing,
}

impl Output {
    /// The file that the processes of a key write.
    pub fn live_file(&self, key: &Key) -> PathBuf {
        self.shared.folder.join(format!("{}.log", key.file_name()))
    }

    /// Whether something is known of the output of a key. May block.
    pub fn has(&self, key: &Key) -> bool {
        let name = key.file_name();
        let known = lock(&self.shared.logs).contains_key(&name) || lock(&self.shared.found).contains_key(&name);
        known || self.live_file(key).exists()
    }

    /// Where to read a part of the output of a key, up to where it has come by now; `None` when the run before is wanted and there is none. May block.
    ///
    /// # Errors
    /// What the file system says.
    pub fn read(&self, key: &Key, section: Section) -> io::Result<Option<Cursor>> {
        let Section { since, previous, tail } = section;
        let log = self.shared.log(&key.file_name());
        let (from, end) = {
            let mut log = lock(&log);
            log.observe()?;
            let (from, until) = match log.previous() {
                _ if !previous => (log.oldest(), None),
                Some((from, until)) => (from, Some(until)),
                None => return Ok(None),
            };
            let from = since.map_or(from, |time| from.max(log.since(millis(time))));
            (from, until.unwrap_or(log.end))
        };
        let mut cursor = Cursor { log, at: from.min(end), until: Some(end) };
        if let Some(lines) = tail {
            cursor.at = cursor.start_of_tail(from, end, lines)?;
        }
        Ok(Some(cursor))
    }
}

impl Output {
    /// The last lines that a key or one run of it printed, oldest first, each cut to its bound; none when they are gone. May
    /// block.
    ///
    /// # Errors
    /// What the file system says.
    pub fn last_lines(&self, key: &Key, run: Option<RunId>) -> io::Result<Vec<String>> {
        let Piece { data, missed } = self.end_of(key, run, files::BLOCK as u64)?;
        Ok(last_lines(&data, missed > 0))
    }

    /// The last bytes, `most` of them, that a key or one run of it printed, and how many are before them. Nothing when they
    /// are gone. May block.
    ///
    /// # Errors
    /// What the file system says.
    fn end_of(&self, key: &Key, run: Option<RunId>, most: u64) -> io::Result<Piece> {
        if !self.has(key) {
            return Ok(Piece::default());
        }
        let log = self.shared.log(&key.file_name());
        let (from, to) = {
            let mut log = lock(&log);
            log.observe()?;
            match run.map(|run| log.runs.iter().rposition(|start| start.run == run)) {
                None => (log.oldest(), log.end),
                Some(None) => return Ok(Piece::default()),
                Some(Some(at)) => {
                    let end = log.runs.get(at + 1).map_or(log.end, |next| next.at);
                    (log.runs[at].at.max(log.oldest()), end)
                }
            }
        };
        let begin = to.saturating_sub(most).max(from);
        let mut cursor = Cursor { log, at: begin, until: Some(to) };
        let data = cursor.read_exactly(begin, to.max(begin))?.unwrap_or_default();
        Ok(Piece { data, missed: begin - from })
    }
}

/// The last lines of the end of a log; where that is cut, the first of it is the end of a line.
fn last_lines(end: &[u8], cut: bool) -> Vec<String> {
    let text = String::from_utf8_lossy(end);
    let lines: Vec<&str> = text.lines().skip(usize::from(cut)).collect();
    let last = lines[lines.len().saturating_sub(LAST_LINES)..].iter();
    last.filter(|line| !line.is_empty()).map(|line| shortened(line)).collect()
}

fn shortened(line: &str) -> String {
    if line.len() <= LAST_LINE {
        return line.to_owned();
    }
    let mut end = LAST_LINE;
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &line[..end])
}

impl Cursor {
    /// The same, and on as more is printed.
    #[must_use]
    pub fn following(self) -> Self {
        Self { until: None, ..self }
    }

    /// Reads on, up to `most` bytes. May block.
    ///
    /// # Errors
    /// What the file system says.
    pub fn next(&mut self, most: usize) -> io::Result<Piece> {
        let mut missed = 0;
        let mut changing = None;
        for _ in 0..ATTEMPTS {
            let left = self.until.map_or(u64::MAX, |until| until.saturating_sub(self.at));
            let most = most.min(usize::try_from(left).unwrap_or(usize::MAX));
            match self.read_some(most) {
                Ok(Attempt::Read(data)) => {
                    self.at += data.len() as u64;
                    return Ok(Piece { data, missed });
                }
                Ok(Attempt::Gone(to)) => {
                    missed += to - self.at;
                    self.at = to;
                }
                Ok(Attempt::Moved) => {}
                Err(error) => changing = Some(error),
            }
        }
        // It moved away each time: it is tried again when more is asked for.
        changing.map_or(Ok(Piece { data: Vec::new(), missed }), Err)
    }

    fn read_some(&mut self, most: usize) -> io::Result<Attempt> {
        let found = lock(&self.log).find(self.at)?;
        let mut data = vec![0; most];
        match found {
            Found::Gone(to) => return Ok(Attempt::Gone(to)),
            Found::Nothing => {
                // An address past the end comes from a log that was removed meanwhile.
                self.at = self.at.min(lock(&self.log).end);
                data.clear();
            }
            Found::Archive { start, file, left } => {
                data.truncate(usize::try_from(left).unwrap_or(most));
                let read = file.read_at(&mut data, self.at - start)?;
                data.truncate(read);
                if read == 0 && most > 0 {
                    // Somebody has cut it.
                    return Ok(Attempt::Gone(self.at + left));
                }
            }
            Found::Live { base, file, left } => {
                data.truncate(usize::try_from(left).unwrap_or(most));
                let read = file.read_at(&mut data, self.at - base)?;
                data.truncate(read);
                // If its room was being given back meanwhile, these may be zeros: it is in an archive by now.
                if !lock(&self.log).is_at(base, self.at) {
                    return Ok(Attempt::Moved);
                }
            }
        }
        Ok(Attempt::Read(data))
    }

    /// Where the last `lines` lines of `from..end` begin.
    fn start_of_tail(&mut self, from: u64, end: u64, lines: u64) -> io::Result<u64> {
        let least = end.saturating_sub(TAIL_BYTES).max(from);
        let (mut at, mut missing) = (end, lines);
        while at > least {
            let block_from = at.saturating_sub(files::BLOCK as u64).max(least);
            let Some(block) = self.read_exactly(block_from, at)? else { return Ok(at) };
            for (i, byte) in block.iter().enumerate().rev() {
                // The newline that ends the last line begins none.
                if *byte == b'\n' && block_from + i as u64 + 1 < end {
                    if missing == 1 {
                        return Ok(block_from + i as u64 + 1);
                    }
                    missing -= 1;
                }
            }
            at = block_from;
        }
        Ok(least)
    }

    /// What has these addresses; `None` when some of it is gone.
    fn read_exactly(&mut self, from: u64, to: u64) -> io::Result<Option<Vec<u8>>> {
        let mut all = Vec::new();
        self.at = from;
        while self.at < to {
            let Piece { data, missed } = self.next(usize::try_from(to - self.at).unwrap_or(files::BLOCK))?;
            if missed > 0 || data.is_empty() {
                return Ok(None);
            }
            all.extend(data);
        }
        Ok(Some(all))
    }
}

enum Attempt {
    Read(Vec<u8>),
    Gone(u64),
    Moved,
}

impl Log {
    /// Where the bytes from an address on are.
    fn find(&mut self, at: u64) -> io::Result<Found> {
        if let Some(archive) = self.archives.iter().find(|archive| archive.end() > at).copied() {
            if at < archive.start {
                return Ok(Found::Gone(archive.start));
            }
            return match File::open(self.place.archive(archive.start)) {
                Ok(file) => Ok(Found::Archive { start: archive.start, file, left: archive.end() - at }),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.forget_archive(archive.start);
                    Ok(Found::Gone(archive.end()))
                }
                Err(error) => Err(error),
            };
        }
        self.observe()?;
        if at < self.live_from {
            return Ok(Found::Gone(self.live_from));
        }
        if at >= self.end {
            return Ok(Found::Nothing);
        }
        let (base, left) = (self.base, self.end - at);
        Ok(match self.open()? {
            Some(file) => Found::Live { base, file, left },
            None => Found::Gone(self.end),
        })
    }

    /// Where the output of the run before the last one begins and ends.
    fn previous(&self) -> Option<(u64, u64)> {
        // What is before the first run that is known was printed by an earlier one, too.
        let oldest = self.oldest();
        let begins: Vec<u64> = std::iter::once(oldest).chain(self.runs.iter().map(|run| run.at.max(oldest))).collect();
        begins.windows(2).rev().map(|both| (both[0], both[1])).find(|(from, until)| from < until)
    }

    /// From where on everything is that was printed after a time, in milliseconds since 1970.
    fn since(&self, time: u64) -> u64 {
        if time >= now() {
            return self.end;
        }
        let before = self.marks.iter().rev().find(|mark| mark.time <= time);
        before.map_or(0, |mark| mark.at).max(self.oldest())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_found_in_any_log() {
        assert_eq!(last_lines(b"", false), [""; 0]);
        assert_eq!(last_lines(b"one\ntwo", false), ["one", "two"]);
        assert_eq!(last_lines(b"one\ntwo", true), ["two"]);
        let many: Vec<String> = (0..10_000).map(|n| format!("line {n}")).collect();
        let last = last_lines(many.join("\n").as_bytes(), false);
        assert_eq!((last.len(), last[0].as_str(), last[19].as_str()), (20, "line 9980", "line 9999"));
        assert_eq!(last_lines(&b"x".repeat(100), true), [""; 0], "no line begins where it is looked for");
        let last = last_lines(&[b"y".repeat(1_000), b"\n\xff".to_vec()].concat(), false);
        assert_eq!((last[0].len(), last[1].as_str()), (LAST_LINE + "…".len(), "\u{fffd}"));
    }
}
