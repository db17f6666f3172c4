//! When somebody is killed, and who.

use super::Chaos;
use crate::world::dice::Dice;
use crate::world::processes::spawner_of;
use crate::world::wait::pause;
use crate::world::{Daemon, alive, signal};
use std::time::Duration;

/// When somebody is killed, and who.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment {
    /// The launcher, when nothing is under way.
    AtRest,
    /// The launcher, in the middle of what happens.
    Busy,
    /// The launcher, while it ends because it was asked to.
    Leaving,
    /// The spawner.
    Spawner,
    /// Both, the spawner first.
    SpawnerFirst,
    /// Both, the launcher first.
    LauncherFirst,
}

impl Moment {
    pub(super) fn any(dice: &mut Dice) -> Self {
        match dice.below(12) {
            0 => Self::AtRest,
            1..=5 => Self::Busy,
            6 | 7 => Self::Leaving,
            8 | 9 => Self::Spawner,
            10 => Self::SpawnerFirst,
            _ => Self::LauncherFirst,
        }
    }
}

/// How long things are under way: as long as a start takes, as a batch of them, or as files need to hold still.
pub(super) fn any_delay(dice: &mut Dice) -> Duration {
    let limit = [3, 60, 1_200][dice.index(3)];
    dice.shorter_than(Duration::from_millis(limit))
}

impl Chaos<'_> {
    /// Kills; gives the launcher back where it is none of the killed.
    pub(super) fn kill(&mut self, moment: Moment, daemon: Daemon) -> Option<Daemon> {
        // One that was killed is replaced only when something is to be started.
        let spawner = spawner_of(daemon.pid());
        let kill_spawner = || spawner.into_iter().for_each(|pid| signal(pid, "KILL"));
        match moment {
            Moment::AtRest => self.killed("launcher at rest"),
            Moment::Busy => self.killed("launcher at work"),
            Moment::Leaving => {
                daemon.signal("TERM");
                pause(self.dice.shorter_than(Duration::from_millis(30)));
                if alive(daemon.pid()) {
                    self.killed("launcher while it left");
                } else {
                    self.happened("launcher had left");
                }
            }
            Moment::Spawner => {
                self.spawner_killed(spawner);
                kill_spawner();
                return Some(daemon);
            }
            Moment::SpawnerFirst => {
                self.spawner_killed(spawner);
                self.killed("launcher after its spawner");
                kill_spawner();
                pause(self.dice.shorter_than(Duration::from_millis(5)));
            }
            Moment::LauncherFirst => {
                self.killed("launcher at work");
                self.spawner_killed(spawner);
                signal(daemon.pid(), "KILL");
                kill_spawner();
            }
        }
        daemon.kill();
        None
    }

    fn spawner_killed(&mut self, spawner: Option<i32>) {
        if spawner.is_some() {
            self.killed("spawner");
        }
    }
}
