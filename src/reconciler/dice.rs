//! Chance, from the kernel.

use super::engine::Dice;
use crate::model::RunId;

/// Dice of the kernel's randomness.
#[derive(Debug, Default)]
pub struct SystemDice;

/// How many bits a fraction has: all that an `f64` holds.
const FRACTION_BITS: u32 = 53;

impl Dice for SystemDice {
    #[expect(clippy::cast_precision_loss, reason = "both numbers have at most 53 bits")]
    fn jitter(&mut self) -> f64 {
        // The lowest 62 bits of a random UUID are random.
        let (_, low) = uuid::Uuid::new_v4().as_u64_pair();
        let range = 1_u64 << FRACTION_BITS;
        (low % range) as f64 / range as f64
    }

    fn run_id(&mut self) -> RunId {
        RunId::from_random(uuid::Uuid::new_v4().as_u128())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jitter_is_a_fraction_that_differs() {
        let draws: Vec<f64> = (0..1_000).map(|_| SystemDice.jitter()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / 1_000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
        assert_ne!(SystemDice.run_id(), SystemDice.run_id());
    }
}
