//! What reaches the loop. Every event names the run it is about: one of an earlier run changes nothing.

use crate::error::Error;
use crate::model::{
    Caller, Condition, DesiredStatus, ExitReason, Instance, Key, LimitsEffective, Memory, OomKill, ProcessIdentity,
    RunId, RunRecord,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// The desired set changed, or the reading of it went differently than before.
    Desired(DesiredChange),
    /// The child of a run exists and is held before its exec.
    Prepared {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
        /// Which process.
        process: ProcessIdentity,
    },
    /// Which limits of a run are in force: told when there is something to tell, and again when it has changed.
    Limited {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
        /// As the kernel holds them.
        limits: LimitsEffective,
    },
    /// The run was recorded, released and executed.
    Started {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
    },
    /// The run could not be started; nothing of it lives.
    StartFailed {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
        /// Why.
        error: Error,
        /// Who is to blame.
        fault: Fault,
    },
    /// A stranger listens on a port of the run; nothing was started.
    PortTaken {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
        /// Which of its ports.
        port: PortKind,
        /// The stranger, where it can be found out.
        holder: Option<i32>,
        /// All ports that anybody listens on.
        listening: BTreeSet<u16>,
    },
    /// The main process of a run has ended.
    Exited {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
        /// How.
        exit: ExitReason,
        /// Whether the kernel has killed something of it for want of memory.
        oom: Option<OomKill>,
        /// Whether nothing else of its tree lives. When false, a [`Event::TreeGone`] follows once it does not.
        tree_gone: bool,
    },
    /// The main process had ended before, and now nothing of its tree lives.
    TreeGone {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
    },
    /// The tree of a run was killed and still lives; the host goes on trying.
    KillStuck {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
        /// What lives.
        error: Error,
    },
    /// These cgroups of ours have processes in them that no run accounts for; said when that changes.
    Orphans {
        /// For each [`Key::file_name`] of the key it was made for, and why nothing may be started beside it.
        left: Vec<(String, Error)>,
    },
    /// A probe of a run was carried out, or could not be.
    Probed {
        /// Whose.
        key: Key,
        /// Which run.
        run: RunId,
        /// With what result.
        outcome: ProbeOutcome,
    },
}

/// Who is to blame for a start that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The instance: its executable, its folder, its arguments. It counts as a failure of the instance.
    Instance,
    /// The launcher or its machine, which lacked what every start needs: room for a record or a log, descriptors,
    /// processes, memory. The start is tried again, and counts as nothing: a full disk must not open the circuit of
    /// everything that happens to start meanwhile.
    Launcher,
}

/// Which of the two ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortKind {
    /// `GRPC_PORT`.
    Grpc,
    /// `HEALTH_PORT`.
    Health,
}

/// The result of one probe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The process said that it is healthy.
    Success,
    /// It said that it is not, or did not answer in time.
    Failure(String),
    /// The probe could not be carried out: neither success nor failure.
    Error(String),
}

/// How the desired set differs from what was said before.
#[derive(Debug, Clone, Default)]
pub struct DesiredChange {
    /// Instances that are new, changed, or declared elsewhere than before.
    pub declared: Vec<Arc<Instance>>,
    /// Keys that nothing declares any more, after all the rules about absence.
    pub withdrawn: Vec<Key>,
    /// Those of the withdrawn keys whose launched file the launcher has removed by request.
    pub ended: Vec<EndedLaunch>,
    /// Those of the declared keys whose launched file the launcher has just written by request.
    pub launched: Vec<Launched>,
    /// Keys whose conditions changed, with all their conditions now.
    pub conditions: Vec<(Key, Vec<Condition>)>,
    /// How the reading went, when that changed.
    pub status: Option<Arc<DesiredStatus>>,
    /// Every root has been scanned at least once, whether that worked or not: keys may be started.
    pub attempted: bool,
    /// Every root has had a complete scan that was decided on: what nothing declares may be ended.
    pub complete: bool,
}

/// A launched instance was ended by request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedLaunch {
    /// Which.
    pub key: Key,
    /// Its grace period is this at the longest; `None` leaves its own.
    pub grace: Option<Duration>,
    /// Who asked; the launcher itself when its `ttl` was over.
    pub by: Caller,
}

/// An instance was launched by request, or the launched file of one was changed by request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Launched {
    /// Which.
    pub key: Key,
    /// Who asked.
    pub by: Caller,
    /// For what.
    pub writing: Writing,
}

/// Why a launched file was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writing {
    /// For a launch.
    Launch,
    /// For a change of what had been launched.
    Update,
}

/// What the last launcher left, read and verified before the loop begins.
#[derive(Debug, Clone, Default)]
pub struct Restored {
    /// Every key's memory.
    pub memories: Vec<Memory>,
    /// Every run that has a record.
    pub runs: Vec<RestoredRun>,
}

/// A run that has a record.
#[derive(Debug, Clone)]
pub enum RestoredRun {
    /// Its process lives and is the one that was recorded; the host watches it.
    Alive(RunRecord),
    /// Its process has ended; `tree_gone` as in [`Event::Exited`].
    Ended {
        /// The record.
        record: RunRecord,
        /// How it ended, as far as the kernel tells.
        exit: ExitReason,
        /// As in [`Event::Exited`].
        oom: Option<OomKill>,
        /// Whether nothing else of its tree lives.
        tree_gone: bool,
    },
    /// The machine was restarted since.
    Rebooted(RunRecord),
    /// The record, or the process it names, cannot be verified: its key is blocked. `file_name` is
    /// [`Key::file_name`] of a key that need not be known yet.
    Unverifiable {
        /// Which key's record it is.
        file_name: String,
        /// Why it cannot be verified.
        error: Error,
    },
    /// Processes of ours live that have no record: the key is blocked until [`Event::Orphans`] does not name them any more.
    Orphan {
        /// [`Key::file_name`] of their key, as far as it can be told.
        file_name: String,
        /// Why they live.
        error: Error,
    },
}
