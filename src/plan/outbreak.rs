//! The breaker of a version: what fails alike in several namespaces is tried with one.
//!
//! A version is what instances of a pattern are started from in common: its manifest and its executable. Its breaker is
//! open while at least `MASS` of its instances, of at least `NAMESPACES` namespaces, fail alike (their last failures
//! have the same code) and that concerns more than half of the namespaces in which it is used. A namespace is concerned
//! when an instance of it fails and none is well. So a tenant whose thousand sessions crash, by its own config, counts
//! as one and holds up nobody else, and whose instances work has nothing to do with it.
//!
//! While it is open, starts after a failure and first starts in a namespace that is concerned wait for a trial. The
//! first start elsewhere goes ahead: it is a trial of its own. Trials are given to the namespaces in turn, and within one
//! first to what has not failed as it is declared now, since somebody may have mended it, then in the order of waiting;
//! there is one at a time. When one has failed, the next comes `backoff_period` later. One that
//! has been healthy for that long is proven (so must be what begins meanwhile: a program that crashes soon after each start is
//! healthy for a moment, too), and from then on as many are tried at once as are proven: 1, 2, 4 and so
//! on, until those that work are the majority and the breaker closes.
//!
//! It only delays: streaks, delays and circuits of each key are what they are without it. Nothing of it is written: it
//! follows from what is remembered of the keys, so the next launcher finds it open as well. A changed version is another
//! one, and has no breaker that is open.

use crate::error::Code;
use crate::model::{Key, Memory, Moment, PatternRevision, Policy, StartSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// From how many failing instances of a version on their failures can be said to have one cause.
const MASS: usize = 4;
/// From how many namespaces.
const NAMESPACES: usize = 2;
/// The failures of an instance; what the launcher lacks is none.
const FAILURES: [Code; 6] = [
    Code::ProcessCrashed,
    Code::ProcessStartFailed,
    Code::HealthCheckFailed,
    Code::ResourceLimitExceeded,
    Code::ExecutableNotFound,
    Code::ExecutableNotRunnable,
];

/// What a key shows of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sight {
    /// Its last failure, while its streak is not over.
    pub failure: Option<Code>,
    /// Since when it has been healthy, as it is declared.
    pub healthy_since: Option<Moment>,
    /// Whether nothing of it lives.
    pub is_idle: bool,
}

/// Why a key is not started now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// How its version fails.
    pub code: Code,
    /// The key that is being tried, if one is at the moment.
    pub trial: Option<Key>,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "its version fails in several namespaces alike ({}), so the cause is elsewhere; ",
            self.code.as_str()
        )?;
        match &self.trial {
            Some(key) => write!(f, "waiting for the trial of {key}"),
            None => f.write_str("waiting for a trial"),
        }
    }
}

/// A breaker has opened or closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The key that tipped it.
    pub key: Key,
    /// The version, for people.
    pub version: String,
    /// How its instances fail, with how many of them in how many namespaces; `None` when it has closed.
    pub opened: Option<(Code, usize, usize)>,
}

/// How far a trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trial {
    /// It may start.
    Admitted,
    /// It starts or runs, and is not proven.
    UnderWay,
}

/// When a key's turn is among those of its namespace: whether it has failed, and how many began to wait before it.
type Place = (bool, u64);

/// What a version is to one namespace.
#[derive(Debug, Clone, Default)]
struct Share {
    failing: BTreeMap<Code, BTreeSet<Key>>,
    well: BTreeSet<Key>,
}

/// The breaker of one version.
#[derive(Debug, Clone)]
struct Breaker {
    revision: PatternRevision,
    shares: BTreeMap<String, Share>,
    /// For each code how many keys fail with it, and how many namespaces that concerns.
    failing: BTreeMap<Code, (usize, usize)>,
    /// The keys that wait for a trial, in the order of their turns.
    waiting: BTreeMap<String, BTreeMap<Place, Key>>,
    turns: BTreeMap<Key, Place>,
    turn: u64,
    trials: BTreeMap<Key, Trial>,
    /// Those that have failed, or began while it was open, and are healthy since then, not for long enough yet.
    recovering: BTreeMap<Key, Moment>,
    /// Those of them that have been healthy for long enough.
    proven: BTreeSet<Key>,
    /// Those of them that were tried since it opened.
    succeeded: BTreeSet<Key>,
    /// The namespace that had the last trial.
    served: Option<String>,
    /// A trial has failed since this was last looked at.
    has_failed: bool,
    /// No trial before this moment.
    not_before: Option<Moment>,
    open: Option<Code>,
}

/// The breakers of all versions.
#[derive(Debug, Clone, Default)]
pub struct Outbreaks {
    patterns: BTreeMap<String, Vec<Breaker>>,
    /// What each key that counts was started from when it was last looked at.
    booked: BTreeMap<Key, Arc<StartSpec>>,
    /// The patterns of which a breaker is open.
    open: BTreeSet<String>,
    /// When those that have failed will have been healthy for long enough.
    proofs: BTreeSet<(Duration, Key)>,
    /// Those that need not wait any more.
    freed: Vec<Key>,
    turns: Vec<Turn>,
}

/// How an instance failed last; `None` when what is remembered is no failure of its own. An open circuit has the failure
/// that opened it as its cause.
pub fn last_failure(memory: &Memory) -> Option<Code> {
    let error = memory.last_error.as_ref().filter(|_| memory.streak > 0)?;
    let code = error.code();
    if code != Code::MaxErrorsExceeded {
        return FAILURES.contains(&code).then_some(code);
    }
    let printed = error.cause()?.strip_prefix('[')?.split_once(']')?.0;
    FAILURES.into_iter().find(|code| code.as_str() == printed)
}

impl Outbreaks {
    /// Takes in what a key that is declared and should run shows of itself; `None` for any other.
    pub fn book(&mut self, key: &Key, told: Option<(&Arc<StartSpec>, Sight)>, policy: &Policy) {
        let spec = told.map(|(spec, _)| spec);
        let before = self.booked.get(key);
        if let Some(before) = before
            && spec.is_none_or(|spec| !Arc::ptr_eq(spec, before) && spec.pattern != before.pattern)
        {
            let before = Arc::clone(before);
            self.booked.remove(key);
            self.note(key, &before, Sight { is_idle: true, ..Sight::default() }, policy);
            self.prune(key);
        }
        let Some((spec, sight)) = told else { return };
        let counts = sight.failure.is_some() || sight.healthy_since.is_some();
        // Only of a breaker that is open somebody can be a trial without counting.
        if !counts && !self.booked.contains_key(key) && !self.open.contains(key.pattern()) {
            return;
        }
        let is_trial = self.note(key, spec, sight, policy);
        if counts || is_trial {
            self.booked.insert(key.clone(), Arc::clone(spec));
        } else {
            self.booked.remove(key);
            self.prune(key);
        }
    }

    /// Returns whether the key is a trial.
    fn note(&mut self, key: &Key, spec: &StartSpec, sight: Sight, policy: &Policy) -> bool {
        let breakers = self.patterns.entry(key.pattern().to_owned()).or_default();
        let at = breakers.iter().position(|breaker| breaker.revision == spec.pattern).unwrap_or_else(|| {
            breakers.push(Breaker::new(spec.pattern.clone()));
            breakers.len() - 1
        });
        let breaker = &mut breakers[at];
        if let Some(since) = breaker.follow(key, sight) {
            self.proofs.insert((since.after(policy.backoff_period).since_boot, key.clone()));
        }
        let is_trial = breaker.trials.contains_key(key);
        self.tip(key, at);
        is_trial
    }

    /// Opens or closes a breaker after something has changed for a key.
    fn tip(&mut self, key: &Key, at: usize) {
        let Some(breaker) = self.patterns.get_mut(key.pattern()).and_then(|breakers| breakers.get_mut(at)) else {
            return;
        };
        let found = breaker.outbreak();
        if found.is_some() == breaker.open.is_some() {
            breaker.open = found;
            return;
        }
        breaker.open = found;
        let opened = found.map(|code| {
            let (keys, namespaces) = breaker.failing.get(&code).copied().unwrap_or_default();
            (code, keys, namespaces)
        });
        self.turns.push(Turn { key: key.clone(), version: breaker.revision.version.clone(), opened });
        if found.is_none() {
            self.freed.extend(breaker.close());
        }
        let any = self.patterns.get(key.pattern()).is_some_and(|all| all.iter().any(|breaker| breaker.open.is_some()));
        if any {
            self.open.insert(key.pattern().to_owned());
        } else {
            self.open.remove(key.pattern());
        }
    }

    /// Forgets the versions of a key's pattern of which nothing is left.
    fn prune(&mut self, key: &Key) {
        if let Some(breakers) = self.patterns.get_mut(key.pattern()) {
            breakers.retain(|breaker| !breaker.shares.is_empty() || !breaker.turns.is_empty());
            if breakers.is_empty() {
                self.patterns.remove(key.pattern());
            }
        }
    }

    /// Whether a key may be started now; if not, it waits for its trial. `first` is whether it has not failed.
    pub fn may_start(&mut self, key: &Key, spec: &StartSpec, first: bool) -> Result<(), Held> {
        if !self.open.contains(key.pattern()) {
            return Ok(());
        }
        let mut answer = Ok(());
        for breaker in self.patterns.get_mut(key.pattern()).into_iter().flatten() {
            if breaker.revision == spec.pattern {
                answer = breaker.may_start(key, first);
            } else {
                // It may have waited for what it was started from before.
                breaker.leave(key);
            }
        }
        answer
    }

    /// A key does not want to start any more, or something else is in its way.
    pub fn leave(&mut self, key: &Key) {
        for breaker in self.patterns.get_mut(key.pattern()).into_iter().flatten() {
            breaker.leave(key);
        }
    }

    /// Goes on with the trials. Returns the keys that are to be looked at.
    pub fn advance(&mut self, now: Moment, policy: &Policy) -> Vec<Key> {
        while let Some((at, _)) = self.proofs.first()
            && *at <= now.since_boot
            && let Some((_, key)) = self.proofs.pop_first()
        {
            self.prove(&key, now, policy);
        }
        let mut next = std::mem::take(&mut self.freed);
        for pattern in &self.open {
            for breaker in self.patterns.get_mut(pattern).into_iter().flatten() {
                breaker.try_next(now, policy, &mut next);
            }
        }
        next
    }

    fn prove(&mut self, key: &Key, now: Moment, policy: &Policy) {
        let breakers = self.patterns.get_mut(key.pattern()).map_or(&mut [][..], Vec::as_mut_slice);
        let proven = breakers.iter_mut().position(|breaker| breaker.prove(key, now, policy));
        if let Some(at) = proven {
            self.tip(key, at);
        }
    }

    /// When to call [`Outbreaks::advance`] even if nothing happens.
    pub fn wake_at(&self, now: Moment) -> Option<Moment> {
        if !self.freed.is_empty() || !self.turns.is_empty() {
            return Some(now);
        }
        let proof = self.proofs.first().map(|(at, _)| Moment::new(now.boot, *at));
        let open = self.open.iter().filter_map(|pattern| self.patterns.get(pattern)).flatten();
        let trial = open.filter(|breaker| breaker.has_room()).map(|breaker| breaker.not_before.unwrap_or(now));
        proof.into_iter().chain(trial).min_by_key(|at| at.since_boot)
    }

    /// What has opened and closed since this was last asked.
    pub fn take_turns(&mut self) -> Vec<Turn> {
        std::mem::take(&mut self.turns)
    }
}

impl Breaker {
    const fn new(revision: PatternRevision) -> Self {
        Self {
            revision,
            shares: BTreeMap::new(),
            failing: BTreeMap::new(),
            waiting: BTreeMap::new(),
            turns: BTreeMap::new(),
            turn: 0,
            trials: BTreeMap::new(),
            recovering: BTreeMap::new(),
            proven: BTreeSet::new(),
            succeeded: BTreeSet::new(),
            served: None,
            has_failed: false,
            not_before: None,
            open: None,
        }
    }

    /// Takes in what a key shows. Returns since when it has been healthy, when that is new and has to last.
    fn follow(&mut self, key: &Key, sight: Sight) -> Option<Moment> {
        match (self.trials.get_mut(key), sight.is_idle) {
            (Some(Trial::UnderWay), true) => {
                self.has_failed = true;
                self.trials.remove(key);
            }
            (Some(trial), false) => *trial = Trial::UnderWay,
            (Some(Trial::Admitted), true) | (None, _) => {}
        }
        if sight.healthy_since.is_none() {
            self.proven.remove(key);
            self.succeeded.remove(key);
        }
        // Those that are healthy for the first time have worked so far, but are no sign that what failed works now.
        let is_well = self.shares.get(key.namespace()).is_some_and(|share| share.well.contains(key));
        let unblemished = sight.failure.is_none() && sight.healthy_since.is_some();
        let works = self.proven.contains(key) || (unblemished && (is_well || self.open.is_none()));
        self.put(key, works, sight.failure.filter(|_| !works));
        let recovering = sight.healthy_since.filter(|_| !works || self.trials.contains_key(key));
        let before = match recovering {
            Some(since) => self.recovering.insert(key.clone(), since),
            None => self.recovering.remove(key),
        };
        recovering.filter(|since| before != Some(*since))
    }

    /// Puts down whether a key works, or how it fails, and keeps the sums.
    fn put(&mut self, key: &Key, works: bool, failure: Option<Code>) {
        let mut share = self.shares.remove(key.namespace()).unwrap_or_default();
        self.sum(&share, |sum, part| *sum -= part);
        share.well.remove(key);
        share.failing.retain(|_, keys| {
            keys.remove(key);
            !keys.is_empty()
        });
        if works {
            share.well.insert(key.clone());
        }
        if let Some(code) = failure {
            share.failing.entry(code).or_default().insert(key.clone());
        }
        self.sum(&share, |sum, part| *sum += part);
        self.failing.retain(|_, (keys, _)| *keys > 0);
        if !share.well.is_empty() || !share.failing.is_empty() {
            self.shares.insert(key.namespace().to_owned(), share);
        }
    }

    fn sum(&mut self, share: &Share, change: impl Fn(&mut usize, usize)) {
        for (code, keys) in &share.failing {
            let (all, namespaces) = self.failing.entry(*code).or_default();
            change(all, keys.len());
            change(namespaces, usize::from(share.well.is_empty()));
        }
    }

    /// How the version fails, if it does so as a whole.
    fn outbreak(&self) -> Option<Code> {
        let as_a_whole = |(_, (keys, namespaces)): &(&Code, &(usize, usize))| {
            *keys >= MASS && *namespaces >= NAMESPACES && *namespaces * 2 > self.shares.len()
        };
        self.failing.iter().find(as_a_whole).map(|(code, _)| *code)
    }

    /// Those that wait need not do so any more.
    fn close(&mut self) -> Vec<Key> {
        self.waiting.clear();
        self.trials.clear();
        self.succeeded.clear();
        (self.has_failed, self.not_before) = (false, None);
        std::mem::take(&mut self.turns).into_keys().collect()
    }

    fn may_start(&mut self, key: &Key, first: bool) -> Result<(), Held> {
        let Some(code) = self.open.filter(|_| !self.trials.contains_key(key)) else { return Ok(()) };
        let concerned =
            self.shares.get(key.namespace()).is_some_and(|share| share.well.is_empty() && !share.failing.is_empty());
        if first && !concerned {
            return Ok(());
        }
        if self.turns.get(key).is_none_or(|(has_failed, _)| *has_failed == first) {
            self.leave(key);
            self.turn += 1;
            let turn = (!first, self.turn);
            self.turns.insert(key.clone(), turn);
            self.waiting.entry(key.namespace().to_owned()).or_default().insert(turn, key.clone());
        }
        Err(Held { code, trial: self.trials.keys().next().cloned() })
    }

    fn leave(&mut self, key: &Key) {
        if self.trials.get(key) == Some(&Trial::Admitted) {
            self.trials.remove(key);
        }
        if let Some(turn) = self.turns.remove(key)
            && let Some(keys) = self.waiting.get_mut(key.namespace())
        {
            keys.remove(&turn);
            if keys.is_empty() {
                self.waiting.remove(key.namespace());
            }
        }
    }

    /// Whether somebody waits and may be tried as far as those that are being tried are concerned.
    fn has_room(&self) -> bool {
        self.open.is_some() && !self.waiting.is_empty() && self.trials.len() < self.succeeded.len().max(1)
    }

    fn try_next(&mut self, now: Moment, policy: &Policy, next: &mut Vec<Key>) {
        if std::mem::take(&mut self.has_failed) {
            self.not_before = Some(now.after(policy.backoff_period));
        }
        while self.has_room() && self.not_before.is_none_or(|at| now.reached(at)) {
            let after = self.served.as_ref().and_then(|served| {
                let later = (std::ops::Bound::Excluded(served.as_str()), std::ops::Bound::Unbounded);
                self.waiting.range::<str, _>(later).next()
            });
            let Some((namespace, keys)) = after.or_else(|| self.waiting.first_key_value()) else { return };
            let Some(key) = keys.values().next().cloned() else { return };
            self.served = Some(namespace.clone());
            self.leave(&key);
            self.trials.insert(key.clone(), Trial::Admitted);
            next.push(key);
        }
    }

    /// A key may have been healthy for long enough; true when it has.
    fn prove(&mut self, key: &Key, now: Moment, policy: &Policy) -> bool {
        if self.recovering.get(key).is_none_or(|since| now.since(*since) < policy.backoff_period) {
            return false;
        }
        self.recovering.remove(key);
        if self.trials.remove(key).is_some() {
            self.succeeded.insert(key.clone());
        }
        self.proven.insert(key.clone());
        self.put(key, true, None);
        true
    }
}

#[cfg(test)]
mod tests;
