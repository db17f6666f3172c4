//! Failures, backoff and the circuit breaker.

use crate::world::{Daemon, World, holds_for, signal};
use pattern_launcher::model::ProcessState;
use std::time::Duration;

/// Kills the process of a key until its circuit is open; returns how many kills that took.
fn kill_until_open(daemon: &Daemon, id: &str) -> u32 {
    let mut killed = 0;
    let mut last = None;
    loop {
        let next = daemon.wait("it is restarted or given up", |status| {
            let key = status.key(id)?;
            if key.circuit_open { Some(None) } else { status.settled(id).filter(|pid| Some(*pid) != last).map(Some) }
        });
        let Some(pid) = next else { return killed };
        signal(pid, "KILL");
        last = Some(pid);
        killed += 1;
    }
}

#[test]
fn the_fifth_kill_opens_the_circuit_and_a_fixed_manifest_closes_it() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    let daemon = world.launch().flag("--backoff-period", "50ms").start();
    assert_eq!(kill_until_open(&daemon, "ns:a:sleeper"), 5);

    let status = daemon.status().unwrap();
    let key = status.key("ns:a:sleeper").unwrap();
    assert_eq!((key.state, key.error_count, key.restart_count), (ProcessState::Failed, 5, 4));
    let error = key.last_error.clone().unwrap();
    assert!(error.contains("[MAX_ERRORS_EXCEEDED]") && error.contains("Suggestion: "), "{error}");
    assert!(daemon.log().contains("MAX_ERRORS_EXCEEDED") && daemon.log().contains("Suggestion: "));
    holds_for(Duration::from_millis(500), "nothing is started", || world.processes("sleeper").is_empty());

    world.manifest("sleeper", "environment: { FIXED: \"yes\" }");
    daemon.settled("ns:a:sleeper");
    let status = daemon.status().unwrap();
    let key = status.key("ns:a:sleeper").unwrap();
    assert!(!key.circuit_open && key.error_count == 0, "{key:?}");
}

#[test]
fn an_open_circuit_and_a_streak_survive_the_launcher() {
    let world = World::new();
    world.pattern("broken", "flaky", "args: [\"--after-ms\", \"0\"]");
    world.pattern("sleeper", "sleeper", "");
    world.desire("all.yaml", "pattern: broken\nisolation: none\n---\npattern: sleeper\nisolation: none\n");
    let launch = world.launch().flag("--backoff-period", "50ms");
    let daemon = launch.start();
    let pid = daemon.settled("shared:sleeper");
    signal(pid, "KILL");
    daemon.wait("one is restarted and the other given up", |status| {
        let open = status.key("shared:broken")?.circuit_open;
        (open && status.settled("shared:sleeper")? != pid).then_some(())
    });
    let restarts = daemon.status().unwrap().key("shared:broken").unwrap().restart_count;
    daemon.kill();

    let daemon = launch.start();
    let status = daemon.status().unwrap();
    let broken = status.key("shared:broken").unwrap();
    assert_eq!((broken.state, broken.circuit_open), (ProcessState::Failed, true));
    assert_eq!((broken.error_count, broken.restart_count), (5, restarts));
    let sleeper = status.key("shared:sleeper").unwrap();
    assert_eq!((sleeper.error_count, sleeper.restart_count), (1, 1));
    holds_for(Duration::from_millis(500), "the circuit stays open", || {
        daemon.status().unwrap().key("shared:broken").unwrap().restart_count == restarts
    });
}

#[test]
fn touching_or_reformatting_closes_no_circuit_and_another_content_does() {
    let world = World::new();
    world.pattern("broken", "flaky", "args: [\"--after-ms\", \"$(AFTER)\"]");
    world.desire("a.yaml", "pattern: broken\nisolation: none\nconfig: { AFTER: 0 }\n");
    let daemon = world.launch().flag("--backoff-period", "20ms").start();
    daemon.wait("the circuit is open", |status| status.key("shared:broken")?.circuit_open.then_some(()));
    world.desire("a.yaml", "# the same, written otherwise\nisolation: 'none'\npattern: broken\nconfig:\n  AFTER: 0\n");
    holds_for(Duration::from_millis(1500), "the circuit stays open", || {
        daemon.status().unwrap().key("shared:broken").unwrap().circuit_open
    });
    world.desire("a.yaml", "pattern: broken\nisolation: none\nconfig: { AFTER: 3600000 }\n");
    daemon.settled("shared:broken");
}

#[test]
fn a_half_open_trial_that_holds_closes_the_circuit() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    let daemon = world
        .launch()
        .flag("--backoff-period", "20ms")
        .flag("--circuit-retry", "500ms")
        .flag("--stable-after", "500ms")
        .start();
    kill_until_open(&daemon, "ns:a:sleeper");
    daemon.wait("the trial holds and the circuit is closed", |status| {
        let key = status.key("ns:a:sleeper")?;
        (status.settled("ns:a:sleeper").is_some() && !key.circuit_open && key.error_count == 0).then_some(())
    });
}

#[test]
fn a_program_that_cannot_be_started_is_a_failure_with_a_suggestion() {
    let world = World::new();
    world.pattern("hello", "hello", "healthcheck: { path: /nowhere, startup_timeout: 300ms }");
    world.desire("a.yaml", "pattern: hello\nnamespace: a\n");
    let daemon = world.launch().flag("--backoff-period", "20ms").start();
    daemon.wait("the circuit is open", |status| status.key("ns:a:hello")?.circuit_open.then_some(()));
    assert!(daemon.log().contains("PROCESS_START_FAILED"));
    assert!(world.processes("hello").is_empty(), "what never became healthy is ended");
}
