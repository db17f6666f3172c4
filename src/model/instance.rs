//! One wish: this pattern should run for this tenant. Resolved against its manifest, so that nothing else is needed.

use super::id::{Key, PatternName};
use super::isolation::Isolation;
use super::limits::Limit;
use super::pattern::{HealthCheck, PatternRevision, Resources, RestartPolicy, StopSignal};
use super::secret::Secret;
use super::units;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// An instance as it is wished for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// The process id.
    pub key: Key,
    /// The pattern to run.
    pub pattern: PatternName,
    /// For whom.
    pub isolation: Isolation,
    /// What a change of makes a new generation.
    pub content: Content,
    /// Where it is declared. Not content: a renamed file changes nothing that runs.
    pub origin: Origin,
    /// Which of its limits nobody wrote: they come from the profile. Not content: it changes nothing that runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub defaulted: Vec<Limit>,
}

/// What an instance says, apart from who it is and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// What the process is started from: a change replaces it.
    pub launch: Arc<StartSpec>,
    /// How the process is looked after: a change takes effect on the one that runs.
    pub supervision: Supervision,
    /// Whether it should run.
    pub state: DesiredState,
    /// It ends this long after the last launch that named it; launched instances only. A change of it restarts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "units::optional_duration")]
    pub ttl: Option<Duration>,
}

impl Content {
    /// By how much a `ttl` may be exceeded: a tenth of it, and no more than ten seconds. A renewal that came this shortly
    /// after the last recorded one need not be recorded, and still nothing ends too early.
    pub fn ttl_slack(ttl: Duration) -> Duration {
        (ttl / 10).min(Duration::from_secs(10))
    }

    /// Whether the two differ in nothing but their `ttl`.
    pub fn same_but_for_ttl(&self, other: &Self) -> bool {
        let Self { launch, supervision, state, ttl: _ } = self;
        *launch == other.launch && *supervision == other.supervision && *state == other.state
    }
}

/// What a process is started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartSpec {
    /// The pattern's part: replaced `max_unavailable` at a time.
    pub pattern: PatternRevision,
    /// The instance's `config` and slots as environment variables.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, Secret>,
    /// Files that the process finds under `$CREDENTIALS_DIRECTORY`, by the names that they have there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub credentials: BTreeMap<String, PathBuf>,
}

/// How a process is looked after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Supervision {
    /// How its health is found out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthCheck>,
    /// What the main process is sent first in a requested stop.
    pub stop_signal: StopSignal,
    /// From the stop signal to the killing of the whole tree.
    #[serde(with = "units::duration")]
    pub grace_period: Duration,
    /// Which exits are followed by a new start.
    pub restart: RestartPolicy,
    /// Limits and requests.
    #[serde(default)]
    pub resources: Resources,
}

/// What an instance should be doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DesiredState {
    /// It should run.
    Running,
    /// It is declared and should not run.
    Stopped,
}

/// Where an instance is declared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The desired root, as configured.
    pub root: PathBuf,
    /// The file, relative to the root.
    pub file: PathBuf,
    /// The line of the document's first key, or of the entry in `namespaces`; counted from 1.
    pub line: u32,
    /// Whether the root is the launch directory.
    #[serde(default)]
    pub api_managed: bool,
}

impl Origin {
    /// The file's full path.
    pub fn path(&self) -> PathBuf {
        self.root.join(&self.file)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path().display(), self.line)
    }
}

/// The two ports a process is given. They stay with the key for as long as it is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Ports {
    /// `GRPC_PORT`.
    pub grpc: u16,
    /// `HEALTH_PORT`.
    pub health: u16,
}
