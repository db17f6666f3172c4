//! The host: carries out effects on this machine and reports what happens as events.

use super::records::Records;
use crate::error::Result;
use crate::model::RunRecord;
use crate::observed::{Event, RestoredRun};
use crate::plan::Effect;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;

/// What the host needs to know of the configuration.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// The state folder; its path is part of the name of our cgroup.
    pub state_dir: PathBuf,
    /// Where the output of instances goes: one append-only file per key.
    pub log_dir: PathBuf,
    /// Where the cgroups of runs are made.
    pub cgroup: CgroupChoice,
    /// What of the launcher's own environment processes inherit.
    pub inherited_env: BTreeMap<String, String>,
    /// The program that is run as the spawner: one whose `main` begins with [`super::spawner::run_if_spawner`].
    /// This very program when `None`.
    pub spawner_exe: Option<PathBuf>,
    /// Whether orphans of runs become children of this process, which then reaps them. It concerns the whole process,
    /// so only the daemon sets it.
    pub subreaper: Subreaper,
}

/// Whether this process adopts the orphans of its runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subreaper {
    /// It does, and reaps them.
    On,
    /// They go to the machine's own reaper.
    Off,
}

/// Where the cgroups of runs are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CgroupChoice {
    /// Below the launcher's own v2 cgroup, if that is writable; else none.
    Auto,
    /// Below this v2 cgroup, given as a path of the file system; it is an error if that is not possible.
    Under(PathBuf),
    /// None are made.
    Off,
}

/// By what the tree of a run is tracked and killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tracking {
    /// By a cgroup of its own below this one: nothing escapes.
    Cgroup(PathBuf),
    /// By session, ancestry and `RUN_ID`: a process that leaves all three behind escapes. Says why.
    ProcessGroup(String),
}

/// Carries out effects. Dropping it, like [`Host::shutdown`], leaves every process as it is.
#[derive(Debug)]
pub struct Host {}

impl Host {
    /// Starts the spawner, finds out how trees can be tracked, and is then ready. Within a tokio runtime.
    pub fn start(settings: HostSettings, records: Arc<Records>, events: mpsc::Sender<Event>) -> Result<Self> {
        let _ = (settings, records, events);
        unimplemented!()
    }

    /// Verifies what the last launcher left, watches what lives, and ends what is in our cgroups without a record.
    /// `damaged` are the file names of the records that cannot be read: their cgroups are left alone.
    pub fn restore(&self, records: Vec<RunRecord>, damaged: &[String]) -> Vec<RestoredRun> {
        let _ = (records, damaged);
        unimplemented!()
    }

    /// Begins to carry out an effect; never waits. Effects of one run happen in the order in which they are given.
    pub fn carry_out(&mut self, effect: Effect) {
        drop(effect);
        unimplemented!()
    }

    /// By what trees are tracked and killed here.
    pub fn tracking(&self) -> &Tracking {
        unimplemented!()
    }

    /// Stops looking after the runs and leaves every process as it is.
    pub async fn shutdown(self) {
        unimplemented!()
    }
}
