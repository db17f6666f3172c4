//! How long to wait before a restart, and before a half-open trial.

use crate::model::Policy;
use std::time::Duration;

/// The unit of the restart delay.
const UNIT: Duration = Duration::from_secs(1);
/// Jitter adds up to a tenth, so that instances that fell together do not rise together; it never takes anything away.
const JITTER: f64 = 0.1;

/// The delay before restart `n` of a streak, without jitter: none for the first, then
/// `min(1s * 2^(n-2), backoff_period)`. It never decreases with `n`.
pub fn base_delay(n: u32, policy: &Policy) -> Duration {
    match n {
        0 | 1 => Duration::ZERO,
        n => UNIT.saturating_mul(2_u32.saturating_pow(n - 2)).min(policy.backoff_period),
    }
}

/// A delay and its jitter; `jitter` lies in `0.0..1.0`.
pub fn with_jitter(delay: Duration, jitter: f64) -> Duration {
    delay + delay.mul_f64(JITTER * jitter.clamp(0.0, 1.0))
}

/// The wait before the next half-open trial after `failed_trials` of them failed: `circuit_retry`, doubling to
/// [`Policy::CIRCUIT_RETRY_CAP`]; `None` when trials are off.
pub fn trial_delay(failed_trials: u32, policy: &Policy) -> Option<Duration> {
    let first = policy.circuit_retry?;
    Some(first.saturating_mul(2_u32.saturating_pow(failed_trials)).min(Policy::CIRCUIT_RETRY_CAP.max(first)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_restart_is_at_once_and_the_rest_double_to_the_cap() {
        let policy = Policy { backoff_period: Duration::from_secs(5), ..Policy::default() };
        let seconds: Vec<u64> = (0..7).map(|n| base_delay(n, &policy).as_secs()).collect();
        assert_eq!(seconds, [0, 0, 1, 2, 4, 5, 5]);
    }

    #[test]
    fn trials_double_to_ten_minutes() {
        let policy = Policy::default();
        let seconds: Vec<u64> = (0..6).filter_map(|n| trial_delay(n, &policy)).map(|d| d.as_secs()).collect();
        assert_eq!(seconds, [60, 120, 240, 480, 600, 600]);
        assert_eq!(trial_delay(0, &Policy { circuit_retry: None, ..policy }), None);
    }

    proptest! {
        #[test]
        fn s9_the_base_delay_never_decreases_and_is_capped(n in 0_u32..u32::MAX, period in 0_u64..100_000) {
            let policy = Policy { backoff_period: Duration::from_millis(period), ..Policy::default() };
            prop_assert!(base_delay(n, &policy) <= base_delay(n.saturating_add(1), &policy));
            prop_assert!(base_delay(n, &policy) <= policy.backoff_period);
        }

        #[test]
        fn s9_jitter_only_adds_and_at_most_a_tenth(millis in 0_u64..10_000_000, jitter in 0.0..1.0) {
            let delay = Duration::from_millis(millis);
            let jittered = with_jitter(delay, jitter);
            prop_assert!(jittered >= delay && jittered <= delay.mul_f64(1.1) + Duration::from_nanos(1));
        }
    }
}
