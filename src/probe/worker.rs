//! The worker of one run: wait, ask, report.

use super::Rightful;
use super::pace::Pace;
use super::target::Target;
use super::watch::{self, Clock, Presence};
use crate::model::{Answerer, HealthCheck, Key, RunId};
use crate::observed::{Event, ProbeOutcome};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, mpsc};
use tracing::Span;

/// Everything that probing one run needs.
pub(super) struct Worker {
    pub(super) key: Key,
    pub(super) run: RunId,
    pub(super) check: HealthCheck,
    pub(super) target: Target,
    pub(super) slots: Slots,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) clock: Clock,
    pub(super) rightful: Rightful,
    /// What is logged of it belongs to this.
    pub(super) span: Span,
}

/// Room for one more probe: within the namespace first, so that those that wait there hold nobody else up.
pub(super) struct Slots {
    pub(super) namespace: Arc<Semaphore>,
    pub(super) all: Arc<Semaphore>,
}

impl Slots {
    async fn take(&self) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), AcquireError> {
        let namespace = self.namespace.acquire().await?;
        Ok((namespace, self.all.acquire().await?))
    }
}

impl Worker {
    /// Probes until nobody listens any more; it is ended by being dropped.
    pub(super) async fn work(self) {
        let mut pace = Pace::new(&self.check, &self.key);
        let begun = (self.clock)();
        let mut wait = pace.first();
        // Asked before it is told that it answers, and not again while it does: it takes longer than most probes.
        let mut rightful = false;
        loop {
            let slept = watch::sleep(wait, &self.clock).await;
            let Ok(slot) = self.slots.take().await else { return };
            let before = (self.clock)();
            // Pinned here, as everything that takes it by value would move it.
            let asking = pin!(self.target.ask(self.check.timeout));
            let (outcome, asked) = watch::attend(asking, &self.clock).await;
            let unasked = !rightful && self.check.answered_by == Answerer::Own;
            let outcome = if unasked && outcome == ProbeOutcome::Success { self.confirmed().await } else { outcome };
            rightful = outcome == ProbeOutcome::Success;
            drop(slot);
            let now = (self.clock)();
            let outcome = excuse(outcome, slept.and(asked));
            // Named here and not entered, which would cost as much as some of the system calls of a probe.
            tracing::debug!(parent: &self.span, ?outcome, took = ?now.since(before), "probed");
            wait = pace.after(&outcome, now.since(before), probed_for(now.since(begun)));
            wait = pace.together(now.since_boot, wait);
            let event = Event::Probed { key: self.key.clone(), run: self.run, outcome };
            if self.events.send(event).await.is_err() {
                return;
            }
        }
    }

    /// A success, unless somebody else has answered.
    async fn confirmed(&self) -> ProbeOutcome {
        match self.rightful.ask().await {
            None => ProbeOutcome::Success,
            Some(who) => ProbeOutcome::Failure(format!("something answered, but {who}")),
        }
    }
}

/// A failure in our own absence says nothing about the process.
fn excuse(outcome: ProbeOutcome, presence: Presence) -> ProbeOutcome {
    match (outcome, presence) {
        (ProbeOutcome::Failure(why), Presence::Absent) => {
            ProbeOutcome::Error(format!("{why}, but the launcher itself was stopped meanwhile"))
        }
        (outcome, _) => outcome,
    }
}

/// A day is as long as any start takes; a clock of another boot would say for ever.
fn probed_for(since: Duration) -> Duration {
    since.min(Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_failure_is_excused_by_absence() {
        let failure = ProbeOutcome::Failure("no answer".to_owned());
        assert!(matches!(excuse(failure.clone(), Presence::Absent), ProbeOutcome::Error(_)));
        assert_eq!(excuse(failure.clone(), Presence::Present), failure);
        assert_eq!(excuse(ProbeOutcome::Success, Presence::Absent), ProbeOutcome::Success);
    }
}
