//! What happens to a world beside the kills.

use super::calls::Calls;
use super::{Chaos, model};
use crate::world::signal;

impl Chaos<'_> {
    /// Lets something happen. Clients ask only where there are calls, since without a launcher nobody answers.
    pub(super) fn disturb(&mut self, calls: Option<&mut Calls>) {
        match (self.dice.below(20), calls) {
            (0, _) => {
                self.happened("manifest changed");
                self.model.change_manifest(self.world);
            }
            (1..=3, _) => self.change_file(false),
            (4 | 5, _) => self.change_file(true),
            (6..=10, Some(calls)) => self.launch_something(calls),
            (11..=13, Some(calls)) => self.terminate_something(calls),
            (14 | 15, Some(calls)) => self.restart_something(calls),
            _ => self.crash_something(),
        }
    }

    fn change_file(&mut self, in_place: bool) {
        let file = self.dice.index(self.model.files());
        let toggled = if self.dice.once_in(2) { Some(self.dice.index(model::LAUNCHED)) } else { None };
        self.happened(if in_place { "file rewritten in place" } else { "file replaced" });
        self.model.change_file(self.world, file, toggled, in_place);
    }

    /// Launches a key that nobody asks for something else at this time.
    pub(super) fn launch_something(&mut self, calls: &mut Calls) {
        let first = self.dice.index(model::LAUNCHED);
        let free = |number: &usize| !calls.about(&model::launched_id(*number)) && !self.model.may_be_declared(*number);
        let all = (0..model::LAUNCHED).map(|offset| (first + offset) % model::LAUNCHED);
        let Some(number) = all.clone().find(free) else { return };
        let (id, content) = self.model.launch(number);
        self.happened("launch");
        calls.launch(&id, content);
        // Somebody else wants one that runs, and gets it.
        if let Some(other) = all.into_iter().find(|other| self.model.may_be_declared(*other)) {
            let (id, content) = self.model.launch(other);
            if !calls.about(&id) {
                self.happened("launch of what may run");
                calls.launch(&id, content);
            }
        }
    }

    fn terminate_something(&mut self, calls: &mut Calls) {
        let number = self.dice.index(model::LAUNCHED);
        let id = model::launched_id(number);
        if self.model.is_declared(number) && !calls.about(&id) {
            self.happened("terminate");
            calls.terminate(&id);
        }
    }

    fn restart_something(&mut self, calls: &mut Calls) {
        let Some((id, _)) = self.any_live() else { return };
        let launched = model::namespace(&id).starts_with('l');
        // One that is just being withdrawn cannot be restarted: only what is declared for certain is asked for.
        let certain = launched && self.model.is_declared(model::number(&id));
        if certain && !calls.about(&id) {
            self.happened("restart asked for");
            self.history.asked(&id);
            calls.restart(&id);
        }
    }

    /// Kills the process of a key, as a crash of its own would end it.
    fn crash_something(&mut self) {
        let Some((id, pid)) = self.any_live() else { return };
        if self.history.label(&id, pid).is_none() || !self.model.may_crash(&id) {
            return;
        }
        self.happened("crash of a process");
        // Before the kill, since its successor may be there at once.
        self.history.crashed(&id, pid);
        self.model.crashed(&id);
        signal(pid, "KILL");
    }

    fn any_live(&mut self) -> Option<(String, i32)> {
        self.history.read();
        let live: Vec<(String, i32)> = self.live().into_iter().collect();
        if live.is_empty() { None } else { Some(live[self.dice.index(live.len())].clone()) }
    }
}
