//! An engine and the hand that drives it.

use super::super::*;
use crate::model::{
    BootId, Confinement, ExitReason, Instance, KeyStatus, Memory, Policy, ProcessIdentity, ProcessState, RunRecord,
};
use crate::observed::{
    DesiredChange, EndedLaunch, Event, Launched, ProbeOutcome, Restored, RestoredRun, Stage, Writing,
};
use crate::testing::Chance;
use crate::testing::samples::instance;
use std::sync::Arc;

/// An engine whose host is this test: every effect is answered by hand.
pub(super) struct Bench {
    pub(super) engine: Engine,
    pub(super) now: Moment,
    pub(super) dice: Chance,
    pub(super) effects: Vec<Effect>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let now = Moment::new(BootId::from_u128(1), Duration::from_secs(1_000));
        let mut bench = Self { engine: engine(), now, dice: Chance::new(7), effects: Vec::new() };
        bench.change(DesiredChange { attempted: true, complete: true, ..DesiredChange::default() });
        bench
    }

    pub(super) fn change(&mut self, change: DesiredChange) {
        self.engine.handle(Event::Desired(change), self.now, &mut self.dice);
        self.pass();
    }

    pub(super) fn declare(&mut self, instance: &Instance) {
        self.change(DesiredChange { declared: vec![Arc::new(instance.clone())], ..DesiredChange::default() });
    }

    pub(super) fn launch(&mut self, instance: &Instance) {
        let launched = vec![Launched { key: instance.key.clone(), by: Caller::Program, writing: Writing::Launch }];
        self.change(DesiredChange { declared: vec![Arc::new(instance.clone())], launched, ..DesiredChange::default() });
    }

    pub(super) fn end(&mut self, key: &Key, grace: Option<Duration>) {
        let ended = vec![EndedLaunch { key: key.clone(), grace, by: Caller::Program }];
        self.change(DesiredChange { ended, withdrawn: vec![key.clone()], ..DesiredChange::default() });
    }

    pub(super) fn pass(&mut self) {
        self.effects = self.engine.pass(self.now, &mut self.dice);
    }

    pub(super) fn event(&mut self, event: Event) {
        self.engine.handle(event, self.now, &mut self.dice);
        self.pass();
    }

    pub(super) fn later(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.pass();
    }

    pub(super) fn ask(&mut self, key: &Key, ask: Ask) -> Result<Option<RunId>> {
        let by = Caller::Peer { uid: 1000, pid: Some(77) };
        let answer = self.engine.ask(Asked { key: key.clone(), by, ask }, self.now, &mut self.dice);
        self.pass();
        answer
    }

    /// The run whose child is being made, if one is.
    pub(super) fn prepared(&self) -> Option<RunId> {
        self.engine.entries.values().find_map(|entry| match &entry.observed.phase {
            Phase::Starting(start) if matches!(start.stage, Stage::Preparing) => Some(start.run),
            Phase::Idle | Phase::Starting(_) | Phase::Running(_) | Phase::Ending(_) => None,
        })
    }

    pub(super) fn hold(&mut self, key: &Key, run: RunId) {
        let process = ProcessIdentity {
            pid: 4711,
            start_time: 1,
            boot: self.now.boot,
            cgroup: None,
            confinement: Confinement::default(),
        };
        self.event(Event::Prepared { key: key.clone(), run, process });
    }

    /// Sees a start that has just been decided through until the process is healthy.
    pub(super) fn runs(&mut self, key: &Key) -> RunId {
        let run = self.prepared().expect("a start was decided");
        self.hold(key, run);
        self.event(Event::Started { key: key.clone(), run });
        self.event(Event::Probed { key: key.clone(), run, outcome: ProbeOutcome::Success });
        run
    }

    pub(super) fn exits(&mut self, key: &Key, run: RunId, exit: ExitReason) {
        self.event(Event::Exited { key: key.clone(), run, exit, oom: None, tree_gone: true });
    }

    pub(super) fn status(&self, key: &Key) -> KeyStatus {
        self.engine.status(key, self.now).expect("it is known")
    }

    pub(super) fn signals(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Signal { .. })).count()
    }

    pub(super) fn kills(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::KillTree { .. })).count()
    }

    pub(super) fn notes(&self) -> Vec<&'static str> {
        self.effects
            .iter()
            .filter_map(|effect| if let Effect::Note(note) = effect { Some(note.message) } else { None })
            .collect()
    }

    /// The launcher dies and the next one takes over what was written: these memories, this record.
    pub(super) fn taken_over(&mut self, memories: Vec<Memory>, record: Option<RunRecord>) {
        self.engine = engine();
        let runs = record.map(RestoredRun::Alive).into_iter().collect();
        self.engine.restore(Restored { memories, runs }, self.now, &mut self.dice);
        self.change(DesiredChange { attempted: true, complete: true, ..DesiredChange::default() });
    }

    pub(super) fn memory(&self, key: &Key) -> Memory {
        self.engine.entries[key].observed.memory.clone()
    }

    pub(super) fn record(&self, key: &Key) -> RunRecord {
        let Phase::Running(run) = &self.engine.entries[key].observed.phase else { panic!("{key} does not run") };
        run.record.clone()
    }
}

pub(super) fn engine() -> Engine {
    Engine::new(Policy::default())
}

/// An instance that somebody launched.
pub(super) fn launched(ttl: Option<Duration>) -> Instance {
    let mut instance = instance("p", "t", 1, 1);
    instance.origin.api_managed = true;
    instance.content.ttl = ttl;
    instance
}

pub(super) fn suspend(lasting: Option<Duration>) -> Ask {
    Ask::Suspend { reason: "upgrade of the disk".to_owned(), lasting }
}

pub(super) fn crash_until_open(bench: &mut Bench, key: &Key) {
    for _ in 0..5 {
        let run = bench.runs(key);
        bench.exits(key, run, ExitReason::Code(1));
        bench.later(3);
    }
    assert_eq!(bench.status(key).state, ProcessState::Failed);
}
