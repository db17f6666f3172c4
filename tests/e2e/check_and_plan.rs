//! `check` and `plan`: what is wrong, and what would be done.

use crate::world::{Prismctl, World, wait_for};
use serde_json::{Value, json};
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

    let output = world.launch().output(&["check", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let findings = report["findings"].as_array().unwrap();
    for (path, line, code) in [
        (world.desired().join("a.yaml"), 5, "INVALID_INSTANCE"),
        (world.desired().join("b.yaml"), 1, "PATTERN_NOT_FOUND"),
        (world.desired().join("d.yaml"), 2, "DUPLICATE_INSTANCE"),
        (world.patterns().join("wrong/manifest.yaml"), 4, "INVALID_MANIFEST"),
    ] {
        let path = path.display().to_string();
        let found = findings.iter().find(|finding| finding["file"] == path.as_str() && finding["line"] == line);
        let found = found.unwrap_or_else(|| panic!("nothing about {path}:{line} in {report}"));
        assert_eq!(found["code"], code, "{report}");
        assert!(found["message"].is_string() && found["suggestion"].is_string(), "{found}");
    }
    assert_eq!(findings.len(), 4, "{report}");
}

#[test]
fn plan_names_what_differs_where_a_process_would_be_replaced() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "environment: { LEVEL: info }");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\nconfig: { A: 1, API_TOKEN: s3cr3t-1 }\n");
    let launch = world.launch();
    let daemon = launch.start();
    let pid = daemon.settled("ns:a:sleeper");
    daemon.kill();
    world.manifest("sleeper", "environment: { LEVEL: debug }");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\nconfig: { A: 2, API_TOKEN: s3cr3t-2 }\n");
    let output = launch.output(&["plan"]);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    for line in [
        "replace    ns:a:sleeper",
        "environment.LEVEL: info -> debug",
        "config.A: 1 -> 2",
        "config.API_TOKEN: *** -> ***",
    ] {
        assert!(said.contains(line), "no {line:?} in {said}");
    }
    let output = launch.output(&["plan", "--output", "json"]);
    assert_eq!(output.status.code(), Some(2));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["changes"], &report["actions"][0]["action"]), (&1.into(), &"replace".into()), "{report}");
    let differences = &report["actions"][0]["differences"];
    assert_eq!(differences[1], json!({ "field": "config.A", "before": "1", "after": "2" }), "{report}");
    assert!(!said.contains("s3cr3t") && !report.to_string().contains("s3cr3t"));
    assert!(crate::world::alive(pid), "a plan is only a plan");

    // A launcher that runs says the same while a replacement waits for its turn.
    world.manifest("sleeper", "environment: { LEVEL: info }");
    let daemon = launch.start();
    daemon.settled("ns:a:sleeper");
    world.desire("b.yaml", "pattern: sleeper\nnamespace: b\n");
    daemon.settled("ns:b:sleeper");
    let never = "healthcheck: { type: exec, command: ['false'], startup_timeout: 10m }";
    world.manifest("sleeper", &format!("environment: {{ LEVEL: warn }}\n{never}"));
    let planned = wait_for("one waits for the other", || {
        let said = Prismctl::of(&world).run("plan -o json").out;
        said.contains("waiting until").then(|| serde_json::from_str::<Value>(&said).unwrap())
    });
    let waits = planned["actions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|action| action["reason"].as_str().unwrap().contains("waiting until"));
    let differs = json!({ "field": "environment.LEVEL", "before": "info", "after": "warn" });
    assert_eq!(waits.unwrap()["differences"][0], differs, "{planned}");
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
