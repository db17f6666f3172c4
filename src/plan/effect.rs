//! What the loop asks the world to do. The world answers with [`crate::observed::Event`]s.
//!
//! Effects of one key are carried out in the order in which they are given. The loop never waits for one.

use crate::error::Code;
use crate::model::{
    Caller, Ceilings, Confinement, HealthCheck, Instance, Key, Memory, Ports, Resources, RunId, RunRecord, StopSignal,
    Unenforced,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Something to be done.
#[derive(Debug, Clone)]
pub enum Effect {
    /// Remember this about its key, in place of what was remembered. Written in groups, synced.
    SaveMemory(Box<Memory>),
    /// Forget the key.
    DropMemory(Key),
    /// Make a child and hold it before its exec. Answered by `Prepared`, `PortTaken` or `StartFailed`.
    Prepare(PrepareRequest),
    /// Write the record of a held child; then release it. Answered by `Started` or `StartFailed`.
    Commit(Box<RunRecord>),
    /// Let go of a held child, which then exits. Answered by `StartFailed`.
    Discard {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
    },
    /// Write the record of a run again: its stop has begun, or how it is looked after has changed.
    SaveRun(Box<RunRecord>),
    /// Limit a run that lives like this from now on. Answered by `Limited`.
    Limit {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
        /// What is wanted.
        resources: Resources,
    },
    /// Hold namespaces to these ceilings from now on.
    HoldTo(Ceilings),
    /// Remove the record of a run whose tree is gone, and its cgroup.
    DropRun {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
    },
    /// Send the stop signal to the main process of a run.
    Signal {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
        /// Which signal.
        signal: StopSignal,
    },
    /// Kill the whole tree of a run and go on until it is gone. Answered by `Exited` and `TreeGone` as they happen.
    KillTree {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
    },
    /// Begin probing a run, in place of any probe of it: quickly until the first success, then at the interval.
    Probe {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
        /// How.
        check: HealthCheck,
        /// For the environment of an exec probe.
        instance: Arc<Instance>,
        /// Where.
        ports: Ports,
        /// As whom an exec probe runs.
        confinement: Confinement,
    },
    /// Stop probing a run.
    StopProbe {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
    },
    /// Have the launched file of a key removed: its `ttl` is over. The desired side answers by withdrawing the key. Asked
    /// again after a while when it has not.
    Expire {
        /// Which.
        key: Key,
    },
    /// Set the records aside that block a key. Nothing is signalled, and what they name is not looked after any more.
    Abandon {
        /// [`Key::file_name`] of the key.
        file_name: String,
        /// The run of the key that lives and is looked after: its record stays.
        except: Option<RunId>,
    },
    /// Count a failure.
    Failed {
        /// Whose.
        key: Key,
        /// Of which kind.
        code: Code,
    },
    /// Tell people.
    Note(Note),
}

/// What is needed to make a child.
#[derive(Debug, Clone)]
pub struct PrepareRequest {
    /// Whose.
    pub key: Key,
    /// Which run.
    pub run: RunId,
    /// What to run.
    pub instance: Arc<Instance>,
    /// With which ports; both are checked to be free.
    pub ports: Ports,
    /// Whether it is started when a limit cannot be enforced that a person wrote.
    pub unenforced: Unenforced,
}

/// What is said of a failure of a run.
pub const PROCESS_FAILED: &str = "process failed";

/// Something that people are told: one log line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How much it matters.
    pub level: NoteLevel,
    /// What it is about.
    pub key: Key,
    /// Which run, where it is about one.
    pub run: Option<RunId>,
    /// A constant text, such as `process started`.
    pub message: &'static str,
    /// Why, as a sentence or as a printed error.
    pub reason: String,
    /// Who asked for it, where somebody did.
    pub by: Option<Caller>,
}

/// How much a note matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NoteLevel {
    /// The ordinary course of things.
    Info,
    /// Something failed and is being dealt with.
    Warn,
    /// Somebody should look.
    Error,
}
