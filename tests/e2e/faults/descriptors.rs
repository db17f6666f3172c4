//! No file descriptors are left to the launcher.

use super::{healthy, put_off, unhealthy};
use crate::world::api::{Client, refused, tenant};
use crate::world::wait::pause;
use crate::world::{World, alive, holds_for, signal, wait_for};
use pattern_launcher::model::ProcessState;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use std::fs;
use std::time::Duration;
use tonic::Code;

const LACKING: &str = "Too many open files";

/// Sets how many files a process may have open.
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

/// The number of the next descriptor that a process would be given, when it has nothing open but what it keeps open.
fn next_descriptor(pid: i32) -> u64 {
    let lowest = || {
        let used: Vec<u64> = fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
            .collect();
        (0..=used.len() as u64).find(|number| !used.contains(number)).unwrap()
    };
    // What it opens for a moment, for a probe or a look, only makes the number larger.
    let looks = (0..100).map(|_| {
        pause(Duration::from_millis(5));
        lowest()
    });
    looks.min().unwrap()
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
    let slow = daemon.wait("it is being started", |status| {
        status
            .key("ns:a:slow")
            .filter(|key| key.state == ProcessState::Starting || key.state == ProcessState::Running)?
            .pid
    });

    // One is left to see by that nothing of a tree lives any more; a start takes several.
    limit(daemon.pid(), Some(next_descriptor(daemon.pid()) + 1));
    signal(b, "KILL");
    wait_for("its end is seen", || (client.status("ns:b:sleeper")?.error_count == 1).then_some(()));
    put_off(&client, "ns:b:sleeper", LACKING);
    // That one, and its own, which has become free.
    limit(daemon.pid(), Some(next_descriptor(daemon.pid())));
    for what in [LACKING, "prlimit", "status file"] {
        unhealthy(&daemon, what);
    }
    let status = client.launch(tenant("sleeper", "d")).unwrap_err();
    refused(&status, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(status.message().contains(LACKING), "{status:?}");
    // Longer than a start may take, and than a probe that fails is given.
    holds_for(Duration::from_secs(8), "what runs is left alone", || {
        assert_eq!(client.status("ns:b:sleeper").unwrap().error_count, 1, "the crash, and nothing else");
        assert!(client.status("ns:a:hello").unwrap().healthy, "nobody has said that it is not");
        assert_eq!(client.status("ns:a:slow").unwrap().error_count, 0);
        alive(a) && alive(slow)
    });

    limit(daemon.pid(), None);
    healthy(&daemon);
    // Until it is written again, the status file says how things were.
    daemon.wait("what waited is started", |status| status.settled("ns:b:sleeper").filter(|pid| *pid != b));
    let status = daemon.all_settled(3);
    assert_eq!((status.settled("ns:a:hello"), status.settled("ns:a:slow")), (Some(a), Some(slow)));
    assert!(status.instances.iter().all(|key| key.error_count == u32::from(key.namespace == "b") && !key.circuit_open));
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
