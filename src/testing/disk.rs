//! What survives the launcher: records, and the desired files.

use crate::model::{Instance, Key, Memory, RunId, RunRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The state folder and the desired directory of the simulated machine.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// The memory of each key.
    pub memories: BTreeMap<Key, Memory>,
    /// The record of each run.
    pub runs: BTreeMap<(Key, RunId), RunRecord>,
    /// The runs whose records cannot be read.
    pub damaged: BTreeSet<RunId>,
    /// What is declared, as the desired side would read it.
    pub declared: BTreeMap<Key, Arc<Instance>>,
    /// No run can be recorded.
    pub is_full: bool,
}
