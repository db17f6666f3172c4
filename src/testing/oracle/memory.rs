//! What is remembered: failures, circuits and generations.

use super::World;
use crate::model::{Circuit, Key, Memory, RestartPolicy};

impl World {
    /// The memory of a key is about to be written.
    pub(crate) fn judge_memory(&mut self, after: &Memory) {
        let key = &after.instance.key;
        let before = self.disk.memories.get(key).cloned();
        self.judge_count(before.as_ref(), after);
        self.judge_circuit(before.as_ref(), after);
        let Some(before) = before else { return };
        let grown = after.generation > before.generation;
        let changed = after.instance.content != before.instance.content;
        if changed {
            self.oracle.starts.remove(key);
        }
        if grown != changed || after.generation < before.generation {
            let (from, to) = (before.generation.0, after.generation.0);
            self.oracle.report("S11", format!("{key} went from generation {from} to {to}, content changed: {changed}"));
        }
        if after.ended != before.ended
            && let Some((_, process)) = self.processes.values().find(|(_, p)| Some(p.run) == after.ended && p.counts())
            && process.main_lives
            && !self.is_ill(process)
        {
            self.oracle.report("need", format!("a failure of {key} was counted and it is well"));
        }
    }

    /// No failure is counted twice, and none is lost.
    fn judge_count(&mut self, before: Option<&Memory>, after: &Memory) {
        let key = &after.instance.key;
        let (was, ended) = before.map_or((0, None), |before| (before.streak, before.ended));
        let failures = after.streak.saturating_sub(was);
        if failures > 0 && (failures > 1 || !after.ended.is_some_and(|run| self.oracle.failed.insert(run))) {
            self.oracle.report("S10", format!("{key} has {} failures in a row, one counted twice", after.streak));
        }
        if failures > 0 && !after.ended.is_some_and(|run| self.oracle.executed.contains(&run)) {
            self.oracle.report("S10", format!("{key} has a failure counted of a run that was only held"));
        }
        let Some(run) = after.ended.filter(|run| Some(*run) != ended) else { return };
        let Some(fall) = self.oracle.fell.get_mut(key).filter(|fall| fall.run == run) else { return };
        (fall.remembered, fall.counted) = (true, failures > 0);
        let Some(record) = self.disk.runs.get(&(key.clone(), run)) else { return };
        let content = &after.instance.content;
        // One whose launcher died before it could write that it was executed is taken for one that was only held.
        let is_failure = (record.executed || fall.seen)
            && record.stop.is_none()
            && record.launch == content.launch
            && content.supervision.restart == RestartPolicy::Always;
        if is_failure && failures == 0 {
            self.oracle.report("S10", format!("{key} has failed, and that was not counted"));
        }
    }

    /// A circuit opens at `max_errors`, and a streak ends for one of the reasons that the contract has.
    fn judge_circuit(&mut self, before: Option<&Memory>, after: &Memory) {
        let key = &after.instance.key;
        let most = self.policy.max_errors;
        let was = before.map_or(Circuit::Closed, |before| before.circuit);
        if was == Circuit::Closed && after.circuit != Circuit::Closed && after.streak < most {
            self.oracle.report("S10", format!("the circuit of {key} opened after {} failures", after.streak));
        }
        if after.circuit == Circuit::Closed && after.streak >= most {
            self.oracle.report("S10", format!("the circuit of {key} is closed after {} failures", after.streak));
        }
        let closed = was != Circuit::Closed && after.circuit == Circuit::Closed;
        if let Some(before) = before
            && (after.streak < before.streak || closed)
            && !self.may_forgive(key, before, after)
        {
            self.oracle.report("S10", format!("{} failures of {key} were forgotten for no reason", before.streak));
        }
        if after.streak == 0 {
            self.oracle.forgiven.remove(key);
        }
    }

    fn may_forgive(&self, key: &Key, before: &Memory, after: &Memory) -> bool {
        let stable = || {
            let of_key = self.processes.values().filter(|(owner, process)| owner == key && process.counts());
            of_key
                .filter_map(|(_, process)| process.healthy_since(self.now))
                .any(|since| self.now.since(since) >= self.policy.stable_after)
        };
        !before.instance.content.same_but_for_ttl(&after.instance.content)
            || self.oracle.forgiven.contains(key)
            || after.finished.is_some()
            || stable()
    }

    /// A key is about to be forgotten.
    pub(crate) fn judge_forgetting(&mut self, key: &Key) {
        if self.told.contains_key(key) {
            self.oracle.report("S5", format!("{key} is forgotten and is declared"));
        }
        if self.processes.values().any(|(owner, process)| owner == key && process.counts()) {
            self.oracle.report("S12", format!("{key} is forgotten and lives"));
        }
        self.oracle.ports.remove(key);
        self.oracle.generations.remove(key);
        self.oracle.fell.remove(key);
        self.oracle.starts.remove(key);
    }
}
