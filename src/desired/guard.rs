//! The mass-deletion guard: what would end much of a root within a minute is held until a person confirms it.

use super::sight::Emptiness;
use crate::model::id::short_hash;
use crate::model::{Key, Moment};
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

/// Deletions within this time of each other count together.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Fewer than this many deletions are a mass deletion only when nothing remains.
const MANY: usize = 4;
/// A root that had fewer than this many may lose all of them.
const SMALL_ROOT: usize = 3;
/// The log of one root holds at most this many changes, ten for each of the 10,000 instances that are ordinary; beyond
/// it the oldest are forgotten, which makes the window shorter.
const LOG_LIMIT: usize = 100_000;

/// What happened to the keys of one root within the window.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    log: VecDeque<Entry>,
    held: Option<Held>,
    confirmed: Option<String>,
}

#[derive(Debug, Clone)]
struct Entry {
    at: Moment,
    key: Key,
    change: Change,
}

/// How a root's set of keys changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The root declares the key from now on.
    Added,
    /// Nothing declares the key any more.
    Removed,
    /// The key left the root and is no loss: another root declares it, or the launcher itself ended it.
    Left,
}

/// A deletion that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// Names exactly this set of keys.
    pub token: String,
    /// What would go.
    pub keys: BTreeSet<Key>,
    /// How many of the root's instances would have gone within the window: those that have gone, those that are held,
    /// and those that may follow.
    pub gone: usize,
    /// How many instances the root had before.
    pub of: usize,
    /// Whether it is held because the root is empty and not the folder that it was.
    pub emptiness: Emptiness,
}

impl Guard {
    /// Takes note of a change of the root's set.
    pub fn note(&mut self, key: &Key, change: Change, now: Moment) {
        self.forget_old(now);
        if self.log.len() >= LOG_LIMIT {
            self.log.pop_front();
        }
        self.log.push_back(Entry { at: now, key: key.clone(), change });
    }

    /// Decides about `going`, the keys of the root whose absence counts, of the `declared` keys that the root has now,
    /// these among them. `leaving`, others whose absence does not count yet, are taken to go as well: so the first part
    /// of a mass deletion does not slip through before the rest is certain. Returns whether `going` may go; what is held
    /// is then to be read by [`Guard::held`].
    pub fn permits(
        &mut self,
        going: &BTreeSet<Key>,
        leaving: &BTreeSet<Key>,
        declared: usize,
        emptiness: Emptiness,
        now: Moment,
    ) -> bool {
        self.forget_old(now);
        self.held = None;
        // A confirmation is for the very next decision: the same set at some later time needs another.
        let confirmed = self.confirmed.take();
        if going.is_empty() {
            return true;
        }
        let Some((gone, of)) = self.loss(&(going | leaving), declared, emptiness) else {
            return true;
        };
        let token = token(going);
        if confirmed.as_ref() == Some(&token) {
            // What was confirmed is no longer a reason to hold what comes after it.
            *self = Self::default();
            return true;
        }
        self.held = Some(Held { token, keys: going.clone(), gone, of, emptiness });
        false
    }

    fn forget_old(&mut self, now: Moment) {
        while self.log.front().is_some_and(|entry| now.since(entry.at) >= WINDOW) {
            self.log.pop_front();
        }
    }

    /// What is held since the last decision.
    pub const fn held(&self) -> Option<&Held> {
        self.held.as_ref()
    }

    /// Lets what is held go at the next decision, if `token` names exactly that.
    pub fn confirm(&mut self, token: &str) -> bool {
        let matches = self.held.as_ref().is_some_and(|held| held.token == token);
        if matches {
            self.confirmed = Some(token.to_owned());
        }
        matches
    }

    /// When a deletion that is held has to be looked at again although no file changed.
    pub fn due(&self) -> Option<Moment> {
        self.held.as_ref().and(self.log.front()).map(|entry| entry.at.after(WINDOW))
    }

    /// How many would have gone of how many, if that is too much. Looks back to the beginning of the window and to each
    /// moment before something was removed in it: additions must not hide what went.
    fn loss(&self, going: &BTreeSet<Key>, declared: usize, emptiness: Emptiness) -> Option<(usize, usize)> {
        if emptiness == Emptiness::Suspicious && going.len() == declared {
            return Some((going.len(), declared));
        }
        let mut last: HashMap<&Key, Change> = HashMap::new();
        for entry in &self.log {
            last.insert(&entry.key, entry.change);
        }
        let is_gone = |key: &Key| going.contains(key) || last.get(key) == Some(&Change::Removed);
        let (mut gone, mut size) = (going.len(), declared);
        let mut worst = too_much(gone, size).then_some((gone, size));
        for (index, entry) in self.log.iter().enumerate().rev() {
            let one = usize::from(is_gone(&entry.key));
            match entry.change {
                Change::Added => {
                    gone = gone.saturating_sub(one);
                    size = size.saturating_sub(1);
                }
                Change::Removed | Change::Left => {
                    gone += one;
                    size += 1;
                }
            }
            let is_checkpoint = index == 0 || entry.change == Change::Removed;
            if worst.is_none() && is_checkpoint && too_much(gone, size) {
                worst = Some((gone, size));
            }
        }
        worst
    }
}

const fn too_much(gone: usize, of: usize) -> bool {
    (gone >= MANY && gone * 2 > of) || (of >= SMALL_ROOT && gone >= of)
}

/// Names a set of keys: anything else has another token.
fn token(keys: &BTreeSet<Key>) -> String {
    let text: String = keys.iter().flat_map(|key| [key.as_str(), "\n"]).collect();
    short_hash(text.as_bytes())[..16].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BootId;
    use proptest::prelude::*;

    fn at(seconds: u64) -> Moment {
        Moment::new(BootId::from_u128(1), Duration::from_secs(seconds))
    }

    fn key(number: usize) -> Key {
        Key::parse(&format!("ns:t{number}:p")).expect("a key")
    }

    fn none() -> BTreeSet<Key> {
        BTreeSet::new()
    }

    fn keys(numbers: std::ops::Range<usize>) -> BTreeSet<Key> {
        numbers.map(key).collect()
    }

    #[test]
    fn more_than_half_and_at_least_four_is_held() {
        for (going, declared, held) in [
            (4, 8, false),
            (5, 9, true),
            (4, 7, true),
            (3, 5, false),
            (3, 3, true),
            (2, 2, false),
            (1, 1, false),
            (1, 3, false),
        ] {
            let mut guard = Guard::default();
            let permits = guard.permits(&keys(0..going), &none(), declared, Emptiness::Ordinary, at(0));
            assert_eq!(permits, !held, "{going} of {declared}");
            assert_eq!(guard.held().is_some(), held);
        }
    }

    #[test]
    fn what_may_follow_counts_and_only_what_is_certain_is_held() {
        let mut guard = Guard::default();
        assert!(!guard.permits(&keys(0..1), &keys(1..4), 4, Emptiness::Ordinary, at(0)));
        let held = guard.held().expect("held");
        assert_eq!((held.gone, held.of, &held.keys, &held.token), (4, 4, &keys(0..1), &token(&keys(0..1))));
        assert!(guard.permits(&keys(0..1), &keys(1..2), 4, Emptiness::Ordinary, at(1)), "two of them came back");
    }

    #[test]
    fn deletions_that_trickle_in_count_together_and_a_minute_later_no_more() {
        let mut guard = Guard::default();
        for number in 0..5 {
            let now = at(number as u64);
            assert!(
                guard.permits(&keys(number..number + 1), &none(), 10 - number, Emptiness::Ordinary, now),
                "{number}"
            );
            guard.note(&key(number), Change::Removed, now);
        }
        assert!(
            !guard.permits(&keys(5..6), &none(), 5, Emptiness::Ordinary, at(5)),
            "the sixth of ten within a minute"
        );
        assert_eq!(guard.due(), Some(at(60)));
        assert!(guard.permits(&keys(5..6), &none(), 5, Emptiness::Ordinary, at(65)));
    }

    #[test]
    fn additions_do_not_hide_what_goes() {
        let mut guard = Guard::default();
        for number in 10..20 {
            guard.note(&key(number), Change::Added, at(0));
        }
        assert!(!guard.permits(&keys(0..10), &none(), 20, Emptiness::Ordinary, at(2)));
    }

    #[test]
    fn what_was_added_lately_counts_as_part_of_the_root() {
        let mut guard = Guard::default();
        for number in 0..10 {
            guard.note(&key(number), Change::Added, at(0));
        }
        assert!(guard.permits(&keys(0..4), &none(), 10, Emptiness::Ordinary, at(2)), "four of ten");
        assert!(!guard.permits(&keys(0..6), &none(), 10, Emptiness::Ordinary, at(2)), "six of ten");
    }

    #[test]
    fn what_came_back_or_left_by_other_ways_is_no_loss() {
        let mut guard = Guard::default();
        for number in 0..3 {
            guard.note(&key(number), Change::Removed, at(0));
            guard.note(&key(number), Change::Added, at(1));
        }
        for number in 3..6 {
            guard.note(&key(number), Change::Left, at(2));
        }
        assert!(guard.permits(&keys(6..7), &none(), 7, Emptiness::Ordinary, at(3)));
    }

    #[test]
    fn the_token_names_exactly_the_held_set() {
        let mut guard = Guard::default();
        assert!(!guard.permits(&keys(0..4), &none(), 4, Emptiness::Ordinary, at(0)));
        let token = guard.held().expect("held").token.clone();
        assert!(!guard.confirm("something else"));
        assert!(guard.confirm(&token));
        assert!(!guard.permits(&keys(0..5), &none(), 5, Emptiness::Ordinary, at(1)), "another set has another token");
        assert!(!guard.permits(&keys(0..4), &none(), 4, Emptiness::Ordinary, at(2)), "a confirmation does not wait");
        assert!(guard.confirm(&token));
        assert!(guard.permits(&keys(0..4), &none(), 4, Emptiness::Ordinary, at(3)), "the confirmed set goes");
    }

    #[test]
    fn a_root_that_is_suddenly_empty_and_another_folder_loses_nothing() {
        let mut guard = Guard::default();
        assert!(!guard.permits(&keys(0..1), &none(), 1, Emptiness::Suspicious, at(0)));
        assert!(guard.permits(&keys(0..1), &none(), 2, Emptiness::Suspicious, at(0)), "it still declares something");
    }

    proptest! {
        /// Whatever the order and pace of single deletions from a root that nothing is added to, never do at least four
        /// and more than half, or all of at least three, go within a minute.
        #[test]
        fn no_minute_sees_a_mass_deletion(size in 1_usize..14, steps in prop::collection::vec((0_u64..30, 1_usize..5), 1..30)) {
            let mut guard = Guard::default();
            let (mut left, mut now) = (size, 0);
            let mut removals: Vec<(u64, usize)> = Vec::new();
            for (pause, wanted) in steps {
                now += pause;
                let going = keys(size - left..size - left + wanted.min(left));
                if going.is_empty() || !guard.permits(&going, &none(), left, Emptiness::Ordinary, at(now)) {
                    continue;
                }
                removals.push((now, left));
                left -= going.len();
                for key in &going {
                    guard.note(key, Change::Removed, at(now));
                }
                for &(when, before) in removals.iter().filter(|(when, _)| now - when < 60) {
                    prop_assert!(!too_much(before - left, before), "{} of {before} from {when} to {now}", before - left);
                }
            }
        }
    }
}
