//! When to ask next. Pure.

use crate::model::{HealthCheck, Key};
use crate::observed::ProbeOutcome;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

/// Before the first probe; doubled after each.
const QUICK_FIRST: Duration = Duration::from_millis(1);
/// Up to here the wait doubles; after that it grows with the time that the process has been starting.
const QUICK_DOUBLED: Duration = Duration::from_millis(128);
/// A process that has been starting for a while is asked again after this part of that while: it is found to be
/// healthy at most about 6 % later than it is.
const QUICK_PART: u32 = 16;
/// The longest wait while a process is starting: a thousand slow starters cost a thousand probes a second.
const QUICK_CAP: Duration = Duration::from_secs(1);
/// Processes that have been healthy are asked at multiples of this: to wake a thread, and the loop after it, costs more
/// than to ask, so those that are due soon after one another are asked in one go.
const TICK: Duration = Duration::from_millis(100);
/// Below this a tick would be more than a tenth of the interval.
const TICKED: Duration = Duration::from_secs(1);

/// How often a run is asked.
#[derive(Debug)]
pub(super) struct Pace {
    interval: Duration,
    success_threshold: u32,
    phase: f64,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// It has not been healthy yet.
    Quick { doubled: Duration, successes: u32 },
    /// It has been.
    Steady,
}

impl Pace {
    pub(super) fn new(check: &HealthCheck, key: &Key) -> Self {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        Self {
            interval: check.interval,
            success_threshold: check.success_threshold,
            phase: f64::from((hasher.finish() >> 32) as u32) / f64::from(u32::MAX),
            stage: Stage::Quick { doubled: QUICK_FIRST, successes: 0 },
        }
    }

    /// How long to wait before the first probe.
    pub(super) fn first(&self) -> Duration {
        QUICK_FIRST.min(self.interval)
    }

    /// How much of a wait that begins `now`, since any fixed moment, is left so that it ends together with others': the
    /// next probe may come up to a tick too early, and those after it come at the interval.
    pub(super) fn together(&self, now: Duration, wait: Duration) -> Duration {
        if !matches!(self.stage, Stage::Steady) || self.interval < TICKED || wait < TICK {
            return wait;
        }
        let early = (now + wait).subsec_nanos() % TICK.subsec_nanos();
        wait.saturating_sub(Duration::from_nanos(early.into()))
    }

    /// How long to wait after a probe that ended so, took this long, and was the last of a run that has been probed
    /// for `probed`.
    pub(super) fn after(&mut self, outcome: &ProbeOutcome, took: Duration, probed: Duration) -> Duration {
        match &mut self.stage {
            Stage::Steady => self.interval.saturating_sub(took).max(QUICK_FIRST),
            Stage::Quick { doubled, successes } => {
                match outcome {
                    ProbeOutcome::Success => *successes += 1,
                    ProbeOutcome::Failure(_) => *successes = 0,
                    ProbeOutcome::Error(_) => {}
                }
                if *successes >= self.success_threshold {
                    // Somewhere within the first interval, the same for a key each time: a thousand processes that
                    // became healthy together are not asked together ever after.
                    self.stage = Stage::Steady;
                    return self.interval.mul_f64(self.phase).max(QUICK_FIRST);
                }
                *doubled = (*doubled * 2).min(QUICK_DOUBLED);
                // A probe that takes long is waited for as long again, so that asking never takes more than half of
                // the time: a slow exec probe would otherwise keep a core busy.
                let wait = if *doubled < QUICK_DOUBLED { *doubled } else { (*doubled).max(probed / QUICK_PART) };
                wait.max(took).min(QUICK_CAP).min(self.interval)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Answerer;
    use crate::model::ProbeTarget;
    use std::collections::BTreeSet;

    fn pace(interval: Duration, success_threshold: u32, tenant: &str) -> Pace {
        let check = HealthCheck {
            target: ProbeTarget::Tcp,
            interval,
            timeout: Duration::from_secs(1),
            failure_threshold: 1,
            success_threshold,
            startup_timeout: Duration::from_secs(1),
            answered_by: Answerer::Own,
        };
        Pace::new(&check, &Key::parse(&format!("ns:{tenant}:p")).expect("a key"))
    }

    fn failure() -> ProbeOutcome {
        ProbeOutcome::Failure(String::new())
    }

    #[test]
    fn a_starting_process_is_asked_quickly_and_then_ever_more_slowly() {
        let mut pace = pace(Duration::from_secs(30), 1, "a");
        let mut probed = pace.first();
        let mut waits = vec![];
        while probed < Duration::from_secs(60) {
            let wait = pace.after(&failure(), Duration::ZERO, probed);
            probed += wait;
            waits.push(wait);
        }
        let millis: Vec<u128> = waits.iter().take(8).map(Duration::as_millis).collect();
        assert_eq!(millis, [2, 4, 8, 16, 32, 64, 128, 128]);
        assert!(waits.is_sorted() && waits.last() == Some(&QUICK_CAP));
        assert!(waits.len() < 120, "{} probes in a minute", waits.len());
    }

    #[test]
    fn a_short_interval_is_never_exceeded_and_a_slow_probe_takes_half_of_the_time() {
        let mut short = pace(Duration::from_millis(5), 1, "a");
        assert!((0..20).all(|_| short.after(&failure(), Duration::ZERO, QUICK_CAP * 100) <= Duration::from_millis(5)));
        let mut slow = pace(Duration::from_secs(30), 1, "a");
        assert_eq!(slow.after(&failure(), Duration::from_millis(70), QUICK_CAP), Duration::from_millis(70));
    }

    #[test]
    fn the_interval_begins_once_enough_successes_follow_each_other() {
        let interval = Duration::from_secs(30);
        let mut pace = pace(interval, 2, "a");
        for outcome in [ProbeOutcome::Success, failure(), ProbeOutcome::Success, ProbeOutcome::Error(String::new())] {
            assert!(pace.after(&outcome, Duration::ZERO, QUICK_FIRST) < QUICK_CAP);
        }
        let phase = pace.after(&ProbeOutcome::Success, Duration::ZERO, QUICK_FIRST);
        assert!(phase > QUICK_CAP && phase <= interval, "{phase:?}");
        assert_eq!(pace.after(&failure(), Duration::from_secs(1), interval), Duration::from_secs(29));
        assert_eq!(pace.after(&failure(), Duration::from_secs(31), interval), QUICK_FIRST);
    }

    #[test]
    fn what_is_due_soon_after_one_another_is_asked_in_one_go_and_at_the_interval() {
        let interval = Duration::from_secs(10);
        let (late, took) = (Duration::from_millis(3), Duration::from_millis(1));
        let mut turns = BTreeSet::new();
        for tenant in 0..1_000 {
            let mut pace = pace(interval, 1, &format!("t{tenant}"));
            let mut now = Duration::from_micros(1_234_567 + tenant);
            let first = pace.after(&ProbeOutcome::Success, took, QUICK_FIRST);
            if first < TICK {
                // Due at once.
                continue;
            }
            let due = now + pace.together(now, first);
            assert!(due <= now + first && due + TICK > now + first, "{first:?}");
            turns.insert(due);
            now = due + late + took;
            let next = pace.after(&ProbeOutcome::Success, took, QUICK_FIRST);
            assert_eq!(now + pace.together(now, next), due + interval);
        }
        assert!(turns.len() <= 101, "{} turns for a thousand processes", turns.len());
    }

    #[test]
    fn a_process_that_is_starting_or_asked_often_is_not_held_to_the_ticks() {
        let wait = Duration::from_millis(377);
        let mut starting = pace(Duration::from_secs(10), 1, "a");
        assert_eq!(starting.together(Duration::ZERO, wait), wait);
        starting.after(&failure(), Duration::ZERO, QUICK_FIRST);
        assert_eq!(starting.together(Duration::ZERO, wait), wait);
        let mut often = pace(Duration::from_millis(900), 1, "a");
        often.after(&ProbeOutcome::Success, Duration::ZERO, QUICK_FIRST);
        assert_eq!(often.together(Duration::ZERO, wait), wait);
        // Nobody is asked again at once because a tick is near.
        let mut slow = pace(Duration::from_secs(1), 1, "a");
        slow.after(&ProbeOutcome::Success, Duration::ZERO, QUICK_FIRST);
        assert_eq!(slow.together(TICK, QUICK_FIRST), QUICK_FIRST);
    }

    #[test]
    fn processes_that_become_healthy_together_are_not_asked_together() {
        let mut tenths = [0; 10];
        for tenant in 0..1_000 {
            let mut pace = pace(Duration::from_secs(10), 1, &format!("t{tenant}"));
            let phase = pace.after(&ProbeOutcome::Success, Duration::ZERO, QUICK_FIRST);
            tenths[usize::try_from(phase.as_secs()).expect("it is short").min(9)] += 1;
        }
        assert!(tenths.iter().all(|count| (50..200).contains(count)), "{tenths:?}");
    }
}
