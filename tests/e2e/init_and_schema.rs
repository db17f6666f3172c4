//! `init` and `schema`; and SIGHUP.

use crate::world::World;

#[test]
fn what_init_makes_works_at_once() {
    let world = World::new();
    let launch = world.launch();
    let made = launch.output(&["init", "greeter"]);
    assert!(made.status.success(), "{made:?}");
    assert!(world.patterns().join("greeter/manifest.yaml").exists());
    assert!(world.patterns().join("greeter/README.md").exists());
    assert!(!launch.output(&["init", "greeter"]).status.success(), "nothing is overwritten");
    assert!(!launch.output(&["init", "../outside"]).status.success());

    world.desire("a.yaml", "pattern: greeter\nnamespace: a\n");
    let checked = launch.output(&["check"]);
    assert!(checked.status.success(), "{checked:?}");
    let daemon = launch.start();
    let pid = daemon.settled("ns:a:greeter");
    // Its program need not be one of this world's, so it is ended by its launcher.
    assert!(daemon.stop().success());
    assert!(!crate::world::alive(pid));
}

#[test]
fn schemas_are_json_schemas_of_what_people_write() {
    let world = World::new();
    for (kind, property) in [("manifest", "executable"), ("instance", "namespaces"), ("config", "resync_interval")] {
        // It takes no flags of `run`, so none are given.
        let output = schema(&world, kind);
        let schema: serde_json::Value = serde_json::from_slice(&output).unwrap();
        assert!(schema["$schema"].is_string(), "{kind}");
        assert!(schema["properties"][property].is_object(), "{kind} has no {property}");
    }
}

#[expect(clippy::disallowed_methods, reason = "the daemon under test is a process of its own")]
fn schema(world: &World, kind: &str) -> Vec<u8> {
    let program = env!("CARGO_BIN_EXE_pattern-launcher");
    let output = std::process::Command::new(program).args(["schema", kind]).current_dir(world.root()).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

#[test]
fn sighup_reads_the_configuration_again_and_scans_at_once() {
    let world = World::new();
    world.pattern("broken", "flaky", "args: [\"--after-ms\", \"0\"]");
    let config = world.root().join("launcher.toml");
    world.put(&config, "max_errors = 2\nbackoff_period = \"20ms\"\ncircuit_retry = \"off\"\n");
    world.desire("a.yaml", "pattern: broken\nnamespace: a\n");
    let daemon = world.launch().flag("--config", config.to_str().unwrap()).start();
    daemon.wait("the circuit opens at the second failure", |status| {
        let key = status.key("ns:a:broken")?;
        (key.circuit_open && key.error_count == 2).then_some(())
    });
    world.put(&config, "max_errors = 3\nbackoff_period = \"20ms\"\ncircuit_retry = \"off\"\n");
    daemon.signal("HUP");
    world.desire("b.yaml", "pattern: broken\nnamespace: b\n");
    daemon.wait("the other opens at the third", |status| {
        let key = status.key("ns:b:broken")?;
        (key.circuit_open && key.error_count == 3).then_some(())
    });

    world.put(&config, "max_errors = \"many\"\n");
    daemon.signal("HUP");
    crate::world::wait_for("the wrong configuration is refused, and said so", || {
        daemon.log().contains("INVALID_CONFIGURATION").then_some(())
    });
    assert!(daemon.status().unwrap().ready);
}
