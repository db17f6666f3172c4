//! Events and logs.

use crate::world::World;
use crate::world::api::{Client, refused, tenant};
use pattern_launcher::api::proto::{StreamLogsRequest, WatchEventsRequest};
use tokio_stream::StreamExt as _;
use tonic::Code;

#[test]
fn events_tell_what_happens_to_whom_and_who_asked() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let _daemon = world.start();
    let client = Client::of(&world);
    let mut stub = client.stub();
    let request = WatchEventsRequest { namespace: "a".to_owned(), ..Default::default() };
    let mut events = client.run(stub.watch_events(request)).unwrap().into_inner();
    client.launch(tenant("sleeper", "b")).unwrap();
    client.launch(tenant("sleeper", "a")).unwrap();
    let started = client.run(async {
        loop {
            let event = events.next().await.unwrap().unwrap().event.unwrap();
            assert_eq!(event.process_id, "ns:a:sleeper");
            if event.message == "process started" {
                return event;
            }
        }
    });
    assert!(!started.run_id.is_empty() && started.time.contains('T') && started.level == "info", "{started:?}");
}

#[test]
fn logs_are_sent_from_the_end_and_as_they_grow() {
    let world = World::new();
    world.pattern("flooder", "log_flooder", "args: [\"--lines\", \"1000\"]");
    let _daemon = world.start();
    let client = Client::of(&world);
    client.launch(tenant("flooder", "a")).unwrap();
    let read = |tail_lines: i64, follow: bool| {
        let mut stub = client.stub();
        let request =
            StreamLogsRequest { process_id: "ns:a:flooder".to_owned(), tail_lines, follow, ..Default::default() };
        client.run(stub.stream_logs(request)).map(tonic::Response::into_inner)
    };
    let mut following = read(1, true).unwrap();
    let first = client.run(following.next()).unwrap().unwrap();
    assert!(first.data.ends_with(b"\n"), "whole lines: {:?}", String::from_utf8_lossy(&first.data));
    let mut few = read(3, false).unwrap();
    let text = client.run(async {
        let mut all = Vec::new();
        while let Some(chunk) = few.next().await {
            all.extend(chunk.unwrap().data);
        }
        String::from_utf8(all).unwrap()
    });
    assert!(text.lines().count() >= 3, "{text}");
    refused(&read(-1, false).unwrap_err(), Code::InvalidArgument, "INVALID_INSTANCE");
    let mut stub = client.stub();
    let unknown = StreamLogsRequest { process_id: "ns:nobody:flooder".to_owned(), ..Default::default() };
    refused(&client.run(stub.stream_logs(unknown)).unwrap_err(), Code::NotFound, "PROCESS_NOT_FOUND");
}
