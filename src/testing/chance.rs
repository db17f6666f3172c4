//! Seeded chance: splitmix64, which needs no state beyond a counter and is the same on every machine.

use crate::model::RunId;
use crate::reconciler::engine::Dice;
use std::time::Duration;

/// A source of numbers that depends on its seed alone.
#[derive(Debug, Clone)]
pub struct Chance(u64);

impl Chance {
    /// A source from a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`, which must not be 0.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.bits() % limit
    }

    /// A number below `limit`, which must not be 0.
    pub fn below_u32(&mut self, limit: u32) -> u32 {
        u32::try_from(self.below(u64::from(limit))).unwrap_or(0)
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        times > 0 && self.below(times) == 0
    }

    /// A duration of up to `millis` milliseconds, in microseconds, never zero.
    pub fn up_to_millis(&mut self, millis: u64) -> Duration {
        Duration::from_micros(1 + self.below(millis.max(1) * 1000))
    }
}

impl Dice for Chance {
    fn jitter(&mut self) -> f64 {
        f64::from(u32::try_from(self.bits() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    fn run_id(&mut self) -> RunId {
        RunId::from_random((u128::from(self.bits()) << 64) | u128::from(self.bits()))
    }
}
