//! What a manifest says, checked and with its defaults filled in.

use super::id::PatternName;
use super::isolation::IsolationLevel;
use super::privileges::Privileges;
use super::secret::Secret;
use super::units;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// A pattern as its `manifest.yaml` and its executable are now.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    /// Equal to the name of its folder.
    pub name: PatternName,
    /// The level of instances that name none; the launcher's own default when absent.
    pub isolation_level: Option<IsolationLevel>,
    /// Instances may not ask for less.
    pub minimum_isolation: Option<IsolationLevel>,
    /// What a process of this pattern is started from.
    pub revision: PatternRevision,
    /// How its health is found out; without it an instance is healthy while it runs.
    pub healthcheck: Option<HealthCheck>,
    /// Limits and requests; an instance may override each.
    pub resources: Resources,
    /// How a process is stopped and restarted.
    pub lifecycle: Lifecycle,
    /// Backends that an instance binds.
    pub slots: Vec<Slot>,
    /// Free text for people.
    pub description: Option<String>,
    /// Free text for people.
    pub author: Option<String>,
}

/// The part of a pattern that a process is started from: a change of it replaces the processes of the pattern.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PatternRevision {
    /// The manifest's version; free text.
    pub version: String,
    /// The manifest's folder as configured, links not resolved: working directory and base of relative paths.
    pub folder: PathBuf,
    /// As declared: relative to the folder when it contains a `/`, else looked up on `PATH`; or absolute.
    pub executable: String,
    /// Hash of the executable's content, for files below the folder only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Arguments before `$(NAME)` is replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// The manifest's environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, Secret>,
    /// The preferred `HEALTH_PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preferred_port: Option<u16>,
    /// Who it runs as, its limits and protections.
    #[serde(default, skip_serializing_if = "Privileges::is_default")]
    pub privileges: Privileges,
}

/// How a process is asked for its health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub target: ProbeTarget,
    /// Between two probes of a process that has been healthy.
    #[serde(with = "units::duration")]
    pub interval: Duration,
    /// How long one probe may take.
    #[serde(with = "units::duration")]
    pub timeout: Duration,
    /// Consecutive failures that make a healthy process be restarted; at least 1.
    pub failure_threshold: u32,
    /// Consecutive successes that make a process healthy; at least 1.
    pub success_threshold: u32,
    /// Not healthy by then is a failed start.
    #[serde(with = "units::duration")]
    pub startup_timeout: Duration,
    /// Whose processes may listen on its ports.
    #[serde(default, skip_serializing_if = "Answerer::is_own")]
    pub answered_by: Answerer,
}

/// Whose processes may listen on the ports of an instance that counts as healthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Answerer {
    /// Its own.
    #[default]
    Own,
    /// Anybody's: of a program that has somebody else open its ports, as `docker run -p` does.
    Any,
}

impl Answerer {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
    fn is_own(&self) -> bool {
        *self == Self::Own
    }
}

/// What a probe asks. All but `exec` go to `127.0.0.1` and the instance's `HEALTH_PORT`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeTarget {
    /// `GET` of a path; healthy at 200–399, redirects are not followed.
    Http {
        /// The path, beginning with `/`.
        path: String,
    },
    /// A connection that is accepted.
    Tcp,
    /// A command in the instance's environment and folder; healthy at exit code 0.
    Exec {
        /// Program and arguments, `$(NAME)` replaced.
        command: Vec<String>,
    },
    /// `grpc.health.v1.Health/Check` of the empty service; healthy at `SERVING`.
    Grpc,
}

impl ProbeTarget {
    /// The name of the type in a manifest.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Http { .. } => "http",
            Self::Tcp => "tcp",
            Self::Exec { .. } => "exec",
            Self::Grpc => "grpc",
        }
    }
}

/// Limits and requests; what is absent is not limited.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Thousandths of a core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_limit_millis: Option<u64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_limit: Option<u64>,
    /// Thousandths of a core; becomes a weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_request_millis: Option<u64>,
    /// Bytes; becomes a protection where the kernel has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_request: Option<u64>,
    /// Processes and threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids_limit: Option<u64>,
    /// What becomes of the rest of it where the kernel kills a process for want of memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub oom_policy: Option<OomPolicy>,
}

/// What becomes of an instance of which the kernel has killed a process for want of memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OomPolicy {
    /// All of it is killed, and that is its failure: half an instance is of no use.
    #[default]
    Kill,
    /// The rest goes on. It has failed if its main process was the one.
    Continue,
}

impl OomPolicy {
    /// Its name in a manifest.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Continue => "continue",
        }
    }
}

impl Resources {
    /// These, with what `overrides` sets put in their place.
    #[must_use]
    pub fn overridden_by(&self, overrides: &Self) -> Self {
        Self {
            cpu_limit_millis: overrides.cpu_limit_millis.or(self.cpu_limit_millis),
            memory_limit: overrides.memory_limit.or(self.memory_limit),
            cpu_request_millis: overrides.cpu_request_millis.or(self.cpu_request_millis),
            memory_request: overrides.memory_request.or(self.memory_request),
            pids_limit: overrides.pids_limit.or(self.pids_limit),
            oom_policy: overrides.oom_policy.or(self.oom_policy),
        }
    }

    /// The policy, which nobody has to name.
    pub fn on_oom(&self) -> OomPolicy {
        self.oom_policy.unwrap_or_default()
    }
}

/// How a process is stopped and when it is started again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lifecycle {
    /// What the main process is sent first.
    pub stop_signal: StopSignal,
    /// From the stop signal to the killing of the whole tree.
    #[serde(with = "units::duration")]
    pub grace_period: Duration,
    /// Which exits are followed by a new start.
    pub restart: RestartPolicy,
}

/// The signal that asks a process to end. Its number is that of Linux.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub enum StopSignal {
    /// Hang-up.
    #[serde(rename = "SIGHUP")]
    Hup,
    /// Interrupt, as from Ctrl-C.
    #[serde(rename = "SIGINT")]
    Int,
    /// Quit.
    #[serde(rename = "SIGQUIT")]
    Quit,
    /// Terminate: the default.
    #[serde(rename = "SIGTERM")]
    Term,
    /// User-defined 1.
    #[serde(rename = "SIGUSR1")]
    Usr1,
    /// User-defined 2.
    #[serde(rename = "SIGUSR2")]
    Usr2,
    /// Window change, which nginx and httpd take as a graceful stop.
    #[serde(rename = "SIGWINCH")]
    Winch,
    /// Kill at once.
    #[serde(rename = "SIGKILL")]
    Kill,
}

/// Which exits are followed by a new start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// Every exit is a failure and is followed by a new start.
    Always,
    /// Exit code 0 is the end; anything else is a failure.
    OnFailure,
    /// Any exit is the end.
    Never,
}

/// A backend that an instance binds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot {
    /// Becomes `SLOT_<NAME>_…`.
    pub name: String,
    /// Becomes `SLOT_<NAME>_TYPE`.
    pub kind: Option<String>,
    /// Whether an instance must bind it.
    pub required: bool,
}
