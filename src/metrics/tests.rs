//! Counting and telling.

use super::*;
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
    assert_eq!(snapshot.usage["session:a:s:q"], Usage { cpu_seconds: 1.25, memory_bytes: 123_456 });
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
