//! The clock on the wall is set forward and back by a year, for the daemon alone. Nothing is decided by it.

use crate::world::api::{Client, tenant};
use crate::world::command::{finished, program};
use crate::world::wait::{now, since};
use crate::world::{Daemon, World, alive, wait_for};
use pattern_launcher::api::proto::LaunchRequest;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// A year in seconds: no day of it is in the same year as that day a year earlier.
const YEAR: i64 = 366 * 24 * 3_600;

/// Makes what gives the daemon another time of day; `None`, said loudly, where nothing can be compiled.
fn shim(world: &World) -> Option<PathBuf> {
    let library = world.root().join("step.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/faults/step.c");
    let mut compiler = program("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source);
    let compiled = finished(&mut compiler, &world.root());
    if !compiled.status.success() {
        eprintln!("skipped: {}", String::from_utf8_lossy(&compiled.stderr));
        return None;
    }
    Some(library)
}

/// The year that it is by the daemon's last word.
fn year(daemon: &Daemon) -> i32 {
    let text = fs::read_to_string(daemon.status_file()).unwrap();
    text.split_once("\"written_at\":\"").unwrap().1[..4].parse().unwrap()
}

#[test]
fn a_clock_that_steps_by_a_year_moves_no_deadline() {
    let world = World::new();
    let Some(library) = shim(&world) else { return };
    let step = world.root().join("step");
    world.pattern("hello", "hello", "healthcheck: { path: /health, interval: 100ms, timeout: 5s }");
    world.pattern("sleeper", "sleeper", "");
    world.pattern("broken", "flaky", "args: [\"--after-ms\", \"0\"]");
    world.desire("hello.yaml", "pattern: hello\nnamespace: a\n");
    let daemon = world
        .launch()
        .variable("LD_PRELOAD", library.to_str().unwrap())
        .variable("CLOCK_STEP", step.to_str().unwrap())
        .flag("--backoff-period", "4s")
        .flag("--circuit-retry", "3s")
        .start();
    let hello = daemon.settled("ns:a:hello");
    let client = Client::of(&world);
    let this_year = year(&daemon);
    for (round, by) in [YEAR, -YEAR, 0].into_iter().enumerate() {
        // One that is in the middle of its backoff, and one whose time is running.
        let begun = now();
        world.desire("broken.yaml", &format!("pattern: broken\nnamespace: b{round}\n"));
        let launched = format!("ns:t{round}:sleeper");
        let request = LaunchRequest { ttl_secs: 4, ..tenant("sleeper", &format!("t{round}")) };
        client.launch(request).unwrap();
        let asked = now();
        let broken = format!("ns:b{round}:broken");
        daemon.wait("it waits between two starts", |status| (status.key(&broken)?.error_count == 3).then_some(()));

        world.put(&step, &by.to_string());
        // Delays of 1, 2 and 4 seconds: neither cut short by a clock that runs ahead, nor for ever by one that is behind.
        daemon.wait("the circuit opens", |status| status.key(&broken)?.circuit_open.then_some(()));
        assert!(since(begun) >= Duration::from_secs(7), "the delays were cut short: {:?}", since(begun));
        wait_for("the daemon sees another year", || ((year(&daemon) == this_year) == (by == 0)).then_some(()));
        wait_for("its time is over", || client.status(&launched).is_none().then_some(()));
        assert!(since(asked) >= Duration::from_secs(4), "its time was cut short: {:?}", since(asked));
        daemon.wait("the circuit is tried", |status| (status.key(&broken)?.restart_count > 4).then_some(()));
        assert!(since(begun) >= Duration::from_secs(10), "the trial came early: {:?}", since(begun));
        assert!(alive(hello));
    }
    let status = daemon.status().unwrap();
    let key = status.key("ns:a:hello").unwrap();
    assert_eq!((status.settled("ns:a:hello"), key.restart_count, key.error_count), (Some(hello), 0, 0));
    assert_eq!(daemon.get("/health").unwrap().0, 200);
}
