//! The launcher's own log: its level can be changed while it runs, and its lines say what they are about.

use crate::world::{World, wait_for};
use serde_json::Value;
use std::fs;

#[test]
fn the_level_changes_with_the_configuration_while_it_runs() {
    let world = World::new();
    world.pattern("hello", "hello", "healthcheck: { path: /health, interval: 50ms }");
    world.desire("a.yaml", "pattern: hello\nnamespace: a\n");
    let file = world.root().join("launcher.toml");
    let level = |level: &str| fs::write(&file, format!("log_level = \"{level}\"\n")).unwrap();
    level("error");
    let launch = world.launch().flag("--config", file.to_str().unwrap()).flag("--log-format", "json");
    let mut daemon = launch.start();
    daemon.settled("ns:a:hello");
    assert!(!daemon.log().contains("process started"), "{}", daemon.log());

    level("debug");
    daemon.signal("HUP");
    let log = wait_for("probes are logged", || Some(daemon.log()).filter(|log| log.contains("\"message\":\"probed\"")));
    assert!(log.contains("configuration read again"), "{log}");
    let probed = log.lines().find(|line| line.contains("\"message\":\"probed\"")).unwrap();
    let probed: Value = serde_json::from_str(probed).unwrap();
    assert_eq!((&probed["span"]["name"], &probed["span"]["key"]), (&"probe".into(), &"ns:a:hello".into()), "{probed}");
    assert_eq!(probed["span"]["run"].as_str().map(str::len), Some(36), "{probed}");
    assert!(!log.contains("takes effect when the launcher is restarted"), "{log}");

    level("error");
    daemon.signal("HUP");
    wait_for("it is quiet again", || {
        let before = daemon.log().lines().count();
        crate::world::wait::pause(std::time::Duration::from_millis(300));
        (daemon.log().lines().count() == before).then_some(())
    });

    // A level that is none changes nothing, also one that could be the name of a module.
    for (refused, wrong) in (1..).zip(["info,hyper=loud", "loud"]) {
        level(wrong);
        daemon.signal("HUP");
        let times = || daemon.log().matches("the configuration cannot be used").count();
        wait_for("it is refused", || (times() == refused).then_some(()));
    }
    assert!(daemon.log().contains("'loud' is not a level"), "{}", daemon.log());
    let started = launch.output(&["run"]);
    let said = String::from_utf8_lossy(&started.stderr);
    assert!(
        !started.status.success() && said.contains("'loud' is not a level") && said.contains("log_level"),
        "{said}"
    );
    daemon.signal("TERM");
    assert!(daemon.ended().success());
}
