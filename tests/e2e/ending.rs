//! How processes end: asked first, killed as a whole tree when the grace is over, left alone on request.

use crate::world::processes::with_programs_below;
use crate::world::wait::{now, since};
use crate::world::{World, alive, holds_for, wait_for};
use std::time::Duration;

#[test]
fn sigterm_ends_every_process_and_the_daemon() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire_many("all.yaml", "sleeper", 10, "");
    let daemon = world.start();
    daemon.all_settled(10);
    assert!(daemon.stop().success());
    assert!(with_programs_below(&world.root()).is_empty());
}

#[test]
fn with_detach_the_processes_go_on_and_the_next_launcher_takes_them_over() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire_many("all.yaml", "sleeper", 10, "");
    let launch = world.launch().flag("--on-exit", "detach");
    let daemon = launch.start();
    daemon.all_settled(10);
    let before = world.processes("sleeper");
    assert!(daemon.stop().success());
    assert_eq!(world.processes("sleeper"), before);

    let daemon = launch.start();
    let status = daemon.all_settled(10);
    assert_eq!(world.processes("sleeper"), before);
    assert!(status.instances.iter().all(|key| key.restart_count == 0));
    // An adopted process is looked after like any other.
    let pid = status.key("ns:n0:sleeper").unwrap().pid.unwrap();
    crate::world::signal(pid, "KILL");
    daemon
        .wait("the adopted process is restarted", |status| status.settled("ns:n0:sleeper").filter(|next| *next != pid));
    world.desire_many("all.yaml", "sleeper", 8, "");
    daemon.gone("ns:n9:sleeper");
    assert_eq!(world.processes("sleeper").len(), 8);
}

#[test]
fn a_stubborn_process_is_killed_when_its_grace_is_over_and_not_before() {
    let world = World::new();
    world.pattern("stubborn", "stubborn", "lifecycle: { grace_period: 1s }");
    world.desire("a.yaml", "pattern: stubborn\nnamespace: a\n");
    world.desire("b.yaml", "pattern: stubborn\nnamespace: b\nstate: stopped\n");
    let daemon = world.start();
    let pid = daemon.settled("ns:a:stubborn");
    ignores_sigterm(pid);
    world.desire("a.yaml", "pattern: stubborn\nnamespace: a\nstate: stopped\n");
    daemon.wait("it is being ended", |status| (status.settled("ns:a:stubborn").is_none()).then_some(()));
    let asked = now();
    wait_for("it is dead", || (!alive(pid)).then_some(()));
    let took = since(asked);
    assert!(took > Duration::from_millis(700) && took < Duration::from_secs(5), "{took:?}");
}

/// Waits until a process ignores SIGTERM, by its mask in /proc.
fn ignores_sigterm(pid: i32) {
    wait_for("it ignores SIGTERM", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"))?;
        let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
        (mask & (1 << 14) != 0).then_some(())
    });
}

#[test]
fn a_second_signal_ends_the_wait_for_the_stubborn() {
    let world = World::new();
    world.pattern("stubborn", "stubborn", "lifecycle: { grace_period: 10m }");
    world.desire("a.yaml", "pattern: stubborn\nnamespace: a\n");
    let mut daemon = world.start();
    let pid = daemon.settled("ns:a:stubborn");
    ignores_sigterm(pid);
    daemon.signal("TERM");
    daemon.wait("it is being ended", |status| (status.settled("ns:a:stubborn").is_none()).then_some(()));
    // A signal right after another is the same request.
    holds_for(Duration::from_millis(200), "it has its grace period", || alive(pid));
    daemon.signal("TERM");
    daemon.ended();
    assert!(!alive(pid));
}

#[test]
fn the_whole_tree_ends_also_what_was_forked_twice() {
    let world = World::new();
    world.pattern("forker", "forker", "args: [\"--daemons\", \"5\"]\nlifecycle: { grace_period: 300ms }");
    world.desire("a.yaml", "pattern: forker\nnamespace: a\n");
    let daemon = world.start();
    daemon.settled("ns:a:forker");
    let count = || with_programs_below(&world.root()).len();
    wait_for("six processes run", || (count() == 6).then_some(()));
    world.undesire("a.yaml");
    daemon.gone("ns:a:forker");
    assert_eq!(count(), 0, "TERMINATED is only said when nothing lives");
}

#[test]
fn what_a_dead_process_leaves_behind_is_ended_before_it_is_restarted() {
    let world = World::new();
    world.pattern("forker", "forker", "args: [\"--daemons\", \"3\"]");
    world.desire("a.yaml", "pattern: forker\nnamespace: a\n");
    let daemon = world.start();
    let first = daemon.settled("ns:a:forker");
    let tree = || with_programs_below(&world.root());
    wait_for("four processes run", || (tree().len() == 4).then_some(()));
    let before = tree();
    crate::world::signal(first, "KILL");
    daemon.wait("it is restarted", |status| status.settled("ns:a:forker").filter(|pid| *pid != first));
    assert!(before.iter().all(|pid| !alive(*pid)), "the new process runs beside remains of the old one");
    wait_for("four processes run again", || (tree().len() == 4).then_some(()));
}

#[test]
fn a_process_that_ends_by_itself_takes_its_daemons_along() {
    let world = World::new();
    let manifest = "args: [\"--daemons\", \"3\", \"--seconds\", \"0\"]\nlifecycle: { restart: on-failure }";
    world.pattern("forker", "forker", manifest);
    world.desire("a.yaml", "pattern: forker\nnamespace: a\n");
    let daemon = world.start();
    daemon.wait("it is finished", |status| {
        (status.state("ns:a:forker") == Some(pattern_launcher::model::ProcessState::Finished)).then_some(())
    });
    assert!(with_programs_below(&world.root()).is_empty());
}
