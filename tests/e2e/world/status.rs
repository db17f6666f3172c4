//! The status file, as scripts read it.

use pattern_launcher::model::{DesiredStatus, KeyStatus, ProcessState};
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// What the status file says.
#[derive(Debug, Deserialize)]
pub(crate) struct Status {
    /// Of the format.
    pub(crate) version: u32,
    /// Who wrote it.
    pub(crate) launcher_pid: u32,
    /// Whether survivors are adopted and every root was decided on.
    pub(crate) ready: bool,
    /// How reading the desired folders went.
    #[serde(default)]
    pub(crate) desired: DesiredStatus,
    /// Every key.
    pub(crate) instances: Vec<KeyStatus>,
}

impl Status {
    /// Reads the status file of a state folder; `None` when there is none yet.
    pub(crate) fn read(state: &Path) -> Option<Self> {
        let bytes = fs::read(state.join("status.json")).ok()?;
        Some(serde_json::from_slice(&bytes).unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&bytes))))
    }

    /// Where a key stands; `None` when it is not known.
    pub(crate) fn key(&self, id: &str) -> Option<&KeyStatus> {
        self.instances.iter().find(|key| key.process_id.as_str() == id)
    }

    /// The pid of a key that runs, is healthy and runs what is wished for.
    pub(crate) fn settled(&self, id: &str) -> Option<i32> {
        let key = self.key(id)?;
        let settled = key.state == ProcessState::Running && key.healthy && key.generation == key.observed_generation;
        if settled { key.pid } else { None }
    }

    /// How many keys run, are healthy and run what is wished for.
    pub(crate) fn settled_count(&self) -> usize {
        self.instances.iter().filter(|key| self.settled(key.process_id.as_str()).is_some()).count()
    }

    /// The state of a key; `None` when it is not known.
    pub(crate) fn state(&self, id: &str) -> Option<ProcessState> {
        self.key(id).map(|key| key.state)
    }

    /// Every condition there is, as `kind: message`.
    pub(crate) fn conditions(&self) -> Vec<String> {
        let roots = self.desired.roots.iter().flat_map(|root| &root.conditions);
        let keys = self.instances.iter().flat_map(|key| &key.conditions);
        let all = self.desired.conditions.iter().chain(roots).chain(keys);
        all.map(|condition| format!("{}: {}", condition.kind, condition.message)).collect()
    }

    /// Whether a condition of that kind speaks of `what`.
    pub(crate) fn has_condition(&self, kind: &str, what: &str) -> bool {
        self.conditions().iter().any(|line| line.starts_with(&format!("{kind}:")) && line.contains(what))
    }
}
