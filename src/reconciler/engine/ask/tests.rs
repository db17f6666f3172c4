//! Each thing that can be asked for, by itself.

mod bench;
mod launches;

use super::*;
use crate::error::Code;
use crate::model::{
    BootId, Circuit, DesiredState, ExitReason, OomKill, OomPolicy, ProcessState, RestartPolicy, RunRecord,
};
use crate::observed::{DesiredChange, Event, Fault, Restored, RestoredRun};
use crate::plan::Note;
use crate::testing::samples::instance;
use bench::{Bench, crash_until_open, engine, launched, suspend};
use std::sync::Arc;

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
    let saved = |effect: &Effect| if let Effect::SaveRun(record) = effect { Some((**record).clone()) } else { None };
    let record = bench.effects.iter().rev().find_map(saved).unwrap();
    assert!(record.stop.is_some_and(|stop| stop.signalled));
    bench.taken_over(vec![bench.memory(&key)], Some(record));
    assert_eq!((bench.status(&key).state, bench.signals()), (ProcessState::Terminating, 0), "it has been asked");
    bench.exits(&key, run, ExitReason::Signal(15));
    bench.runs(&key);
    assert_eq!((bench.status(&key).error_count, bench.status(&key).restart_count), (0, 1));
}

#[test]
fn of_two_records_of_a_key_the_one_that_lives_is_taken_over_and_what_is_over_is_dropped() {
    let mut bench = Bench::new();
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    bench.declare(&declared);
    bench.runs(&key);
    let (memory, record) = (bench.memory(&key), bench.record(&key));
    // The record of a run that is over can outlive the launcher that had begun the next.
    let [before, rebooted] = [1, 2].map(|run| RunRecord { run: RunId::from_random(run), ..record.clone() });
    let over = RestoredRun::Ended { record: before.clone(), exit: ExitReason::Code(1), oom: None, tree_gone: true };
    let runs = vec![over, RestoredRun::Rebooted(rebooted.clone()), RestoredRun::Alive(record.clone())];
    bench.engine = engine();
    bench.engine.restore(Restored { memories: vec![memory], runs }, bench.now, &mut bench.dice);
    bench.change(DesiredChange { attempted: true, complete: true, ..DesiredChange::default() });
    let dropped: Vec<RunId> = bench
        .effects
        .iter()
        .filter_map(|effect| if let Effect::DropRun { run, .. } = effect { Some(*run) } else { None })
        .collect();
    assert_eq!(dropped.len(), 2);
    assert!(dropped.contains(&before.run) && dropped.contains(&rebooted.run), "{dropped:?}");
    assert_eq!((bench.status(&key).run_id, bench.status(&key).error_count), (Some(record.run), 0));
}

#[test]
fn a_held_child_is_let_go_of_when_what_is_declared_has_changed_or_gone_meanwhile() {
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    let changed = DesiredChange { declared: vec![Arc::new(instance("p", "t", 1, 2))], ..DesiredChange::default() };
    let withdrawn = DesiredChange { withdrawn: vec![key.clone()], ..DesiredChange::default() };
    for change in [DesiredChange::default(), changed, withdrawn] {
        let expected = change.declared.is_empty() && change.withdrawn.is_empty();
        let mut bench = Bench::new();
        bench.declare(&declared);
        let run = bench.prepared().unwrap();
        bench.change(change);
        bench.hold(&key, run);
        let released = bench.effects.iter().any(|effect| matches!(effect, Effect::Commit(_)));
        let let_go = bench.effects.iter().any(|effect| matches!(effect, Effect::Discard { .. }));
        assert_eq!((released, let_go), (expected, !expected), "{:?}", bench.effects);
    }
}

#[test]
fn a_start_that_fails_after_its_launch_was_ended_has_failed_at_nothing() {
    let mut bench = Bench::new();
    let declared = launched(None);
    let key = declared.key.clone();
    bench.launch(&declared);
    let run = bench.prepared().unwrap();
    bench.end(&key, None);
    bench.launch(&declared);
    let error = Error::new(Code::ExecutableNotFound, "it cannot be executed");
    bench.event(Event::StartFailed { key: key.clone(), run, error, fault: Fault::Instance });
    assert_eq!(bench.status(&key).error_count, 0);
    bench.runs(&key);
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
    bench.event(Event::StartFailed { key: key.clone(), run, error, fault: Fault::Instance });
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
fn an_orphan_that_is_found_keeps_its_key_from_being_started_until_it_is_gone_or_given_up() {
    let mut bench = Bench::new();
    let [one, other] = ["t", "u"].map(|tenant| instance("p", tenant, 1, 1));
    let orphan = |key: &Key| (key.file_name(), Error::new(Code::TerminationFailed, "an orphan").suggest("end it"));
    let told = |left: &[&Key]| Event::Orphans { left: left.iter().map(|key| orphan(key)).collect() };
    bench.declare(&one);
    let run = bench.runs(&one.key);
    bench.event(told(&[&one.key, &other.key]));
    assert_eq!(bench.status(&one.key).state, ProcessState::Running, "what runs goes on");
    // Its own run ends, and is not followed by another.
    bench.exits(&one.key, run, ExitReason::Code(1));
    bench.later(5);
    assert_eq!((bench.prepared(), bench.status(&one.key).state), (None, ProcessState::Failed));
    assert!(bench.ask(&one.key, Ask::Launch).unwrap_err().to_string().contains("end it; once nothing of it lives"));
    // Nor is one begun of a key that is declared only now.
    bench.declare(&other);
    assert_eq!(bench.prepared(), None);
    bench.event(told(&[&other.key]));
    bench.runs(&one.key);
    assert_eq!(bench.status(&one.key).state, ProcessState::Running, "it is gone");
    assert_eq!(bench.ask(&other.key, Ask::Abandon), Ok(None));
    bench.runs(&other.key);
    assert_eq!(bench.status(&other.key).state, ProcessState::Running, "it was given up");
    // What was given up blocks nothing when others come and go.
    bench.event(told(&[&other.key, &instance("p", "v", 1, 1).key]));
    assert!(bench.status(&other.key).conditions.is_empty());
}

#[test]
fn the_run_that_failed_is_known_where_it_was_executed_and_may_have_printed_why() {
    let mut bench = Bench::new();
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    bench.declare(&declared);
    // Told by whether it was executed: the same code stands for what was and for what was not.
    for code in [Code::ExecutableNotFound, Code::ProcessStartFailed, Code::ResourceLimitExceeded] {
        let run = bench.runs(&key);
        let oom = Some(OomKill { kills: 1, limit: Some(1), peak: None });
        let exit = ExitReason::Signal(9);
        bench.event(Event::Exited { key: key.clone(), run, exit, oom, tree_gone: true });
        assert_eq!(bench.status(&key).failed_run, Some(run), "killed for want of memory");
        bench.ask(&key, Ask::Reset).unwrap();
        let run = bench.prepared().unwrap();
        let error = Error::new(code, "it cannot be executed");
        bench.event(Event::StartFailed { key: key.clone(), run, error, fault: Fault::Instance });
        assert_eq!((bench.status(&key).failed_run, bench.status(&key).error_count), (None, 1), "{code:?}");
        bench.ask(&key, Ask::Reset).unwrap();
    }
    let run = bench.runs(&key);
    bench.exits(&key, run, ExitReason::Code(1));
    assert_eq!(bench.status(&key).failed_run, Some(run));
}

#[test]
fn what_may_go_on_without_a_part_has_failed_of_a_lack_of_memory_only_if_its_main_process_was_killed() {
    let (kill, goes_on) = (OomPolicy::Kill, OomPolicy::Continue);
    for (policy, exit, expected) in [
        (kill, ExitReason::Code(1), Code::ResourceLimitExceeded),
        (goes_on, ExitReason::Signal(9), Code::ResourceLimitExceeded),
        (goes_on, ExitReason::Unknown, Code::ResourceLimitExceeded),
        (goes_on, ExitReason::Code(1), Code::ProcessCrashed),
        (goes_on, ExitReason::Signal(11), Code::ProcessCrashed),
    ] {
        let mut bench = Bench::new();
        let mut declared = instance("p", "t", 1, 1);
        declared.content.supervision.resources.oom_policy = Some(policy);
        bench.declare(&declared);
        let run = bench.runs(&declared.key);
        let oom = Some(OomKill { kills: 1, limit: Some(1), peak: None });
        bench.event(Event::Exited { key: declared.key.clone(), run, exit, oom, tree_gone: true });
        let error = bench.status(&declared.key).last_error.clone().unwrap_or_default();
        assert!(error.contains(expected.as_str()), "{policy:?} {exit}: {error}");
    }
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
            let by = |note: &Note| note.by.as_ref().map(ToString::to_string);
            matches!(effect, Effect::Note(note) if note.message == message && by(note).as_deref() == Some("uid 1000 (pid 77)"))
        });
        assert!(said, "{message}: {:?}", bench.effects);
    }
}
