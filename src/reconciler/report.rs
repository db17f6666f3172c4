//! Telling people of the conditions that the engine finds itself, once when they begin and once when they are over.
//! Those of files are told by the store, and what is done by the host.

use crate::model::{Condition, Key};

/// The conditions that nobody else tells of.
const OWN: [&str; 3] = ["RecordUnverifiable", "RolloutBlocked", "HealthRestartHeld"];

/// Logs which conditions of a key are new, and which are over.
pub(super) fn conditions(key: &Key, before: &[Condition], after: &[Condition]) {
    let own = |condition: &&Condition| OWN.contains(&condition.kind.as_str());
    for Condition { kind, message } in after.iter().filter(own).filter(|condition| !before.contains(condition)) {
        tracing::warn!(%key, condition = %kind, "{message}");
    }
    for Condition { kind, message } in before.iter().filter(own).filter(|condition| !after.contains(condition)) {
        tracing::info!(%key, condition = %kind, was = %message, "a condition is over");
    }
}
