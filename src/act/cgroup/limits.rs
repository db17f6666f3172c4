//! The files by which a run is limited, in v2 and in v1, written and read back.
//!
//! Which of the two a controller has is told by the files that are there, so nothing has to be remembered of it: a run that
//! another launcher has started is read in the same way.

use super::{Base, RunCgroup};
use crate::act::kernel_file;
use crate::model::limits::{Controller, Limit, LimitsEffective};
use crate::model::{OomKill, OomPolicy, Resources};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// The span that a limit of CPU time is a part of, in microseconds: what the kernel itself takes.
const PERIOD: u64 = 100_000;
/// Of a limit that is too small a part of that: the kernel allows no less than a millisecond of a span, and no longer span.
const LONG_PERIOD: u64 = 1_000_000;
/// The smallest limit that is a part of [`PERIOD`], in thousandths of a core.
const SMALL: u64 = 10;
/// What v1 says where there is no limit of memory: all that fits, in whole pages.
const V1_NO_LIMIT: u64 = 1 << 62;

/// Whether what is in a v2 cgroup is killed together.
const OOM_GROUP: &str = "memory.oom.group";

/// Which files a controller has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Files {
    V2(PathBuf),
    V1(PathBuf),
}

/// Why a limit could not be written.
pub(crate) type Failures = BTreeMap<Limit, String>;

impl RunCgroup {
    /// Sees to it that the kernel holds what is wanted, as far as it does not yet; says what could not be written.
    pub(crate) fn limit(&self, wanted: &Resources) -> Failures {
        self.follow(wanted.on_oom());
        self.set(wanted)
    }

    /// The same for a group of several runs, of which one is not killed for another.
    pub(super) fn set(&self, wanted: &Resources) -> Failures {
        let held = self.held(wanted);
        let mut failures = Failures::new();
        for limit in Limit::ALL {
            let value = limit.of(wanted);
            if value == limit.of(&held) {
                continue;
            }
            let Some(files) = self.files(limit.controller()) else { continue };
            if let Err(error) = files.write(limit, value) {
                failures.insert(limit, format!("the kernel refuses it: {error}"));
            }
        }
        failures
    }

    /// What the kernel holds. A weight is told as the request that it was made from, if that is what is wanted.
    pub(crate) fn held(&self, wanted: &Resources) -> Resources {
        let mut held = Resources::default();
        for limit in Limit::ALL {
            let files = self.files(limit.controller());
            *limit.within(&mut held) = files.and_then(|files| files.read(limit, limit.of(wanted)));
        }
        held.oom_policy = self.goes_on(wanted.on_oom()).then_some(OomPolicy::Continue);
        held
    }

    /// Whether the kernel has killed something of it for want of memory.
    pub(crate) fn oom(&self) -> Option<OomKill> {
        self.files(Controller::Memory)?.oom()
    }

    /// What has the files of a controller: the cgroup that the tree is tracked by, or one of those beside it.
    pub(super) fn files(&self, controller: Controller) -> Option<Files> {
        let (v2, v1) = match controller {
            Controller::Cpu => ("cpu.max", "cpu.shares"),
            Controller::Memory => ("memory.max", "memory.limit_in_bytes"),
            Controller::Pids => ("pids.max", "pids.max"),
        };
        if self.path.join(v2).exists() {
            return Some(Files::V2(self.path.clone()));
        }
        let beside = std::iter::once(&self.path).chain(&self.limits).find(|folder| folder.join(v1).exists());
        beside.map(|folder| Files::V1(folder.clone()))
    }

    /// Whether the kernel kills all of it when it kills one process for want of memory. v1 has nothing of the kind: there the
    /// launcher kills the rest.
    fn follow(&self, policy: OomPolicy) {
        let together = match policy {
            OomPolicy::Kill => "1",
            OomPolicy::Continue => "0",
        };
        let file = self.path.join(OOM_GROUP);
        if file.exists()
            && let Err(error) = std::fs::write(&file, together)
        {
            tracing::debug!(file = %file.display(), %error, "the kernel does not take the oom_policy of a run");
        }
    }

    /// Whether the rest of it goes on when one process is killed for want of memory.
    fn goes_on(&self, wanted: OomPolicy) -> bool {
        match self.files(Controller::Memory) {
            Some(Files::V2(folder)) => number(&folder, OOM_GROUP) == Some(0),
            Some(Files::V1(_)) => wanted == OomPolicy::Continue,
            None => false,
        }
    }
}

/// Limits a run as is wanted, and says what of it is in force. `base` says why a controller cannot be used.
pub(crate) fn enforce(cgroup: &RunCgroup, base: Option<&Base>, wanted: &Resources) -> LimitsEffective {
    let failures = cgroup.limit(wanted);
    let why = |limit: Limit| {
        let missing = || base.and_then(|base| base.missing(limit.controller())).map(str::to_owned);
        failures.get(&limit).cloned().or_else(missing).unwrap_or_else(|| {
            let name = limit.controller().as_str();
            format!(
                "the process was started without a cgroup of the {name} controller; it has one once it is started anew"
            )
        })
    };
    LimitsEffective::compare(wanted, cgroup.held(wanted), why)
}

/// What is in force of the limits of a run that has no cgroup: nothing.
pub(crate) fn unlimited(wanted: &Resources) -> LimitsEffective {
    LimitsEffective::compare(wanted, Resources::default(), |_| "its processes are not in a cgroup".to_owned())
}

/// The controllers that a run with these needs.
pub(crate) fn needed(wanted: &Resources) -> BTreeSet<Controller> {
    Limit::ALL.into_iter().filter(|limit| limit.of(wanted).is_some()).map(Limit::controller).collect()
}

impl Files {
    /// The processes that the kernel has killed for want of memory.
    pub(super) fn oom(&self) -> Option<OomKill> {
        match self {
            Self::V2(folder) => {
                let events = kernel_file::text(folder.join("memory.events")).ok()?;
                let kills = counted(&events, "oom_kill").filter(|kills| *kills > 0)?;
                // Without one of these the memory was that of its namespace, or of the machine.
                let own = counted(&events, "oom").is_some_and(|times| times > 0);
                let limit = number(folder, "memory.max").filter(|_| own);
                Some(OomKill { kills, limit, peak: number(folder, "memory.peak") })
            }
            Self::V1(folder) => {
                let control = kernel_file::text(folder.join("memory.oom_control")).ok()?;
                let kills = counted(&control, "oom_kill").filter(|kills| *kills > 0)?;
                let peak = number(folder, "memory.max_usage_in_bytes");
                let limit = number(folder, "memory.limit_in_bytes");
                // It is charged in batches, so that the peak can be a little less.
                let own = |limit: &u64| peak.is_none_or(|peak| peak >= limit - limit / 50);
                Some(OomKill { kills, limit: limit.filter(own), peak })
            }
        }
    }

    fn write(&self, limit: Limit, value: Option<u64>) -> io::Result<()> {
        match (self, limit) {
            (Self::V2(folder), Limit::CpuLimit) => put(folder, "cpu.max", &v2_quota(value)),
            (Self::V2(folder), Limit::CpuRequest) => put(folder, "cpu.weight", &weight(value).to_string()),
            (Self::V2(folder), Limit::MemoryLimit) => {
                // What is limited in memory is not to push the rest out to disk instead. Not every kernel has swap.
                optional(put(folder, "memory.swap.max", if value.is_some() { "0" } else { "max" }))?;
                put(folder, "memory.max", &or_max(value))
            }
            (Self::V2(folder), Limit::MemoryRequest) => put(folder, "memory.low", &value.unwrap_or(0).to_string()),
            (Self::V2(folder) | Self::V1(folder), Limit::PidsLimit) => put(folder, "pids.max", &or_max(value)),
            (Self::V1(folder), Limit::CpuLimit) => v1_quota(folder, value),
            (Self::V1(folder), Limit::CpuRequest) => put(folder, "cpu.shares", &shares(value).to_string()),
            (Self::V1(folder), Limit::MemoryLimit) => v1_memory(folder, value),
            (Self::V1(_), Limit::MemoryRequest) if value.is_none() => Ok(()),
            (Self::V1(_), Limit::MemoryRequest) => {
                Err(io::Error::new(ErrorKind::Unsupported, "a v1 memory controller protects no memory"))
            }
        }
    }

    fn read(&self, limit: Limit, wanted: Option<u64>) -> Option<u64> {
        match (self, limit) {
            (Self::V2(folder), Limit::CpuLimit) => {
                let text = std::fs::read_to_string(folder.join("cpu.max")).ok()?;
                let (quota, period) = text.trim().split_once(' ')?;
                millis(quota.parse().ok()?, period.parse().ok()?)
            }
            (Self::V2(folder), Limit::CpuRequest) => {
                let found = number(folder, "cpu.weight")?;
                if found == weight(wanted) { wanted } else { Some(found * 10) }
            }
            (Self::V2(folder), Limit::MemoryLimit) => number(folder, "memory.max"),
            (Self::V2(folder), Limit::MemoryRequest) => number(folder, "memory.low").filter(|found| *found > 0),
            (Self::V2(folder) | Self::V1(folder), Limit::PidsLimit) => number(folder, "pids.max"),
            (Self::V1(folder), Limit::CpuLimit) => {
                // -1 is no limit, and no number here.
                millis(number(folder, "cpu.cfs_quota_us")?, number(folder, "cpu.cfs_period_us")?)
            }
            (Self::V1(folder), Limit::CpuRequest) => {
                let found = number(folder, "cpu.shares")?;
                if found == shares(wanted) { wanted } else { Some(found.saturating_mul(1_000) / 1_024) }
            }
            (Self::V1(folder), Limit::MemoryLimit) => {
                number(folder, "memory.limit_in_bytes").filter(|found| *found < V1_NO_LIMIT)
            }
            (Self::V1(_), Limit::MemoryRequest) => None,
        }
    }
}

/// The limit itself comes before that of memory and swap together, which must not be the smaller; one that is raised is
/// in the way of that, and then it is the other way round.
fn v1_memory(folder: &Path, value: Option<u64>) -> io::Result<()> {
    let text = value.map_or_else(|| "-1".to_owned(), |bytes| bytes.to_string());
    let limit = || put(folder, "memory.limit_in_bytes", &text);
    // Not every kernel accounts swap.
    let both = || optional(put(folder, "memory.memsw.limit_in_bytes", &text));
    match limit() {
        Err(error) if error.kind() == ErrorKind::InvalidInput => both().and_then(|()| limit()),
        written => written.and_then(|()| both()),
    }
}

fn v1_quota(folder: &Path, value: Option<u64>) -> io::Result<()> {
    let Some(millis) = value else { return put(folder, "cpu.cfs_quota_us", "-1") };
    let (quota, period) = quota(millis);
    put(folder, "cpu.cfs_period_us", &period.to_string())?;
    put(folder, "cpu.cfs_quota_us", &quota.to_string())
}

fn v2_quota(value: Option<u64>) -> String {
    match value.map(quota) {
        Some((quota, period)) => format!("{quota} {period}"),
        None => format!("max {PERIOD}"),
    }
}

/// Microseconds of CPU time within a span of so many.
const fn quota(millis: u64) -> (u64, u64) {
    let period = if millis < SMALL { LONG_PERIOD } else { PERIOD };
    (millis.saturating_mul(period / 1_000), period)
}

const fn millis(quota: u64, period: u64) -> Option<u64> {
    quota.saturating_mul(1_000).checked_div(period)
}

/// One core is the kernel's usual weight.
fn weight(millis: Option<u64>) -> u64 {
    millis.map_or(100, |millis| (millis / 10).clamp(1, 10_000))
}

/// The same in v1.
fn shares(millis: Option<u64>) -> u64 {
    millis.map_or(1_024, |millis| millis.saturating_mul(1_024) / 1_000).clamp(2, 262_144)
}

fn or_max(value: Option<u64>) -> String {
    value.map_or_else(|| "max".to_owned(), |value| value.to_string())
}

/// Never makes a file: in a cgroup that is an error of its own, and elsewhere a file would be taken for the kernel's.
fn put(folder: &Path, file: &str, text: &str) -> io::Result<()> {
    use std::io::Write as _;
    std::fs::OpenOptions::new().write(true).truncate(true).open(folder.join(file))?.write_all(text.as_bytes())
}

fn optional(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(absent) if absent.kind() == ErrorKind::NotFound => Ok(()),
        written => written,
    }
}

/// The number behind a name.
pub(super) fn counted(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

pub(super) fn number(folder: &Path, file: &str) -> Option<u64> {
    kernel_file::text(folder.join(file)).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
