//! When somebody is killed, and who.

use super::Chaos;
use crate::world::dice::Dice;
use crate::world::wait::{pause, wait_for};
use crate::world::{Daemon, alive, signal};
use std::fs;
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
        let spawner = spawner(daemon.pid());
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
                self.killed("spawner");
                signal(spawner, "KILL");
                return Some(daemon);
            }
            Moment::SpawnerFirst => {
                self.killed("spawner");
                self.killed("launcher after its spawner");
                signal(spawner, "KILL");
                pause(self.dice.shorter_than(Duration::from_millis(5)));
            }
            Moment::LauncherFirst => {
                self.killed("launcher at work");
                self.killed("spawner");
                signal(daemon.pid(), "KILL");
                signal(spawner, "KILL");
            }
        }
        daemon.kill();
        None
    }
}

/// The process that makes the others. The children that it has just made look like it, but are younger.
fn spawner(launcher: i32) -> i32 {
    wait_for("there is a spawner", || {
        let pids =
            fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let made_by = |pid: i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let fields: Vec<&str> = stat.rsplit(") ").next()?.split(' ').collect();
            let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let is_it = fields[1] == launcher.to_string() && command.ends_with(b"\0__spawner\0");
            is_it.then(|| (fields[19].parse::<u64>().unwrap(), pid))
        };
        pids.filter_map(made_by).min().map(|(_, pid)| pid)
    })
}
