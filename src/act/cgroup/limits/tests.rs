//! On folders that look like cgroups. What the kernel makes of them is tested in `tests/host`.

use super::*;
use crate::act::cgroup::Hierarchy;
use crate::model::{OomKill, OomPolicy};
use tempfile::TempDir;

const V2_FILES: [(&str, &str); 8] = [
    ("cpu.max", "max 100000\n"),
    ("cpu.weight", "100\n"),
    ("memory.max", "max\n"),
    ("memory.low", "0\n"),
    ("memory.swap.max", "max\n"),
    ("memory.oom.group", "0\n"),
    ("memory.peak", "123\n"),
    ("pids.max", "max\n"),
];
const V1_MEMORY: [(&str, &str); 4] = [
    ("memory.limit_in_bytes", "9223372036854771712\n"),
    ("memory.memsw.limit_in_bytes", "9223372036854771712\n"),
    ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"),
    ("memory.max_usage_in_bytes", "4096\n"),
];
const V1_CPU: [(&str, &str); 3] =
    [("cpu.shares", "1024\n"), ("cpu.cfs_quota_us", "-1\n"), ("cpu.cfs_period_us", "100000\n")];

fn folder(of: &TempDir, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let folder = of.path().join(name);
    std::fs::create_dir(&folder).expect("a folder");
    for (file, text) in files {
        std::fs::write(folder.join(file), text).expect("a file");
    }
    folder
}

fn v2(of: &TempDir) -> RunCgroup {
    RunCgroup::found(folder(of, "run", &V2_FILES), Hierarchy::V2, Vec::new())
}

fn v1(of: &TempDir) -> RunCgroup {
    let limits = vec![
        folder(of, "memory", &V1_MEMORY),
        folder(of, "cpu", &V1_CPU),
        folder(of, "pids", &[("pids.max", "max\n")]),
    ];
    RunCgroup::found(folder(of, "run", &[]), Hierarchy::V2, limits)
}

fn text(cgroup: &RunCgroup, file: &str) -> String {
    let folders = std::iter::once(&cgroup.path).chain(&cgroup.limits);
    folders.filter_map(|folder| std::fs::read_to_string(folder.join(file)).ok()).collect()
}

fn all() -> Resources {
    Resources {
        cpu_limit_millis: Some(1_500),
        cpu_request_millis: Some(500),
        memory_limit: Some(256 << 20),
        memory_request: Some(128 << 20),
        pids_limit: Some(64),
        oom_policy: None,
    }
}

#[test]
fn limits_go_into_the_files_of_v2_and_are_taken_out_again() {
    let place = TempDir::new().expect("a folder");
    let cgroup = v2(&place);
    let goes_on = Resources { oom_policy: Some(OomPolicy::Continue), ..Resources::default() };
    assert_eq!(cgroup.held(&Resources::default()), goes_on, "as the kernel makes it");
    assert_eq!(cgroup.limit(&all()), Failures::new());
    for (file, expected) in [
        ("cpu.max", "150000 100000"),
        ("cpu.weight", "50"),
        ("memory.max", "268435456"),
        ("memory.swap.max", "0"),
        ("memory.low", "134217728"),
        ("memory.oom.group", "1"),
        ("pids.max", "64"),
    ] {
        assert_eq!(text(&cgroup, file), expected, "{file}");
    }
    assert_eq!(cgroup.held(&all()), all());
    let part = Resources { oom_policy: Some(OomPolicy::Continue), ..all() };
    assert_eq!((cgroup.limit(&part), cgroup.held(&part)), (Failures::new(), part));
    assert_eq!(text(&cgroup, OOM_GROUP), "0");
    assert_eq!(cgroup.limit(&Resources::default()), Failures::new());
    assert_eq!(
        [text(&cgroup, "memory.max"), text(&cgroup, "memory.swap.max"), text(&cgroup, "cpu.weight")],
        ["max", "max", "100"]
    );
    assert_eq!(cgroup.held(&Resources::default()), Resources::default());
}

#[test]
fn limits_go_into_the_files_of_v1_and_are_taken_out_again() {
    let place = TempDir::new().expect("a folder");
    let cgroup = v1(&place);
    let failures = cgroup.limit(&all());
    assert_eq!(failures.into_keys().collect::<Vec<_>>(), [Limit::MemoryRequest], "v1 protects nothing");
    for (file, expected) in [
        ("cpu.cfs_quota_us", "150000"),
        ("cpu.cfs_period_us", "100000"),
        ("cpu.shares", "512"),
        ("memory.limit_in_bytes", "268435456"),
        ("memory.memsw.limit_in_bytes", "268435456"),
        ("pids.max", "64"),
    ] {
        assert_eq!(text(&cgroup, file), expected, "{file}");
    }
    assert_eq!(cgroup.held(&all()), Resources { memory_request: None, ..all() });
    // Who kills the rest is the launcher.
    let part = Resources { oom_policy: Some(OomPolicy::Continue), ..all() };
    assert_eq!(cgroup.held(&part), Resources { memory_request: None, ..part });
    assert_eq!(cgroup.limit(&Resources::default()), Failures::new());
    assert_eq!(text(&cgroup, "memory.limit_in_bytes"), "-1");
    assert_eq!(cgroup.held(&Resources::default()), Resources::default());
}

#[test]
fn what_has_no_files_is_told_to_be_not_enforced_and_nothing_is_made_up() {
    let place = TempDir::new().expect("a folder");
    let cgroup = RunCgroup::found(folder(&place, "run", &[]), Hierarchy::V2, Vec::new());
    let limits = enforce(&cgroup, None, &all());
    assert_eq!(limits.in_force, Resources::default());
    assert_eq!(limits.not_enforced.len(), 5);
    assert_eq!(std::fs::read_dir(&cgroup.path).expect("a folder").count(), 0, "no file is made");
    assert_eq!(needed(&all()).len(), 3);
    assert_eq!(needed(&Resources { memory_request: Some(1), ..Resources::default() }).len(), 1);
}

#[test]
fn a_share_that_is_the_usual_one_is_in_force() {
    let place = TempDir::new().expect("a folder");
    let cgroup = v2(&place);
    let wanted = Resources { cpu_request_millis: Some(1_000), ..Resources::default() };
    assert!(enforce(&cgroup, None, &wanted).not_enforced.is_empty());
    assert_eq!(cgroup.held(&Resources::default()), Resources::default());
}

#[test]
fn the_smallest_limits_are_such_that_the_kernel_takes_them() {
    assert_eq!(v2_quota(Some(1)), "1000 1000000");
    assert_eq!(v2_quota(Some(10)), "1000 100000");
    assert_eq!(millis(1_000, 1_000_000), Some(1));
    assert_eq!((weight(Some(1)), weight(Some(1_000)), weight(Some(u64::MAX))), (1, 100, 10_000));
    assert_eq!((shares(Some(1)), shares(Some(u64::MAX))), (2, 262_144));
}

#[test]
fn an_oom_kill_is_told_with_its_limit_and_its_peak_only_where_it_was_the_runs_own() {
    let place = TempDir::new().expect("a folder");
    let cgroup = v2(&place);
    assert_eq!(cgroup.oom(), None);
    let events = |text: &str| std::fs::write(cgroup.path.join("memory.events"), text).expect("written");
    events("low 0\nhigh 0\nmax 3\noom 0\noom_kill 0\noom_group_kill 0\n");
    assert_eq!(cgroup.oom(), None, "at its limit and nobody killed");
    std::fs::write(cgroup.path.join("memory.max"), "4096\n").expect("written");
    events("low 0\nhigh 0\nmax 3\noom 1\noom_kill 2\noom_group_kill 1\n");
    assert_eq!(cgroup.oom(), Some(OomKill { kills: 2, limit: Some(4096), peak: Some(123) }));
    events("low 0\nhigh 0\nmax 0\noom 0\noom_kill 1\noom_group_kill 0\n");
    assert_eq!(cgroup.oom(), Some(OomKill { kills: 1, limit: None, peak: Some(123) }), "the machine's");

    let place = TempDir::new().expect("a folder");
    let cgroup = v1(&place);
    assert_eq!(cgroup.oom(), None);
    let memory = |file: &str, text: &str| std::fs::write(cgroup.limits[0].join(file), text).expect("written");
    memory("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n");
    assert_eq!(cgroup.oom(), Some(OomKill { kills: 1, limit: None, peak: Some(4096) }));
    memory("memory.limit_in_bytes", "4096\n");
    assert_eq!(cgroup.oom(), Some(OomKill { kills: 1, limit: Some(4096), peak: Some(4096) }));
}
