use super::*;
use crate::desired::instance_file::{Author, parse_instances};
use crate::model::{IsolationLevel, Namespace, OomPolicy, PatternName, SessionId};
use proptest::prelude::*;
use std::path::Path;
use std::time::Duration;

fn read_back(specs: &[InstanceSpec]) -> Vec<InstanceSpec> {
    let text = write_instances(specs, "Launched on request by uid 0.");
    let read = parse_instances(Path::new("a.yaml"), text.as_bytes(), Author::Launcher);
    read.unwrap_or_else(|error| panic!("{error}\n{text}"))
}

fn spec(session: &str) -> InstanceSpec {
    InstanceSpec {
        pattern: PatternName::new("p").expect("a name"),
        isolation: Some(IsolationLevel::Session),
        namespace: Some(Namespace::default_namespace()),
        session: Some(SessionId::new(session).expect("a session")),
        config: BTreeMap::new(),
        slots: BTreeMap::new(),
        credentials: BTreeMap::new(),
        resources: Resources::default(),
        grace_period: None,
        state: DesiredState::Running,
        ttl: None,
        line: FIRST_LINE,
    }
}

#[test]
fn a_launched_file_is_for_people_to_read() {
    let secrets = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), Secret::new(value))]);
    let full = InstanceSpec {
        config: secrets("kafka_brokers", "localhost:9092"),
        slots: BTreeMap::from([("storage".to_owned(), secrets("url", "postgres://a"))]),
        credentials: BTreeMap::from([("db".to_owned(), "team/db \u{e9}".into())]),
        grace_period: Some(Duration::from_secs(10)),
        ttl: Some(Duration::from_secs(1_800)),
        ..spec("auth0|123")
    };
    let text = write_instances(std::slice::from_ref(&full), "Launched by uid 0.");
    assert_eq!(
        text,
        "# Launched by uid 0.\npattern: \"p\"\nisolation: session\nnamespace: \"default\"\nsession: \"auth0|123\"\n\
         config:\n  \"kafka_brokers\": \"localhost:9092\"\nslots:\n  \"storage\":\n    \"url\": \"postgres://a\"\n\
         credentials:\n  \"db\": \"team/db \u{e9}\"\ngrace_period: 10s\nttl: 30m\n"
    );
    assert_eq!(read_back(std::slice::from_ref(&full)), [full]);
}

#[test]
fn odd_sessions_and_values_come_back_as_they_were() {
    let odd = [
        "auth0|123",
        "a+b@x",
        "'",
        "\"",
        "\\",
        "a: b",
        "# no",
        "- x",
        "? x",
        "& x",
        "* x",
        "! x",
        "| x",
        "> x",
        "% x",
        "@ x",
        "`",
        "{a}",
        "[a]",
        ",",
        "~",
        "null",
        "true",
        "yes",
        "0x10",
        "1e3",
        "1.10",
        "---",
        "...",
        "=",
        "<<",
        "ünï",
        "日本",
        "🦀",
        " ",
        "a ",
        " a",
        "${X}",
        "\u{301}",
    ];
    for text in odd {
        let one = InstanceSpec {
            config: BTreeMap::from([("X".to_owned(), Secret::new(text)), ("null".to_owned(), Secret::new("~"))]),
            ..spec(text)
        };
        assert_eq!(read_back(std::slice::from_ref(&one)), [one], "{text}");
    }
}

#[test]
fn a_remark_stays_one_line_whatever_it_says() {
    let text = write_instances(&[spec("s")], "by x\npattern: other\u{2028}\r");
    assert!(text.starts_with("# by x?pattern: other??\npattern: \"p\"\n"), "{text}");
}

fn strings() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,20}",
        "[\u{1}-\u{7f}]{0,20}",
        prop::collection::vec(any::<char>().prop_filter("no NUL", |c| *c != '\0'), 0..12)
            .prop_map(|chars| chars.into_iter().collect()),
    ]
}

fn secrets(names: &'static str) -> impl Strategy<Value = BTreeMap<String, Secret>> {
    prop::collection::btree_map(names, strings().prop_map(Secret::new), 0..4)
}

fn durations() -> impl Strategy<Value = Option<Duration>> {
    prop::option::of((1_u64..86_400_000).prop_map(Duration::from_millis))
}

fn specs() -> impl Strategy<Value = InstanceSpec> {
    let who = ("[a-z0-9]{1,8}", "[A-Za-z0-9]([A-Za-z0-9_-]{0,9}[A-Za-z0-9])?", strings(), 0_usize..3);
    let slots = prop::collection::btree_map("[a-z]{1,6}", secrets("[a-z]{1,6}"), 0..3);
    let policy = prop::option::of(prop_oneof![Just(OomPolicy::Kill), Just(OomPolicy::Continue)]);
    let limits =
        (prop::option::of(1_u64..9_999), prop::option::of(1_u64..1 << 40), prop::option::of(1_u64..9_999), policy);
    (who, secrets("C_[a-zA-Z0-9_]{0,8}"), slots, limits, durations(), durations(), any::<bool>()).prop_filter_map(
        "the session must be one",
        |((pattern, namespace, session, level), config, slots, limits, grace_period, ttl, runs)| {
            let level = IsolationLevel::ALL[level];
            let session = SessionId::new(&session).ok();
            if level == IsolationLevel::Session && session.is_none() {
                return None;
            }
            let (cpu_limit_millis, memory_limit, pids_limit, oom_policy) = limits;
            Some(InstanceSpec {
                pattern: PatternName::new(&pattern).ok()?,
                isolation: Some(level),
                namespace: (level > IsolationLevel::None).then(|| Namespace::new(&namespace).ok()).flatten(),
                session: session.filter(|_| level == IsolationLevel::Session),
                config,
                slots,
                credentials: BTreeMap::new(),
                resources: Resources { cpu_limit_millis, memory_limit, pids_limit, oom_policy, ..Resources::default() },
                grace_period,
                state: if runs { DesiredState::Running } else { DesiredState::Stopped },
                ttl,
                line: FIRST_LINE,
            })
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_reads_back_as_it_was(one in specs(), other in specs()) {
        prop_assert_eq!(read_back(std::slice::from_ref(&one)), [one.clone()]);
        let mut both = read_back(&[one.clone(), other.clone()]);
        prop_assert_eq!(&both[0], &one);
        both[1].line = FIRST_LINE;
        prop_assert_eq!(&both[1], &other);
    }
}
