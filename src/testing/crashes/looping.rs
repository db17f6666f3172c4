//! What fails again and again: a crash loop with its circuit and its trial, and a replacement that stops its rollout.

use super::{Scenario, Settings, Step, World, assert_states};
use crate::model::{Instance, Policy, ProcessState};
use crate::testing::Program;
use crate::testing::samples::instance;
use std::sync::Arc;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario { begin, steps, judge };

fn of(tenant: &str, version: u32) -> Instance {
    instance(if tenant == "looping" { "l" } else { "g" }, tenant, version, 1)
}

fn begin(settings: Settings) -> World {
    let policy = Policy {
        max_errors: 3,
        stable_after: Duration::from_secs(20),
        circuit_retry: Some(Duration::from_secs(10)),
        ..Policy::default()
    };
    let mut world = World::new(46, policy, settings);
    world.programs.insert(of("looping", 1).key, Program::CRASHER);
    world.declare(Arc::new(of("looping", 1)));
    roll_out(&mut world, 1, Program::SERVICE);
    world.start_launcher();
    world
}

fn roll_out(world: &mut World, version: u32, program: Program) {
    for tenant in ["rolled-a", "rolled-b"] {
        world.programs.insert(of(tenant, 1).key, program);
        world.declare(Arc::new(of(tenant, version)));
    }
}

fn steps() -> Vec<Step> {
    vec![
        Step::Pass(Duration::from_secs(4)),
        Step::Do(|world| {
            world.programs.insert(of("looping", 1).key, Program::SERVICE);
            roll_out(world, 2, Program::CRASHER);
        }),
        Step::Pass(Duration::from_secs(4)),
        Step::Do(|world| roll_out(world, 3, Program::SERVICE)),
        Step::Pass(Duration::from_secs(60)),
    ]
}

fn judge(world: &mut World, what: &str) {
    let all = ["looping", "rolled-a", "rolled-b"];
    assert_states(world, what, &all.map(|tenant| (of(tenant, 1).key, Some(ProcessState::Running))));
    for tenant in all {
        let settled =
            world.status(&of(tenant, 1).key).is_some_and(|status| status.error_count == 0 && !status.circuit_open);
        assert!(settled, "{what}: {tenant}\n{}", world.trace());
    }
}
