//! What events do to the books of the engine. An event of a run that is not the key's own any more changes nothing.

use super::enact::last_lines;
use super::{Claim, Dice, Engine};
use crate::error::{Code, Error};
use crate::model::{
    Circuit, ExitReason, Finished, Key, LimitsEffective, Memory, Moment, OomKill, RestartPolicy, Rollout, RunId,
    RunRecord,
};
use crate::observed::{Ending, Event, Fault, Health, Phase, PortKind, ProbeOutcome, Run, Stage, fold};
use crate::plan::decide::drift;
use crate::plan::{Drift, Effect, NoteLevel, PrepareRequest, Reason, StopCause};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    /// Takes in one event. What follows from it comes out of the next [`Engine::pass`].
    pub fn handle(&mut self, event: Event, now: Moment, dice: &mut dyn Dice) {
        let mark = self.effects.len();
        match event {
            Event::Desired(change) => self.on_desired(change, now, dice),
            Event::Prepared { key, run, process } => {
                self.on_prepared(&key, run, process);
                self.touch(&key, mark);
            }
            Event::Limited { key, run, limits } => self.on_limited(&key, run, limits),
            Event::Started { key, run } => {
                self.on_started(&key, run, now, dice);
                self.touch(&key, mark);
            }
            Event::StartFailed { key, run, error, fault } => {
                self.on_start_failed(&key, run, &error, fault, now, dice);
                self.touch(&key, mark);
            }
            Event::PortTaken { key, run, port, holder, listening } => {
                self.on_port_taken(&key, run, port, (holder, &listening), now, dice);
                self.touch(&key, mark);
            }
            Event::Exited { key, run, exit, oom, tree_gone } => {
                self.on_exited(&key, run, exit, oom, now, dice);
                if tree_gone {
                    self.on_tree_gone(&key, run);
                }
                self.touch(&key, mark);
            }
            Event::TreeGone { key, run } => {
                self.on_tree_gone(&key, run);
                self.touch(&key, mark);
            }
            Event::KillStuck { key, run, error } => {
                if let Some(entry) = self.entries.get_mut(&key).filter(|entry| entry.observed.run() == Some(run)) {
                    entry.stuck = Some(error.clone());
                    self.note(NoteLevel::Error, &key, Some(run), "process tree will not end", error.to_string());
                }
                self.touch(&key, mark);
            }
            Event::Orphans { left } => self.on_orphans(left),
            Event::Probed { key, run, outcome } => self.on_probed(&key, run, outcome, now),
        }
    }

    /// Nothing is started beside a process that no run accounts for: its key waits until it is gone.
    fn on_orphans(&mut self, left: Vec<(String, Error)>) {
        let changed = self.blocked.by_orphans(left);
        if changed.is_empty() {
            return;
        }
        let keys: Vec<Key> = self.entries.keys().filter(|key| changed.contains(&key.file_name())).cloned().collect();
        for key in keys {
            let blockage = self.blocked.blockage(&key);
            let Some(entry) = self.entries.get_mut(&key).filter(|entry| matches!(entry.observed.phase, Phase::Idle))
            else {
                // What runs goes on; its end takes the blockage in.
                continue;
            };
            entry.observed.blocked = blockage;
            self.changed.insert(key.clone());
            self.dirty.insert(key);
        }
    }

    /// Writes what changed for a key and has it decided in the next pass.
    pub(super) fn touch(&mut self, key: &Key, mark: usize) {
        self.settle_books(key, mark);
        self.dirty.insert(key.clone());
        self.changed.insert(key.clone());
    }

    /// Begins probing the run of a key as its record says, or stops it.
    pub(super) fn probe(&mut self, key: &Key) {
        let Some(entry) = self.entries.get(key) else { return };
        let Phase::Running(run) = &entry.observed.phase else { return };
        let (instance, id) = (&entry.observed.memory.instance, run.record.run);
        self.effects.push(match &run.record.supervision.healthcheck {
            Some(check) => Effect::Probe {
                key: key.clone(),
                run: id,
                check: check.clone(),
                instance: Arc::clone(instance),
                ports: run.record.ports,
                confinement: run.record.process.confinement.clone(),
            },
            None => Effect::StopProbe { key: key.clone(), run: id },
        });
    }

    fn on_prepared(&mut self, key: &Key, run: RunId, process: crate::model::ProcessIdentity) {
        let wanted = self.shutdown.is_none();
        let discard = Effect::Discard { key: key.clone(), run };
        let Some(entry) = self.entries.get_mut(key) else { return self.effects.push(discard) };
        let memory = &mut entry.observed.memory;
        match &mut entry.observed.phase {
            Phase::Starting(start) if start.run == run && matches!(start.stage, Stage::Preparing) => {
                let same = start.instance.content.same_but_for_ttl(&memory.instance.content);
                let doomed = entry.doomed.is_some_and(|(doomed, _)| doomed == run) || memory.suspension.is_some();
                if doomed || !(wanted && same && entry.claim == Claim::Declared) {
                    start.stage = Stage::Discarding;
                    return self.effects.push(discard);
                }
                let record = Box::new(RunRecord {
                    key: key.clone(),
                    run,
                    process,
                    launch: Arc::clone(&start.instance.content.launch),
                    supervision: start.instance.content.supervision.clone(),
                    ports: start.ports,
                    generation: memory.generation,
                    started: start.since,
                    executed: false,
                    stop: None,
                });
                start.stage = Stage::Committing(record.clone());
                if memory.streak > 0 {
                    memory.restarts = memory.restarts.saturating_add(1);
                    entry.memory_changed = true;
                }
                self.effects.push(Effect::Commit(record));
            }
            Phase::Idle | Phase::Starting(_) | Phase::Running(_) | Phase::Ending(_) => self.effects.push(discard),
        }
    }

    fn on_limited(&mut self, key: &Key, run: RunId, limits: LimitsEffective) {
        let Some(entry) = self.entries.get_mut(key).filter(|entry| entry.observed.run() == Some(run)) else { return };
        let told = Some((run, limits));
        if entry.limits == told {
            return;
        }
        entry.limits = told;
        if let Some((_, limits)) = entry.limits.as_ref().filter(|(_, limits)| !limits.not_enforced.is_empty()) {
            let missing = limits.missing_in_words();
            self.note(NoteLevel::Warn, key, Some(run), "limits not enforced", missing);
        }
        self.changed.insert(key.clone());
    }

    fn on_started(&mut self, key: &Key, run: RunId, now: Moment, dice: &mut dyn Dice) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Phase::Starting(start) = &entry.observed.phase else { return };
        let Stage::Committing(record) = &start.stage else { return };
        if record.run != run {
            return;
        }
        let check = record.supervision.healthcheck.as_ref();
        let health = Health::unknown(check, now);
        let reason = format!("{} (pid {})", start_reason(&entry.observed.memory), record.process.pid);
        let healthy = health.is_healthy();
        let record = RunRecord { executed: true, ..(**record).clone() };
        self.effects.push(Effect::SaveRun(Box::new(record.clone())));
        entry.observed.phase = Phase::Running(Box::new(Run { record, health, killing: false }));
        if healthy {
            self.starts.release(key);
        } else {
            self.probe(key);
        }
        // What was declared while it started may differ in how it is looked after.
        self.supervise(key, now);
        self.note(NoteLevel::Info, key, Some(run), "process started", reason);
        if let Some((_, grace)) = self.take_doomed(key, run) {
            self.stop(key, StopCause::Removed, grace, now, dice);
        }
    }

    /// Whether a run was ended by request before it was executed, and with which grace period at the longest.
    fn take_doomed(&mut self, key: &Key, run: RunId) -> Option<(RunId, Option<Duration>)> {
        self.entries.get_mut(key)?.doomed.take_if(|(doomed, _)| *doomed == run)
    }

    fn on_start_failed(
        &mut self,
        key: &Key,
        run: RunId,
        error: &Error,
        fault: Fault,
        now: Moment,
        dice: &mut dyn Dice,
    ) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Phase::Starting(start) = &entry.observed.phase else { return };
        if start.run != run {
            return;
        }
        // A start that is no longer wanted has failed at nothing.
        let doomed = entry.doomed.take_if(|(doomed, _)| *doomed == run).is_some();
        let discarded = doomed || matches!(start.stage, Stage::Discarding);
        match fault {
            _ if discarded => {}
            Fault::Instance => {
                entry.observed.memory.ended = Some(run);
                self.fail(key, error, None, now, dice);
            }
            Fault::Launcher => self.put_off(key, error, now, dice),
        }
        self.bury(key, run);
    }

    fn on_port_taken(
        &mut self,
        key: &Key,
        run: RunId,
        port: PortKind,
        (holder, listening): (Option<i32>, &BTreeSet<u16>),
        now: Moment,
        dice: &mut dyn Dice,
    ) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Phase::Starting(start) = &mut entry.observed.phase else { return };
        if start.run != run {
            return;
        }
        let before = start.ports;
        match self.ports.replace(key, before, port, listening, now) {
            Ok(ports) => {
                start.ports = ports;
                entry.observed.memory.ports = Some(ports);
                entry.memory_changed = true;
                let instance = Arc::clone(&start.instance);
                let unenforced = self.policy.unenforced;
                self.effects.push(Effect::Prepare(PrepareRequest {
                    key: key.clone(),
                    run,
                    instance,
                    ports,
                    unenforced,
                }));
                let holder =
                    holder.map_or_else(|| "a process that cannot be told".to_owned(), |pid| format!("pid {pid}"));
                let reason = match port {
                    PortKind::Grpc => format!("GRPC_PORT {} is held by {holder}; now {}", before.grpc, ports.grpc),
                    PortKind::Health => {
                        format!("HEALTH_PORT {} is held by {holder}; now {}", before.health, ports.health)
                    }
                };
                self.note(NoteLevel::Warn, key, Some(run), "port moved", reason);
            }
            Err(error) => self.on_start_failed(key, run, &error, Fault::Instance, now, dice),
        }
    }

    pub(super) fn on_exited(
        &mut self,
        key: &Key,
        run: RunId,
        exit: ExitReason,
        oom: Option<OomKill>,
        now: Moment,
        dice: &mut dyn Dice,
    ) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Phase::Running(running) = &entry.observed.phase else { return };
        if running.record.run != run {
            return;
        }
        let (record, killing) = (running.record.clone(), running.killing);
        let requested = record.stop.is_some();
        let counted = entry.observed.memory.ended == Some(run);
        entry.observed.memory.ended = Some(run);
        entry.memory_changed = true;
        let (pid, executed) = (record.process.pid, record.executed);
        let oom = oom.filter(|_| OomKill::ended(record.supervision.resources.on_oom(), exit));
        // What was to be replaced anyway has failed at nothing that is declared now.
        let drifted = drift(&record.launch, &entry.observed.memory.instance.content.launch);
        if drifted == Some(Drift::Pattern) {
            entry.observed.memory.rollout = Rollout::Replacing;
        }
        entry.observed.phase = Phase::Ending(Box::new(Ending { record, killing }));
        self.starts.release(key);
        if !requested {
            self.effects.push(Effect::StopProbe { key: key.clone(), run });
        }
        if requested || counted || !executed || drifted.is_some() {
            self.note(NoteLevel::Info, key, Some(run), "process ended", exit.to_string());
        } else {
            self.on_unrequested_exit(key, exit, oom, pid, now, dice);
        }
    }

    fn on_unrequested_exit(
        &mut self,
        key: &Key,
        exit: ExitReason,
        oom: Option<OomKill>,
        pid: i32,
        now: Moment,
        dice: &mut dyn Dice,
    ) {
        let Some(entry) = self.entries.get(key) else { return };
        let (instance, run) = (&entry.observed.memory.instance, entry.observed.memory.ended);
        let restart = instance.content.supervision.restart;
        let error = match oom {
            // However its main process ended: it is what became of the whole.
            Some(oom) => oom.error(key, pid, instance),
            None => Error::new(Code::ProcessCrashed, format!("'{key}' ended with {exit}, which nobody asked for"))
                .with("pid", pid)
                .suggest(format!("read what it printed: {}", last_lines(key))),
        };
        if fold::accepts(restart, exit) {
            let clean = exit == ExitReason::Code(0);
            debug_assert!(clean || restart == RestartPolicy::Never);
            self.finish(key, Finished { exit }, (!clean).then_some(error));
        } else {
            self.fail(key, &error, run, now, dice);
        }
    }

    pub(super) fn on_tree_gone(&mut self, key: &Key, run: RunId) {
        let Some(entry) = self.entries.get(key) else { return };
        if let Phase::Ending(ending) = &entry.observed.phase
            && ending.record.run == run
        {
            self.bury(key, run);
        }
    }

    fn on_probed(&mut self, key: &Key, run: RunId, outcome: ProbeOutcome, now: Moment) {
        let mark = self.effects.len();
        let Some(entry) = self.entries.get_mut(key) else { return };
        let Phase::Running(running) = &mut entry.observed.phase else { return };
        let Some(check) = &running.record.supervision.healthcheck else { return };
        if running.record.run != run || running.record.stop.is_some() {
            return;
        }
        let before = (running.health.is_healthy(), running.health.has_fallen());
        fold::probe(&mut running.health, check, outcome, now);
        let after = (running.health.is_healthy(), running.health.has_fallen());
        if before == after {
            return;
        }
        let failure = running.health.last_failure.clone();
        if running.health.is_healthy() {
            self.starts.release(key);
            self.note(NoteLevel::Info, key, Some(run), "process healthy", "its health check holds".to_owned());
        } else {
            self.note(NoteLevel::Warn, key, Some(run), "process unhealthy", failure.unwrap_or_default());
        }
        self.touch(key, mark);
    }
}

/// Why a start was made, for people.
fn start_reason(memory: &Memory) -> String {
    match (memory.circuit, memory.streak) {
        (Circuit::HalfOpen { .. }, _) => "half-open trial of an open circuit".to_owned(),
        (_, 0) => Reason::Missing.to_string(),
        (_, 1) => "restart after a failure".to_owned(),
        (_, streak) => format!("restart after {streak} failures in a row"),
    }
}
