//! How the launcher itself is doing: one judgement for HTTP, gRPC and health probes.

use crate::metrics::{Metrics, Standing};
use crate::model::{IsolationLevel, KeyStatus, Moment};
use crate::reconciler::Board;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// A loop that has not turned for this long stands still: it turns every second when nothing happens.
const STANDSTILL: Duration = Duration::from_secs(10);

/// What is wrong with the state folder and what is kept in it, each with what to do; nothing when all is well.
pub type StoreHealth = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// What the judgement is made from.
#[derive(Clone)]
pub struct Vitals {
    /// Where everything stands.
    pub board: Arc<Board>,
    /// What is counted and measured.
    pub metrics: Arc<Metrics>,
    /// How it stands with the state folder.
    pub store: StoreHealth,
}

impl std::fmt::Debug for Vitals {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vitals").field("board", &self.board).finish_non_exhaustive()
    }
}

impl Vitals {
    /// Has somebody told what was counted and measured, and where everything stands.
    pub fn measured<T>(&self, now: Moment, tell: impl FnOnce(&Metrics, &Standing<'_>) -> T) -> T {
        self.board.standing(now, |standing| tell(&self.metrics, standing))
    }

    /// Why the launcher is not healthy; how a tenant's process is doing never makes it so.
    pub fn problems(&self, now: Moment) -> Vec<String> {
        let mut problems = Vec::new();
        let still = self.board.since_last_turn(now);
        if still > STANDSTILL {
            problems.push(format!("the loop has not turned for {} s", still.as_secs()));
        }
        for root in &self.board.desired().roots {
            for condition in root.conditions.iter().filter(|condition| condition.kind == "ScanFailed") {
                problems.push(format!("{} cannot be scanned: {}", root.path.display(), condition.message));
            }
        }
        problems.extend((self.store)());
        problems
    }

    /// What the launcher still has to learn before it knows everything it needs to decide; empty when it is ready.
    pub fn waiting_for(&self) -> Vec<String> {
        let mut waiting_for = Vec::new();
        if !self.board.adopted() {
            waiting_for.push("taking over what the last launcher left".to_owned());
        }
        let desired = self.board.desired();
        if desired.roots.is_empty() {
            waiting_for.push("the first scan of the desired folders".to_owned());
        }
        for root in desired.roots.iter().filter(|root| !root.ready) {
            let why: Vec<&str> = root.conditions.iter().map(|condition| condition.message.as_str()).collect();
            let why = if why.is_empty() { String::new() } else { format!(": {}", why.join("; ")) };
            waiting_for.push(format!("the first complete scan of {}{why}", root.path.display()));
        }
        waiting_for
    }
}

/// How many instances there are of each level, by the names that earlier versions print.
pub fn distribution(statuses: &[Arc<KeyStatus>]) -> BTreeMap<&'static str, usize> {
    let mut distribution = BTreeMap::from([("None", 0), ("Namespace", 0), ("Session", 0)]);
    for status in statuses {
        *distribution.entry(level_name(status.isolation)).or_default() += 1;
    }
    distribution
}

const fn level_name(level: IsolationLevel) -> &'static str {
    match level {
        IsolationLevel::None => "None",
        IsolationLevel::Namespace => "Namespace",
        IsolationLevel::Session => "Session",
    }
}
