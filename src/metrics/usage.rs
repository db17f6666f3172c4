//! What processes use, and what they had to wait for, as it is sampled, within a bound of label values.
//!
//! What is counted of a process id is that of all its runs together, so that it does not go down when a process is
//! restarted. It is forgotten when the process id is gone.

use super::{OTHER, full};
use crate::model::Key;
use prometheus::core::{Collector, Desc};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Process ids that have label values of their own: more than the usual `port_range` has room for. Those beyond are
/// told together.
const PROCESSES: usize = 10_000;
const LABEL: &str = "process_id";
const CPU: &str = "process_cpu_seconds_total";
const CPU_HELP: &str = "CPU time of an instance's processes since the launcher was started, over all their restarts";
/// The other counters, each with its help and its part of what is used.
const WAITED: [(&str, &str, Part); 3] = [
    (
        "process_cpu_throttled_seconds_total",
        "How long an instance's processes were held back by their limit of CPU time, since the launcher was started",
        |usage| usage.throttled_seconds,
    ),
    (
        "process_cpu_pressure_seconds_total",
        "How long something of an instance waited for CPU time, as its cgroup tells, since the launcher was started",
        |usage| usage.cpu_pressure_seconds,
    ),
    (
        "process_memory_pressure_seconds_total",
        "How long something of an instance waited for memory, as its cgroup tells, since the launcher was started",
        |usage| usage.memory_pressure_seconds,
    ),
];
type Part = fn(&Usage) -> f64;
const MEMORY: &str = "process_memory_bytes";
const MEMORY_HELP: &str = "Memory of an instance's cgroup where that counts memory, else resident memory of its main \
                           process";

/// What is counted: it only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// CPU time.
    pub cpu: Duration,
    /// How long it was held back by its limit of CPU time.
    pub throttled: Duration,
    /// How long something of it waited for CPU time.
    pub cpu_pressure: Duration,
    /// How long something of it waited for memory.
    pub memory_pressure: Duration,
}

impl Counted {
    fn add(&mut self, more: Self) {
        let Self { cpu, throttled, cpu_pressure, memory_pressure } = more;
        self.cpu += cpu;
        self.throttled += throttled;
        self.cpu_pressure += cpu_pressure;
        self.memory_pressure += memory_pressure;
    }

    /// What has come to it since `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(before.cpu),
            throttled: self.throttled.saturating_sub(before.throttled),
            cpu_pressure: self.cpu_pressure.saturating_sub(before.cpu_pressure),
            memory_pressure: self.memory_pressure.saturating_sub(before.memory_pressure),
        }
    }
}

impl Counted {
    /// The larger of each.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.max(other.cpu),
            throttled: self.throttled.max(other.throttled),
            cpu_pressure: self.cpu_pressure.max(other.cpu_pressure),
            memory_pressure: self.memory_pressure.max(other.memory_pressure),
        }
    }
}

/// What one process id uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time of all its runs since the launcher was started, in seconds.
    pub cpu_seconds: f64,
    /// Memory that it holds, in bytes.
    pub memory_bytes: u64,
    /// How long they were held back by their limit of CPU time, in seconds.
    pub throttled_seconds: f64,
    /// How long something of them waited for CPU time, in seconds.
    pub cpu_pressure_seconds: f64,
    /// How long something of them waited for memory, in seconds.
    pub memory_pressure_seconds: f64,
}

impl Usage {
    fn of(counted: Counted, memory_bytes: u64) -> Self {
        Self {
            cpu_seconds: counted.cpu.as_secs_f64(),
            memory_bytes,
            throttled_seconds: counted.throttled.as_secs_f64(),
            cpu_pressure_seconds: counted.cpu_pressure.as_secs_f64(),
            memory_pressure_seconds: counted.memory_pressure.as_secs_f64(),
        }
    }
}

/// What all process ids use.
#[derive(Debug)]
pub(super) struct Usages {
    /// Whether process ids are label values at all.
    labelled: bool,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    each: HashMap<Key, Used>,
    /// How many of them have a label value of their own.
    named: usize,
    /// What is counted of all that have none, also of those that are gone.
    unnamed: Counted,
}

#[derive(Debug)]
struct Used {
    counted: Counted,
    memory: u64,
    named: bool,
}

impl Usages {
    pub(super) fn new(labelled: bool) -> Self {
        Self { labelled, known: Mutex::default() }
    }

    /// A process of this id is looked at from now on.
    pub(super) fn begin(&self, key: &Key) {
        let mut known = self.lock();
        if known.each.contains_key(key) {
            return;
        }
        let named = self.labelled && known.named < PROCESSES;
        known.named += usize::from(named);
        known.each.insert(key.clone(), Used { counted: Counted::default(), memory: 0, named });
    }

    /// So much has come to it. What comes after it was forgotten is not counted.
    pub(super) fn add(&self, key: &Key, more: Counted) {
        let mut known = self.lock();
        let Known { each, unnamed, .. } = &mut *known;
        match each.get_mut(key) {
            Some(used) if used.named => used.counted.add(more),
            Some(_) => unnamed.add(more),
            None => {}
        }
    }

    /// What it uses; `None` when it is told together with others.
    pub(super) fn of(&self, key: &Key) -> Option<Usage> {
        let known = self.lock();
        known.each.get(key).filter(|used| used.named).map(|used| Usage::of(used.counted, used.memory))
    }

    /// It holds so much memory.
    pub(super) fn set_memory(&self, key: &Key, bytes: u64) {
        if let Some(used) = self.lock().each.get_mut(key) {
            used.memory = bytes;
        }
    }

    /// Nothing is declared under this process id any more.
    pub(super) fn forget(&self, key: &Key) {
        let mut known = self.lock();
        if known.each.remove(key).is_some_and(|used| used.named) {
            known.named -= 1;
        }
    }

    /// By label value, in their order; `None` is what is told without one.
    fn told(&self) -> BTreeMap<Option<String>, Usage> {
        let known = self.lock();
        let together = if self.labelled { Some(OTHER.to_owned()) } else { None };
        let unnamed = known.each.values().filter(|used| !used.named);
        let rest = Usage::of(known.unnamed, unnamed.map(|used| used.memory).sum());
        let named = known
            .each
            .iter()
            .filter(|(_, used)| used.named)
            .map(|(key, used)| (Some(key.as_str().to_owned()), Usage::of(used.counted, used.memory)));
        // Nothing is in the rest, and never was, as long as all have label values of their own.
        let has_rest = !self.labelled || known.named < known.each.len() || known.unnamed != Counted::default();
        named.chain(has_rest.then_some((together, rest))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing that can panic runs while it is held.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is registered.
#[derive(Clone)]
pub(super) struct Collected {
    pub(super) usages: Arc<Usages>,
    descriptions: Vec<Desc>,
}

impl Collected {
    pub(super) fn new(usages: Arc<Usages>) -> prometheus::Result<Self> {
        let labels = if usages.labelled { vec![LABEL.to_owned()] } else { Vec::new() };
        let describe = |name, help: &str| Desc::new(full(name), help.to_owned(), labels.clone(), HashMap::new());
        let waited = WAITED.iter().map(|(name, help, _)| describe(name, help));
        let all = [describe(CPU, CPU_HELP), describe(MEMORY, MEMORY_HELP)].into_iter().chain(waited);
        Ok(Self { descriptions: all.collect::<prometheus::Result<_>>()?, usages })
    }
}

impl Collector for Collected {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let told = self.usages.told();
        let labelled = |label: &Option<String>| {
            let pairs = label.iter().map(|value| {
                let mut pair = LabelPair::default();
                pair.set_name(LABEL.to_owned());
                pair.set_value(value.clone());
                pair
            });
            Metric::from_label(pairs.collect())
        };
        let counters = |part: Part| {
            told.iter()
                .map(|(label, usage)| {
                    let (mut metric, mut counter) = (labelled(label), Counter::default());
                    counter.set_value(part(usage));
                    metric.set_counter(counter);
                    metric
                })
                .collect::<Vec<_>>()
        };
        let memory = told.iter().map(|(label, usage)| {
            let (mut metric, mut gauge) = (labelled(label), Gauge::default());
            gauge.set_value(as_float(usage.memory_bytes));
            metric.set_gauge(gauge);
            metric
        });
        let families = [
            family(CPU, CPU_HELP, MetricType::COUNTER, counters(|usage| usage.cpu_seconds)),
            family(MEMORY, MEMORY_HELP, MetricType::GAUGE, memory.collect()),
        ];
        let waited =
            WAITED.into_iter().map(|(name, help, part)| family(name, help, MetricType::COUNTER, counters(part)));
        // A family without metrics cannot be written.
        families.into_iter().chain(waited).filter(|family| !family.get_metric().is_empty()).collect()
    }
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(full(name));
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

#[expect(clippy::cast_precision_loss, reason = "exact up to eight petabytes")]
fn as_float(bytes: u64) -> f64 {
    bytes as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: &str) -> Key {
        Key::parse(id).expect("a key")
    }

    fn cpu(cpu: Duration) -> Counted {
        Counted { cpu, ..Counted::default() }
    }

    fn used(cpu_seconds: f64, memory_bytes: u64) -> Usage {
        Usage { cpu_seconds, memory_bytes, ..Usage::default() }
    }

    fn of(usages: &Usages, id: &str) -> Option<Usage> {
        usages.told().get(&Some(id.to_owned())).copied()
    }

    #[test]
    fn cpu_time_adds_up_over_runs_and_is_forgotten_with_the_key() {
        let usages = Usages::new(true);
        let a = key("ns:a:p");
        usages.begin(&a);
        usages.add(&a, cpu(Duration::from_secs(2)));
        usages.set_memory(&a, 4096);
        // It is restarted.
        usages.set_memory(&a, 0);
        usages.begin(&a);
        usages.add(&a, cpu(Duration::from_secs(1)));
        assert_eq!(of(&usages, "ns:a:p"), Some(used(3.0, 0)));
        usages.forget(&a);
        // The last word of a run that has ended comes late.
        usages.add(&a, cpu(Duration::from_secs(1)));
        usages.set_memory(&a, 1);
        assert!(usages.told().is_empty());
    }

    #[test]
    fn process_ids_past_the_limit_are_one_that_never_goes_down() {
        let usages = Usages::new(true);
        for n in 0..PROCESSES + 2 {
            let key = key(&format!("ns:t{n}:p"));
            usages.begin(&key);
            usages.add(&key, cpu(Duration::from_secs(1)));
            usages.set_memory(&key, 10);
        }
        assert_eq!(usages.told().len(), PROCESSES + 1);
        assert_eq!(of(&usages, OTHER), Some(used(2.0, 20)));
        let beyond = key(&format!("ns:t{PROCESSES}:p"));
        usages.forget(&beyond);
        assert_eq!(of(&usages, OTHER), Some(used(2.0, 10)));
        // Room is made for one.
        usages.forget(&key("ns:t0:p"));
        usages.begin(&beyond);
        assert!(of(&usages, beyond.as_str()).is_some());
    }

    #[test]
    fn without_labels_all_are_told_together() {
        let usages = Usages::new(false);
        for id in ["ns:a:p", "ns:b:p"] {
            usages.begin(&key(id));
            usages.add(&key(id), cpu(Duration::from_millis(1_500)));
            usages.set_memory(&key(id), 10);
        }
        usages.forget(&key("ns:a:p"));
        assert_eq!(usages.told(), BTreeMap::from([(None, used(3.0, 10))]));
    }
}
