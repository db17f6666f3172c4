//! The clients' part: they launch, end and ask, and expired launches are removed.

use super::{Occasion, World};
use crate::error::Result;
use crate::model::{Caller, Instance, Key, RunId};
use crate::observed::event::DesiredChange;
use crate::observed::{Ask, Asked, EndedLaunch, Event, Launched, Writing};
use std::sync::Arc;
use std::time::Duration;

impl World {
    /// A client has an instance launched: its file is written, and counts at once.
    pub fn launch(&mut self, mut instance: Instance) {
        instance.origin.api_managed = true;
        let (instance, key) = (Arc::new(instance.clone()), instance.key);
        self.tell(format_args!("{key} is launched"));
        self.disk.declared.insert(key.clone(), Arc::clone(&instance));
        if self.engine.is_some() {
            self.told.insert(key.clone(), Arc::clone(&instance));
            self.oracle.unanswered.insert(key.clone());
            let launched = vec![Launched { key, by: Caller::Program, writing: Writing::Launch }];
            self.change(DesiredChange { declared: vec![instance], launched, ..DesiredChange::default() });
        }
    }

    /// A client has a launched instance ended, with at most this grace period: its file is removed, and that counts at
    /// once.
    pub fn terminate(&mut self, key: &Key, grace: Option<Duration>) {
        if self.disk.declared.remove(key).is_none() {
            return;
        }
        self.tell(format_args!("{key} is ended by request"));
        if let Some(grace) = grace {
            self.allow(key, grace);
        }
        self.excuse_end(key);
        if self.told.remove(key).is_some() && self.engine.is_some() {
            let ended = vec![EndedLaunch { key: key.clone(), grace, by: Caller::Program }];
            self.change(DesiredChange { ended, withdrawn: vec![key.clone()], ..DesiredChange::default() });
        }
    }

    /// A client asks for something; `None` while no launcher runs.
    pub fn ask(&mut self, key: &Key, ask: Ask) -> Option<Result<Option<RunId>>> {
        self.tell(format_args!("{key} is asked for {ask:?}"));
        if let Ask::Hasten(grace) = ask {
            self.allow(key, grace);
        }
        let granted = ask.clone();
        let asked = Asked { key: key.clone(), by: Caller::Program, ask };
        let now = self.now;
        let answer = self.engine.as_mut()?.ask(asked, now, &mut self.chance);
        if answer.is_ok() {
            self.excuse(key, &granted);
        }
        Some(answer)
    }

    /// Somebody has asked for this grace period: from now on a kill after it breaks no promise.
    fn allow(&mut self, key: &Key, grace: Duration) {
        let now = self.now;
        for (_, process) in self.processes.values().filter(|(owner, process)| owner == key && process.lives()) {
            self.oracle.allow(process.run, now, grace);
        }
    }

    /// The store is told that a launch has expired.
    pub(super) fn expire(&mut self, key: Key) {
        let (epoch, after) = (self.epoch, self.chance.up_to_millis(5));
        self.schedule(after, Occasion::Expired { epoch, key });
    }

    /// The store removes what has expired.
    pub(super) fn remove_expired(&mut self, key: Key) {
        self.tell(format_args!("{key} has expired"));
        self.excuse_end(&key);
        self.disk.declared.remove(&key);
        if self.told.remove(&key).is_some() {
            let ended = vec![EndedLaunch { key: key.clone(), grace: None, by: Caller::Launcher }];
            self.change(DesiredChange { ended, withdrawn: vec![key], ..DesiredChange::default() });
        }
    }

    fn change(&mut self, change: DesiredChange) {
        let now = self.now;
        if let Some(engine) = &mut self.engine {
            engine.handle(Event::Desired(change), now, &mut self.chance);
        }
    }
}
