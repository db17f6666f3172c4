//! The launcher dies at every single cut of a scenario, and again at every cut of its recovery.
//!
//! A cut is where one effect has been carried out and the next has not ([`Settings::crash_at`]). A recovery lasts until
//! the world is at rest again, so every pair of crashes is tried of which the second finds anything but a world like the
//! one that a single crash finds.

mod asked;
mod blocked;
mod declared;
mod failing;
mod looping;

use super::world::EFFECT_KINDS;
use super::{Settings, World};
use crate::model::{Key, ProcessState};
use crate::observed::Ask;
use std::time::Duration;

/// Something that happens in a scenario.
enum Step {
    /// This much time passes.
    Pass(Duration),
    /// The world changes, whether a launcher runs or not.
    Do(fn(&mut World)),
    /// Somebody asks until a launcher has lived through the turn in which it was asked: others have answered nobody.
    Insist(Key, Ask),
}

/// What happens, and what has to have come of it, however often the launcher has died.
#[derive(Clone, Copy)]
struct Scenario {
    begin: fn(Settings) -> World,
    steps: fn() -> Vec<Step>,
    judge: fn(&mut World, &str),
}

const ALL: [Scenario; 5] =
    [declared::SCENARIO, asked::SCENARIO, failing::SCENARIO, looping::SCENARIO, blocked::SCENARIO];

/// A scenario that is being played. It can be copied where it stands, so that what comes before a second crash is not
/// played again for each place of it.
#[derive(Clone)]
struct Play {
    world: World,
    /// The step that is under way.
    step: usize,
    /// How much of it has passed.
    passed: Duration,
    asked: u32,
}

impl Play {
    /// Plays to the end, or until so many crashes have been injected.
    fn go_on(&mut self, steps: &[Step], injected: u32) {
        while self.world.injected() < injected
            && let Some(step) = steps.get(self.step)
        {
            let over = match step {
                Step::Pass(length) => {
                    self.passed += self.world.run_until_injected(length.saturating_sub(self.passed), injected);
                    self.passed >= *length
                }
                Step::Do(change) => {
                    change(&mut self.world);
                    true
                }
                Step::Insist(key, ask) => self.is_answered(key, ask, injected),
            };
            if over {
                self.step += 1;
                self.passed = Duration::ZERO;
            }
        }
    }

    fn is_answered(&mut self, key: &Key, ask: &Ask, injected: u32) -> bool {
        if self.world.engine.is_none() {
            self.world.run_until_injected(Duration::from_millis(20), injected);
            return false;
        }
        self.asked += 1;
        assert!(self.asked < 100, "{key} was never asked for {ask:?}\n{}", self.world.trace());
        let crashes = self.world.crashes();
        drop(self.world.ask(key, ask.clone()));
        self.world.run_until_injected(Duration::from_millis(1), injected);
        self.world.crashes() == crashes
    }
}

impl Scenario {
    fn begin(self, settings: Settings) -> Play {
        let resync = Some(Duration::from_secs(30));
        let world = (self.begin)(Settings { resync, ..settings });
        Play { world, step: 0, passed: Duration::ZERO, asked: 0 }
    }

    /// Plays it to its end and judges it.
    fn finish(self, mut play: Play, what: &str) -> World {
        play.go_on(&(self.steps)(), u32::MAX);
        let mut world = play.world;
        let done = world.effects_done();
        world.run_for(Duration::from_secs(30));
        assert_eq!(world.effects_done(), done, "{what}: something is done although all is at rest\n{}", world.trace());
        let found = world.check_at_rest();
        let shown: Vec<String> = found.iter().take(5).map(ToString::to_string).collect();
        assert!(found.is_empty(), "{what}: {shown:#?}\n{}", world.trace());
        (self.judge)(&mut world, what);
        world
    }

    fn cuts(self) -> u64 {
        let cuts = self.finish(self.begin(Settings::default()), "without a crash").cuts();
        assert!(cuts > 40, "{cuts} cuts");
        cuts
    }

    /// A crash at each cut, and a second one at each cut of the recovery; the work is shared out over `parts`.
    fn crash_everywhere(self, part: u64, parts: u64) {
        let steps = (self.steps)();
        for at in (0..self.cuts()).filter(|at| at % parts == part) {
            let mut crashed = self.begin(Settings { crash_at: Some(at), ..Settings::default() });
            crashed.go_on(&steps, 1);
            let what = format!("a crash at cut {at}");
            assert_eq!(crashed.world.injected(), 1, "{what}");
            let recovery = self.finish(crashed.clone(), &what).recovery();
            assert!(recovery.is_some(), "{what}: never at rest again\n{}", crashed.world.trace());
            for again in 0..recovery.unwrap_or(0) {
                let what = format!("{what}, and again at cut {again} of the recovery");
                let mut play = crashed.clone();
                play.world.settings.crash_again_at = Some(again);
                assert_eq!(self.finish(play, &what).injected(), 2, "{what}");
            }
        }
    }

    /// A loss of power at each cut.
    fn fail_power_everywhere(self) {
        for at in 0..self.cuts() {
            let settings = Settings { crash_at: Some(at), power_fails: true, ..Settings::default() };
            let world = self.finish(self.begin(settings), &format!("power fails at cut {at}"));
            assert_eq!(world.injected(), 1);
        }
    }
}

#[test]
fn every_kind_of_effect_is_cut_in_some_scenario() {
    let mut effects = [0; EFFECT_KINDS.len()];
    for scenario in ALL {
        let world = scenario.finish(scenario.begin(Settings::default()), "without a crash");
        effects.iter_mut().zip(world.effects()).for_each(|(sum, count)| *sum += count);
    }
    let never: Vec<&str> =
        EFFECT_KINDS.iter().zip(effects).filter(|(_, count)| *count == 0).map(|(kind, _)| *kind).collect();
    assert!(never.is_empty(), "no scenario has an effect of these kinds: {never:?}");
}

#[test]
fn l5_what_files_do_comes_right_after_any_two_crashes() {
    declared::SCENARIO.crash_everywhere(0, 1);
}

#[test]
fn l5_what_was_asked_for_comes_right_after_any_two_crashes_1_of_2() {
    asked::SCENARIO.crash_everywhere(0, 2);
}

#[test]
fn l5_what_was_asked_for_comes_right_after_any_two_crashes_2_of_2() {
    asked::SCENARIO.crash_everywhere(1, 2);
}

#[test]
fn l5_what_fails_comes_right_after_any_two_crashes() {
    failing::SCENARIO.crash_everywhere(0, 1);
}

#[test]
fn l5_what_fails_again_and_again_comes_right_after_any_two_crashes_1_of_2() {
    looping::SCENARIO.crash_everywhere(0, 2);
}

#[test]
fn l5_what_fails_again_and_again_comes_right_after_any_two_crashes_2_of_2() {
    looping::SCENARIO.crash_everywhere(1, 2);
}

#[test]
fn l5_what_is_in_the_way_comes_right_after_any_two_crashes_1_of_2() {
    blocked::SCENARIO.crash_everywhere(0, 2);
}

#[test]
fn l5_what_is_in_the_way_comes_right_after_any_two_crashes_2_of_2() {
    blocked::SCENARIO.crash_everywhere(1, 2);
}

#[test]
fn l5_every_scenario_comes_right_after_a_loss_of_power_anywhere() {
    for scenario in ALL {
        scenario.fail_power_everywhere();
    }
}

/// Where each key has to stand in the end; `None` is nowhere.
fn assert_states(world: &World, what: &str, states: &[(Key, Option<ProcessState>)]) {
    for (key, state) in states {
        let status = world.status(key);
        assert_eq!(status.as_ref().map(|status| status.state), *state, "{what}: {key}\n{}", world.trace());
    }
}
