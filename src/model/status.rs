//! What anyone may read: the published view of each key and of the desired directories. No secrets are in here.

use super::id::{Generation, Key, RunId};
use super::instance::{DesiredState, Ports};
use super::isolation::IsolationLevel;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

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
    /// Declared as stopped, and nothing of it lives.
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
    /// How its tree is tracked and killed: `cgroup` or `process-group`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracking: Option<String>,
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
    /// What was decided, and why.
    pub verdict: VerdictStatus,
    /// What is not as it should be.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
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
