//! What runs use: read in the background, a few at a time, so that nobody who asks for metrics waits for the kernel.
//!
//! A reading counts what was used since the one before. The first of a process that was adopted counts nothing, since
//! what it used before is not this launcher's to tell.

use super::cgroup::RunCgroup;
use super::identity::ProcessUse;
use super::tree::Tree;
use crate::metrics::Metrics;
use crate::model::{Key, ProcessIdentity, RunId};
use rustix::param::{clock_ticks_per_second, page_size};
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often some runs are read.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// How many are read at once, two files each, so that the cost has a bound however many runs there are. Up to this many are
/// read in every interval; of more, each has its turn.
const AT_ONCE: usize = 500;

/// What the processes of a run use together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Reading {
    cpu: Duration,
    memory: u64,
}

/// Reads what a run uses: of its whole tree where its cgroup tells, else of its main process. A v2 cgroup tells CPU time
/// without any controller, and memory with the memory controller.
fn read(identity: &ProcessIdentity, cgroup: Option<&RunCgroup>) -> Option<Reading> {
    let cpu = cgroup.and_then(|cgroup| cgroup_cpu(cgroup.path()));
    let memory = cgroup.and_then(RunCgroup::memory);
    if let (Some(cpu), Some(memory)) = (cpu, memory) {
        return Some(Reading { cpu, memory });
    }
    let main = ProcessUse::read(identity);
    let cpu = cpu.or_else(|| {
        let main = main?;
        Some(Duration::from_millis(main.cpu_ticks.saturating_mul(1_000) / clock_ticks_per_second().max(1)))
    })?;
    // What has ended holds nothing.
    let pages = main.map_or(0, |main| main.resident_pages);
    Some(Reading { cpu, memory: memory.unwrap_or_else(|| pages.saturating_mul(page_size() as u64)) })
}

fn cgroup_cpu(folder: &Path) -> Option<Duration> {
    let text = std::fs::read_to_string(folder.join("cpu.stat")).ok()?;
    let micros = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
    micros.parse().ok().map(Duration::from_micros)
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
    /// CPU time at the last reading; `None` before the first of one that was adopted.
    counted: Option<Duration>,
    /// Whether the cgroup tells CPU time, so that a last reading can wait until it is about to be removed.
    cgroup_tells: bool,
    /// Whether its main process has ended. Another run of the key may have begun by the time its tree is gone.
    ended: bool,
}

impl Meters {
    /// Of no runs yet.
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, runs: Mutex::default() }
    }

    /// A run is read from now on.
    pub(crate) fn begin(&self, key: &Key, run: RunId, identity: &ProcessIdentity, tree: &Tree, from: Beginning) {
        self.metrics.usage_begins(key);
        let (cgroup, cgroup_tells) = match tree {
            Tree::Cgroup(cgroup) => (Some(cgroup.clone()), cgroup.tells_cpu()),
            Tree::Group(_) => (None, false),
        };
        let counted = match from {
            Beginning::Started => Some(Duration::ZERO),
            Beginning::Adopted => None,
        };
        let meter = Meter { key: key.clone(), identity: identity.clone(), cgroup, counted, cgroup_tells, ended: false };
        let mut runs = self.lock();
        runs.each.insert(run, meter);
        runs.turns.push_back(run);
    }

    /// Reads the next few runs. Returns those of which the kernel has killed a part for want of memory, and not the rest.
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
        for (run, meter) in few {
            // Without the lock, since this is what takes time.
            if let Some(reading) = read(&meter.identity, meter.cgroup.as_ref()) {
                self.note(run, reading);
            }
            if meter.cgroup.as_ref().is_some_and(RunCgroup::is_broken) {
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
            && let Some(reading) = read(&meter.identity, meter.cgroup.as_ref())
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
        let cgroup = self.lock().each.get(&run).and_then(|meter| meter.cgroup.clone());
        if let Some(cpu) = cgroup.and_then(|cgroup| cgroup_cpu(cgroup.path())) {
            self.note(run, Reading { cpu, memory: 0 });
        }
        self.lock().each.remove(&run);
    }

    fn note(&self, run: RunId, reading: Reading) {
        let mut runs = self.lock();
        let Some(meter) = runs.each.get_mut(&run) else { return };
        // A reading that was overtaken by another counts nothing.
        let counted = meter.counted.unwrap_or(reading.cpu);
        let more = reading.cpu.saturating_sub(counted);
        meter.counted = Some(counted.max(reading.cpu));
        self.metrics.used_cpu(&meter.key, more);
        if !meter.ended {
            self.metrics.holds_memory(&meter.key, reading.memory);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Runs> {
        // Nothing that can panic runs while it is held.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
