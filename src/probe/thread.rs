//! The thread that asks. All probes share one: they wait more than they work, and on several threads each answer would
//! wake one of them, which costs more than to read it.
//!
//! Guarantee: when this is dropped, every worker has ended, and nothing of an exec probe is left.

use crate::error::{Code, Error, Result};
use std::io;
use std::thread::JoinHandle;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// What kernel, debugger and `top` show.
const NAME: &str = "prober";

#[derive(Debug)]
pub(super) struct ProbeThread {
    runtime: Handle,
    /// Dropped to end the thread.
    stay: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ProbeThread {
    pub(super) fn start() -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|cause| lacking(&cause))?;
        let handle = runtime.handle().clone();
        let (stay, leave) = oneshot::channel::<()>();
        // It never hears anything but that nobody is there any more. The runtime ends with the thread.
        let ask = move || drop(runtime.block_on(leave));
        let thread = std::thread::Builder::new().name(NAME.to_owned()).spawn(ask).map_err(|cause| lacking(&cause))?;
        Ok(Self { runtime: handle, stay: Some(stay), thread: Some(thread) })
    }

    /// Where workers are started.
    pub(super) const fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

impl Drop for ProbeThread {
    fn drop(&mut self) {
        drop(self.stay.take());
        if let Some(thread) = self.thread.take() {
            // It panics only where a worker does while it is dropped, and then has said so.
            thread.join().ok();
        }
    }
}

fn lacking(cause: &io::Error) -> Error {
    Error::new(Code::InternalError, "The thread that probes cannot be started")
        .caused_by(cause)
        .suggest("raise the limits of threads and open files: ulimit -u, ulimit -n")
}
