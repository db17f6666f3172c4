//! What runs use: read in the background, a few at a time, so that nobody who asks for metrics waits for the kernel.
//!
//! A reading counts what was used since the one before. The first of a process that was adopted counts nothing, since
//! what it used before is not this launcher's to tell.

use super::cgroup::{Counters, Pressure, RunCgroup};
use super::identity::ProcessUse;
use super::squatter::Members;
use super::tree::Tree;
use crate::metrics::{Counted, Metrics};
use crate::model::{Key, OomPolicy, ProcessIdentity, RunId};
use rustix::param::{clock_ticks_per_second, page_size};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often some runs are read.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// How many are read at once, two files each, so that the cost has a bound however many runs there are. Up to this many are
/// read in every interval; of more, each has its turn.
const AT_ONCE: usize = 500;

/// Every how many of its readings a run is asked what it waited for, and where its files are: that costs as much again, and
/// changes in minutes.
const CLOSER_EVERY: u32 = 6;

/// What the processes of a run use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    counted: Counted,
    memory: u64,
}

/// Reads what a run uses: of its whole tree where its cgroup tells, else of its main process. A v2 cgroup tells CPU time
/// without any controller, and memory with the memory controller.
fn read(meter: &Meter) -> Option<Reading> {
    let Meter { identity, cgroup, counted, counters, .. } = meter;
    let before = counted.unwrap_or_default();
    let (cpu, throttled) = cgroup.as_ref().map_or((None, None), |cgroup| cgroup.cpu(counters));
    let memory = counters.memory();
    let main = if cpu.is_some() && memory.is_some() { None } else { ProcessUse::read(identity) };
    let cpu = cpu.or_else(|| {
        let main = main?;
        Some(Duration::from_millis(main.cpu_ticks.saturating_mul(1_000) / clock_ticks_per_second().max(1)))
    })?;
    // What has ended holds nothing.
    let pages = main.map_or(0, |main| main.resident_pages);
    let memory = memory.unwrap_or_else(|| pages.saturating_mul(page_size() as u64));
    Some(Reading { counted: waited(cpu, throttled, meter, before), memory })
}

/// What has been counted of a run that has used this much CPU time; what is not asked now is as it was.
fn waited(cpu: Duration, throttled: Option<Duration>, meter: &Meter, before: Counted) -> Counted {
    let asked = meter.cgroup.as_ref().filter(|_| meter.ended || meter.looks_closer());
    Counted {
        cpu,
        throttled: throttled.unwrap_or(before.throttled),
        cpu_pressure: asked.and_then(|cgroup| cgroup.pressure(Pressure::Cpu)).unwrap_or(before.cpu_pressure),
        memory_pressure: asked.and_then(|cgroup| cgroup.pressure(Pressure::Memory)).unwrap_or(before.memory_pressure),
    }
}

/// Where the reading of a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// It was started by this launcher, and all that it uses counts.
    Started,
    /// It was adopted.
    Adopted,
}

/// The runs that are read.
#[derive(Debug)]
pub(crate) struct Meters {
    metrics: Arc<Metrics>,
    runs: Mutex<Runs>,
}

#[derive(Debug, Default)]
struct Runs {
    each: HashMap<RunId, Meter>,
    /// Whose turn it is. Some of them may have ended.
    turns: VecDeque<RunId>,
}

#[derive(Debug, Clone)]
struct Meter {
    key: Key,
    identity: ProcessIdentity,
    cgroup: Option<RunCgroup>,
    /// What was counted at the last reading; `None` before the first of one that was adopted.
    counted: Option<Counted>,
    /// Where it is read.
    counters: Counters,
    /// How often it has been read.
    readings: u32,
    /// Whether the cgroup tells CPU time, so that a last reading can wait until it is about to be removed.
    cgroup_tells: bool,
    /// What is to become of it when a part of it is killed for want of memory.
    oom: OomPolicy,
    /// Whether its main process has ended. Another run of the key may have begun by the time its tree is gone.
    ended: bool,
}

impl Meter {
    fn looks_closer(&self) -> bool {
        self.readings.is_multiple_of(CLOSER_EVERY)
    }
}

impl Meters {
    /// Of no runs yet.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, runs: Mutex::default() }
    }

    /// A run is read from now on.
    pub(crate) fn begin(
        &self,
        key: &Key,
        run: RunId,
        identity: &ProcessIdentity,
        tree: &Tree,
        oom: OomPolicy,
        from: Beginning,
    ) {
        self.metrics.usage_begins(key);
        let (cgroup, cgroup_tells) = match tree {
            Tree::Cgroup(cgroup) => (Some(cgroup.clone()), cgroup.tells_cpu()),
            Tree::Group(_) => (None, false),
        };
        let counted = match from {
            Beginning::Started => Some(Counted::default()),
            Beginning::Adopted => None,
        };
        let meter = Meter {
            key: key.clone(),
            identity: identity.clone(),
            cgroup,
            counted,
            counters: Counters::default(),
            readings: 0,
            cgroup_tells,
            oom,
            ended: false,
        };
        let mut runs = self.lock();
        runs.each.insert(run, meter);
        runs.turns.push_back(run);
    }

    /// What is to become of a run of which a part is killed for want of memory.
    pub(crate) fn follow(&self, run: RunId, oom: OomPolicy) {
        if let Some(meter) = self.lock().each.get_mut(&run) {
            meter.oom = oom;
        }
    }

    /// The processes of a run that is read.
    pub(crate) fn members(&self, run: RunId) -> Option<Members> {
        let Meter { identity, cgroup, .. } = self.lock().each.get(&run)?.clone();
        Some(Members { main: identity, cgroup, run })
    }

    /// Reads the next few runs. Returns those of which the kernel has killed a part for want of memory, and not the rest, as
    /// it should have.
    pub(crate) fn read_some(&self) -> Vec<RunId> {
        let few: Vec<(RunId, Meter)> = {
            let mut runs = self.lock();
            let count = runs.turns.len().min(AT_ONCE);
            let next: Vec<RunId> = runs.turns.drain(..count).collect();
            let living: Vec<_> = next.iter().filter_map(|run| Some((*run, runs.each.get(run)?.clone()))).collect();
            runs.turns.extend(living.iter().map(|(run, _)| *run));
            living
        };
        let mut broken = Vec::new();
        for (run, mut meter) in few {
            // Without the lock, since this is what takes time.
            if let Some(cgroup) = meter.cgroup.as_ref().filter(|_| meter.looks_closer()) {
                meter.counters = cgroup.counters();
                if let Some(kept) = self.lock().each.get_mut(&run) {
                    kept.counters.clone_from(&meter.counters);
                }
            }
            if let Some(reading) = read(&meter) {
                self.note(run, reading);
            }
            if meter.oom == OomPolicy::Kill && meter.counters.is_broken() {
                broken.push(run);
            }
        }
        broken
    }

    /// The main process of a run has ended and is not reaped yet. It holds no memory any more. Nothing is read that can be
    /// read later: whoever restarts it waits for this.
    pub(crate) fn main_ended(&self, run: RunId) {
        let Some(meter) = self.lock().each.get(&run).cloned() else { return };
        if !meter.cgroup_tells
            && let Some(reading) = read(&meter)
        {
            self.note(run, reading);
        }
        if let Some(meter) = self.lock().each.get_mut(&run) {
            meter.ended = true;
        }
        self.metrics.holds_memory(&meter.key, 0);
    }

    /// Nothing of a run lives, and its cgroup is about to be removed.
    pub(crate) fn end(&self, run: RunId) {
        let Some(meter) = self.lock().each.get(&run).cloned() else { return };
        if let Some(cgroup) = &meter.cgroup
            && let (Some(cpu), throttled) = cgroup.cpu(&cgroup.counters())
        {
            let before = meter.counted.unwrap_or_default();
            let counted = waited(cpu, throttled, &Meter { ended: true, ..meter.clone() }, before);
            self.note(run, Reading { counted, memory: 0 });
        }
        self.lock().each.remove(&run);
    }

    fn note(&self, run: RunId, reading: Reading) {
        let mut runs = self.lock();
        let Some(meter) = runs.each.get_mut(&run) else { return };
        // A reading that was overtaken by another counts nothing.
        let before = meter.counted.unwrap_or(reading.counted);
        meter.readings = meter.readings.wrapping_add(1);
        meter.counted = Some(reading.counted.at_least(before));
        self.metrics.used(&meter.key, reading.counted.since(before));
        if !meter.ended {
            self.metrics.holds_memory(&meter.key, reading.memory);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Runs> {
        // Nothing that can panic runs while it is held.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
