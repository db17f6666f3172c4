//! What stands in the way of a process: a record that cannot be read and is abandoned, a stranger on a port, a suspension
//! while it is held, an open circuit that is reset, and a file that says `stopped` for a while.

use super::{Scenario, Settings, Step, World, assert_states};
use crate::model::{DesiredState, Instance, Key, Policy, ProcessState};
use crate::observed::Ask;
use crate::testing::Program;
use crate::testing::samples::instance;
use std::sync::Arc;
use std::time::Duration;

pub(super) const SCENARIO: Scenario = Scenario { begin, steps, judge };

fn of(tenant: &str) -> Instance {
    instance("b", tenant, 1, 1)
}

fn key(tenant: &str) -> Key {
    of(tenant).key
}

fn begin(settings: Settings) -> World {
    let policy = Policy { max_errors: 2, stable_after: Duration::from_secs(20), ..Policy::default() };
    let mut world = World::new(45, policy, settings);
    world.programs.insert(key("looping"), Program::CRASHER);
    for tenant in ["lost", "moved", "looping", "off"] {
        world.declare(Arc::new(of(tenant)));
    }
    world.start_launcher();
    world
}

fn steps() -> Vec<Step> {
    vec![
        Step::Pass(Duration::from_secs(5)),
        Step::Do(|world| {
            world.crash("so that a record can be damaged");
            world.damage(&key("lost"));
        }),
        Step::Pass(Duration::from_secs(4)),
        Step::Insist(key("lost"), Ask::Abandon),
        Step::Do(|world| {
            world.occupy_port(&key("moved"));
            world.kill_child(&key("moved"));
            let mut off = of("off");
            off.content.state = DesiredState::Stopped;
            world.declare(Arc::new(off));
            world.launch(of("early"));
        }),
        Step::Pass(Duration::from_micros(200)),
        Step::Insist(key("early"), Ask::Suspend { reason: "not yet".to_owned(), lasting: None }),
        Step::Pass(Duration::from_secs(5)),
        Step::Insist(key("early"), Ask::Resume),
        Step::Do(|world| {
            world.programs.insert(key("looping"), Program::SERVICE);
        }),
        Step::Insist(key("looping"), Ask::Reset),
        Step::Do(|world| world.declare(Arc::new(of("off")))),
        Step::Pass(Duration::from_secs(40)),
    ]
}

fn judge(world: &mut World, what: &str) {
    let all = ["lost", "moved", "looping", "off", "early"];
    assert_states(world, what, &all.map(|tenant| (key(tenant), Some(ProcessState::Running))));
    let ports = world.status(&key("moved")).and_then(|status| status.ports);
    assert!(ports.is_some_and(|ports| !world.strangers.contains(&ports.health)), "{what}: {ports:?}");
}
