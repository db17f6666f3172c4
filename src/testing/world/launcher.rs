//! The launcher's part: it is started, carries out effects, dies at any of them, and reads what it left.

use super::{Occasion, World};
use crate::error::{Code, Error};
use crate::model::{Key, RunId};
use crate::observed::event::DesiredChange;
use crate::observed::{Event, Restored, RestoredRun};
use crate::plan::Effect;
use crate::reconciler::engine::Engine;
use std::sync::Arc;
use std::time::Duration;

impl World {
    const ORPHAN_INTERVAL: Duration = Duration::from_secs(60);

    /// Starts the launcher: it reads the disk, verifies what it finds, and goes on from there.
    pub fn start_launcher(&mut self) {
        if self.engine.is_some() {
            return;
        }
        self.epoch += 1;
        let restored = self.left();
        let count = restored.runs.len();
        self.told = restored.memories.iter().map(|m| (m.instance.key.clone(), Arc::clone(&m.instance))).collect();
        self.told_scanned = false;
        let mut engine = Engine::new(self.policy.clone());
        engine.restore(restored, self.now, &mut self.chance);
        self.engine = Some(engine);
        let epoch = self.epoch;
        self.tell(format_args!("launcher {epoch} starts and finds {count} runs"));
        let first_scan = self.chance.up_to_millis(50);
        self.schedule(first_scan, Occasion::Resync { epoch });
        self.schedule(Self::ORPHAN_INTERVAL, Occasion::LookForOrphans { epoch });
    }

    /// What the last launcher has left, as the host reads it.
    pub(in crate::testing) fn left(&self) -> Restored {
        let orphans =
            self.orphans_left().into_iter().map(|(file_name, error)| RestoredRun::Orphan { file_name, error });
        Restored {
            memories: self.disk.memories.values().cloned().collect(),
            runs: self.disk.runs.values().map(|record| self.verify(record)).chain(orphans).collect(),
        }
    }

    fn orphans_left(&self) -> Vec<(String, Error)> {
        let error = || Error::new(Code::TerminationFailed, "a process without a record");
        self.orphans.iter().map(|key| (key.file_name(), error())).collect()
    }

    /// Looks for processes without a record, as often as the host does.
    pub(super) fn look_for_orphans(&mut self) {
        let (epoch, left) = (self.epoch, self.orphans_left());
        self.deliver(Duration::ZERO, Event::Orphans { left });
        self.schedule(Self::ORPHAN_INTERVAL, Occasion::LookForOrphans { epoch });
    }

    /// What the host finds out about a record: identity is pid, start time and boot.
    fn verify(&self, record: &crate::model::RunRecord) -> RestoredRun {
        if self.disk.damaged.contains(&record.run) {
            let error = Error::new(Code::InternalError, "the record is damaged");
            return RestoredRun::Unverifiable { file_name: record.key.file_name(), error };
        }
        if record.process.boot != self.now.boot {
            return RestoredRun::Rebooted(record.clone());
        }
        let process = self.processes.get(&record.process.pid).map(|(_, process)| process);
        match process.filter(|process| process.identity == record.process) {
            Some(process) if process.main_lives => RestoredRun::Alive(record.clone()),
            Some(process) => RestoredRun::Ended {
                record: record.clone(),
                exit: process.exit,
                oom: process.oom,
                tree_gone: !process.children_live,
            },
            None => RestoredRun::Ended {
                record: record.clone(),
                exit: crate::model::ExitReason::Unknown,
                oom: None,
                tree_gone: true,
            },
        }
    }

    /// The launcher dies: what it had not written is lost, the children that it held end.
    pub fn crash(&mut self, why: &str) {
        if self.engine.take().is_none() {
            return;
        }
        self.crashes += 1;
        let epoch = self.epoch;
        self.tell(format_args!("launcher {epoch} dies: {why}"));
        self.epoch += 1;
        self.probes.clear();
        self.oracle.on_crash();
        self.processes.retain(|_, (_, process)| process.held_by != Some(epoch));
        let after = self.chance.up_to_millis(2_000);
        self.schedule(after, Occasion::LauncherStarts);
    }

    /// One turn of the loop.
    pub(super) fn turn(&mut self) {
        let Some(engine) = &mut self.engine else { return };
        let effects = engine.pass(self.now, &mut self.chance);
        let changed = engine.take_changed();
        self.touched.extend(changed);
        self.stirred |= !effects.is_empty();
        let some = effects.iter().any(|effect| !matches!(effect, Effect::Note(_)));
        self.cuts.begin();
        for effect in effects {
            // Nothing is different before a note from what is before the effect that follows it.
            if !matches!(effect, Effect::Note(_)) && self.is_cut() {
                return self.die("before an effect");
            }
            self.cuts.note(&effect);
            self.carry_out(effect);
            if self.engine.is_none() {
                return;
            }
        }
        if some && self.is_cut() {
            return self.die("after the last effect of a pass");
        }
        self.answer();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::SaveMemory(memory) => {
                self.judge_memory(&memory);
                self.disk.memories.insert(memory.instance.key.clone(), *memory);
            }
            Effect::DropMemory(key) => {
                self.judge_forgetting(&key);
                self.disk.memories.remove(&key);
            }
            Effect::Prepare(request) => self.prepare(request),
            Effect::Commit(record) => {
                let (key, run) = (record.key.clone(), record.run);
                if self.disk.is_full {
                    return self.cannot_record(&key, run);
                }
                self.disk.runs.insert((key.clone(), run), *record);
                if self.is_cut() {
                    return self.die("between record and release");
                }
                self.cuts.begin();
                self.release(&key, run);
            }
            Effect::Discard { key, run } => self.discard(&key, run),
            Effect::SaveRun(record) => {
                self.judge_stop(&record);
                if let Some(on_disk) = self.disk.runs.get_mut(&(record.key.clone(), record.run)) {
                    *on_disk = *record;
                }
            }
            Effect::DropRun { key, run } => self.drop_run(&key, run),
            Effect::Signal { key, run, .. } => self.signal(&key, run),
            Effect::KillTree { key, run } => self.kill_tree(&key, run),
            Effect::Probe { key, run, check, .. } => {
                self.probes.insert(key.clone(), (run, check));
                let (epoch, pause) = (self.epoch, Duration::from_millis(1));
                self.schedule(pause, Occasion::Probe { epoch, key, run, pause });
            }
            Effect::StopProbe { key, run } => {
                if self.probes.get(&key).is_some_and(|(probed, _)| *probed == run) {
                    self.probes.remove(&key);
                }
            }
            Effect::Expire { key } => {
                self.judge_expiry(&key);
                self.expire(key);
            }
            Effect::Failed { .. } | Effect::Limit { .. } | Effect::HoldTo(_) => {}
            Effect::Abandon { file_name, except } => self.abandon(&file_name, except),
            Effect::Note(note) => {
                self.tell(format_args!("{} {}: {}", note.key, note.message, note.reason));
            }
        }
    }

    fn drop_run(&mut self, key: &Key, run: RunId) {
        self.disk.runs.remove(&(key.clone(), run));
    }

    /// The records that block a key are set aside: what they name goes on, and nobody looks after it.
    fn abandon(&mut self, file_name: &str, except: Option<RunId>) {
        self.disk.runs.retain(|(key, run), _| key.file_name() != file_name || Some(*run) == except);
        for (_, process) in self.processes.values_mut().filter(|(key, _)| key.file_name() == file_name) {
            process.abandoned |= Some(process.run) != except;
        }
    }

    /// The desired side reads the files and tells how they differ from what it told before.
    pub(super) fn look(&mut self) {
        let mut change = DesiredChange { attempted: true, complete: true, ..DesiredChange::default() };
        for (key, instance) in &self.disk.declared {
            let told = self.told.get(key);
            if told.is_none_or(|told| told != instance) {
                change.declared.push(Arc::clone(instance));
            }
        }
        change.withdrawn = self.told.keys().filter(|key| !self.disk.declared.contains_key(*key)).cloned().collect();
        if change.declared.is_empty() && change.withdrawn.is_empty() && self.told_scanned {
            return;
        }
        self.told_scanned = true;
        self.told = self.disk.declared.clone();
        let now = self.now;
        if let Some(engine) = &mut self.engine {
            engine.handle(Event::Desired(change), now, &mut self.chance);
        }
    }
}
