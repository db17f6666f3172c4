//! No room where the launcher keeps its records, and a state folder that cannot be written.

use super::{healthy, put_off, unhealthy};
use crate::world::api::{Client, refused, tenant};
use crate::world::{Daemon, Launch, World, alive, holds_for, signal, wait_for};
use std::fs;
use std::path::Path;
use std::time::Duration;
use tonic::Code;

/// What is said of a full disk.
const FULL: &str = "No space left on device";
/// What is said of one that is read-only.
const READ_ONLY: &str = "Read-only file system";

/// A world on a small disk: `hello`, which is probed often, and `sleeper`.
fn world() -> Option<World> {
    let world = World::on_small_disk()?;
    world.pattern("hello", "hello", "healthcheck: { path: /health, interval: 100ms, failure_threshold: 2 }");
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: hello\nnamespace: a\n");
    world.desire("b.yaml", "pattern: sleeper\nnamespace: b\n");
    Some(world)
}

/// Its daemon, with the launch folder on the small disk too.
fn launch(world: &World) -> Launch<'_> {
    let launched = world.state().join("launched");
    world.launch().flag("--launch-dir", launched.to_str().unwrap()).flag("--backoff-period", "50ms")
}

/// Starts a daemon whose status file may not be writable, and waits until it is ready.
fn start_in_trouble(world: &World) -> Daemon {
    let daemon = launch(world).spawn();
    wait_for("the daemon is ready", || daemon.get("/ready").filter(|(code, _)| *code == 200));
    daemon
}

/// How many probes have succeeded.
fn successes(daemon: &Daemon) -> f64 {
    let (_, text) = daemon.get("/metrics").unwrap();
    let line = text.lines().find(|line| line.contains("health_checks_total") && line.contains("result=\"success\""));
    line.unwrap_or_else(|| panic!("no probes are counted: {text}")).rsplit(' ').next().unwrap().parse().unwrap()
}

/// Nothing is there that is unfinished: no draft of a launch, no part of a record.
fn nothing_half_written(state: &Path) {
    let names = |folder: &str| {
        let entries = fs::read_dir(state.join(folder)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names("launched"), Vec::<String>::new());
    // A record is made within microseconds; one that stays unfinished is a leftover.
    wait_for("no unfinished record", || names("runs").iter().all(|name| !name.starts_with('.')).then_some(()));
}

#[test]
fn a_full_disk_puts_starts_off_and_ends_nothing_not_even_under_a_killed_launcher() {
    let Some(world) = world() else { return };
    let daemon = launch(&world).start();
    let (a, b) = (daemon.settled("ns:a:hello"), daemon.settled("ns:b:sleeper"));
    let client = Client::of(&world);

    world.disk().fill();
    // One that crashes, one that is new, and one that is launched.
    signal(b, "KILL");
    world.desire("c.yaml", "pattern: sleeper\nnamespace: c\n");
    // Its record stays until its crash can be remembered, and so does the room that this takes up.
    put_off(&client, "ns:b:sleeper", FULL);
    put_off(&client, "ns:c:sleeper", FULL);
    for what in [FULL, "df -h", "status file"] {
        unhealthy(&daemon, what);
    }
    let status = client.launch(tenant("sleeper", "d")).unwrap_err();
    let remedy = refused(&status, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(status.message().contains(FULL) && remedy.contains("df -h"), "{status:?}");
    let before = successes(&daemon);
    // Long enough that whatever counted the attempts would have opened a circuit.
    holds_for(Duration::from_secs(6), "what runs is left alone", || {
        assert_eq!(client.status("ns:c:sleeper").unwrap().error_count, 0);
        assert_eq!(client.status("ns:b:sleeper").unwrap().error_count, 1, "the crash, and nothing else");
        alive(a)
    });
    assert!(successes(&daemon) > before + 10.0, "it was not probed");
    nothing_half_written(&world.state());
    drop(client);

    daemon.kill();
    let daemon = start_in_trouble(&world);
    let client = Client::of(&world);
    put_off(&client, "ns:c:sleeper", FULL);
    unhealthy(&daemon, FULL);
    assert_eq!(world.processes("hello")["ns:a:hello"], [a], "it is taken over");
    assert!(world.processes("sleeper").values().all(|pids| pids.len() == 1), "nothing runs twice");
    nothing_half_written(&world.state());

    world.disk().free();
    let status = daemon.all_settled(3);
    healthy(&daemon);
    assert_eq!(status.settled("ns:a:hello"), Some(a));
    for (id, errors) in [("ns:b:sleeper", 1), ("ns:c:sleeper", 0)] {
        assert_eq!(status.key(id).unwrap().error_count, errors, "{id}");
    }
    assert!(client.launch(tenant("sleeper", "d")).unwrap().created);
    let processes = world.processes("sleeper");
    assert!(processes.len() == 3 && processes.values().all(|pids| pids.len() == 1), "{processes:?}");
}

#[test]
fn a_state_folder_that_turns_read_only_puts_starts_off_and_refuses_another_launcher() {
    let Some(world) = world() else { return };
    let daemon = launch(&world).start();
    let (a, b) = (daemon.settled("ns:a:hello"), daemon.settled("ns:b:sleeper"));
    let client = Client::of(&world);

    world.disk().make_read_only();
    signal(b, "KILL");
    world.desire("c.yaml", "pattern: sleeper\nnamespace: c\n");
    put_off(&client, "ns:b:sleeper", READ_ONLY);
    put_off(&client, "ns:c:sleeper", READ_ONLY);
    for what in [READ_ONLY, "findmnt -T", "status file"] {
        unhealthy(&daemon, what);
    }
    let status = client.launch(tenant("sleeper", "d")).unwrap_err();
    let remedy = refused(&status, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(status.message().contains(READ_ONLY) && remedy.contains("findmnt -T"), "{status:?}");
    let before = successes(&daemon);
    holds_for(Duration::from_secs(6), "what runs is left alone", || {
        assert_eq!(client.status("ns:c:sleeper").unwrap().error_count, 0);
        alive(a)
    });
    assert!(successes(&daemon) > before + 10.0, "it was not probed");
    world.disk().make_writable();
    let status = daemon.all_settled(3);
    healthy(&daemon);
    assert_eq!(status.settled("ns:a:hello"), Some(a));
    assert_eq!(status.key("ns:b:sleeper").unwrap().error_count, 1);
    drop(client);

    // A launcher that cannot write down what it starts does not begin; what runs goes on without one.
    daemon.kill();
    world.disk().make_read_only();
    let mut refused = launch(&world).spawn();
    assert_eq!(refused.ended().code(), Some(1));
    let log = refused.log();
    assert!(log.contains("STORE_UNAVAILABLE") && log.contains(READ_ONLY) && log.contains("findmnt -T"), "{log}");
    assert!(alive(a));
    world.disk().make_writable();
    let daemon = launch(&world).start();
    assert_eq!(daemon.all_settled(3).settled("ns:a:hello"), Some(a));
}
