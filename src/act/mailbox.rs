//! What a run's task has been told to do and has not done yet.
//!
//! Not a queue: what is told twice is to be done once, and a later record replaces an earlier one. So it is bounded by
//! its type, telling never waits, and nothing is ever turned away.

use crate::model::{Resources, RunRecord, StopSignal};
use std::sync::{Mutex, PoisonError};
use tokio::sync::Notify;

/// Things to do, in the order in which a task does them: a record is written before what it announces happens.
#[derive(Debug, Default)]
pub(crate) struct Orders {
    /// Let go of the held child.
    pub(crate) discard: bool,
    /// Record the held child and release it.
    pub(crate) commit: Option<Box<RunRecord>>,
    /// Limit it like this.
    pub(crate) limit: Option<Resources>,
    /// Write the record again, before any signal is sent.
    pub(crate) save: Option<Box<RunRecord>>,
    /// Send these signals, each once.
    pub(crate) signals: Vec<StopSignal>,
    /// Write the record again, after that: it says that they were sent.
    pub(crate) sent: Option<Box<RunRecord>>,
    /// Kill the tree until it is gone.
    pub(crate) kill: bool,
    /// Remove the record and the cgroup.
    pub(crate) drop: bool,
}

impl Orders {
    fn is_empty(&self) -> bool {
        let Self { discard, commit, limit, save, signals, sent, kill, drop } = self;
        !discard
            && commit.is_none()
            && limit.is_none()
            && save.is_none()
            && signals.is_empty()
            && sent.is_none()
            && !kill
            && !drop
    }

    /// Adds a record: one that was given after a signal is written after it.
    pub(crate) fn save(&mut self, record: Box<RunRecord>) {
        if self.signals.is_empty() {
            self.save = Some(record);
        } else {
            self.sent = Some(record);
        }
    }

    /// Adds a signal that is not among them.
    pub(crate) fn signal(&mut self, signal: StopSignal) {
        if !self.signals.contains(&signal) {
            self.signals.push(signal);
        }
    }
}

/// The orders of one run, shared by who gives them and who carries them out.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    orders: Mutex<Orders>,
    changed: Notify,
}

impl Mailbox {
    /// Adds to the orders.
    pub(crate) fn tell(&self, add: impl FnOnce(&mut Orders)) {
        add(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_one();
    }

    /// Takes all orders once there are any. Cancel-safe: they are taken and returned in one step.
    pub(crate) async fn take(&self) -> Orders {
        loop {
            {
                let mut orders = self.orders.lock().unwrap_or_else(PoisonError::into_inner);
                if !orders.is_empty() {
                    return std::mem::take(&mut *orders);
                }
            }
            self.changed.notified().await;
        }
    }

    /// Returns once there is an order to kill, and leaves it there. Cancel-safe. Only one of this and [`Mailbox::take`]
    /// is waited for at a time.
    pub(crate) async fn kill_ordered(&self) {
        while !self.orders.lock().unwrap_or_else(PoisonError::into_inner).kill {
            self.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_told_before_and_while_it_is_waited_for_arrives_once() {
        let mailbox = std::sync::Arc::new(Mailbox::default());
        mailbox.tell(|orders| orders.signal(StopSignal::Term));
        mailbox.tell(|orders| orders.signal(StopSignal::Term));
        assert_eq!(mailbox.take().await.signals, [StopSignal::Term]);
        let teller = std::sync::Arc::clone(&mailbox);
        let told = tokio::spawn(async move { teller.tell(|orders| orders.kill = true) });
        mailbox.kill_ordered().await;
        assert!(mailbox.take().await.kill);
        told.await.expect("told");
    }
}
