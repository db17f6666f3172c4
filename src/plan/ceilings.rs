//! Who takes up how much of what a namespace and the launcher may have, and who waits for some of it.
//!
//! What counts is what runs, starts or ends, each with its declared limits. Nothing is ever ended because a ceiling is
//! exceeded: it only keeps others from starting.

use crate::error::{Code, Error};
use crate::model::{Ceilings, Key, Load};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounded {
    /// The processes of the launcher.
    Processes,
    /// The processes of a namespace.
    Instances,
    /// The cores of a namespace, in thousandths.
    Cpu,
    /// The bytes of a namespace.
    Memory,
    /// The processes and threads of a namespace.
    Pids,
}

impl Bounded {
    /// The setting.
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Processes => "max_processes",
            Self::Instances => "instances",
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Pids => "pids",
        }
    }

    fn amount(self, count: u64) -> String {
        #[expect(clippy::cast_precision_loss, reason = "for people, with few digits")]
        let shown = count as f64;
        match self {
            Self::Processes | Self::Instances if count == 1 => "1 process".to_owned(),
            Self::Processes | Self::Instances => format!("{count} processes"),
            Self::Cpu if count == 1000 => "1 core".to_owned(),
            Self::Cpu => format!("{} cores", shown / 1000.0),
            Self::Memory if count >= 1 << 30 => format!("{:.2} GiB", shown / f64::from(1 << 30)),
            Self::Memory => format!("{:.1} MiB", shown / f64::from(1 << 20)),
            Self::Pids if count == 1 => "1 pid".to_owned(),
            Self::Pids => format!("{count} pids"),
        }
    }
}

/// A ceiling that leaves no room for one more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Full {
    /// Which.
    pub bounded: Bounded,
    /// Whose; empty for that of the launcher.
    pub namespace: String,
    /// What is taken up.
    pub used: u64,
    /// What may be taken up.
    pub limit: u64,
    /// What one more needs.
    pub needed: u64,
    /// One of those that take it up, if there are any.
    pub holder: Option<Key>,
    /// How many take it up beside that one.
    pub others: usize,
}

impl Full {
    /// Why a key is not started.
    pub fn error(&self, key: &Key) -> Error {
        let Self { bounded, namespace, used, limit, needed, .. } = self;
        let error = Error::new(Code::ResourceLimitExceeded, format!("there is no room for '{key}'"))
            .with("process_id", key)
            .with("ceiling", bounded.setting())
            .with("used", used)
            .with("limit", limit)
            .with("needed", needed)
            .because(self.to_string());
        let raise = match bounded {
            Bounded::Processes => "raise max_processes in the launcher's configuration".to_owned(),
            Bounded::Instances | Bounded::Cpu | Bounded::Memory | Bounded::Pids => format!(
                "raise '{}' of the entry in [[namespace_limits]] that holds for namespace '{namespace}'",
                bounded.setting()
            ),
        };
        error.suggest(match &self.holder {
            Some(holder) if needed <= limit => {
                format!("end one, for example prismctl pattern terminate {}, or {raise}", Error::word(holder.as_str()))
            }
            Some(_) | None => format!("{raise}, or lower the limit in the instance's 'resources'"),
        })
    }
}

impl fmt::Display for Full {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bounded, namespace, used, limit, needed, holder, others } = self;
        match bounded {
            Bounded::Processes => f.write_str("the launcher")?,
            Bounded::Instances | Bounded::Cpu | Bounded::Memory | Bounded::Pids => {
                write!(f, "namespace '{namespace}'")?;
            }
        }
        let amount = |count: u64| bounded.amount(count);
        write!(f, " may have {}, has {} and would need {} more", amount(*limit), amount(*used), amount(*needed))?;
        match (holder, others) {
            (None, _) => Ok(()),
            (Some(holder), 0) => write!(f, "; held by {holder}"),
            (Some(holder), others) => write!(f, "; held by {holder} and {others} more"),
        }
    }
}

/// What the keys of one namespace take up.
#[derive(Debug, Clone, Default)]
struct Share {
    sum: Load,
    keys: BTreeMap<Key, Load>,
}

/// What all keys take up, and who waits.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    shares: BTreeMap<String, Share>,
    processes: u64,
    /// Those that wait, by the namespace whose ceiling is in their way; the empty one is the launcher's.
    waiting: BTreeMap<String, BTreeSet<Key>>,
    /// Where each of them waits.
    places: BTreeMap<Key, String>,
}

impl Ledger {
    /// Puts down what a key takes up now; `None` is nothing. True when there is more room than before.
    pub fn put(&mut self, key: &Key, load: Option<Load>) -> bool {
        if load.is_none() && !self.shares.contains_key(key.namespace()) {
            return false;
        }
        let share = self.shares.entry(key.namespace().to_owned()).or_default();
        let before = match load {
            Some(load) => share.keys.insert(key.clone(), load),
            None => share.keys.remove(key),
        };
        if before == load {
            return false;
        }
        let (before, after) = (before.unwrap_or_default(), load.unwrap_or_default());
        let less = Load {
            instances: share.sum.instances.saturating_sub(before.instances),
            cpu_millis: share.sum.cpu_millis.saturating_sub(before.cpu_millis),
            memory: share.sum.memory.saturating_sub(before.memory),
            pids: share.sum.pids.saturating_sub(before.pids),
        };
        share.sum = less.plus(after);
        self.processes = self.processes.saturating_sub(before.instances).saturating_add(after.instances);
        if share.keys.is_empty() {
            self.shares.remove(key.namespace());
        }
        before.instances > after.instances
            || before.cpu_millis > after.cpu_millis
            || before.memory > after.memory
            || before.pids > after.pids
    }

    /// Whether one more process may start; if not, what is in its way.
    pub fn room(&self, key: &Key, load: Load, ceilings: &Ceilings) -> Result<(), Full> {
        let namespace = key.namespace();
        let ceiling = ceilings.of(namespace);
        let share = self.shares.get(namespace);
        let sum = share.map_or_else(Load::default, |share| share.sum);
        for (bounded, limit, used, needed) in [
            (Bounded::Processes, ceilings.processes, self.processes, load.instances),
            (Bounded::Instances, ceiling.instances, sum.instances, load.instances),
            (Bounded::Cpu, ceiling.cpu_millis, sum.cpu_millis, load.cpu_millis),
            (Bounded::Memory, ceiling.memory, sum.memory, load.memory),
            (Bounded::Pids, ceiling.pids, sum.pids, load.pids),
        ] {
            let Some(limit) = limit else { continue };
            // What needs nothing of it is in nobody's way.
            if needed == 0 || used.saturating_add(needed) <= limit {
                continue;
            }
            let (namespace, holder, count) = if bounded == Bounded::Processes {
                let first = self.shares.values().find_map(|share| share.keys.keys().next());
                (String::new(), first.cloned(), usize::try_from(self.processes).unwrap_or(usize::MAX))
            } else {
                let first = share.and_then(|share| share.keys.keys().next());
                (namespace.to_owned(), first.cloned(), share.map_or(0, |share| share.keys.len()))
            };
            return Err(Full { bounded, namespace, used, limit, needed, holder, others: count.saturating_sub(1) });
        }
        Ok(())
    }

    /// Puts down that a key waits for room.
    pub fn wait(&mut self, key: &Key, full: &Full) {
        if self.places.get(key) == Some(&full.namespace) {
            return;
        }
        self.leave(key);
        self.places.insert(key.clone(), full.namespace.clone());
        self.waiting.entry(full.namespace.clone()).or_default().insert(key.clone());
    }

    /// Puts down that a key does not wait for room.
    pub fn leave(&mut self, key: &Key) {
        let Some(place) = self.places.remove(key) else { return };
        if let Some(keys) = self.waiting.get_mut(&place) {
            keys.remove(key);
            if keys.is_empty() {
                self.waiting.remove(&place);
            }
        }
    }

    /// Those that may find room now that a key of `namespace` takes up less: they are looked at again, all of them,
    /// since what one needs may be more than another.
    pub fn waiting_for<'a>(&'a self, namespace: &'a str) -> impl Iterator<Item = &'a Key> {
        let launcher = (!namespace.is_empty()).then_some("");
        [Some(namespace), launcher].into_iter().flatten().filter_map(|place| self.waiting.get(place)).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Ceiling, Isolation, Namespace, PatternName};

    fn key(namespace: &str, pattern: &str) -> Key {
        let pattern = PatternName::new(pattern).expect("name");
        Isolation::Namespace(Namespace::new(namespace).expect("name")).key(&pattern)
    }

    fn load(cpu_millis: u64, memory: u64, pids: u64) -> Load {
        Load { instances: 1, cpu_millis, memory, pids }
    }

    fn usual(usual: Ceiling) -> Ceilings {
        Ceilings { usual, ..Ceilings::default() }
    }

    #[test]
    fn each_ceiling_is_reached_exactly_and_named_with_who_holds_it() {
        let all =
            Ceiling { instances: Some(2), cpu_millis: Some(1_000), memory: Some(100), pids: Some(10), starts: None };
        let none = Ceiling::default();
        for (bounded, ceiling) in [
            (Bounded::Instances, Ceiling { instances: all.instances, ..none }),
            (Bounded::Cpu, Ceiling { cpu_millis: all.cpu_millis, ..none }),
            (Bounded::Memory, Ceiling { memory: all.memory, ..none }),
            (Bounded::Pids, Ceiling { pids: all.pids, ..none }),
        ] {
            let mut ledger = Ledger::default();
            let half = load(500, 50, 5);
            for pattern in ["a", "b"] {
                assert_eq!(ledger.room(&key("t", pattern), half, &usual(ceiling)), Ok(()));
                ledger.put(&key("t", pattern), Some(half));
            }
            let full = ledger.room(&key("t", "c"), half, &usual(ceiling)).unwrap_err();
            assert_eq!((full.bounded, full.holder.clone(), full.others), (bounded, Some(key("t", "a")), 1));
            assert_eq!(ledger.room(&key("u", "c"), half, &usual(ceiling)), Ok(()), "another namespace has its own");
            assert!(full.error(&key("t", "c")).to_string().contains("terminate ns:t:a"), "{full}");
            assert!(ledger.put(&key("t", "a"), None), "there is more room");
            assert_eq!(ledger.room(&key("t", "c"), half, &usual(ceiling)), Ok(()));
        }
    }

    #[test]
    fn the_ceiling_of_the_launcher_is_over_all_namespaces() {
        let ceilings = Ceilings { processes: Some(1), ..Ceilings::default() };
        let mut ledger = Ledger::default();
        ledger.put(&key("t", "a"), Some(load(0, 0, 0)));
        let full = ledger.room(&key("u", "a"), load(0, 0, 0), &ceilings).unwrap_err();
        assert_eq!((full.bounded, full.used, full.limit), (Bounded::Processes, 1, 1));
        ledger.wait(&key("u", "a"), &full);
        assert_eq!(ledger.waiting_for("t").collect::<Vec<_>>(), [&key("u", "a")], "whoever ends makes room");
        ledger.leave(&key("u", "a"));
        assert_eq!(ledger.waiting_for("t").count(), 0);
    }

    #[test]
    fn a_process_without_a_limit_takes_up_nothing_of_it_and_is_not_kept_by_it() {
        let ceilings = usual(Ceiling { memory: Some(100), ..Ceiling::default() });
        let mut ledger = Ledger::default();
        ledger.put(&key("t", "a"), Some(load(0, 100, 0)));
        assert_eq!(ledger.room(&key("t", "b"), load(0, 0, 0), &ceilings), Ok(()));
        // Nor where there is too much already, as when the ceiling was lowered.
        ledger.put(&key("t", "c"), Some(load(0, 50, 0)));
        assert_eq!(ledger.room(&key("t", "b"), load(0, 0, 0), &ceilings), Ok(()));
        let alone = Ledger::default().room(&key("t", "b"), load(0, 101, 0), &ceilings).unwrap_err();
        assert!(alone.error(&key("t", "b")).suggestion().is_some_and(|text| text.contains("lower the limit")));
    }

    #[test]
    fn a_changed_limit_of_what_runs_counts_at_once() {
        let mut ledger = Ledger::default();
        assert!(!ledger.put(&key("t", "a"), Some(load(0, 100, 0))));
        assert!(!ledger.put(&key("t", "a"), Some(load(0, 150, 0))), "less room");
        assert!(ledger.put(&key("t", "a"), Some(load(0, 50, 0))), "more room");
        let ceilings = usual(Ceiling { memory: Some(100), ..Ceiling::default() });
        assert_eq!(ledger.room(&key("t", "b"), load(0, 50, 0), &ceilings), Ok(()));
        assert_eq!(ledger.room(&key("t", "b"), load(0, 51, 0), &ceilings).unwrap_err().used, 50);
    }
}
