//! What Prometheus makes of a launcher: its own checks of what is told, of the alerts, and a real server that scrapes.

mod server;

use crate::world::api::{Client, tenant};
use crate::world::command::{finished, program};
use crate::world::{Daemon, Prismctl, World, signal, wait_for};
use server::Server;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// Names a folder with `prometheus` and `promtool`; the `PATH` is searched without it.
const FOLDER: &str = "PATTERN_LAUNCHER_TEST_PROMETHEUS";

/// The folder with both programs. Without them what needs them is left out, and says so.
fn tools() -> Option<PathBuf> {
    let has_both = |folder: &PathBuf| ["prometheus", "promtool"].iter().all(|name| folder.join(name).exists());
    if let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) {
        // Where it is named it has to be there: a test that is always left out proves nothing.
        assert!(has_both(&folder), "{} lacks prometheus or promtool", folder.display());
        return Some(folder);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).find(has_both);
    if found.is_none() {
        eprintln!("skipped: no prometheus and promtool on the PATH, nor in {FOLDER}: apt-get install prometheus");
    }
    found
}

/// The files for Prometheus in the repository.
fn deployed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus").join(name)
}

#[test]
fn the_configuration_and_the_alerts_are_valid_and_fire_when_they_should() {
    let Some(tools) = tools() else { return };
    let folder = tempfile::tempdir().unwrap();
    let checks =
        [["check", "config", "prometheus.yml"], ["check", "rules", "rules.yml"], ["test", "rules", "rules.test.yml"]];
    for [verb, what, file] in checks {
        let mut command = program(tools.join("promtool"));
        let output = finished(command.args([verb, what]).arg(deployed(file)), folder.path());
        assert!(output.status.success(), "promtool {verb} {what} {file}: {output:?}");
    }
}

/// What `promtool check metrics` has to say.
fn complaints(tools: &Path, metrics: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics");
    fs::write(&path, metrics).unwrap();
    let mut command = program(tools.join("promtool"));
    command.args(["check", "metrics"]).stdin(File::open(&path).unwrap());
    let output = finished(&mut command, folder.path());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.success(), said.is_empty(), "{said}");
    said.lines().map(str::to_owned).collect()
}

/// The one name that breaks the rules: a gauge that ends like a counter, as clients of earlier versions know it.
const ODD_NAME: &str = r#"pattern_launcher_processes_total non-counter metrics should not have "_total" suffix"#;

/// What happens in both tests: two processes of files, three that are launched, one of which is killed and comes back;
/// one that ends at once until its circuit opens, one that has done its work, and one that is suspended.
fn eventful(world: &World) -> Daemon {
    // Asked once when it is healthy, and then not again for as long as the test takes.
    world.pattern("hello", "hello", "healthcheck: { path: /health, interval: 1h }");
    world.pattern("broken", "flaky", "args: [\"--after-ms\", \"0\"]");
    world.pattern("done", "flaky", "args: [\"--after-ms\", \"0\", \"--code\", \"0\"]\nlifecycle: { restart: never }");
    world.desire_many("two.yaml", "hello", 2, "");
    world.desire("broken.yaml", "pattern: broken\nnamespace: a\n");
    world.desire("done.yaml", "pattern: done\nnamespace: a\n");
    let flags = [("--max-errors", "3"), ("--backoff-period", "50ms"), ("--circuit-retry", "off")];
    let daemon = flags.iter().fold(world.launch(), |launch, (name, value)| launch.flag(name, *value)).start();
    let client = Client::of(world);
    for tenant_name in ["x", "y", "z"] {
        client.launch(tenant("hello", tenant_name)).unwrap();
    }
    let killed = daemon.settled("ns:x:hello");
    signal(killed, "KILL");
    daemon.wait("it is back", |status| status.settled("ns:x:hello").filter(|pid| *pid != killed));
    Prismctl::of(world).done("pattern suspend ns:y:hello --reason maintenance");
    daemon.wait("the circuit is open", |status| status.key("ns:a:broken")?.circuit_open.then_some(()));
    daemon.wait("it has finished", |status| {
        status.state("ns:a:done").filter(|state| *state == pattern_launcher::model::ProcessState::Finished)
    });
    daemon.settled("ns:n0:hello");
    daemon.settled("ns:n1:hello");
    daemon
}

#[test]
fn what_is_told_is_well_formed() {
    let Some(tools) = tools() else { return };
    let world = World::new();
    let daemon = eventful(&world);
    let metrics = wait_for("usage is sampled", || {
        let (_, metrics) = daemon.get("/metrics")?;
        metrics.contains("pattern_launcher_process_memory_bytes{").then_some(metrics)
    });
    assert_eq!(complaints(&tools, &metrics), [ODD_NAME]);
    // Had it another fault, that would be told as well.
    let worse = metrics + "# TYPE pattern_launcher_faults counter\npattern_launcher_faults 1\n";
    assert!(complaints(&tools, &worse).len() > 1);
}

#[test]
fn a_server_that_scrapes_it_finds_what_happened() {
    let Some(tools) = tools() else { return };
    let world = World::new();
    let daemon = eventful(&world);
    let server = Server::start(&tools, &world, &deployed("rules.yml"));
    let hello = r#"pattern="hello""#;
    let expected = [
        ("up".to_owned(), 1.0),
        ("pattern_launcher_ready".to_owned(), 1.0),
        ("sum(pattern_launcher_processes_total)".to_owned(), 7.0),
        (r#"pattern_launcher_processes_total{state="running"}"#.to_owned(), 4.0),
        (r#"pattern_launcher_processes_total{state="terminated"}"#.to_owned(), 1.0),
        (r#"pattern_launcher_processes_total{state="failed"}"#.to_owned(), 1.0),
        (r#"pattern_launcher_processes_total{state="finished"}"#.to_owned(), 1.0),
        (r#"pattern_launcher_isolation_level{level="namespace"}"#.to_owned(), 7.0),
        (r#"pattern_launcher_desired_instances{status="declared"}"#.to_owned(), 7.0),
        (r#"pattern_launcher_desired_instances{status="rejected"}"#.to_owned(), 0.0),
        ("pattern_launcher_circuit_open".to_owned(), 1.0),
        ("pattern_launcher_prune_blocked".to_owned(), 0.0),
        // Five, and one again.
        (format!("sum(pattern_launcher_process_starts_total{{{hello}}})"), 6.0),
        (r#"pattern_launcher_process_starts_total{namespace="x"}"#.to_owned(), 2.0),
        (r#"pattern_launcher_process_restarts_total{namespace="x"}"#.to_owned(), 1.0),
        // One was killed, and one is suspended.
        (format!("sum(pattern_launcher_process_stops_total{{{hello}}})"), 2.0),
        (format!("sum(pattern_launcher_process_failures_total{{{hello}}})"), 1.0),
        (
            r#"pattern_launcher_process_failures_total{namespace="x",reason="process_crashed",isolation="namespace"}"#
                .to_owned(),
            1.0,
        ),
        (r#"sum(pattern_launcher_process_starts_total{pattern="broken"})"#.to_owned(), 3.0),
        (r#"sum(pattern_launcher_process_restarts_total{pattern="broken"})"#.to_owned(), 2.0),
        (r#"pattern_launcher_process_failures_total{pattern="broken",reason="process_crashed"}"#.to_owned(), 3.0),
        (r#"sum(pattern_launcher_process_failures_total{pattern="done"})"#.to_owned(), 0.0),
        // Each start of it was probed until it was healthy, and then left alone.
        (format!(r#"pattern_launcher_health_checks_total{{{hello},result="success"}}"#), 6.0),
        (format!("pattern_launcher_cold_start_seconds_count{{{hello}}}"), 6.0),
        (r#"pattern_launcher_launch_duration_seconds_count{isolation="namespace"}"#.to_owned(), 3.0),
        // Each quantile is a launch that was there.
        (r"count(pattern_launcher_launch_duration_seconds > 0)".to_owned(), 3.0),
        ("count(pattern_launcher_process_memory_bytes > 0)".to_owned(), 4.0),
        ("count(pattern_launcher_build_info == 1)".to_owned(), 1.0),
        (r#"count(ALERTS{alertname="PatternLauncherCircuitOpen"})"#.to_owned(), 1.0),
        ("count(ALERTS)".to_owned(), 1.0),
    ];
    for (query, value) in expected {
        server.comes_to(&query, value);
    }
    let quantile = |share: &str| {
        let selected = format!(r#"{{isolation="namespace",quantile="{share}"}}"#);
        server.ask(&format!("pattern_launcher_launch_duration_seconds{selected}")).expect("a quantile")
    };
    let sum = server.ask(r#"pattern_launcher_launch_duration_seconds_sum{isolation="namespace"}"#).expect("a sum");
    let (half, most) = (quantile("0.5"), quantile("0.99"));
    assert!(half > 0.0 && half <= most && most <= sum, "{half} {most} {sum}");
    let warm = server.ask("histogram_quantile(0.5, sum by (le) (pattern_launcher_cold_start_seconds_bucket))");
    assert!(warm.is_some_and(|seconds| seconds > 0.0 && seconds < 30.0), "{warm:?}");

    // What ends is no longer told of as running, and an end by request is no failure.
    Client::of(&world).terminate("ns:z:hello").unwrap();
    server.comes_to(r#"pattern_launcher_processes_total{state="running"}"#, 3.0);
    server.comes_to(r#"sum(pattern_launcher_process_failures_total{pattern="hello"})"#, 1.0);
    server.comes_to(r#"pattern_launcher_process_stops_total{namespace="z"}"#, 1.0);
    daemon.kill();
    server.comes_to("up", 0.0);
}
