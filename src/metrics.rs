//! What is counted and measured, one registry for each launcher, and how it is told to Prometheus and to programs.
//!
//! Counters begin at zero with the launcher and never go down; what was adopted was not started. Gauges are made from
//! the published board when they are asked for, so that a scrape costs a look at each key and nothing between scrapes.

mod json;
mod launches;
mod snapshot;
mod usage;

pub use launches::Quantiles;
pub use snapshot::{MetricsSnapshot, PatternCounts};
pub use usage::{Counted, Usage};

use crate::error::Code;
use crate::model::{DesiredStatus, IsolationLevel, Key, KeyStatus, ProcessState, RootStatus};
use crate::observed::ProbeOutcome;
use launches::{LEVELS, Launches};
use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use usage::Usages;

/// The label value of all namespaces past the limit, and of all process ids past theirs.
const OTHER: &str = "other";
/// The failures that most instances have sooner or later. Their counters are there before they are needed, so that the
/// first failure shows as an increase.
const USUAL_FAILURES: [Code; 3] = [Code::ProcessCrashed, Code::ProcessStartFailed, Code::HealthCheckFailed];
/// From spawn to healthy, in seconds: from a program that is there at once to one that loads a model.
const COLD_START: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
/// One turn of the loop, in seconds.
const RECONCILE: [f64; 10] = [0.000_01, 0.000_05, 0.000_1, 0.000_5, 0.001, 0.005, 0.01, 0.05, 0.1, 1.0];

const BY_INSTANCE: [&str; 3] = ["pattern", "namespace", "isolation"];

/// How many label values there may be, so that no tenant can blow up a scrape by having many instances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Labels {
    /// Whether process ids, which contain those of sessions, are label values. Without them what processes use is told
    /// of all together.
    pub processes: bool,
    /// Namespaces that have label values of their own; those that come later are `other`.
    pub namespaces: usize,
}

impl Default for Labels {
    fn default() -> Self {
        Self { processes: true, namespaces: 256 }
    }
}

/// What is counted and measured.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    labels: Labels,
    starts: IntCounterVec,
    stops: IntCounterVec,
    failures: IntCounterVec,
    restarts: IntCounterVec,
    health_checks: IntCounterVec,
    cold_start: HistogramVec,
    reconcile: Histogram,
    scan_failures: IntCounter,
    processes: IntGaugeVec,
    levels: IntGaugeVec,
    circuits: IntGauge,
    orphans: IntGauge,
    desired: IntGaugeVec,
    prune_blocked: IntGauge,
    ready: IntGauge,
    uptime: Gauge,
    launches: Arc<Launches>,
    usages: Arc<Usages>,
    named: Mutex<HashSet<String>>,
}

/// Where everything stands, as the gauges tell it.
#[derive(Debug)]
pub struct Standing<'a> {
    /// Every key.
    pub statuses: &'a [Arc<KeyStatus>],
    /// How the reading of the desired folders goes.
    pub desired: &'a DesiredStatus,
    /// Whether the launcher knows everything it needs to decide.
    pub ready: bool,
    /// How long the launcher has been running.
    pub uptime: Duration,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new(Labels::default())
    }
}

impl Metrics {
    /// Everything at zero.
    ///
    /// # Panics
    /// Never: names and labels are constant and are registered once.
    pub fn new(labels: Labels) -> Self {
        let registry = Registry::new();
        let counters = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntCounterVec::new(Opts::new(full(name), help), labels))
        };
        let gauges = |name: &str, help: &str, labels: &[&str]| {
            registered(&registry, IntGaugeVec::new(Opts::new(full(name), help), labels))
        };
        let launches = registered(&registry, launches::Collected::new(Arc::default())).launches;
        let usages = Arc::new(Usages::new(labels.processes));
        let usages = registered(&registry, usage::Collected::new(usages)).usages;
        let build = GaugeVec::new(Opts::new(full("build_info"), "Always 1; the version is a label"), &["version"]);
        registered(&registry, build).with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1.0);
        let with_reason = ["pattern", "namespace", "isolation", "reason"];
        let cold_start =
            HistogramOpts::new(full("cold_start_seconds"), "From spawn to healthy").buckets(COLD_START.into());
        let reconcile = HistogramOpts::new(full("reconcile_seconds"), "One turn of the loop").buckets(RECONCILE.into());
        let scan_failures = IntCounter::new(full("scan_failures_total"), "Scans of desired folders that failed");
        let prune_blocked = IntGauge::new(full("prune_blocked"), "Desired folders with a deletion that is held back");
        let orphans = IntGauge::new(full("orphans"), "Cgroups with processes that no run accounts for");
        let ready = IntGauge::new(full("ready"), "Whether survivors are adopted and every desired folder is read");
        let circuits = IntGauge::new(full("circuit_open"), "Instances whose circuit is open or half-open");
        Self {
            starts: counters("process_starts_total", "Processes that were started", &BY_INSTANCE),
            stops: counters("process_stops_total", "Processes that ended, for whatever reason", &BY_INSTANCE),
            failures: counters("process_failures_total", "Failures, by the code of the error", &with_reason),
            restarts: counters("process_restarts_total", "Starts after a failure or on request", &BY_INSTANCE),
            health_checks: counters(
                "health_checks_total",
                "Probes that were carried out, or could not be",
                &["pattern", "result"],
            ),
            processes: gauges("processes_total", "Instances by what they are doing", &["state"]),
            levels: gauges("isolation_level", "Instances by isolation level", &["level"]),
            desired: gauges(
                "desired_instances",
                "Instances that files declare, and files that were refused",
                &["status"],
            ),
            cold_start: registered(&registry, HistogramVec::new(cold_start, &["pattern"])),
            reconcile: registered(&registry, Histogram::with_opts(reconcile)),
            scan_failures: registered(&registry, scan_failures),
            prune_blocked: registered(&registry, prune_blocked),
            ready: registered(&registry, ready),
            circuits: registered(&registry, circuits),
            orphans: registered(&registry, orphans),
            uptime: registered(&registry, Gauge::new(full("uptime_seconds"), "Since the launcher was started")),
            launches,
            usages,
            named: Mutex::default(),
            labels,
            registry,
        }
    }

    /// A key has come: what is counted of it begins at zero.
    pub fn appeared(&self, key: &Key) {
        for counters in [&self.starts, &self.stops, &self.restarts] {
            self.by_instance(counters, key);
        }
        for code in USUAL_FAILURES {
            self.failures_of(key, code);
        }
    }

    /// A key has gone: of what is counted, only what its processes used is forgotten.
    pub fn disappeared(&self, key: &Key) {
        self.usages.forget(key);
    }

    /// A process was started.
    pub fn started(&self, key: &Key) {
        self.by_instance(&self.starts, key).inc();
    }

    /// A process ended.
    pub fn stopped(&self, key: &Key) {
        self.by_instance(&self.stops, key).inc();
    }

    /// A failure was counted. Its reason is the code in lower case.
    pub fn failed(&self, key: &Key, code: Code) {
        self.failures_of(key, code).inc();
    }

    /// So many starts were restarts.
    pub fn restarted(&self, key: &Key, count: u32) {
        self.by_instance(&self.restarts, key).inc_by(u64::from(count));
    }

    /// A probe was carried out, or could not be.
    pub fn probed(&self, key: &Key, outcome: &ProbeOutcome) {
        let result = match outcome {
            ProbeOutcome::Success => "success",
            ProbeOutcome::Failure(_) => "failure",
            ProbeOutcome::Error(_) => "error",
        };
        self.health_checks.with_label_values(&[key.pattern(), result]).inc();
    }

    /// A process that was started has become healthy for the first time.
    pub fn warmed_up(&self, key: &Key, took: Duration) {
        self.cold_start.with_label_values(&[key.pattern()]).observe(took.as_secs_f64());
    }

    /// A launch that had to wait for a process was answered with it.
    pub fn launched(&self, key: &Key, took: Duration) {
        self.launches.note(key.level(), took);
    }

    /// So many cgroups have processes that no run accounts for.
    pub fn orphaned(&self, count: usize) {
        self.orphans.set(as_gauge(count));
    }

    /// What the processes of a key use is sampled from now on.
    pub fn usage_begins(&self, key: &Key) {
        self.usages.begin(key);
    }

    /// A process has used so much more CPU time.
    pub fn used_cpu(&self, key: &Key, more: Duration) {
        self.used(key, Counted { cpu: more, ..Counted::default() });
    }

    /// So much has come to what is counted of a process id.
    pub fn used(&self, key: &Key, more: Counted) {
        self.usages.add(key, more);
    }

    /// What a process id uses, as it was last sampled; `None` when nothing of it runs, or when it is not told apart.
    pub fn usage(&self, key: &Key) -> Option<Usage> {
        self.usages.of(key)
    }

    /// The processes of a key hold so many bytes of memory.
    pub fn holds_memory(&self, key: &Key, bytes: u64) {
        self.usages.set_memory(key, bytes);
    }

    /// The loop turned.
    pub fn reconciled(&self, took: Duration) {
        self.reconcile.observe(took.as_secs_f64());
    }

    /// So many scans failed.
    pub fn scans_failed(&self, count: u64) {
        self.scan_failures.inc_by(count);
    }

    /// Everything in the text format of Prometheus.
    pub fn prometheus(&self, standing: &Standing<'_>) -> String {
        self.measure(standing);
        let mut text = String::new();
        // Writing to a string does not fail, and what was registered can be encoded.
        TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text).unwrap_or_default();
        text
    }

    /// Everything as numbers.
    pub fn snapshot(&self, standing: &Standing<'_>) -> MetricsSnapshot {
        self.measure(standing);
        snapshot::of(&self.registry.gather(), &self.launches)
    }

    /// Everything as JSON: the same figures as for Prometheus, and what they come to.
    pub fn json(&self, standing: &Standing<'_>) -> String {
        self.measure(standing);
        let families = self.registry.gather();
        json::of(&families, &snapshot::of(&families, &self.launches))
    }

    /// Sets the gauges.
    fn measure(&self, standing: &Standing<'_>) {
        let Standing { statuses, desired, ready, uptime } = standing;
        let (mut states, mut levels, mut circuits) = ([0; ProcessState::ALL.len()], [0; LEVELS.len()], 0);
        for status in *statuses {
            states[status.state as usize] += 1;
            levels[status.isolation as usize] += 1;
            circuits += i64::from(status.circuit_open);
        }
        for state in ProcessState::ALL {
            self.processes.with_label_values(&[state.as_str()]).set(states[state as usize]);
        }
        for own in LEVELS {
            self.levels.with_label_values(&[level(own)]).set(levels[own as usize]);
        }
        self.circuits.set(circuits);
        let roots = &desired.roots;
        let sum = |part: fn(&RootStatus) -> usize| as_gauge(roots.iter().map(part).sum());
        self.desired.with_label_values(&["declared"]).set(sum(|root| root.instances));
        self.desired.with_label_values(&["rejected"]).set(sum(|root| root.rejected));
        let blocked = |root: &&RootStatus| root.conditions.iter().any(|one| one.kind == "PruneBlocked");
        self.prune_blocked.set(as_gauge(roots.iter().filter(blocked).count()));
        self.ready.set(i64::from(*ready));
        self.uptime.set(uptime.as_secs_f64());
    }

    fn failures_of(&self, key: &Key, code: Code) -> IntCounter {
        let reason = code.as_str().to_ascii_lowercase();
        self.failures.with_label_values(&[key.pattern(), &self.namespace(key), level(key.level()), &reason])
    }

    fn by_instance(&self, counters: &IntCounterVec, key: &Key) -> IntCounter {
        counters.with_label_values(&[key.pattern(), &self.namespace(key), level(key.level())])
    }

    /// The namespace of a key as a label.
    fn namespace(&self, key: &Key) -> String {
        let own = key.namespace();
        // Nothing that can panic runs while it is held.
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if own.is_empty() || named.contains(own) {
            return own.to_owned();
        }
        if named.len() >= self.labels.namespaces {
            return OTHER.to_owned();
        }
        named.insert(own.to_owned());
        own.to_owned()
    }
}

fn full(name: &str) -> String {
    format!("pattern_launcher_{name}")
}

const fn level(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::None => "none",
        IsolationLevel::Namespace => "namespace",
        IsolationLevel::Session => "session",
    }
}

fn as_gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Registers what was made.
fn registered<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, made: prometheus::Result<C>) -> C {
    let made = made.expect("names and labels are constant and valid");
    registry.register(Box::new(made.clone())).expect("each is registered once");
    made
}

#[cfg(test)]
mod tests;
