//! That nothing is started, ended or expired without need, too early, or beside what lives.

use super::World;
use crate::model::{Circuit, DesiredState, Key, RunRecord};
use crate::observed::Ask;
use crate::plan::backoff;
use crate::testing::program::Process;

impl World {
    /// A held child is about to be released.
    pub(crate) fn judge_start(&mut self, key: &Key, pid: i32) {
        let Some((_, process)) = self.processes.get(&pid) else { return };
        let mut found = Vec::new();
        let others = self.processes.values().filter(|(_, other)| other.run != process.run && other.counts());
        if others.clone().any(|(owner, _)| owner == key) {
            found.push(("S4", format!("{key} was started while its predecessor's tree lives")));
        }
        if self.orphans.contains(key) {
            found.push(("S1", format!("{key} was started beside a process without a record")));
        }
        let Some(record) = self.disk.runs.get(&(key.clone(), process.run)) else { return };
        let same = |other: &RunRecord| {
            [other.ports.grpc, other.ports.health]
                .iter()
                .any(|port| [record.ports.grpc, record.ports.health].contains(port))
        };
        for (owner, other) in others {
            if self.disk.runs.get(&(owner.clone(), other.run)).is_some_and(same) {
                found.push(("ports", format!("{key} was given a port of {owner}")));
            }
        }
        if self.oracle.ports.get(key).is_some_and(|ports| *ports != record.ports) && !self.oracle.moved.contains(key) {
            found.push(("ports", format!("the ports of {key} moved to {:?}", record.ports)));
        }
        let wanted = self.told.get(key).is_some_and(|told| {
            told.content.same_but_for_ttl(&process.instance.content) && told.content.state == DesiredState::Running
        });
        if !wanted {
            found.push(("need", format!("{key} was started and is not declared like that")));
        }
        let (run, ports) = (process.run, record.ports);
        found.extend(self.untimely(key));
        self.oracle.executed.insert(run);
        self.oracle.ports.insert(key.clone(), ports);
        self.oracle.moved.remove(key);
        self.oracle.hurried.remove(key);
        *self.oracle.starts.entry(key.clone()).or_default() += 1;
        for (property, what) in found {
            self.oracle.report(property, what);
        }
    }

    /// What is remembered of a key and forbids that it is started now.
    fn untimely(&self, key: &Key) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let Some(memory) = self.disk.memories.get(key) else {
            return vec![("S8", format!("{key} was started and is not remembered"))];
        };
        if memory.not_before.is_some_and(|at| !self.now.reached(at)) {
            found.push(("S9", format!("{key} was started before its delay was over")));
        }
        if memory.suspension.is_some() || memory.finished.is_some() {
            found.push(("need", format!("{key} was started and is suspended or has finished")));
        }
        match memory.circuit {
            Circuit::Open { .. } => found.push(("S10", format!("{key} was started and its circuit is open"))),
            Circuit::Closed | Circuit::HalfOpen { .. } => {}
        }
        if let Some(fall) = self.oracle.fell.get(key) {
            let delay = backoff::base_delay(memory.streak, &self.policy);
            if !fall.remembered {
                found.push(("S10", format!("{key} was started and its last end is not remembered")));
            } else if fall.counted
                && memory.circuit == Circuit::Closed
                && self.now.since(fall.at) < delay
                && !self.oracle.hurried.contains(key)
            {
                found.push(("S9", format!("{key} was started {:?} after a failure", self.now.since(fall.at))));
            }
        }
        found
    }

    /// The record of a run is about to be written again: if that begins its stop, there is a reason for one.
    pub(crate) fn judge_stop(&mut self, record: &RunRecord) {
        let key = &record.key;
        let begins = self.disk.runs.get(&(key.clone(), record.run)).is_some_and(|before| before.stop.is_none());
        let process = self.processes.get(&record.process.pid).map(|(_, process)| process);
        let Some(process) = process.filter(|process| process.identity == record.process && process.main_lives) else {
            return;
        };
        if begins && record.stop.is_some() && !self.has_to_end(key, process) {
            self.oracle.report("need", format!("{key} is ended for no reason"));
        }
    }

    fn has_to_end(&self, key: &Key, process: &Process) -> bool {
        let memory = self.disk.memories.get(key);
        let differs = |told: Option<&std::sync::Arc<crate::model::Instance>>| {
            told.is_none_or(|told| {
                told.content.launch != process.instance.content.launch || told.content.state == DesiredState::Stopped
            })
        };
        differs(self.told.get(key))
            || differs(self.disk.declared.get(key))
            || memory.is_some_and(|memory| memory.suspension.is_some() || memory.ended == Some(process.run))
            || self.oracle.excused.contains(&process.run)
            || self.is_ill(process)
    }

    /// Whether a process has failed its health check for long enough, or was not healthy in time.
    pub(super) fn is_ill(&self, process: &Process) -> bool {
        let Some(check) = &process.instance.content.supervision.healthcheck else { return false };
        let since = process.broken.or(process.executed);
        let startup = process.program.healthy_after.is_none_or(|after| after >= check.startup_timeout);
        let patience = match process.broken {
            // A launcher that has taken it over waits for its first success.
            Some(_) => check.startup_timeout.min(check.interval * check.failure_threshold.saturating_sub(1)),
            None => check.startup_timeout,
        };
        startup && since.is_some_and(|since| self.now.since(since) >= patience)
    }

    /// Somebody's question was answered: what it allows from now on.
    pub(crate) fn excuse(&mut self, key: &Key, ask: &Ask) {
        match ask {
            Ask::Launch => {
                self.oracle.unanswered.insert(key.clone());
            }
            Ask::Restart => {
                self.oracle.hurried.insert(key.clone());
                self.excuse_runs(key);
            }
            Ask::Reset => {
                self.oracle.forgiven.insert(key.clone());
                self.oracle.hurried.insert(key.clone());
            }
            Ask::Hasten(_) | Ask::Suspend { .. } | Ask::Resume | Ask::Abandon => {}
        }
    }

    /// The launched file of a key was removed by request.
    pub(crate) fn excuse_end(&mut self, key: &Key) {
        self.oracle.forgiven.insert(key.clone());
        self.oracle.hurried.insert(key.clone());
        self.excuse_runs(key);
    }

    fn excuse_runs(&mut self, key: &Key) {
        let runs = self.processes.values().filter(|(owner, _)| owner == key).map(|(_, process)| process.run);
        self.oracle.excused.extend(runs);
    }

    /// The launcher has lived through a turn: whoever launched something has been answered, and what runs is known to.
    pub(crate) fn answer(&mut self) {
        for (_, process) in self.processes.values_mut().filter(|(_, process)| process.main_lives) {
            process.seen |= process.executed.is_some_and(|at| self.now.since(at) > World::WORD_OF_START);
        }
        for key in std::mem::take(&mut self.oracle.unanswered) {
            self.oracle.answered.insert(key, self.now);
        }
    }

    /// A launch is said to have expired.
    pub(crate) fn judge_expiry(&mut self, key: &Key) {
        let ttl = self.disk.declared.get(key).and_then(|instance| instance.content.ttl);
        let answered = self.oracle.answered.get(key).copied();
        if let (Some(ttl), Some(answered)) = (ttl, answered)
            && self.now.since(answered) < ttl
        {
            self.oracle.report("S8", format!("{key} expired {:?} after an answered launch", self.now.since(answered)));
        }
    }
}
