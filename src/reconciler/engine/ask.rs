//! What somebody asks for about one key, apart from what is asked of the store: it changes what is remembered of the key,
//! and the planner does the rest. Only a restart begins a stop here, since nothing that is remembered calls for it.

use super::refusal::{nothing_to_abandon, verified};
use super::{Claim, Dice, Engine};
use crate::error::{Error, Result};
use crate::model::{Caller, Key, Moment, RunId, Suspension};
use crate::observed::ask::{not_declared, shutting_down};
use crate::observed::{Ask, Asked, Phase, fold};
use crate::plan::{Effect, Reason, StopCause};
use std::time::Duration;

impl Engine {
    /// Takes in what somebody asks for. What follows from it comes out of the next [`Engine::pass`].
    ///
    /// Returns the run that it concerns, if one lives: the one that has to end for a restart and a suspension.
    ///
    /// # Errors
    /// `PROCESS_NOT_FOUND` when nothing declares the key; `STORE_UNAVAILABLE` while the launcher is shutting down; for
    /// what would have to start it, `MAX_ERRORS_EXCEEDED` when its circuit is open, `PROCESS_START_FAILED` when it is
    /// suspended or declared as stopped, and whatever blocks it; `ALREADY_RUNNING` when a process that is verified is to
    /// be abandoned.
    pub fn ask(&mut self, asked: Asked, now: Moment, dice: &mut dyn Dice) -> Result<Option<RunId>> {
        let Asked { key, by, ask } = asked;
        if self.shutdown.is_some() {
            return Err(shutting_down().with("process_id", &key));
        }
        let mark = self.effects.len();
        let answer = match ask {
            Ask::Hasten(grace) => self.ask_hasten(&key, &by, grace, now),
            Ask::Abandon => self.ask_abandon(&key, &by),
            Ask::Launch | Ask::Suspend { .. } | Ask::Resume | Ask::Restart | Ask::Reset
                if !self.is_declared(&key, now) =>
            {
                Err(self.unknown(&key))
            }
            Ask::Launch => self.ask_launch(&key, &by, now),
            Ask::Suspend { reason, lasting } => {
                let until = lasting.map(|lasting| now.after(lasting));
                Ok(self.ask_suspend(&key, Suspension { reason, by, since: now, until, lasting }))
            }
            Ask::Resume => Ok(self.ask_resume(&key, &by)),
            Ask::Restart => self.ask_restart(&key, &by, now, dice),
            Ask::Reset => Ok(self.ask_reset(&key, &by)),
        };
        if answer.is_ok() {
            self.touch(&key, mark);
        }
        answer
    }

    /// Whether the key is declared and stays so: one whose file is being removed because its `ttl` is over does not.
    fn is_declared(&self, key: &Key, now: Moment) -> bool {
        self.entries.get(key).is_some_and(|entry| {
            let expired = entry.observed.memory.expires().is_some_and(|at| now.reached(at));
            entry.claim == Claim::Declared && !(expired && entry.observed.expiring.is_some())
        })
    }

    fn unknown(&self, key: &Key) -> Error {
        let declared = self.entries.iter().filter(|(_, entry)| entry.claim == Claim::Declared);
        not_declared(key, declared.map(|(key, _)| key))
    }

    fn ask_launch(&mut self, key: &Key, by: &Caller, now: Moment) -> Result<Option<RunId>> {
        self.refuse_start(key, now)?;
        let Some(entry) = self.entries.get_mut(key) else { return Ok(None) };
        let memory = &mut entry.observed.memory;
        let run = entry.observed.phase.run();
        let renewed = fold::renew(memory, now);
        let again = memory.finished.take().is_some();
        if again {
            memory.asked_by = Some(by.clone());
        }
        entry.memory_changed |= renewed || again;
        if again {
            self.note_asked(key, run, by, "launched", "it had finished");
        } else if renewed {
            self.note_asked(key, run, by, "ttl renewed", "");
        }
        Ok(run)
    }

    fn ask_hasten(&mut self, key: &Key, by: &Caller, grace: Duration, now: Moment) -> Result<Option<RunId>> {
        let ending = self.entries.get(key).filter(|entry| entry.claim == Claim::Withdrawn);
        let Some(run) = ending.map(|entry| entry.observed.run()) else { return Err(self.unknown(key)) };
        self.hasten(key, grace, now);
        let what = format!("at most {:.1} s are left", grace.as_secs_f64());
        self.note_asked(key, run, by, "grace period shortened", &what);
        Ok(run)
    }

    fn ask_suspend(&mut self, key: &Key, suspension: Suspension) -> Option<RunId> {
        let entry = self.entries.get_mut(key)?;
        let run = entry.observed.run();
        let (by, reason) = (suspension.by.clone(), Error::echo(&suspension.reason));
        entry.observed.memory.suspension = Some(suspension);
        entry.memory_changed = true;
        self.note_asked(key, run, &by, "suspended", &reason);
        run
    }

    fn ask_resume(&mut self, key: &Key, by: &Caller) -> Option<RunId> {
        let entry = self.entries.get_mut(key)?;
        let run = entry.observed.run();
        let suspended = entry.observed.memory.suspension.take().is_some();
        entry.memory_changed |= suspended;
        self.note_asked(key, run, by, "resumed", if suspended { "" } else { "it was not suspended" });
        run
    }

    fn ask_restart(&mut self, key: &Key, by: &Caller, now: Moment, dice: &mut dyn Dice) -> Result<Option<RunId>> {
        self.refuse_start(key, now)?;
        let Some(entry) = self.entries.get_mut(key) else { return Ok(None) };
        let memory = &mut entry.observed.memory;
        let (run, stops) = match &entry.observed.phase {
            // What has not been executed yet is as fresh as can be.
            Phase::Idle | Phase::Starting(_) => (None, false),
            Phase::Running(run) => (Some(run.record.run), run.record.stop.is_none()),
            Phase::Ending(ending) => (Some(ending.record.run), false),
        };
        let again = memory.finished.take().is_some();
        entry.memory_changed |= again || memory.not_before.is_some();
        memory.not_before = None;
        // A start in a streak of failures is counted when it is made.
        if (stops || again) && memory.streak == 0 {
            memory.restarts = memory.restarts.saturating_add(1);
            entry.memory_changed = true;
        }
        self.note_asked(key, run, by, "restart asked for", "");
        if stops {
            self.stop(key, StopCause::Restart, None, now, dice);
        }
        Ok(run)
    }

    fn ask_reset(&mut self, key: &Key, by: &Caller) -> Option<RunId> {
        let entry = self.entries.get_mut(key)?;
        let run = entry.observed.run();
        let memory = &mut entry.observed.memory;
        let before = memory.clone();
        fold::forgive(memory);
        entry.memory_changed |= before != *memory;
        let what = format!("failures in a row so far: {}", before.streak);
        self.note_asked(key, run, by, "failures forgotten", &what);
        run
    }

    fn ask_abandon(&mut self, key: &Key, by: &Caller) -> Result<Option<RunId>> {
        let file_name = key.file_name();
        let lives = self.entries.get(key).and_then(|entry| entry.observed.phase.view());
        let Some(error) = self.blocked.give_up(&file_name) else {
            return Err(match (lives, self.entries.contains_key(key)) {
                (Some(view), _) => verified(key, view.pid),
                (None, true) => nothing_to_abandon(key),
                (None, false) => self.unknown(key),
            });
        };
        if let Some(entry) = self.entries.get_mut(key) {
            entry.observed.blocked = None;
        }
        let except = lives.map(|view| view.run);
        self.effects.push(Effect::Abandon { file_name, except });
        let what = format!("{} is given up: {}", Reason::Blocked, error.summary());
        self.note_asked(key, None, by, "process abandoned", &what);
        Ok(None)
    }
}

#[cfg(test)]
mod tests;
