//! The settings that the decision depends on.

use super::ceilings::Ceilings;
use super::limits::Unenforced;
use std::time::Duration;

/// What the configuration says about restarts, circuits, admission and ports.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    /// The cap of the restart delay: 1 s in development, 5 s in production.
    pub backoff_period: Duration,
    /// The consecutive failures at which the circuit opens; 5.
    pub max_errors: u32,
    /// Healthy for this long ends a streak of failures; 60 s.
    pub stable_after: Duration,
    /// Half-open trials: the first after this long, then doubling to [`Policy::CIRCUIT_RETRY_CAP`]; `None` is never.
    pub circuit_retry: Option<Duration>,
    /// Starts under way at once; 64. One namespace takes at most three quarters of them.
    pub max_concurrent_starts: usize,
    /// Instances of a pattern that are being replaced at once; 1.
    pub max_unavailable: usize,
    /// Where ports come from, both ends included; 15000–32767, outside the ephemeral range.
    pub port_range: (u16, u16),
    /// What may run at once, in all and by namespace; without an end unless it is set.
    pub ceilings: Ceilings,
    /// What becomes of an instance for which a person wrote a limit that cannot be enforced here.
    pub unenforced: Unenforced,
}

impl Policy {
    /// The longest wait between two half-open trials.
    pub const CIRCUIT_RETRY_CAP: Duration = Duration::from_secs(600);
    /// A start slot is given back after this long even if the process is not healthy yet, so that slow starters cannot
    /// keep others waiting.
    pub const START_SLOT_HOLD: Duration = Duration::from_secs(2);

    /// The most start slots that one namespace may hold.
    pub const fn starts_per_namespace(&self) -> usize {
        let share = self.max_concurrent_starts - self.max_concurrent_starts / 4;
        if share == 0 { 1 } else { share }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            backoff_period: Duration::from_secs(1),
            max_errors: 5,
            stable_after: Duration::from_secs(60),
            circuit_retry: Some(Duration::from_secs(60)),
            max_concurrent_starts: 64,
            max_unavailable: 1,
            port_range: (15_000, 32_767),
            ceilings: Ceilings::default(),
            unenforced: Unenforced::Report,
        }
    }
}
