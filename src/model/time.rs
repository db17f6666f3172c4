//! Points in time that can be written down and read again by the next launcher.
//!
//! A [`Moment`] is the boot it happened in and the time since that boot, sleep included (`CLOCK_BOOTTIME`). A stepped
//! wall clock changes nothing, and a moment of an earlier boot is known to be past. Moments are read by one function
//! of the host; everywhere else they are parameters.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// One run of the kernel, from `/proc/sys/kernel/random/boot_id`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(uuid::Uuid);

impl BootId {
    /// A boot id from its number, for tests and simulations.
    pub const fn from_u128(number: u128) -> Self {
        Self(uuid::Uuid::from_u128(number))
    }
}

impl FromStr for BootId {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        uuid::Uuid::parse_str(text.trim()).map(Self)
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A point in time: a boot and the time since it.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// The boot in which it was read.
    pub boot: BootId,
    /// Time since that boot, including sleep.
    pub since_boot: Duration,
}

impl Moment {
    /// The moment `since_boot` after the start of `boot`.
    pub const fn new(boot: BootId, since_boot: Duration) -> Self {
        Self { boot, since_boot }
    }

    /// How long ago `earlier` was; zero if it lies ahead, [`Duration::MAX`] if it belongs to another boot.
    pub fn since(self, earlier: Self) -> Duration {
        if self.boot == earlier.boot { self.since_boot.saturating_sub(earlier.since_boot) } else { Duration::MAX }
    }

    /// Whether `deadline` has been reached. A deadline of another boot has.
    pub fn reached(self, deadline: Self) -> bool {
        self.boot != deadline.boot || self.since_boot >= deadline.since_boot
    }

    /// How long until `deadline`; zero once it is reached.
    pub fn until(self, deadline: Self) -> Duration {
        if self.boot == deadline.boot { deadline.since_boot.saturating_sub(self.since_boot) } else { Duration::ZERO }
    }

    /// This moment and `later`.
    #[must_use]
    pub fn after(self, later: Duration) -> Self {
        Self { boot: self.boot, since_boot: self.since_boot.saturating_add(later) }
    }

    /// The earlier of two moments as seen from a launcher: one of another boot than `self` wins, being past.
    #[must_use]
    pub fn earlier(self, other: Self) -> Self {
        if self.reached(other) { other } else { self }
    }

    /// The later of two moments of one boot.
    #[must_use]
    pub fn later(self, other: Self) -> Self {
        if self.reached(other) { self } else { other }
    }
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.since_boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(boot: u128, seconds: u64) -> Moment {
        Moment::new(BootId::from_u128(boot), Duration::from_secs(seconds))
    }

    #[test]
    fn a_deadline_of_another_boot_has_passed() {
        assert!(at(2, 0).reached(at(1, 1_000)));
        assert_eq!(at(2, 0).until(at(1, 1_000)), Duration::ZERO);
        assert_eq!(at(2, 5).since(at(1, 1)), Duration::MAX);
    }

    #[test]
    fn within_a_boot_it_is_arithmetic() {
        assert!(!at(1, 4).reached(at(1, 5)));
        assert!(at(1, 5).reached(at(1, 5)));
        assert_eq!(at(1, 9).since(at(1, 5)), Duration::from_secs(4));
        assert_eq!(at(1, 9).earlier(at(1, 5)), at(1, 5));
        assert_eq!((at(1, 9).later(at(1, 5)), at(1, 5).later(at(1, 9))), (at(1, 9), at(1, 9)));
    }
}
