//! A launcher that is stopped for a while, as it is by a machine that sleeps: it blames nobody for what it did not see.
//! An hour of it passes in the simulated world (`testing/scenarios/absence`).

use crate::world::wait::pause;
use crate::world::{World, holds_for, wait_for};
use std::time::Duration;

#[test]
fn nothing_is_restarted_for_probes_that_nobody_carried_out() {
    let world = World::new();
    // One failure is enough, and each stop of the launcher is longer than a probe may take, and than a start may.
    let check = |more: &str| format!("healthcheck: {{ path: /health, interval: 50ms, failure_threshold: 1, {more} }}");
    world.pattern("hello", "hello", &check("timeout: 2s"));
    let slow = check("timeout: 2s, startup_timeout: 4s");
    world.pattern("slow", "slow_starter", &format!("args: [\"--after-ms\", \"1000\"]\n{slow}"));
    world.desire_many("hello.yaml", "hello", 3, "");
    let daemon = world.start();
    let before: Vec<i32> = (0..3).map(|n| daemon.settled(&format!("ns:n{n}:hello"))).collect();
    for round in 0..2 {
        world.desire("slow.yaml", &format!("pattern: slow\nnamespace: s{round}\n"));
        let id = format!("ns:s{round}:slow");
        let pid = daemon.wait("the slow one is being started", |status| status.key(&id)?.pid);
        daemon.signal("STOP");
        pause(Duration::from_secs(6));
        daemon.signal("CONT");
        wait_for("its absence is told of", || (daemon.log().matches("nobody is blamed").count() > round).then_some(()));
        assert_eq!(daemon.settled(&id), pid, "it was ended for a start that nobody watched");
        holds_for(Duration::from_secs(1), "all are left alone", || {
            let status = daemon.status().unwrap();
            assert!(status.instances.iter().all(|key| key.error_count == 0), "{status:?}");
            (0..3).all(|n| status.key(&format!("ns:n{n}:hello")).unwrap().pid == Some(before[n]))
        });
    }
}
