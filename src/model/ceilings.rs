//! What the processes of the launcher and of each namespace may come to together.

use super::pattern::Resources;
use std::collections::BTreeMap;

/// The ceilings of one namespace; what is absent has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ceiling {
    /// Processes that run, start or end.
    pub instances: Option<u64>,
    /// Starts under way at once.
    pub starts: Option<u64>,
    /// The sum of their cpu limits, in thousandths of a core.
    pub cpu_millis: Option<u64>,
    /// The sum of their memory limits, in bytes.
    pub memory: Option<u64>,
    /// The sum of their pids limits.
    pub pids: Option<u64>,
}

/// All ceilings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ceilings {
    /// Processes of the launcher, whatever their namespace.
    pub processes: Option<u64>,
    /// Of a namespace that is not named.
    pub usual: Ceiling,
    /// By namespace; whole, with what each takes over from `usual`.
    pub named: BTreeMap<String, Ceiling>,
}

impl Ceilings {
    /// Those of a namespace. What runs at level `none` is in no namespace, so only `processes` holds for it.
    pub fn of(&self, namespace: &str) -> Ceiling {
        if namespace.is_empty() {
            return Ceiling::default();
        }
        self.named.get(namespace).copied().unwrap_or(self.usual)
    }

    /// The most starts that a namespace may have under way; `share` is what every namespace may.
    pub fn starts(&self, namespace: &str, share: usize) -> usize {
        self.of(namespace).starts.and_then(|starts| usize::try_from(starts).ok()).map_or(share, |most| most.min(share))
    }

    /// Whether anything bounds what a key of this namespace needs.
    pub fn bound(&self, namespace: &str) -> bool {
        let Ceiling { instances, starts: _, cpu_millis, memory, pids } = self.of(namespace);
        [self.processes, instances, cpu_millis, memory, pids].iter().any(Option::is_some)
    }
}

/// What processes count with: their declared limits. One without a limit counts with none, since nothing says how much
/// it will use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Processes.
    pub instances: u64,
    /// Thousandths of a core.
    pub cpu_millis: u64,
    /// Bytes.
    pub memory: u64,
    /// Processes and threads of theirs.
    pub pids: u64,
}

impl Load {
    /// That of one process.
    pub fn of(resources: &Resources) -> Self {
        Self {
            instances: 1,
            cpu_millis: resources.cpu_limit_millis.unwrap_or(0),
            memory: resources.memory_limit.unwrap_or(0),
            pids: resources.pids_limit.unwrap_or(0),
        }
    }

    /// Both together.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            instances: self.instances.saturating_add(other.instances),
            cpu_millis: self.cpu_millis.saturating_add(other.cpu_millis),
            memory: self.memory.saturating_add(other.memory),
            pids: self.pids.saturating_add(other.pids),
        }
    }
}
