//! Who has to wait for others: replacements and health restarts of one pattern, starts where a ceiling is reached, and
//! starts of a version that fails as a whole.

use super::{Claim, Engine, Entry};
use crate::model::{DesiredState, Key, Load, Moment, Rollout};
use crate::observed::Phase;
use crate::plan::admission::PatternStanding;
use crate::plan::decide::drift;
use crate::plan::outbreak::{self, Sight, Turn};
use crate::plan::{Action, Drift, Full, Held, NoteLevel, Reason, StopCause, Verdict};
use std::collections::BTreeSet;

impl Engine {
    /// Whether the action may be carried out now; if not, what it waits for.
    pub(super) fn admit(&mut self, key: &Key, action: Action) -> Result<(), Reason> {
        let Some(entry) = self.entries.get(key) else { return Ok(()) };
        let Phase::Running(run) = &entry.observed.phase else { return Ok(()) };
        let Some(standing) = self.standings.get_mut(key.pattern()) else { return Ok(()) };
        standing.awaiting_replacement.remove(key);
        match action {
            // Replacing what does not work anyway takes nothing away from anybody.
            Action::Terminate(StopCause::Drift(Drift::Pattern)) if run.health.is_healthy() => {
                standing.may_replace(key, &self.policy).map_err(|other| {
                    standing.awaiting_replacement.insert(key.clone());
                    Reason::AwaitingRollout(other)
                })
            }
            Action::Terminate(StopCause::Unhealthy) if entry.observed.memory.ended != Some(run.record.run) => {
                standing.may_restart(key).map_err(Reason::HeldByPattern)
            }
            Action::Nothing
            | Action::Launch
            | Action::Terminate(_)
            | Action::Kill
            | Action::Settle
            | Action::Forget
            | Action::Resume
            | Action::Expire => Ok(()),
        }
    }

    /// Queues a key for its start, unless a ceiling is in its way: then it waits until something of that ends.
    pub(super) fn want(&mut self, key: &Key, verdict: &mut Verdict) {
        let reason = match self.room(key) {
            Ok(()) => {
                self.ledger.leave(key);
                match self.may_try(key) {
                    Ok(()) => return self.starts.want(key),
                    Err(held) => Reason::AwaitingTrial(held),
                }
            }
            Err(full) => {
                self.ledger.wait(key, &full);
                // One that cannot be started must not be the one that others wait for.
                self.outbreaks.leave(key);
                Reason::AwaitingQuota(full)
            }
        };
        self.starts.unwant(key);
        *verdict = Verdict { wake_at: verdict.wake_at, ..Verdict::nothing(reason) };
    }

    /// Whether the breaker of its version lets a key start.
    pub(super) fn may_try(&mut self, key: &Key) -> Result<(), Held> {
        let Some(entry) = self.entries.get(key) else { return Ok(()) };
        let memory = &entry.observed.memory;
        self.outbreaks.may_start(key, &memory.instance.content.launch, memory.streak == 0)
    }

    /// Tells the breaker of its version what a key shows of itself.
    pub(super) fn book(&mut self, key: &Key) {
        let told = self.entries.get(key).filter(|entry| is_wanted(entry)).map(|entry| {
            let memory = &entry.observed.memory;
            let health = match &entry.observed.phase {
                Phase::Running(run) if run.record.stop.is_none() => {
                    let runs = drift(&run.record.launch, &memory.instance.content.launch);
                    run.health.healthy_since.filter(|_| runs.is_none())
                }
                Phase::Idle | Phase::Starting(_) | Phase::Running(_) | Phase::Ending(_) => None,
            };
            let sight = Sight {
                failure: outbreak::last_failure(memory),
                healthy_since: health,
                is_idle: matches!(entry.observed.phase, Phase::Idle),
            };
            (&memory.instance.content.launch, sight)
        });
        self.outbreaks.book(key, told, &self.policy);
    }

    /// Has the next trials looked at, and tells people which breakers have opened and closed.
    pub(super) fn go_on_with_trials(&mut self, now: Moment) {
        self.dirty.extend(self.outbreaks.advance(now, &self.policy));
        for Turn { key, version, opened } in self.outbreaks.take_turns() {
            let pattern = key.pattern().to_owned();
            let (level, message, reason) = if let Some((code, keys, namespaces)) = opened {
                let told = format!(
                    "{keys} instances of version {version} of '{pattern}' in {namespaces} namespaces fail alike ({}), so the \
                     cause is elsewhere; their starts wait for the trial of one",
                    code.as_str()
                );
                (NoteLevel::Error, "version paused", told)
            } else {
                let told = format!("version {version} of '{pattern}' no longer fails as a whole");
                (NoteLevel::Info, "version resumed", told)
            };
            self.note(level, &key, None, message, reason);
        }
    }

    /// Whether the ceilings leave room for the start of a key.
    pub(super) fn room(&self, key: &Key) -> Result<(), Full> {
        let Some(entry) = self.entries.get(key) else { return Ok(()) };
        let resources = &entry.observed.memory.instance.content.supervision.resources;
        self.ledger.room(key, Load::of(resources), &self.policy.ceilings)
    }

    /// Brings what a key takes up of the ceilings up to date, and has those looked at that wait for it.
    pub(super) fn occupy(&mut self, key: &Key) {
        let resources = self.entries.get(key).and_then(|entry| match &entry.observed.phase {
            Phase::Idle => None,
            Phase::Starting(start) => Some(&start.instance.content.supervision.resources),
            Phase::Running(run) => Some(&run.record.supervision.resources),
            Phase::Ending(ending) => Some(&ending.record.supervision.resources),
        });
        if self.ledger.put(key, resources.map(Load::of)) {
            self.dirty.extend(self.ledger.waiting_for(key.namespace()).cloned());
        }
    }

    /// Brings the standing of a key among those of its pattern up to date, and wakes those that waited for it.
    pub(super) fn stand(&mut self, key: &Key) {
        let Some(standing) = self.standings.get_mut(key.pattern()) else {
            if self.entries.contains_key(key) {
                self.standings.insert(key.pattern().to_owned(), PatternStanding::default());
                self.stand(key);
            }
            return;
        };
        let was_replacing = standing.replacing.contains(key);
        let was_recovering = standing.recovering.contains(key);
        let now = self.entries.get_mut(key).map(Standing::of).unwrap_or_default();
        put(&mut standing.replacing, key, now.replacing);
        put(&mut standing.recovering, key, now.recovering);
        put(&mut standing.judged, key, now.judged);
        standing.fall(key, now.fallen);
        if !now.running {
            standing.awaiting_replacement.remove(key);
        }
        if was_replacing && !now.replacing {
            let free = self.policy.max_unavailable.saturating_sub(standing.replacing.len());
            self.dirty.extend(standing.awaiting_replacement.iter().take(free).cloned());
        }
        if was_recovering && !now.recovering {
            self.dirty.extend(standing.fallen().cloned());
        }
        if !self.entries.contains_key(key) && standing.is_empty() {
            self.standings.remove(key.pattern());
        }
    }
}

/// Whether a key is declared and should run.
fn is_wanted(entry: &Entry) -> bool {
    let memory = &entry.observed.memory;
    entry.claim == Claim::Declared
        && memory.instance.content.state == DesiredState::Running
        && memory.finished.is_none()
        && memory.suspension.is_none()
}

/// Where one key stands among those of its pattern.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each says whether the key belongs to one of the sets")]
struct Standing {
    running: bool,
    replacing: bool,
    recovering: bool,
    judged: bool,
    fallen: bool,
}

impl Standing {
    /// Reads it off an entry; a replacement or recovery that has come to its end is ended.
    fn of(entry: &mut Entry) -> Self {
        let wanted = is_wanted(entry);
        let memory = &mut entry.observed.memory;
        let run = match &entry.observed.phase {
            Phase::Running(run) if run.record.stop.is_none() => Some(run),
            Phase::Idle | Phase::Starting(_) | Phase::Running(_) | Phase::Ending(_) => None,
        };
        let healthy = run.is_some_and(|run| {
            run.health.is_healthy() && drift(&run.record.launch, &memory.instance.content.launch).is_none()
        });
        if memory.rollout == Rollout::Replacing && (healthy || !wanted) {
            memory.rollout = Rollout::None;
            entry.memory_changed = true;
        }
        entry.recovering &= wanted && !healthy;
        let judged = run.is_some_and(|run| run.record.supervision.healthcheck.is_some() && run.health.proven);
        Self {
            running: run.is_some(),
            replacing: memory.rollout == Rollout::Replacing,
            recovering: entry.recovering,
            judged,
            fallen: judged && wanted && run.is_some_and(|run| run.health.has_fallen()),
        }
    }
}

fn put(set: &mut BTreeSet<Key>, key: &Key, belongs: bool) {
    if !belongs {
        set.remove(key);
    } else if !set.contains(key) {
        set.insert(key.clone());
    }
}
