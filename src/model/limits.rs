//! Which limits a process has, told as the kernel holds them, and what follows where it does not hold what was asked for.

use super::id::Key;
use super::instance::Instance;
use super::pattern::{OomPolicy, Resources};
use super::run::ExitReason;
use super::units;
use crate::error::{Code, Error};
use serde::{Deserialize, Serialize};
use std::fmt;

/// What enforces a limit in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Controller {
    /// CPU time.
    Cpu,
    /// Memory.
    Memory,
    /// Processes and threads.
    Pids,
}

impl Controller {
    /// All that are used.
    pub const ALL: [Self; 3] = [Self::Cpu, Self::Memory, Self::Pids];

    /// The kernel's name of it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }
}

/// One of the limits and requests that an instance can have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Limit {
    /// The most CPU time.
    CpuLimit,
    /// The share of CPU time under contention.
    CpuRequest,
    /// The most memory.
    MemoryLimit,
    /// The memory that is not taken away while others have more than theirs.
    MemoryRequest,
    /// The most processes and threads.
    PidsLimit,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::CpuLimit, Self::CpuRequest, Self::MemoryLimit, Self::MemoryRequest, Self::PidsLimit];

    /// Its key in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CpuLimit => "cpu_limit",
            Self::CpuRequest => "cpu_request",
            Self::MemoryLimit => "memory_limit",
            Self::MemoryRequest => "memory_request",
            Self::PidsLimit => "pids_limit",
        }
    }

    /// By what it is enforced.
    pub const fn controller(self) -> Controller {
        match self {
            Self::CpuLimit | Self::CpuRequest => Controller::Cpu,
            Self::MemoryLimit | Self::MemoryRequest => Controller::Memory,
            Self::PidsLimit => Controller::Pids,
        }
    }

    /// Whether it bounds what a process may use. A request only says what it gets when there is not enough for all.
    pub const fn is_bound(self) -> bool {
        match self {
            Self::CpuLimit | Self::MemoryLimit | Self::PidsLimit => true,
            Self::CpuRequest | Self::MemoryRequest => false,
        }
    }

    /// What `resources` says about it.
    pub const fn of(self, resources: &Resources) -> Option<u64> {
        match self {
            Self::CpuLimit => resources.cpu_limit_millis,
            Self::CpuRequest => resources.cpu_request_millis,
            Self::MemoryLimit => resources.memory_limit,
            Self::MemoryRequest => resources.memory_request,
            Self::PidsLimit => resources.pids_limit,
        }
    }

    /// Its place in `resources`.
    pub const fn within(self, resources: &mut Resources) -> &mut Option<u64> {
        match self {
            Self::CpuLimit => &mut resources.cpu_limit_millis,
            Self::CpuRequest => &mut resources.cpu_request_millis,
            Self::MemoryLimit => &mut resources.memory_limit,
            Self::MemoryRequest => &mut resources.memory_request,
            Self::PidsLimit => &mut resources.pids_limit,
        }
    }

    /// An amount of it for people, as a manifest would have it.
    pub fn amount(self, amount: u64) -> String {
        match self {
            Self::CpuLimit | Self::CpuRequest => units::format_cores(amount),
            Self::MemoryLimit | Self::MemoryRequest => units::format_size(amount),
            Self::PidsLimit => amount.to_string(),
        }
    }

    /// Whether what the kernel holds is what was asked for. It rounds memory down to whole pages and a share of CPU time to a
    /// weight.
    const fn is_met(self, wanted: u64, held: Option<u64>) -> bool {
        match held {
            None => false,
            Some(held) => !self.is_bound() || held <= wanted,
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What of the limits of a process is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsEffective {
    /// As it was read back from the kernel; what is absent is not limited.
    #[serde(default)]
    pub in_force: Resources,
    /// What was asked for and is not in force.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_enforced: Vec<NotEnforced>,
}

/// A limit that was asked for and is not in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotEnforced {
    /// Which.
    pub limit: Limit,
    /// What was asked for: thousandths of a core, bytes, or processes and threads.
    pub wanted: u64,
    /// Why it is not.
    pub reason: String,
}

/// What the kernel kills with for want of memory.
const SIGKILL: i32 = 9;

/// The kernel has killed processes of a run for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OomKill {
    /// How many.
    pub kills: u64,
    /// The run's own limit in bytes, if it was reached; else that of its namespace was, or the machine had no more.
    pub limit: Option<u64>,
    /// The most memory that the run has had at once, in bytes, where the kernel tells.
    pub peak: Option<u64>,
}

impl OomKill {
    /// Whether it is what a run has ended of. With a policy of `continue` that is so only if its main process was killed, as
    /// far as can be told.
    pub const fn ended(policy: OomPolicy, exit: ExitReason) -> bool {
        match (policy, exit) {
            (OomPolicy::Kill, _) | (OomPolicy::Continue, ExitReason::Signal(SIGKILL) | ExitReason::Unknown) => true,
            (OomPolicy::Continue, ExitReason::Code(_) | ExitReason::Signal(_)) => false,
        }
    }

    /// Why a run has failed that ended like this.
    pub fn error(&self, key: &Key, pid: i32, instance: &Instance) -> Error {
        let Self { kills, limit, peak } = self;
        let at = if limit.is_some() { "at its memory_limit" } else { "for want of memory" };
        let mut error = Error::new(Code::ResourceLimitExceeded, format!("'{key}' was killed by the kernel {at}"))
            .with("process_id", key)
            .with("pid", pid)
            .with("processes_killed", kills);
        error = match limit {
            Some(limit) => error.with("memory_limit", units::format_size(*limit)),
            None => error.because("its namespace has reached its ceiling, or the machine has no memory left"),
        };
        if let Some(peak) = peak {
            error = error.with("peak", units::format_size(*peak));
        }
        let manifest = instance.content.launch.pattern.folder.join("manifest.yaml");
        error.suggest(match limit {
            Some(limit) => format!(
                "give it more, for example 'resources: {{ memory_limit: {} }}' in {} or {}, or find out what it keeps in memory",
                units::format_size(limit.saturating_mul(2)),
                instance.origin,
                manifest.display(),
            ),
            None => "see who holds the memory: grep . /proc/pressure/memory; dmesg | grep -i -e oom -e killed".to_owned(),
        })
    }
}

/// What becomes of an instance for which a person wrote a limit that cannot be enforced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Unenforced {
    /// It is started, and its status says so.
    #[default]
    Report,
    /// It is not started.
    Refuse,
}

impl LimitsEffective {
    /// Compares what was asked for with what the kernel holds; `reason` says why it does not hold a limit.
    pub fn compare(wanted: &Resources, in_force: Resources, reason: impl Fn(Limit) -> String) -> Self {
        let not_enforced = Limit::ALL
            .into_iter()
            .filter_map(|limit| Some((limit, limit.of(wanted)?)))
            .filter(|(limit, wanted)| !limit.is_met(*wanted, limit.of(&in_force)))
            .map(|(limit, wanted)| NotEnforced { limit, wanted, reason: reason(limit) })
            .collect();
        Self { in_force, not_enforced }
    }

    /// What is in force, for people; empty when nothing is.
    pub fn in_words(&self) -> String {
        let limits = Limit::ALL
            .into_iter()
            .filter_map(|limit| Some(format!("{limit} {}", limit.amount(limit.of(&self.in_force)?))));
        let policy = self.in_force.oom_policy.map(|policy| format!("oom_policy {}", policy.as_str()));
        limits.chain(policy).collect::<Vec<_>>().join(", ")
    }

    /// What is not, for people; empty when nothing is missing.
    pub fn missing_in_words(&self) -> String {
        let parts: Vec<String> = self
            .not_enforced
            .iter()
            .map(|NotEnforced { limit, wanted, reason }| format!("{limit} {}: {reason}", limit.amount(*wanted)))
            .collect();
        parts.join("; ")
    }

    /// Whether there is nothing to tell.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Why an instance is not started with these. A request never keeps it from starting, nor does a limit that comes from
    /// a profile.
    pub fn refusal(&self, instance: &Instance, unenforced: Unenforced) -> Option<Error> {
        if unenforced == Unenforced::Report {
            return None;
        }
        let lacking = |missing: &&NotEnforced| missing.limit.is_bound() && !instance.defaulted.contains(&missing.limit);
        let NotEnforced { limit, reason, .. } = self.not_enforced.iter().find(lacking)?;
        Some(refused(&instance.key, *limit, reason, instance))
    }
}

fn refused(key: &Key, limit: Limit, reason: &str, instance: &Instance) -> Error {
    let manifest = instance.content.launch.pattern.folder.join("manifest.yaml");
    Error::new(Code::InvalidConfiguration, format!("'{key}' is not started, since its {limit} cannot be enforced here"))
        .with("process_id", key)
        .with("limit", limit)
        .because(reason)
        .suggest(format!(
            "give the launcher a cgroup with the {} controller (under systemd Delegate=yes and DelegateSubgroup=launcher), \
             remove {limit} from {} or {}, or use the development profile, which only reports it",
            limit.controller().as_str(),
            instance.origin,
            manifest.display(),
        ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::samples;

    fn wanted() -> Resources {
        Resources {
            cpu_limit_millis: Some(500),
            memory_limit: Some(100_000),
            memory_request: Some(50_000),
            ..Resources::default()
        }
    }

    fn missing(of: &LimitsEffective) -> Vec<Limit> {
        of.not_enforced.iter().map(|missing| missing.limit).collect()
    }

    #[test]
    fn what_the_kernel_holds_decides_and_not_what_was_asked_for() {
        let none = LimitsEffective::compare(&wanted(), Resources::default(), |limit| format!("no {limit}"));
        assert_eq!(missing(&none), [Limit::CpuLimit, Limit::MemoryLimit, Limit::MemoryRequest]);
        assert_eq!(none.not_enforced[0].reason, "no cpu_limit");
        // 24 pages of 4096 bytes: the kernel rounds down.
        let held = Resources { memory_limit: Some(98_304), memory_request: Some(49_152), ..wanted() };
        assert_eq!(missing(&LimitsEffective::compare(&wanted(), held, |_| String::new())), []);
        let more = Resources { memory_limit: Some(200_000), ..wanted() };
        assert_eq!(missing(&LimitsEffective::compare(&wanted(), more, |_| String::new())), [Limit::MemoryLimit]);
        assert!(LimitsEffective::compare(&Resources::default(), Resources::default(), |_| String::new()).is_empty());
    }

    #[test]
    fn only_a_bound_that_a_person_wrote_refuses_and_only_where_that_is_asked_for() {
        let mut instance = samples::instance("p", "t", 1, 1);
        let none = LimitsEffective::compare(&wanted(), Resources::default(), |_| "no controller".to_owned());
        assert_eq!(none.refusal(&instance, Unenforced::Report), None);
        let error = none.refusal(&instance, Unenforced::Refuse).expect("a refusal");
        assert_eq!(error.code(), Code::InvalidConfiguration);
        assert!(error.to_string().contains("cpu_limit") && error.to_string().contains("no controller"), "{error}");
        instance.defaulted = vec![Limit::CpuLimit];
        let error = none.refusal(&instance, Unenforced::Refuse).expect("a refusal");
        assert!(error.to_string().contains("memory_limit"), "{error}");
        instance.defaulted = vec![Limit::CpuLimit, Limit::MemoryLimit];
        assert_eq!(none.refusal(&instance, Unenforced::Refuse), None, "a request is no limit");
    }
}
