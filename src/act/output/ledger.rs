//! Who holds how much of the log folder, and who gives something up when it is too much: whoever holds most. So one that
//! floods its log does not push out what others have printed.

use super::LogLimits;
use std::collections::{HashMap, HashSet};

/// The least that is given up at once: fewer steps, and not much more than needed.
const STEP: u64 = 1 << 20;

/// What every log holds on the disk, in bytes.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    logs: HashMap<String, Holding>,
    namespaces: HashMap<String, u64>,
    total: u64,
}

#[derive(Debug)]
struct Holding {
    namespace: String,
    bytes: u64,
}

/// Why something is given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Cause {
    /// The namespace holds more than `log_max_namespace`.
    Namespace,
    /// All logs hold more than `log_max_total`.
    Total,
    /// There is less free disk than `log_disk_reserve`.
    Reserve,
}

/// Who gives something up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loss {
    pub(super) log: String,
    pub(super) namespace: String,
    pub(super) bytes: u64,
    pub(super) cause: Cause,
}

impl Ledger {
    /// What a log holds now.
    pub(super) fn hold(&mut self, log: &str, namespace: &str, bytes: u64) {
        self.forget(log);
        if bytes > 0 {
            self.logs.insert(log.to_owned(), Holding { namespace: namespace.to_owned(), bytes });
            *self.namespaces.entry(namespace.to_owned()).or_default() += bytes;
            self.total += bytes;
        }
    }

    /// There is no such log any more.
    pub(super) fn forget(&mut self, log: &str) {
        let Some(Holding { namespace, bytes }) = self.logs.remove(log) else { return };
        self.total -= bytes;
        if let Some(sum) = self.namespaces.get_mut(&namespace) {
            *sum -= bytes;
            if *sum == 0 {
                self.namespaces.remove(&namespace);
            }
        }
    }

    /// The next loss, if something is too much; `lacking` is what the free disk is short of. `spent` are logs that have
    /// nothing left to give up.
    pub(super) fn loss(&self, limits: &LogLimits, lacking: u64, spent: &HashSet<String>) -> Option<Loss> {
        let over = |most: Option<u64>, held: u64| most.map_or(0, |most| held.saturating_sub(most));
        // The common case, at every turn of the keeper.
        let all_within = self.namespaces.values().all(|sum| over(limits.namespace, *sum) == 0);
        if all_within && over(limits.total, self.total) == 0 && lacking == 0 {
            return None;
        }
        let mut namespaces: Vec<_> = self.namespaces.iter().map(|(name, sum)| (*sum, name.as_str())).collect();
        namespaces.sort_unstable_by(|a, b| b.cmp(a));
        for (sum, name) in &namespaces {
            if over(limits.namespace, *sum) > 0
                && let Some(loss) = self.largest(name, over(limits.namespace, *sum), Cause::Namespace, spent)
            {
                return Some(loss);
            }
        }
        let (bytes, cause) = match (over(limits.total, self.total), lacking) {
            (0, 0) => return None,
            (0, lacking) => (lacking, Cause::Reserve),
            (too_much, _) => (too_much, Cause::Total),
        };
        namespaces.iter().find_map(|(_, name)| self.largest(name, bytes, cause.clone(), spent))
    }

    fn largest(&self, namespace: &str, bytes: u64, cause: Cause, spent: &HashSet<String>) -> Option<Loss> {
        let own = self.logs.iter().filter(|(name, log)| log.namespace == namespace && !spent.contains(*name));
        let (log, holding) = own.max_by(|a, b| a.1.bytes.cmp(&b.1.bytes).then_with(|| b.0.cmp(a.0)))?;
        // A quarter at a time, so that others of about its size give up as much.
        let bytes = bytes.min((holding.bytes / 4).max(STEP));
        Some(Loss { log: log.clone(), namespace: namespace.to_owned(), bytes, cause })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MI: u64 = 1 << 20;

    fn limits(namespace: u64, total: u64) -> LogLimits {
        LogLimits { namespace: Some(namespace * MI), total: Some(total * MI), ..LogLimits::default() }
    }

    /// Gives up until nothing is too much; what is left of each.
    fn settle(ledger: &mut Ledger, limits: &LogLimits, mut lacking: u64) -> Vec<(String, u64)> {
        let mut spent = HashSet::new();
        while let Some(loss) = ledger.loss(limits, lacking, &spent) {
            let left = ledger.logs[&loss.log].bytes.saturating_sub(loss.bytes);
            if left == 0 {
                spent.insert(loss.log.clone());
            }
            lacking = lacking.saturating_sub(loss.bytes);
            ledger.hold(&loss.log, &loss.namespace, left.max(1));
        }
        let mut left: Vec<_> = ledger.logs.iter().map(|(name, log)| (name.clone(), log.bytes / MI)).collect();
        left.sort();
        left
    }

    fn ledger(logs: &[(&str, &str, u64)]) -> Ledger {
        let mut ledger = Ledger::default();
        for (log, namespace, size) in logs {
            ledger.hold(log, namespace, size * MI);
        }
        ledger
    }

    fn left(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
        expected.iter().map(|(name, size)| ((*name).to_owned(), *size)).collect()
    }

    #[test]
    fn a_namespace_over_its_ceiling_gives_up_its_own() {
        let mut all = ledger(&[("flood", "a", 90), ("calm", "a", 5), ("other", "b", 60)]);
        assert_eq!(settle(&mut all, &limits(64, 1_000), 0), left(&[("calm", 5), ("flood", 59), ("other", 60)]));
    }

    #[test]
    fn over_the_ceiling_of_all_whoever_holds_most_gives_up_first() {
        let mut all = ledger(&[("flood", "a", 90), ("calm", "b", 5), ("calmer", "c", 1)]);
        assert_eq!(settle(&mut all, &limits(1_000, 50), 0), left(&[("calm", 5), ("calmer", 1), ("flood", 44)]));
        let mut many = ledger(&[("1", "a", 20), ("2", "a", 20), ("3", "a", 20), ("one", "b", 40)]);
        let left_of_many = settle(&mut many, &limits(1_000, 60), 0);
        let of_a: u64 = left_of_many[..3].iter().map(|(_, size)| size).sum();
        assert!((20..=40).contains(&left_of_many[3].1), "what a namespace holds counts, not one log: {left_of_many:?}");
        assert!((20..=40).contains(&of_a), "{left_of_many:?}");
    }

    #[test]
    fn what_the_disk_is_short_of_is_given_up_by_whoever_holds_most() {
        let mut all = ledger(&[("flood", "a", 90), ("calm", "b", 5)]);
        assert_eq!(settle(&mut all, &limits(1_000, 1_000), 60 * MI), left(&[("calm", 5), ("flood", 30)]));
        assert_eq!(all.loss(&limits(1_000, 1_000), 0, &HashSet::new()), None);
    }

    #[test]
    fn what_has_nothing_left_is_passed_over() {
        let all = ledger(&[("big", "a", 9), ("small", "a", 3)]);
        let spent = HashSet::from(["big".to_owned()]);
        assert_eq!(all.loss(&limits(1, 100), 0, &spent).unwrap().log, "small");
        let spent = HashSet::from(["big".to_owned(), "small".to_owned()]);
        assert_eq!(all.loss(&limits(1, 100), 9, &spent), None);
    }
}
