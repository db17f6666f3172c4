//! What files do: a start, a crash, changes of a pattern and of an instance, a file that is moved, other limits and ceilings, and the withdrawal of a
//! tree that leaks.

use super::{Scenario, Settings, Step, World};
use crate::model::{Instance, Policy};
use crate::testing::samples::instance;
use crate::testing::{OnStop, Program};
use std::sync::Arc;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario { begin, steps, judge };

fn steady() -> Instance {
    instance("steady", "t", 1, 1)
}

fn begin(settings: Settings) -> World {
    let policy = Policy { stable_after: Duration::from_secs(20), ..Policy::default() };
    let mut world = World::new(42, policy, settings);
    world.declare(Arc::new(steady()));
    let leaky = instance("p", "leaky", 1, 1);
    let on_stop = OnStop::Leaks(Duration::from_millis(2));
    world.programs.insert(leaky.key.clone(), Program { on_stop, ..Program::SERVICE });
    world.declare(Arc::new(leaky));
    declare_both(&mut world, 1);
    world.start_launcher();
    world
}

fn declare_both(world: &mut World, version: u32) {
    for tenant in ["a", "b"] {
        world.declare(Arc::new(instance("p", tenant, version, 1)));
    }
}

/// The configuration is read again: for the launcher that runs, and for those after it.
fn hold_to_ceilings(world: &mut World) {
    world.policy.ceilings.usual.memory = Some(1 << 40);
    let policy = world.policy.clone();
    if let Some(engine) = &mut world.engine {
        engine.set_policy(policy);
    }
}

fn steps() -> Vec<Step> {
    vec![
        Step::Pass(Duration::from_secs(5)),
        Step::Do(|world| world.kill_child(&instance("p", "a", 1, 1).key)),
        Step::Pass(Duration::from_secs(5)),
        Step::Do(|world| declare_both(world, 2)),
        Step::Pass(Duration::from_secs(10)),
        Step::Do(|world| {
            world.declare(Arc::new(instance("p", "a", 2, 2)));
            world.withdraw(&instance("p", "leaky", 1, 1).key);
            let mut moved = steady();
            moved.origin.file = "moved.yaml".into();
            moved.content.supervision.resources.memory_limit = Some(1 << 30);
            world.declare(Arc::new(moved));
            hold_to_ceilings(world);
        }),
        Step::Pass(Duration::from_secs(40)),
    ]
}

fn judge(world: &mut World, what: &str) {
    // A child that was held when the launcher died is started once more; one that ran is not.
    let steady = steady().key;
    let starts = world.trace().lines().filter(|line| line.contains(&format!("{steady} runs as pid"))).count();
    let power_cuts = usize::from(world.settings.power_fails);
    assert!((1..=1 + power_cuts).contains(&starts), "{what}: {steady} was restarted\n{}", world.trace());
    assert_eq!(world.pids().len(), 3, "{what}");
}
