//! A launcher that is not root: what it enforces in cgroups that were delegated to it, and what it says without any.

use crate::world::cgroup::{V1Groups, delegate};
use crate::world::command::program;
use crate::world::{Daemon, World};
use pattern_launcher::model::KeyStatus;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

/// A user that has no name.
const USER: u32 = 1_777_777_777;
const LIMITED: &str = "resources: { memory_limit: 64Mi, cpu_limit: 0.5, pids_limit: 50 }";
/// What any launcher can do.
const ALWAYS: &str = "own_session closed_descriptors no_core_dumps no_new_privileges killed_first";

fn can_be_somebody_else() -> bool {
    let root = fs::metadata("/proc/self").unwrap().uid() == 0;
    let can = root && program("setpriv").arg("--version").output().is_ok();
    if !can {
        eprintln!("skipped: it takes root and setpriv to start a launcher as somebody else");
    }
    can
}

/// What is told of the one instance, once its limits are.
fn told(daemon: &Daemon) -> KeyStatus {
    daemon.settled("ns:a:sleeper");
    daemon.wait("its limits are told", |status| {
        status.key("ns:a:sleeper").filter(|key| key.limits_effective.is_some()).cloned()
    })
}

#[test]
fn in_cgroups_that_were_delegated_to_it_a_launcher_without_root_enforces_limits() {
    if !can_be_somebody_else() {
        return;
    }
    let v1 = V1Groups::create(&["memory", "cpu", "pids"]);
    let world = World::new();
    let Some(own) = world.cgroup().map(PathBuf::from) else {
        return eprintln!("skipped: no cgroup can be made here to be delegated");
    };
    world.pattern("sleeper", "sleeper", LIMITED);
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    let mut cgroups = v1.paths().to_vec();
    cgroups.push(own);
    for cgroup in &cgroups {
        delegate(cgroup, USER);
    }
    let daemon = world.launch().by_user(USER, &cgroups).start();
    let status = told(&daemon);
    let pid = status.pid.unwrap();
    assert_eq!(fs::metadata(format!("/proc/{pid}")).unwrap().uid(), USER);
    assert_eq!(status.isolation_effective.join(" "), ALWAYS);
    assert_eq!(status.tracking.as_deref(), Some("cgroup"));
    let limits = status.limits_effective.unwrap();
    let memory = limits.in_force.memory_limit;
    if v1.paths().is_empty() && memory.is_none() {
        // The group that the tests run in has no controllers to be delegated.
        return assert!(limits.missing_in_words().contains("memory_limit"), "{limits:?}");
    }
    let held = &limits.in_force;
    assert_eq!((memory, held.cpu_limit_millis, held.pids_limit), (Some(64 << 20), Some(500), Some(50)), "{limits:?}");
    let place = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let within = cgroups.iter().all(|cgroup| place.contains(cgroup.file_name().unwrap().to_str().unwrap()));
    assert!(within && place.contains("namespace.a"), "{place}");
    assert!(daemon.stop().success());
}

#[test]
fn without_any_it_runs_what_it_is_told_to_and_says_what_it_cannot_enforce() {
    if !can_be_somebody_else() {
        return;
    }
    let world = World::new();
    world.pattern("sleeper", "sleeper", LIMITED);
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    let launch = world.launch().by_user(USER, &[]).flag("--cgroup", "auto").flag("--tenant-users", "true");
    let daemon = launch.start();
    let status = told(&daemon);
    assert_eq!(fs::metadata(format!("/proc/{}", status.pid.unwrap())).unwrap().uid(), USER);
    assert_eq!(status.tracking.as_deref(), Some("process-group"));
    let told = status.isolation_effective.join(" ");
    assert_eq!(told, format!("{ALWAYS} no_capabilities"), "no user and no folders of its own");
    let limits = status.limits_effective.unwrap();
    assert_eq!((limits.in_force.memory_limit, limits.in_force.pids_limit), (None, None), "{limits:?}");
    let missing = limits.missing_in_words();
    let log = daemon.log();
    for limit in ["memory_limit", "cpu_limit", "pids_limit"] {
        assert!(missing.contains(limit) && log.contains(limit), "{limit}: {missing}: {log}");
    }
    for told in ["tenants run as the launcher's own user", "limits not enforced"] {
        assert!(log.contains(told), "{told}: {log}");
    }
    assert_eq!(daemon.get("/health").unwrap().0, 200, "it is as healthy as it can be");
    assert!(daemon.stop().success());

    // In production a limit that somebody wrote is enforced or the instance is not started.
    let daemon = launch.flag("--profile", "production").flag("--on-exit", "terminate").start();
    let error = daemon.wait("it is refused", |status| status.key("ns:a:sleeper")?.last_error.clone());
    assert!(error.contains("memory_limit") || error.contains("cpu_limit"), "{error}");
    assert!(daemon.stop().success());
}
