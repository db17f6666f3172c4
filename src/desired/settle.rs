//! When a content counts: once it has held still, or at once when nobody can be writing it.

use super::sight::{Fingerprint, Stillness};
use crate::model::Moment;
use std::time::Duration;

/// Two equal reads this far apart make a content count. Editors and copies that write in steps do so within it.
pub const STILL_FOR: Duration = Duration::from_millis(500);

/// What has been seen of one file.
#[derive(Debug, Clone, Default)]
pub struct Settle {
    accepted: Option<Fingerprint>,
    candidate: Option<Candidate>,
    /// A content that counted at once is read once more: a write within the tick of the clock that stamps files, of the
    /// same length, would otherwise go unseen.
    verify_at: Option<Moment>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    fingerprint: Fingerprint,
    since: Moment,
}

/// What follows from a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is what counts already.
    Same,
    /// From now on it counts.
    Accepted,
    /// It has to hold still first.
    Waiting,
}

impl Settle {
    /// Takes note of a look at the file.
    pub fn look(&mut self, fingerprint: Fingerprint, stillness: Stillness, now: Moment) -> Settled {
        if self.verify_at.is_some_and(|at| now.reached(at)) {
            self.verify_at = None;
        }
        if self.accepted == Some(fingerprint) {
            self.candidate = None;
            return Settled::Same;
        }
        if stillness == Stillness::Still {
            self.accept(fingerprint);
            self.verify_at = Some(now.after(STILL_FOR));
            return Settled::Accepted;
        }
        match self.candidate {
            Some(candidate) if candidate.fingerprint == fingerprint => {
                if now.since(candidate.since) < STILL_FOR {
                    return Settled::Waiting;
                }
                self.accept(fingerprint);
                Settled::Accepted
            }
            _ => {
                self.candidate = Some(Candidate { fingerprint, since: now });
                Settled::Waiting
            }
        }
    }

    /// This content counts without having been looked at, since the launcher itself has just written it.
    pub fn take_over(&mut self, fingerprint: Fingerprint) {
        self.accept(fingerprint);
    }

    /// The content that counts.
    pub const fn accepted(&self) -> Option<Fingerprint> {
        self.accepted
    }

    fn accept(&mut self, fingerprint: Fingerprint) {
        *self = Self { accepted: Some(fingerprint), candidate: None, verify_at: None };
    }

    /// When the file is to be read again although nothing about it seems to have changed.
    pub fn due(&self) -> Option<Moment> {
        self.candidate.map(|candidate| candidate.since.after(STILL_FOR)).or(self.verify_at)
    }

    /// Whether a content waits to hold still.
    pub const fn is_waiting(&self) -> bool {
        self.candidate.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BootId;
    use proptest::prelude::*;

    fn at(millis: u64) -> Moment {
        Moment::new(BootId::from_u128(1), Duration::from_millis(millis))
    }

    fn of(text: &str) -> Fingerprint {
        Fingerprint::of(text.as_bytes())
    }

    #[test]
    fn a_content_counts_after_two_equal_reads_half_a_second_apart() {
        let mut settle = Settle::default();
        assert_eq!(settle.look(of("a"), Stillness::Unknown, at(0)), Settled::Waiting);
        assert_eq!(settle.due(), Some(at(500)));
        assert_eq!(settle.look(of("a"), Stillness::Unknown, at(499)), Settled::Waiting);
        assert_eq!(settle.look(of("a"), Stillness::Unknown, at(500)), Settled::Accepted);
        assert_eq!(settle.due(), None);
        assert_eq!(settle.look(of("a"), Stillness::Unknown, at(501)), Settled::Same);
    }

    #[test]
    fn a_content_that_nobody_can_be_writing_counts_at_once_and_is_read_once_more() {
        let mut settle = Settle::default();
        assert_eq!(settle.look(of("a"), Stillness::Still, at(0)), Settled::Accepted);
        assert_eq!(settle.due(), Some(at(500)));
        assert_eq!(settle.look(of("a"), Stillness::Unknown, at(500)), Settled::Same);
        assert_eq!(settle.due(), None);
    }

    #[test]
    fn going_back_to_what_counts_ends_the_waiting() {
        let mut settle = Settle::default();
        settle.look(of("a"), Stillness::Still, at(0));
        assert_eq!(settle.look(of("b"), Stillness::Unknown, at(600)), Settled::Waiting);
        assert_eq!(settle.look(of("a"), Stillness::Unknown, at(700)), Settled::Same);
        assert_eq!(settle.look(of("b"), Stillness::Unknown, at(1_200)), Settled::Waiting);
    }

    proptest! {
        /// Whatever the order of looks, a content that may be half-written never counts before it has been seen
        /// unchanged over the whole time.
        #[test]
        fn nothing_counts_before_it_has_held_still(looks in prop::collection::vec((0_u8..3, 0_u64..400), 1..60)) {
            let mut settle = Settle::default();
            let mut now = 0;
            let mut run: Option<(u8, u64)> = None;
            for (content, step) in looks {
                now += step;
                let since = match run {
                    Some((same, since)) if same == content => since,
                    _ => now,
                };
                run = Some((content, since));
                if settle.look(of(&content.to_string()), Stillness::Unknown, at(now)) == Settled::Accepted {
                    prop_assert!(now - since >= 500);
                }
            }
        }
    }
}
