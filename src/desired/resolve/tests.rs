use super::*;
use crate::desired::{Author, parse_instances, parse_manifest};
use crate::model::OomPolicy;
use std::path::Path;
use std::time::Duration;

fn manifest(more: &str) -> Manifest {
    let text = format!("name: consumer\nversion: 1.0.0\nexecutable: ./consumer\n{more}");
    parse_manifest(Path::new("manifest.yaml"), Path::new("/p/consumer"), text.as_bytes()).expect(more)
}

fn defaults() -> Defaults {
    Defaults { isolation: IsolationLevel::Namespace, resources: Resources::default(), unwritten: Vec::new() }
}

fn resolve_with(manifest: &Manifest, defaults: &Defaults, text: &str) -> Result<Instance> {
    let text = format!("pattern: consumer\n{text}");
    let specs = parse_instances(Path::new("a.yaml"), text.as_bytes(), Author::Person).expect("a valid file");
    let origin = Origin { root: "desired".into(), file: "a.yaml".into(), line: specs[0].line, api_managed: false };
    resolve(&specs[0], manifest, defaults, origin)
}

fn case(more: &str, text: &str) -> Result<Instance> {
    resolve_with(&manifest(more), &defaults(), text)
}

#[test]
fn the_level_is_the_instances_then_the_manifests_then_the_launchers() {
    for (more, text, key) in [
        ("", "namespace: a", "ns:a:consumer"),
        ("isolation_level: none", "", "shared:consumer"),
        ("isolation_level: none", "isolation: namespace\nnamespace: a", "ns:a:consumer"),
        ("isolation_level: session", "session: s", "session:default:s:consumer"),
        ("isolation_level: session", "session: s\nnamespace: a", "session:a:s:consumer"),
        ("minimum_isolation: session", "session: s", "session:default:s:consumer"),
        ("minimum_isolation: none", "namespace: a", "ns:a:consumer"),
    ] {
        assert_eq!(case(more, text).expect(text).key.as_str(), key, "{more} {text}");
    }
}

#[test]
fn what_is_missing_for_the_level_is_named_with_file_and_line() {
    for (more, text, code, message) in [
        ("", "", Code::MissingNamespace, "desired/a.yaml:1: an instance at level namespace needs a namespace"),
        (
            "isolation_level: session",
            "",
            Code::MissingSessionId,
            "desired/a.yaml:1: an instance at level session needs a session",
        ),
        (
            "isolation_level: none",
            "namespace: a",
            Code::InvalidInstance,
            "desired/a.yaml:1: an instance at level none is shared by everyone and has no namespace",
        ),
        (
            "",
            "namespace: a\nsession: s",
            Code::InvalidInstance,
            "desired/a.yaml:1: 'session' belongs to level session, and the level is namespace",
        ),
        (
            "minimum_isolation: session",
            "isolation: namespace\nnamespace: a",
            Code::InvalidIsolationLevel,
            "desired/a.yaml:1: the level namespace is less than session, the least that pattern 'consumer' allows",
        ),
    ] {
        let error = case(more, text).expect_err(text);
        assert_eq!((error.code(), error.message()), (code, message));
        assert!(error.suggestion().is_some_and(|suggestion| suggestion.contains("desired/a.yaml")));
    }
}

const SLOT: &str = "backend_slots: [ { name: main-db, type: postgres, required: true }, { name: cache } ]";

#[test]
fn slots_become_variables() {
    let text = "namespace: a\nconfig: { A: b }\nslots: { main-db: { url: u, max.size: 3 } }";
    let instance = case(SLOT, text).expect("bound");
    let config: Vec<_> =
        instance.content.launch.config.iter().map(|(name, value)| format!("{name}={}", value.reveal())).collect();
    assert_eq!(config, ["A=b", "SLOT_MAIN_DB_MAX_SIZE=3", "SLOT_MAIN_DB_TYPE=postgres", "SLOT_MAIN_DB_URL=u"]);
}

#[test]
fn slots_must_be_bound_known_and_clear() {
    let message = |text: &str| {
        let error = case(SLOT, &format!("namespace: a\n{text}")).expect_err(text);
        assert_eq!(error.code(), Code::InvalidInstance);
        format!("{}; {}", error.message(), error.suggestion().expect("a suggestion"))
    };
    assert_eq!(
        message(""),
        "desired/a.yaml:1: the slot 'main-db' of pattern 'consumer' must be bound; \
         add 'slots: { main-db: { url: … } }' to desired/a.yaml"
    );
    assert_eq!(
        message("slots: { maindb: { url: u } }"),
        "desired/a.yaml:1: pattern 'consumer' has no slot 'maindb'; \
         write 'main-db' in place of 'maindb' in desired/a.yaml"
    );
    assert_eq!(
        message("slots: { main-db: { url: u }, zzzzzzzz: { url: u } }"),
        "desired/a.yaml:1: pattern 'consumer' has no slot 'zzzzzzzz'; \
         remove 'zzzzzzzz' from desired/a.yaml, or add it to 'backend_slots' in /p/consumer/manifest.yaml"
    );
    assert!(
        message("slots: { main-db: { type: mysql } }").contains("two different values are given for SLOT_MAIN_DB_TYPE")
    );
    assert!(
        message("config: { SLOT_MAIN_DB_URL: x }\nslots: { main-db: { url: y } }")
            .contains("two different values are given for SLOT_MAIN_DB_URL")
    );
    case(SLOT, "namespace: a\nslots: { main-db: { type: postgres } }").expect("the same twice");
}

#[test]
fn resources_and_grace_are_overridden_one_by_one() {
    let more = "resources: { cpu_limit: 1, memory_limit: 1Gi, oom_policy: continue }\nlifecycle: { grace_period: 3s }";
    let edit = "namespace: a\nresources: { memory_limit: 2Gi, oom_policy: kill }\ngrace_period: 4s";
    let instance = case(more, edit).expect("valid");
    let supervision = &instance.content.supervision;
    assert_eq!(supervision.resources.cpu_limit_millis, Some(1_000));
    assert_eq!(supervision.resources.memory_limit, Some(2 << 30));
    assert_eq!(supervision.resources.on_oom(), OomPolicy::Kill);
    assert_eq!(supervision.grace_period, Duration::from_secs(4));
    let error = case(more, "namespace: a\nresources: { memory_request: 3Gi }").expect_err("above the limit");
    assert!(error.message().contains("'memory_request' is more than 'memory_limit'"), "{error}");
}

#[test]
fn a_default_limit_gives_way_to_a_written_request() {
    let resources = Resources { cpu_limit_millis: Some(2_000), memory_limit: Some(1 << 30), ..Resources::default() };
    let defaults = Defaults { resources, ..defaults() };
    let of = |more: &str| {
        resolve_with(&manifest(more), &defaults, "namespace: a").expect("valid").content.supervision.resources
    };
    assert_eq!(of("").cpu_limit_millis, Some(2_000));
    assert_eq!(of("resources: { cpu_limit: 1 }").cpu_limit_millis, Some(1_000));
    let raised = of("resources: { cpu_request: 4, memory_request: 2Gi }");
    assert_eq!((raised.cpu_limit_millis, raised.memory_limit), (Some(4_000), Some(2 << 30)));
}

#[test]
fn equal_meaning_is_equal_content() {
    let a = case(SLOT, "namespace: a\nconfig: { A: 1, B: 2 }\nslots: { main-db: { url: u } }\ngrace_period: 60s");
    let b = case(
        &format!("description: other\n{SLOT}"),
        "# moved\ngrace_period: 1m\nslots:\n  main-db:\n    url: 'u'\nconfig:\n  B: \"2\"\n  A: 1\nnamespace: a\nisolation: namespace",
    );
    let (a, b) = (a.expect("valid"), b.expect("valid"));
    assert_eq!(a.content, b.content);
    assert_eq!(a.key, b.key);
    let c = case(SLOT, "namespace: a\nconfig: { A: 1, B: 02 }\nslots: { main-db: { url: u } }\ngrace_period: 60s");
    assert_ne!(c.expect("valid").content, a.content);
}

fn request(more: &str, spec: &InstanceSpec) -> Result<Instance> {
    resolve_request(spec, &manifest(more), &defaults(), Path::new("launched"))
}

/// A request as the document of a file would say it; only what a file may say can be given so.
fn asked(text: &str) -> InstanceSpec {
    let text = format!("pattern: consumer\n{text}");
    parse_instances(Path::new("a.yaml"), text.as_bytes(), Author::Launcher).expect("a valid file").remove(0)
}

#[test]
fn a_request_is_declared_where_its_launched_file_will_be() {
    let instance = request("", &asked("namespace: a")).expect("valid");
    let (key, origin) = (instance.key.as_str(), &instance.origin);
    assert_eq!((key, origin.api_managed, origin.line), ("ns:a:consumer", true, FIRST_LINE));
    assert_eq!(origin.path(), Path::new("launched").join(launched_file(&instance.key)));
}

#[test]
fn a_request_may_name_more_than_its_level_needs() {
    let everything = InstanceSpec { session: asked("session: s").session, ..asked("namespace: a") };
    for (level, key) in [("none", "shared:consumer"), ("namespace", "ns:a:consumer")] {
        let instance = request(&format!("isolation_level: {level}"), &everything).expect(level);
        assert_eq!(instance.key.as_str(), key);
        let said = explicit(&everything, &instance.isolation);
        assert_eq!(said.session, None, "{level}");
        assert_eq!(said.namespace.is_some(), level == "namespace");
        assert_eq!(request("", &said).expect("the same").key.as_str(), key, "whatever the manifest says by then");
    }
}

#[test]
fn what_a_request_lacks_is_mended_by_asking_otherwise() {
    for (more, text, code, part) in [
        ("", "", Code::MissingNamespace, "--namespace"),
        ("isolation_level: session", "", Code::MissingSessionId, "--session"),
        (
            "minimum_isolation: session",
            "isolation: namespace\nnamespace: a",
            Code::InvalidIsolationLevel,
            "--isolation session",
        ),
        (SLOT, "namespace: a", Code::InvalidInstance, "--slot main-db.url="),
        (SLOT, "namespace: a\nslots: { maindb: { url: u } }", Code::InvalidInstance, "write 'main-db'"),
        (SLOT, "namespace: a\nslots: { main-db: { type: x } }", Code::InvalidInstance, "leave out one"),
    ] {
        let error = request(more, &asked(text)).expect_err(text);
        assert_eq!(error.code(), code, "{error}");
        assert!(error.suggestion().is_some_and(|suggestion| suggestion.contains(part)), "{error}");
        let text = error.to_string();
        assert!(!text.contains("launched") && !text.contains(".yaml:") && !text.contains(" : "), "{text}");
    }
}
