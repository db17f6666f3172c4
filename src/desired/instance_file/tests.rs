use super::*;
use crate::model::Resources;

fn parse_as(author: Author, text: &str) -> Result<Vec<InstanceSpec>> {
    parse_instances(Path::new("desired/a.yaml"), text.as_bytes(), author)
}

fn parse(text: &str) -> Result<Vec<InstanceSpec>> {
    parse_as(Author::Person, text)
}

fn refused(text: &str) -> (Code, String) {
    let error = parse(text).expect_err(text);
    let message = error.message().strip_prefix("desired/a.yaml:").expect("the file first").to_owned();
    assert!(
        error.suggestion().is_some() || message.contains(" consists of ") || message.contains("must be"),
        "{error}"
    );
    (error.code(), message)
}

/// The example of the product contract, without the isolation, which excludes the session.
const SAMPLE: &str = r#"
pattern: consumer
isolation: session
namespace: tenant-a
session: user-123
config: { kafka_brokers: "localhost:9092" }
slots: { storage: { url: "postgres://…" } }
credentials: { db: team/db }
resources: {}
grace_period: 10s
state: running
ttl: 30m
"#;

#[test]
fn the_contracts_example_reads_as_it_says() {
    let specs = parse_as(Author::Launcher, SAMPLE).expect("the example");
    let secrets = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), Secret::new(value))]);
    let expected = InstanceSpec {
        pattern: PatternName::new("consumer").expect("a name"),
        isolation: Some(IsolationLevel::Session),
        namespace: Some(Namespace::new("tenant-a").expect("a name")),
        session: Some(SessionId::new("user-123").expect("an id")),
        config: secrets("kafka_brokers", "localhost:9092"),
        slots: BTreeMap::from([("storage".to_owned(), secrets("url", "postgres://…"))]),
        credentials: BTreeMap::from([("db".to_owned(), "team/db".into())]),
        resources: Resources::default(),
        grace_period: Some(Duration::from_secs(10)),
        state: DesiredState::Running,
        ttl: Some(Duration::from_secs(1_800)),
        line: 2,
    };
    assert_eq!(specs, [expected]);
}

#[test]
fn a_ttl_is_for_launched_files() {
    let (code, message) = refused("pattern: a\nttl: 30m\n");
    assert_eq!(
        (code, message.as_str()),
        (Code::InvalidInstance, "2:1: 'ttl' is for launched instances, and this file is a person's")
    );
}

#[test]
fn credentials_are_names_and_paths_that_lead_nowhere_else() {
    for (text, message) in [
        ("{a/b: x}", "2:15: the name 'a/b' in 'credentials' must be"),
        ("{.a: x}", "2:15: the name '.a' in 'credentials' must be a file's that is not hidden"),
        ("{a: ''}", "2:15: 'credentials.a' is no path of a file: ''"),
        ("{a: /}", "2:15: 'credentials.a' is no path of a file: '/'"),
        ("{a: x/}", "2:15: 'credentials.a' is no path of a file: 'x/'"),
        ("{a: x/../../etc/shadow}", "2:15: 'credentials.a' is no path of a file: 'x/../../etc/shadow'"),
        ("{a: ./x}", "2:15: 'credentials.a' is no path of a file: './x'"),
        ("[a]", "2:14: "),
        ("{a: {b: c}}", "2:18: "),
    ] {
        let (_, found) = refused(&format!("pattern: a\ncredentials: {text}\n"));
        assert!(found.starts_with(message), "{text}: {found}");
    }
    let many = (0..65).map(|n| format!("n{n}: x")).collect::<Vec<_>>().join(", ");
    let (_, found) = refused(&format!("pattern: a\ncredentials: {{{many}}}\n"));
    assert_eq!(found, "2:1: 'credentials' names more than 64 files");
}

#[test]
fn several_namespaces_are_several_instances_with_their_own_lines() {
    let specs = parse("# first\npattern: a\nnamespaces:\n  - x\n  # between\n  - 7\n---\npattern: b\nnamespace: y\n");
    let told: Vec<_> = specs
        .expect("valid")
        .iter()
        .map(|spec| format!("{}:{}:{}", spec.line, spec.pattern, spec.namespace.as_ref().map_or("", Namespace::as_str)))
        .collect();
    assert_eq!(told, ["4:a:x", "6:a:7", "8:b:y"]);
    assert_eq!(refused("pattern: a\nnamespaces: [x, y, x]\n").1, "2:20: the namespace 'x' is given twice");
    assert_eq!(refused("pattern: a\nnamespaces: []\n").1, "2:1: 'namespaces' is an empty list");
    assert_eq!(
        refused("pattern: a\nnamespaces: [x]\nnamespace: y\n").1,
        "2:1: 'namespace' and 'namespaces' are both given"
    );
    assert!(refused("pattern: a\nnamespaces: [x, a/b]\n").1.starts_with("2:17: a namespace consists of"));
}

#[test]
fn a_level_needs_its_names_and_no_others() {
    for (text, code, message) in [
        ("isolation: namespace", Code::MissingNamespace, "2:1: an instance at level namespace needs a 'namespace'"),
        ("isolation: session", Code::MissingSessionId, "2:1: an instance at level session needs a 'session'"),
        (
            "isolation: none\nnamespace: x",
            Code::InvalidInstance,
            "3:1: an instance at level none is shared by everyone and has no 'namespace'",
        ),
        (
            "isolation: namespace\nnamespace: x\nsession: y",
            Code::InvalidInstance,
            "4:1: 'session' belongs to level session, and the level is namespace",
        ),
        (
            "isolation: tenant",
            Code::InvalidIsolationLevel,
            "2:12: 'isolation' must be none, namespace or session, and is 'tenant'",
        ),
    ] {
        let error = parse(&format!("pattern: a\n{text}\n")).expect_err(text);
        assert_eq!((error.code(), error.message()), (code, format!("desired/a.yaml:{message}").as_str()));
    }
    parse("pattern: a\nisolation: session\nsession: y\n").expect("the namespace is then 'default'");
}

#[test]
fn config_cannot_break_out_of_its_process() {
    for name in ["PATH", "LD_PRELOAD", "LD_LIBRARY_PATH", "LD_", "PROCESS_ID", "GRPC_PORT", "a-b", "1a", "", "A=B", "ä"]
    {
        let (code, _) = refused(&format!("pattern: a\nconfig: {{ \"{name}\": x }}\n"));
        assert_eq!(code, Code::InvalidInstance, "{name}");
    }
    assert_eq!(
        refused("pattern: a\nconfig:\n  NAMESPACE: b\n").1,
        "3:3: 'NAMESPACE' in 'config' is set by the launcher itself and cannot be overridden"
    );
    parse("pattern: a\nconfig: { PATH_TO: x, ld_x: y }\n").expect("ordinary names");
}

#[test]
fn bindings_become_variables_that_differ() {
    assert_eq!(
        refused("pattern: a\nslots:\n  s:\n    a-b: 1\n    a_b: 2\n").1,
        "5:5: 'a-b' and 'a_b' would both become SLOT_S_A_B"
    );
    assert!(refused("pattern: a\nslots: { 's t': { a: b } }\n").1.contains("1 to 63 characters"));
    assert!(refused("pattern: a\nslots: { s: { 'a b': c } }\n").1.contains("1 to 63 characters"));
    assert!(refused("pattern: a\nslots: { s: x }\n").1.contains("'slots.s' must be a mapping"));
}

#[test]
fn one_bad_document_makes_the_file_bad() {
    let (code, message) = refused("pattern: a\n---\npattern: b\nsate: stopped\n---\npattern: c\n");
    assert_eq!((code, message.as_str()), (Code::InvalidInstance, "4:1: unknown key 'sate'"));
    assert_eq!(refused("namespace: a\n").1, "1:1: 'pattern' is missing");
    assert!(refused("pattern: a\nstate: paused\n").1.contains("must be running or stopped"));
}
