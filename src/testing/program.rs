//! How the programs of the simulated machine behave.

use crate::model::{ExitReason, Instance, Moment, OomKill, ProcessIdentity, RunId};
use std::sync::Arc;
use std::time::Duration;

/// What a program does once it is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Program {
    /// How long it takes to become healthy; `None` is never.
    pub healthy_after: Option<Duration>,
    /// How long it lives by itself, and how it then ends; `None` is for ever.
    pub lives: Option<(Duration, ExitReason)>,
    /// What it does when it is asked to end.
    pub on_stop: OnStop,
    /// How much memory it takes, in bytes; one that may not have as much is killed for it at once.
    pub takes: u64,
}

impl Program {
    /// A service that is healthy soon, runs for ever and ends when asked.
    pub const SERVICE: Self = Self {
        healthy_after: Some(Duration::from_millis(20)),
        lives: None,
        on_stop: OnStop::Ends(Duration::from_millis(5)),
        takes: 0,
    };
    /// A program that crashes soon after each start.
    pub const CRASHER: Self = Self { lives: Some((Duration::from_millis(30), ExitReason::Code(1))), ..Self::SERVICE };
}

/// What a program does when it is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnStop {
    /// It ends after this long, with all its children.
    Ends(Duration),
    /// Its main process ends after this long and leaves children behind.
    Leaks(Duration),
    /// It goes on.
    Ignores,
}

/// A process tree of the simulated machine.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is true or not whatever the others are")]
pub(super) struct Process {
    pub(super) run: RunId,
    pub(super) identity: ProcessIdentity,
    /// What it was made from.
    pub(super) instance: Arc<Instance>,
    pub(super) program: Program,
    /// Held before its exec by a launcher of this epoch; it ends with it.
    pub(super) held_by: Option<u64>,
    pub(super) main_lives: bool,
    pub(super) children_live: bool,
    pub(super) executed: Option<Moment>,
    /// Whether a launcher knows that it was executed.
    pub(super) seen: bool,
    /// Since when it no longer meets its health check.
    pub(super) broken: Option<Moment>,
    /// Its record was set aside: nobody looks after it.
    pub(super) abandoned: bool,
    pub(super) asked_to_end: Option<Moment>,
    pub(super) exit: ExitReason,
    /// Whether the kernel kills it for want of memory.
    pub(super) oom: Option<OomKill>,
}

impl Process {
    pub(super) const fn lives(&self) -> bool {
        self.main_lives || self.children_live
    }

    /// Whether it runs, for somebody to look after.
    pub(super) const fn counts(&self) -> bool {
        self.held_by.is_none() && self.lives() && !self.abandoned
    }

    /// Since when it has met its health check; `None` when it does not.
    pub(super) fn healthy_since(&self, now: Moment) -> Option<Moment> {
        let since = self.executed?.after(self.program.healthy_after?);
        (self.main_lives && now.reached(since)).then_some(since)
    }

    pub(super) fn is_healthy(&self, now: Moment) -> bool {
        self.healthy_since(now).is_some()
    }
}
