//! The decision for one key: what is wished for against what is observed, now.

use super::verdict::{Action, Drift, Reason, StopCause, Verdict};
use crate::model::{Circuit, DesiredState, Memory, Moment, Policy, StartSpec};
use crate::observed::{Observed, Phase, Run};
use std::sync::Arc;

/// What is wished for a key, apart from the content of the wish, which its memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// It is declared.
    Declared,
    /// It was declared for an earlier launcher, and not every root has been read since: nothing is started.
    Restored,
    /// A run of it was found that nothing is known to declare, and not every root has been read: nothing is done.
    Unclaimed,
    /// Nothing declares it any more.
    Withdrawn,
    /// The launcher ends everything before it ends itself.
    Shutdown,
}

/// Decides what to do about one key now.
pub fn decide(wish: Wish, observed: &Observed, policy: &Policy, now: Moment) -> Verdict {
    match &observed.phase {
        Phase::Idle => decide_idle(wish, observed, now),
        Phase::Starting(_) => Verdict::nothing(Reason::StartUnderWay),
        Phase::Running(run) => decide_running(wish, &observed.memory, run, policy, now),
        Phase::Ending(ending) if ending.killing => Verdict::nothing(Reason::Killing),
        Phase::Ending(ending) => match ending.record.stop {
            Some(stop) if !now.reached(stop.deadline) => {
                Verdict::wait(Reason::Grace(now.until(stop.deadline)), stop.deadline)
            }
            Some(_) | None => Verdict::act(Action::Kill, Reason::GraceOver),
        },
    }
}

fn decide_idle(wish: Wish, observed: &Observed, now: Moment) -> Verdict {
    if observed.blocked.is_some() {
        return Verdict::nothing(Reason::Blocked);
    }
    match wish {
        Wish::Declared => decide_start(&observed.memory, now),
        Wish::Restored | Wish::Unclaimed => Verdict::nothing(Reason::AwaitingScan),
        Wish::Withdrawn => Verdict::act(Action::Forget, Reason::Gone),
        Wish::Shutdown => Verdict::nothing(Reason::ShuttingDown),
    }
}

/// A declared key of which nothing lives.
fn decide_start(memory: &Memory, now: Moment) -> Verdict {
    if memory.instance.content.state == DesiredState::Stopped {
        return Verdict::nothing(Reason::Stopped);
    }
    if memory.finished.is_some() {
        return Verdict::nothing(Reason::Finished);
    }
    match (memory.circuit, memory.not_before) {
        (Circuit::Open { retry_at: None, .. }, _) => Verdict::nothing(Reason::CircuitOpen(None)),
        (Circuit::Open { retry_at: Some(at), .. }, _) if !now.reached(at) => {
            Verdict::wait(Reason::CircuitOpen(Some(now.until(at))), at)
        }
        (Circuit::Open { .. }, _) => Verdict::act(Action::Launch, Reason::TrialDue),
        (Circuit::Closed | Circuit::HalfOpen { .. }, Some(at)) if !now.reached(at) => {
            Verdict::wait(Reason::Backoff { streak: memory.streak, left: now.until(at) }, at)
        }
        (Circuit::Closed | Circuit::HalfOpen { .. }, _) => Verdict::act(Action::Launch, Reason::Missing),
    }
}

fn decide_running(wish: Wish, memory: &Memory, run: &Run, policy: &Policy, now: Moment) -> Verdict {
    if let Some(stop) = run.record.stop {
        return if run.killing {
            Verdict::nothing(Reason::Killing)
        } else if now.reached(stop.deadline) {
            Verdict::act(Action::Kill, Reason::GraceOver)
        } else {
            Verdict::wait(Reason::Grace(now.until(stop.deadline)), stop.deadline)
        };
    }
    let stop = |cause| Verdict::act(Action::Terminate(cause), Reason::Ending(cause));
    match wish {
        Wish::Shutdown => stop(StopCause::Shutdown),
        Wish::Withdrawn => stop(StopCause::Removed),
        Wish::Unclaimed => Verdict::nothing(Reason::AwaitingScan),
        Wish::Declared | Wish::Restored => {
            if memory.instance.content.state == DesiredState::Stopped {
                return stop(StopCause::Stopped);
            }
            // Its stop had been decided, and counted, when an earlier launcher died.
            if memory.ended == Some(run.record.run) {
                return stop(StopCause::Unhealthy);
            }
            match drift(&run.record.launch, &memory.instance.content.launch) {
                Some(drift) => stop(StopCause::Drift(drift)),
                None => decide_health(memory, run, policy, now),
            }
        }
    }
}

/// In what a process that was started from `runs` differs from `declared`.
pub fn drift(runs: &Arc<StartSpec>, declared: &Arc<StartSpec>) -> Option<Drift> {
    if Arc::ptr_eq(runs, declared) || runs == declared {
        None
    } else if runs.pattern == declared.pattern {
        Some(Drift::Instance)
    } else {
        Some(Drift::Pattern)
    }
}

/// A process that runs as declared: whether it is healthy, and for how long.
fn decide_health(memory: &Memory, run: &Run, policy: &Policy, now: Moment) -> Verdict {
    let stop = |cause| Verdict::act(Action::Terminate(cause), Reason::Ending(cause));
    match (run.health.ready_by, run.health.healthy_since) {
        (Some(at), _) if now.reached(at) => stop(StopCause::StartupTimeout),
        (Some(at), _) => Verdict::wait(Reason::Starting, at),
        (None, None) if run.health.proven => stop(StopCause::Unhealthy),
        (None, None) => Verdict::nothing(Reason::Unproven),
        (None, Some(since)) => {
            let stable_at = since.after(policy.stable_after);
            if memory.streak == 0 && memory.circuit == Circuit::Closed {
                Verdict::nothing(Reason::InSync)
            } else if now.reached(stable_at) {
                Verdict::act(Action::Settle, Reason::Stable)
            } else {
                Verdict::wait(Reason::InSync, stable_at)
            }
        }
    }
}

#[cfg(test)]
mod tests;
