//! Admission across keys: which of those that want to start do so now.
//!
//! Starts are served round-robin by namespace, so a tenant with many restarting instances delays another's start by at
//! most one turn. One namespace holds at most three quarters of the slots, so some are always left for the others.

use crate::model::{Key, Moment, Policy};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// The keys that wait for a start slot, and those that hold one.
#[derive(Debug, Clone, Default)]
pub struct StartQueue {
    /// Waiting keys by namespace, in the order of their arrival; entries that are no longer in `waiting` are skipped.
    queues: BTreeMap<String, VecDeque<(u64, Key)>>,
    /// Each waiting key and the number of its turn.
    waiting: BTreeMap<Key, u64>,
    /// Each key that holds a slot, and since when.
    holding: BTreeMap<Key, Moment>,
    /// How many slots each namespace holds.
    held_by: BTreeMap<String, usize>,
    /// The namespace that was served last.
    served: Option<String>,
    /// The number of the next turn.
    turn: u64,
}

impl StartQueue {
    /// Puts a key into the queue of its namespace, unless it waits already.
    pub fn want(&mut self, key: &Key) {
        if self.waiting.contains_key(key) {
            return;
        }
        self.turn += 1;
        self.waiting.insert(key.clone(), self.turn);
        self.queues.entry(key.namespace().to_owned()).or_default().push_back((self.turn, key.clone()));
    }

    /// Takes a key out of the queue: it no longer wants to start.
    pub fn unwant(&mut self, key: &Key) {
        self.waiting.remove(key);
    }

    /// Gives the slot of a key back: its start has succeeded or failed.
    pub fn release(&mut self, key: &Key) {
        if self.holding.remove(key).is_some()
            && let Some(count) = self.held_by.get_mut(key.namespace())
        {
            *count -= 1;
            if *count == 0 {
                self.held_by.remove(key.namespace());
            }
        }
    }

    /// Takes the slots of starts that have held theirs too long.
    pub fn expire(&mut self, now: Moment) {
        let over: Vec<Key> = self
            .holding
            .iter()
            .filter(|(_, since)| now.since(**since) >= Policy::START_SLOT_HOLD)
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            self.release(&key);
        }
    }

    /// When the first slot is taken back, if somebody waits for it.
    pub fn wake_at(&self) -> Option<Moment> {
        if self.waiting.is_empty() {
            return None;
        }
        self.holding.values().min_by_key(|since| since.since_boot).map(|since| since.after(Policy::START_SLOT_HOLD))
    }

    /// Admits the next key, which then holds a slot; `None` when all slots are held or nobody may have one.
    pub fn admit(&mut self, policy: &Policy, now: Moment) -> Option<Key> {
        if self.holding.len() >= policy.max_concurrent_starts.max(1) {
            return None;
        }
        loop {
            let namespace = self.next_namespace(policy)?;
            let queue = self.queues.get_mut(&namespace)?;
            let next = queue.pop_front();
            if queue.is_empty() {
                self.queues.remove(&namespace);
            }
            if let Some((turn, key)) = next
                && self.waiting.get(&key) == Some(&turn)
            {
                self.waiting.remove(&key);
                self.holding.insert(key.clone(), now);
                *self.held_by.entry(namespace.clone()).or_default() += 1;
                self.served = Some(namespace);
                return Some(key);
            }
        }
    }

    /// The namespace after the one that was served last which has keys queued and slots left.
    fn next_namespace(&self, policy: &Policy) -> Option<String> {
        let share = policy.starts_per_namespace();
        let may = |namespace: &&String| {
            self.held_by.get(*namespace).copied().unwrap_or(0) < policy.ceilings.starts(namespace, share)
        };
        let after = match &self.served {
            Some(served) => self
                .queues
                .range::<String, _>((std::ops::Bound::Excluded(served), std::ops::Bound::Unbounded))
                .map(|(namespace, _)| namespace)
                .find(may),
            None => None,
        };
        after.or_else(|| self.queues.keys().find(may)).cloned()
    }
}

/// Where the instances of one pattern stand, as far as admission across them asks.
#[derive(Debug, Clone, Default)]
pub struct PatternStanding {
    /// Those being replaced for the pattern's sake and not healthy since.
    pub replacing: BTreeSet<Key>,
    /// Those that want to be replaced and wait.
    pub awaiting_replacement: BTreeSet<Key>,
    /// Those that run, have a health check and have been healthy in this run.
    pub judged: BTreeSet<Key>,
    /// Those of them that have crossed their failure threshold, by namespace.
    fallen: BTreeMap<String, BTreeSet<Key>>,
    /// How many these are.
    ill: usize,
    /// The namespace in which the last health restart was admitted while the pattern failed as a whole.
    served: Option<String>,
    /// Those restarted for a failed health check and not healthy since.
    pub recovering: BTreeSet<Key>,
}

/// From how many judged instances of a pattern on their failures can be said to have one cause.
const MASS: usize = 4;

impl PatternStanding {
    /// Whether no key stands in it.
    pub fn is_empty(&self) -> bool {
        let Self { replacing, awaiting_replacement, judged, fallen, recovering, ill: _, served: _ } = self;
        fallen.is_empty() && [replacing, awaiting_replacement, judged, recovering].into_iter().all(BTreeSet::is_empty)
    }

    /// Those that have crossed their failure threshold.
    pub fn fallen(&self) -> impl Iterator<Item = &Key> {
        self.fallen.values().flatten()
    }

    /// Puts down whether a key has crossed its failure threshold.
    pub fn fall(&mut self, key: &Key, has_fallen: bool) {
        if has_fallen {
            let keys = self.fallen.entry(key.namespace().to_owned()).or_default();
            if !keys.contains(key) {
                keys.insert(key.clone());
                self.ill += 1;
            }
        } else if let Some(keys) = self.fallen.get_mut(key.namespace()) {
            self.ill -= usize::from(keys.remove(key));
            if keys.is_empty() {
                self.fallen.remove(key.namespace());
            }
        }
    }

    /// Whether `key` may be replaced now; if not, the key that it waits for.
    pub fn may_replace(&self, key: &Key, policy: &Policy) -> Result<(), Key> {
        if self.replacing.contains(key) || self.replacing.len() < policy.max_unavailable.max(1) {
            return Ok(());
        }
        self.replacing.first().cloned().map_or(Ok(()), Err)
    }

    /// Whether `key`, whose health check has failed, may be restarted now; if not, the key whose recovery it waits for.
    ///
    /// When more than half of at least four are failing together the cause is elsewhere, and one is restarted to try. The
    /// namespaces take turns at that, and a trial is over once it is healthy or has failed, so that nobody waits for ever
    /// for what another tenant has.
    pub fn may_restart(&mut self, key: &Key) -> Result<(), Key> {
        let has_fallen = |key: &Key| self.fallen.get(key.namespace()).is_some_and(|keys| keys.contains(key));
        let all = self.judged.len() + self.recovering.iter().filter(|key| !self.judged.contains(*key)).count();
        let failing = self.ill + self.recovering.iter().filter(|key| !has_fallen(key)).count();
        if all < MASS || failing * 2 <= all {
            return Ok(());
        }
        if let Some(trial) = self.recovering.iter().find(|other| *other != key) {
            return Err(trial.clone());
        }
        let after = self.served.as_ref().and_then(|served| {
            let later = (std::ops::Bound::Excluded(served.as_str()), std::ops::Bound::Unbounded);
            self.fallen.range::<str, _>(later).next()
        });
        match after.or_else(|| self.fallen.first_key_value()) {
            Some((namespace, keys)) if namespace != key.namespace() => keys.first().cloned().map_or(Ok(()), Err),
            Some(_) | None => {
                self.served = Some(key.namespace().to_owned());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BootId, Ceiling, Ceilings, Isolation, Namespace, PatternName};
    use std::time::Duration;

    fn now() -> Moment {
        Moment::new(BootId::from_u128(1), Duration::from_secs(100))
    }

    fn key(namespace: &str, pattern: &str) -> Key {
        let pattern = PatternName::new(pattern).expect("name");
        Isolation::Namespace(Namespace::new(namespace).expect("name")).key(&pattern)
    }

    fn slots(count: usize) -> Policy {
        Policy { max_concurrent_starts: count, ..Policy::default() }
    }

    #[test]
    fn l4_a_tenant_with_many_keys_delays_another_by_one_turn() {
        let mut queue = StartQueue::default();
        for n in 0..500 {
            queue.want(&key("busy", &format!("p{n}")));
        }
        queue.want(&key("calm", "p"));
        let order: Vec<Key> = (0..2)
            .filter_map(|_| {
                let admitted = queue.admit(&slots(1), now())?;
                queue.release(&admitted);
                Some(admitted)
            })
            .collect();
        assert!(order.contains(&key("calm", "p")), "{order:?}");
    }

    #[test]
    fn one_namespace_never_holds_every_slot() {
        let mut queue = StartQueue::default();
        for n in 0..10 {
            queue.want(&key("busy", &format!("p{n}")));
        }
        let admitted = std::iter::from_fn(|| queue.admit(&slots(4), now())).count();
        assert_eq!(admitted, 3);
        queue.want(&key("calm", "p"));
        assert_eq!(queue.admit(&slots(4), now()), Some(key("calm", "p")));
    }

    #[test]
    fn a_namespace_has_no_more_starts_under_way_than_its_ceiling_says() {
        let starts = |starts| Ceiling { starts: Some(starts), ..Ceiling::default() };
        let mut policy = slots(64);
        policy.ceilings =
            Ceilings { usual: starts(5), named: [("busy".to_owned(), starts(2))].into(), processes: None };
        let mut queue = StartQueue::default();
        for n in 0..10 {
            queue.want(&key("busy", &format!("p{n}")));
            queue.want(&key("calm", &format!("p{n}")));
        }
        let admitted: Vec<Key> = std::iter::from_fn(|| queue.admit(&policy, now())).collect();
        assert_eq!(admitted.iter().filter(|key| key.namespace() == "busy").count(), 2);
        assert_eq!(admitted.len(), 7);
        queue.release(&admitted[0]);
        assert_eq!(
            queue.admit(&policy, now()).map(|key| key.namespace().to_owned()),
            Some(admitted[0].namespace().to_owned())
        );
    }

    #[test]
    fn a_key_that_no_longer_wants_is_skipped_and_one_that_wants_again_is_admitted_once() {
        let mut queue = StartQueue::default();
        queue.want(&key("a", "p"));
        queue.unwant(&key("a", "p"));
        queue.want(&key("a", "p"));
        queue.want(&key("a", "q"));
        queue.unwant(&key("a", "q"));
        assert_eq!(queue.admit(&slots(8), now()), Some(key("a", "p")));
        assert_eq!(queue.admit(&slots(8), now()), None);
    }

    #[test]
    fn a_slow_start_gives_its_slot_back() {
        let mut queue = StartQueue::default();
        queue.want(&key("a", "slow"));
        queue.want(&key("a", "p"));
        assert!(queue.admit(&slots(1), now()).is_some());
        assert_eq!(queue.wake_at(), Some(now().after(Policy::START_SLOT_HOLD)));
        let later = now().after(Policy::START_SLOT_HOLD);
        queue.expire(later);
        assert_eq!(queue.admit(&slots(1), later), Some(key("a", "p")));
    }

    #[test]
    fn a_failure_of_most_of_a_pattern_is_tried_with_one() {
        let keys: Vec<Key> = (0..6).map(|n| key("a", &format!("p{n}"))).collect();
        let mut standing = PatternStanding { judged: keys.iter().cloned().collect(), ..PatternStanding::default() };
        for key in &keys[..4] {
            standing.fall(key, true);
        }
        assert_eq!(standing.may_restart(&keys[0]), Ok(()), "the first is the trial");
        standing.judged.remove(&keys[0]);
        standing.fall(&keys[0], false);
        standing.recovering.insert(keys[0].clone());
        assert_eq!(standing.may_restart(&keys[1]), Err(keys[0].clone()));
        for key in &keys[2..4] {
            standing.fall(key, false);
        }
        assert_eq!(standing.may_restart(&keys[1]), Ok(()), "two of six have causes of their own");
        let mut few = PatternStanding { judged: keys[1..3].iter().cloned().collect(), ..PatternStanding::default() };
        few.recovering.insert(keys[0].clone());
        few.fall(&keys[1], true);
        assert_eq!(few.may_restart(&keys[1]), Ok(()), "three are too few to tell");
    }

    #[test]
    fn l4_the_namespaces_take_turns_at_the_trials_of_a_pattern_that_is_ill() {
        let keys: Vec<Key> = ["a", "b", "c", "d"].iter().map(|namespace| key(namespace, "p")).collect();
        let mut standing = PatternStanding { judged: keys.iter().cloned().collect(), ..PatternStanding::default() };
        for key in &keys {
            standing.fall(key, true);
        }
        assert_eq!(standing.may_restart(&keys[0]), Ok(()));
        // Its trial has failed at once, and it has fallen again: it is not its turn.
        assert_eq!(standing.may_restart(&keys[0]), Err(keys[1].clone()));
        assert_eq!(standing.may_restart(&keys[1]), Ok(()));
    }
}
