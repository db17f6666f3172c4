//! What is decided for a key, and why: also when the decision is to do nothing.

use super::ceilings::Full;
use super::outbreak::Held;
use crate::error::Error;
use crate::model::{Key, Moment, Suspension};
use std::fmt;
use std::time::Duration;

/// The decision for one key.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// What to do now.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// When to look again even if nothing happens; it lies ahead.
    pub wake_at: Option<Moment>,
}

impl Verdict {
    /// An action without a deadline.
    pub const fn act(action: Action, reason: Reason) -> Self {
        Self { action, reason, wake_at: None }
    }

    /// Nothing to do.
    pub const fn nothing(reason: Reason) -> Self {
        Self::act(Action::Nothing, reason)
    }

    /// The same, looked at again at `moment` at the latest.
    #[must_use]
    pub fn no_later_than(self, moment: Moment) -> Self {
        Self { wake_at: Some(self.wake_at.map_or(moment, |at| at.earlier(moment))), ..self }
    }

    /// Nothing to do before `moment`.
    pub const fn wait(reason: Reason, moment: Moment) -> Self {
        Self { action: Action::Nothing, reason, wake_at: Some(moment) }
    }
}

/// What to do with a key now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing.
    Nothing,
    /// Start a process, once admitted.
    Launch,
    /// Ask its process to end; for a drift of the pattern or a failed health check, once admitted.
    Terminate(StopCause),
    /// Kill the whole tree: its grace period is over.
    Kill,
    /// Its process has been healthy for `stable_after`: the streak of failures ends and the circuit closes.
    Settle,
    /// Nothing declares it and nothing of it lives: forget it.
    Forget,
    /// Its suspension has lasted for as long as it was to: end it.
    Resume,
    /// Nobody has launched it again for as long as its `ttl` says: have its file removed.
    Expire,
}

impl Action {
    /// The action in one lower-case word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::Launch => "launch",
            Self::Terminate(StopCause::Drift(_)) => "replace",
            Self::Terminate(_) => "terminate",
            Self::Kill => "kill",
            Self::Settle => "settle",
            Self::Forget => "forget",
            Self::Resume => "resume",
            Self::Expire => "expire",
        }
    }
}

/// Why a process is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopCause {
    /// Nothing declares it any more.
    Removed,
    /// It is declared as stopped.
    Stopped,
    /// It is suspended.
    Suspended,
    /// Somebody asked for a restart.
    Restart,
    /// It runs from something else than what is declared.
    Drift(Drift),
    /// It was not healthy within its `startup_timeout`: a failure.
    StartupTimeout,
    /// It failed its health check `failure_threshold` times in a row: a failure.
    Unhealthy,
    /// The launcher ends everything before it ends itself.
    Shutdown,
}

impl fmt::Display for StopCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Removed => "nothing declares it any more",
            Self::Stopped => "it is declared as stopped",
            Self::Suspended => "it is suspended",
            Self::Restart => "a restart was asked for",
            Self::Drift(Drift::Pattern) => "its manifest or executable has changed",
            Self::Drift(Drift::Instance) => "its config or slots have changed",
            Self::StartupTimeout => "it was not healthy within its startup_timeout",
            Self::Unhealthy => "its health check failed failure_threshold times in a row",
            Self::Shutdown => "the launcher is shutting down",
        })
    }
}

/// In what a process differs from what is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// Its manifest or executable: instances of the pattern are replaced `max_unavailable` at a time.
    Pattern,
    /// Only its own config or slots: it is replaced at once.
    Instance,
}

/// Why something is, or is not, done.
#[derive(Debug, Clone, PartialEq)]
pub enum Reason {
    /// It runs as declared.
    InSync,
    /// It runs as declared and has not been healthy yet.
    Starting,
    /// It runs as declared; its health check was changed and has not held since.
    Unproven,
    /// It is declared and nothing of it runs.
    Missing,
    /// The delay after a failure is not over.
    Backoff {
        /// Consecutive failures.
        streak: u32,
        /// How long it still takes.
        left: Duration,
    },
    /// The circuit is open; the next trial is that far away, if there is one.
    CircuitOpen(Option<Duration>),
    /// The circuit is open, and a half-open trial is due.
    TrialDue,
    /// It ended in a way its restart policy accepts.
    Finished,
    /// It is declared as stopped and nothing of it runs.
    Stopped,
    /// It is suspended and nothing of it runs.
    Suspended {
        /// By whom.
        by: String,
        /// Why, made safe to print; it may be empty.
        reason: String,
    },
    /// Its suspension has lasted for as long as it was to.
    SuspensionOver,
    /// Its `ttl` is over, and its file is being removed.
    Expired,
    /// A start is under way.
    StartUnderWay,
    /// It has to end, for this cause.
    Ending(StopCause),
    /// It was asked to end and has that long left.
    Grace(Duration),
    /// It was asked to end, and its grace period is over.
    GraceOver,
    /// Its tree is being killed.
    Killing,
    /// It has been healthy for `stable_after`.
    Stable,
    /// Nothing declares it any more and nothing of it lives.
    Gone,
    /// Not every desired root has been read yet.
    AwaitingScan,
    /// Its record cannot be verified.
    Blocked,
    /// The launcher is shutting down.
    ShuttingDown,
    /// Other starts come first.
    AwaitingSlot,
    /// What runs takes up all that may; it is looked at again when something of that ends.
    AwaitingQuota(Full),
    /// It is to be replaced once this other one is healthy.
    AwaitingRollout(Key),
    /// More than half of its pattern's processes fail their health checks, so the cause is elsewhere: this other one is
    /// restarted first.
    HeldByPattern(Key),
    /// Its version fails in several namespaces alike, and is tried with one at a time.
    AwaitingTrial(Held),
}

impl Reason {
    /// It is suspended.
    pub fn suspended(suspension: &Suspension) -> Self {
        Self::Suspended { by: suspension.by.to_string(), reason: Error::echo(&suspension.reason) }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InSync => f.write_str("it runs as declared"),
            Self::Starting => f.write_str("it runs as declared and has not been healthy yet"),
            Self::Unproven => f.write_str("it runs as declared; its health check was changed and has not held since"),
            Self::Missing => f.write_str("it is declared and nothing of it runs"),
            Self::Backoff { streak: 0, left } => {
                write!(f, "the launcher could not start it; trying again in {}", seconds(*left))
            }
            Self::Backoff { streak: 1, left } => write!(f, "restarting in {}", seconds(*left)),
            Self::Backoff { streak, left } => {
                write!(f, "waiting {} after {streak} failures in a row", seconds(*left))
            }
            Self::CircuitOpen(Some(left)) => {
                write!(f, "its circuit is open; the next trial is in {}", seconds(*left))
            }
            Self::CircuitOpen(None) => f.write_str("its circuit is open"),
            Self::TrialDue => f.write_str("its circuit is open and a trial is due"),
            Self::Finished => f.write_str("it has ended as its restart policy accepts"),
            Self::Stopped => f.write_str("it is declared as stopped and nothing of it runs"),
            Self::Suspended { by, reason } if reason.is_empty() => write!(f, "suspended by {by}"),
            Self::Suspended { by, reason } => write!(f, "suspended by {by}: {reason}"),
            Self::SuspensionOver => f.write_str("its suspension is over"),
            Self::Expired => f.write_str("its ttl is over"),
            Self::StartUnderWay => f.write_str("its start is under way"),
            Self::Ending(cause) => write!(f, "{cause}"),
            Self::Grace(left) => write!(f, "it was asked to end and has {} left", seconds(*left)),
            Self::GraceOver => f.write_str("its grace period is over"),
            Self::Killing => f.write_str("its process tree is being killed"),
            Self::Stable => f.write_str("it has been healthy for stable_after"),
            Self::Gone => f.write_str("nothing declares it and nothing of it lives"),
            Self::AwaitingScan => f.write_str("waiting until every desired directory has been read"),
            Self::Blocked => f.write_str("its record cannot be verified, so nothing is started beside it"),
            Self::ShuttingDown => f.write_str("the launcher is shutting down"),
            Self::AwaitingSlot => f.write_str("waiting for a start slot"),
            Self::AwaitingQuota(full) => write!(f, "waiting for quota: {full}"),
            Self::AwaitingRollout(key) => write!(f, "waiting until {key} has been replaced and is healthy"),
            Self::AwaitingTrial(held) => write!(f, "{held}"),
            Self::HeldByPattern(key) => write!(
                f,
                "more than half of its pattern fails, so the cause is elsewhere; waiting until {key} has recovered"
            ),
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
