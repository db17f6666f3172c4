//! What a process printed, as it prints it.

use super::Control;
use super::explain::mask;
use crate::act::Output;
use crate::act::output::{Cursor, Piece, Section};
use crate::error::{Code, Error, Result};
use crate::model::{Key, RunId};
use crate::reconciler::Board;
use std::sync::Arc;
use std::time::Duration;

/// The most that is given at once, in bytes; a longer line comes in parts.
pub const CHUNK: usize = 64 * 1024;
/// How often a log that has been read to its end is looked at again.
const INTERVAL: Duration = Duration::from_millis(200);

/// What of a log is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogsWanted {
    /// Which part of what is kept.
    pub section: Section,
    /// Whether to go on as more is printed, until nothing declares the key any more.
    pub follow: bool,
}

/// A log that is being read, across rotations and runs.
#[derive(Debug)]
pub struct Logs {
    key: Key,
    wanted: LogsWanted,
    board: Arc<Board>,
    output: Arc<Output>,
    cursor: Option<Cursor>,
    /// Has been read, and is no whole line yet.
    pending: Vec<u8>,
    /// Has been read, and comes after what is pending.
    next: Option<Piece>,
    over: bool,
}

impl Control {
    /// Begins to read what a process printed.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND` when nothing declares the key and it has no log, or when the run before is wanted and nothing
    /// is kept of one; `STORE_UNAVAILABLE` when the log cannot be read.
    pub async fn logs(&self, key: &Key, wanted: LogsWanted) -> Result<Logs> {
        Logs::begin(Arc::clone(&self.board), Arc::clone(&self.output), key.clone(), wanted).await
    }
}

impl Control {
    /// The last lines, twenty at the most and each cut to 512 bytes, that the run printed that failed last. None when its
    /// key has not failed since it was declared, or they are gone.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when the log cannot be read.
    pub async fn last_lines(&self, key: &Key) -> Result<Vec<String>> {
        match self.status(key).and_then(|status| status.failed_run) {
            Some(run) => self.last_lines_of(key, run).await,
            None => Ok(Vec::new()),
        }
    }

    /// The same of any run. None when its key is declared no more, since nobody can then tell what in them is a secret.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when the log cannot be read.
    pub async fn last_lines_of(&self, key: &Key, run: RunId) -> Result<Vec<String>> {
        let Some(status) = self.status(key) else { return Ok(Vec::new()) };
        let (output, own) = (Arc::clone(&self.output), key.clone());
        let lines = self.output.blocking(key, move || output.last_lines(&own, Some(run))).await;
        let lines = lines.map_err(|cause| unreadable(&self.output, key, &cause))?;
        let mask = mask(&status, &self.output);
        Ok(lines.iter().map(|line| mask.applied(line).into_owned()).collect())
    }
}

impl Logs {
    /// As [`Control::logs`].
    pub(crate) async fn begin(board: Arc<Board>, output: Arc<Output>, key: Key, wanted: LogsWanted) -> Result<Self> {
        let logs = Self { key, wanted, board, output, cursor: None, pending: Vec::new(), next: None, over: false };
        let output = Arc::clone(&logs.output);
        let key = logs.key.clone();
        let known = logs.output.blocking(&logs.key, move || output.has(&key)).await;
        if !known && logs.board.status(&logs.key).is_none() {
            return Err(Error::new(Code::ProcessNotFound, "nothing declares this process, and it has no log")
                .with("process_id", &logs.key)
                .suggest("prismctl pattern list shows the ids of all processes"));
        }
        let mut logs = logs;
        if !logs.open().await? && logs.wanted.section.previous {
            return Err(Error::new(
                Code::ProcessNotFound,
                "nothing is kept of what an earlier run of this process printed",
            )
            .with("process_id", &logs.key)
            .suggest("leave out --previous, to read what is kept"));
        }
        Ok(logs)
    }

    /// What comes next; `None` at the end. What it gives are whole lines, but for one that is over its bound, the last one
    /// where it has no end, and what stands next to something that is missing. A wait that is dropped begins anew.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when the log cannot be read.
    pub async fn next(&mut self) -> Result<Option<Piece>> {
        loop {
            if let Some(piece) = self.next.take() {
                self.pending = piece.data;
                if piece.missed > 0 {
                    return Ok(Some(Piece { data: self.lines(), missed: piece.missed }));
                }
            }
            // Asked before the reading, so that what was printed before the key went is read.
            let ends = !self.wanted.follow || self.board.status(&self.key).is_none();
            let piece = if self.over { Piece::default() } else { self.read().await? };
            if piece.missed > 0 {
                self.next = Some(piece);
                if !self.pending.is_empty() {
                    return Ok(Some(Piece { data: std::mem::take(&mut self.pending), missed: 0 }));
                }
                continue;
            }
            if piece.data.is_empty() && ends {
                self.over = true;
                let rest = std::mem::take(&mut self.pending);
                return Ok((!rest.is_empty()).then_some(Piece { data: rest, missed: 0 }));
            }
            if piece.data.is_empty() {
                tokio::time::sleep(INTERVAL).await;
                continue;
            }
            self.pending.extend(piece.data);
            let data = self.lines();
            if !data.is_empty() {
                return Ok(Some(Piece { data, missed: 0 }));
            }
        }
    }

    /// The whole lines of what is pending, or all of it where a line is too long.
    fn lines(&mut self) -> Vec<u8> {
        let whole = match self.pending.iter().rposition(|byte| *byte == b'\n') {
            Some(newline) => newline + 1,
            None if self.pending.len() >= CHUNK => self.pending.len(),
            None => 0,
        };
        self.pending.drain(..whole).collect()
    }

    async fn read(&mut self) -> Result<Piece> {
        if !self.open().await? {
            return Ok(Piece::default());
        }
        let Some(mut cursor) = self.cursor.take() else { return Ok(Piece::default()) };
        let most = CHUNK - self.pending.len().min(CHUNK - 1);
        let read = move || {
            let piece = cursor.next(most);
            (cursor, piece)
        };
        let (cursor, piece) = self.output.blocking(&self.key, read).await;
        self.cursor = Some(cursor);
        piece.map_err(|cause| self.unreadable(&cause))
    }

    /// Opens the log, if there is one by now. Whether there is anything to read.
    async fn open(&mut self) -> Result<bool> {
        if self.cursor.is_some() {
            return Ok(true);
        }
        let (output, key, section) = (Arc::clone(&self.output), self.key.clone(), self.wanted.section);
        let open = move || if output.has(&key) { output.read(&key, section) } else { Ok(None) };
        let opened = self.output.blocking(&self.key, open).await;
        let opened = opened.map_err(|cause| self.unreadable(&cause))?;
        self.cursor = opened.map(|cursor| if self.wanted.follow { cursor.following() } else { cursor });
        Ok(self.cursor.is_some())
    }

    fn unreadable(&self, cause: &std::io::Error) -> Error {
        unreadable(&self.output, &self.key, cause)
    }
}

fn unreadable(output: &Output, key: &Key, cause: &std::io::Error) -> Error {
    let file = output.live_file(key);
    Error::new(Code::StoreUnavailable, "the log cannot be read")
        .with("process_id", key)
        .with("log", file.display())
        .caused_by(cause)
        .suggest(format!("ls -l {}: the launcher's user must be able to read it", file.display()))
}

#[cfg(test)]
mod tests;
