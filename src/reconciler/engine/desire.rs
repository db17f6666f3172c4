//! What a change of the desired set does to the books of the engine.

use super::{Claim, Dice, Engine, Entry};
use crate::model::{Instance, Key, Memory, Moment};
use crate::observed::event::DesiredChange;
use crate::observed::{EndedLaunch, Launched, Observed, Phase, Writing, fold};
use crate::plan::{Effect, StopCause};
use std::sync::Arc;
use std::time::Duration;

impl Engine {
    /// Takes over a change. What was ended by request comes first: the same key may be declared again by the same change.
    pub(super) fn on_desired(&mut self, change: DesiredChange, now: Moment, dice: &mut dyn Dice) {
        let DesiredChange { declared, withdrawn, ended, launched, conditions, status: _, attempted, complete } = change;
        for ended in ended {
            let mark = self.effects.len();
            self.end(&ended, now, dice);
            self.touch(&ended.key, mark);
        }
        for key in withdrawn {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.claim = Claim::Withdrawn;
            }
            self.touch(&key, self.effects.len());
        }
        for instance in declared {
            let key = instance.key.clone();
            let mark = self.effects.len();
            self.declare(instance, now);
            self.touch(&key, mark);
        }
        for launched in launched {
            let mark = self.effects.len();
            self.launched(&launched, now);
            self.touch(&launched.key, mark);
        }
        for (key, conditions) in conditions {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.conditions = conditions;
            }
            self.touch(&key, self.effects.len());
        }
        if (attempted && !self.attempted) || (complete && !self.complete) {
            self.attempted |= attempted;
            self.complete |= complete;
            self.resync();
        }
    }

    fn declare(&mut self, instance: Arc<Instance>, now: Moment) {
        let key = instance.key.clone();
        let Some(entry) = self.entries.get_mut(&key) else {
            let mut memory = Memory::new(Arc::clone(&instance));
            // For its ttl, which begins now.
            fold::declare(&mut memory, instance, now);
            let mut observed = Observed::idle(memory);
            observed.blocked = self.blocked.blockage(&key);
            let mut entry = Entry::new(observed, Claim::Declared);
            entry.memory_changed = true;
            self.entries.insert(key, entry);
            return;
        };
        let memory = &mut entry.observed.memory;
        entry.observed.expiring = None;
        if std::mem::take(&mut entry.ended) {
            fold::declare_again(memory, instance, now);
            entry.memory_changed = true;
            entry.claim = Claim::Declared;
            return;
        }
        let before = memory.clone();
        let changed = fold::declare(memory, instance, now);
        // A key that was withdrawn and has come back starts from its old memory: a file that is moved loses nothing.
        entry.memory_changed |= before != *memory || entry.claim == Claim::Unclaimed;
        entry.claim = Claim::Declared;
        if changed || matches!(entry.observed.phase, Phase::Running(_)) {
            self.supervise(&key, now);
        }
    }

    /// A launched instance was ended by request: its run ends now, even if the key is declared again at once.
    fn end(&mut self, ended: &EndedLaunch, now: Moment, dice: &mut dyn Dice) {
        let EndedLaunch { key, grace, by } = ended;
        let Some(entry) = self.entries.get_mut(key) else { return };
        entry.claim = Claim::Withdrawn;
        entry.ended = true;
        let run = entry.observed.run();
        match &entry.observed.phase {
            Phase::Idle => {}
            Phase::Starting(start) => entry.doomed = Some((start.run, *grace)),
            Phase::Running(running) if running.record.stop.is_none() => {
                self.stop(key, StopCause::Removed, *grace, now, dice);
            }
            Phase::Running(_) | Phase::Ending(_) => {
                if let Some(grace) = grace {
                    self.hasten(key, *grace, now);
                }
            }
        }
        self.note_asked(key, run, by, "launch ended", "");
    }

    /// Lets the grace period of a stop end at most this much from now. It never ends later than it would have.
    pub(super) fn hasten(&mut self, key: &Key, grace: Duration, now: Moment) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Some((_, limit)) = &mut entry.doomed {
            *limit = Some(limit.map_or(grace, |limit| limit.min(grace)));
        }
        let record = match &mut entry.observed.phase {
            Phase::Running(run) => &mut run.record,
            Phase::Ending(ending) => &mut ending.record,
            Phase::Idle | Phase::Starting(_) => return,
        };
        let Some(stop) = &mut record.stop else { return };
        let deadline = now.after(grace);
        if deadline.reached(stop.deadline) {
            return;
        }
        stop.deadline = deadline;
        self.effects.push(Effect::SaveRun(Box::new(record.clone())));
    }

    /// An instance was launched by request, or its launched file was changed by request.
    fn launched(&mut self, launched: &Launched, now: Moment) {
        let Launched { key, by, writing } = launched;
        let Some(entry) = self.entries.get_mut(key) else { return };
        let memory = &mut entry.observed.memory;
        memory.asked_by = Some(by.clone());
        memory.finished = None;
        fold::renew(memory, now);
        entry.memory_changed = true;
        let message = match writing {
            Writing::Launch => "launched",
            Writing::Update => "updated",
        };
        self.note_asked(key, None, by, message, "");
    }

    /// Lets a change of how a process is looked after take effect on the one that runs.
    pub(super) fn supervise(&mut self, key: &Key, now: Moment) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let memory = &entry.observed.memory;
        let Phase::Running(run) = &mut entry.observed.phase else { return };
        let content = &memory.instance.content;
        // What it is started from has changed as well: it is replaced, and until then looked after as it was.
        if run.record.launch != content.launch {
            return;
        }
        if run.record.supervision == content.supervision && run.record.generation == memory.generation {
            return;
        }
        let check_changed = run.record.supervision.healthcheck != content.supervision.healthcheck;
        let resources = &content.supervision.resources;
        let limits_changed = run.record.supervision.resources != *resources;
        let limited = Effect::Limit { key: key.clone(), run: run.record.run, resources: resources.clone() };
        run.record.supervision = content.supervision.clone();
        run.record.generation = memory.generation;
        if let Some(stop) = &mut run.record.stop {
            stop.deadline = stop.deadline.earlier(stop.since.after(content.supervision.grace_period));
        }
        self.effects.push(Effect::SaveRun(Box::new(run.record.clone())));
        if limits_changed {
            self.effects.push(limited);
        }
        if check_changed && run.record.stop.is_none() {
            run.health = run.health.asked_otherwise(content.supervision.healthcheck.as_ref(), now);
            self.probe(key);
        }
    }
}
