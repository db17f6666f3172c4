//! What must hold once the machine has come to rest.

use super::{Violation, World};
use crate::model::{DesiredState, Key, KeyStatus, ProcessState};
use crate::observed::Event;
use crate::observed::event::DesiredChange;
use crate::plan::Effect;
use crate::reconciler::engine::Engine;
use crate::testing::Program;

impl World {
    /// What must hold once the machine has come to rest: observed equals desired (L1), nothing is done about it, and
    /// a launcher that takes over would do and write nothing (S14).
    pub fn check_at_rest(&mut self) -> Vec<Violation> {
        let now = self.now;
        let mut found = self.oracle.violations.clone();
        found.extend(self.unsettled());
        if self.engine.is_none() || !self.is_idle() {
            return found;
        }
        let mut chance = self.chance.clone();
        if let Some(engine) = &mut self.engine {
            engine.resync();
            let effects = engine.pass(now, &mut chance);
            if !effects.is_empty() {
                found.push(Violation {
                    property: "S14",
                    what: format!("a pass over a converged world does {effects:?}"),
                });
            }
        }
        let mut successor = Engine::new(self.policy.clone());
        successor.restore(self.left(), now, &mut chance);
        let change = DesiredChange { attempted: true, complete: true, ..DesiredChange::default() };
        successor.handle(Event::Desired(change), now, &mut chance);
        let mut effects = successor.pass(now, &mut chance);
        effects.retain(|effect| !matches!(effect, Effect::Probe { .. } | Effect::StopProbe { .. } | Effect::Note(_)));
        if !effects.is_empty() {
            found.push(Violation { property: "S14", what: format!("a launcher that takes over does {effects:?}") });
        }
        found
    }

    /// Whether everything is as it was asked for, and nothing is under way.
    pub(crate) fn is_at_rest(&self) -> bool {
        let Some(engine) = self.engine.as_ref().filter(|_| self.told_scanned && !self.has_news()) else {
            return false;
        };
        let done = |key: &Key| {
            self.disk.declared.contains_key(key)
                && engine
                    .status(key, self.now)
                    .is_some_and(|status| !matches!(status.state, ProcessState::Starting | ProcessState::Terminating))
        };
        engine.keys().all(done) && self.unsettled().is_empty()
    }

    /// Whether nothing is about to end or to be tried by itself.
    fn is_idle(&self) -> bool {
        self.disk.declared.keys().all(|key| {
            let ends = self.program(key).lives.is_some();
            let state = self.status(key).map(|status| status.state);
            !ends || matches!(state, Some(ProcessState::Finished | ProcessState::Terminated))
        })
    }

    fn program(&self, key: &Key) -> Program {
        self.programs.get(key).copied().unwrap_or(Program::SERVICE)
    }

    /// How what is observed differs from what is wished for.
    fn unsettled(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut report = |property, what| found.push(Violation { property, what });
        let Some(engine) = &self.engine else {
            report("L5", "no launcher runs".to_owned());
            return found;
        };
        for (key, instance) in &self.disk.declared {
            match engine.status(key, self.now) {
                Some(status) => {
                    if let Some((property, what)) = self.differs(instance.content.state, &status) {
                        report(property, what);
                    }
                }
                None => report("L3", format!("{key} is declared and not known")),
            }
        }
        for (key, process) in self.processes.values().filter(|(_, process)| process.counts()) {
            if !self.disk.declared.contains_key(key) {
                report("L2", format!("{key} is not declared and lives as pid {}", process.identity.pid));
            }
        }
        found
    }

    fn differs(&self, wish: DesiredState, status: &KeyStatus) -> Option<(&'static str, String)> {
        let key = &status.process_id;
        let program = self.program(key);
        let service = program.lives.is_none() && program.healthy_after.is_some();
        let running = status.state == ProcessState::Running && status.healthy;
        let suspended = status.suspension.is_some();
        if suspended && (status.pid.is_some() || status.state != ProcessState::Terminated) {
            return Some(("L1", format!("{key} is suspended and is {:?}", status.state)));
        }
        if wish == DesiredState::Running && service && !running && !suspended {
            return Some(("L1", format!("{key} should run and is {:?}: {}", status.state, status.verdict.reason)));
        }
        if wish == DesiredState::Stopped && status.pid.is_some() {
            return Some(("L1", format!("{key} should be stopped and runs")));
        }
        (running && status.observed_generation != status.generation).then(|| {
            ("L3", format!("{key} runs generation {:?} of {:?}", status.observed_generation, status.generation))
        })
    }
}
