//! Counters never lie: they begin at zero with the launcher, never go down, and come to what happened.

use crate::world::api::{Client, tenant};
use crate::world::metrics::Samples;
use crate::world::{Daemon, World, signal, wait_for};
use std::collections::BTreeMap;
use std::fs;

const BY_INSTANCE: [&str; 4] =
    ["process_starts_total", "process_stops_total", "process_failures_total", "process_restarts_total"];

/// Bytes.
const MIB: f64 = 1024.0 * 1024.0;

#[test]
fn counters_begin_at_zero_with_the_launcher_and_what_is_adopted_was_not_started() {
    let world = World::new();
    world.pattern("hello", "hello", "healthcheck: { path: /health, interval: 1h }");
    world.desire_many("all.yaml", "hello", 3, "");
    let daemon = world.start();
    daemon.all_settled(3);
    let samples = Samples::of(&daemon).unwrap();
    assert_eq!(BY_INSTANCE.map(|name| samples.count(name, &[])), [3, 0, 0, 0]);
    assert_eq!(samples.count("cold_start_seconds_count", &[]), 3);
    let again = |daemon: &Daemon, id: &str| {
        let first = daemon.settled(id);
        signal(first, "KILL");
        daemon.wait("it is back", |status| status.settled(id).filter(|pid| *pid != first));
    };
    // What this launcher has restarted is none of the next one's restarts.
    again(&daemon, "ns:n0:hello");
    daemon.kill();

    let daemon = world.start();
    daemon.all_settled(3);
    let samples = Samples::of(&daemon).unwrap();
    assert_eq!(BY_INSTANCE.map(|name| samples.count(name, &[])), [0; 4], "{samples:?}");
    assert_eq!(samples.count("cold_start_seconds_count", &[]), 0, "what is adopted has warmed up before");
    assert_eq!(samples.count("launch_duration_seconds_count", &[]), 0);
    assert_eq!(samples.count("processes_total", &["state=\"running\""]), 3);

    again(&daemon, "ns:n1:hello");
    let samples = Samples::of(&daemon).unwrap();
    assert_eq!(BY_INSTANCE.map(|name| samples.count(name, &["namespace=\"n1\""])), [1; 4], "{samples:?}");
    assert_eq!(BY_INSTANCE.map(|name| samples.count(name, &[])), [1; 4], "and no other was touched");
}

#[test]
fn counters_never_go_down_and_come_to_what_happened() {
    let world = World::new();
    world.pattern("hello", "hello", "healthcheck: { path: /health, interval: 100ms }");
    world.pattern("ill", "flaky", "args: [\"--after-ms\", \"300\", \"--then\", \"unhealthy\"]\nhealthcheck: { path: /, interval: 50ms, timeout: 1s, failure_threshold: 2 }");
    world.pattern("crash", "flaky", "args: [\"--after-ms\", \"20\"]");
    world.desire_many("all.yaml", "hello", 4, "");
    world.desire("ill.yaml", "pattern: ill\nnamespace: a\n");
    world.desire_many("crash.yaml", "crash", 2, "");
    let daemon = world.launch().flag("--max-errors", "4").flag("--backoff-period", "20ms").start();
    let client = Client::of(&world);

    let mut last: BTreeMap<String, f64> = BTreeMap::new();
    let mut scrape = || {
        let samples = Samples::of(&daemon).unwrap();
        for (name, value) in samples.counting() {
            let before = last.insert(name.to_owned(), value).unwrap_or(0.0);
            assert!(value >= before, "{name} went from {before} to {value}");
        }
        samples
    };
    for round in 0..3 {
        client.launch(tenant("hello", &format!("launched-{round}"))).unwrap();
        scrape();
        let pid = daemon.settled("ns:n0:hello");
        signal(pid, "KILL");
        daemon.wait("it is back", |status| status.settled("ns:n0:hello").filter(|now| *now != pid));
        scrape();
        client.terminate(&format!("ns:launched-{round}:hello")).unwrap();
        scrape();
    }
    wait_for("the circuits are open", || {
        scrape();
        let status = daemon.status()?;
        let open = ["ns:n0:crash", "ns:n1:crash", "ns:a:ill"]
            .iter()
            .all(|id| status.key(id).is_some_and(|key| key.circuit_open));
        open.then_some(())
    });
    // A file that is gone takes its gauges along, and leaves what was counted.
    world.undesire("ill.yaml");
    daemon.gone("ns:a:ill");
    let samples = scrape();

    // What each process printed when it began, and what the history says, are told by others than the counters.
    let printed = |pattern: &str| -> usize {
        let logs = fs::read_dir(world.state().join("logs")).unwrap().map(|entry| entry.unwrap().path());
        let logs = logs.filter(|path| path.extension().is_some_and(|kind| kind == "log"));
        let of_pattern =
            logs.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(pattern)));
        of_pattern.map(|path| fs::read_to_string(path).unwrap().lines().count()).sum()
    };
    assert_eq!(samples.count("process_starts_total", &["pattern=\"hello\""]), printed("hello"));
    assert_eq!(samples.count("process_starts_total", &["pattern=\"hello\""]), 4 + 3 + 3);
    assert_eq!(samples.count("process_failures_total", &["pattern=\"crash\"", "reason=\"process_crashed\""]), 8);
    assert_eq!(samples.count("process_failures_total", &["pattern=\"ill\"", "reason=\"health_check_failed\""]), 4);
    assert_eq!(samples.count("process_restarts_total", &["pattern=\"crash\""]), 6);
    let json: serde_json::Value = serde_json::from_str(&daemon.get("/metrics.json").unwrap().1).unwrap();
    let over = |values: &serde_json::Value, pick: fn(&serde_json::Value) -> u64| -> u64 {
        values.as_object().unwrap().values().map(pick).sum()
    };
    assert_eq!(samples.count("process_failures_total", &[]), 8 + 4 + 3, "{samples:?}");
    assert_eq!(over(&json["failure_reasons"], |count| count.as_u64().unwrap()), 8 + 4 + 3, "{json}");
    assert_eq!(over(&json["patterns"], |counts| counts["failures"].as_u64().unwrap()), 8 + 4 + 3, "{json}");
    // Everything that was started has ended, or runs.
    let running = samples.count("processes_total", &["state=\"running\""]);
    assert_eq!(samples.count("process_starts_total", &[]), samples.count("process_stops_total", &[]) + running);
    assert_eq!(running, 4, "{samples:?}");
}

#[test]
fn a_program_that_burns_and_one_that_hoards_are_told_apart() {
    let world = World::new();
    world.pattern("hog", "memory_hog", "args: [\"--mib\", \"96\"]");
    world.pattern("idle", "sleeper", "");
    world.pattern("burner", "sleeper", "");
    let burner = world.patterns().join("burner").join("manifest.yaml");
    world.put(&burner, "name: burner\nversion: 1.0.0\nexecutable: sh\nargs: ['-c', 'while :; do :; done']\n");
    for pattern in ["hog", "idle", "burner"] {
        world.desire(&format!("{pattern}.yaml"), &format!("pattern: {pattern}\nnamespace: a\n"));
    }
    let daemon = world.start();
    daemon.all_settled(3);
    let of =
        |samples: &Samples, name: &str, pattern: &str| samples.sum(name, &[&format!("process_id=\"ns:a:{pattern}\"")]);
    let cpu = |pattern: &str| of(&Samples::of(&daemon).unwrap(), "process_cpu_seconds_total", pattern);
    let first = wait_for("it has burned something", || Some(cpu("burner")).filter(|seconds| *seconds > 0.0));
    let second = wait_for("it burns more", || Some(cpu("burner")).filter(|seconds| *seconds > first));
    let idle = cpu("idle");
    assert!(idle < second / 2.0 && idle < 1.0, "idle {idle}, burner {second}");

    let memory = |pattern: &str| of(&Samples::of(&daemon).unwrap(), "process_memory_bytes", pattern);
    let hoarded = wait_for("it has taken all", || Some(memory("hog")).filter(|bytes| *bytes >= 96.0 * MIB));
    assert!(hoarded < 160.0 * MIB, "{hoarded}");
    let small = memory("idle");
    assert!(small > 0.0 && small < 32.0 * MIB, "{small}");

    // A restart of it goes on counting where the last one ended.
    let pid = daemon.settled("ns:a:burner");
    let before = cpu("burner");
    signal(pid, "KILL");
    daemon.wait("it is back", |status| status.settled("ns:a:burner").filter(|now| *now != pid));
    let after = cpu("burner");
    assert!(after >= before, "{before} {after}");
}

/// Stands in everything that a tenant writes or prints here.
const SECRET: &str = "s3cr3t";

#[test]
fn nothing_that_http_tells_names_a_tenants_configuration_or_logs() {
    let world = World::new();
    let talks = format!("echo {SECRET}-stdout; echo {SECRET}-stderr >&2; exit 3");
    world.pattern("talks", "sleeper", "");
    world.put(
        &world.patterns().join("talks").join("manifest.yaml"),
        &format!(
            "name: talks\nversion: 1.0.0\nexecutable: sh\nargs: ['-c', '{talks}', '{SECRET}-argument']\n\
             environment: {{ PASSWORD: {SECRET}-environment }}\nbackend_slots: [{{ name: db, type: postgres }}]\n"
        ),
    );
    let probe = format!(
        "healthcheck: {{ type: exec, command: [sh, -c, 'echo {SECRET}-probe; exit 1'], interval: 50ms, startup_timeout: 1s }}"
    );
    world.pattern("sick", "sleeper", &probe);
    world.pattern("web", "flaky", &format!("args: [\"--after-ms\", \"200\", \"--then\", \"unhealthy\"]\nhealthcheck: {{ path: '/?token={SECRET}-path', interval: 50ms, failure_threshold: 1 }}"));
    let config = format!(
        "config: {{ API_TOKEN: {SECRET}-config }}\nslots: {{ db: {{ url: 'postgres://u:{SECRET}-slot@h/d' }} }}\n"
    );
    world.desire("talks.yaml", &format!("pattern: talks\nnamespace: a\n{config}"));
    world.desire("sick.yaml", "pattern: sick\nnamespace: a\n");
    world.desire("web.yaml", "pattern: web\nnamespace: a\n");
    world.desire("wrong.yaml", &format!("pattern: talks\nnamespace: b\nconfig: {{ A: 1 }}\nsecret: {SECRET}-file\n"));
    world.desire("torn.yaml", &format!("pattern: talks\nnamespace: c\nconfig: {{ TOKEN: {SECRET}-torn\n"));
    let daemon = world.launch().flag("--max-errors", "2").flag("--backoff-period", "20ms").start();
    daemon.wait("all have failed", |status| {
        let all = ["talks", "sick", "web"]
            .iter()
            .all(|pattern| status.key(&format!("ns:a:{pattern}")).is_some_and(|key| key.circuit_open));
        (all && status.conditions().iter().any(|line| line.contains("torn.yaml"))).then_some(())
    });
    Client::of(&world).launch(tenant("web", "b")).ok();
    for path in ["/metrics", "/metrics.json", "/health", "/health?processes=true", "/ready", "/", "/nowhere"] {
        let (_, body) = daemon.get(path).unwrap();
        assert!(!body.contains(SECRET), "{path}: {body}");
    }
    let (_, processes) = daemon.get("/health?processes=true").unwrap();
    assert!(processes.contains("MAX_ERRORS_EXCEEDED"), "{processes}");
}
