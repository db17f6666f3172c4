//! No file descriptors are left to the launcher.

use crate::world::{World, holds_for, wait_for};
use rustix::process::{Pid, Resource, getrlimit, prlimit};
use std::fs;
use std::time::Duration;

/// Takes back that a process may have few files open; false, said loudly, where that takes a right that this user lacks.
fn unlimited(pid: i32) -> bool {
    let raised = prlimit(Pid::from_raw(pid), Resource::Nofile, getrlimit(Resource::Nofile));
    if let Err(errno) = raised {
        eprintln!("not all is tested: the limit of another process cannot be raised here: {errno}");
    }
    raised.is_ok()
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
