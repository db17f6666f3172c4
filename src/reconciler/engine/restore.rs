//! Taking over what the last launcher left.

use super::{Claim, Dice, Engine, Entry};
use crate::model::{Content, DesiredState, Instance, Isolation, Key, Memory, Moment, Origin, RunRecord};
use crate::observed::{Health, Observed, Phase, Restored, RestoredRun, Run};
use crate::plan::{Effect, NoteLevel};
use std::path::PathBuf;
use std::sync::Arc;

impl Engine {
    /// Takes over memories and verified runs; once, before the first event.
    ///
    /// What lives is adopted and looked after from now on. What ended while nobody looked is counted as the failure it
    /// was, unless it was counted before. A key whose record cannot be verified is blocked.
    pub fn restore(&mut self, restored: Restored, now: Moment, dice: &mut dyn Dice) {
        let Restored { memories, runs } = restored;
        for mut memory in memories {
            begin_anew(&mut memory, now);
            let key = memory.instance.key.clone();
            if let Some(ports) = memory.ports {
                self.ports.restore(&key, ports);
            }
            self.entries.insert(key, Entry::new(Observed::idle(memory), Claim::Declared));
        }
        // Those that live first: a record of an earlier run of the same key is only left over.
        let mut orphans = Vec::new();
        let (alive, ended): (Vec<_>, Vec<_>) = runs.into_iter().partition(|run| matches!(run, RestoredRun::Alive(_)));
        for run in alive.into_iter().chain(ended) {
            match run {
                RestoredRun::Alive(record) => self.adopt(record, now),
                RestoredRun::Ended { record, exit, oom, tree_gone } => {
                    let (key, run) = (record.key.clone(), record.run);
                    let mark = self.effects.len();
                    if self.place(record, now) {
                        self.on_exited(&key, run, exit, oom, now, dice);
                        if tree_gone {
                            self.on_tree_gone(&key, run);
                        }
                        // What its end means is remembered before its record goes.
                        self.settle_books(&key, mark);
                    } else {
                        self.effects.push(Effect::DropRun { key, run });
                    }
                }
                RestoredRun::Rebooted(record) => {
                    self.effects.push(Effect::DropRun { key: record.key, run: record.run });
                }
                RestoredRun::Unverifiable { file_name, error } => {
                    self.blocked.by_record(file_name, error);
                }
                RestoredRun::Orphan { file_name, error } => orphans.push((file_name, error)),
            }
        }
        self.blocked.by_orphans(orphans);
        for (key, entry) in &mut self.entries {
            if matches!(entry.observed.phase, Phase::Idle) {
                entry.observed.blocked = self.blocked.blockage(key);
            }
        }
        let keys: Vec<Key> = self.entries.keys().cloned().collect();
        for key in keys {
            self.settle_books(&key, self.effects.len());
            self.changed.insert(key);
        }
        self.resync();
    }

    fn adopt(&mut self, mut record: RunRecord, now: Moment) {
        // It lives, and what was only held has ended with its launcher.
        let known = std::mem::replace(&mut record.executed, true);
        let (key, run, pid) = (record.key.clone(), record.run, record.process.pid);
        let news = (!known).then(|| Effect::SaveRun(Box::new(record.clone())));
        if !self.place(record, now) {
            return;
        }
        // Or it would be taken for one that was only held should it end while no launcher runs.
        self.effects.extend(news);
        // What is remembered may be newer than the record, should the last launcher have died between the two.
        self.supervise(&key, now);
        self.ask_to_end(&key, now);
        self.probe(&key);
        self.note(NoteLevel::Info, &key, Some(run), "process adopted", format!("pid {pid} was found running"));
    }

    /// Makes a record the run of its key; false when the key has one already.
    fn place(&mut self, record: RunRecord, now: Moment) -> bool {
        let key = record.key.clone();
        self.ports.restore(&key, record.ports);
        let entry =
            self.entries.entry(key).or_insert_with(|| Entry::new(Observed::idle(unclaimed(&record)), Claim::Unclaimed));
        if !matches!(entry.observed.phase, Phase::Idle) {
            return false;
        }
        let health = Health::unknown(record.supervision.healthcheck.as_ref(), now);
        entry.observed.phase = Phase::Running(Box::new(Run { record, health, killing: false }));
        true
    }
}

/// What was to last for some time begins anew after a restart of the machine: how long that took cannot be known.
fn begin_anew(memory: &mut Memory, now: Moment) {
    if let Some(renewed) = &mut memory.renewed
        && renewed.boot != now.boot
    {
        *renewed = now;
    }
    if let Some(suspension) = &mut memory.suspension
        && suspension.until.is_some_and(|until| until.boot != now.boot)
    {
        suspension.until = suspension.lasting.map(|lasting| now.after(lasting));
    }
}

/// What can be said of a key from the record of its run alone.
fn unclaimed(record: &RunRecord) -> Memory {
    let instance = Instance {
        key: record.key.clone(),
        pattern: record.key.pattern_name(),
        isolation: record.key.isolation().unwrap_or(Isolation::None),
        content: Content {
            launch: Arc::clone(&record.launch),
            supervision: record.supervision.clone(),
            state: DesiredState::Running,
            ttl: None,
        },
        origin: Origin { root: PathBuf::new(), file: PathBuf::new(), line: 0, api_managed: false },
        defaulted: Vec::new(),
    };
    let mut memory = Memory::new(Arc::new(instance));
    memory.generation = record.generation;
    memory.ports = Some(record.ports);
    memory
}
