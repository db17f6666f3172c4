//! Waiting for a condition with a bound, and no other way of waiting.

use std::time::Duration;

/// How long to wait for what takes no time by itself: generous, since the machine may be busy.
pub(crate) const SOON: Duration = Duration::from_secs(30);
/// Between two looks.
const STEP: Duration = Duration::from_millis(10);

/// Seconds since the boot, as the launcher counts them.
pub(crate) fn now() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap())
}

/// How long ago `earlier` was.
pub(crate) fn since(earlier: Duration) -> Duration {
    now().saturating_sub(earlier)
}

/// Waits until `condition` gives a value; panics naming `what` when that takes longer than [`SOON`].
pub(crate) fn wait_for<T>(what: &str, condition: impl FnMut() -> Option<T>) -> T {
    wait_up_to(SOON, what, condition)
}

/// Waits until `condition` gives a value; panics naming `what` when that takes longer than `bound`.
pub(crate) fn wait_up_to<T>(bound: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = now() + bound;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(now() < end, "still waiting after {bound:?}: {what}");
        pause(STEP);
    }
}

/// Whether `condition` becomes true within `bound`.
pub(crate) fn within(bound: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = now() + bound;
    loop {
        if condition() {
            return true;
        }
        if now() >= end {
            return false;
        }
        pause(STEP);
    }
}

/// Panics naming `what` unless `condition` is true all through `span`. That something does not happen can only be
/// shown by waiting for as long as it would take.
pub(crate) fn holds_for(span: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let end = now() + span;
    while now() < end {
        assert!(condition(), "no longer: {what}");
        pause(STEP);
    }
}

#[expect(clippy::disallowed_methods, reason = "a test thread has nothing else to do between two looks")]
pub(crate) fn pause(span: Duration) {
    std::thread::sleep(span);
}
