//! The figures as numbers, for programs.

use super::launches::{Launches, Quantiles};
use prometheus::proto::{Metric, MetricFamily};
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything that is measured, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MetricsSnapshot {
    /// From the request to the healthy process, of launches that had to wait for one.
    pub launch_duration: Quantiles,
    /// Instances by what they are doing, such as `running`.
    pub processes: BTreeMap<String, u64>,
    /// Instances by isolation level.
    pub isolation_levels: BTreeMap<String, u64>,
    /// What was counted, by pattern.
    pub patterns: BTreeMap<String, PatternCounts>,
    /// Instances whose circuit is open or half-open.
    pub circuits_open: u64,
    /// Desired folders with a deletion that is held back.
    pub prunes_blocked: u64,
    /// Scans of desired folders that failed.
    pub scan_failures: u64,
    /// Since the launcher was started.
    pub uptime_seconds: f64,
}

/// What was counted for a pattern since the launcher was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct PatternCounts {
    /// Processes that were started.
    pub starts: u64,
    /// Processes that ended.
    pub stops: u64,
    /// Failures.
    pub failures: u64,
    /// Starts after a failure or on request.
    pub restarts: u64,
    /// Probes.
    pub health_checks: u64,
}

/// The form of `/metrics.json`.
#[derive(Debug, Serialize)]
struct Json<'a> {
    launch_duration_p50_seconds: f64,
    launch_duration_p95_seconds: f64,
    launch_duration_p99_seconds: f64,
    launch_duration_seconds_sum: f64,
    launch_duration_seconds_count: u64,
    processes: &'a BTreeMap<String, u64>,
    isolation_levels: &'a BTreeMap<String, u64>,
    patterns: &'a BTreeMap<String, PatternCounts>,
    circuit_open: u64,
    prune_blocked: u64,
    scan_failures_total: u64,
    uptime_seconds: f64,
}

impl MetricsSnapshot {
    /// As JSON, with names in snake case.
    pub fn json(&self) -> String {
        let json = Json {
            launch_duration_p50_seconds: self.launch_duration.p50,
            launch_duration_p95_seconds: self.launch_duration.p95,
            launch_duration_p99_seconds: self.launch_duration.p99,
            launch_duration_seconds_sum: self.launch_duration.sum,
            launch_duration_seconds_count: self.launch_duration.count,
            processes: &self.processes,
            isolation_levels: &self.isolation_levels,
            patterns: &self.patterns,
            circuit_open: self.circuits_open,
            prune_blocked: self.prunes_blocked,
            scan_failures_total: self.scan_failures,
            uptime_seconds: self.uptime_seconds,
        };
        // Strings and numbers can always be written.
        serde_json::to_string(&json).unwrap_or_default()
    }
}

/// Reads the figures back from what Prometheus is told, so that the two never differ.
pub(super) fn of(families: &[MetricFamily], launches: &Launches) -> MetricsSnapshot {
    let metrics = |name: &str| {
        let full = super::full(name);
        families.iter().filter(move |family| family.name() == full).flat_map(MetricFamily::get_metric)
    };
    let by = |name: &str, label: &str| -> BTreeMap<String, u64> {
        metrics(name).map(|metric| (value(metric, label), number(metric.get_gauge().get_value()))).collect()
    };
    let mut patterns: BTreeMap<String, PatternCounts> = BTreeMap::new();
    let mut count = |name: &str, field: fn(&mut PatternCounts) -> &mut u64| {
        for metric in metrics(name) {
            *field(patterns.entry(value(metric, "pattern")).or_default()) += number(metric.get_counter().get_value());
        }
    };
    count("process_starts_total", |counts| &mut counts.starts);
    count("process_stops_total", |counts| &mut counts.stops);
    count("process_failures_total", |counts| &mut counts.failures);
    count("process_restarts_total", |counts| &mut counts.restarts);
    count("health_checks_total", |counts| &mut counts.health_checks);
    let gauge = |name: &str| metrics(name).map(|metric| metric.get_gauge().get_value()).sum::<f64>();
    MetricsSnapshot {
        launch_duration: launches.quantiles(),
        processes: by("processes_total", "state"),
        isolation_levels: by("isolation_level", "level"),
        patterns,
        circuits_open: number(gauge("circuit_open")),
        prunes_blocked: number(gauge("prune_blocked")),
        scan_failures: metrics("scan_failures_total").map(|metric| number(metric.get_counter().get_value())).sum(),
        uptime_seconds: gauge("uptime_seconds"),
    }
}

fn value(metric: &Metric, label: &str) -> String {
    let labels = metric.get_label();
    labels.iter().find(|pair| pair.name() == label).map(|pair| pair.value().to_owned()).unwrap_or_default()
}

/// A whole number that Prometheus keeps as a float.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it was a whole number before")]
fn number(value: f64) -> u64 {
    value.max(0.0).round() as u64
}
