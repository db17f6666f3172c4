//! The figures as numbers, for programs.

use super::launches::{Launches, Quantiles};
use super::usage::Usage;
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
    /// Failures since the launcher was started, by the code of the error in lower case.
    pub failure_reasons: BTreeMap<String, u64>,
    /// What is declared: `declared` instances, and files that were `rejected`.
    pub desired_instances: BTreeMap<String, u64>,
    /// What processes use, by process id, as it was last sampled; empty when process ids are no label values.
    pub usage: BTreeMap<String, Usage>,
    /// Whether survivors are adopted and every desired folder is read.
    pub ready: bool,
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
    let mut failure_reasons: BTreeMap<String, u64> = BTreeMap::new();
    for metric in metrics("process_failures_total") {
        *failure_reasons.entry(value(metric, "reason")).or_default() += number(metric.get_counter().get_value());
    }
    let mut usage: BTreeMap<String, Usage> = BTreeMap::new();
    let ids =
        |name: &str| metrics(name).map(|metric| (value(metric, "process_id"), metric)).filter(|(id, _)| !id.is_empty());
    for (id, metric) in ids("process_cpu_seconds_total") {
        usage.entry(id).or_default().cpu_seconds = metric.get_counter().get_value();
    }
    let mut waited = |name: &str, field: fn(&mut Usage) -> &mut f64| {
        for (id, metric) in ids(name) {
            *field(usage.entry(id).or_default()) = metric.get_counter().get_value();
        }
    };
    waited("process_cpu_throttled_seconds_total", |usage| &mut usage.throttled_seconds);
    waited("process_cpu_pressure_seconds_total", |usage| &mut usage.cpu_pressure_seconds);
    waited("process_memory_pressure_seconds_total", |usage| &mut usage.memory_pressure_seconds);
    for (id, metric) in ids("process_memory_bytes") {
        usage.entry(id).or_default().memory_bytes = number(metric.get_gauge().get_value());
    }
    let gauge = |name: &str| metrics(name).map(|metric| metric.get_gauge().get_value()).sum::<f64>();
    MetricsSnapshot {
        launch_duration: launches.quantiles(),
        processes: by("processes_total", "state"),
        isolation_levels: by("isolation_level", "level"),
        patterns,
        failure_reasons,
        desired_instances: by("desired_instances", "status"),
        usage,
        ready: gauge("ready") > 0.0,
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
