//! `prismctl pattern explain`: what somebody reads who does not know the code, for failures that people have. The texts lie
//! beside this file; `UPDATE_EXPLAINED=1` writes them anew, to be read before they are committed.

mod normal;

use crate::limits::limits_memory;
use crate::world::{Daemon, Prismctl, World, wait_for};
use normal::normal;
use pattern_launcher::model::{KeyStatus, ProcessState};
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A failure: the file with its text, the process id, and the words of the text that are its cause.
type Prepared = (&'static str, &'static str, &'static [&'static str]);

const FAILURES: [Prepared; 10] = [
    ("wrong-path", "ns:a:wrong-path", &["EXECUTABLE_NOT_FOUND", "/wrong-path/./nowhere", "manifest.yaml"]),
    ("not-executable", "ns:a:not-executable", &["EXECUTABLE_NOT_RUNNABLE", "chmod +x"]),
    ("missing-library", "ns:a:missing-library", &["libnot_s.so.1: cannot open shared object file"]),
    ("port-taken", "ns:a:port-taken", &["cannot listen on", "Address already in use"]),
    ("health-404", "ns:a:health-404", &["startup_timeout", "GET /nowhere answered 404: not found"]),
    ("health-slow", "ns:a:health-slow", &["HEALTH_CHECK_FAILED", "did not answer within 200ms"]),
    ("quota", "ns:full:second", &["WaitingForQuota", "namespace 'full' may have 1 process", "ns:full:first"]),
    ("invalid-file", "ns:a:edited", &["InvalidFile", "edited.yaml:3", "confg", "config"]),
    ("circuit-open", "ns:a:circuit-open", &["MAX_ERRORS_EXCEEDED", "exit code 3", "prismctl pattern reset"]),
    ("undeclared", "ns:a:undeclared", &["PROCESS_NOT_FOUND", "undeclared.yaml:2", "PATTERN_NOT_FOUND"]),
];

/// A pattern whose manifest is given whole, but for its name and version.
fn manifest(world: &World, name: &str, rest: &str) {
    let folder = world.patterns().join(name);
    fs::create_dir_all(&folder).unwrap();
    world.put(&folder.join("manifest.yaml"), &format!("name: {name}\nversion: 1.0.0\n{rest}\n"));
}

/// A copy of a program that needs a library which nobody has.
fn without_its_library(program: &Path) {
    let mut bytes = fs::read(program).unwrap();
    let (needed, missing) = (b"libgcc_s.so.1\0", b"libnot_s.so.1\0");
    let places: Vec<usize> =
        bytes.windows(needed.len()).enumerate().filter(|(_, at)| at == needed).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{} does not need it anyway", program.display());
    for at in places {
        bytes[at..at + missing.len()].copy_from_slice(missing);
    }
    fs::write(program, bytes).unwrap();
}

/// Everything that fails, each in its own way.
fn prepare(world: &World, taken: u16) {
    manifest(world, "wrong-path", "executable: ./nowhere");
    world.pattern("not-executable", "sleeper", "");
    fs::set_permissions(world.program("not-executable"), fs::Permissions::from_mode(0o644)).unwrap();
    world.pattern("missing-library", "sleeper", "");
    without_its_library(&world.program("missing-library"));
    world.pattern("port-taken", "hello", "");
    manifest(world, "port-taken", &format!("executable: sh\nargs: [-c, 'HEALTH_PORT={taken} exec ./port-taken']"));
    world.pattern("health-404", "hello", "healthcheck: { path: /nowhere, startup_timeout: 2s }");
    let slow = "healthcheck: { path: /, interval: 100ms, timeout: 200ms, failure_threshold: 2 }";
    world.pattern("health-slow", "flaky", &format!("args: [--after-ms, '1500', --then, hang]\n{slow}"));
    manifest(world, "circuit-open", "executable: sh\nargs: [-c, 'echo cannot reach the database; exit 3']");
    for pattern in ["first", "second", "edited"] {
        world.pattern(pattern, "sleeper", "");
    }
    for (name, id, _) in FAILURES.iter().filter(|(name, id, _)| id.ends_with(name) && *name != "undeclared") {
        world.desire(&format!("{name}.yaml"), &format!("pattern: {name}\nnamespace: a\n"));
        assert!(id.starts_with("ns:a:"));
    }
    world.desire("first.yaml", "pattern: first\nnamespace: full\n");
    world.desire("edited.yaml", "pattern: edited\nnamespace: a\nconfig: { A: 1 }\n");
    world.desire("undeclared.yaml", "pattern: undeclared\nnamespce: a\n");
}

fn has_failed(key: &KeyStatus) -> bool {
    key.circuit_open && key.state == ProcessState::Failed && key.pid.is_none()
}

/// Waits until each has failed for good, or waits for good.
fn settle(world: &World, daemon: &Daemon) {
    daemon.settled("ns:full:first");
    daemon.settled("ns:a:edited");
    world.desire("second.yaml", "pattern: second\nnamespace: full\n");
    world.desire("edited.yaml", "pattern: edited\nnamespace: a\nconfg: { A: 2 }\n");
    daemon.wait("all have failed", |status| {
        let failed = FAILURES.iter().filter(|(_, id, _)| status.key(id).is_some_and(has_failed)).count();
        let others =
            status.has_condition("WaitingForQuota", "full") && status.has_condition("InvalidFile", "edited.yaml");
        (failed == 7 && others && status.has_condition("InvalidFile", "undeclared.yaml")).then_some(())
    });
}

fn beside(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/e2e/explain").join(format!("{name}.txt"))
}

#[test]
fn each_explanation_leads_to_the_cause() {
    let world = World::new();
    let squatter = TcpListener::bind(("127.0.0.1", world.ports().beside())).unwrap();
    prepare(&world, squatter.local_addr().unwrap().port());
    let flags = [("--max-errors", "2"), ("--backoff-period", "20ms"), ("--circuit-retry", "off")];
    let launch = flags.iter().fold(world.launch(), |launch, (name, value)| launch.flag(name, *value));
    let daemon = launch.flag("--namespace-limits", "namespace=full,instances=1").start();
    settle(&world, &daemon);
    let prismctl = Prismctl::of(&world);
    let wrong: Vec<String> = FAILURES.iter().filter_map(|failure| explained(&prismctl, &world, failure)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// How what is said of a failure differs from what is expected. Panics where it does not lead to the cause.
fn explained(prismctl: &Prismctl, world: &World, (name, id, causes): &Prepared) -> Option<String> {
    let said = prismctl.run(&format!("pattern explain {id}"));
    let text = normal(&format!("{}{}", said.out, said.err), &world.root());
    assert_eq!(said.code, if *name == "undeclared" { 3 } else { 0 }, "{text}");
    for cause in *causes {
        assert!(text.contains(cause), "no {cause:?} in what is said of {name}:\n{text}");
    }
    if std::env::var_os("UPDATE_EXPLAINED").is_some() {
        fs::write(beside(name), &text).unwrap();
    }
    let expected = fs::read_to_string(beside(name)).unwrap_or_default();
    (text != expected).then(|| format!("--- {name}, expected\n{expected}\n--- {name}, said\n{text}"))
}

#[test]
fn an_explanation_of_too_much_memory_leads_to_the_limit() {
    let world = World::new();
    world.pattern("hog", "memory_hog", "args: [--mib, '512']\nresources: { memory_limit: 32Mi }");
    world.pattern("good", "sleeper", "resources: { memory_limit: 32Mi }");
    world.desire("good.yaml", "pattern: good\nnamespace: b\n");
    let flags = [("--max-errors", "2"), ("--backoff-period", "20ms"), ("--circuit-retry", "off")];
    let daemon = flags.iter().fold(world.launch(), |launch, (name, value)| launch.flag(name, *value)).start();
    if !limits_memory(&daemon, "ns:b:good") {
        return;
    }
    world.desire("hog.yaml", "pattern: hog\nnamespace: a\n");
    daemon.wait("it has failed", |status| status.key("ns:a:hog").filter(|key| has_failed(key)).map(drop));
    let oom: Prepared = ("oom", "ns:a:hog", &["RESOURCE_LIMIT_EXCEEDED", "memory_limit=32Mi", "peak=", "give it more"]);
    let wrong = explained(&Prismctl::of(&world), &world, &oom);
    assert_eq!(wrong, None, "{}", wrong.as_deref().unwrap_or_default());
}

#[test]
fn an_explanation_says_where_it_comes_from_and_who_asked() {
    let world = World::new();
    world.pattern("hello", "hello", "healthcheck: { path: /health, interval: 100ms }");
    let commit = "0123456789abcdef0123456789abcdef01234567";
    let git = world.desired().join(".git");
    fs::create_dir_all(git.join("refs/heads")).unwrap();
    fs::write(git.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    fs::write(git.join("refs/heads/main"), format!("{commit}\n")).unwrap();
    world.desire("a.yaml", "pattern: hello\nnamespace: a\n");
    let daemon = world.start();
    let pid = daemon.settled("ns:a:hello");
    let prismctl = Prismctl::of(&world);
    let explained = wait_for("a probe of it has been answered", || {
        Some(prismctl.done("pattern explain ns:a:hello")).filter(|text| text.contains("found it healthy"))
    });
    let place = format!(
        "It is declared in {}:1, in a git work tree at commit 0123456789ab of main.",
        world.desired().join("a.yaml").display()
    );
    for line in [
        place.as_str(),
        &format!("It runs as pid {pid} for "),
        "found it healthy: GET /health answered.",
        "ns:a:hello serves on port",
    ] {
        assert!(explained.contains(line), "no {line:?} in\n{explained}");
    }
    assert!(!explained.contains("What to do"), "{explained}");

    prismctl.done("pattern launch hello --namespace b");
    let launched = prismctl.done("pattern explain ns:b:hello");
    assert!(launched.contains(", launched by uid ") && launched.contains(" at 20"), "{launched}");
    prismctl.done("pattern suspend ns:b:hello --reason maintenance");
    let suspended = prismctl.done("pattern explain ns:b:hello");
    assert!(
        suspended.contains("maintenance") && suspended.contains("What to do: prismctl pattern resume ns:b:hello."),
        "{suspended}"
    );
    prismctl.done("pattern terminate ns:b:hello");
    let gone = prismctl.refused("pattern explain ns:b:hello", 3);
    assert!(gone.err.contains("the last that happened to it was 'launch ended'"), "{}", gone.err);
    assert!(gone.err.contains("prismctl pattern launch hello --isolation namespace --namespace b"), "{}", gone.err);
}

#[test]
fn no_explanation_shows_a_secret() {
    const SECRET: &str = "s3cr3t";
    let world = World::new();
    let says = "echo \"token $API_TOKEN, url $SLOT_DB_URL, password $PASSWORD\"";
    manifest(
        &world,
        "talks",
        &format!(
            "executable: sh\nargs: [-c, '{says}; sleep 1000']\nenvironment: {{ PASSWORD: {SECRET}-environment }}\n\
             backend_slots: [{{ name: db, type: postgres }}]\n\
             healthcheck: {{ type: exec, command: [sh, -c, '{says}; exit 1'], interval: 50ms, startup_timeout: 300ms }}"
        ),
    );
    let config = format!("config: {{ API_TOKEN: {SECRET}-config, LEVEL: debug }}");
    let slots = format!("slots: {{ db: {{ url: 'postgres://u:{SECRET}-slot@h/d' }} }}");
    world.desire("a.yaml", &format!("pattern: talks\nnamespace: a\n{config}\n{slots}\n"));
    let daemon = world.launch().flag("--max-errors", "2").flag("--backoff-period", "20ms").start();
    daemon.wait("it has failed", |status| status.key("ns:a:talks").filter(|key| has_failed(key)).map(drop));
    let prismctl = Prismctl::of(&world);
    for format in ["", " -o json", " -o yaml"] {
        let text = prismctl.done(&format!("pattern explain ns:a:talks{format}"));
        assert!(text.contains("token ***, url postgres://u:***@h/d, password ***"), "{text}");
        assert!(!text.contains(SECRET), "{text}");
    }
}
