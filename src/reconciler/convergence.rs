//! When everything that is declared has come to where it should be for the first time: people wait for that line.

use crate::model::{DesiredState, Key, KeyStatus, ProcessState};
use std::collections::BTreeSet;

/// The keys that are not yet where they should be.
#[derive(Debug, Default)]
pub(super) struct Convergence {
    unsettled: BTreeSet<Key>,
    reached: bool,
}

impl Convergence {
    /// Takes in where a key stands; `None` when it is gone.
    pub(super) fn note(&mut self, key: &Key, status: Option<&KeyStatus>) {
        if self.reached || status.is_none_or(is_settled) {
            self.unsettled.remove(key);
        } else {
            self.unsettled.insert(key.clone());
        }
    }

    /// Whether everything has just got there: true once.
    pub(super) fn reach(&mut self) -> bool {
        let before = self.reached;
        self.reached |= self.unsettled.is_empty();
        self.reached && !before
    }
}

fn is_settled(status: &KeyStatus) -> bool {
    match (status.desired, status.state) {
        (Some(DesiredState::Running), ProcessState::Running) => status.healthy,
        (Some(DesiredState::Running), ProcessState::Finished) | (_, ProcessState::Terminated) => true,
        (_, ProcessState::Starting | ProcessState::Running | ProcessState::Terminating | ProcessState::Failed)
        | (Some(DesiredState::Stopped) | None, ProcessState::Finished) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::running;
    use super::*;

    #[test]
    fn it_is_reached_once_when_all_are_healthy() {
        let (mut all, healthy) = (Convergence::default(), running("ns:a:a"));
        let mut starting = running("ns:b:a");
        starting.healthy = false;
        all.note(&healthy.process_id, Some(&healthy));
        all.note(&starting.process_id, Some(&starting));
        assert!(!all.reach());
        starting.healthy = true;
        all.note(&starting.process_id, Some(&starting));
        assert!(all.reach());
        assert!(!all.reach());
    }

    #[test]
    fn a_key_that_is_gone_is_not_waited_for() {
        let mut all = Convergence::default();
        let mut failed = running("ns:b:a");
        failed.state = ProcessState::Failed;
        all.note(&failed.process_id, Some(&failed));
        assert!(!all.reach());
        all.note(&failed.process_id, None);
        assert!(all.reach());
    }
}
