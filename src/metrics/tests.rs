//! Counting and telling.

use super::*;
use proptest::prelude::*;
use serde_json::Value;
use std::collections::BTreeMap;

fn key(id: &str) -> Key {
    Key::parse(id).expect("a key")
}

fn standing(desired: &DesiredStatus) -> Standing<'_> {
    Standing { statuses: &[], desired, ready: true, uptime: Duration::from_secs(3) }
}

#[test]
fn what_was_counted_is_told_in_both_forms() {
    let metrics = Metrics::default();
    let (a, shared) = (key("ns:a:consumer"), key("shared:consumer"));
    metrics.started(&a);
    metrics.started(&a);
    metrics.started(&shared);
    metrics.stopped(&a);
    metrics.failed(&a, Code::ProcessCrashed);
    metrics.restarted(&a, 1);
    metrics.probed(&a, &ProbeOutcome::Failure("no".to_owned()));
    metrics.warmed_up(&a, Duration::from_millis(20));
    let desired = DesiredStatus::default();
    let text = metrics.prometheus(&standing(&desired));
    for line in [
        "pattern_launcher_process_starts_total{isolation=\"namespace\",namespace=\"a\",pattern=\"consumer\"} 2",
        "pattern_launcher_process_starts_total{isolation=\"none\",namespace=\"\",pattern=\"consumer\"} 1",
        "pattern_launcher_process_failures_total{isolation=\"namespace\",namespace=\"a\",pattern=\"consumer\",reason=\"process_crashed\"} 1",
        "pattern_launcher_health_checks_total{pattern=\"consumer\",result=\"failure\"} 1",
        "pattern_launcher_cold_start_seconds_bucket{pattern=\"consumer\",le=\"0.025\"} 1",
        "pattern_launcher_processes_total{state=\"running\"} 0",
        "pattern_launcher_uptime_seconds 3",
    ] {
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    let counts = metrics.snapshot(&standing(&desired)).patterns["consumer"];
    assert_eq!(counts, PatternCounts { starts: 3, stops: 1, failures: 1, restarts: 1, health_checks: 1 });
}

#[test]
fn launches_are_a_summary_of_the_latest() {
    let metrics = Metrics::default();
    for millis in 1..=2_000 {
        metrics.launched(&key("ns:a:consumer"), Duration::from_millis(millis));
    }
    let desired = DesiredStatus::default();
    let snapshot = metrics.snapshot(&standing(&desired));
    let Quantiles { p50, p95, p99, sum, count } = snapshot.launch_duration;
    let near = |value: f64, expected: f64| (value - expected).abs() < 1e-6;
    assert!(near(p50, 1.488) && near(p95, 1.949) && near(p99, 1.990), "{p50} {p95} {p99}");
    assert!(near(sum, 2_001.0) && count == 2_000);
    let text = metrics.prometheus(&standing(&desired));
    assert!(text.contains("# TYPE pattern_launcher_launch_duration_seconds summary\n"), "{text}");
    assert!(text.contains("launch_duration_seconds{isolation=\"namespace\",quantile=\"0.99\"} 1.99\n"), "{text}");
    assert!(text.contains("launch_duration_seconds_count{isolation=\"namespace\"} 2000\n"), "{text}");
    let json: Value = serde_json::from_str(&metrics.json(&standing(&desired))).expect("JSON");
    assert!(json["launch_duration_p95_seconds"].as_f64().is_some_and(|told| near(told, p95)), "{json}");
}

#[test]
fn namespaces_past_the_limit_are_one() {
    let metrics = Metrics::default();
    for n in 0..Labels::default().namespaces + 10 {
        metrics.started(&key(&format!("ns:t{n}:consumer")));
    }
    metrics.started(&key("ns:t0:consumer"));
    let text = metrics.prometheus(&standing(&DesiredStatus::default()));
    assert!(text.contains("namespace=\"other\",pattern=\"consumer\"} 10\n"), "{text}");
    assert!(text.contains("namespace=\"t0\",pattern=\"consumer\"} 2\n"), "{text}");
}

#[test]
fn how_many_namespaces_are_told_apart_is_a_setting() {
    let metrics = Metrics::new(Labels { namespaces: 1, ..Labels::default() });
    for id in ["ns:a:p", "ns:b:p", "ns:c:p", "shared:p"] {
        metrics.failed(&key(id), Code::ProcessCrashed);
    }
    let text = metrics.prometheus(&standing(&DesiredStatus::default()));
    let of = |namespace: &str| {
        let labels = format!("namespace=\"{namespace}\",pattern=\"p\",reason=\"process_crashed\"}} ");
        text.lines().find_map(|line| line.split_once(&labels)).map(|(_, value)| value.to_owned())
    };
    assert_eq!((of("a"), of("other"), of(""), of("b")), (Some("1".into()), Some("2".into()), Some("1".into()), None));
}

#[test]
fn what_a_key_will_be_counted_under_begins_at_zero() {
    let metrics = Metrics::default();
    metrics.appeared(&key("ns:a:p"));
    let text = metrics.prometheus(&standing(&DesiredStatus::default()));
    for name in ["process_starts_total", "process_stops_total", "process_restarts_total"] {
        let line = format!("pattern_launcher_{name}{{isolation=\"namespace\",namespace=\"a\",pattern=\"p\"}} 0");
        assert!(text.lines().any(|one| one == line), "{line} is not in\n{text}");
    }
    assert!(text.contains("pattern=\"p\",reason=\"process_crashed\"} 0\n"), "{text}");
}

/// Every sample of a text, by its name and labels as they are written.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').expect("a value"))
        .map(|(name, value)| (name.to_owned(), value.parse().expect("a number")))
        .collect()
}

/// The same, from the JSON form.
fn samples_of_json(json: &Value) -> BTreeMap<String, f64> {
    let mut found = BTreeMap::new();
    for (name, series) in json["metrics"].as_object().expect("metrics") {
        for one in series.as_array().expect("a list") {
            let labels: Vec<(&String, &str)> = one["labels"]
                .as_object()
                .expect("labels")
                .iter()
                .map(|(n, v)| (n, v.as_str().expect("text")))
                .collect();
            let mut add = |suffix: &str, more: Option<(&str, &str)>, value: &Value| {
                let own = labels.iter().map(|(name, value)| (name.as_str(), *value));
                let all: Vec<String> = own.chain(more).map(|(name, value)| format!("{name}=\"{value}\"")).collect();
                let labels = if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) };
                found.insert(format!("{name}{suffix}{labels}"), value.as_f64().unwrap_or(f64::NAN));
            };
            if one["value"].is_number() {
                add("", None, &one["value"]);
                continue;
            }
            add("_sum", None, &one["sum"]);
            add("_count", None, &one["count"]);
            for (kind, suffix, label) in [("quantiles", "", "quantile"), ("buckets", "_bucket", "le")] {
                for (at, value) in one[kind].as_object().into_iter().flatten() {
                    add(suffix, Some((label, at)), value);
                }
            }
            if one["buckets"].is_object() {
                add("_bucket", Some(("le", "+Inf")), &one["count"]);
            }
        }
    }
    found
}

#[test]
fn json_has_the_same_figures() {
    let metrics = Metrics::default();
    for id in ["ns:a:p", "ns:b:p", "session:a:s:q", "shared:q"] {
        let key = key(id);
        metrics.appeared(&key);
        metrics.started(&key);
        metrics.failed(&key, Code::ExecutableNotFound);
        metrics.probed(&key, &ProbeOutcome::Success);
        metrics.warmed_up(&key, Duration::from_millis(70));
        metrics.launched(&key, Duration::from_millis(130));
        metrics.reconciled(Duration::from_micros(70));
        metrics.usage_begins(&key);
        metrics.used_cpu(&key, Duration::from_millis(1_250));
        metrics.holds_memory(&key, 123_456);
    }
    let desired = DesiredStatus::default();
    let (text, json) = (metrics.prometheus(&standing(&desired)), metrics.json(&standing(&desired)));
    let json: Value = serde_json::from_str(&json).expect("JSON");
    let (told, same) = (samples(&text), samples_of_json(&json));
    assert!(told.len() > 100, "{text}");
    let names = |samples: &BTreeMap<String, f64>| samples.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&told), names(&same));
    for (name, value) in &told {
        // Reading a number from JSON may be off by its last bit.
        let near = (value - same[name]).abs() <= value.abs() * 1e-12;
        assert!(near || (value.is_nan() && same[name].is_nan()), "{name} is {value} and {}", same[name]);
    }
    // What they come to.
    assert!((json["launch_duration_p99_seconds"].as_f64().expect("a number") - 0.13).abs() < 1e-9, "{json}");
    assert_eq!(
        (&json["launch_duration_seconds_count"], &json["failure_reasons"]["executable_not_found"]),
        (&4.into(), &4.into())
    );
    assert_eq!((&json["patterns"]["q"]["starts"], &json["patterns"]["p"]["failures"]), (&2.into(), &2.into()));
    let snapshot = metrics.snapshot(&standing(&desired));
    assert_eq!(snapshot.usage["session:a:s:q"], Usage { cpu_seconds: 1.25, memory_bytes: 123_456, ..Usage::default() });
    assert!(snapshot.ready);
}

#[test]
fn no_process_id_is_told_when_that_is_switched_off() {
    let metrics = Metrics::new(Labels { processes: false, ..Labels::default() });
    let key = key("session:a:secret:p");
    metrics.appeared(&key);
    metrics.started(&key);
    metrics.usage_begins(&key);
    metrics.used_cpu(&key, Duration::from_secs(2));
    let desired = DesiredStatus::default();
    let (text, json) = (metrics.prometheus(&standing(&desired)), metrics.json(&standing(&desired)));
    assert!(!text.contains("secret") && !json.contains("secret"), "{text}\n{json}");
    assert!(text.contains("\npattern_launcher_process_cpu_seconds_total 2\n"), "{text}");
}

/// Something that is counted of one of a few keys.
#[derive(Debug, Clone)]
enum Counted {
    Appeared,
    Disappeared,
    Started,
    Stopped,
    Failed(Code),
    Restarted(u32),
    Probed(ProbeOutcome),
    Warm(u64),
    Launched(u64),
    Used(u64),
}

fn counted() -> impl Strategy<Value = Counted> {
    let code = prop_oneof![
        Just(Code::ProcessCrashed),
        Just(Code::HealthCheckFailed),
        Just(Code::ExecutableNotFound),
        Just(Code::PortAllocationFailed),
    ];
    let outcome = prop_oneof![
        Just(ProbeOutcome::Success),
        Just(ProbeOutcome::Failure("no".to_owned())),
        Just(ProbeOutcome::Error("no".to_owned())),
    ];
    prop_oneof![
        Just(Counted::Appeared),
        Just(Counted::Disappeared),
        Just(Counted::Started),
        Just(Counted::Stopped),
        code.prop_map(Counted::Failed),
        (0_u32..3).prop_map(Counted::Restarted),
        outcome.prop_map(Counted::Probed),
        (0_u64..40_000).prop_map(Counted::Warm),
        (0_u64..40_000).prop_map(Counted::Launched),
        (0_u64..5_000).prop_map(Counted::Used),
    ]
}

fn count(metrics: &Metrics, key: &Key, what: &Counted) {
    match what {
        Counted::Appeared => {
            metrics.appeared(key);
            metrics.usage_begins(key);
        }
        Counted::Disappeared => metrics.disappeared(key),
        Counted::Started => metrics.started(key),
        Counted::Stopped => metrics.stopped(key),
        Counted::Failed(code) => metrics.failed(key, *code),
        Counted::Restarted(count) => metrics.restarted(key, *count),
        Counted::Probed(outcome) => metrics.probed(key, outcome),
        Counted::Warm(millis) => metrics.warmed_up(key, Duration::from_millis(*millis)),
        Counted::Launched(millis) => metrics.launched(key, Duration::from_millis(*millis)),
        Counted::Used(millis) => metrics.used_cpu(key, Duration::from_millis(*millis)),
    }
}

/// Whether a sample counts, and so never goes down. One gauge is named like a counter.
fn counts(sample: &str) -> bool {
    let name = sample.split('{').next().unwrap_or_default();
    let suffixes = ["_total", "_sum", "_count", "_bucket"];
    suffixes.iter().any(|suffix| name.ends_with(suffix)) && name != "pattern_launcher_processes_total"
}

proptest! {
    // Everything is told after each step, which takes a few milliseconds.
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn counters_begin_at_zero_never_go_down_and_add_up(
        history in proptest::collection::vec((0_usize..4, counted()), 0..60),
        processes in proptest::bool::ANY,
    ) {
        let ids = ["ns:a:p", "ns:b:p", "session:a:s:q", "shared:q"];
        let metrics = Metrics::new(Labels { processes, namespaces: 1 });
        let desired = DesiredStatus::default();
        let mut last: BTreeMap<String, f64> = BTreeMap::new();
        let mut failures: BTreeMap<String, u64> = BTreeMap::new();
        for (at, what) in &history {
            let key = key(ids[*at]);
            count(&metrics, &key, what);
            if let Counted::Failed(code) = what {
                *failures.entry(code.as_str().to_ascii_lowercase()).or_default() += 1;
            }
            let now = samples(&metrics.prometheus(&standing(&desired)));
            for (name, value) in now.iter().filter(|(name, _)| counts(name)) {
                // A process id that is gone is forgotten with what it used, and begins anew when it comes back.
                let forgotten = matches!(what, Counted::Disappeared) && name.contains(key.as_str());
                let before = last.get(name).copied().unwrap_or(0.0);
                prop_assert!(*value >= before || forgotten, "{name} went from {before} to {value} by {what:?}");
            }
            // What is not told any more is what a process id used that has gone, and nothing else.
            for name in last.keys().filter(|name| !now.contains_key(*name)) {
                let of_gone = matches!(what, Counted::Disappeared)
                    && name.starts_with("pattern_launcher_process_")
                    && name.contains("_seconds_total{process_id=");
                prop_assert!(of_gone, "{name} is gone by {what:?}");
            }
            last = now.into_iter().filter(|(name, _)| counts(name)).collect();
        }
        let snapshot = metrics.snapshot(&standing(&desired));
        let total: u64 = snapshot.patterns.values().map(|counts| counts.failures).sum();
        prop_assert_eq!(total, failures.values().sum::<u64>());
        let told: BTreeMap<String, u64> =
            snapshot.failure_reasons.into_iter().filter(|(_, count)| *count > 0).collect();
        prop_assert_eq!(told, failures);
    }
}
