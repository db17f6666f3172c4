//! When a terminate is answered, and what goes on meanwhile.

use crate::world::api::{Client, tenant};
use crate::world::wait::{now, since};
use crate::world::{World, wait_for};
use pattern_launcher::api::proto::{ProcessState, TerminateRequest};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[test]
fn a_terminate_is_answered_when_the_whole_tree_is_gone() {
    let world = World::new();
    // The program ends when it is asked to; its daemons ignore that, each in a session of its own.
    world.pattern("forker", "forker", "args: [\"--daemons\", \"3\"]\nlifecycle: { grace_period: 1s }");
    let _daemon = world.start();
    let client = Client::of(&world);
    let tree = |id: &str| world.processes("forker").get(id).map_or(0, Vec::len);
    let ids = ["ns:a:forker", "ns:b:forker"];
    for (id, force) in ids.into_iter().zip([false, true]) {
        client.launch(tenant("forker", id.split(':').nth(1).unwrap())).unwrap();
        wait_for("its daemons run", || (tree(id) == 4).then_some(()));
        let mut stub = client.stub();
        let request = TerminateRequest { process_id: id.to_owned(), grace_period_secs: 0, force };
        assert!(client.run(stub.terminate_pattern(request)).unwrap().into_inner().success);
        assert_eq!(tree(id), 0, "something of {id} lives");
    }
}

#[test]
fn a_grace_period_is_waited_for_and_only_shortened() {
    let world = World::new();
    world.pattern("stubborn", "stubborn", "lifecycle: { grace_period: 2s }");
    let _daemon = world.start();
    let client = Client::of(&world);
    for (namespace, asked, least) in [("shorter", 1, 1), ("longer", 600, 2)] {
        client.launch(tenant("stubborn", namespace)).unwrap();
        let process_id = format!("ns:{namespace}:stubborn");
        wait_for("it ignores the signal", || ignores_sigterm(&world, &process_id).then_some(()));
        let begun = now();
        let request = TerminateRequest { process_id, grace_period_secs: asked, force: false };
        let mut stub = client.stub();
        assert!(client.run(stub.terminate_pattern(request)).unwrap().into_inner().success);
        assert!(since(begun) >= Duration::from_secs(least), "{namespace}: {:?}", since(begun));
        assert!(world.processes("stubborn").is_empty());
    }
}

/// Whether its process has come so far that a SIGTERM does nothing.
fn ignores_sigterm(world: &World, id: &str) -> bool {
    const SIGTERM: u64 = 1 << 14;
    let pid = world.processes("stubborn")[id][0];
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    u64::from_str_radix(ignored.trim(), 16).unwrap() & SIGTERM != 0
}

#[test]
fn everything_else_is_served_while_one_takes_its_whole_grace() {
    let world = World::new();
    world.pattern("stubborn", "stubborn", "lifecycle: { grace_period: 10s }");
    world.pattern("sleeper", "sleeper", "");
    let _daemon = world.start();
    let client = Client::of(&world);
    client.launch(tenant("stubborn", "a")).unwrap();
    client.launch(tenant("sleeper", "before")).unwrap();
    wait_for("it ignores the signal", || ignores_sigterm(&world, "ns:a:stubborn").then_some(()));
    let order: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut stub = client.stub();
    let done = Arc::clone(&order);
    let stubborn = client.spawn(async move {
        let request = TerminateRequest { process_id: "ns:a:stubborn".to_owned(), ..Default::default() };
        assert!(stub.terminate_pattern(request).await.unwrap().into_inner().success);
        done.lock().unwrap().push("stubborn".to_owned());
    });
    wait_for("it is being terminated", || {
        client.status("ns:a:stubborn").filter(|info| info.state() == ProcessState::StateTerminating)
    });
    // A launch of the very key waits for the end of the one before.
    let mut stub = client.stub();
    let done = Arc::clone(&order);
    let again = client.spawn(async move {
        let launched = stub.launch_pattern(tenant("stubborn", "a")).await.unwrap().into_inner();
        done.lock().unwrap().push("again".to_owned());
        launched
    });
    let launches = (0..20).map(|number| {
        let (mut stub, done) = (client.stub(), Arc::clone(&order));
        client.spawn(async move {
            stub.launch_pattern(tenant("sleeper", &format!("n{number}"))).await.unwrap();
            done.lock().unwrap().push(format!("launch {number}"));
        })
    });
    for launch in launches.collect::<Vec<_>>() {
        client.run(launch).unwrap();
    }
    assert!(client.terminate("ns:before:sleeper").unwrap().success);
    assert!(client.terminate("ns:n0:sleeper").unwrap().success);
    order.lock().unwrap().push("terminates".to_owned());
    client.run(stubborn).unwrap();
    assert!(client.run(again).unwrap().healthy);
    let order = order.lock().unwrap();
    let last: Vec<&str> = order[20..].iter().map(String::as_str).collect();
    assert_eq!(last[0], "terminates", "{order:?}");
    assert!(last.len() == 3 && last.contains(&"stubborn") && last.contains(&"again"), "{order:?}");
}
