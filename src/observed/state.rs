//! What is known of a key: what is remembered, and what of it lives.

use crate::error::Error;
use crate::model::{Generation, HealthCheck, Instance, Memory, Moment, Ports, RunId, RunRecord};
use std::sync::Arc;

/// What is known of a key.
#[derive(Debug, Clone)]
pub struct Observed {
    /// What outlives its processes.
    pub memory: Memory,
    /// What of it lives.
    pub phase: Phase,
    /// Why nothing may be started beside what a record of the key names; `None` in the ordinary case.
    pub blocked: Option<Error>,
    /// When the removal of its file was last asked for, because its `ttl` is over.
    pub expiring: Option<Moment>,
}

/// What of a key lives.
#[derive(Debug, Clone)]
pub enum Phase {
    /// Nothing. The planner starts a process, or forgets the key.
    Idle,
    /// A start is under way. The planner waits for its outcome.
    Starting(Start),
    /// The main process runs. The planner compares it with what is declared.
    Running(Box<Run>),
    /// The main process has ended and others of its tree live. The planner kills them when their time is over.
    Ending(Box<Ending>),
}

/// A start under way.
#[derive(Debug, Clone)]
pub struct Start {
    /// Which run it will be.
    pub run: RunId,
    /// From what.
    pub instance: Arc<Instance>,
    /// With which ports.
    pub ports: Ports,
    /// When it began.
    pub since: Moment,
    /// How far it is.
    pub stage: Stage,
}

/// How far a start is.
#[derive(Debug, Clone)]
pub enum Stage {
    /// The child is being made.
    Preparing,
    /// The child is being recorded, released and executed.
    Committing(Box<RunRecord>),
    /// The held child is no longer wanted and is being let go.
    Discarding,
}

/// A process that runs.
#[derive(Debug, Clone)]
pub struct Run {
    /// What its record says; its stop, once one is under way, is in there.
    pub record: RunRecord,
    /// What its probes say.
    pub health: Health,
    /// Whether its tree has been ordered to be killed.
    pub killing: bool,
}

/// A tree whose main process has ended.
#[derive(Debug, Clone)]
pub struct Ending {
    /// What its record says.
    pub record: RunRecord,
    /// Whether what is left has been ordered to be killed.
    pub killing: bool,
}

/// What the probes of a run have said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// When an unhealthy start has failed; `None` once it has been healthy, or without a health check.
    pub ready_by: Option<Moment>,
    /// Since when it has been healthy without a break.
    pub healthy_since: Option<Moment>,
    /// Whether it has been healthy by the check that it has now; only then is a failing check a reason to restart it.
    pub proven: bool,
    /// Consecutive successes, counted up to the threshold.
    pub successes: u32,
    /// Consecutive failures.
    pub failures: u32,
    /// What the last unsuccessful probe said.
    pub last_failure: Option<String>,
}

impl Health {
    /// The health of a run that is first looked at now: healthy at once without a health check.
    pub fn unknown(check: Option<&HealthCheck>, now: Moment) -> Self {
        match check {
            Some(check) => Self { ready_by: Some(now.after(check.startup_timeout)), ..Self::default() },
            None => Self { healthy_since: Some(now), proven: true, ..Self::default() },
        }
    }

    /// The health of a run that is asked in another way from now on. One that was healthy goes on so until the new check
    /// has failed, and is not restarted for a check that it has never met.
    #[must_use]
    pub fn asked_otherwise(&self, check: Option<&HealthCheck>, now: Moment) -> Self {
        match (check, self.healthy_since) {
            (Some(_), Some(since)) => Self { healthy_since: Some(since), ..Self::default() },
            (check, _) => Self::unknown(check, now),
        }
    }

    /// Whether it is healthy now.
    pub const fn is_healthy(&self) -> bool {
        self.healthy_since.is_some()
    }

    /// Whether it had been healthy and has crossed its failure threshold since.
    pub const fn has_fallen(&self) -> bool {
        self.proven && self.healthy_since.is_none()
    }
}

impl Observed {
    /// A key of which nothing lives.
    pub const fn idle(memory: Memory) -> Self {
        Self { memory, phase: Phase::Idle, blocked: None, expiring: None }
    }

    /// The run that lives, if one does.
    pub fn run(&self) -> Option<RunId> {
        self.phase.run()
    }
}

/// What a run shows of itself, whatever it is about to do.
#[derive(Debug, Clone)]
pub struct RunView {
    /// Which run.
    pub run: RunId,
    /// The kernel's process id, once there is a process.
    pub pid: Option<i32>,
    /// When its start began.
    pub started: Moment,
    /// Its ports.
    pub ports: Ports,
    /// The generation that it runs.
    pub generation: Generation,
    /// How its tree is tracked; `None` while there is no process.
    pub tracking: Option<&'static str>,
    /// What it is confined to; empty while there is no process.
    pub confinement: Vec<String>,
}

impl RunView {
    fn of(record: &RunRecord) -> Self {
        Self {
            run: record.run,
            pid: Some(record.process.pid),
            started: record.started,
            ports: record.ports,
            generation: record.generation,
            tracking: Some(record.process.tracking()),
            confinement: record.process.confinement.words(),
        }
    }
}

impl Phase {
    /// The run that lives, if one does.
    pub fn run(&self) -> Option<RunId> {
        match self {
            Self::Idle => None,
            Self::Starting(start) => Some(start.run),
            Self::Running(run) => Some(run.record.run),
            Self::Ending(ending) => Some(ending.record.run),
        }
    }

    /// The run that lives, as it shows itself.
    pub fn view(&self) -> Option<RunView> {
        match self {
            Self::Idle => None,
            Self::Starting(Start { stage: Stage::Committing(record), .. }) => Some(RunView::of(record)),
            Self::Starting(start) => Some(RunView {
                run: start.run,
                pid: None,
                started: start.since,
                ports: start.ports,
                generation: Generation(0),
                tracking: None,
                confinement: Vec::new(),
            }),
            Self::Running(run) => Some(RunView::of(&run.record)),
            Self::Ending(ending) => Some(RunView::of(&ending.record)),
        }
    }
}
