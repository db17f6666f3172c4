//! What the engine does about a decision: it changes its own books and asks for effects.

use super::{Claim, Engine, Pace};
use crate::error::{Code, Error};
use crate::model::{Caller, Circuit, Finished, Key, Memory, Moment, Rollout, RunId, StopProgress};
use crate::observed::fold::{self, AfterFailure};
use crate::observed::{Phase, Stage, Start};
use crate::plan::{Drift, Effect, Note, NoteLevel, PROCESS_FAILED, PrepareRequest, Reason, StopCause};
use crate::reconciler::engine::Dice;
use std::time::Duration;

impl Engine {
    /// Begins a start that was admitted.
    pub(super) fn start(&mut self, key: &Key, now: Moment, dice: &mut dyn Dice) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if !matches!(entry.observed.phase, Phase::Idle) {
            return;
        }
        let memory = &mut entry.observed.memory;
        let preferred = memory.instance.content.launch.pattern.preferred_port;
        let known = memory.ports.filter(|ports| self.ports.restore(key, *ports));
        let ports = match known.map_or_else(|| self.ports.allocate(key, preferred, now), Ok) {
            Ok(ports) => ports,
            Err(error) => {
                self.starts.release(key);
                self.fail(key, &error, None, now, dice);
                self.dirty.insert(key.clone());
                return;
            }
        };
        memory.ports = Some(ports);
        if let Circuit::Open { failed_trials, .. } = memory.circuit {
            memory.circuit = Circuit::HalfOpen { failed_trials };
        }
        entry.memory_changed = true;
        let run = dice.run_id();
        let instance = std::sync::Arc::clone(&memory.instance);
        entry.stuck = None;
        entry.observed.phase = Phase::Starting(Start {
            run,
            instance: std::sync::Arc::clone(&instance),
            ports,
            since: now,
            stage: Stage::Preparing,
        });
        let unenforced = self.policy.unenforced;
        self.effects.push(Effect::Prepare(PrepareRequest { key: key.clone(), run, instance, ports, unenforced }));
        self.dirty.insert(key.clone());
    }

    /// Begins a stop, with its own grace period or with `limit` if that is shorter: it is on record before the signal is
    /// sent.
    pub(super) fn stop(
        &mut self,
        key: &Key,
        cause: StopCause,
        limit: Option<Duration>,
        now: Moment,
        dice: &mut dyn Dice,
    ) {
        if matches!(cause, StopCause::StartupTimeout | StopCause::Unhealthy) {
            self.fail_health(key, cause, now, dice);
        }
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Phase::Running(run) = &mut entry.observed.phase else { return };
        let memory = &mut entry.observed.memory;
        let supervision = &run.record.supervision;
        let grace = supervision.grace_period.min(limit.unwrap_or(Duration::MAX));
        let grace = if self.shutdown == Some(Pace::Hastened) { Duration::ZERO } else { grace };
        run.record.stop = Some(StopProgress { since: now, deadline: now.after(grace), signalled: false });
        let id = run.record.run;
        self.effects.push(Effect::StopProbe { key: key.clone(), run: id });
        entry.recovering |= cause == StopCause::Unhealthy;
        if cause == StopCause::Drift(Drift::Pattern) && memory.rollout == Rollout::None {
            memory.rollout = Rollout::Replacing;
            entry.memory_changed = true;
        }
        self.ask_to_end(key, now);
        self.starts.release(key);
        self.note(NoteLevel::Info, key, Some(id), "process asked to end", cause.to_string());
        self.dirty.insert(key.clone());
    }

    /// Sends the stop signal. It is on record before that, so that survivors of the main process keep their grace
    /// period, and after it, so that no later launcher sends it again.
    pub(super) fn ask_to_end(&mut self, key: &Key, now: Moment) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Phase::Running(run) = &mut entry.observed.phase else { return };
        let Some(stop) = run.record.stop.as_mut().filter(|stop| !stop.signalled) else { return };
        // The grace period begins with the signal, however long ago the stop was decided.
        let grace = stop.deadline.since(stop.since);
        *stop = StopProgress { since: now, deadline: now.after(grace), signalled: false };
        let before = Box::new(run.record.clone());
        let mut after = before.clone();
        after.stop = Some(StopProgress { since: now, deadline: now.after(grace), signalled: true });
        run.record.stop = after.stop;
        let signal = run.record.supervision.stop_signal;
        self.effects.push(Effect::SaveRun(before));
        self.effects.push(Effect::Signal { key: key.clone(), run: run.record.run, signal });
        self.effects.push(Effect::SaveRun(after));
    }

    /// Counts a failed health check or start-up, once for a run.
    fn fail_health(&mut self, key: &Key, cause: StopCause, now: Moment, dice: &mut dyn Dice) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Phase::Running(run) = &entry.observed.phase else { return };
        let id = run.record.run;
        if entry.observed.memory.ended == Some(id) {
            return;
        }
        entry.observed.memory.ended = Some(id);
        let (code, message) = match cause {
            StopCause::StartupTimeout => {
                (Code::ProcessStartFailed, format!("'{key}' was not healthy within its startup_timeout"))
            }
            StopCause::Unhealthy
            | StopCause::Removed
            | StopCause::Stopped
            | StopCause::Suspended
            | StopCause::Restart
            | StopCause::Drift(_)
            | StopCause::Shutdown => (
                Code::HealthCheckFailed,
                format!("'{key}' failed its health check {} times in a row", run.health.failures),
            ),
        };
        let error = Error::new(code, message)
            .with("pid", run.record.process.pid)
            .with("health_port", run.record.ports.health)
            .because(run.health.last_failure.clone().unwrap_or_else(|| "no probe has been answered yet".to_owned()))
            .suggest(format!("read what it printed: {}", last_lines(key)));
        self.fail(key, &error, Some(id), now, dice);
    }

    /// Orders the whole tree to be killed.
    pub(super) fn kill(&mut self, key: &Key) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let run = match &mut entry.observed.phase {
            Phase::Running(run) => {
                run.killing = true;
                run.record.run
            }
            Phase::Ending(ending) => {
                ending.killing = true;
                ending.record.run
            }
            Phase::Idle | Phase::Starting(_) => return,
        };
        self.effects.push(Effect::KillTree { key: key.clone(), run });
        self.note(NoteLevel::Warn, key, Some(run), "process tree killed", Reason::GraceOver.to_string());
        self.dirty.insert(key.clone());
    }

    /// Ends the streak of a process that has been healthy for long enough.
    pub(super) fn settle(&mut self, key: &Key) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let was_open = entry.observed.memory.circuit != Circuit::Closed;
        fold::forgive(&mut entry.observed.memory);
        entry.memory_changed = true;
        if was_open {
            self.note(NoteLevel::Info, key, None, "circuit closed", Reason::Stable.to_string());
        }
        self.dirty.insert(key.clone());
    }

    /// Ends a suspension that has lasted for as long as it was to.
    pub(super) fn resume_by_itself(&mut self, key: &Key) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.observed.memory.suspension = None;
        entry.memory_changed = true;
        self.note(NoteLevel::Info, key, None, "resumed", Reason::SuspensionOver.to_string());
        self.dirty.insert(key.clone());
    }

    /// Has the file of a key removed whose `ttl` is over.
    pub(super) fn expire(&mut self, key: &Key, now: Moment) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let first = entry.observed.expiring.replace(now).is_none();
        self.effects.push(Effect::Expire { key: key.clone() });
        if first {
            self.note(NoteLevel::Info, key, None, "launch expired", Reason::Expired.to_string());
        }
        self.dirty.insert(key.clone());
    }

    /// Forgets a key of which nothing is left.
    pub(super) fn forget(&mut self, key: &Key) {
        let Some(entry) = self.entries.remove(key) else { return };
        if let Some(at) = entry.wake {
            self.wakes.remove(&(at, key.clone()));
        }
        if let Some(ports) = entry.observed.memory.ports {
            self.ports.release(key, ports);
        }
        self.starts.release(key);
        self.effects.push(Effect::DropMemory(key.clone()));
        self.changed.insert(key.clone());
    }

    /// Counts a failure and says what follows from it. `executed` is the run that failed, if it came to be executed.
    pub(super) fn fail(&mut self, key: &Key, error: &Error, executed: Option<RunId>, now: Moment, dice: &mut dyn Dice) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let memory = &mut entry.observed.memory;
        entry.memory_changed = true;
        let run = memory.ended;
        // A health restart that others wait for has come to nothing; where this is one, it begins after this.
        entry.recovering = false;
        self.effects.push(Effect::Failed { key: key.clone(), code: error.code() });
        let after = fold::failure(memory, error, executed, &self.policy, now, dice.jitter());
        if after == AfterFailure::CircuitOpened {
            let opened = circuit_error(key, memory, error);
            memory.last_error = Some(opened.clone());
            self.note(NoteLevel::Warn, key, run, PROCESS_FAILED, error.to_string());
            self.note(NoteLevel::Error, key, run, "circuit opened", opened.to_string());
        } else {
            self.note(NoteLevel::Warn, key, run, PROCESS_FAILED, error.to_string());
        }
        self.changed.insert(key.clone());
    }

    /// A start that the launcher could not carry out is tried again after a while, and counts as nothing.
    pub(super) fn put_off(&mut self, key: &Key, error: &Error, now: Moment, dice: &mut dyn Dice) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let memory = &mut entry.observed.memory;
        let told = memory.last_error.as_ref() == Some(error);
        fold::put_off(memory, error, &self.policy, now, dice.jitter());
        entry.memory_changed = true;
        if !told {
            self.note(NoteLevel::Warn, key, None, "start put off", error.to_string());
        }
        self.changed.insert(key.clone());
    }

    /// Takes an exit that the restart policy accepts for the end.
    pub(super) fn finish(&mut self, key: &Key, finished: Finished, error: Option<Error>) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let memory = &mut entry.observed.memory;
        fold::forgive(memory);
        memory.finished = Some(finished);
        memory.failed = memory.ended.filter(|_| error.is_some());
        memory.last_error = error;
        entry.memory_changed = true;
        self.note(NoteLevel::Info, key, None, "process finished", finished.exit.to_string());
    }

    /// Removes the record of a run of which nothing is left.
    pub(super) fn bury(&mut self, key: &Key, run: RunId) {
        self.starts.release(key);
        self.effects.push(Effect::DropRun { key: key.clone(), run });
        if let Some(entry) = self.entries.get_mut(key) {
            entry.observed.phase = Phase::Idle;
            entry.stuck = None;
            entry.limits = None;
            entry.doomed = None;
            if entry.observed.blocked.is_none() {
                entry.observed.blocked = self.blocked.blockage(key);
            }
            if entry.claim == Claim::Unclaimed && self.complete {
                entry.claim = Claim::Withdrawn;
            }
        }
        self.dirty.insert(key.clone());
    }

    pub(super) fn note(
        &mut self,
        level: NoteLevel,
        key: &Key,
        run: Option<RunId>,
        message: &'static str,
        reason: String,
    ) {
        self.effects.push(Effect::Note(Note { level, key: key.clone(), run, message, reason, by: None }));
    }

    /// Tells people that somebody asked for something.
    pub(super) fn note_asked(&mut self, key: &Key, run: Option<RunId>, by: &Caller, message: &'static str, what: &str) {
        let reason = if what.is_empty() { "by request".to_owned() } else { format!("by request: {what}") };
        let by = Some(by.clone());
        self.effects.push(Effect::Note(Note { level: NoteLevel::Info, key: key.clone(), run, message, reason, by }));
    }
}

/// The command that shows the last lines that a process printed.
pub(super) fn last_lines(key: &Key) -> String {
    format!("prismctl pattern logs {} --tail 20", Error::word(key.as_str()))
}

fn circuit_error(key: &Key, memory: &Memory, error: &Error) -> Error {
    let next = match memory.circuit {
        Circuit::Open { retry_at: Some(_), .. } => "it is tried again by itself after a while",
        Circuit::Open { retry_at: None, .. } | Circuit::Closed | Circuit::HalfOpen { .. } => "it stays off until then",
    };
    let declared = format!(
        "{} or {}",
        memory.instance.content.launch.pattern.folder.join("manifest.yaml").display(),
        memory.instance.origin
    );
    let reset = format!("prismctl pattern reset {}", Error::word(key.as_str()));
    // What was never executed has printed nothing; its own suggestion is the right one. What that says may change no content,
    // which is what closes the circuit.
    let remedy = match (error.code(), error.suggestion()) {
        (Code::ProcessCrashed | Code::ProcessStartFailed | Code::HealthCheckFailed, _) | (_, None) => {
            let find_out = last_lines(key);
            format!(
                "find out why with {find_out}, then correct {declared}: the change closes the circuit, and so does {reset}"
            )
        }
        (_, Some(own)) => format!("{own}; then close the circuit with {reset}, or by a change of {declared}"),
    };
    Error::new(Code::MaxErrorsExceeded, format!("'{key}' failed {} times in a row and is not restarted", memory.streak))
        .with("process_id", key)
        .with("declared_at", &memory.instance.origin)
        .because(error.summary())
        .suggest(format!("{remedy}; {next}"))
}
