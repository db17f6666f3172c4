//! Changes on their way to the log, between the loop, which must not wait, and the thread that writes.
//!
//! What bounds it: a later change of a key takes the place of an earlier one, so that there are never more changes than
//! keys, however long the disk is full. A channel would have to block its sender or lose a change; a short lock does
//! neither. Changes keep the order of the last word on each key.

use super::RecordsHealth;
use super::log::Op;
use crate::desired::scan::Identity;
use crate::error::{Error, Result};
use crate::model::Key;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// The most changes written at once: about 6 MB, so that a group is bounded in memory and in time.
const GROUP_LIMIT: usize = 4_096;

/// Changes to be written, with the number that orders them.
pub(super) type Group = BTreeMap<u64, Op>;

#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Debug, Default)]
struct State {
    pending: Group,
    latest: HashMap<Key, u64>,
    /// Changes that the writer has taken and not yet written.
    taken: usize,
    next: u64,
    asking: Vec<(u64, oneshot::Sender<Result<()>>)>,
    error: Option<Error>,
    /// The writer is to look at its file although there is nothing to write.
    looking: bool,
    /// The file that the last write went to.
    file: Option<Identity>,
    closing: bool,
}

impl State {
    /// Whether somebody waits for a write now, so that a delay between attempts is cut short.
    const fn is_urgent(&self) -> bool {
        self.closing || !self.asking.is_empty()
    }

    fn put(&mut self, number: u64, op: Op) {
        self.latest.insert(op.key().clone(), number);
        self.pending.insert(number, op);
    }

    /// Answers those who asked before every change that is still to be written.
    fn answer_satisfied(&mut self) {
        let first = self.pending.keys().next().copied().unwrap_or(self.next);
        for (_, answer) in self.asking.extract_if(.., |(number, _)| *number <= first) {
            drop(answer.send(Ok(())));
        }
    }
}

impl Queue {
    /// Leaves a change to be written, in place of an earlier one of its key.
    pub(super) fn push(&self, op: Op) {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        if let Some(earlier) = state.latest.remove(op.key()) {
            drop(state.pending.remove(&earlier));
            // Who waits for the earlier change waits for the one in its place.
            for (awaited, _) in state.asking.iter_mut().filter(|(awaited, _)| *awaited > earlier) {
                *awaited = number + 1;
            }
        }
        state.put(number, op);
        drop(state);
        self.wake.notify_one();
    }

    /// Asks for an answer once everything pushed before is written, or a write has failed.
    pub(super) fn ask(&self, answer: oneshot::Sender<Result<()>>) {
        let mut state = self.lock();
        let number = state.next;
        state.asking.push((number, answer));
        drop(state);
        self.wake.notify_one();
    }

    /// Has the writer see to it that its file is the one at the path.
    pub(super) fn look(&self) {
        self.lock().looking = true;
        self.wake.notify_one();
    }

    /// The file that the last write went to, once there was one.
    pub(super) fn file(&self) -> Option<Identity> {
        self.lock().file
    }

    /// Tells the writer to try once more and to end.
    pub(super) fn close(&self) {
        self.lock().closing = true;
        self.wake.notify_one();
    }

    /// Waits for something to write and takes it. After a failure it waits `delay` first, unless somebody asks.
    /// Returns `None` when the queue is closed and empty. A group may be empty when somebody asks, or it is to look.
    pub(super) fn take(&self, delay: Option<Duration>) -> Option<Group> {
        let mut state = self.lock();
        if let Some(delay) = delay {
            let waited = self.wake.wait_timeout_while(state, delay, |state| !state.is_urgent());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        let idle = |state: &mut State| state.pending.is_empty() && !state.looking && !state.is_urgent();
        state = self.wake.wait_while(state, idle).unwrap_or_else(PoisonError::into_inner);
        state.looking = false;
        if state.pending.is_empty() && state.closing {
            state.answer_satisfied();
            return None;
        }
        let mut group = std::mem::take(&mut state.pending);
        if let Some(&after) = group.keys().nth(GROUP_LIMIT) {
            state.pending = group.split_off(&after);
        }
        for op in group.values() {
            state.latest.remove(op.key());
        }
        state.taken = group.len();
        Some(group)
    }

    /// What was taken is on disk, in that file.
    pub(super) fn written(&self, file: Identity) {
        let mut state = self.lock();
        state.taken = 0;
        state.error = None;
        state.file = Some(file);
        state.answer_satisfied();
    }

    /// What was taken is not on disk: it waits again, unless there is a later word on its key. Returns whether the
    /// queue is closed, so that no further attempt will be made.
    pub(super) fn failed(&self, group: Group, error: &Error) -> bool {
        let mut state = self.lock();
        state.taken = 0;
        for (number, op) in group {
            if !state.latest.contains_key(op.key()) {
                state.put(number, op);
            }
        }
        state.error = Some(error.clone());
        for (_, answer) in state.asking.drain(..) {
            drop(answer.send(Err(error.clone())));
        }
        state.closing
    }

    pub(super) fn health(&self) -> RecordsHealth {
        let state = self.lock();
        RecordsHealth { error: state.error.clone(), pending: state.pending.len() + state.taken }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while the lock is held, and the state is whole after each statement.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
