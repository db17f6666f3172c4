//! A file is a process: dropped, edited, deleted; and a process that dies comes back.

use crate::world::processes::variable;
use crate::world::{World, alive, holds_for, signal};
use pattern_launcher::model::ProcessState;
use std::fs;
use std::time::Duration;

/// The rest of a manifest for the `hello` example.
pub(crate) const HELLO: &str = "healthcheck: { path: /health, interval: 200ms, timeout: 2s }";

#[test]
fn a_dropped_file_launches_an_edited_one_replaces_a_deleted_one_terminates() {
    let world = World::new();
    world.pattern("hello", "hello", HELLO);
    let daemon = world.start();

    world.desire("a.yaml", "pattern: hello\nnamespace: tenant-a\nconfig: { COLOR: red }\n");
    let first = daemon.settled("ns:tenant-a:hello");
    assert_eq!(variable(first, "COLOR").as_deref(), Some("red"));

    world.desire("a.yaml", "pattern: hello\nnamespace: tenant-a\nconfig: { COLOR: blue }\n");
    let second = daemon.wait("the edited instance is settled", |status| {
        status.settled("ns:tenant-a:hello").filter(|pid| *pid != first)
    });
    assert_eq!(variable(second, "COLOR").as_deref(), Some("blue"));
    assert!(!alive(first), "both run");
    let status = daemon.status().unwrap();
    assert_eq!(status.version, 1);
    assert_eq!(status.key("ns:tenant-a:hello").unwrap().error_count, 0, "a replacement is no failure");

    world.undesire("a.yaml");
    daemon.gone("ns:tenant-a:hello");
    assert!(!alive(second));
    assert!(world.processes("hello").is_empty());
}

#[test]
fn a_file_that_is_written_in_place_counts_once_it_holds_still() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let daemon = world.start();
    fs::write(world.desired().join("a.yaml"), "pattern: sleeper\nnamespace: a\nconfig: { V: \"1\" }\n").unwrap();
    let first = daemon.settled("ns:a:sleeper");
    fs::write(world.desired().join("a.yaml"), "pattern: sleeper\nnamespace: a\nconfig: { V: \"2\" }\n").unwrap();
    let second = daemon.wait("it is replaced", |status| status.settled("ns:a:sleeper").filter(|pid| *pid != first));
    assert_eq!(variable(second, "V").as_deref(), Some("2"));
}

#[test]
fn a_killed_child_is_restarted_and_keeps_its_ports() {
    let world = World::new();
    world.pattern("hello", "hello", HELLO);
    world.desire("a.yaml", "pattern: hello\nnamespace: a\n");
    let daemon = world.start();
    let first = daemon.settled("ns:a:hello");
    let before = daemon.status().unwrap();
    let ports = before.key("ns:a:hello").unwrap().ports.unwrap();

    signal(first, "KILL");
    let second = daemon.wait("it is restarted", |status| status.settled("ns:a:hello").filter(|pid| *pid != first));
    let after = daemon.status().unwrap();
    let key = after.key("ns:a:hello").unwrap();
    assert_eq!((key.restart_count, key.error_count), (1, 1));
    assert_eq!(key.ports.unwrap(), ports);
    assert!(key.last_error.as_ref().unwrap().contains("PROCESS_CRASHED"), "{:?}", key.last_error);
    assert!(alive(second));
}

#[test]
fn one_process_per_isolation_level() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire(
        "all.yaml",
        "pattern: sleeper\nisolation: none\n---\npattern: sleeper\nnamespaces: [a, b]\n---\n\
         pattern: sleeper\nisolation: session\nnamespace: a\nsession: auth0|1\n---\n\
         pattern: sleeper\nisolation: session\nnamespace: b\nsession: auth0|1\n",
    );
    let daemon = world.start();
    daemon.all_settled(5);
    let keys: Vec<String> = world.processes("sleeper").into_keys().collect();
    assert_eq!(
        keys,
        ["ns:a:sleeper", "ns:b:sleeper", "session:a:auth0|1:sleeper", "session:b:auth0|1:sleeper", "shared:sleeper"]
    );
}

#[test]
fn a_stopped_instance_is_declared_and_does_not_run() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\nstate: stopped\n");
    let daemon = world.start();
    daemon.wait("it is terminated", |status| {
        (status.state("ns:a:sleeper") == Some(ProcessState::Terminated)).then_some(())
    });
    assert!(world.processes("sleeper").is_empty());

    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\nstate: running\n");
    let pid = daemon.settled("ns:a:sleeper");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\nstate: stopped\n");
    daemon.wait("it is terminated again", |status| {
        (status.state("ns:a:sleeper") == Some(ProcessState::Terminated)).then_some(())
    });
    assert!(!alive(pid));
}

#[test]
fn an_accepted_exit_is_the_end_and_another_is_not() {
    let world = World::new();
    for (name, policy, code) in [("done", "on-failure", 0), ("failing", "on-failure", 3), ("once", "never", 3)] {
        let args = format!("args: [\"--after-ms\", \"300\", \"--code\", \"{code}\"]");
        world.pattern(name, "flaky", &format!("{args}\nlifecycle: {{ restart: {policy} }}"));
        world.desire(&format!("{name}.yaml"), &format!("pattern: {name}\nisolation: none\n"));
    }
    let daemon = world.start();
    daemon.wait("two are finished and one was restarted", |status| {
        let finished = |id: &str| status.state(id) == Some(ProcessState::Finished);
        let restarted = status.key("shared:failing").is_some_and(|key| key.restart_count > 0);
        (finished("shared:done") && finished("shared:once") && restarted).then_some(())
    });
    let status = daemon.status().unwrap();
    assert_eq!(status.key("shared:done").unwrap().last_error, None);
    let once = status.key("shared:once").unwrap().last_error.clone();
    assert!(once.as_ref().is_some_and(|error| error.contains("exit code 3")), "{once:?}");

    daemon.kill();
    let daemon = world.start();
    holds_for(Duration::from_millis(500), "what is finished stays finished over a restart", || {
        let status = daemon.status().unwrap();
        ["shared:done", "shared:once"].iter().all(|id| status.state(id) == Some(ProcessState::Finished))
    });
}

#[test]
fn health_and_ready_answer_over_http() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire_many("all.yaml", "sleeper", 3, "");
    let daemon = world.start();
    daemon.all_settled(3);
    assert_eq!(daemon.get("/ready").unwrap().0, 200);
    let (code, body) = daemon.get("/health").unwrap();
    let health: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!((code, &health["healthy"]), (200, &true.into()), "{body}");
    assert_eq!((&health["total_processes"], &health["running_processes"]), (&3.into(), &3.into()), "{body}");
    assert_eq!(daemon.get("/nowhere").unwrap().0, 404);
}
