//! What must be true: at every moment, and once everything has come to rest.

use super::model::Maybe;
use super::{Chaos, model};
use crate::world::wait::{SOON, within};
use crate::world::{Daemon, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// What was last seen of a key: it only grows for as long as the key is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seen {
    generation: u64,
    restarts: u32,
    errors: u32,
}

impl Chaos<'_> {
    /// The process of each key. Never two of one key, whatever happens.
    pub(super) fn live(&self) -> BTreeMap<String, i32> {
        let mut live = BTreeMap::new();
        for (id, pids) in self.world.processes(model::PATTERN) {
            let own: Vec<i32> = pids.into_iter().filter(|pid| !self.strangers.are(*pid)).collect();
            assert!(own.len() <= 1, "{id} has more than one process: {own:?}");
            if let Some(pid) = own.first() {
                live.insert(id, *pid);
            }
        }
        live
    }

    /// What holds at every moment.
    pub(super) fn safe(&mut self) {
        self.history.read();
        self.live();
        self.strangers.assert_untouched();
        assert_eq!(self.history.unneeded(), [""; 0], "processes were started without need");
    }

    /// Waits until everything is as it is declared, and checks all of it.
    pub(super) fn rest(&mut self, daemon: &Daemon) {
        let mut last = String::new();
        let rested = within(SOON * 2, || {
            self.history.read();
            let Some(status) = daemon.status().filter(|status| status.ready) else { return false };
            match self.differs(&status) {
                None => true,
                Some(what) => {
                    last = what;
                    false
                }
            }
        });
        assert!(rested, "no rest: {last}");
        self.safe();
        let status = daemon.status().unwrap();
        self.note_what_was_seen(&status);
        self.check_records(&status);
        self.history.at_rest();
        self.rests += 1;
    }

    /// What is not yet as it is declared.
    fn differs(&self, status: &Status) -> Option<String> {
        let declared = self.model.declared();
        for key in &status.instances {
            let id = key.process_id.as_str();
            let Some(maybe) = declared.get(id) else { return Some(format!("{id} is known: {:?}", key.verdict)) };
            let Some(pid) = status.settled(id) else { return Some(format!("{id} is {:?}: {:?}", key.state, key)) };
            let label = self.history.label(id, pid);
            let fits = |content: &u32| label == Some(self.model.label(*content));
            let contents: Vec<u32> = maybe.iter().filter_map(|maybe| says(*maybe)).collect();
            if !contents.iter().any(fits) {
                return Some(format!("{id} runs {label:?} as {pid}, one of {contents:?} is declared"));
            }
        }
        let known: BTreeSet<&str> = status.instances.iter().map(|key| key.process_id.as_str()).collect();
        let missing =
            |(id, maybe): &(&String, &BTreeSet<Maybe>)| !known.contains(id.as_str()) && !maybe.contains(&Maybe::Absent);
        if let Some((id, maybe)) = declared.iter().find(missing) {
            return Some(format!("{id} is not known, and is declared: {maybe:?}"));
        }
        let live = self.live();
        let named: BTreeMap<String, i32> =
            status.instances.iter().filter_map(|key| Some((key.process_id.as_str().to_owned(), key.pid?))).collect();
        (live != named).then(|| format!("{live:?} live, and {named:?} are said to"))
    }

    /// What only grows has grown, and what was not answered is known now.
    fn note_what_was_seen(&mut self, status: &Status) {
        let renewed = self.model.take_renewed();
        for id in &renewed {
            self.seen.remove(id);
        }
        for (id, _) in self.model.declared() {
            let Some(key) = status.key(&id) else {
                self.model.seen(&id, Maybe::Absent);
                continue;
            };
            let now = Seen { generation: key.generation.0, restarts: key.restart_count, errors: key.error_count };
            assert!(now.errors <= self.model.crashes(&id), "{id}: more failures than crashes: {now:?}");
            if let Some(before) = self.seen.insert(id.clone(), now) {
                assert!(now.generation >= before.generation, "{id}: {before:?}, then {now:?}");
                assert!(now.restarts >= before.restarts, "{id}: {before:?}, then {now:?}");
                let same = now.generation == before.generation;
                assert!(!same || now.errors >= before.errors, "{id}: {before:?}, then {now:?}");
            }
            if let Some(label) = key.pid.and_then(|pid| self.history.label(&id, pid)) {
                self.model.seen(&id, Maybe::Says(label.content));
            }
        }
    }

    /// Each process has a record, and soon there is no other: that of a run is removed only after its end has been told.
    fn check_records(&self, status: &Status) {
        let runs: BTreeSet<String> =
            status.instances.iter().filter_map(|key| key.run_id).map(|run| run.to_string()).collect();
        let mut recorded = BTreeSet::new();
        let equal = within(SOON, || {
            let names = fs::read_dir(self.world.state().join("runs")).unwrap().flatten();
            let names = names.filter_map(|entry| entry.file_name().into_string().ok());
            recorded = names.map(|name| name.rsplit('.').nth(3).unwrap_or(&name).to_owned()).collect();
            let without: Vec<_> = runs.difference(&recorded).collect();
            assert!(without.is_empty(), "processes without a record: {without:?}");
            recorded == runs
        });
        assert!(equal, "records of what does not run: {:?}", recorded.difference(&runs));
    }
}

const fn says(maybe: Maybe) -> Option<u32> {
    match maybe {
        Maybe::Absent => None,
        Maybe::Says(content) => Some(content),
    }
}
