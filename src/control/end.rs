//! Ending a launched instance.

use super::Control;
use crate::error::{Code, Error, Result};
use crate::model::{Caller, Key, KeyStatus, ProcessState, RunId};
use crate::observed::Ask;
use std::sync::Arc;
use std::time::Duration;

/// How a launched instance is to be ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Termination {
    /// From the stop signal to the killing of the whole tree, if that is shorter than its own grace period.
    pub grace: Option<Duration>,
}

impl Termination {
    /// With its own grace period.
    pub const fn graceful() -> Self {
        Self { grace: None }
    }

    /// With this grace period, if its own is not shorter.
    pub const fn within(grace: Duration) -> Self {
        Self { grace: Some(grace) }
    }

    /// Killed at once.
    pub const fn forced() -> Self {
        Self { grace: Some(Duration::ZERO) }
    }
}

impl Control {
    /// Removes the launched file of a key, and returns when the whole tree of its process is gone. A launch of the key
    /// meanwhile starts another process afterwards.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND`; `DECLARED_BY_FILE` when a person's file declares it; `STORE_UNAVAILABLE` when the file
    /// cannot be removed or the launcher ends; `TERMINATION_FAILED` when the tree is still alive after it was killed.
    /// The launcher goes on trying then.
    pub async fn terminate(&self, key: &Key, how: Termination, by: &Caller) -> Result<()> {
        let before = self.known(key)?;
        if before.desired.is_some() {
            match self.store.remove(key.clone(), how.grace, by.clone()).await {
                // Somebody else has just ended it, so that it is only waited for.
                Err(error) if error.code() == Code::ProcessNotFound => self.hasten(key, how, by).await?,
                removed => {
                    removed?;
                    self.board.chronicle().audited().await;
                }
            }
        } else {
            self.hasten(key, how, by).await?;
        }
        let Some(after) = self.board.status(key) else { return Ok(()) };
        // What is declared again and not ending is another run, which somebody has launched meanwhile.
        let is_its_own = after.desired.is_none() || after.state == ProcessState::Terminating;
        self.wait_until_gone(key, if is_its_own { after.run_id } else { before.run_id }).await
    }

    async fn hasten(&self, key: &Key, how: Termination, by: &Caller) -> Result<()> {
        let Some(grace) = how.grace else { return Ok(()) };
        match self.ask(key, Ask::Hasten(grace), by).await {
            // Nothing is left of it, or it has been launched again.
            Err(error) if error.code() == Code::ProcessNotFound => Ok(()),
            asked => asked.map(drop),
        }
    }

    /// Waits until nothing of this run lives.
    pub(super) async fn wait_until_gone(&self, key: &Key, run: Option<RunId>) -> Result<()> {
        let Some(run) = run else { return Ok(()) };
        self.wait(key, |status| match status {
            Some(status) if status.run_id == Some(run) => stuck(key, status).map(Err),
            Some(_) | None => Some(Ok(())),
        })
        .await
    }
}

/// Why a tree that was killed still lives.
fn stuck(key: &Key, status: &Arc<KeyStatus>) -> Option<Error> {
    let condition = status.conditions.iter().find(|condition| condition.kind == "TerminationFailed")?;
    let error = Error::new(Code::TerminationFailed, format!("the process tree of '{key}' does not end"));
    let pid = status.pid.map_or_else(String::new, |pid| format!(": cat /proc/{pid}/stack"));
    Some(
        error
            .with("process_id", key)
            .because(condition.message.clone())
            .suggest(format!("see what it hangs in{pid}; the launcher goes on trying, and starts nothing beside it")),
    )
}
