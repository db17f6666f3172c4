use super::*;
use crate::model::Ports;
use crate::reconciler::board::tests::{at, running};

fn request() -> proto::LaunchRequest {
    proto::LaunchRequest { pattern_name: "consumer".to_owned(), namespace: "t".to_owned(), ..Default::default() }
}

#[test]
fn a_launch_request_becomes_what_a_program_would_ask() {
    let request = proto::LaunchRequest {
        isolation: 3,
        session_id: "user-1".to_owned(),
        config: HashMap::from([("A".to_owned(), "x".to_owned())]),
        grace_period_secs: 7,
        ttl_secs: 60,
        no_wait: true,
        slots: HashMap::from([
            ("storage.url".to_owned(), "postgres://".to_owned()),
            ("storage.tls.ca".to_owned(), "x".to_owned()),
        ]),
        ..request()
    };
    let expected = LaunchSpec::new("consumer")
        .namespace("t")
        .session("user-1")
        .isolation(IsolationLevel::Session)
        .config("A", "x")
        .slot("storage", "url", "postgres://")
        .slot("storage", "tls.ca", "x")
        .grace_period(Duration::from_secs(7))
        .ttl(Duration::from_secs(60))
        .no_wait();
    assert_eq!(launch_spec(request).unwrap(), expected);
}

#[test]
fn numbers_that_mean_nothing_are_refused_by_name() {
    let code = |request| launch_spec(request).unwrap_err().code();
    for isolation in [4, -1, i32::MAX, i32::MIN] {
        assert_eq!(code(proto::LaunchRequest { isolation, ..request() }), Code::InvalidIsolationLevel);
    }
    for state in [7, -1, i32::MAX] {
        assert_eq!(state_filter(state).unwrap_err().code(), Code::InvalidInstance);
    }
    for seconds in [-1, i64::MIN] {
        assert_eq!(code(proto::LaunchRequest { grace_period_secs: seconds, ..request() }), Code::InvalidInstance);
        assert_eq!(code(proto::LaunchRequest { ttl_secs: seconds, ..request() }), Code::InvalidInstance);
    }
    let slots = HashMap::from([("storage".to_owned(), "x".to_owned())]);
    assert_eq!(code(proto::LaunchRequest { slots, ..request() }), Code::InvalidInstance);
    // The largest number is a time like any other, and is refused as too long where it is checked.
    let forever = proto::LaunchRequest { grace_period_secs: i64::MAX, ..request() };
    assert_eq!(launch_spec(forever).unwrap().check().unwrap_err().code(), Code::InvalidInstance);
}

#[test]
fn an_id_that_cannot_be_any_is_unknown_and_echoed_safely() {
    for id in ["", "nonsense", "ns:../x:p", "ns:t:p\n", "shared:\u{1b}[31m", &"x".repeat(10_000)] {
        let error = key(id).unwrap_err();
        assert_eq!(error.code(), Code::ProcessNotFound);
        let printed = error.to_string();
        assert!(printed.len() < 600 && !printed.chars().any(char::is_control), "{printed:?}");
    }
    assert_eq!(key("ns:t:p").unwrap().as_str(), "ns:t:p");
}

#[test]
fn a_filter_leaves_out_what_does_not_fit() {
    let id = |text: &str| Key::parse(text).unwrap();
    let filter = |pattern: &str, namespace: &str| Filter {
        pattern: pattern.to_owned(),
        namespace: namespace.to_owned(),
        process_id: String::new(),
    };
    assert!(filter("", "").passes(&id("shared:p")));
    assert!(filter("p", "t").passes(&id("ns:t:p")));
    assert!(!filter("p", "t").passes(&id("ns:u:p")));
    assert!(!filter("q", "").passes(&id("ns:t:p")));
    assert!(!filter("", "t").passes(&id("shared:p")));
}

#[test]
fn where_an_instance_stands_is_told_in_full() {
    let mut status = running("ns:t:p");
    status.ports = Some(Ports { grpc: 15_000, health: 15_001 });
    status.expires_at_boot_seconds = Some(20.5);
    status.suspension =
        Some(SuspensionStatus { reason: "r".to_owned(), by: "b".to_owned(), ends_at_boot_seconds: Some(5.0) });
    let info = pattern_info(&status, at(15));
    assert_eq!(info.state(), proto::ProcessState::StateRunning);
    assert_eq!(info.isolation(), proto::IsolationLevel::IsolationNamespace);
    assert_eq!((info.uptime_seconds, info.pid, info.grpc_port, info.health_port), (5, 4711, 15_000, 15_001));
    assert_eq!(info.expires_in_seconds, Some(6));
    assert_eq!(info.suspension.unwrap().ends_in_seconds, Some(0));
}
