//! `check` and `plan`: what is wrong, and what would be done.

use crate::world::World;
use std::process::Output;

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn check_accepts_what_is_good() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire_many("all.yaml", "sleeper", 3, "");
    let output = world.launch().output(&["check"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!world.state().exists(), "check leaves nothing behind");
}

#[test]
fn check_names_file_and_line_of_everything_that_is_wrong() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.pattern("wrong", "sleeper", "isolation: namespace");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n---\npattern: sleeper\nnamespce: b\n");
    world.desire("b.yaml", "pattern: nobody\nnamespace: b\n");
    world.desire("c.yaml", "pattern: sleeper\nnamespace: c\n");
    world.desire("d.yaml", "\npattern: sleeper\nnamespace: c\n");
    let output = world.launch().output(&["check"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    for expected in ["a.yaml:5", "namespce", "b.yaml:1", "PATTERN_NOT_FOUND", "d.yaml:2", "DUPLICATE_INSTANCE"] {
        assert!(said.contains(expected), "no {expected} in:\n{said}");
    }
    assert!(said.contains("wrong/manifest.yaml:4") && said.contains("INVALID_MANIFEST"), "{said}");
}

#[test]
fn plan_tells_what_would_be_done_beside_a_launcher_and_without_one() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    let launch = world.launch();
    let before = launch.output(&["plan"]);
    assert_eq!(before.status.code(), Some(2), "{}", said(&before));
    assert!(said(&before).contains("ns:a:sleeper") && said(&before).contains("launch"), "{}", said(&before));

    let daemon = launch.start();
    let pid = daemon.settled("ns:a:sleeper");
    let beside = launch.output(&["plan"]);
    assert_eq!(beside.status.code(), Some(0), "{}", said(&beside));

    daemon.kill();
    world.desire("b.yaml", "pattern: sleeper\nnamespace: b\n");
    let after = launch.output(&["plan"]);
    assert_eq!(after.status.code(), Some(2), "{}", said(&after));
    assert!(said(&after).contains("ns:b:sleeper"), "{}", said(&after));
    assert!(crate::world::alive(pid), "a plan is only a plan");
    assert_eq!(world.processes("sleeper").len(), 1);
}
