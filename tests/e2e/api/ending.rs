//! What clients hear when the daemon ends, and when they ask for too much.

use crate::world::World;
use crate::world::api::{Client, tenant};
use pattern_launcher::api::proto::{LaunchRequest, WatchEventsRequest};
use tokio_stream::StreamExt as _;
use tonic::Code;

#[test]
fn who_waits_when_the_daemon_ends_is_told_so() {
    let world = World::new();
    world.pattern("slow", "slow_starter", "args: [\"--after-ms\", \"60000\"]\nhealthcheck: { startup_timeout: 120s }");
    let daemon = world.start();
    let client = Client::of(&world);
    let mut stub = client.stub();
    let mut events = client.run(stub.watch_events(WatchEventsRequest::default())).unwrap().into_inner();
    let waiting = client.spawn(async move { stub.launch_pattern(tenant("slow", "a")).await });
    daemon.wait("it is declared", |status| status.key("ns:a:slow").map(drop));
    assert!(daemon.stop().success());
    let told = client.run(waiting).unwrap().unwrap_err();
    assert_eq!(told.code(), Code::Unavailable, "{told:?}");
    let end = client.run(async {
        loop {
            match events.next().await {
                Some(Ok(_)) => {}
                Some(Err(status)) => return status.code(),
                None => panic!("the stream ends without saying why"),
            }
        }
    });
    assert_eq!(end, Code::Unavailable);
}

#[test]
fn a_message_that_is_too_large_is_refused_and_the_connection_goes_on() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let _daemon = world.start();
    let client = Client::of(&world);
    let config = [("BLOB".to_owned(), "x".repeat(5 << 20))].into();
    let status = client.launch(LaunchRequest { config, ..tenant("sleeper", "a") }).unwrap_err();
    assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status:?}");
    client.launch(tenant("sleeper", "a")).unwrap();
}
