//! The thread that writes memories: it alone waits for the disk.

use super::log::{MemoryLog, Op};
use super::queue::Queue;
use super::unavailable;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Between two attempts after a failure: a full disk is noticed to have space again within seconds, and is not
/// hammered meanwhile.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_CAP: Duration = Duration::from_secs(5);

/// The running thread. Dropping it makes one last attempt to write what is left, and waits for its end.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(super) fn start(log: MemoryLog, queue: Arc<Queue>) -> io::Result<Self> {
        let theirs = Arc::clone(&queue);
        let thread = std::thread::Builder::new().name("records".to_owned()).spawn(move || write_all(log, &theirs))?;
        Ok(Self { queue, thread: Some(thread) })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

fn write_all(mut log: MemoryLog, queue: &Queue) {
    let mut delay = None;
    while let Some(group) = queue.take(delay) {
        match append(&mut log, group.values()) {
            Ok(()) => {
                if delay.take().is_some() {
                    tracing::info!(path = %log.path().display(), "records are written again");
                }
                queue.written(log.identity());
            }
            Err(error) => {
                let error = unavailable("What is remembered cannot be written", log.path(), &error);
                if delay.is_none() {
                    tracing::error!(%error, waiting = group.len(), "records cannot be written");
                }
                delay = Some(delay.map_or(RETRY_FIRST, |delay| (delay * 2).min(RETRY_CAP)));
                if queue.failed(group, &error) {
                    return;
                }
            }
        }
    }
}

fn append<'a>(log: &mut MemoryLog, ops: impl Iterator<Item = &'a Op>) -> io::Result<()> {
    log.append(ops)?;
    if log.is_bloated()
        && let Err(error) = log.compact()
    {
        // What was appended is on disk; the log is merely longer than it need be.
        tracing::warn!(path = %log.path().display(), %error, "the log of memories could not be compacted");
    }
    Ok(())
}
