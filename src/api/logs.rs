//! What a process printed, read from its log file as it grows.

use super::proto::StreamLogsResponse;
use super::status;
use crate::error::{Code, Error, Result};
use crate::model::Key;
use crate::reconciler::Board;
use std::io::SeekFrom;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::fs::File;
use tokio::io::{AsyncReadExt as _, AsyncSeekExt as _};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// The most that is sent at once; a longer line goes in parts.
const CHUNK: usize = 64 * 1024;
/// Chunks on their way to a client; a client that does not read makes the reading wait.
pub(super) const CHUNKS: usize = 4;
/// How often a log that has been read to its end is looked at again.
const INTERVAL: Duration = Duration::from_millis(200);
/// How far back the last lines are looked for: lines are rarely that long, and reading more would not be a look at the
/// end.
const TAIL_BYTES: u64 = 64 << 20;

/// One reading of one log.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) key: Key,
    pub(super) path: PathBuf,
    /// Only so many last lines; `None` is all.
    pub(super) tail: Option<u64>,
    /// Whether to go on as more is printed, until nothing declares the key any more.
    pub(super) follow: bool,
    pub(super) board: Arc<Board>,
    pub(super) closing: CancellationToken,
    /// Held for as long as it goes on.
    pub(super) _slot: OwnedSemaphorePermit,
}

type Chunks = mpsc::Sender<Result<StreamLogsResponse, Status>>;

/// Why a reading goes no further.
enum End {
    /// All is read, or the client has gone.
    Done,
    /// It cannot be read.
    Failed(Error),
}

impl Reading {
    /// Whether there is anything to read, now or later.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND` when nothing declares the key and it has no log.
    pub(super) fn check(&self) -> Result<()> {
        if self.board.status(&self.key).is_some() || self.path.exists() {
            return Ok(());
        }
        Err(Error::new(Code::ProcessNotFound, "nothing declares this process, and it has no log")
            .with("process_id", &self.key)
            .with("log", self.path.display())
            .suggest("prismctl pattern list shows the ids of all processes"))
    }

    /// Sends until the end, until the client goes or until the launcher ends.
    pub(super) async fn run(self, to: Chunks) {
        let closing = self.closing.clone();
        let end = tokio::select! {
            biased;
            // Cancel-safe: a cancelled token stays cancelled.
            () = closing.cancelled() => Err(status::closing()),
            // Nothing of the reading is needed once the other arm has won.
            end = self.read(&to) => match end {
                End::Done => return,
                End::Failed(error) => Err(error.into()),
            },
        };
        // The client may not be reading, and then is not told.
        drop(to.try_send(end));
    }

    async fn read(&self, to: &Chunks) -> End {
        let mut tail = self.tail;
        loop {
            match File::open(&self.path).await {
                Ok(mut file) => {
                    let read = async {
                        if let Some(lines) = tail.take() {
                            start_of_tail(&mut file, lines).await?;
                        }
                        self.read_file(&mut file, to).await
                    };
                    match read.await {
                        Ok(Read::Replaced) => {}
                        Ok(Read::Ended) => return End::Done,
                        Err(cause) => return End::Failed(self.unreadable(&cause)),
                    }
                }
                Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => {
                    if self.is_over() || !self.pause(to).await {
                        return End::Done;
                    }
                }
                Err(cause) => return End::Failed(self.unreadable(&cause)),
            }
        }
    }

    /// Sends what is in a file from where it stands.
    async fn read_file(&self, file: &mut File, to: &Chunks) -> std::io::Result<Read> {
        let mut pending: Vec<u8> = Vec::with_capacity(CHUNK);
        loop {
            // Asked before the reading, so that what was printed before the key went is read.
            let is_over = self.is_over();
            let more = read_more(file, &mut pending).await?;
            let whole = match pending.iter().rposition(|byte| *byte == b'\n') {
                Some(newline) => newline + 1,
                // A line that fills the buffer is sent in parts.
                None if pending.len() >= CHUNK => pending.len(),
                None => 0,
            };
            if whole > 0 {
                let data = pending.drain(..whole).collect();
                if to.send(Ok(StreamLogsResponse { data })).await.is_err() {
                    return Ok(Read::Ended);
                }
            }
            if more {
                continue;
            }
            let replaced = self.is_replaced(file).await;
            let goes_on = !replaced && !is_over && self.pause(to).await;
            if !goes_on && !pending.is_empty() {
                // The last line has no end yet, and nobody waits for it here.
                drop(to.send(Ok(StreamLogsResponse { data: std::mem::take(&mut pending) })).await);
            }
            match (replaced, goes_on) {
                (true, _) if self.follow => return Ok(Read::Replaced),
                (_, false) => return Ok(Read::Ended),
                (_, true) => restart_if_cut(file).await?,
            }
        }
    }

    /// Whether nothing more will be printed that is wanted: a key that is gone prints nothing any more.
    fn is_over(&self) -> bool {
        !self.follow || self.board.status(&self.key).is_none()
    }

    /// Waits for more. False when nobody reads it.
    async fn pause(&self, to: &Chunks) -> bool {
        tokio::select! {
            // Cancel-safe: a closed channel stays closed.
            () = to.closed() => false,
            // A sleep holds nothing.
            () = tokio::time::sleep(INTERVAL) => true,
        }
    }

    async fn is_replaced(&self, file: &File) -> bool {
        let (Ok(open), Ok(named)) = (file.metadata().await, tokio::fs::metadata(&self.path).await) else {
            return false;
        };
        (open.dev(), open.ino()) != (named.dev(), named.ino())
    }

    fn unreadable(&self, cause: &std::io::Error) -> Error {
        Error::new(Code::StoreUnavailable, "the log cannot be read")
            .with("process_id", &self.key)
            .with("log", self.path.display())
            .caused_by(cause)
            .suggest(format!("ls -l {}: the launcher's user must be able to read it", self.path.display()))
    }
}

/// How the reading of a file ended.
enum Read {
    /// Another file has its name now.
    Replaced,
    /// Nothing more is wanted.
    Ended,
}

/// Fills up to a chunk; whether there may be more at once.
async fn read_more(file: &mut File, pending: &mut Vec<u8>) -> std::io::Result<bool> {
    let room = CHUNK.saturating_sub(pending.len()) as u64;
    let read = file.take(room).read_to_end(pending).await?;
    Ok(read > 0)
}

/// Begins anew when the file has become shorter than what was read of it.
async fn restart_if_cut(file: &mut File) -> std::io::Result<()> {
    let at = file.stream_position().await?;
    if file.metadata().await?.len() < at {
        file.seek(SeekFrom::Start(0)).await?;
    }
    Ok(())
}

/// Goes to where the last `lines` lines begin.
async fn start_of_tail(file: &mut File, lines: u64) -> std::io::Result<()> {
    let end = file.metadata().await?.len();
    let least = end.saturating_sub(TAIL_BYTES);
    let (mut at, mut missing) = (end, lines);
    let mut block = Vec::with_capacity(CHUNK);
    while at > least {
        let from = at.saturating_sub(CHUNK as u64).max(least);
        file.seek(SeekFrom::Start(from)).await?;
        block.clear();
        file.take(at - from).read_to_end(&mut block).await?;
        for (i, byte) in block.iter().enumerate().rev() {
            // The newline that ends the last line begins none.
            if *byte == b'\n' && from + i as u64 + 1 < end {
                if missing == 1 {
                    file.seek(SeekFrom::Start(from + i as u64 + 1)).await?;
                    return Ok(());
                }
                missing -= 1;
            }
        }
        at = from;
    }
    file.seek(SeekFrom::Start(least)).await?;
    Ok(())
}

#[cfg(test)]
mod tests;
