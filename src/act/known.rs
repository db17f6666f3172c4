//! Which children of this process somebody waits for, so that reaping orphans takes none of them.

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The pids of children that have an owner here.
#[derive(Debug, Default)]
pub(crate) struct KnownPids {
    sets: Mutex<Sets>,
}

#[derive(Debug, Default)]
struct Sets {
    /// Those that a task waits for, or will.
    owned: BTreeSet<i32>,
    /// Those that were made and could not be taken over: they end by themselves.
    abandoned: BTreeSet<i32>,
}

impl KnownPids {
    /// Somebody waits for this child.
    pub(crate) fn add(&self, pid: i32) {
        let mut sets = self.lock();
        sets.owned.insert(pid);
        sets.abandoned.retain(|pid| !reaped(*pid));
    }

    /// It has been reaped.
    pub(crate) fn remove(&self, pid: i32) {
        self.lock().owned.remove(&pid);
    }

    /// Nobody can wait for this child; it is reaped in passing once it has ended.
    pub(crate) fn abandon(&self, pid: i32) {
        let mut sets = self.lock();
        sets.owned.remove(&pid);
        sets.abandoned.insert(pid);
    }

    /// Whether somebody waits for this child.
    pub(crate) fn contains(&self, pid: i32) -> bool {
        let sets = self.lock();
        sets.owned.contains(&pid) || sets.abandoned.contains(&pid)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Sets> {
        // A set is whole whatever panicked while it was held.
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reaps a child that has ended. True also when it is no child of this process.
fn reaped(pid: i32) -> bool {
    let Some(pid) = Pid::from_raw(pid) else { return true };
    !matches!(waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG), Ok(None))
}
