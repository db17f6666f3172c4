//! What is launched, ended, and ends by its `ttl`.

use super::super::*;
use super::bench::{Bench, launched, suspend};
use crate::error::Code;
use crate::model::{BootId, ExitReason, ProcessState, RestartPolicy};
use crate::observed::{DesiredChange, EndedLaunch, Event, Launched, Writing};
use crate::testing::samples::instance;
use std::sync::Arc;

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
    let saved = |effect: &Effect| if let Effect::SaveRun(record) = effect { record.stop } else { None };
    let on_record = bench.effects.iter().rev().find_map(saved);
    assert!(on_record.is_some_and(|stop| stop.deadline == bench.now), "and it is on record");
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
        launched: vec![Launched { key: key.clone(), by: by.clone(), writing: Writing::Launch }],
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

/// Two instances of a pattern that has changed: `a` is being replaced, and `b`, which has a `ttl`, waits for it.
fn rollout(bench: &mut Bench) -> (Key, Key) {
    let of = |tenant: &str, version| {
        let mut instance = instance("p", tenant, version, 1);
        instance.origin.api_managed = true;
        instance.content.ttl = (tenant == "b").then_some(Duration::from_secs(60));
        instance
    };
    for tenant in ["a", "b"] {
        bench.launch(&of(tenant, 1));
        bench.runs(&of(tenant, 1).key);
    }
    for tenant in ["a", "b"] {
        bench.declare(&of(tenant, 2));
    }
    let (a, b) = (of("a", 1).key, of("b", 1).key);
    assert_eq!(bench.status(&b).verdict.reason, "waiting until ns:a:p has been replaced and is healthy");
    (a, b)
}

#[test]
fn a_ttl_is_over_also_for_what_waits_for_others() {
    let mut bench = Bench::new();
    let (_, b) = rollout(&mut bench);
    bench.later(66);
    let expired = bench.effects.iter().any(|effect| matches!(effect, Effect::Expire { key } if *key == b));
    assert!(expired, "{:?}", bench.effects);
}

#[test]
fn what_is_suspended_holds_no_rollout_up() {
    let mut bench = Bench::new();
    let (a, b) = rollout(&mut bench);
    bench.ask(&a, suspend(None)).unwrap();
    assert_eq!(bench.status(&b).state, ProcessState::Terminating, "{}", bench.status(&b).verdict.reason);
}
