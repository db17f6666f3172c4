//! What must hold at every step.

use super::World;
use crate::model::{Ceilings, Generation, Key, ProcessState};
use std::collections::{BTreeMap, BTreeSet};

type Found = Vec<(&'static str, String)>;

impl World {
    /// Checks everything that must hold at every step.
    pub(crate) fn check(&mut self) {
        if !std::mem::take(&mut self.stirred) && self.touched.is_empty() {
            return;
        }
        let mut live: BTreeMap<&Key, u32> = BTreeMap::new();
        let mut found = Found::new();
        for (key, process) in self.processes.values().filter(|(_, process)| process.counts()) {
            *live.entry(key).or_default() += 1;
            if !self.disk.runs.contains_key(&(key.clone(), process.run)) {
                found.push(("S2", format!("a process of {key} lives without a record")));
            }
        }
        for (key, count) in live.iter().filter(|(_, count)| **count > 1) {
            found.push(("S1", format!("{key} has {count} processes")));
        }
        found.extend(self.past_ceilings(&live));
        let mut generations = Vec::new();
        found.extend(self.misreported(&live, &mut generations));
        self.touched.clear();
        // What people were told holds from now on, whatever crashes.
        self.oracle.generations.extend(generations);
        for (property, what) in found {
            self.oracle.report(property, what);
        }
    }

    /// Starts keep to the ceilings; what runs already is left when they are lowered, which only a test does.
    fn past_ceilings(&self, live: &BTreeMap<&Key, u32>) -> Found {
        let mut found = Found::new();
        let ceilings = self.engine.as_ref().map(|engine| &engine.policy().ceilings);
        let Some(ceilings) = ceilings.filter(|ceilings| **ceilings == self.policy.ceilings) else { return found };
        if *ceilings == Ceilings::default() {
            return found;
        }
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
        found
    }

    /// What is said of the keys that something happened to agrees with what is there.
    fn misreported(&self, live: &BTreeMap<&Key, u32>, told: &mut Vec<(Key, Generation)>) -> Found {
        let mut found = Found::new();
        let Some(engine) = self.engine.as_ref().filter(|_| !self.touched.is_empty()) else { return found };
        let mut there: BTreeSet<&Key> = live.keys().copied().collect();
        // A child that this launcher holds has not been executed, and is there all the same.
        there.extend(self.held_children());
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
            if self.oracle.generations.get(key).is_some_and(|told| *told > status.generation) {
                found.push(("S11", format!("{key} is at generation {:?} and was further", status.generation)));
            }
            if status.error_count > self.policy.max_errors && !status.circuit_open {
                found.push(("S10", format!("{key} failed {} times and its circuit is closed", status.error_count)));
            }
            told.push((key.clone(), status.generation));
        }
        found
    }
}
