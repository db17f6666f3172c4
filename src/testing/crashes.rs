//! The launcher dies after every single effect of a scenario, and again at every effect of its recovery.

use super::samples::instance;
use super::{OnStop, Program, Settings, World};
use crate::model::{Instance, Key, Policy, ProcessState};
use crate::observed::Ask;
use std::sync::Arc;
use std::time::Duration;

/// A start, a crash, a change of the pattern, a change of an instance, a withdrawal of a tree that leaks.
fn scenario(settings: Settings) -> (World, Key) {
    let mut world = World::new(42, Policy::default(), settings);
    let steady = instance("steady", "t", 1, 1);
    let steady_key = steady.key.clone();
    world.declare(Arc::new(steady));
    let leaky = instance("p", "leaky", 1, 1);
    let on_stop = OnStop::Leaks(Duration::from_millis(2));
    world.programs.insert(leaky.key.clone(), Program { on_stop, ..Program::SERVICE });
    world.declare(Arc::new(leaky.clone()));
    for tenant in ["a", "b"] {
        world.declare(Arc::new(instance("p", tenant, 1, 1)));
    }
    world.start_launcher();
    world.run_for(Duration::from_secs(20));
    world.kill_child(&instance("p", "a", 1, 1).key);
    world.run_for(Duration::from_secs(20));
    for tenant in ["a", "b"] {
        world.declare(Arc::new(instance("p", tenant, 2, 1)));
    }
    world.run_for(Duration::from_secs(40));
    world.declare(Arc::new(instance("p", "a", 2, 2)));
    world.withdraw(&leaky.key);
    world.run_for(Duration::from_secs(120));
    (world, steady_key)
}

fn assert_unharmed(world: &mut World, steady: &Key, what: &str) {
    let found = world.check_at_rest();
    let shown: Vec<String> = found.iter().take(5).map(ToString::to_string).collect();
    assert!(found.is_empty(), "{what}: {shown:#?}\n{}", world.trace());
    // A child that was held when the launcher died is started once more; one that ran is not.
    let starts = world.trace().lines().filter(|line| line.contains(&format!("{steady} runs as pid"))).count();
    assert_eq!(starts, 1, "{what}: {steady} was restarted\n{}", world.trace());
    assert_eq!(world.pids().len(), 3, "{what}");
}

#[test]
fn l5_a_crash_after_every_single_effect_is_recovered_from() {
    let (mut calm, steady) = scenario(Settings::default());
    assert_unharmed(&mut calm, &steady, "without a crash");
    let effects = calm.effects_done();
    assert!(effects > 40, "{effects} effects");
    for at in 0..effects {
        let (mut world, steady) = scenario(Settings { crash_after: Some(at), ..Settings::default() });
        assert!(world.crashes() >= 1, "after effect {at}");
        assert_unharmed(&mut world, &steady, &format!("after effect {at}"));
    }
}

#[test]
fn l5_a_second_crash_during_the_recovery_is_recovered_from() {
    let effects = scenario(Settings::default()).0.effects_done();
    for at in 0..effects {
        for again in 0..12 {
            let settings = Settings { crash_after: Some(at), crash_again_after: Some(again), ..Settings::default() };
            let (mut world, steady) = scenario(settings);
            assert_unharmed(&mut world, &steady, &format!("after effect {at} and again after {again}"));
        }
    }
}

/// Asks until a launcher has lived through the turn in which it was asked: others have answered nobody.
fn insist(world: &mut World, key: &Key, ask: &Ask) {
    for _ in 0..5_000 {
        let crashes = world.crashes();
        let answered = world.ask(key, ask.clone()).is_some();
        world.run_for(Duration::from_millis(1));
        if answered && world.crashes() == crashes {
            return;
        }
    }
    panic!("{key} was never asked for {ask:?}\n{}", world.trace());
}

fn launch(pattern: &str, tenant: &str, ttl: Option<Duration>) -> Instance {
    let mut launched = instance(pattern, tenant, 1, 1);
    launched.content.ttl = ttl;
    launched
}

/// What clients do: launches, with and without a `ttl`, ends of all lengths, and every question.
fn asked(settings: Settings) -> World {
    let mut world = World::new(43, Policy::default(), settings);
    let leaks = OnStop::Leaks(Duration::from_millis(2));
    for (tenant, on_stop) in [("stubborn", OnStop::Ignores), ("again", leaks), ("asleep", OnStop::Ignores)] {
        world.programs.insert(instance("q", tenant, 1, 1).key, Program { on_stop, ..Program::SERVICE });
    }
    for tenant in ["restarted", "asleep", "napping"] {
        world.declare(Arc::new(instance("q", tenant, 1, 1)));
    }
    world.start_launcher();
    for tenant in ["stubborn", "again"] {
        world.launch(launch("q", tenant, None));
    }
    world.launch(launch("q", "short", Some(Duration::from_secs(60))));
    world.run_for(Duration::from_secs(20));
    let key = |tenant: &str| instance("q", tenant, 1, 1).key;
    insist(&mut world, &key("restarted"), &Ask::Restart);
    insist(&mut world, &key("asleep"), &Ask::Suspend { reason: "asleep".to_owned(), lasting: None });
    let nap = Some(Duration::from_secs(30));
    insist(&mut world, &key("napping"), &Ask::Suspend { reason: "a nap".to_owned(), lasting: nap });
    insist(&mut world, &key("short"), &Ask::Launch);
    world.terminate(&key("stubborn"), Some(Duration::from_secs(2)));
    world.terminate(&key("again"), None);
    world.run_for(Duration::from_millis(1));
    world.launch(launch("q", "again", None));
    world.run_for(Duration::from_millis(700));
    world.ask(&key("stubborn"), Ask::Hasten(Duration::ZERO));
    world.run_for(Duration::from_secs(180));
    world
}

fn assert_answered(world: &mut World, what: &str) {
    let found = world.check_at_rest();
    let shown: Vec<String> = found.iter().take(5).map(ToString::to_string).collect();
    assert!(found.is_empty(), "{what}: {shown:#?}\n{}", world.trace());
    for (tenant, state) in [
        ("restarted", Some(ProcessState::Running)),
        ("asleep", Some(ProcessState::Terminated)),
        ("napping", Some(ProcessState::Running)),
        ("again", Some(ProcessState::Running)),
        ("stubborn", None),
        ("short", None),
    ] {
        let status = world.status(&instance("q", tenant, 1, 1).key);
        assert_eq!(status.as_ref().map(|status| status.state), state, "{what}: {tenant}\n{}", world.trace());
        assert!(status.is_none_or(|status| status.error_count == 0), "{what}: {tenant}");
    }
    let restarts = world.status(&instance("q", "restarted", 1, 1).key).map_or(0, |status| status.restart_count);
    assert!(restarts >= 1, "{what}: {restarts} restarts");
}

#[test]
fn l5_what_was_asked_for_comes_about_whenever_the_launcher_dies() {
    let mut calm = asked(Settings::default());
    assert_answered(&mut calm, "without a crash");
    let effects = calm.effects_done();
    assert!(effects > 40, "{effects} effects");
    for at in 0..effects {
        let mut world = asked(Settings { crash_after: Some(at), ..Settings::default() });
        assert!(world.crashes() >= 1, "after effect {at}");
        assert_answered(&mut world, &format!("after effect {at}"));
        for again in [1, 4] {
            let settings = Settings { crash_after: Some(at), crash_again_after: Some(again), ..Settings::default() };
            assert_answered(&mut asked(settings), &format!("after effect {at} and again after {again}"));
        }
    }
}
