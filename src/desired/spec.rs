//! One document of a desired file, checked by itself but not yet against its manifest.

use crate::model::{DesiredState, IsolationLevel, Limit, Namespace, PatternName, Resources, Secret, SessionId};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

/// What one document (or one entry of its `namespaces`) asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceSpec {
    /// The pattern to run.
    pub pattern: PatternName,
    /// The level asked for; the manifest's when absent.
    pub isolation: Option<IsolationLevel>,
    /// For which tenant.
    pub namespace: Option<Namespace>,
    /// For which session.
    pub session: Option<SessionId>,
    /// Environment variables, values as written.
    pub config: BTreeMap<String, Secret>,
    /// Bound backends: slot name, then key, then value.
    pub slots: BTreeMap<String, BTreeMap<String, Secret>>,
    /// Files that the process finds, by the names that it finds them under.
    pub credentials: BTreeMap<String, PathBuf>,
    /// Overrides of the manifest's.
    pub resources: Resources,
    /// Override of the manifest's.
    pub grace_period: Option<Duration>,
    /// Whether it should run.
    pub state: DesiredState,
    /// Launched files only.
    pub ttl: Option<Duration>,
    /// The line of the document's first key, or of its entry in `namespaces`; counted from 1.
    pub line: u32,
}

/// What the launcher's configuration says about instances whose files do not.
#[derive(Debug, Clone, PartialEq)]
pub struct Defaults {
    /// The level of instances whose file and manifest name none.
    pub isolation: IsolationLevel,
    /// Limits of instances whose file and manifest name none.
    pub resources: Resources,
    /// Which of them nobody wrote: they come from the profile.
    pub unwritten: Vec<Limit>,
}
