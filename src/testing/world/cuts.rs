//! The cuts between effects at which the launcher may die, and which effects there were.

use super::World;
use crate::plan::Effect;

/// The kinds of effects.
pub(in crate::testing) const EFFECT_KINDS: [&str; 17] = [
    "SaveMemory",
    "DropMemory",
    "Prepare",
    "Commit",
    "Discard",
    "SaveRun",
    "DropRun",
    "Signal",
    "KillTree",
    "Probe",
    "StopProbe",
    "Expire",
    "Abandon",
    "Failed",
    "Limit",
    "HoldTo",
    "Note",
];

/// Where in [`EFFECT_KINDS`] an effect stands. A new kind does not compile until it has a place, and a scenario that has
/// one is missed until there is one (`testing/crashes`).
const fn place(effect: &Effect) -> usize {
    match effect {
        Effect::SaveMemory(_) => 0,
        Effect::DropMemory(_) => 1,
        Effect::Prepare(_) => 2,
        Effect::Commit(_) => 3,
        Effect::Discard { .. } => 4,
        Effect::SaveRun(_) => 5,
        Effect::DropRun { .. } => 6,
        Effect::Signal { .. } => 7,
        Effect::KillTree { .. } => 8,
        Effect::Probe { .. } => 9,
        Effect::StopProbe { .. } => 10,
        Effect::Expire { .. } => 11,
        Effect::Abandon { .. } => 12,
        Effect::Failed { .. } => 13,
        Effect::Limit { .. } => 14,
        Effect::HoldTo(_) => 15,
        Effect::Note(_) => 16,
    }
}

/// Whether what it does outlives the launcher.
const fn lasts(effect: &Effect) -> bool {
    match effect {
        Effect::SaveMemory(_)
        | Effect::DropMemory(_)
        | Effect::Commit(_)
        | Effect::SaveRun(_)
        | Effect::DropRun { .. }
        | Effect::Signal { .. }
        | Effect::KillTree { .. }
        | Effect::Limit { .. }
        | Effect::HoldTo(_)
        | Effect::Expire { .. }
        | Effect::Abandon { .. } => true,
        Effect::Prepare(_)
        | Effect::Discard { .. }
        | Effect::Probe { .. }
        | Effect::StopProbe { .. }
        | Effect::Failed { .. }
        | Effect::Note(_) => false,
    }
}

/// How many cuts there have been, and what was done between them.
#[derive(Debug, Clone, Default)]
pub(super) struct Cuts {
    /// Since the beginning, or since the last crash that was injected at one.
    passed: u64,
    /// The crashes that were injected at one. Those of a scenario's own are not among them.
    injected: u32,
    /// The cuts from the first of these crashes until the world was at rest again.
    recovery: Option<u64>,
    /// Whether the next place is a cut: since the last one time has passed, or something was done that lasts. Where neither
    /// is so, the next launcher finds the same as it would there.
    is_due: bool,
    effects: [u64; EFFECT_KINDS.len()],
}

impl Cuts {
    /// A pass begins.
    pub(super) const fn begin(&mut self) {
        self.is_due = true;
    }

    /// An effect is carried out.
    pub(super) const fn note(&mut self, effect: &Effect) {
        self.effects[place(effect)] += 1;
        self.is_due |= lasts(effect);
    }
}

impl World {
    /// How many cuts there have been since the beginning, or since the last crash that was injected at one.
    pub const fn cuts(&self) -> u64 {
        self.cuts.passed
    }

    /// How many crashes the settings have injected at cuts.
    pub const fn injected(&self) -> u32 {
        self.cuts.injected
    }

    /// How many cuts there were from the first injected crash until the world was at rest again; `None` when it was not.
    pub const fn recovery(&self) -> Option<u64> {
        self.cuts.recovery
    }

    /// How often each of [`EFFECT_KINDS`] was carried out.
    #[cfg(test)]
    pub(in crate::testing) const fn effects(&self) -> &[u64; EFFECT_KINDS.len()] {
        &self.cuts.effects
    }

    /// How many effects have been carried out, notes aside.
    pub fn effects_done(&self) -> u64 {
        let notes = EFFECT_KINDS.len() - 1;
        self.cuts.effects[..notes].iter().sum()
    }

    /// Passes a cut; true when the launcher dies there.
    pub(super) fn is_cut(&mut self) -> bool {
        if !std::mem::take(&mut self.cuts.is_due) {
            return false;
        }
        let wanted = match self.cuts.injected {
            0 => self.settings.crash_at,
            1 => self.settings.crash_again_at,
            _ => None,
        };
        if wanted == Some(self.cuts.passed) {
            self.cuts.injected += 1;
            self.cuts.passed = 0;
            return true;
        }
        self.cuts.passed += 1;
        self.chance.once_in(self.settings.crash_once_in)
    }

    /// The launcher dies at a cut.
    pub(super) fn die(&mut self, why: &str) {
        if self.settings.power_fails && self.cuts.injected == 1 && self.cuts.passed == 0 {
            return self.reboot();
        }
        self.crash(why);
    }

    /// Notes when the world has come to rest after the first injected crash.
    pub(super) fn note_recovery(&mut self) {
        if self.cuts.injected == 1 && self.cuts.recovery.is_none() && self.is_at_rest() {
            self.cuts.recovery = Some(self.cuts.passed);
        }
    }
}
