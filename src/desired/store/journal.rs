//! Logs what is not as it should be, once when it begins and once when it is over.

use crate::model::{Condition, DesiredStatus, Key};
use crate::observed::event::DesiredChange;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[derive(Debug, Default)]
pub(super) struct Journal {
    keys: BTreeMap<Key, Vec<Condition>>,
    status: Arc<DesiredStatus>,
    told: BTreeSet<(String, String)>,
}

impl Journal {
    /// Logs what is new in a change.
    pub(super) fn note(&mut self, change: &DesiredChange) {
        if change.conditions.is_empty() && change.status.is_none() && change.withdrawn.is_empty() {
            return;
        }
        for (key, conditions) in &change.conditions {
            if conditions.is_empty() {
                self.keys.remove(key);
            } else {
                self.keys.insert(key.clone(), conditions.clone());
            }
        }
        for key in &change.withdrawn {
            self.keys.remove(key);
        }
        if let Some(status) = &change.status {
            self.status = Arc::clone(status);
        }
        let roots = self.status.roots.iter().flat_map(|root| &root.conditions);
        let all = roots.chain(&self.status.conditions).chain(self.keys.values().flatten());
        let now: BTreeSet<(String, String)> =
            all.map(|condition| (condition.kind.clone(), condition.message.clone())).collect();
        for (kind, message) in now.difference(&self.told) {
            tracing::warn!(condition = %kind, "{message}");
        }
        for (kind, message) in self.told.difference(&now) {
            tracing::info!(condition = %kind, was = %message, "a condition is over");
        }
        self.told = now;
    }
}
