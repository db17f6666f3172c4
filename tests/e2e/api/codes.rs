//! The codes of the contract as clients meet them: each with its gRPC code, its reason and a suggestion for its case.
//!
//! Not here: INVALID_CONFIGURATION, which a daemon that is asked anything does not have; TERMINATION_FAILED and
//! INTERNAL_ERROR, which take a kernel or a launcher that fails; PERMISSION_DENIED, which is about a file of no key.

use crate::world::api::{Client, refused, tenant};
use crate::world::{World, wait_for};
use pattern_launcher::api::proto::{AbandonRequest, LaunchRequest, PatternInfo, UpdateRequest, WatchEventsRequest};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use tonic::Code;

/// Waits until the last error of a process has this code; gives the whole of it.
fn last_error(client: &Client, id: &str, code: &str) -> PatternInfo {
    let info = wait_for(code, || client.status(id).filter(|info| info.last_error.starts_with(&format!("[{code}] "))));
    assert!(info.last_error.contains("; Suggestion: "), "{}", info.last_error);
    info
}

#[test]
fn what_cannot_be_launched_says_why_and_what_to_do() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "minimum_isolation: namespace");
    world.pattern("wrong", "sleeper", "memory-limit: 1Gi");
    let _daemon = world.start();
    let client = Client::of(&world);
    let level = |isolation: i32| LaunchRequest { isolation, ..tenant("sleeper", "a") };
    let config = |name: &str| LaunchRequest { config: [(name.to_owned(), "x".to_owned())].into(), ..level(0) };
    for (request, code, reason, hint) in [
        (tenant("sleper", "a"), Code::NotFound, "PATTERN_NOT_FOUND", "sleeper".to_owned()),
        (tenant("wrong", "a"), Code::FailedPrecondition, "INVALID_MANIFEST", String::new()),
        (level(1), Code::InvalidArgument, "INVALID_ISOLATION_LEVEL", "namespace".to_owned()),
        (level(9), Code::InvalidArgument, "INVALID_ISOLATION_LEVEL", "ISOLATION_SESSION".to_owned()),
        (tenant("sleeper", ""), Code::InvalidArgument, "MISSING_NAMESPACE", "--namespace".to_owned()),
        (level(3), Code::InvalidArgument, "MISSING_SESSION_ID", "--session".to_owned()),
        (config("LD_PRELOAD"), Code::InvalidArgument, "INVALID_INSTANCE", "environment".to_owned()),
        (config("RUN_ID"), Code::InvalidArgument, "INVALID_INSTANCE", "remove 'RUN_ID'".to_owned()),
    ] {
        let status = client.launch(request.clone()).unwrap_err();
        let suggestion = refused(&status, code, reason);
        assert!(suggestion.contains(&hint), "{request:?}: {suggestion}");
    }
    assert_eq!(fs::read_dir(world.root().join("launched")).unwrap().count(), 0, "nothing is written");
}

#[test]
fn what_a_person_declares_is_changed_where_it_is_declared() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    world.desire("a.yaml", "pattern: sleeper\nnamespace: a\n");
    world.desire("b.yaml", "pattern: sleeper\nnamespace: b\nstate: stopped\n");
    world.desire("c.yaml", "pattern: sleeper\nnamespace: a\n");
    let daemon = world.start();
    let pid = daemon.settled("ns:a:sleeper");
    let client = Client::of(&world);
    let joined = client.launch(tenant("sleeper", "a")).unwrap();
    assert!(!joined.created);
    let file = world.desired().join("a.yaml").display().to_string();
    let status = client.terminate("ns:a:sleeper").unwrap_err();
    refused(&status, Code::FailedPrecondition, "DECLARED_BY_FILE");
    assert!(status.message().contains(&format!("{file}:1")), "{status:?}");
    let stopped = client.launch(tenant("sleeper", "b")).unwrap_err();
    let suggestion = refused(&stopped, Code::FailedPrecondition, "PROCESS_START_FAILED");
    assert!(suggestion.contains("state: running") && suggestion.contains("b.yaml"), "{suggestion}");
    let info = client.status("ns:a:sleeper").unwrap();
    assert_eq!((info.pid, info.api_managed), (pid, false));
    let duplicate = wait_for("the second file is reported", || {
        client.status("ns:a:sleeper")?.conditions.into_iter().find(|condition| condition.kind == "DuplicateInstance")
    });
    assert!(duplicate.message.contains("c.yaml"), "{}", duplicate.message);

    let mut stub = client.stub();
    let abandon = AbandonRequest { process_id: "ns:a:sleeper".to_owned() };
    let verified = client.run(stub.abandon_pattern(abandon)).unwrap_err();
    refused(&verified, Code::FailedPrecondition, "ALREADY_RUNNING");
}

#[test]
fn a_process_that_fails_says_how() {
    let world = World::new();
    world.pattern("missing", "sleeper", "");
    fs::remove_file(world.program("missing")).unwrap();
    world.pattern("plain", "sleeper", "");
    fs::set_permissions(world.program("plain"), fs::Permissions::from_mode(0o644)).unwrap();
    let sick = "args: [\"--after-ms\", \"300\", \"--then\", \"unhealthy\"]\n\
                healthcheck: { interval: 100ms, failure_threshold: 1 }";
    world.pattern("sick", "flaky", sick);
    let crashing = "args: [\"--after-ms\", \"300\", \"--then\", \"crash\"]\nhealthcheck: { interval: 100ms }";
    world.pattern("crashing", "flaky", crashing);
    let _daemon = world.launch().flag("--backoff-period", "200ms").start();
    let client = Client::of(&world);
    client.launch(LaunchRequest { no_wait: true, ..tenant("missing", "a") }).unwrap();
    let info = last_error(&client, "ns:a:missing", "EXECUTABLE_NOT_FOUND");
    assert!(info.last_error.contains(world.patterns().join("missing").to_str().unwrap()), "{}", info.last_error);
    let open = client.launch(tenant("missing", "a")).unwrap_err();
    refused(&open, Code::FailedPrecondition, "MAX_ERRORS_EXCEEDED");
    assert!(open.message().contains("Cause: [EXECUTABLE_NOT_FOUND]"), "{open:?}");
    let at_once = client.launch(tenant("missing", "a")).unwrap_err();
    refused(&at_once, Code::FailedPrecondition, "MAX_ERRORS_EXCEEDED");
    client.launch(LaunchRequest { no_wait: true, ..tenant("plain", "a") }).unwrap();
    let info = last_error(&client, "ns:a:plain", "EXECUTABLE_NOT_RUNNABLE");
    assert!(info.last_error.contains("Suggestion: chmod +x "), "{}", info.last_error);
    for (pattern, code) in [("sick", "HEALTH_CHECK_FAILED"), ("crashing", "PROCESS_CRASHED")] {
        client.launch(tenant(pattern, "a")).unwrap();
        last_error(&client, &format!("ns:a:{pattern}"), code);
    }
}

#[test]
fn what_is_used_up_is_named() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let range = world.ports().range();
    let first: u16 = range.split('-').next().unwrap().parse().unwrap();
    let _daemon = world.launch().flag("--port-range", format!("{first}-{}", first + 1)).start();
    let client = Client::of(&world);
    client.launch(tenant("sleeper", "a")).unwrap();
    client.launch(LaunchRequest { no_wait: true, ..tenant("sleeper", "b") }).unwrap();
    last_error(&client, "ns:b:sleeper", "PORT_ALLOCATION_FAILED");

    let mut stub = client.stub();
    let mut watching = Vec::new();
    let crowded = loop {
        match client.run(stub.watch_events(WatchEventsRequest::default())) {
            Ok(stream) => watching.push(stream),
            Err(status) => break status,
        }
    };
    refused(&crowded, Code::ResourceExhausted, "RESOURCE_LIMIT_EXCEEDED");
    assert_eq!(watching.len(), 64);
    drop(watching);
    wait_for("there is room again", || client.run(stub.watch_events(WatchEventsRequest::default())).ok());
}

#[test]
fn a_launch_that_cannot_be_written_down_is_refused_with_the_setting() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let _daemon = world.start();
    let client = Client::of(&world);
    let launched = world.root().join("launched");
    fs::rename(&launched, world.root().join("elsewhere")).unwrap();
    let status = client.launch(tenant("sleeper", "a")).unwrap_err();
    let suggestion = refused(&status, Code::Unavailable, "STORE_UNAVAILABLE");
    assert!(suggestion.contains("launch_dir") || suggestion.contains("--launch-dir"), "{suggestion}");
    assert!(world.processes("sleeper").is_empty());
}

#[test]
fn an_update_of_what_has_moved_is_aborted() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let _daemon = world.start();
    let client = Client::of(&world);
    client.launch(tenant("sleeper", "a")).unwrap();
    let mut stub = client.stub();
    let mut update = |value: &str, expected_generation: i64| {
        let request = UpdateRequest {
            process_id: "ns:a:sleeper".to_owned(),
            config: [("A".to_owned(), value.to_owned())].into(),
            expected_generation,
            ..Default::default()
        };
        client.run(stub.update_pattern(request))
    };
    let info = update("1", 1).unwrap().into_inner().process.unwrap();
    assert_eq!((info.generation, info.healthy), (2, true));
    let moved = update("2", 1).unwrap_err();
    let suggestion = refused(&moved, Code::Aborted, "INVALID_INSTANCE");
    assert!(suggestion.contains("generation 2"), "{suggestion}");
    let bad = update("nul\0", 2).unwrap_err();
    refused(&bad, Code::InvalidArgument, "INVALID_INSTANCE");
    assert_eq!(client.status("ns:a:sleeper").unwrap().generation, 2);
}
