//! What is remembered about a key, and about one lifetime of its process. Both are written to disk.

use super::caller::Caller;
use super::id::{Generation, Key, RunId};
use super::instance::{Content, Instance, Ports, StartSpec, Supervision};
use super::privileges::Confinement;
use super::time::{BootId, Moment};
use super::units;
use crate::error::Error;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// What is remembered about a key for as long as it is declared. Survives the launcher and the machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// The last good wish, resolved, and where it came from.
    pub instance: Arc<Instance>,
    /// Grows when the content of the instance changes.
    pub generation: Generation,
    /// The key's ports, once it has been started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Ports>,
    /// Consecutive failures.
    #[serde(default)]
    pub streak: u32,
    /// No start before this moment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_before: Option<Moment>,
    /// Whether starts are blocked after too many failures.
    #[serde(default)]
    pub circuit: Circuit,
    /// The run ended in a way its restart policy accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Finished>,
    /// The last failure.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "last_error::deserialize")]
    pub last_error: Option<Error>,
    /// The run that it was a failure of, where that may have printed something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<RunId>,
    /// Restarts since it was declared: after a failure, or because somebody asked. Replacing what has changed is none.
    #[serde(default)]
    pub restarts: u32,
    /// Whether its process was replaced by a rollout and has not been healthy since.
    #[serde(default)]
    pub rollout: Rollout,
    /// The last run whose end, or whose failure, has been counted: it is never counted twice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<RunId>,
    /// Who launched it, or asked for its last change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_by: Option<Caller>,
    /// Set while it is stopped by request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspension: Option<Suspension>,
    /// The last recorded launch of it: its `ttl` counts from then. `None` without a `ttl`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewed: Option<Moment>,
}

impl Memory {
    /// The memory of a key that was never declared before.
    pub fn new(instance: Arc<Instance>) -> Self {
        Self {
            instance,
            generation: Generation(1),
            ports: None,
            streak: 0,
            not_before: None,
            circuit: Circuit::Closed,
            finished: None,
            last_error: None,
            failed: None,
            restarts: 0,
            rollout: Rollout::None,
            ended: None,
            asked_by: None,
            suspension: None,
            renewed: None,
        }
    }

    /// When its `ttl` ends it: what somebody launched, and nobody has launched again for that long and the slack.
    pub fn expires(&self) -> Option<Moment> {
        let ttl = self.instance.content.ttl.filter(|_| self.instance.origin.api_managed)?;
        Some(self.renewed?.after(ttl.saturating_add(Content::ttl_slack(ttl))))
    }
}

/// A stop by request, which holds whatever the files say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspension {
    /// For people.
    pub reason: String,
    /// Who asked.
    pub by: Caller,
    /// Since when.
    pub since: Moment,
    /// When it ends by itself; `None` is when it is resumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Moment>,
    /// For how long it was asked for: after a restart of the machine it lasts that long again.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "units::optional_duration")]
    pub lasting: Option<Duration>,
}

/// Reads the last failure: an error, or the printed error that earlier launchers wrote.
mod last_error {
    use crate::error::{Code, Error};
    use serde::de::value::{Error as Unknown, StrDeserializer};
    use serde::de::{Deserialize, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
    use std::fmt;

    struct Either;

    impl<'de> Visitor<'de> for Either {
        type Value = Option<Error>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an error, or a printed error")
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_any(self)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(printed(text)))
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
            Error::deserialize(MapAccessDeserializer::new(map)).map(Some)
        }
    }

    /// The error prints as it did; its parts are all in the message.
    fn printed(text: &str) -> Error {
        let parts = text.strip_prefix('[').and_then(|rest| rest.split_once("] "));
        let known = parts.and_then(|(code, message)| {
            let code = Code::deserialize(StrDeserializer::<Unknown>::new(code)).ok()?;
            Some(Error::new(code, message))
        });
        known.unwrap_or_else(|| Error::new(Code::InternalError, text))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Error>, D::Error> {
        deserializer.deserialize_option(Either)
    }
}

/// The circuit breaker of a key.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Circuit {
    /// Starts are allowed, after their backoff.
    #[default]
    Closed,
    /// No start, except one trial at `retry_at`.
    Open {
        /// When the next half-open trial is due; `None` when trials are off.
        retry_at: Option<Moment>,
        /// Trials that have failed.
        failed_trials: u32,
    },
    /// A trial runs. It closes the circuit when it has been healthy for `stable_after`, and opens it again when it fails.
    HalfOpen {
        /// Trials that have failed before this one.
        failed_trials: u32,
    },
}

/// How the last run of a finished instance ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// The exit that the restart policy accepted.
    pub exit: ExitReason,
}

/// Where a key stands in the replacement of its pattern's instances.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rollout {
    /// Not being replaced for its pattern's sake.
    #[default]
    None,
    /// Being replaced, and not healthy since: counts against `max_unavailable`.
    Replacing,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitReason {
    /// It exited with this code.
    Code(i32),
    /// It was ended by this signal.
    Signal(i32),
    /// It ended and the kernel did not tell how.
    Unknown,
}

impl std::fmt::Display for ExitReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "signal {signal}"),
            Self::Unknown => f.write_str("an unknown exit"),
        }
    }
}

/// How the names begin of the folders that runs' cgroups are made in, in a v2 hierarchy.
pub const V2_BASE: &str = "pattern-launcher-";
/// And in a hierarchy of the v1 freezer, where they are killed in another way.
pub const FREEZER_BASE: &str = "pattern-launcher-freezer-";
/// And in other v1 hierarchies, by which runs are only limited.
pub const LIMITS_BASE: &str = "pattern-launcher-limits-";

/// What makes a process this one and no other that was given its pid later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// The process id of the kernel.
    pub pid: i32,
    /// Field 22 of `/proc/PID/stat`: clock ticks after boot.
    pub start_time: u64,
    /// The boot it runs in.
    pub boot: BootId,
    /// The cgroup that was made for its tree, as a path of the file system; `None` on a machine without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<PathBuf>,
    /// What it was confined to when it was made.
    #[serde(default, skip_serializing_if = "Confinement::is_unknown")]
    pub confinement: Confinement,
}

impl ProcessIdentity {
    /// How its tree is tracked: `cgroup`, `v1-freezer` or `process-group`.
    pub fn tracking(&self) -> &'static str {
        let Some(cgroup) = &self.cgroup else { return "process-group" };
        // It is in the group of its namespace, and that is in ours; launchers before made no groups of namespaces.
        let mut above = cgroup.ancestors().skip(1).take(2).filter_map(Path::file_name).map(OsStr::to_string_lossy);
        if above.any(|name| name.starts_with(FREEZER_BASE)) { "v1-freezer" } else { "cgroup" }
    }
}

/// What is on disk about one lifetime of a process, from before it is executed to the confirmed death of its tree.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRecord {
    /// Whose it is.
    pub key: Key,
    /// Which lifetime.
    pub run: RunId,
    /// Which process.
    pub process: ProcessIdentity,
    /// What it was started from.
    pub launch: Arc<StartSpec>,
    /// How it is looked after: as it was declared when it was started, and later changes that came without a change of
    /// what it is started from.
    pub supervision: Supervision,
    /// The ports it was given.
    pub ports: Ports,
    /// The generation it was started from.
    pub generation: Generation,
    /// When its child was made.
    pub started: Moment,
    /// Whether it is known to have been executed. A child that was still held when its launcher died has failed at
    /// nothing.
    #[serde(default)]
    pub executed: bool,
    /// Set once it has been asked to stop.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopProgress>,
}

/// A stop under way: it survives the launcher, so that a grace period never starts again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopProgress {
    /// When the stop was decided.
    pub since: Moment,
    /// When the whole tree is killed; it only ever moves nearer.
    pub deadline: Moment,
    /// Whether the stop signal is known to have been sent. A launcher that dies between this record and the signal
    /// leaves it false, and the next one sends the signal.
    #[serde(default)]
    pub signalled: bool,
}
