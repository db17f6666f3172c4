//! Whether we were there while we waited: a launcher that was stopped, or slept with the machine, sees deadlines pass
//! that nobody had the time to meet.

use crate::model::Moment;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// Tells the time, sleep and suspension included.
pub(super) type Clock = Arc<dyn Fn() -> Moment + Send + Sync>;

/// Later than this is more than a busy machine makes us.
const LATE: Duration = Duration::from_millis(500);
/// How often a probe that takes long is looked at; one that does not is never interrupted.
const PULSE: Duration = Duration::from_millis(250);

/// Whether this process ran all the while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// It did.
    Present,
    /// It was stopped for at least half a second.
    Absent,
}

impl Presence {
    fn unless(late: bool) -> Self {
        if late { Self::Absent } else { Self::Present }
    }

    /// Absent if either was.
    pub(super) const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Present, Self::Present) => Self::Present,
            (Self::Absent, _) | (_, Self::Absent) => Self::Absent,
        }
    }
}

/// Waits, and tells whether the wait was longer than it should have been.
pub(super) async fn sleep(wait: Duration, clock: &Clock) -> Presence {
    let before = clock();
    tokio::time::sleep(wait).await;
    Presence::unless(clock().since(before) > wait + LATE)
}

/// Carries out `work`, and tells whether this process ran all the while.
pub(super) async fn attend<T>(work: impl Future<Output = T>, clock: &Clock) -> (T, Presence) {
    let mut work = pin!(work);
    let mut presence = Presence::Present;
    loop {
        let before = clock();
        // Both can be dropped at any time: a pulse holds nothing, and the work goes on in the next turn.
        let finished = tokio::select! {
            biased;
            output = &mut work => Some(output),
            () = tokio::time::sleep(PULSE) => None,
        };
        presence = presence.and(Presence::unless(clock().since(before) > PULSE + LATE));
        if let Some(output) = finished {
            return (output, presence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BootId;
    use std::sync::Mutex;

    /// A clock that moves only when it is told to, however busy the machine is.
    fn clock() -> (Clock, impl Fn(Duration) + Clone) {
        let elapsed = Arc::new(Mutex::new(Duration::ZERO));
        let read = Arc::clone(&elapsed);
        let clock = move || Moment::new(BootId::from_u128(1), *read.lock().expect("nobody panicked"));
        (Arc::new(clock), move |by| *elapsed.lock().expect("nobody panicked") += by)
    }

    #[tokio::test]
    async fn being_a_little_late_is_no_absence() {
        let (clock, pass) = clock();
        let wait = async {
            pass(LATE);
            sleep(Duration::from_millis(1), &clock).await
        };
        assert_eq!(wait.await, Presence::Present);
        let work = async {
            for _ in 0..3 {
                tokio::time::sleep(PULSE).await;
                pass(LATE);
            }
        };
        assert_eq!(attend(work, &clock).await.1, Presence::Present);
    }

    #[tokio::test]
    async fn a_suspension_within_a_wait_is_noticed() {
        let (clock, pass) = clock();
        let wait = sleep(Duration::from_millis(1), &clock);
        let suspension = async { pass(LATE * 2) };
        assert_eq!(tokio::join!(wait, suspension).0, Presence::Absent);
    }

    #[tokio::test]
    async fn a_suspension_anywhere_within_work_is_noticed() {
        let (clock, pass) = clock();
        for before in [Duration::ZERO, PULSE + PULSE / 2] {
            for after in [Duration::ZERO, PULSE + PULSE / 2] {
                let work = async {
                    tokio::time::sleep(before).await;
                    pass(PULSE + LATE * 2);
                    tokio::time::sleep(after).await;
                };
                assert_eq!(attend(work, &clock).await.1, Presence::Absent, "{before:?} {after:?}");
            }
        }
    }
}
