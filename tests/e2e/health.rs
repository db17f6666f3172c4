//! Probes of each type, and what follows from them.

use crate::world::wait::{now, since};
use crate::world::{World, holds_for};
use std::time::Duration;

#[test]
fn each_type_of_probe_finds_a_healthy_process_healthy() {
    let world = World::new();
    let probes = [
        ("http", "healthcheck: { type: http, path: /health }"),
        ("tcp", "healthcheck: { type: tcp }"),
        ("exec", "healthcheck: { type: exec, command: [sh, -c, 'test \"$NAMESPACE\" = a && test -x ./exec'] }"),
        ("grpc", "healthcheck: { type: grpc }"),
    ];
    for (name, more) in probes {
        let example = if name == "grpc" { "grpc_health" } else { "hello" };
        world.pattern(name, example, more);
        world.desire(&format!("{name}.yaml"), &format!("pattern: {name}\nnamespace: a\n"));
    }
    let daemon = world.start();
    daemon.all_settled(4);
}

#[test]
fn each_type_of_probe_finds_a_process_that_does_not_serve_unhealthy() {
    let world = World::new();
    let wait = "interval: 100ms, timeout: 200ms, startup_timeout: 500ms";
    let probes = [
        ("http", "path: /health"),
        ("tcp", "type: tcp"),
        ("exec", "type: exec, command: ['false']"),
        ("grpc", "type: grpc"),
    ];
    for (name, probe) in probes {
        world.pattern(name, "sleeper", &format!("healthcheck: {{ {probe}, {wait} }}"));
        world.desire(&format!("{name}.yaml"), &format!("pattern: {name}\nnamespace: a\n"));
    }
    let daemon = world.start();
    daemon.wait("each has failed to start", |status| {
        let failed = |key: &&pattern_launcher::model::KeyStatus| {
            key.last_error.as_ref().is_some_and(|error| error.contains("PROCESS_START_FAILED"))
        };
        (status.instances.iter().filter(failed).count() == 4).then_some(())
    });
    assert_eq!(daemon.status().unwrap().settled_count(), 0);
}

#[test]
fn a_healthy_process_that_falls_ill_is_restarted_past_its_threshold() {
    for (name, then) in [("ill", "unhealthy"), ("hung", "hang")] {
        let world = World::new();
        let probe = "healthcheck: { path: /, interval: 100ms, timeout: 100ms, failure_threshold: 3 }";
        world.pattern(name, "flaky", &format!("args: [\"--after-ms\", \"500\", \"--then\", \"{then}\"]\n{probe}"));
        world.desire("a.yaml", &format!("pattern: {name}\nnamespace: a\nconfig: {{}}\n"));
        let daemon = world.start();
        let id = format!("ns:a:{name}");
        let first = daemon.settled(&id);
        daemon.wait("it is restarted", |status| status.settled(&id).filter(|pid| *pid != first));
        let status = daemon.status().unwrap();
        let error = status.key(&id).unwrap().last_error.clone().unwrap();
        assert!(error.contains("HEALTH_CHECK_FAILED"), "{error}");
    }
}

#[test]
fn a_service_is_noticed_as_soon_as_it_serves() {
    let world = World::new();
    // The interval says how often a healthy process is asked; a starting one is asked quickly.
    world.pattern("hello", "hello", "healthcheck: { path: /health, interval: 10m }");
    let daemon = world.start();
    let before = now();
    world.desire("a.yaml", "pattern: hello\nnamespace: a\n");
    daemon.settled("ns:a:hello");
    let took = since(before);
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn when_most_of_a_pattern_falls_ill_together_the_rest_is_left_alone() {
    let world = World::new();
    let probe = |path: &str| {
        format!("healthcheck: {{ path: {path}, interval: 100ms, failure_threshold: 3, startup_timeout: 1s }}")
    };
    world.pattern("hello", "hello", &probe("/health"));
    world.desire_many("all.yaml", "hello", 6, "");
    let daemon = world.launch().flag("--backoff-period", "50ms").start();
    daemon.all_settled(6);
    let before = world.processes("hello");
    // A check that nobody passes: the cause is not with the processes.
    world.manifest("hello", &probe("/nowhere"));
    daemon.wait("all are ill", |status| status.instances.iter().all(|key| !key.healthy).then_some(()));
    // The fourth makes it more than half; until then each was restarted by itself.
    holds_for(Duration::from_secs(4), "half of them are left as they are", || {
        let now = world.processes("hello");
        before.iter().filter(|(key, pids)| now.get(*key) == Some(*pids)).count() >= 3
    });
    world.manifest("hello", &probe("/health"));
    daemon.all_settled(6);
}
