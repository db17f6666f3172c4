//! A version that fails as a whole on the simulated machine, and what that costs those whose instances work.

use super::samples::instance;
use super::{Program, Settings, World};
use crate::model::{Ceiling, Ceilings, Instance, Isolation, Key, Namespace, Policy, ProcessState, SessionId};
use crate::observed::Ask;
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn session(tenant: &str, n: usize) -> Instance {
    let namespace = Namespace::new(tenant).expect("name");
    let isolation = Isolation::Session(namespace, SessionId::new(&format!("s{n}")).expect("name"));
    let declared = instance("p", tenant, 1, 1);
    Instance { key: isolation.key(&declared.pattern), isolation, ..declared }
}

fn declare(world: &mut World, instance: Instance, program: Program) -> Key {
    let key = instance.key.clone();
    world.programs.insert(key.clone(), program);
    world.declare(Arc::new(instance));
    key
}

/// So many tenants whose instances of one version crash soon after each start.
fn all_failing(tenants: usize) -> (World, Vec<Key>) {
    let mut world = World::new(31, Policy::default(), Settings { pids: Some(2_000), ..Settings::default() });
    world.start_launcher();
    let keys =
        (0..tenants).map(|n| declare(&mut world, instance("p", &format!("t{n:03}"), 1, 1), Program::CRASHER)).collect();
    (world, keys)
}

fn starts(world: &World, keys: &[Key]) -> u32 {
    keys.iter().map(|key| world.starts(key)).sum()
}

fn told(world: &World, message: &str) -> usize {
    world.trace().lines().filter(|line| line.contains(message)).count()
}

#[test]
fn five_hundred_instances_that_fail_alike_wait_for_one_trial_and_start_again_when_it_works() {
    let (mut world, keys) = all_failing(500);
    world.run_for(MINUTE);
    let first = starts(&world, &keys);
    // Each has its first start, and some their second before the breaker opened; then there is a trial a second.
    assert!(first < 2 * 500, "{first} starts");
    world.run_for(MINUTE);
    let trials = starts(&world, &keys) - first;
    assert!((20..=61).contains(&trials), "{trials} trials in a minute");
    assert_eq!((told(&world, "version paused"), told(&world, "version resumed")), (1, 0));
    let paused = |world: &World| {
        let of = |key: &Key| world.status(key).map(|status| status.conditions).unwrap_or_default();
        keys.iter().filter(|key| of(key).iter().any(|condition| condition.kind == "VersionPaused")).count()
    };
    assert!(paused(&world) > 400, "{}", paused(&world));
    for key in &keys {
        world.programs.insert(key.clone(), Program::SERVICE);
    }
    // The next trial is at hand; what works doubles every second.
    world.run_for(Duration::from_secs(6));
    let restarted = world.pids().len();
    assert!((4..=64).contains(&restarted), "{restarted} run after six seconds");
    world.run_for(5 * MINUTE);
    assert_eq!(world.pids().len(), 500);
    assert_eq!((told(&world, "version paused"), told(&world, "version resumed"), paused(&world)), (1, 1, 0));
    let found = world.check_at_rest();
    assert!(found.is_empty(), "{:?}", &found[..found.len().min(5)]);
}

#[test]
fn what_waits_for_a_slot_when_its_version_is_paused_waits_for_its_trial() {
    let policy = Policy { max_concurrent_starts: 1, ..Policy::default() };
    let mut world = World::new(37, policy, Settings::default());
    world.start_launcher();
    let keys: Vec<Key> =
        (0..20).map(|n| declare(&mut world, instance("p", &format!("t{n:03}"), 1, 1), Program::CRASHER)).collect();
    while told(&world, "version paused") == 0 {
        world.run_for(Duration::from_millis(1));
    }
    let failed = |world: &World, key: &Key| world.status(key).is_some_and(|status| status.error_count > 0);
    let failed: Vec<Key> = keys.into_iter().filter(|key| failed(&world, key)).collect();
    let before = starts(&world, &failed);
    world.run_for(Duration::from_millis(900));
    assert!(
        failed.len() >= 4 && starts(&world, &failed) <= before + 1,
        "{} of {}",
        starts(&world, &failed) - before,
        failed.len()
    );
}

#[test]
fn a_limit_that_is_too_low_everywhere_is_told_once_and_a_higher_one_starts_all_at_once() {
    let mut world = World::new(34, Policy::default(), Settings { pids: Some(2_000), ..Settings::default() });
    world.start_launcher();
    let limited = |n: usize, limit: u64| {
        let mut instance = instance("p", &format!("t{n:03}"), 1, 1);
        instance.content.supervision.resources.memory_limit = Some(limit);
        instance
    };
    let hungry = Program { takes: 100 << 20, ..Program::SERVICE };
    let keys: Vec<Key> = (0..50).map(|n| declare(&mut world, limited(n, 64 << 20), hungry)).collect();
    world.run_for(MINUTE);
    let first = starts(&world, &keys);
    assert!(first < 2 * 50 + 61, "{first} starts");
    assert_eq!(told(&world, "version paused"), 1);
    assert!(world.trace().contains("fail alike (RESOURCE_LIMIT_EXCEEDED)"), "{}", world.trace());
    // One tenant has its own raised: it works, and waits for nobody.
    world.declare(Arc::new(limited(7, 128 << 20)));
    world.run_for(Duration::from_secs(2));
    assert!(world.status(&keys[7]).is_some_and(|status| status.healthy));
    assert_eq!(world.pids().len(), 1);
    for n in 0..50 {
        world.declare(Arc::new(limited(n, 128 << 20)));
    }
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.pids().len(), 50);
    assert_eq!((told(&world, "version paused"), told(&world, "version resumed")), (1, 1));
}

#[test]
fn the_next_launcher_finds_the_breaker_open() {
    let (mut world, keys) = all_failing(20);
    world.run_for(3 * MINUTE);
    world.crash("to see what is left of it");
    world.run_for(Duration::from_secs(5));
    let before = starts(&world, &keys);
    world.run_for(MINUTE);
    assert!(starts(&world, &keys) - before <= 61);
    assert_eq!(told(&world, "version paused"), 2, "once by each launcher");
}

#[test]
fn a_trial_that_cannot_be_used_goes_to_the_next() {
    for obstacle in ["quota", "withdrawn"] {
        let (mut world, keys) = all_failing(10);
        // Not for so long that circuits open.
        world.run_for(Duration::from_secs(10));
        assert_eq!(told(&world, "version paused"), 1);
        // What comes next for the trials, as the namespaces take turns.
        let runs = |line: &str| keys.iter().position(|key| line.contains(&format!("{key} runs as")));
        let next = (world.trace().lines().rev().find_map(runs).expect("there was one") + 1) % 10;
        let mut left = 9;
        if obstacle == "quota" {
            let usual = Ceiling { instances: Some(1), ..Ceiling::default() };
            let policy = Policy { ceilings: Ceilings { usual, ..Ceilings::default() }, ..Policy::default() };
            world.engine.as_mut().expect("it runs").set_policy(policy);
            declare(&mut world, instance("q", &format!("t{next:03}"), 1, 1), Program::SERVICE);
            left = 10;
        } else {
            world.withdraw(&keys[next]);
        }
        for key in &keys {
            world.programs.insert(key.clone(), Program::SERVICE);
        }
        world.run_for(5 * MINUTE);
        assert_eq!(world.pids().len(), left, "{obstacle}: {}", world.trace());
    }
}

#[test]
fn l4_crash_looping_sessions_of_one_tenant_hold_up_no_other_tenant_of_the_same_version() {
    let settings = Settings { pids: Some(2_000), ..Settings::default() };
    let mut world = World::new(32, Policy::default(), settings);
    world.start_launcher();
    for n in 0..500 {
        declare(&mut world, session("busy", n), Program::CRASHER);
    }
    world.run_for(MINUTE);
    assert_eq!(told(&world, "version paused"), 0);
    let calm = declare(&mut world, session("calm", 0), Program::SERVICE);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.status(&calm).map(|status| status.state), Some(ProcessState::Running));
    world.kill_child(&calm);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.status(&calm).map(|status| status.state), Some(ProcessState::Running));
    assert!(world.violations().is_empty(), "{:?}", world.violations());
}

#[test]
fn no_breaker_stays_open_whatever_crashes() {
    let (mut opened, mut crashes) = (0, 0);
    for seed in 0..20 {
        let settings = Settings { crash_once_in: 40, port_taken_once_in: 20, ..Settings::default() };
        let mut world = World::new(200 + seed, Policy::default(), settings);
        world.start_launcher();
        let keys: Vec<Key> =
            (0..8).map(|n| declare(&mut world, instance("p", &format!("t{n}"), 1, 1), Program::CRASHER)).collect();
        world.run_for(MINUTE);
        world.withdraw(&keys[0]);
        world.declare(Arc::new(instance("p", "t1", 2, 1)));
        world.run_for(MINUTE);
        opened += told(&world, "version paused");
        crashes += world.crashes();
        world.settings = Settings::default();
        for key in &keys {
            world.programs.insert(key.clone(), Program::SERVICE);
        }
        world.run_for(15 * MINUTE);
        let found = world.check_at_rest();
        assert!(found.is_empty(), "seed {seed}: {:?}\n{}", &found[..found.len().min(5)], world.trace());
        assert_eq!(world.pids().len(), 7, "seed {seed}");
    }
    assert!(opened > 20 && crashes > 40, "{opened} times open, {crashes} crashes");
}

#[test]
fn what_is_suspended_is_no_sign_of_anything() {
    let (mut world, keys) = all_failing(4);
    world.run_for(Duration::from_secs(10));
    assert_eq!(told(&world, "version paused"), 1);
    let answer = world.ask(&keys[0], Ask::Suspend { reason: String::new(), lasting: None });
    assert!(answer.is_some_and(|answer| answer.is_ok()));
    world.run_for(Duration::from_secs(1));
    assert_eq!(told(&world, "version resumed"), 1, "three that fail have causes of their own");
}

#[test]
fn a_new_version_is_tried_at_once() {
    let (mut world, keys) = all_failing(10);
    world.run_for(MINUTE);
    assert_eq!(told(&world, "version paused"), 1);
    for (n, key) in keys.iter().enumerate() {
        world.programs.insert(key.clone(), Program::SERVICE);
        world.declare(Arc::new(instance("p", &format!("t{n:03}"), 2, 1)));
    }
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.pids().len(), 10);
    assert_eq!(told(&world, "version resumed"), 1);
}

#[test]
fn l4_a_tenant_whose_instance_fails_its_health_check_is_restarted_beside_another_with_many_that_stay_ill() {
    let mut world = World::new(33, Policy::default(), Settings { pids: Some(2_000), ..Settings::default() });
    world.start_launcher();
    let busy: Vec<Key> = (0..20).map(|n| declare(&mut world, session("busy", n), Program::SERVICE)).collect();
    let calm = declare(&mut world, session("calm", 0), Program::SERVICE);
    world.run_for(MINUTE);
    for key in &busy {
        // What is restarted is never healthy again.
        world.programs.insert(key.clone(), Program { healthy_after: None, ..Program::SERVICE });
        world.break_check(key);
    }
    // They have been ill for a while, and one of them is being tried.
    world.run_for(MINUTE);
    world.break_check(&calm);
    world.run_for(3 * MINUTE);
    let status = world.status(&calm).expect("known");
    assert!(status.healthy && status.restart_count == 1, "{status:?}");
}
