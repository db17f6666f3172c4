//! Counting and telling.

use super::*;

fn key(id: &str) -> Key {
    Key::parse(id).expect("a key")
}

fn standing(desired: &DesiredStatus) -> Standing<'_> {
    Standing { statuses: &[], desired, uptime: Duration::from_secs(3) }
}

#[test]
fn what_was_counted_is_told_in_both_forms() {
    let metrics = Metrics::new();
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
    let metrics = Metrics::new();
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
    assert!(snapshot.json().contains("\"launch_duration_p95_seconds\":1.9"), "{}", snapshot.json());
}

#[test]
fn namespaces_past_the_limit_are_one() {
    let metrics = Metrics::new();
    for n in 0..NAMESPACES + 10 {
        metrics.started(&key(&format!("ns:t{n}:consumer")));
    }
    metrics.started(&key("ns:t0:consumer"));
    let text = metrics.prometheus(&standing(&DesiredStatus::default()));
    assert!(text.contains("namespace=\"other\",pattern=\"consumer\"} 10\n"), "{text}");
    assert!(text.contains("namespace=\"t0\",pattern=\"consumer\"} 2\n"), "{text}");
}
