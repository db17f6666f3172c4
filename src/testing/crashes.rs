//! The launcher dies after every single effect of a scenario, and again at every effect of its recovery.

use super::samples::instance;
use super::{OnStop, Program, Settings, World};
use crate::model::{Key, Policy};
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
