//! What must never happen, judged from the state of the world alone. The names are those of the safety properties.

use super::world::World;
use crate::model::{DesiredState, Key, Memory, Moment, ProcessState, RunId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// A safety property that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which property.
    pub property: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

/// What the oracle remembers of the past.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    pub(super) violations: Vec<Violation>,
    /// Starts since the content in memory last changed.
    pub(super) starts: BTreeMap<Key, u32>,
    /// The runs whose failure has been counted.
    pub(super) failed: BTreeSet<RunId>,
    /// The shortest grace period each stop had a right to.
    pub(super) grace: BTreeMap<RunId, Duration>,
    /// The shorter grace periods that somebody asked for, and when.
    pub(super) asked: BTreeMap<RunId, Vec<(Moment, Duration)>>,
}

impl Oracle {
    fn report(&mut self, property: &'static str, what: String) {
        self.violations.push(Violation { property, what });
    }

    /// Somebody asks for a grace period of this length.
    pub(super) fn allow(&mut self, run: RunId, now: Moment, grace: Duration) {
        self.asked.entry(run).or_default().push((now, grace));
    }

    /// A tree is to be killed.
    pub(super) fn on_kill(&mut self, key: &Key, run: RunId, asked: Option<Moment>, main_lives: bool, now: Moment) {
        let grace = self.grace.get(&run).copied().unwrap_or_default();
        let hastened = self.asked.get(&run).into_iter().flatten().any(|(at, grace)| now.since(*at) >= *grace);
        match asked {
            Some(at) if now.since(at) < grace && !hastened => {
                self.report(
                    "S7",
                    format!("{key} was killed {:?} after its stop signal, grace {grace:?}", now.since(at)),
                );
            }
            None if main_lives => self.report("S7", format!("{key} was killed without being asked to end")),
            Some(_) | None => {}
        }
    }

    /// A child is released.
    pub(super) fn on_release(&mut self, key: &Key, other_lives: bool, not_before: Option<Moment>, now: Moment) {
        if other_lives {
            self.report("S4", format!("{key} was started while its predecessor's tree lives"));
        }
        if not_before.is_some_and(|at| !now.reached(at)) {
            self.report("S9", format!("{key} was started before its delay was over"));
        }
        *self.starts.entry(key.clone()).or_default() += 1;
    }

    /// The memory of a key is written.
    pub(super) fn on_memory(&mut self, before: Option<&Memory>, after: &Memory) {
        let key = &after.instance.key;
        let failures = after.streak.saturating_sub(before.map_or(0, |before| before.streak));
        if failures > 0 && (failures > 1 || !after.ended.is_some_and(|run| self.failed.insert(run))) {
            self.report("S10", format!("{key} has {} failures in a row, one counted twice", after.streak));
        }
        let Some(before) = before else { return };
        let grown = after.generation > before.generation;
        let changed = after.instance.content != before.instance.content;
        if changed {
            self.starts.remove(key);
        }
        if grown != changed || after.generation < before.generation {
            let (from, to) = (before.generation.0, after.generation.0);
            self.report("S11", format!("{key} went from generation {from} to {to}, content changed: {changed}"));
        }
    }

    /// A signal goes to a process.
    pub(super) fn on_signal(&mut self, key: &Key, is_ours: bool) {
        if !is_ours {
            self.report("S3", format!("a signal for {key} went to a process that is not its own"));
        }
    }
}

impl World {
    /// Checks everything that must hold at every step.
    pub(super) fn check(&mut self) {
        let mut live: BTreeMap<&Key, u32> = BTreeMap::new();
        let mut found = Vec::new();
        for (key, process) in self.processes.values().filter(|(_, p)| p.held_by.is_none() && p.lives()) {
            *live.entry(key).or_default() += 1;
            if !self.disk.runs.contains_key(&(key.clone(), process.run)) {
                found.push(("S2", format!("a process of {key} lives without a record")));
            }
        }
        for (key, count) in live.iter().filter(|(_, count)| **count > 1) {
            found.push(("S1", format!("{key} has {count} processes")));
        }
        let ceilings = self.engine.as_ref().map(|engine| &engine.policy().ceilings);
        // Starts keep to the ceilings; what runs already is left when they are lowered, which only a test does.
        if let Some(ceilings) = ceilings.filter(|ceilings| **ceilings == self.policy.ceilings) {
            let mut of_namespace: BTreeMap<&str, u64> = BTreeMap::new();
            for key in live.keys() {
                *of_namespace.entry(key.namespace()).or_default() += 1;
            }
            let all: u64 = of_namespace.values().sum();
            if ceilings.processes.is_some_and(|most| all > most) {
                found.push(("ceiling", format!("{all} processes run")));
            }
            for (namespace, count) in of_namespace {
                if ceilings.of(namespace).instances.is_some_and(|most| count > most) {
                    found.push(("ceiling", format!("{count} processes of '{namespace}' run")));
                }
            }
        }
        let mut there: BTreeSet<&Key> = live.keys().copied().collect();
        // A child that this launcher holds has not been executed, and is there all the same.
        there.extend(self.held_children());
        if let Some(engine) = &self.engine {
            for key in &self.touched {
                let Some(status) = engine.status(key, self.now) else {
                    if there.contains(key) {
                        found.push(("S12", format!("{key} is reported as gone and lives")));
                    }
                    continue;
                };
                if status.state == ProcessState::Terminated && there.contains(key) {
                    found.push(("S12", format!("{key} is reported as terminated and lives")));
                }
                if status.observed_generation > status.generation {
                    found.push(("S11", format!("{key} runs a generation that was never declared")));
                }
                if status.error_count > self.policy.max_errors && !status.circuit_open {
                    found.push(("S10", format!("{key} failed {} times and its circuit is closed", status.error_count)));
                }
            }
        }
        self.touched.clear();
        for (property, what) in found {
            self.oracle.report(property, what);
        }
    }

    /// What must hold once the machine has come to rest: observed equals desired (L1), and nothing is done about it (S14).
    pub fn check_at_rest(&mut self) -> Vec<Violation> {
        let now = self.now;
        let mut found = self.oracle.violations.clone();
        let mut report = |property, what| found.push(Violation { property, what });
        let Some(engine) = &mut self.engine else {
            report("L5", "no launcher runs".to_owned());
            return found;
        };
        for (key, instance) in &self.disk.declared {
            let Some(status) = engine.status(key, now) else {
                report("L3", format!("{key} is declared and not known"));
                continue;
            };
            let program = self.programs.get(key).copied().unwrap_or(super::Program::SERVICE);
            let service = program.lives.is_none() && program.healthy_after.is_some();
            let running = status.state == ProcessState::Running && status.healthy;
            let suspended = status.suspension.is_some();
            if suspended && (status.pid.is_some() || status.state != ProcessState::Terminated) {
                report("L1", format!("{key} is suspended and is {:?}", status.state));
            }
            if instance.content.state == DesiredState::Running && service && !running && !suspended {
                report("L1", format!("{key} should run and is {:?}: {}", status.state, status.verdict.reason));
            }
            if instance.content.state == DesiredState::Stopped && status.pid.is_some() {
                report("L1", format!("{key} should be stopped and runs"));
            }
            if running && status.observed_generation != status.generation {
                report(
                    "L3",
                    format!("{key} runs generation {:?} of {:?}", status.observed_generation, status.generation),
                );
            }
        }
        for (key, process) in self.processes.values().filter(|(_, process)| process.lives()) {
            if !self.disk.declared.contains_key(key) {
                report("L2", format!("{key} is not declared and lives as pid {}", process.identity.pid));
            }
        }
        engine.resync();
        let effects = engine.pass(now, &mut self.chance);
        let idle: bool = self.programs.values().all(|program| program.lives.is_none());
        if idle && !effects.is_empty() {
            report("S14", format!("a pass over a converged world does {effects:?}"));
        }
        found
    }
}
