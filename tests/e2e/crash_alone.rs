//! `kill -9` of the daemon, at rest and in the middle of starting a hundred processes, again and again.

use crate::world::wait::pause;
use crate::world::{Launch, World, wait_for};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const COUNT: usize = 100;
const ROUNDS: u32 = 20;

/// Every key has exactly one process, and exactly the processes that live are the ones that the status names.
fn one_process_each(world: &World, status: &crate::world::Status) -> BTreeMap<String, i32> {
    let live = world.processes("sleeper");
    let doubled: Vec<_> = live.iter().filter(|(_, pids)| pids.len() != 1).collect();
    assert!(doubled.is_empty(), "more than one process: {doubled:?}");
    let live: BTreeMap<String, i32> = live.into_iter().map(|(key, pids)| (key, pids[0])).collect();
    let named: BTreeMap<String, i32> =
        status.instances.iter().map(|key| (key.process_id.as_str().to_owned(), key.pid.unwrap())).collect();
    assert_eq!(live, named);
    live
}

/// Kills the daemon at rest, starts another, and finds every process untouched.
fn killed_at_rest(world: &World, launch: &Launch<'_>) {
    let daemon = launch.start();
    let status = daemon.all_settled(COUNT);
    let before = one_process_each(world, &status);
    let restarts =
        |status: &crate::world::Status| -> Vec<u32> { status.instances.iter().map(|key| key.restart_count).collect() };
    let restarted = restarts(&status);
    daemon.kill();
    let daemon = launch.start();
    let status = daemon.all_settled(COUNT);
    assert_eq!(one_process_each(world, &status), before);
    assert_eq!(restarts(&status), restarted, "something was restarted");
    daemon.kill();
}

#[test]
fn a_hundred_instances_survive_the_launcher_twenty_times_at_rest_and_while_they_start() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let launch = world.launch();
    for round in 0..ROUNDS {
        // Every file says something new, so that all hundred processes are started in this round.
        world.desire_many("all.yaml", "sleeper", COUNT, &format!("config: {{ ROUND: \"{round}\" }}"));
        let daemon = launch.spawn();
        let some = usize::try_from(round).unwrap() * 5;
        wait_for("some processes of this round run", || (in_round(&world, round) >= some.min(COUNT)).then_some(()));
        // A different moment each time, also between two starts.
        pause(Duration::from_micros(u64::from(round) * 397));
        daemon.kill();
        let survivors = of_round(&world, round);
        killed_at_rest(&world, &launch);
        let now = of_round(&world, round);
        assert_eq!(now.len(), COUNT);
        let lost: Vec<_> = survivors.difference(&now).collect();
        assert!(lost.is_empty(), "round {round}: what ran was started again: {lost:?}");
    }
    assert!(launch.start().stop().success());
    assert!(world.processes("sleeper").is_empty());
}

/// The pids of the processes that were started with this round's configuration.
fn of_round(world: &World, round: u32) -> BTreeSet<i32> {
    let round = round.to_string();
    let all = world.processes("sleeper").into_values().flatten();
    all.filter(|pid| crate::world::processes::variable(*pid, "ROUND").as_deref() == Some(round.as_str())).collect()
}

fn in_round(world: &World, round: u32) -> usize {
    of_round(world, round).len()
}
