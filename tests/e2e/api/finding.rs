//! How generic clients find their way: reflection, health probes, the two addresses.

use crate::world::api::{Client, tenant};
use crate::world::{World, wait_for};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use tokio_stream::StreamExt as _;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_reflection::pb::{v1 as reflection, v1alpha as older};

const SERVICE: &str = "prism.launcher.PatternLauncher";

fn serving(client: &Client, service: &str) -> Option<ServingStatus> {
    let mut health = HealthClient::new(client.channel());
    let request = HealthCheckRequest { service: service.to_owned() };
    client.run(health.check(request)).ok().map(|response| response.into_inner().status())
}

#[test]
fn health_probes_and_reflection_answer() {
    let world = World::new();
    let _daemon = world.start();
    let client = Client::of(&world);
    for service in ["", SERVICE] {
        wait_for("it serves", || serving(&client, service).filter(|status| *status == ServingStatus::Serving));
    }
    assert_eq!(serving(&client, "no.such.Service"), None);

    let mut stub = reflection::server_reflection_client::ServerReflectionClient::new(client.channel());
    let ask = reflection::server_reflection_request::MessageRequest::ListServices(String::new());
    let request = reflection::ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let answer = client.run(async {
        let mut answers = stub.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        answers.next().await.unwrap().unwrap()
    });
    let listed = format!("{answer:?}");
    assert!(listed.contains(SERVICE) && listed.contains("grpc.health.v1.Health"), "{listed}");

    let mut stub = older::server_reflection_client::ServerReflectionClient::new(client.channel());
    let ask = older::server_reflection_request::MessageRequest::FileContainingSymbol(SERVICE.to_owned());
    let request = older::ServerReflectionRequest { host: String::new(), message_request: Some(ask) };
    let answer = client.run(async {
        let mut answers = stub.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
        answers.next().await.unwrap().unwrap()
    });
    assert!(format!("{answer:?}").contains("FileDescriptorResponse"), "{answer:?}");
}

#[test]
fn the_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
    let world = World::new();
    let daemon = world.start();
    let socket = world.state().join("api.sock");
    let metadata = socket.metadata().unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.permissions().mode() & 0o777, 0o660);
    let _open = Client::of(&world);
    assert!(daemon.stop().success());
    assert!(!socket.exists());
    // A launcher that was killed leaves its socket, which the next one replaces.
    world.start().kill();
    assert!(socket.exists());
    let _daemon = world.start();
    assert!(Client::of(&world).health().healthy);
}

#[test]
fn tcp_is_served_where_it_is_asked_for() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let daemon = world.launch().flag("--grpc-port", "0").start();
    let log = daemon.log();
    let address = log.split("grpc=").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap();
    let client = Client::at(&format!("http://{}", address.trim_matches('"')));
    client.launch(tenant("sleeper", "a")).unwrap();
    let info = client.status("ns:a:sleeper").unwrap();
    assert!(info.asked_by.starts_with("127.0.0.1:"), "{info:?}");
}

#[test]
fn an_open_network_takes_a_word() {
    let world = World::new();
    let launch = world.launch().flag("--grpc-port", "0").flag("--grpc-listen", "0.0.0.0");
    let output = launch.output(&["run"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("INVALID_CONFIGURATION") && said.contains("--insecure"),
        "{said}"
    );
}
