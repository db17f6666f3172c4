//! The decision for one key: what is wished for against what is observed, now.

use super::verdict::{Action, Drift, Reason, StopCause, Verdict};
use crate::model::{Circuit, DesiredState, Memory, Moment, Policy, StartSpec, Suspension};
use crate::observed::{Observed, Phase, Run};
use std::sync::Arc;
use std::time::Duration;

/// How long the removal of an expired file is given before it is asked for again: it takes two syncs of a disk.
const EXPIRE_AGAIN: Duration = Duration::from_secs(5);

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
    let verdict = decide_phase(wish, observed, policy, now);
    match observed.memory.expires() {
        Some(at) if wish == Wish::Declared && now.reached(at) => decide_expired(verdict, observed.expiring, now),
        Some(at) if wish == Wish::Declared => verdict.no_later_than(at),
        Some(_) | None => verdict,
    }
}

/// What to do about a key whose `ttl` is over, in place of `verdict`. Until its file is gone it is treated as declared,
/// except that nothing is started.
fn decide_expired(verdict: Verdict, asked: Option<Moment>, now: Moment) -> Verdict {
    match (verdict.action, asked.map(|at| at.after(EXPIRE_AGAIN))) {
        (Action::Kill, _) => verdict,
        (Action::Launch, Some(again)) if !now.reached(again) => Verdict::wait(Reason::Expired, again),
        (_, Some(again)) if !now.reached(again) => verdict.no_later_than(again),
        (_, Some(_) | None) => Verdict::act(Action::Expire, Reason::Expired),
    }
}

fn decide_phase(wish: Wish, observed: &Observed, policy: &Policy, now: Moment) -> Verdict {
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
    if let Some(suspension) = &memory.suspension {
        return decide_suspended(suspension, now);
    }
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

/// A suspended key of which nothing lives.
fn decide_suspended(suspension: &Suspension, now: Moment) -> Verdict {
    match suspension.until {
        Some(at) if now.reached(at) => Verdict::act(Action::Resume, Reason::SuspensionOver),
        Some(at) => Verdict::wait(Reason::suspended(suspension), at),
        None => Verdict::nothing(Reason::suspended(suspension)),
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
            if let Some(suspension) = &memory.suspension {
                return if suspension.until.is_some_and(|at| now.reached(at)) {
                    Verdict::act(Action::Resume, Reason::SuspensionOver)
                } else {
                    stop(StopCause::Suspended)
                };
            }
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
