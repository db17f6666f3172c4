//! What fails once: a health check, and a start that takes too long. And what ends well: a job.

use super::{Scenario, Settings, Step, World, assert_states};
use crate::model::{ExitReason, Instance, Policy, ProcessState, RestartPolicy};
use crate::testing::Program;
use crate::testing::samples::instance;
use std::sync::Arc;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario { begin, steps, judge };

fn of(tenant: &str) -> Instance {
    let mut instance = instance("f", tenant, 1, 1);
    let supervision = &mut instance.content.supervision;
    if let Some(check) = &mut supervision.healthcheck {
        check.interval = Duration::from_secs(3);
        check.startup_timeout = Duration::from_secs(4);
    }
    if tenant == "job" {
        supervision.restart = RestartPolicy::OnFailure;
    }
    instance
}

fn begin(settings: Settings) -> World {
    let policy = Policy { stable_after: Duration::from_secs(20), ..Policy::default() };
    let mut world = World::new(44, policy, settings);
    world.programs.insert(of("slow").key, Program { healthy_after: None, ..Program::SERVICE });
    let done = Some((Duration::from_millis(50), ExitReason::Code(0)));
    world.programs.insert(of("job").key, Program { lives: done, ..Program::SERVICE });
    for tenant in ["sick", "slow", "job"] {
        world.declare(Arc::new(of(tenant)));
    }
    world.start_launcher();
    world
}

fn steps() -> Vec<Step> {
    vec![
        Step::Pass(Duration::from_secs(3)),
        Step::Do(|world| {
            world.programs.insert(of("slow").key, Program::SERVICE);
            world.break_check(&of("sick").key);
        }),
        Step::Pass(Duration::from_secs(50)),
    ]
}

fn judge(world: &mut World, what: &str) {
    let states = [("sick", ProcessState::Running), ("slow", ProcessState::Running), ("job", ProcessState::Finished)];
    assert_states(world, what, &states.map(|(tenant, state)| (of(tenant).key, Some(state))));
    for (tenant, _) in states {
        let failures = world.status(&of(tenant).key).map(|status| status.error_count);
        assert_eq!(failures, Some(0), "{what}: {tenant}\n{}", world.trace());
    }
}
