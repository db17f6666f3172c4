//! What differs is replaced, one at a time; what does not is left alone.

use crate::lifecycle::HELLO;
use crate::world::{Daemon, World, alive, example_program, holds_for, wait_for};
use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

/// The pid of every key.
fn pids(daemon: &Daemon) -> BTreeMap<String, i32> {
    let status = daemon.status().unwrap();
    status.instances.iter().filter_map(|key| Some((key.process_id.as_str().to_owned(), key.pid?))).collect()
}

#[test]
fn touching_renaming_and_reformatting_restart_nothing() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\nconfig: { X: \"1\" }\n");
    world.desire("b.yaml", "pattern: sleeper\nnamespace: b\n");
    world.desire("c.yaml", "pattern: sleeper\nnamespace: c\n");
    let daemon = world.launch().flag("--resync-interval", "500ms").start();
    daemon.all_settled(3);
    let before = pids(&daemon);

    let touched = fs::File::options().append(true).open(world.desired().join("b.yaml")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    world.desire("a.yaml", "# the same\nconfig:\n  X: '1'\nnamespace: a\npattern: sleeper\n");
    fs::create_dir(world.desired().join("team")).unwrap();
    fs::rename(world.desired().join("c.yaml"), world.desired().join("team/renamed.yml")).unwrap();
    // The executable: touched, and replaced by the same content.
    let again = world.root().join("again");
    fs::copy(example_program("sleeper"), &again).unwrap();
    fs::rename(&again, world.program("sleeper")).unwrap();
    world.manifest("sleeper", "# the same\n");

    holds_for(Duration::from_secs(4), "every process is the one it was", || pids(&daemon) == before);
    let status = daemon.status().unwrap();
    assert!(status.instances.iter().all(|key| key.restart_count == 0 && key.generation == key.observed_generation));
    let moved = status.key("ns:c:sleeper").unwrap().declared_at.clone().unwrap();
    assert!(moved.contains("team/renamed.yml:1"), "{moved}");
}

#[test]
fn a_longer_probe_interval_restarts_nothing() {
    let world = World::new();
    world.pattern("hello", "hello", HELLO);
    world.desire("a.yaml", "pattern: hello\nnamespace: a\n");
    let daemon = world.start();
    let pid = daemon.settled("ns:a:hello");
    world.manifest("hello", "healthcheck: { path: /health, interval: 7s, timeout: 3s }");
    daemon.wait("the new manifest is in force", |status| {
        let key = status.key("ns:a:hello")?;
        (key.generation.0 > 1 && key.generation == key.observed_generation).then_some(())
    });
    assert_eq!(daemon.settled("ns:a:hello"), pid);
}

#[test]
fn a_changed_manifest_replaces_one_instance_at_a_time() {
    let world = World::new();
    world.pattern("slow", "slow_starter", &slow(300));
    world.desire_many("all.yaml", "slow", 4, "");
    let daemon = world.start();
    daemon.all_settled(4);
    let before = pids(&daemon);

    world.manifest("slow", &slow(400));
    let mut fewest = 4;
    wait_for("all are replaced", || {
        let status = daemon.status()?;
        fewest = fewest.min(status.instances.iter().filter(|key| key.healthy).count());
        let replaced = |key: &&pattern_launcher::model::KeyStatus| {
            key.pid.is_some_and(|pid| before[key.process_id.as_str()] != pid)
                && status.settled(key.process_id.as_str()).is_some()
        };
        (status.instances.iter().filter(replaced).count() == 4).then_some(())
    });
    assert_eq!(fewest, 3, "at least one and at most one was away at any time");
    assert!(before.values().all(|pid| !alive(*pid)));
}

fn slow(after_ms: u32) -> String {
    format!("args: [\"--after-ms\", \"{after_ms}\"]\nhealthcheck: {{ path: /, interval: 200ms }}")
}

#[test]
fn a_replacement_that_fails_stops_the_rest() {
    let world = World::new();
    let manifest = |after_ms: u32| {
        format!(
            "args: [\"--after-ms\", \"{after_ms}\"]\nhealthcheck: {{ path: /, interval: 200ms, startup_timeout: 5s }}"
        )
    };
    world.pattern("fragile", "flaky", &manifest(3_600_000));
    world.desire_many("all.yaml", "fragile", 4, "");
    let daemon = world.launch().flag("--backoff-period", "50ms").start();
    daemon.all_settled(4);
    let before = pids(&daemon);
    let untouched = || {
        let now = pids(&daemon);
        before.iter().filter(|(key, pid)| now.get(*key) == Some(pid)).count()
    };

    world.manifest("fragile", &manifest(0));
    daemon.wait("one is given up", |status| {
        (status.instances.iter().filter(|key| key.circuit_open).count() == 1).then_some(())
    });
    holds_for(Duration::from_secs(1), "the other three are left alone", || untouched() == 3);
    assert_eq!(daemon.status().unwrap().settled_count(), 0, "three run what is no longer wished for");

    world.manifest("fragile", &manifest(3_600_000));
    daemon.all_settled(4);
    assert_eq!(untouched(), 3);
}

#[test]
fn a_changed_executable_replaces_its_instances() {
    let world = World::new();
    world.pattern("program", "sleeper", "");
    world.desire("a.yaml", "pattern: program\nnamespace: a\n");
    let daemon = world.start();
    let before = daemon.settled("ns:a:program");
    let another = world.root().join("another");
    fs::copy(example_program("log_flooder"), &another).unwrap();
    fs::rename(&another, world.program("program")).unwrap();
    daemon.wait("it is replaced", |status| status.settled("ns:a:program").filter(|pid| *pid != before));
    assert!(!alive(before));
}

#[test]
fn a_file_that_is_wrong_changes_nothing_and_says_so() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    let daemon = world.start();
    let pid = daemon.settled("ns:a:sleeper");
    for wrong in ["pattern: sleeper\nnamespace: a\nconfg: {}\n", "pattern: [\n", "", "pattern: nobody\nnamespace: a\n"]
    {
        world.desire("a.yaml", wrong);
        daemon.wait(&format!("a condition about {wrong:?}"), |status| {
            status.conditions().iter().any(|line| line.contains("a.yaml")).then_some(())
        });
        assert_eq!(daemon.settled("ns:a:sleeper"), pid);
        world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
        daemon.wait("no condition is left", |status| status.conditions().is_empty().then_some(()));
    }
    assert_eq!(daemon.settled("ns:a:sleeper"), pid);
    assert_eq!(daemon.status().unwrap().key("ns:a:sleeper").unwrap().generation.0, 1);
}
