//! What clients do: launches, with and without a `ttl`, ends of all lengths, and questions.

use super::{Scenario, Settings, Step, World, assert_states};
use crate::model::{Instance, Key, Policy, ProcessState};
use crate::observed::Ask;
use crate::testing::samples::instance;
use crate::testing::{OnStop, Program};
use std::sync::Arc;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario { begin, steps, judge };

fn of(tenant: &str) -> Instance {
    instance("q", tenant, 1, 1)
}

fn key(tenant: &str) -> Key {
    of(tenant).key
}

fn begin(settings: Settings) -> World {
    let mut world = World::new(43, Policy::default(), settings);
    let leaks = OnStop::Leaks(Duration::from_millis(2));
    for (tenant, on_stop) in [("stubborn", OnStop::Ignores), ("again", leaks), ("asleep", OnStop::Ignores)] {
        world.programs.insert(key(tenant), Program { on_stop, ..Program::SERVICE });
    }
    for tenant in ["restarted", "asleep", "napping"] {
        world.declare(Arc::new(of(tenant)));
    }
    world.start_launcher();
    for tenant in ["stubborn", "again"] {
        world.launch(of(tenant));
    }
    let mut short = of("short");
    short.content.ttl = Some(Duration::from_secs(30));
    world.launch(short);
    world
}

fn suspension(lasting: Option<Duration>) -> Ask {
    Ask::Suspend { reason: "asleep".to_owned(), lasting }
}

fn steps() -> Vec<Step> {
    vec![
        Step::Pass(Duration::from_secs(5)),
        Step::Insist(key("restarted"), Ask::Restart),
        Step::Insist(key("asleep"), suspension(None)),
        Step::Insist(key("napping"), suspension(Some(Duration::from_secs(15)))),
        Step::Insist(key("short"), Ask::Launch),
        Step::Do(|world| {
            world.terminate(&key("stubborn"), Some(Duration::from_secs(2)));
            world.terminate(&key("again"), None);
        }),
        Step::Pass(Duration::from_millis(1)),
        Step::Do(|world| world.launch(of("again"))),
        Step::Pass(Duration::from_millis(700)),
        Step::Do(|world| drop(world.ask(&key("stubborn"), Ask::Hasten(Duration::ZERO)))),
        Step::Pass(Duration::from_secs(80)),
    ]
}

fn judge(world: &mut World, what: &str) {
    let states = [
        ("restarted", Some(ProcessState::Running)),
        ("asleep", Some(ProcessState::Terminated)),
        ("napping", Some(ProcessState::Running)),
        ("again", Some(ProcessState::Running)),
        ("stubborn", None),
        ("short", None),
    ];
    assert_states(world, what, &states.map(|(tenant, state)| (key(tenant), state)));
    for (tenant, _) in states {
        assert!(world.status(&key(tenant)).is_none_or(|status| status.error_count == 0), "{what}: {tenant}");
    }
    let restarts = world.status(&key("restarted")).map_or(0, |status| status.restart_count);
    assert!(restarts >= 1, "{what}: {restarts} restarts");
}
