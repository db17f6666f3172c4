//! What happened is known to the next launcher: why a process started, why it ended, and who asked.

use crate::world::{Prismctl, World, signal, wait_for};
use serde_json::Value;

const ID: &str = "ns:a:sleeper";

/// The events that `explain` shows, as message, reason and who asked.
fn events(prismctl: &Prismctl) -> Vec<(String, String, String)> {
    let explained = prismctl.json(&format!("pattern explain {ID}"));
    let text = |event: &Value, name: &str| event[name].as_str().unwrap_or_default().to_owned();
    let events = explained["events"].as_array().unwrap_or_else(|| panic!("{explained}"));
    events.iter().map(|event| (text(event, "message"), text(event, "reason"), text(event, "by"))).collect()
}

#[test]
fn what_happened_before_a_crash_of_the_launcher_is_told_after_it() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let daemon = world.start();
    let prismctl = Prismctl::of(&world);
    prismctl.done("pattern launch sleeper --namespace a");
    let first = daemon.settled(ID);
    prismctl.done(&format!("pattern restart {ID}"));
    let second = daemon.wait("another process", |status| status.settled(ID).filter(|pid| *pid != first));
    signal(second, "KILL");
    let third = daemon.wait("a third process", |status| status.settled(ID).filter(|pid| *pid != second));
    let before = events(&prismctl);
    // What is told is handed over to the kernel by a thread of its own, and only then survives.
    let log = world.state().join("events.log");
    let told = before.len();
    wait_for("all is written", || (std::fs::read_to_string(&log).ok()?.lines().count() >= told).then_some(()));
    daemon.kill();

    let daemon = world.start();
    assert_eq!(daemon.settled(ID), third);
    let after = events(&prismctl);
    assert_eq!(after[..told], before);
    let messages: Vec<&str> = after.iter().map(|(message, ..)| message.as_str()).collect();
    let expected = [
        "launched",
        "process started",
        "restart asked for",
        "process asked to end",
        "process ended",
        "process started",
        "process failed",
        "process started",
        "process adopted",
    ];
    assert_eq!(messages, expected);
    assert!([0, 2].iter().all(|asked| after[*asked].2.starts_with("uid ")), "{after:?}");
    assert!(after[6].1.contains("signal 9"), "{after:?}");
    assert!(daemon.stop().success());
}
