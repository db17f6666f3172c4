//! Scenarios of the simulated machine: hours of virtual time.

mod absence;
mod starts;
mod takeover;

use super::samples::instance;
use super::{Chance, OnStop, Program, Settings, World};
use crate::error::{Code, Error};
use crate::model::{
    BootId, DesiredState, ExitReason, Instance, Key, Memory, Moment, Policy, ProbeTarget, ProcessState, RestartPolicy,
    Secret, StartSpec,
};
use crate::observed::event::DesiredChange;
use crate::observed::{Ask, Event, Restored, RestoredRun};
use crate::reconciler::engine::Engine;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

fn world(seed: u64, settings: Settings) -> World {
    let mut world = World::new(seed, Policy::default(), settings);
    world.start_launcher();
    world
}

fn assert_at_rest(world: &mut World) {
    let found = world.check_at_rest();
    let shown: Vec<String> = found.iter().take(5).map(ToString::to_string).collect();
    let tail: Vec<&str> = world.trace().lines().rev().take(40).collect();
    assert!(found.is_empty(), "{shown:#?}\nlast lines, newest first:\n{}", tail.join("\n"));
}

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn what_is_declared_runs_and_what_is_withdrawn_ends() {
    let mut world = world(1, Settings::default());
    for tenant in 0..20 {
        world.declare(Arc::new(instance("p", &format!("t{tenant}"), 1, 1)));
    }
    world.run_for(MINUTE);
    assert_eq!(world.pids().len(), 20);
    assert_at_rest(&mut world);
    let keys: Vec<Key> = world.disk.declared.keys().cloned().collect();
    for key in &keys[..5] {
        world.withdraw(key);
    }
    world.run_for(MINUTE);
    assert_eq!(world.pids().len(), 15);
    assert_at_rest(&mut world);
}

#[test]
fn a_crash_is_followed_by_a_start_within_three_milliseconds() {
    let mut world = world(2, Settings::default());
    let instance = instance("p", "t", 1, 1);
    let key = instance.key.clone();
    world.declare(Arc::new(instance));
    world.run_for(MINUTE);
    let before = world.pids()[&key];
    world.kill_child(&key);
    world.run_for(Duration::from_millis(4));
    assert_ne!(world.pids().get(&key), Some(&before));
    assert!(world.pids().contains_key(&key));
    assert_eq!(world.status(&key).expect("known").error_count, 1);
    world.run_for(2 * MINUTE);
    assert_eq!(world.status(&key).expect("known").error_count, 0, "stable_after ends the streak");
}

#[test]
fn s10_the_circuit_opens_at_the_fifth_failure_and_is_tried_at_growing_distances() {
    let mut world = world(3, Settings::default());
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    world.programs.insert(key.clone(), Program::CRASHER);
    world.declare(Arc::new(declared));
    world.run_for(MINUTE);
    assert_eq!(world.starts(&key), 5);
    let status = world.status(&key).expect("known");
    assert_eq!((status.state, status.circuit_open), (ProcessState::Failed, true));
    assert!(status.last_error.expect("told").contains("MAX_ERRORS_EXCEEDED"));
    // Trials after 1, 2, 4, 8 and then every 10 minutes, each up to a tenth later.
    world.run_for(70 * MINUTE);
    let trials = world.starts(&key) - 5;
    assert!((8..=10).contains(&trials), "{trials} trials in 71 minutes");
    // The same content, written again, closes nothing; another content does.
    world.declare(Arc::new(instance("p", "t", 1, 1)));
    world.run_for(Duration::from_secs(1));
    assert!(world.status(&key).expect("known").circuit_open);
    world.programs.insert(key.clone(), Program::SERVICE);
    world.declare(Arc::new(instance("p", "t", 2, 1)));
    world.run_for(Duration::from_secs(1));
    let status = world.status(&key).expect("known");
    assert_eq!((status.state, status.circuit_open, status.error_count), (ProcessState::Running, false, 0));
    assert_at_rest(&mut world);
}

#[test]
fn a_half_open_trial_that_holds_closes_the_circuit() {
    let mut world = world(4, Settings::default());
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    world.programs.insert(key.clone(), Program::CRASHER);
    world.declare(Arc::new(declared));
    world.run_for(Duration::from_secs(30));
    assert!(world.status(&key).expect("known").circuit_open);
    world.programs.insert(key.clone(), Program::SERVICE);
    world.run_for(Duration::from_secs(70));
    assert!(world.status(&key).expect("known").circuit_open, "it has not been healthy for stable_after");
    world.run_for(MINUTE);
    assert!(!world.status(&key).expect("known").circuit_open);
}

#[test]
fn s7_a_stubborn_or_leaky_tree_is_killed_when_its_grace_is_over() {
    let mut world = world(5, Settings::default());
    for (tenant, on_stop) in [("a", OnStop::Ignores), ("b", OnStop::Leaks(Duration::from_millis(3)))] {
        let declared = instance("p", tenant, 1, 1);
        world.programs.insert(declared.key.clone(), Program { on_stop, ..Program::SERVICE });
        world.declare(Arc::new(declared));
    }
    world.run_for(MINUTE);
    let keys: Vec<Key> = world.disk.declared.keys().cloned().collect();
    for key in &keys {
        world.withdraw(key);
    }
    world.run_for(Duration::from_secs(9));
    assert!(keys.iter().all(|key| world.status(key).is_some_and(|s| s.state == ProcessState::Terminating)));
    world.run_for(Duration::from_secs(8));
    assert!(keys.iter().all(|key| world.status(key).is_none()));
    assert_at_rest(&mut world);
}

#[test]
fn instances_of_a_changed_pattern_are_replaced_one_at_a_time() {
    let mut world = world(6, Settings::default());
    for tenant in 0..6 {
        world.declare(Arc::new(instance("p", &format!("t{tenant}"), 1, 1)));
    }
    world.run_for(MINUTE);
    for tenant in 0..6 {
        world.declare(Arc::new(instance("p", &format!("t{tenant}"), 2, 1)));
    }
    for _ in 0..400 {
        world.run_for(Duration::from_millis(1));
        let healthy = world.disk.declared.keys().filter(|key| world.status(key).is_some_and(|s| s.healthy)).count();
        assert!(healthy >= 5, "{healthy} of 6 are healthy");
    }
    assert_at_rest(&mut world);
}

#[test]
fn a_replacement_that_fails_stops_the_rest_and_says_so() {
    let mut world = world(7, Settings::default());
    let tenants: Vec<String> = (0..4).map(|n| format!("t{n}")).collect();
    for tenant in &tenants {
        world.declare(Arc::new(instance("p", tenant, 1, 1)));
    }
    world.run_for(MINUTE);
    let before = world.pids();
    for tenant in &tenants {
        let changed = instance("p", tenant, 2, 1);
        world.programs.insert(changed.key.clone(), Program::CRASHER);
        world.declare(Arc::new(changed));
    }
    world.run_for(5 * MINUTE);
    let same = before.iter().filter(|(key, pid)| world.pids().get(*key) == Some(pid)).count();
    assert_eq!(same, 3);
    let blocked = before
        .keys()
        .filter_map(|key| world.status(key))
        .filter(|status| status.conditions.iter().any(|condition| condition.kind == "RolloutBlocked"))
        .count();
    assert_eq!(blocked, 3);
    for tenant in &tenants {
        let fixed = instance("p", tenant, 3, 1);
        world.programs.insert(fixed.key.clone(), Program::SERVICE);
        world.declare(Arc::new(fixed));
    }
    world.run_for(MINUTE);
    assert_at_rest(&mut world);
}

#[test]
fn a_change_of_supervision_restarts_nothing() {
    let mut world = world(8, Settings::default());
    let mut declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    world.declare(Arc::new(declared.clone()));
    world.run_for(MINUTE);
    let before = world.pids();
    if let Some(check) = &mut declared.content.supervision.healthcheck {
        check.interval = Duration::from_secs(20);
    }
    declared.origin.file = "renamed.yaml".into();
    world.declare(Arc::new(declared));
    world.run_for(MINUTE);
    assert_eq!(world.pids(), before);
    assert_eq!(world.status(&key).expect("known").observed_generation.0, 2);
    assert_at_rest(&mut world);
}

#[test]
fn a_changed_check_that_never_holds_restarts_nothing() {
    let mut world = world(12, Settings::default());
    let mut declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    world.declare(Arc::new(declared.clone()));
    world.run_for(MINUTE);
    let before = world.pids();
    world.break_check(&key);
    if let Some(check) = &mut declared.content.supervision.healthcheck {
        check.target = ProbeTarget::Http { path: "/nowhere".to_owned() };
    }
    world.declare(Arc::new(declared));
    world.run_for(10 * MINUTE);
    assert_eq!(world.pids(), before);
    assert!(!world.status(&key).expect("known").healthy);
}

#[test]
fn a_process_is_looked_after_as_it_was_until_it_is_replaced() {
    let mut world = world(13, Settings::default());
    for tenant in 0..4 {
        world.declare(Arc::new(instance("p", &format!("t{tenant}"), 1, 1)));
    }
    world.run_for(MINUTE);
    let before = world.pids();
    for tenant in 0..4 {
        let mut changed = instance("p", &format!("t{tenant}"), 2, 1);
        if let Some(check) = &mut changed.content.supervision.healthcheck {
            check.target = ProbeTarget::Http { path: "/nowhere".to_owned() };
        }
        world.programs.insert(changed.key.clone(), Program { healthy_after: None, ..Program::SERVICE });
        world.declare(Arc::new(changed));
    }
    world.run_for(30 * MINUTE);
    let same = before.iter().filter(|(key, pid)| world.pids().get(*key) == Some(pid)).count();
    assert_eq!(same, 3, "a version that never becomes healthy is tried with one");
}

#[test]
fn a_policy_of_on_failure_or_never_ends_with_the_exit_it_accepts() {
    for (restart, exit, starts, state) in [
        (RestartPolicy::OnFailure, ExitReason::Code(0), 1, ProcessState::Finished),
        (RestartPolicy::OnFailure, ExitReason::Code(3), 5, ProcessState::Failed),
        (RestartPolicy::OnFailure, ExitReason::Unknown, 5, ProcessState::Failed),
        (RestartPolicy::Never, ExitReason::Code(3), 1, ProcessState::Finished),
        (RestartPolicy::Always, ExitReason::Code(0), 5, ProcessState::Failed),
    ] {
        let mut world = world(9, Settings::default());
        let mut declared = instance("p", "t", 1, 1);
        declared.content.supervision.restart = restart;
        let key = declared.key.clone();
        let lives = Some((Duration::from_millis(50), exit));
        world.programs.insert(key.clone(), Program { lives, ..Program::SERVICE });
        world.declare(Arc::new(declared));
        world.run_for(Duration::from_secs(30));
        let status = world.status(&key).expect("known");
        assert_eq!((world.starts(&key), status.state), (starts, state), "{restart:?} {exit:?}");
        world.crash("to see whether it is remembered");
        world.run_for(Duration::from_secs(5));
        assert_eq!(world.status(&key).expect("known").state, state, "{restart:?} {exit:?}");
        assert_eq!(world.starts(&key), starts, "{restart:?} {exit:?}");
    }
}

#[test]
fn a_process_that_never_becomes_healthy_is_a_failed_start() {
    let mut world = world(10, Settings::default());
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    world.programs.insert(key.clone(), Program { healthy_after: None, ..Program::SERVICE });
    world.declare(Arc::new(declared));
    world.run_for(Duration::from_secs(35));
    assert_eq!(world.status(&key).expect("known").error_count, 1);
    world.run_for(5 * MINUTE);
    assert_eq!(world.status(&key).expect("known").state, ProcessState::Failed);
}

#[test]
fn everything_starts_again_after_a_reboot() {
    let mut world = world(11, Settings::default());
    for tenant in 0..8 {
        world.declare(Arc::new(instance("p", &format!("t{tenant}"), 1, 1)));
    }
    world.run_for(MINUTE);
    world.reboot();
    world.run_for(MINUTE);
    assert_eq!(world.pids().len(), 8);
    assert!(world.disk.declared.keys().all(|key| world.status(key).is_some_and(|s| s.error_count == 0)));
    assert_at_rest(&mut world);
}

#[test]
fn s12_a_key_whose_record_cannot_be_verified_is_never_reported_as_terminated() {
    let mut chance = Chance::new(14);
    let now = Moment::new(BootId::from_u128(1), Duration::from_secs(100));
    for withdrawn in [false, true] {
        let mut declared = instance("p", "t", 1, 1);
        declared.content.state = DesiredState::Stopped;
        let key = declared.key.clone();
        let memories = vec![Memory::new(Arc::new(declared))];
        let error = Error::new(Code::InternalError, "damaged");
        let runs = vec![RestoredRun::Unverifiable { file_name: key.file_name(), error }];
        let mut engine = Engine::new(Policy::default());
        engine.restore(Restored { memories, runs }, now, &mut chance);
        let gone = if withdrawn { vec![key.clone()] } else { Vec::new() };
        let change = DesiredChange { withdrawn: gone, attempted: true, complete: true, ..DesiredChange::default() };
        engine.handle(Event::Desired(change), now, &mut chance);
        engine.pass(now, &mut chance);
        let status = engine.status(&key, now).expect("what may live is not forgotten");
        assert_eq!(status.state, ProcessState::Failed, "something of it may live");
    }
}

#[test]
fn what_the_launcher_lacks_is_no_failure_of_what_it_cannot_start() {
    let mut world = world(16, Settings::default());
    let (once, always) = (instance("once", "t", 1, 1), instance("p", "t", 1, 1));
    let mut never = once.clone();
    never.content.supervision.restart = RestartPolicy::Never;
    world.declare(Arc::new(always.clone()));
    world.run_for(MINUTE);
    world.disk.is_full = true;
    world.kill_child(&always.key);
    world.declare(Arc::new(never.clone()));
    world.run_for(10 * MINUTE);
    for (key, failures) in [(&always.key, 1), (&never.key, 0)] {
        let status = world.status(key).expect("known");
        assert_eq!((status.state, status.error_count, status.circuit_open), (ProcessState::Starting, failures, false));
        let told = status.last_error.expect("told");
        assert!(told.contains("STORE_UNAVAILABLE"), "{told}");
        assert_eq!(world.pids().get(key), None);
    }
    world.disk.is_full = false;
    world.run_for(Duration::from_secs(10));
    assert!([&always.key, &never.key].iter().all(|key| world.pids().contains_key(*key)));
    assert_at_rest(&mut world);
}

#[test]
fn l4_starts_that_never_become_healthy_hold_up_nobody() {
    let mut world = World::new(15, Policy { max_concurrent_starts: 1, ..Policy::default() }, Settings::default());
    world.start_launcher();
    for tenant in ["a", "b", "c"] {
        let slow = instance("p", tenant, 1, 1);
        world.programs.insert(slow.key.clone(), Program { healthy_after: None, ..Program::SERVICE });
        world.declare(Arc::new(slow));
    }
    world.run_for(Duration::from_secs(1));
    let last = instance("p", "z", 1, 1);
    let key = last.key.clone();
    world.declare(Arc::new(last));
    world.run_for(3 * Policy::START_SLOT_HOLD);
    assert_eq!(world.status(&key).map(|status| status.state), Some(ProcessState::Running));
}

/// An unkind day: files change, children and launchers die, words are lost, ports are taken, probes cannot be sent.
fn unkind_day(seed: u64) -> World {
    let settings = Settings {
        crash_once_in: 60,
        port_taken_once_in: 20,
        lose_word_once_in: 3,
        probe_error_once_in: 10,
        ..Settings::default()
    };
    let mut world = world(seed, settings);
    let mut chance = Chance::new(seed ^ 0xdead_beef);
    for _ in 0..120 {
        let tenant = format!("t{}", chance.below(8));
        let pattern = if chance.once_in(2) { "p" } else { "q" };
        let (version, config) = (1 + chance.below_u32(3), 1 + chance.below_u32(2));
        let mut changed = instance(pattern, &tenant, version, config);
        if chance.once_in(6) {
            changed.content.state = DesiredState::Stopped;
        }
        let key = changed.key.clone();
        match chance.below(14) {
            0 => world.withdraw(&key),
            1 => world.kill_child(&key),
            2 if chance.once_in(6) => world.reboot(),
            3..=8 => ask_something(&mut world, &mut chance, changed),
            _ => {
                world.programs.insert(key, any_program(&mut chance));
                world.declare(Arc::new(changed));
            }
        }
        let limit = if chance.once_in(4) { 60_000 } else { 500 };
        let pause = chance.up_to_millis(limit);
        world.run_for(pause);
    }
    // In the end everything is kind: every program works, nothing is suspended, and nothing is changed any more.
    world.settings = Settings::default();
    world.run_for(Duration::from_secs(3));
    let keys: Vec<Key> = world.disk.declared.keys().cloned().collect();
    for key in keys {
        drop(world.ask(&key, Ask::Resume));
        world.programs.insert(key.clone(), Program::SERVICE);
        let mut last = (*world.disk.declared[&key]).clone();
        last.content.launch = Arc::new(StartSpec {
            config: BTreeMap::from([("CONFIG".to_owned(), Secret::new("last"))]),
            ..(*last.content.launch).clone()
        });
        world.declare(Arc::new(last));
    }
    world.run_for(20 * MINUTE);
    world
}

/// A client asks for something, or launches or ends it.
fn ask_something(world: &mut World, chance: &mut Chance, mut changed: Instance) {
    let key = changed.key.clone();
    let launched = world.disk.declared.get(&key).map(|declared| declared.origin.api_managed);
    match (chance.below(8), launched) {
        (0..=2, None | Some(true)) => {
            changed.content.ttl = chance.once_in(2).then(|| chance.up_to_millis(120_000));
            world.programs.insert(key, any_program(chance));
            world.launch(changed);
        }
        (3 | 4, Some(true)) => {
            let grace = chance.once_in(2).then(|| chance.up_to_millis(12_000));
            world.terminate(&key, if chance.once_in(4) { Some(Duration::ZERO) } else { grace });
        }
        (5, _) => {
            let lasting = chance.once_in(2).then(|| chance.up_to_millis(90_000));
            drop(world.ask(&key, Ask::Suspend { reason: "for some reason".to_owned(), lasting }));
        }
        (6, _) => drop(world.ask(&key, Ask::Resume)),
        (7, _) => drop(world.ask(&key, Ask::Reset)),
        (0 | 1, _) => drop(world.ask(&key, Ask::Restart)),
        (2 | 3, _) => drop(world.ask(&key, Ask::Launch)),
        (_, _) => drop(world.ask(&key, Ask::Hasten(chance.up_to_millis(5_000)))),
    }
}

fn any_program(chance: &mut Chance) -> Program {
    let on_stop = match chance.below(4) {
        0 => OnStop::Ignores,
        1 => OnStop::Leaks(chance.up_to_millis(50)),
        _ => OnStop::Ends(chance.up_to_millis(2_000)),
    };
    let lives = chance.once_in(4).then(|| (chance.up_to_millis(20_000), ExitReason::Code(1)));
    let healthy_after = (!chance.once_in(8)).then(|| chance.up_to_millis(3_000));
    Program { healthy_after, lives, on_stop, ..Program::SERVICE }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_eq!(unkind_day(77).trace(), unkind_day(77).trace());
    assert_ne!(unkind_day(77).trace(), unkind_day(78).trace());
}

#[test]
fn unkind_days_break_no_promise_and_end_well() {
    let mut crashes = 0;
    for seed in 0..60 {
        let mut world = unkind_day(seed);
        crashes += world.crashes();
        let found = world.check_at_rest();
        let shown: Vec<String> = found.iter().take(5).map(ToString::to_string).collect();
        assert!(found.is_empty(), "seed {seed}: {shown:#?}\n{}", world.trace());
    }
    assert!(crashes > 300, "only {crashes} crashes");
}
