//! Names that try to be something else, at every entrance.

use crate::world::World;
use crate::world::api::{Client, refused, tenant};
use pattern_launcher::api::proto::{IsolationLevel, LaunchRequest, ListPatternsRequest};
use std::fs;
use tonic::Code;

const ODD: [&str; 14] = [
    "../../etc/passwd",
    "/etc/passwd",
    "..",
    "-rf",
    "--config=/etc/shadow",
    "%s%n",
    "$(reboot)",
    "`id`",
    "a;id",
    "a\nb: c",
    "\u{1b}[31mred",
    "a\0b",
    "\u{202e}evil",
    " ",
];

#[test]
fn odd_names_are_refused_and_leave_nothing_behind() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let _daemon = world.start();
    let client = Client::of(&world);
    let long = "x".repeat(100_000);
    for odd in ODD.into_iter().chain([long.as_str()]) {
        let refuse = |request: LaunchRequest| {
            refused(&client.launch(request).unwrap_err(), Code::InvalidArgument, "INVALID_INSTANCE");
        };
        refuse(tenant(odd, "a"));
        refuse(tenant("sleeper", odd));
        refuse(LaunchRequest { config: [(odd.to_owned(), "x".to_owned())].into(), ..tenant("sleeper", "a") });
        refuse(LaunchRequest { slots: [(format!("{odd}.url"), "x".to_owned())].into(), ..tenant("sleeper", "a") });
        refused(&client.terminate(odd).unwrap_err(), Code::NotFound, "PROCESS_NOT_FOUND");
        assert_eq!(client.status(odd), None);
        let filter = ListPatternsRequest { namespace: odd.to_owned(), ..Default::default() };
        assert!(client.list(filter).patterns.is_empty());
    }
    assert_eq!(fs::read_dir(world.root().join("launched")).unwrap().count(), 0);
    assert!(world.processes("sleeper").is_empty());
}

#[test]
fn odd_sessions_are_carried_safely() {
    let world = World::new();
    world.pattern("sleeper", "sleeper", "");
    let daemon = world.start();
    let client = Client::of(&world);
    let launch = |session: &str| {
        let isolation = IsolationLevel::IsolationSession.into();
        client.launch(LaunchRequest { isolation, session_id: session.to_owned(), ..tenant("sleeper", "a") })
    };
    for session in ["../../etc", "auth0|123", "a+b@x", "$(reboot)", "Zm9v/YmFy==", "über uns", "%2e%2e", "-rf"] {
        let launched = launch(session).unwrap();
        let info = client.status(&launched.process_id).unwrap();
        assert_eq!(info.session_id, session);
        let environment = fs::read(format!("/proc/{}/environ", info.pid)).unwrap();
        let expected = format!("SESSION_ID={session}");
        assert!(environment.split(|byte| *byte == 0).any(|variable| variable == expected.as_bytes()), "{session}");
    }
    for session in ["a\nb", "\u{1b}[31m", "\u{202e}x", &"x".repeat(129)] {
        refused(&launch(session).unwrap_err(), Code::InvalidArgument, "INVALID_INSTANCE");
    }
    assert!(!daemon.log().contains('\u{1b}'), "escapes reach the log");
    let files: Vec<_> =
        fs::read_dir(world.root().join("launched")).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 8, "{files:?}");
}
