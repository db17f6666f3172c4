//! Processes that look like instances and are none.

use super::model;
use crate::world::command::program;
use crate::world::dice::Dice;
use crate::world::{World, processes};
use std::process::{Child, Stdio};

/// How many there are.
const COUNT: usize = 5;

/// Processes of somebody else: the program of an instance, with its whole environment, in a session of their own.
#[derive(Default)]
pub(super) struct Strangers(Vec<Child>);

impl Strangers {
    /// Starts some that look like instances which run.
    pub(super) fn like_those_of(world: &World, dice: &mut Dice) -> Self {
        let live: Vec<i32> = world.processes(model::PATTERN).into_values().flatten().collect();
        let like = |pid: i32| {
            let mut environment = processes::environment(pid);
            if world.cgroup().is_none() {
                eprintln!("without a cgroup RUN_ID is part of what tells a tree: strangers are without it");
                environment.remove("RUN_ID");
            }
            let mut command = program("setsid");
            command.arg(world.program(model::PATTERN)).env_clear().envs(environment).stdin(Stdio::null());
            command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
            command.spawn().unwrap()
        };
        Self((0..COUNT).map(|_| like(live[dice.index(live.len())])).collect())
    }

    pub(super) fn are(&self, pid: i32) -> bool {
        self.0.iter().any(|child| child.id() == pid.unsigned_abs())
    }

    /// Fails the test unless all of them live.
    pub(super) fn assert_untouched(&mut self) {
        for child in &mut self.0 {
            let ended = child.try_wait().unwrap();
            assert!(ended.is_none(), "a stranger was touched: {ended:?}");
        }
    }

    pub(super) fn end(&mut self) {
        self.assert_untouched();
        for mut child in self.0.drain(..) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Strangers {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
