//! What processes use, as it is sampled: CPU time and memory of each, within a bound of label values.
//!
//! The CPU time of a process id is that of all its runs together, so that it does not go down when a process is
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
const MEMORY: &str = "process_memory_bytes";
const MEMORY_HELP: &str = "Memory of an instance's cgroup where that counts memory, else resident memory of its main \
                           process";

/// What one process id uses.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Usage {
    /// CPU time of all its runs since the launcher was started, in seconds.
    pub cpu_seconds: f64,
    /// Memory that it holds, in bytes.
    pub memory_bytes: u64,
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
    /// CPU time of all that have none, also of those that are gone.
    unnamed_cpu: Duration,
}

#[derive(Debug)]
struct Used {
    cpu: Duration,
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
        known.each.insert(key.clone(), Used { cpu: Duration::ZERO, memory: 0, named });
    }

    /// It has used so much more CPU time. What comes after it was forgotten is not counted.
    pub(super) fn add_cpu(&self, key: &Key, more: Duration) {
        let mut known = self.lock();
        let Known { each, unnamed_cpu, .. } = &mut *known;
        match each.get_mut(key) {
            Some(used) if used.named => used.cpu += more,
            Some(_) => *unnamed_cpu += more,
            None => {}
        }
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
        let rest =
            Usage { cpu_seconds: known.unnamed_cpu.as_secs_f64(), memory_bytes: unnamed.map(|used| used.memory).sum() };
        let named = known.each.iter().filter(|(_, used)| used.named).map(|(key, used)| {
            let usage = Usage { cpu_seconds: used.cpu.as_secs_f64(), memory_bytes: used.memory };
            (Some(key.as_str().to_owned()), usage)
        });
        // Nothing is in the rest, and never was, as long as all have label values of their own.
        let has_rest = !self.labelled || known.named < known.each.len() || !known.unnamed_cpu.is_zero();
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
    descriptions: [Desc; 2],
}

impl Collected {
    pub(super) fn new(usages: Arc<Usages>) -> prometheus::Result<Self> {
        let labels = if usages.labelled { vec![LABEL.to_owned()] } else { Vec::new() };
        let describe = |name, help: &str| Desc::new(full(name), help.to_owned(), labels.clone(), HashMap::new());
        Ok(Self { descriptions: [describe(CPU, CPU_HELP)?, describe(MEMORY, MEMORY_HELP)?], usages })
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
        let cpu = told.iter().map(|(label, usage)| {
            let (mut metric, mut counter) = (labelled(label), Counter::default());
            counter.set_value(usage.cpu_seconds);
            metric.set_counter(counter);
            metric
        });
        let memory = told.iter().map(|(label, usage)| {
            let (mut metric, mut gauge) = (labelled(label), Gauge::default());
            gauge.set_value(as_float(usage.memory_bytes));
            metric.set_gauge(gauge);
            metric
        });
        let families = [
            family(CPU, CPU_HELP, MetricType::COUNTER, cpu.collect()),
            family(MEMORY, MEMORY_HELP, MetricType::GAUGE, memory.collect()),
        ];
        // A family without metrics cannot be written.
        families.into_iter().filter(|family| !family.get_metric().is_empty()).collect()
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

    fn of(usages: &Usages, id: &str) -> Option<Usage> {
        usages.told().get(&Some(id.to_owned())).copied()
    }

    #[test]
    fn cpu_time_adds_up_over_runs_and_is_forgotten_with_the_key() {
        let usages = Usages::new(true);
        let a = key("ns:a:p");
        usages.begin(&a);
        usages.add_cpu(&a, Duration::from_secs(2));
        usages.set_memory(&a, 4096);
        // It is restarted.
        usages.set_memory(&a, 0);
        usages.begin(&a);
        usages.add_cpu(&a, Duration::from_secs(1));
        assert_eq!(of(&usages, "ns:a:p"), Some(Usage { cpu_seconds: 3.0, memory_bytes: 0 }));
        usages.forget(&a);
        // The last word of a run that has ended comes late.
        usages.add_cpu(&a, Duration::from_secs(1));
        usages.set_memory(&a, 1);
        assert!(usages.told().is_empty());
    }

    #[test]
    fn process_ids_past_the_limit_are_one_that_never_goes_down() {
        let usages = Usages::new(true);
        for n in 0..PROCESSES + 2 {
            let key = key(&format!("ns:t{n}:p"));
            usages.begin(&key);
            usages.add_cpu(&key, Duration::from_secs(1));
            usages.set_memory(&key, 10);
        }
        assert_eq!(usages.told().len(), PROCESSES + 1);
        assert_eq!(of(&usages, OTHER), Some(Usage { cpu_seconds: 2.0, memory_bytes: 20 }));
        let beyond = key(&format!("ns:t{PROCESSES}:p"));
        usages.forget(&beyond);
        assert_eq!(of(&usages, OTHER), Some(Usage { cpu_seconds: 2.0, memory_bytes: 10 }));
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
            usages.add_cpu(&key(id), Duration::from_millis(1_500));
            usages.set_memory(&key(id), 10);
        }
        usages.forget(&key("ns:a:p"));
        assert_eq!(usages.told(), BTreeMap::from([(None, Usage { cpu_seconds: 3.0, memory_bytes: 10 })]));
    }
}
