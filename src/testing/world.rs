//! The simulated machine.

mod cuts;
mod launcher;
mod machine;
mod requests;

use super::chance::Chance;
use super::disk::Disk;
use super::oracle::{Oracle, Violation};
use super::program::{Process, Program};
use crate::model::{BootId, HealthCheck, Instance, Key, Moment, Policy, RunId};
use crate::observed::Event;
use crate::reconciler::engine::Engine;
use cuts::Cuts;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

/// How unkind the machine is.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// The launcher dies once in this many effects; 0 is never.
    pub crash_once_in: u64,
    /// The launcher dies at this cut, counted from the beginning. There is a cut before each effect, between the record
    /// and the release of a child, and after the last effect of a pass, except where nothing that outlives the launcher
    /// has changed since the last.
    pub crash_at: Option<u64>,
    /// The launcher dies again at this cut, counted from that first crash.
    pub crash_again_at: Option<u64>,
    /// What happens at `crash_at` is a loss of power: no process survives it.
    pub power_fails: bool,
    /// A start meets a stranger on one of its ports once in this many; 0 is never.
    pub port_taken_once_in: u64,
    /// A word about a changed file is lost once in this many, so that only the resync finds it; 0 is never.
    pub lose_word_once_in: u64,
    /// A probe cannot be carried out once in this many; 0 is never.
    pub probe_error_once_in: u64,
    /// Pids that there are; `None` is few, so that they are used again soon.
    pub pids: Option<i32>,
    /// Everything is looked at this often, whatever is noticed; `None` is every 5 s.
    pub resync: Option<Duration>,
}

/// Something that will happen.
#[derive(Debug, Clone)]
enum Occasion {
    /// An event reaches the launcher of this epoch.
    Deliver { epoch: u64, event: Box<Event> },
    /// The main process of a pid ends by itself, or because it was asked to.
    Ends { pid: i32, run: RunId },
    /// A program begins to run: word of it follows.
    Probe { epoch: u64, key: Key, run: RunId, pause: Duration },
    /// The desired side looks at the files.
    Look { epoch: u64 },
    /// The periodic look.
    Resync { epoch: u64 },
    /// The periodic look for processes without a record.
    LookForOrphans { epoch: u64 },
    /// A held child that was let go of notices.
    LetGo { run: RunId },
    /// The store removes a launched file whose `ttl` is over.
    Expired { epoch: u64, key: Key },
    /// The supervisor of the launcher starts it again.
    LauncherStarts,
}

/// A machine with a disk, processes, a desired directory and a launcher.
#[derive(Debug, Clone)]
pub struct World {
    /// What survives the launcher.
    pub disk: Disk,
    /// How the program of each key behaves from its next start on.
    pub programs: BTreeMap<Key, Program>,
    pub(super) policy: Policy,
    pub(super) settings: Settings,
    pub(super) now: Moment,
    pub(super) chance: Chance,
    pub(super) engine: Option<Engine>,
    pub(super) processes: BTreeMap<i32, (Key, Process)>,
    pub(super) oracle: Oracle,
    pub(super) touched: BTreeSet<Key>,
    boots: u128,
    epoch: u64,
    occasions: BTreeMap<(Duration, u64), Occasion>,
    scheduled: u64,
    /// What the desired side has told the launcher of this epoch.
    pub(super) told: BTreeMap<Key, Arc<Instance>>,
    pub(super) told_scanned: bool,
    probes: BTreeMap<Key, (RunId, HealthCheck)>,
    next_pid: i32,
    /// The keys of processes without a record. Nobody asks them to end.
    pub(super) orphans: BTreeSet<Key>,
    /// Ports on which somebody else listens.
    pub(super) strangers: BTreeSet<u16>,
    cuts: Cuts,
    /// Something has happened since the oracle last looked.
    pub(super) stirred: bool,
    crashes: u64,
    trace: String,
}

#[cfg(test)]
pub(super) use cuts::EFFECT_KINDS;

/// Pids are few, unless the settings say otherwise, so that they are used again soon.
const PIDS: i32 = 64;

impl World {
    /// A machine that has just been started, without a launcher.
    pub fn new(seed: u64, policy: Policy, settings: Settings) -> Self {
        Self {
            disk: Disk::default(),
            programs: BTreeMap::new(),
            policy,
            settings,
            now: Moment::new(BootId::from_u128(1), Duration::from_secs(1)),
            chance: Chance::new(seed),
            engine: None,
            processes: BTreeMap::new(),
            oracle: Oracle::default(),
            touched: BTreeSet::new(),
            boots: 1,
            epoch: 0,
            occasions: BTreeMap::new(),
            scheduled: 0,
            told: BTreeMap::new(),
            told_scanned: false,
            probes: BTreeMap::new(),
            next_pid: 1,
            orphans: BTreeSet::new(),
            strangers: BTreeSet::new(),
            cuts: Cuts::default(),
            stirred: false,
            crashes: 0,
            trace: String::new(),
        }
    }

    /// Declares an instance, or changes it.
    pub fn declare(&mut self, instance: Arc<Instance>) {
        self.disk.declared.insert(instance.key.clone(), instance);
        self.word();
    }

    /// Removes the file of a key.
    pub fn withdraw(&mut self, key: &Key) {
        self.disk.declared.remove(key);
        self.word();
    }

    /// What has happened, line by line.
    pub fn trace(&self) -> &str {
        &self.trace
    }

    /// How often the launcher has died.
    pub const fn crashes(&self) -> u64 {
        self.crashes
    }

    /// What has been violated so far.
    pub fn violations(&self) -> &[Violation] {
        &self.oracle.violations
    }

    /// The pid of the living process of each key that has been executed.
    pub fn pids(&self) -> BTreeMap<Key, i32> {
        self.processes
            .values()
            .filter(|(_, process)| process.main_lives && process.held_by.is_none())
            .map(|(key, process)| (key.clone(), process.identity.pid))
            .collect()
    }

    /// How often each key was started since its content last changed.
    pub fn starts(&self, key: &Key) -> u32 {
        self.oracle.starts.get(key).copied().unwrap_or(0)
    }

    /// The status of a key, while a launcher runs.
    pub fn status(&self, key: &Key) -> Option<crate::model::KeyStatus> {
        self.engine.as_ref()?.status(key, self.now)
    }

    /// Lets this much time pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until_injected(duration, u32::MAX);
    }

    /// Lets this much time pass, or less: no more once so many crashes have been injected at cuts. Returns how much has.
    pub(super) fn run_until_injected(&mut self, duration: Duration, injected: u32) -> Duration {
        let begun = self.now;
        let end = self.now.after(duration);
        loop {
            let occasion = self.occasions.first_key_value().map(|((at, _), _)| *at);
            let wake = self.engine.as_ref().and_then(|engine| engine.next_wake(self.now)).map(|at| at.since_boot);
            let next = [occasion, wake].into_iter().flatten().min();
            let Some(at) = next.filter(|at| *at <= end.since_boot) else { break };
            self.now.since_boot = self.now.since_boot.max(at);
            if occasion == Some(at)
                && let Some((_, occasion)) = self.occasions.pop_first()
            {
                self.happens(occasion);
            }
            self.turn();
            self.check();
            self.note_recovery();
            if self.injected() >= injected {
                return self.now.since(begun).min(duration);
            }
        }
        self.now = if end.boot == self.now.boot { end } else { self.now };
        duration
    }

    /// The keys of the children that the launcher of this epoch holds.
    pub(super) fn held_children(&self) -> impl Iterator<Item = &Key> {
        let held = |process: &Process| process.held_by == Some(self.epoch) && process.lives();
        self.processes.values().filter(move |(_, process)| held(process)).map(|(key, _)| key)
    }

    fn schedule(&mut self, after: Duration, occasion: Occasion) {
        self.scheduled += 1;
        self.occasions.insert((self.now.since_boot.saturating_add(after), self.scheduled), occasion);
    }

    /// Whether some event has happened of which the launcher has not heard yet.
    pub(super) fn has_news(&self) -> bool {
        self.occasions.values().any(|occasion| match occasion {
            Occasion::Deliver { epoch, event } => *epoch == self.epoch && !matches!(**event, Event::Probed { .. }),
            Occasion::Look { epoch } | Occasion::Expired { epoch, .. } => *epoch == self.epoch,
            Occasion::Ends { .. } | Occasion::LetGo { .. } | Occasion::LauncherStarts => true,
            Occasion::Probe { .. } | Occasion::Resync { .. } | Occasion::LookForOrphans { .. } => false,
        })
    }

    fn deliver(&mut self, after: Duration, event: Event) {
        self.schedule(after, Occasion::Deliver { epoch: self.epoch, event: Box::new(event) });
    }

    fn tell(&mut self, line: std::fmt::Arguments<'_>) {
        let at = self.now.since_boot;
        writeln!(self.trace, "{at:?} {line}").unwrap_or_default();
    }

    /// A file has changed: word of it reaches the desired side soon, or never.
    fn word(&mut self) {
        if !self.chance.once_in(self.settings.lose_word_once_in) {
            let epoch = self.epoch;
            let after = self.chance.up_to_millis(20);
            self.schedule(after, Occasion::Look { epoch });
        }
    }
}
