//! A thousand instances.

use crate::world::wait::{now, pause, since};
use crate::world::{Daemon, World, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// When a launcher that takes over a thousand processes is killed, in milliseconds: at once, and in the middle of its steps.
const AGAIN: [u64; 5] = [0, 20, 60, 150, 400];

/// A world whose files declare a thousand instances; each process that ever begins is a line of the file `starts`.
fn thousand() -> World {
    let world = World::for_instances(1000);
    world.pattern("sleeper", "sleeper", &format!("args: [\"--log\", \"{}\"]", world.root().join("starts").display()));
    for group in 0..10 {
        let names: Vec<String> = (0..100).map(|n| format!("t{group}-{n}")).collect();
        world.desire(&format!("{group}.yaml"), &format!("pattern: sleeper\nnamespaces: [{}]\n", names.join(", ")));
    }
    world
}

/// What runs of each key, as the launcher has it once it has come to rest: the pid, and how often it was restarted.
fn held(daemon: &Daemon) -> BTreeMap<String, (Option<i32>, u32)> {
    let instances = daemon.all_settled(1000).instances.into_iter();
    instances.map(|key| (key.process_id.as_str().to_owned(), (key.pid, key.restart_count))).collect()
}

#[test]
fn a_thousand_instances_are_adopted_and_none_is_restarted_however_the_launcher_goes() {
    let world = thousand();
    let launch = world.launch().flag("--on-exit", "detach");
    let daemon = launch.start();
    let before = held(&daemon);
    let starts = || fs::read_to_string(world.root().join("starts")).unwrap().lines().count();
    wait_for("every process has said that it started", || (starts() == 1000).then_some(()));
    let unharmed = |daemon: &Daemon| {
        assert_eq!(held(daemon), before);
        let live = world.processes("sleeper").into_iter();
        let live: BTreeMap<String, Vec<Option<i32>>> =
            live.map(|(key, pids)| (key, pids.into_iter().map(Some).collect())).collect();
        assert_eq!(live, before.iter().map(|(key, (pid, _))| (key.clone(), vec![*pid])).collect());
        assert_eq!(starts(), 1000, "something was started again");
        assert_eq!(fs::read_dir(world.state().join("runs")).unwrap().count(), 1000, "each has one record");
    };
    unharmed(&daemon);
    // As an upgrade ends it, then as a crash does.
    assert!(daemon.stop().success());
    let begun = now();
    let daemon = launch.start();
    eprintln!("a thousand processes were taken over {:?} after the launcher was started", since(begun));
    unharmed(&daemon);
    daemon.kill();
    for moment in AGAIN {
        let daemon = launch.spawn();
        pause(Duration::from_millis(moment));
        daemon.kill();
        let daemon = launch.start();
        unharmed(&daemon);
        daemon.kill();
    }
    assert!(launch.flag("--on-exit", "terminate").start().stop().success());
    assert!(world.processes("sleeper").is_empty());
}

#[test]
fn a_thousand_instances_converge_and_all_end_on_sigterm() {
    let world = thousand();
    let begun = now();
    let daemon = world.start();
    let status = daemon.all_settled(1000);
    eprintln!("a thousand instances were running after {:?}", since(begun));
    assert_eq!(world.processes("sleeper").len(), 1000);
    let mut ports: Vec<u16> =
        status.instances.iter().filter_map(|key| key.ports).flat_map(|p| [p.grpc, p.health]).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 2000, "a port was given twice");

    let begun = now();
    assert!(daemon.stop().success());
    eprintln!("and ended after {:?}", since(begun));
    assert!(world.processes("sleeper").is_empty());
}
