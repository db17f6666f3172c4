//! Limits of instances: what takes too much is killed and says why, its neighbours run on, and a change needs no restart.

use crate::world::{Daemon, World, wait_for};
use pattern_launcher::model::{LimitsEffective, ProcessState};
use std::fs;

/// The limits in force of a key, once they are told.
fn limits(daemon: &Daemon, id: &str, expected: impl Fn(&LimitsEffective) -> bool) -> LimitsEffective {
    daemon.wait(&format!("the limits of {id} are told"), |status| {
        status.key(id)?.limits_effective.clone().filter(&expected)
    })
}

/// Whether memory can be limited on this machine, as a first instance says; what the launcher cannot is tested in
/// `tests/host`.
pub(crate) fn limits_memory(daemon: &Daemon, id: &str) -> bool {
    let told = limits(daemon, id, |_| true);
    if told.in_force.memory_limit.is_none() {
        eprintln!("skipped: memory cannot be limited here: {}", told.missing_in_words());
    }
    told.in_force.memory_limit.is_some()
}

#[test]
fn a_tenant_that_takes_too_much_memory_is_killed_and_given_up_and_another_is_not_touched() {
    let world = World::new();
    world.pattern("good", "sleeper", "resources: { memory_limit: 64Mi }");
    world.pattern("hog", "memory_hog", "args: [\"--mib\", \"512\"]\nresources: { memory_limit: 32Mi }");
    world.desire("b.yaml", "pattern: good\nnamespace: b\n");
    let daemon = world.launch().flag("--backoff-period", "100ms").start();
    let pid = daemon.settled("ns:b:good");
    if !limits_memory(&daemon, "ns:b:good") {
        return;
    }
    world.desire("a.yaml", "pattern: hog\nnamespace: a\n");
    daemon.wait("the circuit is open", |status| status.key("ns:a:hog")?.circuit_open.then_some(()));
    let status = daemon.status().unwrap();
    let hog = status.key("ns:a:hog").unwrap();
    assert_eq!((hog.state, hog.error_count, hog.restart_count), (ProcessState::Failed, 5, 4));
    let error = hog.last_error.clone().unwrap();
    for part in ["[MAX_ERRORS_EXCEEDED]", "RESOURCE_LIMIT_EXCEEDED", "memory_limit: 64Mi"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    let log = daemon.log();
    for part in ["memory_limit=32Mi", "peak="] {
        assert!(log.contains(part), "{part}: {log}");
    }
    let (_, metrics) = daemon.get("/metrics").unwrap();
    let counted = metrics.lines().find(|line| line.contains("reason=\"resource_limit_exceeded\"")).unwrap_or_default();
    assert!(counted.starts_with("pattern_launcher_process_failures_total{") && counted.ends_with(" 5"), "{counted}");
    let good = status.key("ns:b:good").unwrap();
    assert_eq!((good.pid, good.restart_count, good.healthy), (Some(pid), 0, true));

    // More is enough for it: the change closes the circuit.
    world.desire("a.yaml", "pattern: hog\nnamespace: a\nresources: { memory_limit: 1Gi }\n");
    daemon.settled("ns:a:hog");
}

#[test]
fn a_limit_is_changed_without_a_restart_and_stands_when_the_launcher_dies() {
    let world = World::new();
    world.pattern("limited", "sleeper", "resources: { memory_limit: 64Mi }");
    world.desire("a.yaml", "pattern: limited\nnamespace: a\n");
    let launch = world.launch();
    let daemon = launch.start();
    let pid = daemon.settled("ns:a:limited");
    if !limits_memory(&daemon, "ns:a:limited") {
        return;
    }
    let is = |mib: u64| move |told: &LimitsEffective| told.in_force.memory_limit == Some(mib << 20);
    limits(&daemon, "ns:a:limited", is(64));
    world.desire("a.yaml", "pattern: limited\nnamespace: a\nresources: { memory_limit: 96Mi }\n");
    limits(&daemon, "ns:a:limited", is(96));
    daemon.kill();

    // Changed again while nobody looks.
    world.desire("a.yaml", "pattern: limited\nnamespace: a\nresources: { memory_limit: 128Mi }\n");
    let daemon = launch.start();
    limits(&daemon, "ns:a:limited", is(128));
    let status = daemon.status().unwrap();
    assert_eq!(status.settled("ns:a:limited"), Some(pid), "it was not restarted");
    assert!(daemon.stop().success());
    let bases = fs::read_to_string(world.state().join("cgroup-base")).unwrap();
    let left: Vec<&str> = bases.lines().filter(|base| std::path::Path::new(base).exists()).collect();
    assert_eq!(left, Vec::<&str>::new(), "cgroups are left");
}

/// What the kernel holds the memory of a namespace to.
fn held(world: &World, namespace: &str) -> Option<u64> {
    let bases = fs::read_to_string(world.state().join("cgroup-base")).ok()?;
    let files = ["memory.max", "memory.limit_in_bytes"];
    let mut all = bases.lines().flat_map(|base| files.map(|file| format!("{base}/namespace.{namespace}/{file}")));
    all.find_map(|file| fs::read_to_string(file).ok())?.trim().parse().ok()
}

#[test]
fn ceilings_that_are_changed_by_a_signal_reach_the_groups_of_the_namespaces() {
    let world = World::new();
    world.pattern("limited", "sleeper", "resources: { memory_limit: 16Mi }");
    world.desire("a.yaml", "pattern: limited\nnamespaces: [a, b]\n");
    let config = world.root().join("launcher.toml");
    let ceilings = |usual: u64, of_b: u64| {
        let text = format!(
            "[[namespace_limits]]\nmemory = \"{usual}Mi\"\n[[namespace_limits]]\nnamespace = \"b\"\nmemory = \"{of_b}Mi\"\n"
        );
        world.put(&config, &text);
    };
    ceilings(64, 80);
    let daemon = world.launch().flag("--config", config.to_str().unwrap()).start();
    let pids = ["ns:a:limited", "ns:b:limited"].map(|id| daemon.settled(id));
    if !limits_memory(&daemon, "ns:a:limited") {
        return;
    }
    let both = || ["a", "b"].map(|namespace| held(&world, namespace).map(|bytes| bytes >> 20));
    assert_eq!(both(), [Some(64), Some(80)]);
    // Up and down, since in v1 the order of two files depends on it.
    for (usual, of_b) in [(96, 48), (56, 112)] {
        ceilings(usual, of_b);
        daemon.signal("HUP");
        wait_for("the kernel holds them", || (both() == [Some(usual), Some(of_b)]).then_some(()));
    }
    assert_eq!(["ns:a:limited", "ns:b:limited"].map(|id| daemon.settled(id)), pids);
}

#[test]
fn what_cannot_be_enforced_is_told_in_development_and_refused_in_production() {
    let world = World::new();
    world.pattern("limited", "sleeper", "resources: { pids_limit: 100 }");
    world.pattern("defaulted", "sleeper", "");
    world.desire("a.yaml", "pattern: limited\nnamespace: a\n---\npattern: defaulted\nnamespace: a\n");
    let launch = world.launch().flag("--cgroup", "off");
    let daemon = launch.start();
    daemon.all_settled(2);
    let told = limits(&daemon, "ns:a:limited", |_| true);
    assert!(told.in_force.pids_limit.is_none() && told.not_enforced.len() == 1, "{told:?}");
    assert!(daemon.status().unwrap().has_condition("LimitsNotEnforced", "pids_limit 100"));
    assert!(daemon.stop().success());

    let daemon = launch.flag("--profile", "production").start();
    daemon.settled("ns:a:defaulted");
    assert_eq!(limits(&daemon, "ns:a:defaulted", |_| true).not_enforced.len(), 3);
    let error = daemon.wait("it is refused", |status| status.key("ns:a:limited")?.last_error.clone());
    for part in ["INVALID_CONFIGURATION", "pids_limit", "a.yaml", "Suggestion: "] {
        assert!(error.contains(part), "{part}: {error}");
    }
    assert!(world.processes("limited").is_empty());
}
