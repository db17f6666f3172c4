//! What the processes of a tenant may come to together.

use crate::world::api::{Client, refused, tenant};
use crate::world::{World, holds_for, wait_for};
use pattern_launcher::api::proto::LaunchRequest;
use pattern_launcher::model::Condition;
use std::fs;
use std::time::Duration;
use tonic::Code;

#[test]
fn over_a_ceiling_a_launch_is_refused_and_a_file_waits() {
    let world = World::new();
    for pattern in ["one", "two", "three"] {
        world.pattern(pattern, "sleeper", "");
    }
    world.desire("one.yaml", "pattern: one\nnamespace: a\n");
    let daemon = world
        .launch()
        .flag("--namespace-limits", "instances=2,memory=1Gi")
        .another("--namespace-limits", "namespace=b,instances=1")
        .start();
    daemon.settled("ns:a:one");
    let client = Client::of(&world);
    client.launch(tenant("two", "a")).unwrap();
    let full = client.launch(tenant("three", "a")).unwrap_err();
    let suggestion = refused(&full, Code::ResourceExhausted, "RESOURCE_LIMIT_EXCEEDED");
    assert!(suggestion.contains("prismctl pattern terminate ns:a:one"), "{suggestion}");
    assert!(full.message().contains("namespace 'a' may have 2 processes, has 2 processes"), "{}", full.message());
    client.launch(tenant("one", "b")).unwrap();
    let named = client.launch(LaunchRequest { no_wait: true, ..tenant("two", "b") }).unwrap_err();
    refused(&named, Code::ResourceExhausted, "RESOURCE_LIMIT_EXCEEDED");
    assert_eq!(
        fs::read_dir(world.root().join("launched")).unwrap().count(),
        2,
        "nothing is written of what is refused"
    );

    world.desire("three.yaml", "pattern: three\nnamespace: a\n");
    let waits = wait_for("it waits for quota", || {
        let info = client.status("ns:a:three")?;
        info.last_error.starts_with("[RESOURCE_LIMIT_EXCEEDED] ").then_some(info)
    });
    assert!(waits.conditions.iter().any(|condition| condition.kind == "WaitingForQuota"), "{waits:?}");
    holds_for(Duration::from_millis(300), "it is not started", || world.processes("three").is_empty());
    client.terminate("ns:a:two").unwrap();
    daemon.settled("ns:a:three");
}

#[test]
fn the_launcher_starts_no_more_than_max_processes() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let _daemon = world.launch().flag("--max-processes", "1").start();
    let client = Client::of(&world);
    client.launch(tenant("sleeper", "a")).unwrap();
    let full = client.launch(tenant("sleeper", "b")).unwrap_err();
    let suggestion = refused(&full, Code::ResourceExhausted, "RESOURCE_LIMIT_EXCEEDED");
    assert!(suggestion.contains("raise max_processes"), "{suggestion}");
    assert!(!client.launch(tenant("sleeper", "a")).unwrap().created, "what runs is answered as before");
}

#[test]
fn what_runs_and_is_launched_anew_is_not_in_its_own_way() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let daemon = world.launch().flag("--namespace-limits", "instances=1").start();
    let client = Client::of(&world);
    client.launch(tenant("sleeper", "a")).unwrap();
    for name in world.launched_files() {
        fs::remove_file(world.launched().join(name)).unwrap();
    }
    daemon.wait("its file is noticed missing", |status| {
        let missing = |condition: &Condition| condition.kind == Condition::FILE_MISSING;
        status.key("ns:a:sleeper")?.conditions.iter().any(missing).then_some(())
    });
    client.launch(tenant("sleeper", "a")).unwrap();
    daemon.settled("ns:a:sleeper");
    assert_eq!(world.launched_files().len(), 1, "it is written again");
}
