//! What anyone may read: the published view of each key and of the desired directories. No secrets are in what is written
//! of it.

use super::difference::Difference;
use super::id::{Generation, Key, RunId};
use super::instance::{DesiredState, Instance, Ports};
use super::isolation::IsolationLevel;
use super::limits::LimitsEffective;
use super::time::Moment;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// The state of an instance, as the contract names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessState {
    /// On the way to running: also waiting for a slot or in backoff.
    Starting,
    /// Its process runs; whether it is healthy is told apart.
    Running,
    /// Its process is being ended.
    Terminating,
    /// Stopped or suspended, and nothing of it lives.
    Terminated,
    /// Its circuit is open, or its key is blocked.
    Failed,
    /// It ended in a way its restart policy accepts.
    Finished,
}

impl ProcessState {
    /// All states, in the contract's order.
    pub const ALL: [Self; 6] =
        [Self::Starting, Self::Running, Self::Terminating, Self::Terminated, Self::Failed, Self::Finished];

    /// The state in lower case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Terminating => "terminating",
            Self::Terminated => "terminated",
            Self::Failed => "failed",
            Self::Finished => "finished",
        }
    }
}

/// Something that is not as it should be, or is held, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// A short name such as `PruneBlocked`, `InvalidFile`, `DuplicateInstance`, `ScanFailed`.
    pub kind: String,
    /// What it is about, with file and line where there is one, as one error text.
    pub message: String,
}

impl Condition {
    /// The kind of a launched instance whose file is not there any more, and whose absence does not count yet.
    pub const FILE_MISSING: &'static str = "FileMissing";
}

/// What was decided for a key, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictStatus {
    /// The action in lower case, such as `none`, `launch`, `terminate`.
    pub action: String,
    /// Why, as a sentence.
    pub reason: String,
    /// In how many seconds the key will be looked at again by itself, as seen when the verdict was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looks_again_in_seconds: Option<f64>,
}

/// Where one key stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// The process id.
    pub process_id: Key,
    /// The pattern's name.
    pub pattern_name: String,
    /// Empty at level `none`.
    pub namespace: String,
    /// Empty unless at level `session`.
    pub session_id: String,
    /// The level.
    pub isolation: IsolationLevel,
    /// What it should be doing; `None` when nothing declares it any more.
    pub desired: Option<DesiredState>,
    /// What it is doing.
    pub state: ProcessState,
    /// Whether its process runs and its health check holds.
    pub healthy: bool,
    /// The kernel's process id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<i32>,
    /// The lifetime that runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Seconds after boot at which it was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at_boot_seconds: Option<f64>,
    /// Its ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Ports>,
    /// Where its gRPC is: `127.0.0.1:<GRPC_PORT>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// How its tree is tracked and killed: `cgroup`, `v1-freezer` or `process-group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking: Option<String>,
    /// Which of its limits are in force, as the kernel says, and which are not and why. Absent where there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits_effective: Option<LimitsEffective>,
    /// The protections that are in force for its process, and the ids it runs under where they are not the launcher's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub isolation_effective: Vec<String>,
    /// The generation that is wished for.
    pub generation: Generation,
    /// The generation that runs.
    pub observed_generation: Generation,
    /// Consecutive failures.
    pub error_count: u32,
    /// Restarts since it was declared.
    pub restart_count: u32,
    /// Whether the circuit is open or half-open.
    pub circuit_open: bool,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Where it is declared: `file:line`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declared_at: Option<String>,
    /// Whether it was launched, rather than declared by a person's file.
    #[serde(default)]
    pub api_managed: bool,
    /// Who launched it, or asked for its last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<String>,
    /// Set while it is stopped by request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspension: Option<SuspensionStatus>,
    /// Seconds after boot at which its `ttl` ends it, unless it is launched again before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_boot_seconds: Option<f64>,
    /// What was decided, and why.
    pub verdict: VerdictStatus,
    /// What is not as it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The last failure with its parts; `last_error` is how it prints. Not written.
    #[serde(skip)]
    pub failure: Option<Error>,
    /// In what its process differs from what is declared, where that replaces it. Not written.
    #[serde(skip)]
    pub differences: Vec<Difference>,
    /// The run that it was a failure of, where that may have printed something. Not written.
    #[serde(skip)]
    pub failed_run: Option<RunId>,
    /// The wish; `None` when nothing declares it any more. It holds secrets and is not written.
    #[serde(skip)]
    pub declared: Option<Arc<Instance>>,
}

impl KeyStatus {
    /// How long its process has been running; `None` when none runs.
    pub fn uptime(&self, now: Moment) -> Option<Duration> {
        let started = Duration::try_from_secs_f64(self.started_at_boot_seconds?).ok()?;
        Some(now.since_boot.saturating_sub(started))
    }

    /// Whether a launch of it at `now` has to be recorded to renew its `ttl`. One that follows shortly upon the last
    /// recorded one is covered by the slack.
    pub fn wants_renewal(&self, now: Moment) -> bool {
        let ttl = self.declared.as_ref().and_then(|instance| instance.content.ttl);
        let (Some(ttl), Some(expires)) = (ttl, self.expires_at_boot_seconds) else { return false };
        // What is left is less than the ttl itself, so the slack since the last renewal is used up.
        Duration::try_from_secs_f64(expires).is_ok_and(|expires| expires.saturating_sub(now.since_boot) <= ttl)
    }
}

/// A stop by request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SuspensionStatus {
    /// For people, as it was given.
    pub reason: String,
    /// Who asked.
    pub by: String,
    /// Seconds after boot at which it ends by itself; absent when it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends_at_boot_seconds: Option<f64>,
}

/// How reading the desired directories went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredStatus {
    /// Each root, in the order of the configuration; the launch directory last.
    pub roots: Vec<RootStatus>,
    /// Conditions of files that declare no key, and of the patterns directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

impl DesiredStatus {
    /// Whether a first complete scan of every root has been decided on.
    pub fn is_ready(&self) -> bool {
        !self.roots.is_empty() && self.roots.iter().all(|root| root.ready)
    }
}

/// How reading one root went.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootStatus {
    /// As configured.
    pub path: PathBuf,
    /// Whether a first complete scan of it has been decided on.
    pub ready: bool,
    /// Keys that it declares.
    pub instances: usize,
    /// Files that were refused.
    pub rejected: usize,
    /// Scans that failed since the launcher started.
    pub scan_failures: u64,
    /// How changes are noticed: `events` or `polling`.
    pub watching: String,
    /// What is not as it should be, such as `ScanFailed` or `PruneBlocked`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
