//! No file descriptors are left to the launcher.

use super::healthy;
use crate::world::api::{Client, refused, tenant};
use crate::world::{World, alive, holds_for, signal, wait_for};
use pattern_launcher::api::proto::ProcessState;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::fs;
use std::time::Duration;
use tonic::Code;

const LACKING: &str = "Too many open files";
/// Standard input, output and error are open, so that with this limit nothing more can be opened, whatever else is.
const NOTHING_MORE: u64 = 3;

/// Sets how many files a process may have open: no descriptor is given out that is not below. What is open stays open.
fn limit(pid: i32, files: Option<u64>) {
    let own = getrlimit(Resource::Nofile).maximum;
    let new = Rlimit { current: files.or(own), maximum: own };
    prlimit(Pid::from_raw(pid), Resource::Nofile, new).unwrap();
}

/// Takes back that a process may have few files open; false, said loudly, where that takes a right that this user lacks.
fn unlimited(pid: i32) -> bool {
    let raised = prlimit(Pid::from_raw(pid), Resource::Nofile, getrlimit(Resource::Nofile));
    if let Err(errno) = raised {
        eprintln!("not all is tested: the limit of another process cannot be raised here: {errno}");
    }
    raised.is_ok()
}

#[test]
fn a_launcher_without_descriptors_ends_nothing_says_so_and_goes_on_when_it_has_some() {
    let world = World::new();
    world.pattern("hello", "hello", "healthcheck: { path: /health, interval: 100ms, failure_threshold: 1 }");
    world.pattern("sleeper", "sleeper", "");
    world.pattern("slow", "slow_starter", "args: [\"--after-ms\", \"3000\"]\nhealthcheck: { startup_timeout: 5s }");
    world.desire("a.yaml", "pattern: hello\nnamespace: a\n");
    world.desire("b.yaml", "pattern: sleeper\nnamespace: b\n");
    let daemon = world.launch().flag("--backoff-period", "50ms").start();
    let (a, b) = (daemon.settled("ns:a:hello"), daemon.settled("ns:b:sleeper"));
    let client = Client::of(&world);
    // One is being started, and cannot be asked any more.
    world.desire("slow.yaml", "pattern: slow\nnamespace: a\n");
    let slow = daemon.wait("it is being started", |status| status.key("ns:a:slow")?.pid);

    limit(daemon.pid(), Some(NOTHING_MORE));
    world.desire("c.yaml", "pattern: sleeper\nnamespace: c\n");
    signal(b, "KILL");
    wait_for("it says so over the connection that it has", || {
        let health = client.health();
        let problems = health.problems.join("\n");
        (!health.healthy && problems.contains(LACKING) && problems.contains("prlimit")).then_some(())
    });
    let status = client.launch(tenant("sleeper", "d")).unwrap_err();
    refused(&status, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(status.message().contains(LACKING), "{status:?}");
    // Longer than a start may take, and than a probe that fails is given.
    holds_for(Duration::from_secs(8), "what runs is left alone", || {
        for id in ["ns:a:hello", "ns:a:slow"] {
            let status = client.status(id).unwrap();
            assert_eq!((status.error_count, status.restart_count), (0, 0), "{id}");
        }
        assert!(client.status("ns:a:hello").unwrap().healthy, "nobody has said that it is not");
        let crashed = client.status("ns:b:sleeper").unwrap();
        assert!(crashed.error_count <= 1 && crashed.state() != ProcessState::StateFailed, "{crashed:?}");
        let declared = client.status("ns:c:sleeper");
        assert!(declared.is_none_or(|declared| declared.error_count == 0 && declared.pid == 0));
        alive(a) && alive(slow)
    });
    assert!(world.processes("sleeper").is_empty(), "nothing was started");

    limit(daemon.pid(), None);
    healthy(&daemon);
    let status = daemon.all_settled(4);
    assert_eq!((status.settled("ns:a:hello"), status.settled("ns:a:slow")), (Some(a), Some(slow)));
    for key in &status.instances {
        let failures = u32::from(key.process_id.as_str() == "ns:b:sleeper");
        assert_eq!((key.error_count, key.restart_count, key.circuit_open), (failures, failures, false), "{key:?}");
    }
    assert!(client.launch(tenant("sleeper", "d")).unwrap().created);
}

#[test]
fn what_cannot_be_taken_over_for_want_of_descriptors_is_waited_for_and_ended_by_nobody() {
    const COUNT: usize = 40;
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire_many("all.yaml", "sleeper", COUNT, "");
    let daemon = world.start();
    let before = daemon.all_settled(COUNT);
    let enough = fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count() as u64;
    daemon.kill();

    // Enough to begin with, and for about half of them.
    let daemon = world.launch().open_files(enough - 20).spawn();
    wait_for("it says what it lacks", || daemon.log().contains("cannot be taken over yet").then_some(()));
    wait_for("so does /ready", || {
        daemon.get("/ready").filter(|(code, body)| *code == 503 && body.contains("taking over")).map(drop)
    });
    holds_for(Duration::from_secs(2), "all live, each once", || {
        let now = world.processes("sleeper");
        now.len() == COUNT && now.values().all(|pids| pids.len() == 1)
    });
    // It goes on as soon as it has some, where whoever runs this may give it some; else another launcher does.
    let daemon = if unlimited(daemon.pid()) {
        daemon
    } else {
        daemon.kill();
        world.start()
    };
    let after = daemon.all_settled(COUNT);
    for key in &before.instances {
        let id = key.process_id.as_str();
        assert_eq!(after.settled(id), key.pid, "{id} was restarted");
    }
    assert!(after.instances.iter().all(|key| key.restart_count == 0));
}
