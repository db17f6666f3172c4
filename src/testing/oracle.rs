//! What must never happen, judged from the state of the world alone. The names are those of the safety properties; `need`
//! is that nothing is started or ended without one, and `ports` that a key keeps its own.

mod memory;
mod need;
mod rest;
mod step;

use super::world::World;
use crate::model::{Generation, Key, Moment, Ports, RunId};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// A safety property that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which property.
    pub property: &'static str,
    /// What happened.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.property, self.what)
    }
}

/// What the oracle remembers of the past.
#[derive(Debug, Clone, Default)]
pub(super) struct Oracle {
    pub(super) violations: Vec<Violation>,
    /// Starts since the content in memory last changed.
    pub(super) starts: BTreeMap<Key, u32>,
    /// The runs whose failure has been counted.
    failed: BTreeSet<RunId>,
    /// The runs that were executed.
    executed: BTreeSet<RunId>,
    /// The shortest grace period each stop had a right to.
    pub(super) grace: BTreeMap<RunId, Duration>,
    /// The shorter grace periods that somebody asked for, and when.
    asked: BTreeMap<RunId, Vec<(Moment, Duration)>>,
    /// How the last run of each key ended, where it did so without being asked to.
    fell: BTreeMap<Key, Fall>,
    /// The ports of the last start of each key.
    ports: BTreeMap<Key, Ports>,
    /// The keys that have met a stranger on a port since their last start.
    pub(super) moved: BTreeSet<Key>,
    /// The newest generation of each key that anybody was told of.
    generations: BTreeMap<Key, Generation>,
    /// The runs that somebody asked to have ended.
    excused: BTreeSet<RunId>,
    /// The keys whose failures somebody asked to have forgotten.
    forgiven: BTreeSet<Key>,
    /// The keys that somebody asked to have restarted, whatever their delay.
    hurried: BTreeSet<Key>,
    /// Launches that will be answered when the launcher lives through its turn.
    pub(super) unanswered: BTreeSet<Key>,
    /// When a launch of each key was last answered.
    answered: BTreeMap<Key, Moment>,
}

/// A run that ended without being asked to.
#[derive(Debug, Clone)]
struct Fall {
    run: RunId,
    at: Moment,
    /// Whether a launcher knew that it was executed.
    seen: bool,
    /// Whether its end is remembered.
    remembered: bool,
    /// Whether it is remembered as a failure.
    counted: bool,
}

impl Oracle {
    /// The main process of a run has ended; nobody had asked it to.
    pub(super) fn on_fall(&mut self, key: &Key, run: RunId, seen: bool, at: Moment) {
        self.fell.insert(key.clone(), Fall { run, at, seen, remembered: false, counted: false });
    }

    /// The last run of a key ended as it was asked to, or nobody can know how.
    pub(super) fn on_end(&mut self, key: &Key) {
        self.fell.remove(key);
    }

    /// The launcher has died: whoever waited for an answer gets none.
    pub(super) fn on_crash(&mut self) {
        self.unanswered.clear();
    }

    /// The machine has lost its power.
    pub(super) fn on_reboot(&mut self) {
        self.fell.clear();
    }

    fn report(&mut self, property: &'static str, what: String) {
        self.violations.push(Violation { property, what });
    }

    /// Somebody asks for a grace period of this length.
    pub(super) fn allow(&mut self, run: RunId, now: Moment, grace: Duration) {
        self.asked.entry(run).or_default().push((now, grace));
    }

    /// A tree is to be killed.
    pub(super) fn on_kill(&mut self, key: &Key, run: RunId, asked: Option<Moment>, main_lives: bool, now: Moment) {
        let grace = self.grace.get(&run).copied().unwrap_or_default();
        let hastened = self.asked.get(&run).into_iter().flatten().any(|(at, grace)| now.since(*at) >= *grace);
        match asked {
            Some(at) if now.since(at) < grace && !hastened => {
                self.report(
                    "S7",
                    format!("{key} was killed {:?} after its stop signal, grace {grace:?}", now.since(at)),
                );
            }
            None if main_lives => self.report("S7", format!("{key} was killed without being asked to end")),
            Some(_) | None => {}
        }
    }

    /// A signal goes to a process; `recorded` is whether its stop is on record.
    pub(super) fn on_signal(&mut self, key: &Key, is_ours: bool, recorded: bool) {
        if !is_ours {
            self.report("S3", format!("a signal for {key} went to a process that is not its own, or not known to be"));
        }
        if !recorded {
            self.report("S7", format!("{key} was asked to end before that was on record"));
        }
    }
}
