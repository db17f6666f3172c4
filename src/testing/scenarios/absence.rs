//! What the launcher does not see is held against nobody.

use super::*;

/// Twenty services that are healthy, and one that needs twenty seconds to become so.
fn twenty_and_a_slow_one() -> (World, Key) {
    let mut world = world(19, Settings::default());
    for tenant in 0..20 {
        world.declare(Arc::new(instance("p", &format!("t{tenant}"), 1, 1)));
    }
    world.run_for(2 * MINUTE);
    let slow = instance("slow", "t", 1, 1);
    let key = slow.key.clone();
    world.programs.insert(key.clone(), Program { healthy_after: Some(Duration::from_secs(20)), ..Program::SERVICE });
    world.declare(Arc::new(slow));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.pids().len(), 21);
    (world, key)
}

#[test]
fn nothing_is_restarted_because_the_machine_slept_for_an_hour() {
    let (mut world, slow) = twenty_and_a_slow_one();
    let before = world.pids();
    for _ in 0..3 {
        world.sleep(60 * MINUTE);
        world.run_for(Duration::from_secs(30));
        assert_eq!(world.pids(), before, "{}", world.trace());
    }
    let status = world.status(&slow).expect("known");
    assert!(status.healthy && status.error_count == 0, "{status:?}");
    assert!(world.disk.memories.values().all(|memory| memory.restarts == 0 && memory.last_error.is_none()));
    assert_at_rest(&mut world);
}

#[test]
fn a_process_that_cannot_be_asked_has_its_time_once_it_can_be() {
    let (mut world, slow) = twenty_and_a_slow_one();
    let before = world.pids();
    // For two minutes, four times what a start is given, nobody can be asked anything; a launcher that takes over has all
    // of them to ask anew.
    world.settings.probe_error_once_in = 1;
    world.crash("killed");
    world.run_for(2 * MINUTE);
    assert_eq!(world.pids(), before, "{}", world.trace());
    assert!(!world.status(&slow).expect("known").healthy);
    world.settings.probe_error_once_in = 0;
    world.run_for(MINUTE);
    assert_eq!(world.pids(), before, "{}", world.trace());
    assert!(world.status(&slow).expect("known").healthy);
    // One that is asked and is not healthy is still given no more than its time.
    let sick = instance("sick", "t", 1, 1);
    let key = sick.key.clone();
    world.programs.insert(key.clone(), Program { healthy_after: None, ..Program::SERVICE });
    world.declare(Arc::new(sick));
    world.run_for(MINUTE);
    assert!(world.status(&key).expect("known").error_count > 0, "{}", world.trace());
}
