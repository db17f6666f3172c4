//! How the reading goes, for people.

use super::keys::{blocked, condition};
use super::{Desired, Root};
use crate::desired::sight::Outcome;
use crate::error::Error;
use crate::model::{Condition, DesiredStatus, Moment, RootStatus};
use std::sync::Arc;
use std::time::Duration;

/// A root may be busy for this long, as while git works in it, before people are told.
pub(super) const BUSY_FOR: Duration = Duration::from_secs(10);
/// At most this many conditions are listed, enough for anybody to begin with; how many more there are is said.
const LISTED: usize = 100;

impl Desired {
    /// The status, if it is not what it was.
    pub(super) fn renew_status(&mut self, now: Moment) -> Option<Arc<DesiredStatus>> {
        let roots = self.roots.iter().map(|root| self.root_status(root, now)).collect();
        let status = DesiredStatus { roots, conditions: self.file_conditions() };
        if *self.status == status {
            return None;
        }
        self.status = Arc::new(status);
        Some(Arc::clone(&self.status))
    }

    fn root_status(&self, root: &Root, now: Moment) -> RootStatus {
        let mut conditions = Vec::new();
        conditions.extend(root_error(root, now).map(|error| condition("ScanFailed", error)));
        let held = self.guards.get(&root.spec.path).and_then(|guard| guard.held());
        conditions.extend(held.map(|held| condition("PruneBlocked", &blocked(&root.spec.path, held))));
        RootStatus {
            path: root.spec.path.clone(),
            ready: root.ready,
            instances: self.counts.get(&root.spec.path).copied().unwrap_or(0),
            rejected: self.troubled.iter().filter(|id| id.root == root.path).count(),
            scan_failures: root.failures,
            watching: root.watching.to_owned(),
            conditions,
        }
    }

    /// Conditions of files that declare no key, of what roots may not declare, of roots that are not configured any
    /// more, and of the patterns directory.
    fn file_conditions(&self) -> Vec<Condition> {
        let mut all = Vec::new();
        for file in self.troubled.iter().filter_map(|id| self.files.get(id)) {
            if file.entries.is_empty() {
                all.extend(file.problem.iter().map(|error| condition("InvalidFile", error)));
            }
            all.extend(file.refused.iter().map(|error| condition("PermissionDenied", error)));
        }
        for (root, guard) in &self.guards {
            let configured = self.roots.iter().any(|known| known.spec.path == *root);
            all.extend(
                guard.held().filter(|_| !configured).map(|held| condition("PruneBlocked", &blocked(root, held))),
            );
        }
        all.extend(self.pattern_problems.iter().map(|error| condition("InvalidPattern", error)));
        if all.len() > LISTED {
            let more = all.len() - LISTED;
            all.truncate(LISTED);
            all.push(Condition { kind: "More".to_owned(), message: format!("{more} more conditions are not listed") });
        }
        all
    }

    /// Everything that is wrong, for `check`.
    pub fn errors(&self, now: Moment) -> Vec<Error> {
        let mut all: Vec<Error> = self.pattern_problems.clone();
        all.extend(self.roots.iter().filter_map(|root| root_error(root, now)).cloned());
        for file in self.troubled.iter().filter_map(|id| self.files.get(id)) {
            all.extend(file.problem.iter().chain(&file.refused).cloned());
        }
        for file in self.files.values() {
            all.extend(file.entries.iter().filter_map(|entry| entry.concern.clone()));
        }
        all.extend(self.keys.values().flat_map(|key| key.duplicates.iter().cloned()));
        all.extend(self.guards.iter().filter_map(|(root, guard)| Some(blocked(root, guard.held()?))));
        all
    }
}

/// Why a root cannot be read, once it is worth telling.
fn root_error(root: &Root, now: Moment) -> Option<&Error> {
    match root.outcome.as_ref()? {
        Outcome::Complete => None,
        Outcome::Failed(error) => Some(error),
        Outcome::Busy(error) => root.busy_since.is_some_and(|since| now.since(since) >= BUSY_FOR).then_some(error),
    }
}
