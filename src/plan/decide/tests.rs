use super::*;
use crate::model::{
    BootId, Caller, Confinement, ExitReason, Finished, Generation, Ports, ProcessIdentity, RunId, RunRecord,
    StopProgress,
};
use crate::observed::{Ending, Health, Stage, Start};
use crate::testing::samples::instance;
use proptest::prelude::*;
use std::time::Duration;

const BOOT: BootId = BootId::from_u128(1);

fn at(seconds: u64) -> Moment {
    Moment::new(BOOT, Duration::from_secs(seconds))
}

const NOW: u64 = 1_000;

fn record(memory: &Memory, stop: Option<StopProgress>) -> RunRecord {
    RunRecord {
        key: memory.instance.key.clone(),
        run: RunId::from_random(7),
        process: ProcessIdentity {
            pid: 1,
            start_time: 1,
            boot: BOOT,
            cgroup: None,
            confinement: Confinement::default(),
        },
        launch: Arc::clone(&memory.instance.content.launch),
        supervision: memory.instance.content.supervision.clone(),
        ports: Ports { grpc: 1, health: 2 },
        generation: Generation(1),
        started: at(0),
        executed: true,
        stop,
    }
}

fn suspension(until: Option<Moment>) -> Suspension {
    Suspension { reason: "a reason".to_owned(), by: Caller::Program, since: at(NOW - 1), until, lasting: None }
}

/// Makes it a launched instance with a `ttl` of 30 s, which has 3 s of slack.
fn expires_at(memory: &mut Memory, seconds: u64) {
    let instance = Arc::make_mut(&mut memory.instance);
    instance.origin.api_managed = true;
    instance.content.ttl = Some(Duration::from_secs(30));
    memory.renewed = Some(at(seconds - 33));
}

/// What somebody asked for, in a word.
fn by_request(word: &str, memory: &mut Memory, expiring: &mut Option<Moment>) {
    match word {
        "suspended" => memory.suspension = Some(suspension(None)),
        "suspended-a-while" => memory.suspension = Some(suspension(Some(at(NOW + 7)))),
        "suspension-over" => memory.suspension = Some(suspension(Some(at(NOW)))),
        "ttl" => expires_at(memory, NOW + 3),
        "expired" => expires_at(memory, NOW),
        "theirs" => Arc::make_mut(&mut memory.instance).origin.api_managed = false,
        "expiring" => {
            expires_at(memory, NOW - 2);
            *expiring = Some(at(NOW - 2));
        }
        "expiring-for-long" => {
            expires_at(memory, NOW - 9);
            *expiring = Some(at(NOW - 5));
        }
        _ => panic!("no such word: {word}"),
    }
}

/// A tiny world in words: what is wished for, then what is remembered and what lives.
fn world(text: &str) -> (Wish, Observed) {
    let mut observed = Observed::idle(Memory::new(Arc::new(instance("p", "t", 1, 1))));
    let mut wish = Wish::Declared;
    let mut health = Health { healthy_since: Some(at(NOW - 10)), proven: true, ..Health::default() };
    let mut stop = None;
    let memory = &mut observed.memory;
    let mut phase = "idle";
    let mut other = None;
    for word in text.split(' ') {
        match word {
            "declared" => wish = Wish::Declared,
            "restored" => wish = Wish::Restored,
            "unclaimed" => wish = Wish::Unclaimed,
            "withdrawn" => wish = Wish::Withdrawn,
            "shutdown" => wish = Wish::Shutdown,
            "stopped" => Arc::make_mut(&mut memory.instance).content.state = DesiredState::Stopped,
            "finished" => memory.finished = Some(Finished { exit: ExitReason::Code(0) }),
            "delayed" => (memory.streak, memory.not_before) = (3, Some(at(NOW + 2))),
            "delay-over" => (memory.streak, memory.not_before) = (3, Some(at(NOW))),
            "open" => memory.circuit = Circuit::Open { retry_at: Some(at(NOW + 60)), failed_trials: 0 },
            "open-due" => memory.circuit = Circuit::Open { retry_at: Some(at(NOW)), failed_trials: 0 },
            "open-for-good" => memory.circuit = Circuit::Open { retry_at: None, failed_trials: 0 },
            "half-open" => memory.circuit = Circuit::HalfOpen { failed_trials: 0 },
            "blocked" => observed.blocked = Some(crate::Error::new(crate::Code::InternalError, "damaged")),
            "streak" => memory.streak = 2,
            "stable" => health.healthy_since = Some(at(NOW - 60)),
            "starting" => health = Health { ready_by: Some(at(NOW + 5)), ..Health::default() },
            "late" => health = Health { ready_by: Some(at(NOW)), ..Health::default() },
            "fallen" => health = Health { proven: true, ..Health::default() },
            "unproven" => health = Health::default(),
            "other-pattern" => other = Some(instance("p", "t", 2, 1)),
            "other-config" => other = Some(instance("p", "t", 1, 2)),
            "asked" => stop = Some(StopProgress { since: at(NOW - 1), deadline: at(NOW + 9), signalled: true }),
            "overdue" => stop = Some(StopProgress { since: at(NOW - 10), deadline: at(NOW), signalled: true }),
            "idle" | "runs" | "start" | "ending" | "killing" => phase = word,
            _ => by_request(word, memory, &mut observed.expiring),
        }
    }
    let record = record(memory, stop);
    observed.phase = match phase {
        "runs" => Phase::Running(Box::new(Run { record, health, killing: false })),
        "ending" => Phase::Ending(Box::new(Ending { record, killing: false })),
        "killing" => Phase::Ending(Box::new(Ending { record, killing: true })),
        "start" => Phase::Starting(Start {
            run: record.run,
            instance: Arc::clone(&memory.instance),
            ports: record.ports,
            since: at(NOW),
            stage: Stage::Preparing,
        }),
        _ => Phase::Idle,
    };
    if let Some(mut other) = other {
        other.origin = memory.instance.origin.clone();
        other.content.ttl = memory.instance.content.ttl;
        memory.instance = Arc::new(other);
    }
    (wish, observed)
}

fn verdict(text: &str) -> String {
    let (wish, observed) = world(text);
    let verdict = decide(wish, &observed, &Policy::default(), at(NOW));
    let wake = verdict.wake_at.map(|at| format!(" [again at +{}s]", at.since_boot.as_secs() - NOW)).unwrap_or_default();
    format!("{}: {}{wake}", verdict.action.as_str(), verdict.reason)
}

#[test]
fn each_world_has_its_verdict() {
    for (world, expected) in [
        ("declared", "launch: it is declared and nothing of it runs"),
        ("declared delay-over", "launch: it is declared and nothing of it runs"),
        ("declared delayed", "none: waiting 2.0 s after 3 failures in a row [again at +2s]"),
        ("declared open", "none: its circuit is open; the next trial is in 60.0 s [again at +60s]"),
        ("declared open-for-good", "none: its circuit is open"),
        ("declared open-due", "launch: its circuit is open and a trial is due"),
        ("declared stopped", "none: it is declared as stopped and nothing of it runs"),
        ("declared finished", "none: it has ended as its restart policy accepts"),
        ("declared suspended", "none: suspended by this program: a reason"),
        ("declared stopped suspended", "none: suspended by this program: a reason"),
        ("declared suspended finished", "none: suspended by this program: a reason"),
        ("declared suspended-a-while", "none: suspended by this program: a reason [again at +7s]"),
        ("declared suspension-over", "resume: its suspension is over"),
        ("restored suspended", "none: waiting until every desired directory has been read"),
        ("withdrawn suspended", "forget: nothing declares it and nothing of it lives"),
        ("declared runs suspended", "terminate: it is suspended"),
        ("restored runs suspended", "terminate: it is suspended"),
        ("declared runs suspension-over", "resume: its suspension is over"),
        ("declared runs suspended asked", "none: it was asked to end and has 9.0 s left [again at +9s]"),
        ("withdrawn runs suspended", "terminate: nothing declares it any more"),
        ("declared runs ttl", "none: it runs as declared [again at +3s]"),
        ("declared delayed ttl", "none: waiting 2.0 s after 3 failures in a row [again at +2s]"),
        ("declared runs ttl other-pattern", "replace: its manifest or executable has changed [again at +3s]"),
        ("declared runs expired", "expire: its ttl is over"),
        ("declared runs expired theirs", "none: it runs as declared"),
        ("declared expired", "expire: its ttl is over"),
        ("declared finished expired", "expire: its ttl is over"),
        ("declared suspended expired", "expire: its ttl is over"),
        ("declared runs other-pattern expired", "expire: its ttl is over"),
        ("declared runs expiring", "none: it runs as declared [again at +3s]"),
        ("declared expiring", "none: its ttl is over [again at +3s]"),
        ("declared expiring-for-long", "expire: its ttl is over"),
        ("declared runs overdue expired", "kill: its grace period is over"),
        ("restored runs expired", "none: it runs as declared"),
        ("withdrawn runs expired", "terminate: nothing declares it any more"),
        ("shutdown runs expired", "terminate: the launcher is shutting down"),
        ("declared blocked", "none: its record cannot be verified, so nothing is started beside it"),
        ("withdrawn blocked", "none: its record cannot be verified, so nothing is started beside it"),
        ("restored", "none: waiting until every desired directory has been read"),
        ("withdrawn", "forget: nothing declares it and nothing of it lives"),
        ("shutdown", "none: the launcher is shutting down"),
        ("withdrawn start", "none: its start is under way"),
        ("declared runs", "none: it runs as declared"),
        ("restored runs", "none: it runs as declared"),
        ("unclaimed runs", "none: waiting until every desired directory has been read"),
        ("declared runs starting", "none: it runs as declared and has not been healthy yet [again at +5s]"),
        ("declared runs late", "terminate: it was not healthy within its startup_timeout"),
        ("declared runs fallen", "terminate: its health check failed failure_threshold times in a row"),
        ("declared runs unproven", "none: it runs as declared; its health check was changed and has not held since"),
        ("declared runs streak", "none: it runs as declared [again at +50s]"),
        ("declared runs streak stable", "settle: it has been healthy for stable_after"),
        ("declared runs half-open stable", "settle: it has been healthy for stable_after"),
        ("declared runs stopped", "terminate: it is declared as stopped"),
        ("withdrawn runs", "terminate: nothing declares it any more"),
        ("shutdown runs", "terminate: the launcher is shutting down"),
        ("declared runs other-pattern", "replace: its manifest or executable has changed"),
        ("declared runs other-config", "replace: its config or slots have changed"),
        ("declared runs asked", "none: it was asked to end and has 9.0 s left [again at +9s]"),
        ("declared runs overdue", "kill: its grace period is over"),
        ("declared ending asked", "none: it was asked to end and has 9.0 s left [again at +9s]"),
        ("declared ending overdue", "kill: its grace period is over"),
        ("declared ending", "kill: its grace period is over"),
        ("declared killing", "none: its process tree is being killed"),
    ] {
        assert_eq!(verdict(world), expected, "{world}");
    }
}

/// Any world: every combination of the words above, with moments around now.
fn any_world() -> impl Strategy<Value = String> {
    let wish = prop::sample::select(vec!["declared", "restored", "unclaimed", "withdrawn", "shutdown"]);
    let phase = prop::sample::select(vec!["idle", "runs", "start", "ending", "killing"]);
    let memory = prop::sample::subsequence(
        vec![
            "stopped",
            "finished",
            "delayed",
            "delay-over",
            "open",
            "open-due",
            "half-open",
            "blocked",
            "streak",
            "suspended",
            "suspended-a-while",
            "suspension-over",
            "ttl",
            "expired",
            "expiring",
            "expiring-for-long",
        ],
        0..5,
    );
    let run = prop::sample::subsequence(
        vec!["stable", "starting", "late", "fallen", "unproven", "other-pattern", "other-config", "asked", "overdue"],
        0..4,
    );
    (wish, phase, memory, run)
        .prop_map(|(wish, phase, memory, run)| [vec![wish, phase], memory, run].concat().join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_start_needs_a_wish_a_free_key_and_a_delay_that_is_over(text in any_world()) {
        let (wish, observed) = world(&text);
        let verdict = decide(wish, &observed, &Policy::default(), at(NOW));
        let memory = &observed.memory;
        if verdict.action == Action::Launch {
            prop_assert_eq!(wish, Wish::Declared);
            prop_assert!(matches!(observed.phase, Phase::Idle), "S1, S4: nothing of it lives");
            prop_assert!(observed.blocked.is_none(), "S3: nothing is started beside what cannot be verified");
            prop_assert!(memory.finished.is_none() && memory.suspension.is_none());
            prop_assert!(memory.expires().is_none_or(|at_end| !at(NOW).reached(at_end)));
            prop_assert_eq!(memory.instance.content.state, DesiredState::Running);
            let closed = !matches!(memory.circuit, Circuit::Open { .. });
            prop_assert!(!closed || memory.not_before.is_none_or(|moment| at(NOW).reached(moment)), "S9");
            if let Circuit::Open { retry_at, .. } = memory.circuit {
                prop_assert!(retry_at.is_some_and(|moment| at(NOW).reached(moment)), "S10");
            }
        }
    }

    #[test]
    fn s5_a_process_is_ended_for_absence_only_when_its_wish_was_withdrawn(text in any_world()) {
        let (wish, observed) = world(&text);
        let verdict = decide(wish, &observed, &Policy::default(), at(NOW));
        if verdict.action == Action::Terminate(StopCause::Removed) || verdict.action == Action::Forget {
            prop_assert_eq!(wish, Wish::Withdrawn);
        }
        if matches!(verdict.action, Action::Terminate(_)) {
            prop_assert!(matches!(&observed.phase, Phase::Running(run) if run.record.stop.is_none()));
            prop_assert_ne!(wish, Wish::Unclaimed);
        }
        if verdict.action == Action::Forget {
            prop_assert!(matches!(observed.phase, Phase::Idle));
        }
    }

    #[test]
    fn s7_nothing_is_killed_before_its_grace_period_is_over(text in any_world()) {
        let (wish, observed) = world(&text);
        if decide(wish, &observed, &Policy::default(), at(NOW)).action == Action::Kill {
            let stop = match &observed.phase {
                Phase::Running(run) => Some(run.record.stop.expect("only what was asked to end")),
                Phase::Ending(ending) => ending.record.stop,
                Phase::Idle | Phase::Starting(_) => panic!("nothing to kill"),
            };
            prop_assert!(stop.is_none_or(|stop| at(NOW).reached(stop.deadline)));
        }
    }

    #[test]
    fn a_deadline_lies_ahead_and_comes_with_inaction_or_a_ttl(text in any_world()) {
        let (wish, observed) = world(&text);
        let verdict = decide(wish, &observed, &Policy::default(), at(NOW));
        if let Some(moment) = verdict.wake_at {
            prop_assert!(!at(NOW).reached(moment));
            prop_assert!(verdict.action == Action::Nothing || observed.memory.expires().is_some());
        }
        if verdict.action == Action::Expire {
            prop_assert_eq!(wish, Wish::Declared);
            prop_assert!(observed.memory.expires().is_some_and(|end| at(NOW).reached(end)));
        }
    }
}
