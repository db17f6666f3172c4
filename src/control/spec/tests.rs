use super::*;
use proptest::prelude::*;

/// Names that try to be something else than a name: paths, options, format strings, lines, escapes, and far too long.
const ODD: [&str; 24] = [
    "../../etc/passwd",
    "/etc/passwd",
    "a/../b",
    "..",
    ".hidden",
    "a/b",
    "-rf",
    "--config=/etc/shadow",
    "%s%n%x",
    "{0}",
    "$(reboot)",
    "$(NAMESPACE)",
    "`id`",
    "a;id",
    "a\nb: c",
    "a\r\nX: y",
    "\u{1b}[31mred\u{1b}[0m",
    "\u{1b}]0;title\u{7}",
    "a\0b",
    "\u{202e}evil",
    "\u{200b}",
    " a ",
    "Ünïcode",
    "con:aux",
];

fn refused_as(spec: &LaunchSpec) -> Error {
    let error = spec.check().unwrap_err();
    let printed = error.to_string();
    assert!(!printed.chars().any(char::is_control), "{printed:?}");
    assert!(!printed.contains('\u{202e}'), "{printed:?}");
    assert!(printed.len() < 1_000, "{} bytes", printed.len());
    assert!(error.suggestion().is_some(), "{printed}");
    error
}

#[test]
fn odd_names_of_patterns_and_namespaces_are_refused_and_echoed_safely() {
    let long = "x".repeat(100_000);
    for odd in ODD.into_iter().chain([long.as_str()]) {
        let error = refused_as(&LaunchSpec::new(odd).namespace("t"));
        assert_eq!(error.code(), Code::InvalidInstance, "{odd:?}");
        assert!(error.context_value("pattern_name").is_some());
        let error = refused_as(&LaunchSpec::new("consumer").namespace(odd));
        assert_eq!(error.code(), Code::InvalidInstance, "{odd:?}");
        assert!(error.context_value("namespace").is_some());
    }
    assert_eq!(refused_as(&LaunchSpec::new("")).code(), Code::InvalidInstance);
}

#[test]
fn odd_sessions_are_refused_or_carried_safely() {
    for odd in ODD {
        let spec = LaunchSpec::new("p").namespace("t").session(odd).isolation(IsolationLevel::Session);
        let Ok(checked) = spec.check() else {
            refused_as(&spec);
            continue;
        };
        let isolation = crate::model::Isolation::Session(checked.namespace.unwrap(), checked.session.unwrap());
        let key = isolation.key(&checked.pattern);
        assert_eq!(key.as_str().matches(':').count(), 3, "{key}");
        assert!(!key.as_str().contains(['/', ' ', '\n', '\u{1b}']), "{key}");
        let file = key.file_name();
        assert!(!file.starts_with(['.', '-']) && !file.contains(['/', '.', '$']), "{file}");
    }
    let long = "x".repeat(129);
    assert!(LaunchSpec::new("p").session(long).isolation(IsolationLevel::Session).check().is_err());
}

#[test]
fn odd_names_in_config_and_slots_are_refused() {
    for odd in ODD.into_iter().chain(["", "1A", "A=B", "A B"]) {
        let error = refused_as(&LaunchSpec::new("p").namespace("t").config(odd, "x"));
        assert_eq!(error.code(), Code::InvalidInstance, "{odd:?}");
    }
    for odd in ODD.into_iter().filter(|odd| check_slot_name(odd).is_err()).chain([""]) {
        refused_as(&LaunchSpec::new("p").namespace("t").slot(odd, "url", "x"));
        refused_as(&LaunchSpec::new("p").namespace("t").slot("storage", odd, "x"));
    }
    refused_as(&LaunchSpec::new("p").slot("storage", "a-b", "x").slot("storage", "a_b", "x"));
}

#[test]
fn what_the_launcher_and_the_loader_own_is_not_set_by_config() {
    for name in ["PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "NAMESPACE", "RUN_ID", "GRPC_PORT"] {
        let error = refused_as(&LaunchSpec::new("p").namespace("t").config(name, "secret-value"));
        assert_eq!(error.code(), Code::InvalidInstance, "{name}");
        assert!(!error.to_string().contains("secret-value"));
    }
}

#[test]
fn config_is_bounded_in_entries_and_in_bytes() {
    let spec = || LaunchSpec::new("p").namespace("t");
    let many = |count: usize| (0..count).fold(spec(), |spec, n| spec.config(format!("A{n}"), "x"));
    assert!(many(ENTRIES_LIMIT).check().is_ok());
    refused_as(&many(ENTRIES_LIMIT + 1));
    assert!(spec().config("A", "x".repeat(20_000)).check().is_ok());
    refused_as(&spec().config("A", "x".repeat(VALUE_LIMIT + 1)));
    refused_as(&spec().config("A", "x".repeat(20_000)).config("B", "x".repeat(20_000)));
    refused_as(&spec().slot("s", "a", "x".repeat(20_000)).slot("s", "b", "x".repeat(20_000)));
    refused_as(&spec().config("A", "nul\0byte"));
}

#[test]
fn a_level_that_is_named_needs_its_names_and_drops_the_others() {
    let spec = || LaunchSpec::new("p");
    let code = |spec: LaunchSpec| spec.check().unwrap_err().code();
    assert_eq!(code(spec().isolation(IsolationLevel::Namespace)), Code::MissingNamespace);
    assert_eq!(code(spec().isolation(IsolationLevel::Namespace).namespace("")), Code::MissingNamespace);
    assert_eq!(code(spec().isolation(IsolationLevel::Session).namespace("t")), Code::MissingSessionId);
    let shared = spec().isolation(IsolationLevel::None).namespace("t").session("s").check().unwrap();
    assert_eq!((shared.namespace, shared.session), (None, None));
    let tenant = spec().isolation(IsolationLevel::Namespace).namespace("t").session("s").check().unwrap();
    assert_eq!((tenant.namespace.is_some(), tenant.session), (true, None));
    let open = spec().namespace("t").session("s").check().unwrap();
    assert!(open.namespace.is_some() && open.session.is_some());
}

#[test]
fn spans_have_a_range() {
    let spec = || LaunchSpec::new("p").namespace("t");
    assert!(spec().grace_period(Duration::ZERO).check().is_ok());
    assert!(spec().ttl(Duration::from_secs(1)).check().is_ok());
    refused_as(&spec().grace_period(Duration::from_secs(86_401)));
    refused_as(&spec().ttl(Duration::ZERO));
    refused_as(&spec().ttl(Duration::from_secs(u64::MAX)));
}

#[test]
fn values_are_not_in_what_debug_prints() {
    let printed = format!("{:?}", LaunchSpec::new("p").config("A", "hunter2").slot("s", "url", "hunter2"));
    assert!(!printed.contains("hunter2"), "{printed}");
}

proptest! {
    #[test]
    fn whatever_is_sent_is_refused_in_print_or_accepted(
        pattern in ".{0,80}", namespace in ".{0,80}", session in ".{0,200}", name in ".{0,40}", value in ".{0,40}",
    ) {
        let spec = LaunchSpec::new(pattern).namespace(namespace).session(session).config(name, value);
        if let Err(error) = spec.check() {
            let printed = error.to_string();
            prop_assert!(!printed.chars().any(char::is_control), "{:?}", printed);
            prop_assert!(printed.len() < 1_000);
        }
    }
}
