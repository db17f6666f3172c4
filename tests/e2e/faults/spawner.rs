//! The process that makes the others is killed.

use crate::world::processes::spawner_of;
use crate::world::{World, signal, wait_for};

#[test]
fn a_spawner_that_is_killed_at_rest_is_told_of_and_the_next_start_works() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    let daemon = world.start();
    let pid = daemon.settled("ns:a:sleeper");
    for round in 1..=3 {
        let spawner = wait_for("there is a spawner", || spawner_of(daemon.pid()));
        signal(spawner, "KILL");
        wait_for("it is told of", || (daemon.log().matches("the spawner died").count() == round).then_some(()));
        world.desire(&format!("{round}.yaml"), &format!("pattern: sleeper\nnamespace: n{round}\n"));
        daemon.settled(&format!("ns:n{round}:sleeper"));
    }
    let status = daemon.all_settled(4);
    assert_eq!(status.settled("ns:a:sleeper"), Some(pid), "what ran was left alone");
    assert!(status.instances.iter().all(|key| key.error_count == 0 && key.restart_count == 0));
}

#[test]
fn a_spawner_that_is_killed_again_and_again_while_starting_fails_no_instance() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let daemon = world.start();
    let mut killed = 0;
    for wave in 1..=5 {
        let all = wave * 8;
        world.desire_many("all.yaml", "sleeper", all, "");
        wait_for("all run, though who makes them dies", || {
            let settled = daemon.status().is_some_and(|status| status.settled_count() == all);
            // It comes to an end, since whoever is put off for this waits for a second.
            if !settled
                && killed < wave * 20
                && let Some(spawner) = spawner_of(daemon.pid())
            {
                signal(spawner, "KILL");
                killed += 1;
            }
            settled.then_some(())
        });
    }
    assert!(killed >= 5, "it was killed {killed} times");
    let status = daemon.all_settled(40);
    assert!(status.instances.iter().all(|key| key.error_count == 0 && key.restart_count == 0 && !key.circuit_open));
}
