//! The form of `/metrics.json`: what the figures come to, and each of them as Prometheus is told it.

use super::launches::Quantiles;
use super::snapshot::{MetricsSnapshot, PatternCounts};
use prometheus::proto::{Metric, MetricFamily, MetricType};
use serde::Serialize;
use std::collections::BTreeMap;

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
    failure_reasons: &'a BTreeMap<String, u64>,
    desired_instances: &'a BTreeMap<String, u64>,
    ready: bool,
    circuit_open: u64,
    prune_blocked: u64,
    scan_failures_total: u64,
    uptime_seconds: f64,
    /// By the name that Prometheus knows.
    metrics: BTreeMap<&'a str, Vec<Series<'a>>>,
}

/// One metric with its labels; what a counter or gauge has is `value`, what a summary or histogram has is the rest.
#[derive(Debug, Default, Serialize)]
struct Series<'a> {
    labels: BTreeMap<&'a str, &'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    /// Values by quantile; `null` while there is nothing to be ranked.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    quantiles: BTreeMap<String, f64>,
    /// How many did not exceed each upper bound.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    buckets: BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sum: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
}

/// Writes them.
pub(super) fn of(families: &[MetricFamily], snapshot: &MetricsSnapshot) -> String {
    let MetricsSnapshot {
        launch_duration: Quantiles { p50, p95, p99, sum, count },
        processes,
        isolation_levels,
        patterns,
        failure_reasons,
        desired_instances,
        // By process id it is among the metrics.
        usage: _,
        ready,
        circuits_open,
        prunes_blocked,
        scan_failures,
        uptime_seconds,
    } = snapshot;
    let metrics = families.iter().map(|family| {
        let kind = family.get_field_type();
        (family.name(), family.get_metric().iter().map(|metric| Series::of(kind, metric)).collect())
    });
    let json = Json {
        launch_duration_p50_seconds: *p50,
        launch_duration_p95_seconds: *p95,
        launch_duration_p99_seconds: *p99,
        launch_duration_seconds_sum: *sum,
        launch_duration_seconds_count: *count,
        processes,
        isolation_levels,
        patterns,
        failure_reasons,
        desired_instances,
        ready: *ready,
        circuit_open: *circuits_open,
        prune_blocked: *prunes_blocked,
        scan_failures_total: *scan_failures,
        uptime_seconds: *uptime_seconds,
        metrics: metrics.collect(),
    };
    // Strings and numbers can always be written.
    serde_json::to_string(&json).unwrap_or_default()
}

impl<'a> Series<'a> {
    fn of(kind: MetricType, metric: &'a Metric) -> Self {
        let labels = metric.get_label().iter().map(|pair| (pair.name(), pair.value())).collect();
        let bare = Self { labels, ..Self::default() };
        match kind {
            MetricType::COUNTER => Self { value: Some(metric.get_counter().get_value()), ..bare },
            // There are no metrics without a type.
            MetricType::GAUGE | MetricType::UNTYPED => Self { value: Some(metric.get_gauge().get_value()), ..bare },
            MetricType::SUMMARY => {
                let summary = metric.get_summary();
                let quantiles = summary.get_quantile().iter().map(|one| (one.quantile().to_string(), one.value()));
                let (sum, count) = (Some(summary.sample_sum()), Some(summary.sample_count()));
                Self { quantiles: quantiles.collect(), sum, count, ..bare }
            }
            MetricType::HISTOGRAM => {
                let histogram = metric.get_histogram();
                let buckets = histogram.get_bucket().iter();
                let buckets = buckets.map(|one| (one.upper_bound().to_string(), one.cumulative_count()));
                let (sum, count) = (Some(histogram.get_sample_sum()), Some(histogram.get_sample_count()));
                Self { buckets: buckets.collect(), sum, count, ..bare }
            }
        }
    }
}
