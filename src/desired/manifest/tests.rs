use super::*;
use crate::model::{LimitName, OomPolicy, Privileges, ProcessLimit, Protection, Resources, Secret};
use std::collections::BTreeMap;

fn parse(text: &str) -> Result<Manifest> {
    parse_manifest(Path::new("patterns/consumer/manifest.yaml"), Path::new("/srv/patterns/consumer"), text.as_bytes())
}

/// A minimal manifest and what is added to it.
fn with(text: &str) -> Result<Manifest> {
    parse(&format!("name: consumer\nversion: 1.0.0\nexecutable: ./consumer\n{text}"))
}

fn refused(text: &str) -> String {
    let error = with(text).expect_err(text);
    assert_eq!(error.code(), Code::InvalidManifest);
    let message = error.message().strip_prefix("patterns/consumer/manifest.yaml:").expect("the file first");
    match error.suggestion() {
        Some(suggestion) => format!("{message}; {suggestion}"),
        None => message.to_owned(),
    }
}

/// The example of the product contract.
const SAMPLE: &str = r#"
name: consumer
version: 1.0.0
executable: ./consumer
args: ["--tenant", "$(NAMESPACE)"]
isolation_level: namespace
minimum_isolation: namespace
healthcheck:
  type: http
  port: 9090
  path: /health
  command: []
  interval: 30s
  timeout: 5s
  failure_threshold: 3
  success_threshold: 1
  startup_timeout: 30s
resources:
  cpu_limit: 1.0
  memory_limit: 256Mi
  cpu_request: 0.5
  memory_request: 128Mi
  pids_limit: 512
environment: { LOG_LEVEL: info }
backend_slots: [ { name: storage, type: postgres, required: true } ]
lifecycle: { stop_signal: SIGTERM, grace_period: 10s, restart: always }
description: free text
author: free text
"#;

#[test]
fn the_contracts_example_reads_as_it_says() {
    let seconds = Duration::from_secs;
    let manifest = parse(SAMPLE).expect("the example");
    let name = PatternName::new("consumer").expect("a name");
    let expected = Manifest {
        name,
        isolation_level: Some(IsolationLevel::Namespace),
        minimum_isolation: Some(IsolationLevel::Namespace),
        revision: PatternRevision {
            version: "1.0.0".to_owned(),
            folder: "/srv/patterns/consumer".into(),
            executable: "./consumer".to_owned(),
            digest: None,
            args: vec!["--tenant".to_owned(), "$(NAMESPACE)".to_owned()],
            environment: BTreeMap::from([("LOG_LEVEL".to_owned(), Secret::new("info"))]),
            preferred_port: Some(9090),
            privileges: Privileges::default(),
        },
        healthcheck: Some(HealthCheck {
            target: ProbeTarget::Http { path: "/health".to_owned() },
            interval: seconds(30),
            timeout: seconds(5),
            failure_threshold: 3,
            success_threshold: 1,
            startup_timeout: seconds(30),
            answered_by: Answerer::Own,
        }),
        resources: Resources {
            cpu_limit_millis: Some(1_000),
            memory_limit: Some(256 << 20),
            cpu_request_millis: Some(500),
            memory_request: Some(128 << 20),
            pids_limit: Some(512),
            oom_policy: None,
        },
        lifecycle: Lifecycle {
            stop_signal: StopSignal::Term,
            grace_period: seconds(10),
            restart: RestartPolicy::Always,
        },
        slots: vec![Slot { name: "storage".to_owned(), kind: Some("postgres".to_owned()), required: true }],
        description: Some("free text".to_owned()),
        author: Some("free text".to_owned()),
    };
    assert_eq!(manifest, expected);
}

#[test]
fn a_policy_for_want_of_memory_is_one_of_two_words() {
    let manifest = with("resources: { oom_policy: continue }").expect("valid");
    assert_eq!(manifest.resources.oom_policy, Some(OomPolicy::Continue));
    let error = refused("resources: { oom_policy: stop }");
    assert!(error.contains("'resources.oom_policy' must be kill or continue, and is 'stop'"), "{error}");
}

#[test]
fn what_is_left_out_has_its_default() {
    let manifest = with("healthcheck: {}\n").expect("minimal");
    assert_eq!(manifest.healthcheck, parse(&SAMPLE.replace("port: 9090", "")).expect("sample").healthcheck);
    assert_eq!(manifest.lifecycle, parse(SAMPLE).expect("sample").lifecycle);
    assert_eq!(with("").expect("minimal").healthcheck, None);
    assert_eq!(with("healthcheck:\nresources:\nargs:\n").expect("empty values").healthcheck, None);
}

#[test]
fn each_kind_of_probe_has_its_own_fields() {
    let target = |text: &str| with(text).expect(text).healthcheck.expect("a check").target;
    assert_eq!(target("healthcheck: { type: tcp }"), ProbeTarget::Tcp);
    assert_eq!(target("healthcheck: { type: grpc }"), ProbeTarget::Grpc);
    assert_eq!(
        target("healthcheck: { type: exec, command: [test, -e, x] }"),
        ProbeTarget::Exec { command: ["test", "-e", "x"].map(str::to_owned).to_vec() }
    );
    assert_eq!(
        refused("healthcheck: { type: exec }\n"),
        "4:14: a health check of type exec needs 'healthcheck.command'; add it, such as 'command: [./check]'"
    );
    assert_eq!(
        refused("healthcheck:\n  type: tcp\n  path: /x\n"),
        "6:3: 'healthcheck.path' belongs to type http, and the type is tcp; remove 'path', or write 'type: http'"
    );
    assert_eq!(
        refused("healthcheck:\n  command: [a]\n"),
        "5:3: 'healthcheck.command' belongs to type exec, and the type is http; remove 'command', or write 'type: exec'"
    );
    assert_eq!(
        refused("healthcheck: { path: health }\n"),
        "4:22: 'healthcheck.path' must begin with '/', and is 'health'; write 'path: /health'"
    );
    assert_eq!(
        refused("healthcheck: { type: HTTP }\n"),
        "4:22: 'healthcheck.type' must be http, tcp, exec or grpc, and is 'HTTP'; write 'http' in place of 'HTTP'"
    );
}

#[test]
fn every_number_and_duration_has_bounds() {
    for bad in [
        "healthcheck: { port: 0 }",
        "healthcheck: { port: 65536 }",
        "healthcheck: { port: -1 }",
        "healthcheck: { port: a }",
        "healthcheck: { port: 1.5 }",
        "healthcheck: { interval: 0s }",
        "healthcheck: { interval: 25h }",
        "healthcheck: { timeout: 5 }",
        "healthcheck: { startup_timeout: 0 }",
        "healthcheck: { failure_threshold: 0 }",
        "healthcheck: { success_threshold: 0 }",
        "resources: { cpu_limit: 0 }",
        "resources: { cpu_limit: -1 }",
        "resources: { cpu_limit: .inf }",
        "resources: { cpu_limit: 1e9 }",
        "resources: { memory_limit: 0 }",
        "resources: { memory_limit: 1Qi }",
        "resources: { pids_limit: 0 }",
        "lifecycle: { grace_period: 48h }",
        "lifecycle: { stop_signal: SIGSTOP }",
        "lifecycle: { restart: sometimes }",
        "isolation_level: tenant",
    ] {
        refused(bad);
    }
    assert_eq!(
        refused("healthcheck: { port: 99999 }"),
        "4:22: 'healthcheck.port' must be a whole number, 1 to 65535, and is '99999'"
    );
    assert_eq!(
        refused("healthcheck:\n  interval: 30\n"),
        "5:13: 'healthcheck.interval': '30' is not a duration; write it as 30s, 1m30s or 500ms"
    );
    assert_eq!(
        refused("lifecycle: { stop_signal: TERM }"),
        "4:27: 'lifecycle.stop_signal' must be SIGTERM, SIGINT, SIGQUIT, SIGHUP, SIGUSR1, SIGUSR2, SIGWINCH or SIGKILL, \
         and is 'TERM'; write 'SIGTERM' in place of 'TERM'"
    );
    let zero = with("lifecycle: { grace_period: 0s }").expect("killed at once").lifecycle.grace_period;
    assert_eq!(zero, Duration::ZERO);
}

#[test]
fn a_request_is_not_above_its_limit() {
    assert_eq!(
        refused("resources:\n  memory_limit: 1Gi\n  memory_request: 2Gi\n"),
        "6:19: 'memory_request' is more than 'memory_limit'; raise 'memory_limit' or lower 'memory_request'"
    );
    refused("resources: { cpu_limit: 500m, cpu_request: 0.6 }");
    with("resources: { cpu_limit: 500m, cpu_request: 0.5 }").expect("equal");
}

#[test]
fn names_must_agree_and_required_fields_be_there() {
    let error = |text: &str| parse(text).expect_err(text);
    let missing = error("name: consumer\nexecutable: ./consumer\n");
    assert_eq!(missing.message(), "patterns/consumer/manifest.yaml:1:1: 'version' is missing");
    assert_eq!(missing.suggestion(), Some("add 'version: 1.0.0'"));
    assert_eq!(
        error("name: other\nversion: 1\nexecutable: x\n").suggestion(),
        Some("write 'name: consumer', or rename the folder: mv /srv/patterns/consumer other")
    );
    assert!(error("name: Consumer\nversion: 1\nexecutable: x\n").message().contains("lower-case letters"));
    assert!(error("name: ~\nversion: 1\nexecutable: x\n").message().contains("'name' has no value"));
    assert!(error("name: consumer\nversion: 1\nexecutable: ''\n").message().contains("'executable' is empty"));
    assert!(error("name: consumer\nversion: 1\nexecutable: \"a\\0b\"\n").message().contains("NUL"));
    assert!(error("").message().contains("the manifest is empty"));
    assert!(error(&format!("{SAMPLE}---\n{SAMPLE}")).message().contains("another begins"));
    assert_eq!(
        refused("isolation_level: none\nminimum_isolation: session\n"),
        "4:18: 'isolation_level' is none, less than 'minimum_isolation', which is session; \
         write 'isolation_level: session', or lower 'minimum_isolation'"
    );
}

#[test]
fn the_launchers_own_variables_cannot_be_overridden() {
    for name in crate::model::environment::RESERVED {
        refused(&format!("environment: {{ {name}: x }}"));
    }
    assert_eq!(
        refused("environment:\n  my-var: x\n"),
        "5:3: 'my-var' in 'environment' cannot be the name of an environment variable; write it as 'my_var'"
    );
    let manifest = with("environment: { PATH: /x, LD_PRELOAD: y }").expect("a manifest may");
    assert_eq!(manifest.revision.environment.len(), 2);
    refused(&format!("environment: {{ A: {} }}", "x".repeat(130_000 + 1_072)));
}

#[test]
fn slots_have_names_of_their_own() {
    assert_eq!(
        refused("backend_slots:\n  - name: a-b\n  - name: a_b\n"),
        "6:11: two slots become SLOT_A_B_…; rename or remove one 'a_b'"
    );
    assert_eq!(
        refused("backend_slots: [ { type: x } ]\n"),
        "4:18: 'backend_slots.0.name' is missing; add 'name: storage'"
    );
    refused("backend_slots: [ { name: 'a b' } ]");
    refused("backend_slots: [ { name: a, required: maybe } ]");
    refused("backend_slots: [ a ]");
}

#[test]
fn cores_are_read_as_people_write_them() {
    use super::super::fields::parse_cores;
    for (text, millis) in [
        ("1", Some(1_000)),
        ("1.0", Some(1_000)),
        ("0.5", Some(500)),
        ("500m", Some(500)),
        ("0.0015", Some(1)),
        ("2.25", Some(2_250)),
    ] {
        assert_eq!(parse_cores(text), millis, "{text}");
    }
    for bad in ["", "m", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "0x1", "99999999999999999999"] {
        assert_eq!(parse_cores(bad), None, "{bad}");
    }
}

#[test]
fn whom_a_process_runs_as_and_its_limits_read_as_they_are_written() {
    let text = "user: www-data\ngroup: 33\numask: \"0027\"\nnice: -5\noom_score_adj: 200\n\
                rlimits: { nofile: \"1024:4096\", core: unlimited, nproc: 64 }\n\
                protection: { no_new_privileges: false, own_folders: false }\n";
    let limit = |soft, hard| ProcessLimit { soft, hard };
    let expected = Privileges {
        user: Some("www-data".to_owned()),
        group: Some("33".to_owned()),
        umask: Some(0o027),
        nice: Some(-5),
        oom_score_adj: Some(200),
        rlimits: BTreeMap::from([
            (LimitName::Nofile, limit(Some(1024), Some(4096))),
            (LimitName::Core, limit(None, None)),
            (LimitName::Nproc, limit(Some(64), Some(64))),
        ]),
        protection: BTreeMap::from([(Protection::NoNewPrivileges, false), (Protection::OwnFolders, false)]),
    };
    assert_eq!(with(text).expect("valid").revision.privileges, expected);
    assert!(with("").expect("minimal").revision.privileges.is_default());
}

#[test]
fn what_cannot_be_a_user_a_limit_or_a_protection_is_refused_where_it_stands() {
    for (text, message) in [
        ("umask: 0888", "'umask' must be an octal number up to 0777, and is '0888'"),
        ("umask: \"1000\"", "'umask' must be an octal number up to 0777, and is '1000'"),
        ("nice: 20", "'nice' must be a whole number from -20 to 19, and is '20'"),
        ("oom_score_adj: much", "'oom_score_adj' must be a whole number from -1000 to 1000, and is 'much'"),
        ("user: 4294967295", "'user' must be a name or a number below 4294967295, and is '4294967295'"),
        (
            "rlimits: { nofile: \"9:8\" }",
            "'rlimits.nofile' must not have a soft limit above the hard one, and is '9:8'",
        ),
        ("rlimits: { nofile: unlimited:8 }", "'rlimits.nofile' must not have a soft limit above the hard one"),
        ("rlimits: { core: -1 }", "'rlimits.core' must be a number or unlimited"),
        ("rlimits: { files: 9 }", "unknown key 'files'"),
        ("protection: { own_user: maybe }", "'protection.own_user' must be true or false, and is 'maybe'"),
        ("protection: { own_session: false }", "unknown key 'own_session'"),
        ("user: a\nprotection: { own_user: true }", "'user' names a user, and 'protection.own_user' asks for one"),
        ("user: a\nprotection: { own_folders: true }", "only a process with a user of its own has folders of its own"),
    ] {
        let error = refused(&format!("{text}\n"));
        assert!(error.contains(message), "{text}: {error}");
    }
}
