//! A version that fails for everybody is tried with one instance at a time, and said to fail once.

use crate::world::wait::{SOON, now, since};
use crate::world::{Daemon, Status, World, holds_for, signal, within};
use pattern_launcher::model::ProcessState;
use std::time::Duration;

/// Instances of each of the two tenants.
const EACH: usize = 10;
/// Between two trials.
const PERIOD: Duration = Duration::from_millis(500);

fn restarts(status: &Status) -> u32 {
    let of_it = status.instances.iter().filter(|key| key.pattern_name.as_str() == "broken");
    of_it.map(|key| key.restart_count).sum()
}

fn told(daemon: &Daemon, message: &str) -> usize {
    daemon.log().lines().filter(|line| line.contains(message)).count()
}

#[test]
fn a_version_that_cannot_run_has_one_message_and_one_trial_at_a_time_and_all_start_once_it_is_mended() {
    let world = World::new();
    world.pattern("broken", "flaky", "args: [\"--after-ms\", \"0\"]");
    world.pattern("good", "sleeper", "");
    let session =
        |n: usize, tenant: &str| format!("pattern: broken\nisolation: session\nnamespace: {tenant}\nsession: s{n}\n");
    let all: Vec<String> = (0..EACH).flat_map(|n| ["a", "b"].map(|tenant| session(n, tenant))).collect();
    world.desire("good.yaml", "pattern: good\nnamespaces: [a, b]\n");
    let period = format!("{}ms", PERIOD.as_millis());
    let daemon = world.launch().flag("--backoff-period", period).start();
    daemon.all_settled(2);
    world.desire("broken.yaml", &all.join("---\n"));
    daemon.wait("most wait for a trial", |status| {
        let waits = status.instances.iter().filter(|key| key.conditions.iter().any(|c| c.kind == "VersionPaused"));
        (waits.count() >= 2 * EACH - 1).then_some(())
    });
    assert!(daemon.status().unwrap().has_condition("VersionPaused", "PROCESS_CRASHED"));

    let (before, begun) = (restarts(&daemon.status().unwrap()), now());
    holds_for(PERIOD * 6, "no more than one is tried", || world.processes("broken").values().flatten().count() <= 1);
    let tried = restarts(&daemon.status().unwrap()) - before;
    let most = since(begun).as_millis() / PERIOD.as_millis() + 2;
    assert!((1..=most).contains(&tried.into()), "{tried} trials, {most} at most");
    assert_eq!((told(&daemon, "version paused"), told(&daemon, "version resumed")), (1, 0), "{}", daemon.log());

    // Another pattern of the same tenants is none of its business.
    let pid = daemon.settled("ns:a:good");
    signal(pid, "KILL");
    daemon.wait("the other pattern is restarted", |status| status.settled("ns:a:good").filter(|now| *now != pid));
    world.desire("more.yaml", "pattern: good\nnamespace: c\n");
    daemon.settled("ns:c:good");

    world.manifest("broken", "args: [\"--after-ms\", \"3600000\"]");
    daemon.all_settled(2 * EACH + 3);
    assert_eq!((told(&daemon, "version paused"), told(&daemon, "version resumed")), (1, 1), "{}", daemon.log());
    assert!(within(SOON, || !daemon.status().unwrap().has_condition("VersionPaused", "")));
    let status = daemon.status().unwrap();
    assert!(status.instances.iter().all(|key| key.state == ProcessState::Running && !key.circuit_open));
}
