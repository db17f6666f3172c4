//! Starts: when they begin, when they are over, and which are none.

use super::*;

/// Something is asked for while the child of a launch is held, and nothing of it is ever executed.
fn asked_while_held(ask: impl Fn(&mut World, &Key)) {
    let mut world = world(17, Settings::default());
    let launched = instance("p", "t", 1, 1);
    let key = launched.key.clone();
    world.launch(launched);
    while world.held_children().next().is_none() {
        world.run_for(Duration::from_micros(50));
    }
    ask(&mut world, &key);
    world.run_for(MINUTE);
    assert_eq!(world.starts(&key), 0, "{}", world.trace());
    assert_eq!(world.violations(), [], "{}", world.trace());
}

#[test]
fn s12_a_start_that_is_no_longer_wanted_is_over_when_its_held_child_is() {
    asked_while_held(|world, key| world.terminate(key, None));
    asked_while_held(|world, key| {
        drop(world.ask(key, Ask::Suspend { reason: "a look inside".to_owned(), lasting: None }));
    });
}

#[test]
fn l4_the_end_of_a_slots_time_wakes_the_loop_by_itself() {
    let mut world = World::new(16, Policy { max_concurrent_starts: 1, ..Policy::default() }, Settings::default());
    world.start_launcher();
    let [slow, waiting] = ["a", "b"].map(|tenant| instance("p", tenant, 1, 1));
    world.programs.insert(slow.key.clone(), Program { healthy_after: None, ..Program::SERVICE });
    let (first, second) = (slow.key.clone(), waiting.key.clone());
    world.declare(Arc::new(slow));
    while !world.pids().contains_key(&first) {
        world.run_for(Duration::from_millis(1));
    }
    world.declare(Arc::new(waiting));
    // The next thing to happen by itself is a probe, a resync or a look, all of them later than this.
    world.run_for(Policy::START_SLOT_HOLD + Duration::from_millis(10));
    assert!(world.pids().contains_key(&second), "{}", world.trace());
}

#[test]
fn a_job_that_is_done_is_not_done_again_for_another_limit() {
    for (exit, changed_policy, starts) in [
        (ExitReason::Code(0), None, 1),
        (ExitReason::Code(0), Some(RestartPolicy::Always), 2),
        (ExitReason::Code(3), None, 2),
    ] {
        let mut world = world(18, Settings::default());
        let mut job = instance("p", "t", 1, 1);
        job.content.supervision.restart = RestartPolicy::Never;
        let key = job.key.clone();
        world
            .programs
            .insert(key.clone(), Program { lives: Some((Duration::from_millis(50), exit)), ..Program::SERVICE });
        world.declare(Arc::new(job.clone()));
        world.run_for(Duration::from_secs(30));
        assert_eq!(world.starts(&key), 1);
        world.programs.insert(key.clone(), Program::SERVICE);
        job.content.supervision.resources.memory_limit = Some(1 << 30);
        job.content.supervision.restart = changed_policy.unwrap_or(RestartPolicy::Never);
        world.declare(Arc::new(job));
        world.run_for(Duration::from_secs(30));
        // The oracle counts from the last change of content.
        assert_eq!(world.starts(&key), starts - 1, "{exit:?} {changed_policy:?}: {}", world.trace());
    }
}
