//! Tenants beside one another on the simulated machine: ceilings, and what one tenant's trouble costs another.

use super::samples::instance;
use super::{Program, Settings, World};
use crate::model::{
    Ceiling, Ceilings, Instance, Isolation, Key, Namespace, PatternName, Policy, ProcessState, SessionId,
};
use std::sync::Arc;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

/// At most this many processes in each namespace.
fn at_most(instances: u64) -> Policy {
    let usual = Ceiling { instances: Some(instances), ..Ceiling::default() };
    Policy { ceilings: Ceilings { usual, ..Ceilings::default() }, ..Policy::default() }
}

fn world(seed: u64, policy: Policy, settings: Settings) -> World {
    let mut world = World::new(seed, policy, settings);
    world.start_launcher();
    world
}

/// Instances of as many patterns for one tenant.
fn several(tenant: &str, count: usize) -> Vec<Instance> {
    (0..count).map(|n| instance(&format!("p{n}"), tenant, 1, 1)).collect()
}

fn declare_all(world: &mut World, instances: Vec<Instance>) -> Vec<Key> {
    let keys = instances.iter().map(|instance| instance.key.clone()).collect();
    for instance in instances {
        world.declare(Arc::new(instance));
    }
    keys
}

fn waiting(world: &World, keys: &[Key]) -> Vec<Key> {
    let waits = |key: &&Key| {
        world.status(key).is_some_and(|status| {
            let told = status.verdict.reason.starts_with("waiting for quota: namespace");
            let error = status.last_error.is_some_and(|error| error.starts_with("[RESOURCE_LIMIT_EXCEEDED]"));
            assert_eq!(told, error, "{:?}", status.verdict);
            assert!(!told || status.state == ProcessState::Starting);
            told
        })
    };
    keys.iter().filter(waits).cloned().collect()
}

#[test]
fn what_waits_for_quota_starts_as_soon_as_something_of_its_namespace_ends() {
    let mut world = world(21, at_most(3), Settings::default());
    let keys = declare_all(&mut world, several("t", 5));
    let others = declare_all(&mut world, several("u", 3));
    world.run_for(MINUTE);
    assert_eq!(waiting(&world, &keys).len(), 2);
    assert!(others.iter().all(|key| world.pids().contains_key(key)), "another namespace has a ceiling of its own");
    let first = waiting(&world, &keys)[0].clone();
    let runs = keys.iter().find(|key| world.pids().contains_key(key)).expect("three run").clone();
    world.withdraw(&runs);
    // The word of the file, its stop and the next start: far less than the periodic look, which is every 5 s.
    world.run_for(Duration::from_millis(200));
    assert!(world.pids().contains_key(&first), "{:?}", world.status(&first).map(|status| status.verdict));
    assert_eq!(waiting(&world, &keys).len(), 1);
    assert!(world.violations().is_empty(), "{:?}", world.violations());
}

#[test]
fn a_ceiling_that_is_lowered_ends_nothing_and_holds_for_the_next_start() {
    let mut world = world(22, Policy::default(), Settings::default());
    let keys = declare_all(&mut world, several("t", 3));
    world.run_for(MINUTE);
    let before = world.pids();
    let retune = |world: &mut World, policy: Policy| {
        world.engine.as_mut().expect("it runs").set_policy(policy);
        world.run_for(Duration::from_millis(200));
    };
    retune(&mut world, at_most(1));
    world.run_for(MINUTE);
    assert_eq!(world.pids(), before);
    world.kill_child(&keys[0]);
    world.run_for(MINUTE);
    assert_eq!(waiting(&world, &keys), [keys[0].clone()]);
    retune(&mut world, at_most(3));
    assert!(world.pids().contains_key(&keys[0]), "a ceiling that is raised is used at once");
}

#[test]
fn no_ceiling_is_passed_whatever_crashes() {
    let mut crashes = 0;
    for seed in 0..20 {
        let settings = Settings { crash_once_in: 60, lose_word_once_in: 3, ..Settings::default() };
        let mut policy = at_most(2);
        policy.ceilings.processes = Some(5);
        let mut world = world(100 + seed, policy, settings);
        let mut keys = Vec::new();
        for tenant in ["a", "b", "c", "d"] {
            keys.extend(declare_all(&mut world, several(tenant, 4)));
        }
        for key in keys.iter().step_by(3) {
            world.programs.insert(key.clone(), Program::CRASHER);
        }
        world.run_for(5 * MINUTE);
        crashes += world.crashes();
        assert!(world.violations().is_empty(), "seed {seed}: {:?}", world.violations());
        world.settings.crash_once_in = 0;
        world.run_for(5 * MINUTE);
        assert_eq!(world.pids().len(), 5, "seed {seed}: what may run does");
    }
    assert!(crashes > 20, "{crashes}");
}

fn session(tenant: &str, session: usize) -> Instance {
    let pattern = PatternName::new("p").expect("name");
    let session = SessionId::new(&format!("s{session}")).expect("name");
    let isolation = Isolation::Session(Namespace::new(tenant).expect("name"), session);
    Instance { key: isolation.key(&pattern), isolation, ..instance("p", tenant, 1, 1) }
}

/// How long each of twenty launches, one a second, takes until its process is executed, beside so many crash-looping
/// sessions of another tenant. There is one start slot, so that every start of the others is felt.
fn launches_beside(sessions: usize) -> Vec<Duration> {
    let policy = Policy { max_concurrent_starts: 1, max_errors: 1_000, ..Policy::default() };
    let mut world = world(23, policy, Settings::default());
    for n in 0..sessions {
        let declared = session("busy", n);
        world.programs.insert(declared.key.clone(), Program::CRASHER);
        world.declare(Arc::new(declared));
    }
    world.run_for(Duration::from_secs(5));
    let mut took = Vec::new();
    for n in 0..20 {
        let declared = session("calm", n);
        let key = declared.key.clone();
        world.declare(Arc::new(declared));
        let begun = world.now;
        while !world.pids().contains_key(&key) {
            assert!(world.now.since(begun) < MINUTE, "{:?}", world.status(&key).map(|status| status.verdict));
            world.run_for(Duration::from_millis(1));
        }
        took.push(world.now.since(begun));
        world.run_for(Duration::from_secs(1));
    }
    assert!(world.violations().is_empty(), "{:?}", world.violations());
    took
}

#[test]
fn l4_five_hundred_crash_looping_sessions_delay_the_launch_of_another_tenant_by_one_start() {
    let quiet = launches_beside(0).into_iter().max().expect("twenty");
    let busy = launches_beside(500).into_iter().max().expect("twenty");
    // A start holds its slot until it is healthy or has failed: at most 3 ms to be prepared and the 30 ms that it lives.
    let one_start = Duration::from_millis(33);
    assert!(busy <= quiet + one_start, "{busy:?} beside five hundred, {quiet:?} alone");
}
