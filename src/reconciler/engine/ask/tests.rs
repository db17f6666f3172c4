use super::*;
use crate::error::Code;
use crate::model::{
    BootId, Circuit, DesiredState, ExitReason, Instance, KeyStatus, Policy, ProcessIdentity, ProcessState,
    RestartPolicy, RunRecord,
};
use crate::observed::{DesiredChange, EndedLaunch, Event, Launched, ProbeOutcome, Restored, RestoredRun, Stage};
use crate::testing::Chance;
use crate::testing::samples::instance;
use std::sync::Arc;

/// An engine whose host is this test: every effect is answered by hand.
struct Bench {
    engine: Engine,
    now: Moment,
    dice: Chance,
    effects: Vec<Effect>,
}

impl Bench {
    fn new() -> Self {
        let now = Moment::new(BootId::from_u128(1), Duration::from_secs(1_000));
        let mut bench = Self { engine: engine(), now, dice: Chance::new(7), effects: Vec::new() };
        bench.change(DesiredChange { attempted: true, complete: true, ..DesiredChange::default() });
        bench
    }

    fn change(&mut self, change: DesiredChange) {
        self.engine.handle(Event::Desired(change), self.now, &mut self.dice);
        self.pass();
    }

    fn declare(&mut self, instance: &Instance) {
        self.change(DesiredChange { declared: vec![Arc::new(instance.clone())], ..DesiredChange::default() });
    }

    fn launch(&mut self, instance: &Instance) {
        let launched = vec![Launched { key: instance.key.clone(), by: Caller::Program }];
        self.change(DesiredChange { declared: vec![Arc::new(instance.clone())], launched, ..DesiredChange::default() });
    }

    fn end(&mut self, key: &Key, grace: Option<Duration>) {
        let ended = vec![EndedLaunch { key: key.clone(), grace, by: Caller::Program }];
        self.change(DesiredChange { ended, withdrawn: vec![key.clone()], ..DesiredChange::default() });
    }

    fn pass(&mut self) {
        self.effects = self.engine.pass(self.now, &mut self.dice);
    }

    fn event(&mut self, event: Event) {
        self.engine.handle(event, self.now, &mut self.dice);
        self.pass();
    }

    fn later(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
        self.pass();
    }

    fn ask(&mut self, key: &Key, ask: Ask) -> Result<Option<RunId>> {
        let by = Caller::Peer { uid: 1000, pid: Some(77) };
        let answer = self.engine.ask(Asked { key: key.clone(), by, ask }, self.now, &mut self.dice);
        self.pass();
        answer
    }

    /// The run whose child is being made, if one is.
    fn prepared(&self) -> Option<RunId> {
        self.engine.entries.values().find_map(|entry| match &entry.observed.phase {
            Phase::Starting(start) if matches!(start.stage, Stage::Preparing) => Some(start.run),
            Phase::Idle | Phase::Starting(_) | Phase::Running(_) | Phase::Ending(_) => None,
        })
    }

    fn hold(&mut self, key: &Key, run: RunId) {
        let process = ProcessIdentity { pid: 4711, start_time: 1, boot: self.now.boot, cgroup: None };
        self.event(Event::Prepared { key: key.clone(), run, process });
    }

    /// Sees a start that has just been decided through until the process is healthy.
    fn runs(&mut self, key: &Key) -> RunId {
        let run = self.prepared().expect("a start was decided");
        self.hold(key, run);
        self.event(Event::Started { key: key.clone(), run });
        self.event(Event::Probed { key: key.clone(), run, outcome: ProbeOutcome::Success });
        run
    }

    fn exits(&mut self, key: &Key, run: RunId, exit: ExitReason) {
        self.event(Event::Exited { key: key.clone(), run, exit, tree_gone: true });
    }

    fn status(&self, key: &Key) -> KeyStatus {
        self.engine.status(key, self.now).expect("it is known")
    }

    fn signals(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::Signal { .. })).count()
    }

    fn kills(&self) -> usize {
        self.effects.iter().filter(|effect| matches!(effect, Effect::KillTree { .. })).count()
    }

    fn notes(&self) -> Vec<&'static str> {
        self.effects
            .iter()
            .filter_map(|effect| if let Effect::Note(note) = effect { Some(note.message) } else { None })
            .collect()
    }

    /// The launcher dies and the next one takes over what was written: these memories, this record.
    fn taken_over(&mut self, memories: Vec<crate::model::Memory>, record: Option<RunRecord>) {
        self.engine = engine();
        let runs = record.map(RestoredRun::Alive).into_iter().collect();
        self.engine.restore(Restored { memories, runs }, self.now, &mut self.dice);
        self.change(DesiredChange { attempted: true, complete: true, ..DesiredChange::default() });
    }

    fn memory(&self, key: &Key) -> crate::model::Memory {
        self.engine.entries[key].observed.memory.clone()
    }

    fn record(&self, key: &Key) -> RunRecord {
        let Phase::Running(run) = &self.engine.entries[key].observed.phase else { panic!("{key} does not run") };
        run.record.clone()
    }
}

fn engine() -> Engine {
    Engine::new(Policy::default(), "logs".into())
}

/// An instance that somebody launched.
fn launched(ttl: Option<Duration>) -> Instance {
    let mut instance = instance("p", "t", 1, 1);
    instance.origin.api_managed = true;
    instance.content.ttl = ttl;
    instance
}

fn suspend(lasting: Option<Duration>) -> Ask {
    Ask::Suspend { reason: "upgrade of the disk".to_owned(), lasting }
}

fn crash_until_open(bench: &mut Bench, key: &Key) {
    for _ in 0..5 {
        let run = bench.runs(key);
        bench.exits(key, run, ExitReason::Code(1));
        bench.later(3);
    }
    assert_eq!(bench.status(key).state, ProcessState::Failed);
}

/// What it is called, how it comes about, the code that follows and words of the error.
type Setting<'a> = (&'a str, &'a dyn Fn(&mut Bench), Code, &'a [&'a str]);

#[test]
fn what_cannot_be_started_says_why_and_what_to_do() {
    let stopped = |bench: &mut Bench| {
        let mut stopped = instance("p", "t", 1, 1);
        stopped.content.state = DesiredState::Stopped;
        bench.declare(&stopped);
    };
    let suspended = |bench: &mut Bench| {
        bench.declare(&instance("p", "t", 1, 1));
        bench.ask(&instance("p", "t", 1, 1).key, suspend(None)).unwrap();
    };
    let open = |bench: &mut Bench| {
        let declared = instance("p", "t", 1, 1);
        bench.declare(&declared);
        crash_until_open(bench, &declared.key);
    };
    let shutdown = |bench: &mut Bench| {
        bench.declare(&instance("p", "t", 1, 1));
        bench.engine.begin_shutdown();
    };
    let settings: [Setting<'_>; 5] = [
        ("unknown", &|_| {}, Code::ProcessNotFound, &["prismctl pattern list"]),
        ("stopped", &stopped, Code::ProcessStartFailed, &["/desired/t.yaml", "line 1", "state: running"]),
        (
            "suspended",
            &suspended,
            Code::ProcessStartFailed,
            &["prismctl pattern resume ns:t:p", "for 0 s", "uid 1000 (pid 77)", "Cause: upgrade of the disk"],
        ),
        ("open", &open, Code::MaxErrorsExceeded, &["prismctl pattern reset ns:t:p", "Cause: [PROCESS_CRASHED]"]),
        ("shutdown", &shutdown, Code::StoreUnavailable, &["pattern-launcher run"]),
    ];
    for (name, set_up, code, words) in settings {
        for ask in [Ask::Launch, Ask::Restart] {
            let mut bench = Bench::new();
            set_up(&mut bench);
            let before = bench.engine.entries.values().map(|entry| entry.observed.memory.clone()).collect::<Vec<_>>();
            let error = bench.ask(&instance("p", "t", 1, 1).key, ask.clone()).unwrap_err();
            assert_eq!(error.code(), code, "{name} {ask:?}: {error}");
            for word in words {
                assert!(error.to_string().contains(word), "{name} {ask:?}: no '{word}' in {error}");
            }
            let after = bench.engine.entries.values().map(|entry| entry.observed.memory.clone()).collect::<Vec<_>>();
            assert_eq!(before, after, "{name} {ask:?}: what is refused changes nothing");
            let starts = bench.effects.iter().any(|effect| matches!(effect, Effect::Prepare(_)));
            assert!(!starts, "{name} {ask:?}");
        }
    }
}

#[test]
fn a_near_id_is_suggested() {
    let mut bench = Bench::new();
    bench.declare(&instance("p", "tenant", 1, 1));
    let error = bench.ask(&instance("p", "tennant", 1, 1).key, Ask::Reset).unwrap_err();
    assert!(error.to_string().contains("did you mean ns:tenant:p?"), "{error}");
}

#[test]
fn a_launch_of_what_has_finished_runs_it_again_and_of_what_runs_does_nothing() {
    let mut bench = Bench::new();
    let mut job = launched(None);
    job.content.supervision.restart = RestartPolicy::OnFailure;
    let key = job.key.clone();
    bench.launch(&job);
    assert_eq!(bench.status(&key).asked_by.as_deref(), Some("this program"));
    let run = bench.runs(&key);
    assert_eq!(bench.ask(&key, Ask::Launch), Ok(Some(run)));
    assert_eq!((bench.effects.len(), bench.status(&key).asked_by.as_deref()), (0, Some("this program")));
    bench.exits(&key, run, ExitReason::Code(0));
    assert_eq!(bench.status(&key).state, ProcessState::Finished);
    assert_eq!(bench.ask(&key, Ask::Launch), Ok(None));
    assert_eq!(bench.status(&key).asked_by.as_deref(), Some("uid 1000 (pid 77)"));
    assert_ne!(bench.runs(&key), run);
    assert_eq!(bench.status(&key).state, ProcessState::Running);
}

#[test]
fn a_restart_replaces_the_process_and_counts_no_failure() {
    let mut bench = Bench::new();
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    bench.declare(&declared);
    let run = bench.runs(&key);
    assert_eq!(bench.ask(&key, Ask::Restart), Ok(Some(run)));
    assert_eq!((bench.signals(), bench.kills()), (1, 0));
    // Asked again while it ends, it is waited for.
    assert_eq!(bench.ask(&key, Ask::Restart), Ok(Some(run)));
    assert_eq!(bench.signals(), 0);
    bench.exits(&key, run, ExitReason::Signal(15));
    assert_ne!(bench.runs(&key), run);
    let status = bench.status(&key);
    assert_eq!((status.state, status.error_count, status.restart_count), (ProcessState::Running, 0, 1));
}

#[test]
fn a_restart_ends_a_backoff_and_runs_what_has_finished() {
    let mut bench = Bench::new();
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    bench.declare(&declared);
    for _ in 0..2 {
        let run = bench.runs(&key);
        bench.exits(&key, run, ExitReason::Code(1));
    }
    assert_eq!(bench.prepared(), None, "it is in backoff");
    assert_eq!(bench.ask(&key, Ask::Restart), Ok(None));
    bench.runs(&key);
    let status = bench.status(&key);
    assert_eq!((status.error_count, status.restart_count), (2, 2), "a start in a streak is counted once");

    let mut bench = Bench::new();
    let mut once = instance("p", "t", 1, 1);
    once.content.supervision.restart = RestartPolicy::Never;
    bench.declare(&once);
    let run = bench.runs(&key);
    bench.exits(&key, run, ExitReason::Code(3));
    assert_eq!(bench.status(&key).state, ProcessState::Finished);
    assert_eq!(bench.ask(&key, Ask::Restart), Ok(None));
    bench.runs(&key);
    assert_eq!((bench.status(&key).state, bench.status(&key).restart_count), (ProcessState::Running, 1));
}

#[test]
fn a_restart_survives_the_launcher() {
    let mut bench = Bench::new();
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    bench.declare(&declared);
    let run = bench.runs(&key);
    bench.ask(&key, Ask::Restart).unwrap();
    let (memory, record) = (bench.memory(&key), bench.record(&key));
    assert!(record.stop.is_some_and(|stop| stop.signalled));
    bench.taken_over(vec![memory], Some(record));
    assert_eq!(bench.status(&key).state, ProcessState::Terminating);
    bench.exits(&key, run, ExitReason::Signal(15));
    bench.runs(&key);
    assert_eq!((bench.status(&key).error_count, bench.status(&key).restart_count), (0, 1));
}

#[test]
fn a_suspension_stops_and_a_resumption_starts() {
    let mut bench = Bench::new();
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    bench.declare(&declared);
    let run = bench.runs(&key);
    assert_eq!(bench.ask(&key, suspend(None)), Ok(Some(run)));
    assert_eq!((bench.signals(), bench.status(&key).state), (1, ProcessState::Terminating));
    bench.exits(&key, run, ExitReason::Signal(15));
    let status = bench.status(&key);
    assert_eq!((status.state, status.error_count), (ProcessState::Terminated, 0));
    assert_eq!(status.verdict.reason, "suspended by uid 1000 (pid 77): upgrade of the disk");
    // Another content does not resume it, nor does the next launcher.
    bench.declare(&instance("p", "t", 2, 2));
    assert_eq!((bench.prepared(), bench.status(&key).generation.0), (None, 2));
    let memory = bench.memory(&key);
    bench.taken_over(vec![memory], None);
    assert_eq!((bench.prepared(), bench.status(&key).state), (None, ProcessState::Terminated));
    assert_eq!(bench.ask(&key, Ask::Resume), Ok(None));
    bench.runs(&key);
    assert_eq!(bench.status(&key).suspension, None);
    assert!(bench.ask(&key, Ask::Resume).is_ok(), "what is not suspended is resumed at no cost");
    assert_eq!(bench.signals(), 0);
}

#[test]
fn a_suspension_of_some_time_ends_by_itself_also_after_a_restart_of_the_machine() {
    let minute = Some(Duration::from_secs(60));
    let mut bench = Bench::new();
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    bench.declare(&declared);
    let run = bench.runs(&key);
    bench.ask(&key, suspend(None)).unwrap();
    bench.ask(&key, suspend(minute)).unwrap();
    bench.exits(&key, run, ExitReason::Signal(15));
    let ends = bench.status(&key).suspension.unwrap().ends_at_boot_seconds;
    assert_eq!(ends, Some(1_060.0), "the second suspension holds");
    bench.later(59);
    assert_eq!(bench.prepared(), None);
    let asleep = bench.memory(&key);
    bench.later(1);
    assert!(bench.prepared().is_some() && bench.notes().contains(&"resumed"), "{:?}", bench.effects);

    bench.now = Moment::new(BootId::from_u128(2), Duration::from_secs(5));
    bench.taken_over(vec![asleep], None);
    bench.later(59);
    assert_eq!(bench.prepared(), None, "it begins anew");
    bench.later(1);
    assert!(bench.prepared().is_some());
}

#[test]
fn a_suspension_in_the_middle_of_a_start_lets_the_held_child_go() {
    let mut bench = Bench::new();
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    bench.declare(&declared);
    let run = bench.prepared().unwrap();
    bench.ask(&key, suspend(None)).unwrap();
    bench.hold(&key, run);
    assert!(matches!(bench.effects.as_slice(), [Effect::Discard { .. }]), "{:?}", bench.effects);
    let error = Error::new(Code::ProcessStartFailed, "let go");
    bench.event(Event::StartFailed { key: key.clone(), run, error });
    let status = bench.status(&key);
    assert_eq!((status.state, status.error_count), (ProcessState::Terminated, 0));
}

#[test]
fn a_reset_closes_the_circuit_and_starts_at_once() {
    let mut bench = Bench::new();
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    bench.declare(&declared);
    crash_until_open(&mut bench, &key);
    assert_eq!(bench.ask(&key, Ask::Reset), Ok(None));
    let memory = bench.memory(&key);
    assert_eq!((memory.streak, memory.circuit), (0, Circuit::Closed));
    assert_eq!(memory.last_error.map(|error| error.code()), Some(Code::MaxErrorsExceeded), "why is still told");
    bench.runs(&key);
    // In backoff, too.
    for _ in 0..2 {
        let run = bench.engine.entries[&key].observed.run().unwrap();
        bench.exits(&key, run, ExitReason::Code(1));
        if bench.prepared().is_some() {
            bench.runs(&key);
        }
    }
    assert_eq!(bench.prepared(), None);
    bench.ask(&key, Ask::Reset).unwrap();
    assert!(bench.prepared().is_some());
}

#[test]
fn s7_a_stop_is_hastened_and_never_delayed() {
    let mut bench = Bench::new();
    let declared = launched(None);
    let key = declared.key.clone();
    bench.launch(&declared);
    bench.runs(&key);
    assert_eq!(bench.ask(&key, Ask::Hasten(Duration::ZERO)).unwrap_err().code(), Code::ProcessNotFound);
    bench.end(&key, Some(Duration::from_secs(5)));
    assert_eq!((bench.signals(), bench.kills()), (1, 0));
    bench.ask(&key, Ask::Hasten(Duration::from_secs(60))).unwrap();
    bench.later(4);
    assert_eq!(bench.kills(), 0);
    bench.later(1);
    assert_eq!(bench.kills(), 1, "its grace period was shortened to 5 s and is not lengthened");

    let mut bench = Bench::new();
    bench.launch(&declared);
    bench.runs(&key);
    bench.end(&key, None);
    assert_eq!((bench.signals(), bench.kills()), (1, 0));
    bench.ask(&key, Ask::Hasten(Duration::ZERO)).unwrap();
    assert_eq!(bench.kills(), 1);
    assert!(bench.record(&key).stop.is_some_and(|stop| stop.deadline == bench.now), "and it is on record");
}

#[test]
fn what_is_ended_by_force_is_asked_and_killed_at_once() {
    let mut bench = Bench::new();
    let declared = launched(None);
    bench.launch(&declared);
    let run = bench.runs(&declared.key);
    bench.end(&declared.key, Some(Duration::ZERO));
    assert_eq!((bench.signals(), bench.kills()), (1, 1));
    bench.exits(&declared.key, run, ExitReason::Signal(9));
    assert!(bench.engine.status(&declared.key, bench.now).is_none(), "it is forgotten");
}

#[test]
fn what_is_ended_and_launched_again_ends_first_and_starts_afresh() {
    let mut bench = Bench::new();
    let mut declared = launched(None);
    let key = declared.key.clone();
    bench.launch(&declared);
    for _ in 0..2 {
        let run = bench.runs(&key);
        bench.exits(&key, run, ExitReason::Code(1));
        bench.later(2);
    }
    let run = bench.runs(&key);
    assert_eq!(bench.status(&key).error_count, 2);
    // Both within one change.
    let by = Caller::Program;
    bench.change(DesiredChange {
        ended: vec![EndedLaunch { key: key.clone(), grace: None, by: by.clone() }],
        withdrawn: vec![key.clone()],
        declared: vec![Arc::new(declared.clone())],
        launched: vec![Launched { key: key.clone(), by: by.clone() }],
        ..DesiredChange::default()
    });
    let status = bench.status(&key);
    assert_eq!((status.state, status.error_count, status.restart_count), (ProcessState::Terminating, 0, 0));
    assert!(status.failure.is_none());
    bench.exits(&key, run, ExitReason::Signal(15));
    assert_ne!(bench.runs(&key), run);

    // And while it is being started: what is on its way is not the process of the second launch.
    bench.end(&key, None);
    let run = bench.engine.entries[&key].observed.run().unwrap();
    bench.exits(&key, run, ExitReason::Signal(15));
    bench.launch(&declared);
    let first = bench.prepared().unwrap();
    bench.hold(&key, first);
    assert!(bench.effects.iter().any(|effect| matches!(effect, Effect::Commit(_))));
    bench.end(&key, Some(Duration::from_secs(1)));
    declared.content.ttl = None;
    bench.launch(&declared);
    bench.event(Event::Started { key: key.clone(), run: first });
    assert_eq!(bench.signals(), 1);
    let stop = bench.record(&key).stop.unwrap();
    assert_eq!(stop.deadline.since(stop.since), Duration::from_secs(1));
    bench.exits(&key, first, ExitReason::Signal(15));
    assert_ne!(bench.runs(&key), first);
}

#[test]
fn a_ttl_ends_what_nobody_launches_again_and_is_renewed_by_who_does() {
    let mut bench = Bench::new();
    let declared = launched(Some(Duration::from_secs(60)));
    let key = declared.key.clone();
    let expires = |bench: &Bench| {
        bench
            .effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Expire { key: expired } if *expired == key))
            .count()
    };
    bench.launch(&declared);
    bench.runs(&key);
    assert_eq!(bench.status(&key).expires_at_boot_seconds, Some(1_066.0), "60 s and a tenth");
    bench.later(5);
    assert!(!bench.status(&key).wants_renewal(bench.now));
    bench.ask(&key, Ask::Launch).unwrap();
    assert!(bench.effects.is_empty(), "the slack covers it: {:?}", bench.effects);
    bench.later(2);
    assert!(bench.status(&key).wants_renewal(bench.now));
    bench.ask(&key, Ask::Launch).unwrap();
    assert_eq!(bench.status(&key).expires_at_boot_seconds, Some(1_073.0));
    // The next launcher knows.
    let (memory, record) = (bench.memory(&key), bench.record(&key));
    bench.taken_over(vec![memory.clone()], Some(record));
    bench.later(65);
    assert_eq!(expires(&bench), 0);
    bench.later(1);
    assert_eq!((expires(&bench), bench.notes()), (1, vec!["launch expired"]));
    bench.later(4);
    assert_eq!(expires(&bench), 0);
    bench.later(1);
    assert_eq!((expires(&bench), bench.notes()), (1, vec![]), "asked again, as its file is still there");
    assert_eq!(bench.ask(&key, Ask::Launch).unwrap_err().code(), Code::ProcessNotFound, "it is as good as gone");

    bench.now = Moment::new(BootId::from_u128(2), Duration::from_secs(5));
    bench.taken_over(vec![memory], None);
    bench.later(65);
    assert_eq!(expires(&bench), 0, "it begins anew after a restart of the machine");
    bench.later(1);
    assert_eq!(expires(&bench), 1);
}

#[test]
fn a_ttl_is_over_for_what_is_suspended_finished_or_failed_and_never_for_a_persons_file() {
    let ttl = Some(Duration::from_secs(60));
    let expired = |bench: &Bench| bench.effects.iter().any(|effect| matches!(effect, Effect::Expire { .. }));
    for restart in [RestartPolicy::Always, RestartPolicy::Never] {
        let mut bench = Bench::new();
        let mut declared = launched(ttl);
        declared.content.supervision.restart = restart;
        let key = declared.key.clone();
        bench.launch(&declared);
        let run = bench.runs(&key);
        match restart {
            RestartPolicy::Never => bench.exits(&key, run, ExitReason::Code(1)),
            RestartPolicy::Always | RestartPolicy::OnFailure => {
                bench.ask(&key, suspend(None)).unwrap();
                bench.exits(&key, run, ExitReason::Signal(15));
            }
        }
        bench.later(66);
        assert!(expired(&bench), "{restart:?}");
        assert_eq!(bench.prepared(), None);
    }
    let mut bench = Bench::new();
    let mut theirs = instance("p", "t", 1, 1);
    theirs.content.ttl = ttl;
    bench.declare(&theirs);
    bench.runs(&theirs.key);
    bench.later(600);
    assert!(!expired(&bench));
}

#[test]
fn a_change_of_the_ttl_alone_restarts_nothing_and_does_not_run_what_has_finished() {
    let mut bench = Bench::new();
    let mut declared = launched(None);
    declared.content.supervision.restart = RestartPolicy::Never;
    let key = declared.key.clone();
    bench.launch(&declared);
    let run = bench.runs(&key);
    declared.content.ttl = Some(Duration::from_secs(60));
    bench.declare(&declared);
    let status = bench.status(&key);
    assert_eq!((bench.signals(), status.generation.0, status.observed_generation.0), (0, 2, 2));
    assert_eq!(status.expires_at_boot_seconds, Some(1_066.0), "it counts from now");
    bench.exits(&key, run, ExitReason::Code(0));
    declared.content.ttl = Some(Duration::from_secs(90));
    bench.declare(&declared);
    assert_eq!((bench.prepared(), bench.status(&key).state), (None, ProcessState::Finished));
}

#[test]
fn only_what_cannot_be_verified_is_abandoned() {
    let mut bench = Bench::new();
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    assert_eq!(bench.ask(&key, Ask::Abandon).unwrap_err().code(), Code::ProcessNotFound);
    bench.declare(&declared);
    bench.runs(&key);
    assert_eq!(bench.ask(&key, Ask::Abandon).unwrap_err().code(), Code::AlreadyRunning);

    let damaged = Error::new(Code::StoreUnavailable, "damaged").suggest("look at it");
    let unverifiable = RestoredRun::Unverifiable { file_name: key.file_name(), error: damaged };
    let mut bench = Bench::new();
    bench.engine = engine();
    let restored = Restored { memories: vec![], runs: vec![unverifiable] };
    bench.engine.restore(restored, bench.now, &mut bench.dice);
    bench.change(DesiredChange { attempted: true, complete: true, ..DesiredChange::default() });
    bench.declare(&declared);
    assert_eq!((bench.prepared(), bench.status(&key).state), (None, ProcessState::Failed));
    let refused = bench.ask(&key, Ask::Launch).unwrap_err();
    assert!(refused.to_string().contains("look at it; once nothing of it lives, prismctl pattern abandon ns:t:p"));
    assert_eq!(bench.ask(&key, Ask::Abandon), Ok(None));
    assert!(bench.effects.iter().any(|effect| matches!(effect, Effect::Abandon { .. })), "{:?}", bench.effects);
    let audited = bench
        .effects
        .iter()
        .any(|effect| matches!(effect, Effect::Note(note) if note.message == "process abandoned" && note.by.is_some()));
    assert!(audited && bench.signals() == 0 && bench.kills() == 0);
    bench.runs(&key);
    assert_eq!(bench.ask(&key, Ask::Abandon).unwrap_err().code(), Code::AlreadyRunning);
}

#[test]
fn a_note_says_who_asked() {
    for (ask, message) in [
        (suspend(None), "suspended"),
        (Ask::Resume, "resumed"),
        (Ask::Restart, "restart asked for"),
        (Ask::Reset, "failures forgotten"),
    ] {
        let mut bench = Bench::new();
        let declared = instance("p", "t", 1, 1);
        bench.declare(&declared);
        bench.runs(&declared.key);
        bench.ask(&declared.key, ask).unwrap();
        let said = bench.effects.iter().any(|effect| {
            matches!(effect, Effect::Note(note) if note.message == message && note.reason.contains("uid 1000 (pid 77)"))
        });
        assert!(said, "{message}: {:?}", bench.effects);
    }
}
