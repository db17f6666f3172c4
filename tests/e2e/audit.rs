//! What somebody asked for is on record before the answer, and what happens can be followed by programs.

use crate::world::command::program;
use crate::world::{Prismctl, World, wait_for};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

/// Stands in everything that must not be on record.
const SECRET: &str = "s3cr3t";

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"))).collect()
}

#[test]
fn whatever_was_asked_for_is_on_record_when_it_is_answered() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("file.yaml", "pattern: sleeper\nnamespace: file\n");
    let daemon = world.start();
    daemon.settled("ns:file:sleeper");
    let prismctl = Prismctl::of(&world);
    let asked = [
        (format!("pattern launch sleeper --namespace a --config API_TOKEN={SECRET}-1"), "launched", "ns:a:sleeper"),
        (format!("pattern update ns:a:sleeper --config API_TOKEN={SECRET}-2"), "updated", "ns:a:sleeper"),
        ("pattern restart ns:a:sleeper".to_owned(), "restart asked for", "ns:a:sleeper"),
        ("pattern suspend ns:file:sleeper --reason maintenance".to_owned(), "suspended", "ns:file:sleeper"),
        ("pattern resume ns:file:sleeper".to_owned(), "resumed", "ns:file:sleeper"),
        ("pattern reset ns:file:sleeper".to_owned(), "failures forgotten", "ns:file:sleeper"),
        ("pattern terminate ns:a:sleeper".to_owned(), "launch ended", "ns:a:sleeper"),
    ];
    let path = world.state().join("audit.log");
    for (number, (line, action, id)) in asked.iter().enumerate() {
        prismctl.done(line);
        let text = fs::read_to_string(&path).unwrap();
        let all = lines(&text);
        assert_eq!(all.len(), number + 1, "{text}");
        let last = &all[number];
        assert_eq!((&last["action"], &last["process_id"]), (&(*action).into(), &(*id).into()), "{text}");
        assert!(last["by"].as_str().unwrap().starts_with("uid ") && last["uid"].is_u64(), "{text}");
        assert!(last["time"].as_str().unwrap().ends_with('Z'), "{text}");
        assert!(!text.contains(SECRET), "{text}");
    }
    // What was refused changed nothing.
    prismctl.refused("pattern terminate ns:file:sleeper", 1);
    // What is answered is on record, however soon the launcher dies.
    prismctl.done("pattern suspend ns:file:sleeper --reason again --no-wait");
    daemon.kill();
    let text = fs::read_to_string(&path).unwrap();
    let suspended = lines(&text);
    assert_eq!((suspended.len(), &suspended[7]["action"]), (8, &"suspended".into()), "{text}");
    assert!(suspended[7]["what"].as_str().unwrap().contains("again"), "{text}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let daemon = world.start();
    prismctl.done("pattern resume ns:file:sleeper");
    assert_eq!(lines(&fs::read_to_string(&path).unwrap()).len(), 9, "the next launcher goes on behind it");
    drop(daemon);
}

#[test]
fn events_are_a_stream_of_json_lines() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let daemon = world.start();
    let out = world.root().join("events.out");
    let mut watching = program(env!("CARGO_BIN_EXE_prismctl"))
        .args(["events", "-o", "json", "--namespace", "a"])
        .env("PRISMCTL_ADDRESS", format!("unix:{}", world.state().join("api.sock").display()))
        .stdin(Stdio::null())
        .stdout(File::create(&out).unwrap())
        .spawn()
        .unwrap();
    let read = || fs::read_to_string(&out).unwrap();
    let mut tenants = 0..;
    let prismctl = Prismctl::of(&world);
    // It tells what happens from the moment on that it is heard.
    wait_for("it listens", || {
        let id = tenants.next()?;
        prismctl.done(&format!("pattern launch sleeper --isolation session --namespace a --session s{id}"));
        (!read().is_empty()).then_some(())
    });
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    world.desire("b.yaml", "pattern: sleeper\nnamespace: b\n");
    let pid = daemon.settled("ns:a:sleeper");
    daemon.settled("ns:b:sleeper");
    let text = wait_for("its start is told", || {
        let text = read();
        let whole = &text[..=text.rfind('\n')?];
        whole.contains("ns:a:sleeper").then(|| whole.to_owned())
    });
    watching.kill().unwrap();
    watching.wait().unwrap();
    let all = lines(&text);
    let started = all.iter().map(|line| &line["event"]).find(|event| event["process_id"] == "ns:a:sleeper");
    let started = started.unwrap_or_else(|| panic!("{text}"));
    assert_eq!((&started["message"], &started["level"]), (&"process started".into(), &"info".into()), "{text}");
    assert!(started["time"].as_str().unwrap().ends_with('Z') && started["run_id"].as_str().unwrap().len() == 36);
    assert!(!text.contains("ns:b:"), "only what was asked for is told: {text}");
    assert!(crate::world::alive(pid));
}
