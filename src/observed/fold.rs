//! How events change what is known of a key.

use super::event::ProbeOutcome;
use super::state::Health;
use crate::error::Error;
use crate::model::{
    Circuit, Content, ExitReason, Finished, HealthCheck, Instance, Memory, Moment, Policy, RestartPolicy, RunId,
};
use crate::plan::backoff;
use std::sync::Arc;
use std::time::Duration;

/// What became of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterFailure {
    /// The next start comes after a delay.
    Restart,
    /// This failure opened the circuit, or a trial failed and left it open.
    CircuitOpened,
    /// The restart policy starts nothing again.
    Finished,
}

/// Counts one failure: the streak grows, and the circuit opens at `max_errors` or stays open after a failed trial. `run` is
/// the one that failed, if it was executed and so may have printed something.
pub fn failure(
    memory: &mut Memory,
    error: &Error,
    run: Option<RunId>,
    policy: &Policy,
    now: Moment,
    jitter: f64,
) -> AfterFailure {
    memory.last_error = Some(error.clone());
    memory.failed = run;
    if memory.instance.content.supervision.restart == RestartPolicy::Never {
        memory.finished = Some(Finished { exit: ExitReason::Unknown });
        return AfterFailure::Finished;
    }
    memory.streak = memory.streak.saturating_add(1);
    let failed_trials = match memory.circuit {
        Circuit::HalfOpen { failed_trials } => failed_trials.saturating_add(1),
        Circuit::Open { failed_trials, .. } => failed_trials,
        Circuit::Closed if memory.streak >= policy.max_errors => 0,
        Circuit::Closed => {
            let delay = backoff::with_jitter(backoff::base_delay(memory.streak, policy), jitter);
            memory.not_before = Some(now.after(delay));
            return AfterFailure::Restart;
        }
    };
    let retry_at =
        backoff::trial_delay(failed_trials, policy).map(|delay| now.after(backoff::with_jitter(delay, jitter)));
    memory.circuit = Circuit::Open { retry_at, failed_trials };
    memory.not_before = None;
    AfterFailure::CircuitOpened
}

/// Between two attempts at a start that the launcher could not carry out: what it lacked is noticed to be there again
/// within moments, and a disk that is full is not hammered by everything that waits for it.
const PUT_OFF: Duration = Duration::from_secs(1);

/// A start that failed through no fault of the instance comes later, never before the delay of its streak; streak and
/// circuit stay as they are.
pub fn put_off(memory: &mut Memory, error: &Error, policy: &Policy, now: Moment, jitter: f64) {
    memory.last_error = Some(error.clone());
    memory.failed = None;
    let delay = backoff::base_delay(memory.streak, policy).max(PUT_OFF);
    memory.not_before = Some(now.after(backoff::with_jitter(delay, jitter)));
}

/// Whether the restart policy takes this exit for the end.
pub const fn accepts(policy: RestartPolicy, exit: ExitReason) -> bool {
    match (policy, exit) {
        (RestartPolicy::Never, _) | (RestartPolicy::OnFailure, ExitReason::Code(0)) => true,
        (RestartPolicy::OnFailure | RestartPolicy::Always, _) => false,
    }
}

/// Takes over a new wish. The generation grows if and only if the content differs; a changed wish is a fresh start,
/// unless only its `ttl` has changed: streak, backoff, circuit and end are forgotten. A job that
/// ended well stays so when only how it would be looked after has changed: no other limit and no other default does it
/// twice. Returns whether it differed.
pub fn declare(memory: &mut Memory, instance: Arc<Instance>, now: Moment) -> bool {
    let before = std::mem::replace(&mut memory.instance, instance);
    let content = &memory.instance.content;
    let changed = before.content != *content;
    let afresh = !before.content.same_but_for_ttl(content);
    let same_work = before.content.launch == content.launch && before.content.state == content.state;
    let done = Finished { exit: ExitReason::Code(0) };
    let over =
        memory.finished.filter(|end| same_work && *end == done && accepts(content.supervision.restart, end.exit));
    if !memory.instance.origin.api_managed {
        (memory.asked_by, memory.renewed) = (None, None);
    } else if content.ttl.is_none() {
        memory.renewed = None;
    } else if before.content.ttl.is_none() || memory.renewed.is_none() {
        memory.renewed = Some(now);
    }
    if changed {
        memory.generation = memory.generation.next();
    }
    if afresh {
        forgive(memory);
        memory.finished = over;
        memory.last_error = None;
        memory.failed = None;
    }
    changed
}

/// Takes over the wish for a key that was ended by request: it is as if it had never been declared, apart from its ports,
/// its generation, and what its last run still has to be counted as.
pub fn declare_again(memory: &mut Memory, instance: Arc<Instance>, now: Moment) {
    declare(memory, instance, now);
    let fresh = Memory::new(Arc::clone(&memory.instance));
    let Memory { generation, ports, ended, renewed, .. } = *memory;
    *memory = Memory { generation, ports, ended, renewed: renewed.and(Some(now)), ..fresh };
}

/// Notes a launch for the `ttl`, unless the last that was noted is so recent that the slack covers this one. Returns
/// whether it was noted.
pub fn renew(memory: &mut Memory, now: Moment) -> bool {
    let Some(ttl) = memory.instance.content.ttl.filter(|_| memory.instance.origin.api_managed) else { return false };
    let covered = memory.renewed.is_some_and(|at| now.since(at) < Content::ttl_slack(ttl));
    if !covered {
        memory.renewed = Some(now);
    }
    !covered
}

/// Ends the streak and closes the circuit.
pub fn forgive(memory: &mut Memory) {
    memory.streak = 0;
    memory.not_before = None;
    memory.circuit = Circuit::Closed;
}

/// Counts one probe result against the thresholds.
pub fn probe(health: &mut Health, check: &HealthCheck, outcome: ProbeOutcome, now: Moment) {
    match outcome {
        ProbeOutcome::Success => {
            health.failures = 0;
            health.successes = health.successes.saturating_add(1);
            if health.successes >= check.success_threshold {
                health.ready_by = None;
                health.proven = true;
                health.healthy_since.get_or_insert(now);
            }
        }
        ProbeOutcome::Failure(text) => {
            health.successes = 0;
            health.failures = health.failures.saturating_add(1);
            health.last_failure = Some(text);
            if health.failures >= check.failure_threshold {
                health.healthy_since = None;
            }
        }
        ProbeOutcome::Error(text) => {
            health.last_failure = Some(text);
            // It is no fault of a process that it cannot be asked: it has its time once it can be.
            health.ready_by = health.ready_by.map(|by| by.later(now.after(check.startup_timeout)));
        }
    }
}
