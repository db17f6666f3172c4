//! One look at the directories without a store.

use super::StoreSettings;
use super::dropped::Dropped;
use super::inhabited::Inhabited;
use super::pass::{Book, others};
use crate::desired::registry::Registry;
use crate::desired::scan::Scanner;
use crate::desired::set::{ABSENT_FOR, Desired};
use crate::desired::sight::{Outcome, Sight, Stillness};
use crate::error::Error;
use crate::model::{Instance, Moment};
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

/// A root that is being changed is looked at this many times before that is an error.
const ATTEMPTS: usize = 5;

/// What one look at the directories finds, without waiting for anything to settle.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    /// What would be desired, by key.
    pub instances: Vec<Arc<Instance>>,
    /// Everything that is wrong: files, duplicates, patterns, roots that cannot be read, deletions that would be held.
    pub errors: Vec<Error>,
}

/// Looks once, for `check` and `plan`. Blocks on the file system; takes no locks and writes nothing.
pub fn survey(settings: &StoreSettings, restored: &[Arc<Instance>], now: Moment) -> Survey {
    let mut registry = Registry::open(settings.patterns_dir.clone());
    registry.refresh(now);
    let book = Book { registry: &registry, defaults: &settings.defaults };
    let inhabited = Inhabited::read(&settings.state_dir);
    let mut desired = Desired::new(settings.roots.clone(), restored);
    desired.restore_dropped(Dropped::read(&settings.state_dir).known());
    let problems = registry.problems().iter().map(|problem| problem.error.clone()).collect();
    desired.patterns_changed(None, problems, &book);
    let later = now.after(ABSENT_FOR);
    for root in &settings.roots {
        let remembered = desired.files(&root.path);
        let others = others(&settings.roots, root);
        let mut scanner = Scanner::new(root.clone(), others, remembered, inhabited.of(&root.path));
        let mut rereads = BTreeSet::new();
        for attempt in 1..=ATTEMPTS {
            let mut scan = scanner.scan(&rereads, &HashSet::new());
            for (file, sight) in &mut scan.seen {
                rereads.insert(file.clone());
                if let Sight::Content { stillness, .. } = sight {
                    *stillness = Stillness::Still;
                }
            }
            let busy = matches!(scan.outcome, Outcome::Busy(_));
            if let Outcome::Busy(error) = &scan.outcome
                && attempt == ATTEMPTS
            {
                scan.outcome = Outcome::Failed(error.clone());
            }
            desired.apply(&root.path, &scan, &|file| scanner.knows(file), &book, now);
            scan.seen.retain(|(_, sight)| matches!(sight, Sight::Trouble(_)));
            desired.apply(&root.path, &scan, &|file| scanner.knows(file), &book, later);
            if !busy {
                break;
            }
        }
    }
    desired.decide(later);
    Survey { instances: desired.instances().cloned().collect(), errors: desired.errors(later) }
}
