//! The life of a launched process: get or create, list, ask, terminate; with many callers, and with impatient ones.

use crate::world::api::{Client, refused, tenant};
use crate::world::{World, alive, wait_for};
use pattern_launcher::api::proto::{
    IsolationLevel, LaunchRequest, ListPatternsRequest, ProcessState, TerminateRequest,
};
use std::collections::BTreeSet;
use std::time::Duration;
use tonic::Code;

fn at_level(level: IsolationLevel, namespace: &str, session: &str) -> LaunchRequest {
    LaunchRequest { isolation: level.into(), session_id: session.to_owned(), ..tenant("hello", namespace) }
}

#[test]
fn a_process_is_shared_and_kept_apart_as_its_level_says() {
    let world = World::new();
    world.pattern("hello", "hello", "healthcheck: { interval: 1s }");
    let daemon = world.start();
    let client = Client::of(&world);
    let launch = |request: LaunchRequest| client.launch(request).unwrap();

    let shared = launch(at_level(IsolationLevel::IsolationNone, "ignored", ""));
    assert_eq!(
        (shared.process_id.as_str(), shared.state(), shared.healthy),
        ("shared:hello", ProcessState::StateRunning, true)
    );
    assert!(shared.created && shared.error.is_empty());
    let again = launch(at_level(IsolationLevel::IsolationNone, "", ""));
    assert_eq!((again.process_id.as_str(), again.created, &again.address), ("shared:hello", false, &shared.address));

    let ids = [
        (at_level(IsolationLevel::IsolationNamespace, "a", ""), "ns:a:hello"),
        (at_level(IsolationLevel::IsolationNamespace, "b", ""), "ns:b:hello"),
        (at_level(IsolationLevel::IsolationSession, "a", "u:1"), "session:a:u%3A1:hello"),
        (at_level(IsolationLevel::IsolationSession, "b", "u:1"), "session:b:u%3A1:hello"),
        (at_level(IsolationLevel::IsolationSession, "", "u"), "session:default:u:hello"),
    ];
    let mut addresses = BTreeSet::from([shared.address.clone()]);
    for (request, id) in ids {
        let first = launch(request.clone());
        assert_eq!((first.process_id.as_str(), first.created), (id, true));
        assert!(addresses.insert(first.address.clone()), "{} is given twice", first.address);
        let second = launch(request);
        assert_eq!((second.address, second.created), (first.address, false));
    }

    let health = client.health();
    assert!(health.healthy, "{:?}", health.problems);
    assert_eq!((health.total_processes, health.running_processes, health.processes.len()), (6, 6, 6));
    let expected = [("None", 1), ("Namespace", 2), ("Session", 3)].map(|(level, count)| (level.to_owned(), count));
    assert_eq!(health.isolation_distribution, expected.into());
    let (code, body) = daemon.get("/health").unwrap();
    assert_eq!(code, 200, "{body}");

    let list = |pattern: &str, namespace: &str, state: ProcessState| {
        let (pattern_name, namespace) = (pattern.to_owned(), namespace.to_owned());
        let found = client.list(ListPatternsRequest { pattern_name, namespace, state: state.into() });
        assert_eq!(found.total_count, 6);
        found.patterns.len()
    };
    assert_eq!(list("", "", ProcessState::StateUnspecified), 6);
    assert_eq!(list("hello", "a", ProcessState::StateRunning), 2);
    assert_eq!(list("other", "", ProcessState::StateUnspecified), 0);
    assert_eq!(list("", "", ProcessState::StateFailed), 0);

    let info = client.status("ns:a:hello").unwrap();
    assert!(info.api_managed && info.healthy && info.asked_by.contains("uid "), "{info:?}");
    assert!(alive(info.pid));
    assert!(client.terminate("ns:a:hello").unwrap().success);
    assert!(!alive(info.pid));
    assert_eq!(client.status("ns:a:hello"), None);
    assert_eq!(client.list(ListPatternsRequest::default()).total_count, 5);
    refused(&client.terminate("ns:a:hello").unwrap_err(), Code::NotFound, "PROCESS_NOT_FOUND");
}

#[test]
fn fifty_callers_of_one_key_get_one_process() {
    let world = World::new();
    world.pattern("hello", "hello", "healthcheck: { interval: 1s }");
    let _daemon = world.start();
    let client = Client::of(&world);
    let calls: Vec<_> = (0..50)
        .map(|_| {
            let mut stub = client.stub();
            client.spawn(async move { stub.launch_pattern(tenant("hello", "a")).await.unwrap().into_inner() })
        })
        .collect();
    let answers: Vec<_> = calls.into_iter().map(|call| client.run(call).unwrap()).collect();
    let addresses: BTreeSet<_> = answers.iter().map(|answer| answer.address.clone()).collect();
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    assert!(answers.iter().all(|answer| answer.healthy));
    assert_eq!(answers.iter().filter(|answer| answer.created).count(), 1);
    assert_eq!(world.processes("hello").len(), 1);
}

#[test]
fn a_deadline_ends_the_wait_and_nothing_else() {
    let world = World::new();
    world.pattern("slow", "slow_starter", "args: [\"--after-ms\", \"3000\"]\nhealthcheck: { interval: 200ms }");
    let daemon = world.start();
    let client = Client::of(&world);
    let late = client.launch_within(Duration::from_millis(700), tenant("slow", "a")).unwrap_err();
    let suggestion = refused(&late, Code::DeadlineExceeded, "PROCESS_START_FAILED");
    assert!(late.message().contains("state=starting") && suggestion.contains("ns:a:slow"), "{late:?}");
    daemon.settled("ns:a:slow");
}

#[test]
fn a_client_that_goes_away_leaves_its_launch() {
    let world = World::new();
    world.pattern("slow", "slow_starter", "args: [\"--after-ms\", \"1000\"]\nhealthcheck: { interval: 200ms }");
    let daemon = world.start();
    let client = Client::of(&world);
    let mut stub = client.stub();
    let call = client.spawn(async move { stub.launch_pattern(tenant("slow", "a")).await });
    daemon.wait("it is declared", |status| status.key("ns:a:slow").map(drop));
    call.abort();
    drop(client);
    daemon.settled("ns:a:slow");
}

#[test]
fn force_and_a_shorter_grace_period_are_honoured_while_others_are_served() {
    let world = World::new();
    world.pattern("stubborn", "stubborn", "lifecycle: { grace_period: 60s }");
    world.pattern("hello", "hello", "healthcheck: { interval: 1s }");
    let _daemon = world.start();
    let client = Client::of(&world);
    for namespace in ["a", "b"] {
        client.launch(tenant("stubborn", namespace)).unwrap();
    }
    let mut stub = client.stub();
    let request = TerminateRequest { process_id: "ns:a:stubborn".to_owned(), grace_period_secs: 2, force: false };
    let graceful = client.spawn(async move { stub.terminate_pattern(request).await.unwrap().into_inner() });
    wait_for("it is being terminated", || {
        client.status("ns:a:stubborn").filter(|info| info.state() == ProcessState::StateTerminating)
    });
    client.launch(tenant("hello", "a")).unwrap();
    let request = TerminateRequest { process_id: "ns:b:stubborn".to_owned(), grace_period_secs: 0, force: true };
    let mut stub = client.stub();
    assert!(client.run(stub.terminate_pattern(request)).unwrap().into_inner().success);
    assert_eq!(world.processes("stubborn").len(), 1, "the other one has its two seconds");
    assert!(client.run(graceful).unwrap().success);
    assert!(world.processes("stubborn").is_empty());
}
