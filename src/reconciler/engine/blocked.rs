//! Which keys nothing may be started for, since something of them may live that no run accounts for.

use crate::error::Error;
use crate::model::Key;
use std::collections::{BTreeMap, BTreeSet};

/// By [`Key::file_name`], since that is all that a damaged record or a cgroup says of its key.
#[derive(Debug, Clone, Default)]
pub(super) struct Blocked {
    /// Records that cannot be verified; until somebody gives them up.
    records: BTreeMap<String, Error>,
    /// Processes in cgroups of ours without a record; until they are gone, or given up.
    orphans: BTreeMap<String, Error>,
    /// The keys of all orphans that were told of last, also of those that were given up.
    told: BTreeSet<String>,
}

impl Blocked {
    /// A record cannot be verified.
    pub(super) fn by_record(&mut self, file_name: String, error: Error) {
        self.records.insert(file_name, error);
    }

    /// These orphans are there now. Returns of which keys that says something new.
    pub(super) fn by_orphans(&mut self, left: Vec<(String, Error)>) -> BTreeSet<String> {
        let left: BTreeMap<String, Error> = left.into_iter().collect();
        let now: BTreeSet<String> = left.keys().cloned().collect();
        let changed: BTreeSet<String> = now.symmetric_difference(&self.told).cloned().collect();
        self.orphans.retain(|name, _| now.contains(name));
        self.orphans.extend(left.into_iter().filter(|(name, _)| !self.told.contains(name)));
        self.told = now;
        changed
    }

    /// Somebody gives up what blocks a key; what that was.
    pub(super) fn give_up(&mut self, file_name: &str) -> Option<Error> {
        let orphan = self.orphans.remove(file_name);
        self.records.remove(file_name).or(orphan)
    }

    /// Why nothing may be started for a key; says how it is freed.
    pub(super) fn blockage(&self, key: &Key) -> Option<Error> {
        let name = key.file_name();
        let error = self.records.get(&name).or_else(|| self.orphans.get(&name))?.clone();
        let first = error.suggestion().map_or_else(String::new, |first| format!("{first}; "));
        let way = format!(
            "{first}once nothing of it lives, prismctl pattern abandon {} frees its key",
            Error::word(key.as_str())
        );
        Some(error.suggest(way))
    }
}
