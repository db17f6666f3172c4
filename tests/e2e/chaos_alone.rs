//! A hundred instances in a world where everything goes wrong at once: files change, clients launch and end, processes
//! crash, and the launcher and its spawner are killed at random moments, also while they start and while they recover.
//!
//! What a process was started from is in what it writes when it begins, so that each start can be told needed or not:
//! it is needed when its key says something new, when the test itself killed its predecessor, or when somebody asked.
//! Everything else is a restart that should not have been, and there must be none.

mod calls;
mod disturb;
mod history;
mod model;
mod moment;
mod rest;
mod strangers;

use crate::world::api::Client;
use crate::world::dice::Dice;
use crate::world::wait::{now, pause, since};
use crate::world::{Daemon, Launch, World};
use calls::{Asked, Calls};
use history::History;
use model::Model;
use moment::Moment;
use std::collections::BTreeMap;
use std::time::Duration;
use strangers::Strangers;

/// Names the moments again that a run of this test printed.
const SEED: &str = "CHAOS_SEED";
/// How often somebody is killed.
const KILLS: &str = "CHAOS_KILLS";
/// Where nobody says how often: a little over a minute.
const FEW_KILLS: u64 = 50;
/// No launcher needs as long as this from its start to being ready, so that every step of it is met.
const STARTUP: Duration = Duration::from_millis(500);

/// The world, what is true of it, and what was done to it.
struct Chaos<'a> {
    world: &'a World,
    dice: Dice,
    model: Model,
    history: History,
    strangers: Strangers,
    /// Kills and other misfortunes, by kind.
    tally: BTreeMap<&'static str, u64>,
    kills: u64,
    /// What was last seen of each key.
    seen: BTreeMap<String, rest::Seen>,
    rests: u64,
}

#[test]
fn nothing_is_lost_and_nothing_doubled_however_often_the_launcher_is_killed() {
    let wanted = std::env::var(KILLS).map_or(FEW_KILLS, |kills| kills.parse().unwrap());
    let begun = now();
    let world = World::for_instances(model::INSTANCES);
    let mut chaos = Chaos {
        world: &world,
        dice: Dice::of_variable(SEED),
        model: Model::begin(&world),
        history: History::of(model::starts(&world)),
        strangers: Strangers::default(),
        tally: BTreeMap::new(),
        kills: 0,
        seen: BTreeMap::new(),
        rests: 0,
    };
    let mut daemon = chaos.begin();
    while chaos.kills < wanted {
        daemon = chaos.round(daemon);
    }
    chaos.end(daemon);
    let (starts, unneeded) = (chaos.history.count(), chaos.history.unneeded().len());
    eprintln!("{} kills in {:?}: {:?}", chaos.kills, since(begun), chaos.tally);
    let rests = chaos.rests;
    eprintln!(
        "{starts} processes were started, {unneeded} of them without need; all was in order at each of {rests} rests"
    );
    assert_eq!(unneeded, 0);
}

impl Chaos<'_> {
    fn launch(&self) -> Launch<'_> {
        // Nothing is forgiven by time, so that every failure can be counted.
        let launch = self.world.launch().flag("--on-exit", "detach");
        launch.flag("--stable-after", "24h").flag("--circuit-retry", "off")
    }

    /// Brings everything up, for the first time.
    fn begin(&mut self) -> Daemon {
        let daemon = self.launch().start();
        let mut calls = Calls::to(self.world);
        for _ in 0..model::LAUNCHED_FIRST {
            self.launch_something(&mut calls);
        }
        self.answers(calls, false);
        self.rest(&daemon);
        self.strangers = Strangers::like_those_of(self.world, &mut self.dice);
        daemon
    }

    /// Things happen, somebody is killed in the middle of them, and the launcher that then runs puts everything right.
    fn round(&mut self, daemon: Daemon) -> Daemon {
        let moment = Moment::any(&mut self.dice);
        let mut calls = Calls::to(self.world);
        if moment != Moment::AtRest {
            for _ in 0..=self.dice.below(8) {
                self.disturb(Some(&mut calls));
            }
            pause(moment::any_delay(&mut self.dice));
        }
        let Some(daemon) = self.kill(moment, daemon) else {
            self.safe();
            self.answers(calls, true);
            return self.recover();
        };
        self.answers(calls, false);
        self.rest(&daemon);
        daemon
    }

    /// Starts the launcher, which may be killed again and again before it is ready.
    fn recover(&mut self) -> Daemon {
        let again = self.dice.below(4);
        for _ in 0..again {
            if self.dice.once_in(2) {
                self.disturb(None);
            }
            let daemon = self.launch().spawn();
            pause(self.dice.shorter_than(STARTUP));
            self.killed("while it started");
            daemon.kill();
            self.safe();
        }
        if self.dice.once_in(2) {
            self.disturb(None);
        }
        let daemon = self.launch().start();
        self.safe();
        self.rest(&daemon);
        daemon
    }

    /// Takes in what became of the calls. While the launcher lives, none may fail.
    fn answers(&mut self, calls: Calls, killed: bool) {
        for (asked, answer) in calls.end() {
            assert!(killed || answer.is_ok(), "{asked:?}: {answer:?}");
            self.model.answered(&asked, answer.is_ok());
            if let (Asked::Terminate { id }, Ok(())) = (&asked, &answer) {
                let left = self.live().remove(id);
                assert!(left.is_none(), "the end of {id} was answered, and {left:?} lives");
            }
        }
    }

    fn killed(&mut self, kind: &'static str) {
        self.kills += 1;
        self.happened(kind);
    }

    fn happened(&mut self, kind: &'static str) {
        *self.tally.entry(kind).or_default() += 1;
    }

    /// Everything is ended, and nothing is left but what is not ours.
    fn end(&mut self, daemon: Daemon) {
        daemon.kill();
        assert!(self.launch().flag("--on-exit", "terminate").start().stop().success());
        assert_eq!(self.live(), BTreeMap::new());
        let records: Vec<_> = std::fs::read_dir(self.world.state().join("runs")).unwrap().collect();
        assert!(records.is_empty(), "{records:?}");
        if let Some(cgroup) = self.world.cgroup() {
            let left: Vec<_> =
                std::fs::read_dir(cgroup).unwrap().flatten().filter(|entry| entry.path().is_dir()).collect();
            assert!(left.is_empty(), "cgroups are left: {left:?}");
        }
        self.strangers.end();
    }
}
