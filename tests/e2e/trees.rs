//! Whole trees end on every rung, what will not end is said and waited for, and no cgroup is left behind.

use crate::world::api::{Client, tenant};
use crate::world::cgroup::{Cgroup, V1Freezer};
use crate::world::processes::with_programs_below;
use crate::world::wait::{now, since};
use crate::world::{Prismctl, World, alive, holds_for, wait_for};
use pattern_launcher::api::proto::{LaunchRequest, TerminateRequest};
use pattern_launcher::model::ProcessState;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

#[test]
fn what_does_not_want_to_end_is_ended_whole_on_every_rung() {
    let freezer = V1Freezer::create();
    for tracking in ["cgroup", "v1-freezer", "process-group"] {
        let world = World::new();
        let place = match tracking {
            "cgroup" => world.cgroup().map(Path::to_owned),
            "v1-freezer" => freezer.as_ref().map(|freezer| freezer.path().to_owned()),
            _ => Some("off".into()),
        };
        let Some(place) = place else {
            eprintln!("skipped with {tracking}: this machine has none that can be written");
            continue;
        };
        // Without a cgroup what forgets its environment, its session and its parents escapes, as the README says.
        let bare = if tracking == "process-group" { "" } else { "args: [\"--bare\"]\n" };
        world.pattern("hydra", "hydra", &format!("{bare}lifecycle: {{ grace_period: 500ms }}"));
        world.desire("a.yaml", "pattern: hydra\nnamespace: a\n");
        let daemon = world.launch().flag("--cgroup", place.to_str().unwrap()).start();
        daemon.settled("ns:a:hydra");
        assert_eq!(daemon.status().unwrap().key("ns:a:hydra").unwrap().tracking.as_deref(), Some(tracking));
        let tree = || with_programs_below(&world.root()).len();
        wait_for("its heads are there", || (tree() >= 4).then_some(()));
        world.desire("a.yaml", "pattern: hydra\nnamespace: a\nstate: stopped\n");
        daemon.wait("it is being ended", |status| {
            (status.state("ns:a:hydra") == Some(ProcessState::Terminating)).then_some(())
        });
        let asked = now();
        daemon
            .wait("it is ended", |status| (status.state("ns:a:hydra") == Some(ProcessState::Terminated)).then_some(()));
        let took = since(asked);
        assert_eq!(tree(), 0, "{tracking}: TERMINATED is only said when nothing lives");
        // Half a second of grace and one to kill in; three more for a machine that is busy with other tests.
        assert!(took < Duration::from_millis(4500), "{tracking}: {took:?}");
        eprintln!("{tracking}: ended in {took:?} with a grace period of 500ms");
        assert!(daemon.stop().success());
    }
}

#[test]
fn a_tree_that_does_not_end_is_said_holds_its_key_and_is_killed_on() {
    let world = World::new();
    let Some(freezer) = V1Freezer::create() else {
        eprintln!("skipped: this machine has no v1 freezer to hold a process with");
        return;
    };
    world.pattern("sleeper", "sleeper", "lifecycle: { grace_period: 100ms }");
    let daemon = world.start();
    let (client, prismctl) = (Client::of(&world), Prismctl::of(&world));
    client.launch(tenant("sleeper", "a")).unwrap();
    let id = "ns:a:sleeper";
    let pid = daemon.settled(id);
    // What is frozen by v1 does not even die of SIGKILL: a stand-in for a disk that does not answer.
    freezer.freeze(pid);
    let request = TerminateRequest { process_id: id.to_owned(), grace_period_secs: 0, force: true };
    let answer = client.run(client.stub().terminate_pattern(request)).unwrap().into_inner();
    assert!(!answer.success && answer.error.starts_with("[TERMINATION_FAILED]"), "{answer:?}");
    daemon.wait("the status says so", |status| {
        let said = status.has_condition("TerminationFailed", &pid.to_string());
        (said && status.state(id) == Some(ProcessState::Terminating)).then_some(())
    });
    let explained = prismctl.done(&format!("pattern explain {id}"));
    assert!(explained.contains("TERMINATION_FAILED") && explained.contains("process tree will not end"), "{explained}");
    let (_, metrics) = daemon.get("/metrics").unwrap();
    assert!(metrics.contains("pattern_launcher_processes_total{state=\"terminating\"} 1"), "{metrics}");
    // Who launches it again gets nothing beside it.
    client.launch(LaunchRequest { no_wait: true, ..tenant("sleeper", "a") }).unwrap();
    holds_for(Duration::from_millis(500), "it is the only process of its key", || {
        alive(pid) && world.processes("sleeper").values().flatten().all(|one| *one == pid)
    });
    freezer.thaw();
    wait_for("it is gone by itself", || (!alive(pid)).then_some(()));
    let next = daemon.settled(id);
    assert!(next != pid && !daemon.status().unwrap().has_condition("TerminationFailed", ""));
}

/// Runs with a cgroup of its own below that of the launcher's.
const NESTING: &str = "#!/bin/sh
own=BASE/$(sed -n PATTERN /proc/self/cgroup | head -n1)
mkdir \"$own/below\" \"$own/below/deeper\"
(echo 0 > \"$own/below/deeper/cgroup.procs\"; exec sleep 1000) &
exec sleep 1000
";

#[test]
fn no_cgroup_is_left_behind() {
    let freezer = V1Freezer::create();
    let v2 = Cgroup::create();
    let v2 = v2.as_ref().map(|own| (own.path().to_owned(), "s/^0:://p"));
    let v1 = freezer.as_ref().map(|own| (own.path().to_owned(), "s/^[0-9]*:freezer://p"));
    for (place, pattern) in [v2, v1].into_iter().flatten() {
        let world = World::new();
        let mount = place.parent().unwrap().display().to_string();
        world.pattern("nesting", "sleeper", "lifecycle: { grace_period: 200ms }");
        // A file that runs must not be written while it does.
        std::fs::remove_file(world.program("nesting")).unwrap();
        std::fs::write(world.program("nesting"), NESTING.replace("BASE", &mount).replace("PATTERN", pattern)).unwrap();
        std::fs::set_permissions(world.program("nesting"), std::fs::Permissions::from_mode(0o755)).unwrap();
        world.desire_many("all.yaml", "nesting", 3, "");
        let launch = world.launch().flag("--cgroup", place.to_str().unwrap());
        let daemon = launch.start();
        daemon.all_settled(3);
        wait_for("each has made cgroups of its own", || (depth(&place) == 5).then_some(()));
        // One whose end the launcher sees, and one of which the next finds nothing but the remains.
        world.desire_many("all.yaml", "nesting", 2, "");
        daemon.gone("ns:n2:nesting");
        let pids = ["ns:n0:nesting", "ns:n1:nesting"].map(|id| daemon.settled(id));
        daemon.kill();
        crate::world::signal(pids[0], "KILL");
        let daemon = launch.start();
        let status = daemon.all_settled(2);
        assert_eq!(status.settled("ns:n1:nesting"), Some(pids[1]));
        assert!(daemon.stop().success());
        assert_eq!(depth(&place), 0, "{}", place.display());
    }
}

/// How many levels of cgroups there are below one.
fn depth(cgroup: &Path) -> usize {
    let below = std::fs::read_dir(cgroup).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    below.map(|entry| depth(&entry.path()) + 1).max().unwrap_or(0)
}
