//! What is counted of what passes through the loop.

use super::board::KeyChange;
use crate::metrics::Metrics;
use crate::model::{DesiredStatus, Key, KeyStatus, Moment, RunId};
use crate::observed::Event;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

/// Counts into the metrics.
#[derive(Debug)]
pub(super) struct Tally {
    metrics: Arc<Metrics>,
    /// Runs that were started and have not been healthy yet. What was adopted is not among them.
    cold: HashMap<Key, RunId>,
    /// The failed scans of each root that have been counted.
    failed_scans: BTreeMap<PathBuf, u64>,
}

impl Tally {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { metrics, cold: HashMap::new(), failed_scans: BTreeMap::new() }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Before the engine is told.
    pub(super) fn event(&mut self, event: &Event) {
        match event {
            Event::Started { key, run } => {
                self.metrics.started(key);
                self.cold.insert(key.clone(), *run);
            }
            Event::Exited { key, run, .. } => {
                self.metrics.stopped(key);
                if self.cold.get(key) == Some(run) {
                    self.cold.remove(key);
                }
            }
            Event::Orphans { left } => self.metrics.orphaned(left.len()),
            Event::Probed { key, outcome, .. } => self.metrics.probed(key, outcome),
            Event::Desired(_)
            | Event::Prepared { .. }
            | Event::Limited { .. }
            | Event::StartFailed { .. }
            | Event::PortTaken { .. }
            | Event::TreeGone { .. }
            | Event::KillStuck { .. } => {}
        }
    }

    /// Before the board is told.
    pub(super) fn published(&mut self, before: Option<&KeyStatus>, (key, after): &KeyChange, now: Moment) {
        let Some(after) = after else { return self.metrics.disappeared(key) };
        if before.is_none() {
            self.metrics.appeared(key);
        }
        let restarts = before.map_or(0, |before| before.restart_count);
        // What was there when the launcher started was restarted by another.
        if before.is_some() && after.restart_count > restarts {
            self.metrics.restarted(key, after.restart_count - restarts);
        }
        if after.healthy && after.run_id.is_some() && self.cold.get(key) == after.run_id.as_ref() {
            self.cold.remove(key);
            self.metrics.warmed_up(key, after.uptime(now).unwrap_or_default());
        }
    }

    /// Counts the scans that have failed since it was last told.
    pub(super) fn desired(&mut self, status: &DesiredStatus) {
        for root in &status.roots {
            let counted = self.failed_scans.entry(root.path.clone()).or_default();
            self.metrics.scans_failed(root.scan_failures.saturating_sub(*counted));
            *counted = root.scan_failures;
        }
    }
}
