//! The engine of the loop: all state of all keys, without I/O, without a clock, without chance.
//!
//! Events and what somebody asks for go in ([`Engine::handle`], [`Engine::ask`]), effects come out ([`Engine::pass`]). Between the two, each key that something
//! happened to is decided once, whatever happened to it: a pass is told nothing about what changed. What an event costs
//! does not grow with the number of keys: dirty keys are in a queue that holds each once, deadlines in one ordered set,
//! and only [`Engine::resync`] visits all.
//!
//! The shell around it (`reconciler`) and the simulated world (`testing`) drive the same engine.

mod admit;
mod ask;
mod blocked;
mod desire;
mod enact;
mod handle;
mod refusal;
mod restore;
mod status;

use crate::error::Error;
use crate::model::{Condition, Difference, Key, LimitsEffective, Moment, Policy, RunId};
use crate::observed::{Observed, Phase};
use crate::plan::admission::PatternStanding;
use crate::plan::{Action, Effect, Ledger, Outbreaks, PortTable, Reason, StartQueue, Verdict, Wish, decide};
use blocked::Blocked;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Chance, as a parameter: the daemon's is random, a simulation's is seeded.
pub trait Dice {
    /// A number in `0.0..1.0`.
    fn jitter(&mut self) -> f64;
    /// The id of a new run.
    fn run_id(&mut self) -> RunId;
}

/// All state of all keys.
#[derive(Debug, Clone)]
pub struct Engine {
    policy: Policy,
    entries: BTreeMap<Key, Entry>,
    dirty: BTreeSet<Key>,
    wakes: BTreeSet<(Duration, Key)>,
    starts: StartQueue,
    ledger: Ledger,
    outbreaks: Outbreaks,
    ports: PortTable,
    standings: BTreeMap<String, PatternStanding>,
    blocked: Blocked,
    attempted: bool,
    complete: bool,
    shutdown: Option<Pace>,
    changed: BTreeSet<Key>,
    effects: Vec<Effect>,
}

/// One key.
#[derive(Debug, Clone)]
struct Entry {
    observed: Observed,
    claim: Claim,
    /// From the desired side.
    conditions: Vec<Condition>,
    /// Why its tree will not die.
    stuck: Option<Error>,
    /// Restarted for a failed health check, and not healthy since.
    recovering: bool,
    verdict: Verdict,
    wake: Option<Duration>,
    memory_changed: bool,
    /// Which limits of a run are in force.
    limits: Option<(RunId, LimitsEffective)>,
    /// Ended by request: should it be declared again before it is forgotten, nothing of what is remembered counts.
    ended: bool,
    /// A run that was ended by request before it was executed, and the longest grace period it may still have.
    doomed: Option<(RunId, Option<Duration>)>,
}

/// How much time the processes are given when the launcher ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pace {
    /// Each its own grace period.
    Graceful,
    /// None.
    Hastened,
}

/// Whether something declares a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    Declared,
    Withdrawn,
    /// Its run was found without a memory.
    Unclaimed,
}

impl Entry {
    fn new(observed: Observed, claim: Claim) -> Self {
        Self {
            observed,
            claim,
            conditions: Vec::new(),
            stuck: None,
            recovering: false,
            verdict: Verdict::nothing(Reason::AwaitingScan),
            wake: None,
            memory_changed: false,
            limits: None,
            ended: false,
            doomed: None,
        }
    }
}

/// A pass that decides more rounds than this over the same keys is a defect: each round must get nearer to rest.
const ROUNDS: usize = 16;

impl Engine {
    /// An engine that knows no key.
    pub fn new(policy: Policy) -> Self {
        let ports = PortTable::new(policy.port_range);
        Self {
            policy,
            entries: BTreeMap::new(),
            dirty: BTreeSet::new(),
            wakes: BTreeSet::new(),
            starts: StartQueue::default(),
            ledger: Ledger::default(),
            outbreaks: Outbreaks::default(),
            ports,
            standings: BTreeMap::new(),
            blocked: Blocked::default(),
            attempted: false,
            complete: false,
            shutdown: None,
            changed: BTreeSet::new(),
            effects: Vec::new(),
        }
    }

    /// The settings in force.
    pub const fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Takes over other settings, from the next decision on.
    pub fn set_policy(&mut self, policy: Policy) {
        self.ports.resize(policy.port_range);
        if self.policy.ceilings != policy.ceilings {
            self.effects.push(Effect::HoldTo(policy.ceilings.clone()));
        }
        self.policy = policy;
        self.resync();
    }

    /// Looks at every key in the next pass.
    pub fn resync(&mut self) {
        self.dirty.extend(self.entries.keys().cloned());
    }

    /// The loop stood still for this long, stopped or asleep with the machine. Nobody asked the processes that were
    /// starting how they were, so that this time is no part of what they have to become healthy.
    pub fn was_away(&mut self, span: Duration) {
        for entry in self.entries.values_mut() {
            if let Phase::Running(run) = &mut entry.observed.phase
                && let Some(ready_by) = &mut run.health.ready_by
            {
                *ready_by = ready_by.after(span);
            }
        }
        self.resync();
    }

    /// Ends every process, each with its own grace period; nothing is forgotten and nothing is started any more.
    pub fn begin_shutdown(&mut self) {
        self.shutdown.get_or_insert(Pace::Graceful);
        self.resync();
    }

    /// Ends the grace period of every stop now.
    pub fn hasten_shutdown(&mut self, now: Moment) {
        self.shutdown = Some(Pace::Hastened);
        for entry in self.entries.values_mut() {
            let stop = match &mut entry.observed.phase {
                Phase::Running(run) => run.record.stop.as_mut(),
                Phase::Ending(ending) => ending.record.stop.as_mut(),
                Phase::Idle | Phase::Starting(_) => None,
            };
            if let Some(stop) = stop {
                stop.deadline = now;
            }
        }
        self.resync();
    }

    /// Whether nothing of any key lives.
    pub fn all_ended(&self) -> bool {
        self.entries.values().all(|entry| matches!(entry.observed.phase, Phase::Idle))
    }

    /// Whether every root has been read completely and decided on.
    pub const fn is_complete(&self) -> bool {
        self.complete
    }

    /// All keys.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.entries.keys()
    }

    /// When to call [`Engine::pass`] again even if nothing happens.
    pub fn next_wake(&self, now: Moment) -> Option<Moment> {
        if !self.dirty.is_empty() {
            return Some(now);
        }
        let key = self.wakes.first().map(|(at, _)| Moment::new(now.boot, *at));
        let others = self.starts.wake_at().into_iter().chain(self.outbreaks.wake_at(now));
        key.into_iter().chain(others).reduce(Moment::earlier)
    }

    /// The keys whose status may have changed since this was last asked.
    pub fn take_changed(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.changed)
    }

    /// Decides every dirty key and returns what is to be done, in order.
    pub fn pass(&mut self, now: Moment, dice: &mut dyn Dice) -> Vec<Effect> {
        while let Some((at, _)) = self.wakes.first()
            && *at <= now.since_boot
            && let Some((_, key)) = self.wakes.pop_first()
        {
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.wake = None;
            }
            self.dirty.insert(key);
        }
        for _ in 0..ROUNDS {
            self.go_on_with_trials(now);
            for key in std::mem::take(&mut self.dirty) {
                self.visit(&key, now, dice);
            }
            self.starts.expire(now);
            while let Some(key) = self.starts.admit(&self.policy, now) {
                let mark = self.effects.len();
                // Others that were admitted since it was decided may have taken what was left, and its version may have been
                // paused.
                if self.room(&key).is_ok() && self.may_try(&key).is_ok() {
                    self.start(&key, now, dice);
                } else {
                    self.starts.release(&key);
                    self.dirty.insert(key.clone());
                }
                self.settle_books(&key, mark);
            }
            if self.dirty.is_empty() {
                break;
            }
        }
        std::mem::take(&mut self.effects)
    }

    /// What would be decided for every key now, admission aside. Changes nothing.
    pub fn preview(&self, now: Moment) -> Vec<(Key, Verdict)> {
        let verdict = |(key, entry): (&Key, &Entry)| {
            (key.clone(), decide(self.wish(entry.claim), &entry.observed, &self.policy, now))
        };
        self.entries.iter().map(verdict).collect()
    }

    /// In what the process of a key differs from what is declared, where that replaces it.
    pub fn differences(&self, key: &Key) -> Vec<Difference> {
        let Some(entry) = self.entries.get(key).filter(|entry| entry.claim == Claim::Declared) else {
            return Vec::new();
        };
        match &entry.observed.phase {
            Phase::Running(run) if run.record.stop.is_none() => {
                run.record.launch.differences(&entry.observed.memory.instance.content.launch)
            }
            Phase::Running(_) | Phase::Starting(_) | Phase::Ending(_) | Phase::Idle => Vec::new(),
        }
    }

    /// Decides one key and carries out the decision, as far as it is admitted.
    fn visit(&mut self, key: &Key, now: Moment, dice: &mut dyn Dice) {
        let Some(entry) = self.entries.get(key) else { return };
        let mark = self.effects.len();
        let mut verdict = decide(self.wish(entry.claim), &entry.observed, &self.policy, now);
        if verdict.action == Action::Launch {
            self.want(key, &mut verdict);
        } else {
            self.starts.unwant(key);
            self.ledger.leave(key);
            self.outbreaks.leave(key);
        }
        if let Err(reason) = self.admit(key, verdict.action) {
            verdict = Verdict { wake_at: verdict.wake_at, ..Verdict::nothing(reason) };
        }
        let action = verdict.action;
        if action == Action::Launch {
            verdict.reason = Reason::AwaitingSlot;
        }
        self.set_verdict(key, verdict);
        match action {
            Action::Nothing | Action::Launch => {}
            Action::Terminate(cause) => self.stop(key, cause, None, now, dice),
            Action::Kill => self.kill(key),
            Action::Settle => self.settle(key),
            Action::Forget => self.forget(key),
            Action::Resume => self.resume_by_itself(key),
            Action::Expire => self.expire(key, now),
        }
        self.settle_books(key, mark);
    }

    fn wish(&self, claim: Claim) -> Wish {
        match claim {
            _ if self.shutdown.is_some() => Wish::Shutdown,
            Claim::Declared if self.attempted => Wish::Declared,
            Claim::Declared => Wish::Restored,
            Claim::Unclaimed if !self.complete => Wish::Unclaimed,
            Claim::Withdrawn | Claim::Unclaimed => Wish::Withdrawn,
        }
    }

    fn set_verdict(&mut self, key: &Key, verdict: Verdict) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        if let Some(at) = entry.wake.take() {
            self.wakes.remove(&(at, key.clone()));
        }
        if let Some(at) = verdict.wake_at {
            entry.wake = Some(at.since_boot);
            self.wakes.insert((at.since_boot, key.clone()));
        }
        if entry.verdict != verdict {
            entry.verdict = verdict;
            self.changed.insert(key.clone());
        }
    }

    /// Writes what changed in the memory of a key, and brings the standing of its pattern up to date.
    ///
    /// `mark` is how many effects there were before anything was done about the key: what is remembered is written
    /// before what is done about it.
    fn settle_books(&mut self, key: &Key, mark: usize) {
        self.stand(key);
        self.occupy(key);
        self.book(key);
        if let Some(entry) = self.entries.get_mut(key)
            && std::mem::take(&mut entry.memory_changed)
            && entry.claim != Claim::Unclaimed
        {
            let save = Effect::SaveMemory(Box::new(entry.observed.memory.clone()));
            self.effects.insert(mark.min(self.effects.len()), save);
            self.changed.insert(key.clone());
        }
    }
}
