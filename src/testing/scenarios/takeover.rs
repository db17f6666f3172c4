//! What a launcher that takes over finds, and what the one after it does.

use super::*;

#[test]
fn s10_a_process_that_ends_after_two_launchers_died_has_failed() {
    let mut world = world(17, Settings::default());
    let declared = instance("p", "t", 1, 1);
    let key = declared.key.clone();
    world.declare(Arc::new(declared));
    while world.pids().is_empty() {
        world.run_for(World::WORD_OF_START / 4);
    }
    let executed = |world: &World| world.disk.runs.values().map(|record| record.executed).collect::<Vec<_>>();
    world.crash("after the release, and before it knows that it worked");
    assert_eq!(executed(&world), [false], "for all that is on record, it may only have been held");
    let before = world.pids();
    world.run_for(Duration::from_secs(5));
    assert_eq!((executed(&world), world.pids()), (vec![true], before.clone()), "it lives, so it was executed");
    world.crash("once more");
    world.kill_child(&key);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.status(&key).expect("known").error_count, 1, "{}", world.trace());
    assert!(world.pids().contains_key(&key) && world.pids() != before);
    assert_at_rest(&mut world);
}

#[test]
fn s1_an_orphan_of_the_start_blocks_its_key_until_it_has_ended_and_no_longer() {
    let mut world = World::new(20, Policy::default(), Settings::default());
    let (one, other) = (instance("p", "t", 1, 1), instance("p", "u", 1, 1));
    world.orphans.insert(one.key.clone());
    world.start_launcher();
    for declared in [&one, &other] {
        world.declare(Arc::new(declared.clone()));
    }
    for _ in 0..2 {
        world.run_for(10 * MINUTE);
        assert_eq!(world.pids().into_keys().collect::<Vec<_>>(), std::slice::from_ref(&other.key));
        assert_eq!(world.status(&one.key).expect("known").state, ProcessState::Failed);
        world.crash("so that the next launcher finds it again");
    }
    world.run_for(Duration::from_secs(5));
    world.orphans.clear();
    world.run_for(2 * MINUTE);
    assert!(world.pids().contains_key(&one.key), "{}", world.trace());
    assert_at_rest(&mut world);
}
