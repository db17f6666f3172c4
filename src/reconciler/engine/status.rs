//! The published view of a key.

use super::{Claim, Engine, Entry};
use crate::model::{
    Circuit, Condition, DesiredState, Generation, Key, KeyStatus, LimitsEffective, Memory, Moment, Ports, ProcessState,
    SuspensionStatus, VerdictStatus,
};
use crate::observed::{Phase, RunView};
use crate::plan::Reason;

impl Engine {
    /// Where a key stands; `None` for one that is not known.
    pub fn status(&self, key: &Key, now: Moment) -> Option<KeyStatus> {
        let entry = self.entries.get(key)?;
        let memory = &entry.observed.memory;
        let run = entry.observed.phase.view();
        let ports: Option<Ports> = run.as_ref().map(|run| run.ports).or(memory.ports);
        let declared = (entry.claim == Claim::Declared).then_some(&memory.instance);
        let no_room =
            if let Reason::AwaitingQuota(full) = &entry.verdict.reason { Some(full.error(key)) } else { None };
        let failure = entry.observed.blocked.as_ref().or(no_room.as_ref()).or(memory.last_error.as_ref());
        Some(KeyStatus {
            process_id: key.clone(),
            pattern_name: memory.instance.pattern.as_str().to_owned(),
            namespace: memory.instance.isolation.namespace().map(ToString::to_string).unwrap_or_default(),
            session_id: memory.instance.isolation.session().map(ToString::to_string).unwrap_or_default(),
            isolation: memory.instance.isolation.level(),
            desired: declared.map(|instance| instance.content.state),
            state: self.state(entry),
            healthy: matches!(&entry.observed.phase, Phase::Running(run) if run.record.stop.is_none() && run.health.is_healthy()),
            pid: run.as_ref().and_then(|run| run.pid),
            run_id: run.as_ref().map(|run| run.run),
            started_at_boot_seconds: run.as_ref().map(|run| run.started.since_boot.as_secs_f64()),
            ports,
            address: ports.map(|ports| format!("127.0.0.1:{}", ports.grpc)),
            limits_effective: limits(entry).cloned(),
            tracking: run.as_ref().and_then(|run| run.tracking).map(str::to_owned),
            isolation_effective: run.as_ref().map(|run| run.confinement.clone()).unwrap_or_default(),
            generation: memory.generation,
            observed_generation: observed_generation(entry, run.as_ref()),
            error_count: memory.streak,
            restart_count: memory.restarts,
            circuit_open: memory.circuit != Circuit::Closed,
            last_error: failure.map(ToString::to_string),
            declared_at: declared.map(|instance| instance.origin.to_string()),
            api_managed: declared.is_some_and(|instance| instance.origin.api_managed),
            asked_by: memory.asked_by.as_ref().map(ToString::to_string),
            suspension: memory.suspension.as_ref().map(|suspension| SuspensionStatus {
                reason: suspension.reason.clone(),
                by: suspension.by.to_string(),
                ends_at_boot_seconds: suspension.until.map(|until| until.since_boot.as_secs_f64()),
            }),
            expires_at_boot_seconds: declared.and(memory.expires()).map(|at| at.since_boot.as_secs_f64()),
            verdict: VerdictStatus {
                action: entry.verdict.action.as_str().to_owned(),
                reason: entry.verdict.reason.to_string(),
                looks_again_in_seconds: entry.verdict.wake_at.map(|at| now.until(at).as_secs_f64()),
            },
            conditions: self.conditions(entry),
            differences: self.differences(key),
            failure: failure.cloned(),
            failed_run: memory.failed.filter(|_| entry.observed.blocked.is_none()),
            declared: declared.cloned(),
        })
    }

    fn state(&self, entry: &Entry) -> ProcessState {
        let memory = &entry.observed.memory;
        match &entry.observed.phase {
            Phase::Running(run) if run.record.stop.is_some() => ProcessState::Terminating,
            Phase::Running(run) if run.health.ready_by.is_some() => ProcessState::Starting,
            Phase::Running(_) => ProcessState::Running,
            Phase::Ending(_) => ProcessState::Terminating,
            Phase::Idle if entry.observed.blocked.is_some() => ProcessState::Failed,
            Phase::Idle if self.shutdown.is_some() || entry.claim != Claim::Declared => ProcessState::Terminated,
            Phase::Idle if is_off(memory) => ProcessState::Terminated,
            Phase::Idle if memory.finished.is_some() => ProcessState::Finished,
            Phase::Idle if matches!(memory.circuit, Circuit::Open { .. }) => ProcessState::Failed,
            Phase::Starting(_) | Phase::Idle => ProcessState::Starting,
        }
    }

    fn conditions(&self, entry: &Entry) -> Vec<Condition> {
        let mut all = entry.conditions.clone();
        let mut add = |kind: &str, message: String| all.push(Condition { kind: kind.to_owned(), message });
        if let Some(error) = &entry.stuck {
            add("TerminationFailed", error.to_string());
        }
        if let Some(error) = &entry.observed.blocked {
            add("RecordUnverifiable", error.to_string());
        }
        if let Reason::AwaitingRollout(other) = &entry.verdict.reason
            && let Some(memory) = self.entries.get(other).map(|entry| &entry.observed.memory)
            && let (true, Some(error)) = (memory.streak > 0, &memory.last_error)
        {
            add("RolloutBlocked", format!("the replacement of {other} fails: {error}"));
        }
        if let Some(limits) = limits(entry).filter(|limits| !limits.not_enforced.is_empty()) {
            add("LimitsNotEnforced", limits.missing_in_words());
        }
        if let reason @ Reason::HeldByPattern(_) = &entry.verdict.reason {
            add("HealthRestartHeld", reason.to_string());
        }
        if let reason @ Reason::AwaitingTrial(_) = &entry.verdict.reason {
            add("VersionPaused", reason.to_string());
        }
        if let reason @ Reason::AwaitingQuota(_) = &entry.verdict.reason {
            add("WaitingForQuota", reason.to_string());
        }
        all
    }
}

/// Which limits of what lives are in force.
fn limits(entry: &Entry) -> Option<&LimitsEffective> {
    let lives = entry.observed.run();
    entry.limits.as_ref().filter(|(run, limits)| lives == Some(*run) && !limits.is_empty()).map(|(_, limits)| limits)
}

/// Whether nothing of it should run, by its file or by request.
fn is_off(memory: &Memory) -> bool {
    memory.suspension.is_some() || memory.instance.content.state == DesiredState::Stopped
}

fn observed_generation(entry: &Entry, run: Option<&RunView>) -> Generation {
    let memory = &entry.observed.memory;
    match run {
        Some(run) => run.generation,
        None if is_off(memory) || memory.finished.is_some() => memory.generation,
        None => Generation(0),
    }
}
