//! Telling people: one log line for each condition that appears or ends. What is done is told by the host.

use crate::model::{Condition, DesiredStatus, Key};
use std::collections::BTreeSet;

/// Logs the conditions of the desired directories that are new, and those that ended.
pub(super) fn desired(before: &DesiredStatus, after: &DesiredStatus) {
    let (before, after) = (conditions_of(before), conditions_of(after));
    for condition in after.difference(&before) {
        appeared(None, condition);
    }
    for condition in before.difference(&after) {
        ended(None, condition);
    }
}

/// Logs the conditions of a key that are new, and those that ended.
pub(super) fn conditions(key: &Key, before: &[Condition], after: &[Condition]) {
    for condition in after.iter().filter(|condition| !before.contains(condition)) {
        appeared(Some(key), &(condition.kind.as_str(), condition.message.as_str()));
    }
    for condition in before.iter().filter(|condition| !after.contains(condition)) {
        ended(Some(key), &(condition.kind.as_str(), condition.message.as_str()));
    }
}

fn conditions_of(status: &DesiredStatus) -> BTreeSet<(&str, &str)> {
    let roots = status.roots.iter().flat_map(|root| &root.conditions);
    roots.chain(&status.conditions).map(|condition| (condition.kind.as_str(), condition.message.as_str())).collect()
}

fn appeared(key: Option<&Key>, (condition, reason): &(&str, &str)) {
    tracing::warn!(key = key.map(tracing::field::display), condition, reason, "condition appeared");
}

fn ended(key: Option<&Key>, (condition, reason): &(&str, &str)) {
    tracing::info!(key = key.map(tracing::field::display), condition, reason, "condition ended");
}
