//! The loop: what happens goes into the engine, what the engine decides is carried out and published.
//!
//! One task owns all state. Triggers only say "look": the engine is told what happened, and decides each key that
//! something happened to once, however much it was. Nothing here waits for anything that is being done.

pub mod board;
pub mod chronicle;
mod convergence;
mod dice;
/// All state of all keys, without I/O.
pub mod engine;
mod report;
mod tally;

pub use board::{Board, LastProbe, Subscription};
pub use chronicle::{Chronicle, Happening};
pub use dice::SystemDice;

use crate::act::{Host, StatusUpdate, StatusWriter, clock};
use crate::desired::{Delivery, StoreHandle};
use crate::error::Result;
use crate::metrics::Metrics;
use crate::model::{DesiredStatus, Key, Moment, Policy, RunId};
use crate::observed::{Asked, Event};
use crate::plan::Effect;
use board::KeyChange;
use convergence::Convergence;
use engine::Engine;
use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tally::Tally;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior};

/// Events taken in before a decision: enough that a burst costs few decisions, few enough that one takes a millisecond.
const EVENTS_PER_TURN: usize = 256;
/// How often the loop turns when nothing happens, so that a loop that stands still can be told from one at rest.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Longer than this between two turns is more than a busy machine makes it: the launcher was stopped, or slept.
const AWAY: Duration = Duration::from_secs(3);

/// Requests taken in before a decision, for the same reason.
const REQUESTS_PER_TURN: usize = 256;

/// What the loop is asked for.
#[derive(Debug)]
pub enum Request {
    /// Do something about one key.
    Ask {
        /// What, about which key, and who asks.
        asked: Asked,
        /// What [`Engine::ask`] answered, once it is decided and what changed is published.
        answer: oneshot::Sender<Result<Option<RunId>>>,
    },
    /// Take over other settings.
    Retune {
        /// Restarts, circuits, admission, ports.
        policy: Policy,
        /// How often every key is looked at.
        resync: Duration,
    },
    /// End every process, each with its own grace period, then return. Asked again, end them at once; asked a third
    /// time, leave what will not end.
    Terminate,
    /// Return and leave every process as it is.
    Detach,
}

/// What the loop works with.
#[derive(Debug)]
pub struct Reconciler {
    /// All state of all keys; what the last launcher left has been restored into it.
    pub engine: Engine,
    /// Carries out effects.
    pub host: Host,
    /// What anyone may read.
    pub board: Arc<Board>,
    /// What scripts read.
    pub status: StatusWriter,
    /// From the host.
    pub events: mpsc::Receiver<Event>,
    /// From the store.
    pub desired: mpsc::Receiver<Delivery>,
    /// The store, which is asked to remove what has expired.
    pub store: StoreHandle,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Gives the time of day as RFC 3339, for what happened.
    pub wall_time: fn() -> String,
    /// How often every key is looked at.
    pub resync: Duration,
}

/// What a loop that has ended leaves to be wound up.
#[derive(Debug)]
pub struct Remains {
    /// To be shut down: it leaves every process as it is.
    pub host: Host,
    /// To be finished.
    pub status: StatusWriter,
    /// Who has gone silent, which is a defect and is why the loop ended. Every process was left as it is.
    pub silent: Option<&'static str>,
}

/// How far the ending of the processes has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    No,
    Graceful,
    Hastened,
}

/// Why the loop turns.
enum Turn {
    Request(Option<Request>),
    Desired(Option<Delivery>),
    Event(Option<Event>),
    Wake,
    Heartbeat,
    Resync,
}

impl Reconciler {
    /// Runs until it is asked to end. Gives back what has to be wound up.
    pub async fn run(self, mut requests: mpsc::Receiver<Request>) -> Remains {
        let Self { engine, host, board, status, mut events, mut desired, store, metrics, wall_time, resync } = self;
        let mut resync = every(resync);
        let mut heartbeat = every(HEARTBEAT);
        let convergence = Convergence::default();
        let mut desk = Desk {
            engine,
            host,
            board,
            status,
            store,
            wall_time,
            tally: Tally::new(metrics),
            convergence,
            dice: SystemDice,
            ending: Ending::No,
            resync: None,
            silent: None,
            last_turn: clock::now(),
        };
        desk.board.set_ceilings(&desk.engine.policy().ceilings);
        desk.settle();
        desk.board.set_adopted();
        loop {
            let now = clock::now();
            let wake = desk.engine.next_wake(now).map(|at| now.until(at));
            // In no order: what clients ask for must not keep what happens waiting, nor the other way round.
            let turn = tokio::select! {
                // Receiving from a channel is cancel-safe: what is not taken stays in the channel.
                request = requests.recv() => Turn::Request(request),
                // As above.
                delivery = desired.recv() => Turn::Desired(delivery),
                // As above.
                event = events.recv() => Turn::Event(event),
                // A sleep holds nothing, and is made anew from the deadline in every turn.
                () = sleep(wake) => Turn::Wake,
                // An interval keeps its next tick when it is not waited for.
                _ = resync.tick() => Turn::Resync,
                // As above.
                _ = heartbeat.tick() => Turn::Heartbeat,
            };
            desk.note_absence(clock::now());
            let flow = match turn {
                // Nobody can ask for anything any more: whoever asked has gone, and took no decision.
                Turn::Request(None) => ControlFlow::Break(()),
                Turn::Request(Some(first)) => desk.take_requests(first, &mut requests),
                Turn::Desired(delivery) => desk.take_delivery(delivery),
                Turn::Event(event) => desk.take_events(event, &mut events),
                Turn::Resync => {
                    desk.engine.resync();
                    ControlFlow::Continue(())
                }
                Turn::Wake | Turn::Heartbeat => ControlFlow::Continue(()),
            };
            desk.settle();
            if let Some(interval) = desk.resync.take() {
                resync = every(interval);
            }
            if flow.is_break() || desk.is_done() {
                return Remains { host: desk.host, status: desk.status, silent: desk.silent };
            }
        }
    }
}

/// The state of the loop between two turns.
struct Desk {
    engine: Engine,
    host: Host,
    board: Arc<Board>,
    status: StatusWriter,
    store: StoreHandle,
    wall_time: fn() -> String,
    tally: Tally,
    convergence: Convergence,
    dice: SystemDice,
    ending: Ending,
    /// How often every key is to be looked at from now on, when that has just changed.
    resync: Option<Duration>,
    silent: Option<&'static str>,
    last_turn: Moment,
}

impl Desk {
    /// Notices that the launcher was not there for a while, before anything is decided from the time that has passed.
    fn note_absence(&mut self, now: Moment) {
        let span = now.since(self.last_turn);
        self.last_turn = now;
        if span > AWAY {
            let seconds = span.as_secs();
            tracing::warn!(
                seconds,
                "the launcher was stopped, or slept with the machine; nobody is blamed for that time"
            );
            self.engine.was_away(span);
        }
    }

    /// Takes in what is asked for, and answers once it is decided and published.
    fn take_requests(&mut self, first: Request, requests: &mut mpsc::Receiver<Request>) -> ControlFlow<()> {
        let now = clock::now();
        let mut answers = Vec::new();
        let mut flow = ControlFlow::Continue(());
        let mut next = Some(first);
        for _ in 0..REQUESTS_PER_TURN {
            let Some(request) = next.or_else(|| requests.try_recv().ok()) else { break };
            next = None;
            flow = match request {
                Request::Ask { asked, answer } => {
                    answers.push((answer, self.engine.ask(asked, now, &mut self.dice)));
                    ControlFlow::Continue(())
                }
                Request::Retune { policy, resync } => {
                    self.board.set_ceilings(&policy.ceilings);
                    self.engine.set_policy(policy);
                    self.resync = Some(resync);
                    ControlFlow::Continue(())
                }
                Request::Terminate => self.terminate(),
                Request::Detach => ControlFlow::Break(()),
            };
            if flow.is_break() {
                break;
            }
        }
        self.settle();
        for (answer, outcome) in answers {
            // Whoever asked may have gone.
            drop(answer.send(outcome));
        }
        flow
    }

    fn terminate(&mut self) -> ControlFlow<()> {
        self.ending = match self.ending {
            Ending::No => {
                tracing::info!(processes = self.alive(), "ending every process; a second signal ends them at once");
                self.engine.begin_shutdown();
                Ending::Graceful
            }
            Ending::Graceful => {
                tracing::warn!(processes = self.alive(), "ending every process at once");
                self.engine.hasten_shutdown(clock::now());
                Ending::Hastened
            }
            Ending::Hastened => {
                tracing::error!(processes = self.alive(), "leaving what will not end");
                return ControlFlow::Break(());
            }
        };
        ControlFlow::Continue(())
    }

    fn alive(&self) -> usize {
        self.board.statuses().iter().filter(|status| status.pid.is_some()).count()
    }

    fn is_done(&self) -> bool {
        self.ending != Ending::No && self.engine.all_ended()
    }

    fn take_delivery(&mut self, delivery: Option<Delivery>) -> ControlFlow<()> {
        let Some(Delivery { change, answers }) = delivery else {
            tracing::error!(
                "the reading of the desired directories has ended, which is a defect; leaving all as it is"
            );
            return ControlFlow::Break(());
        };
        if let Some(change) = change {
            let (status, now) = (change.status.clone(), clock::now());
            self.engine.handle(Event::Desired(change), now, &mut self.dice);
            // Those who get an answer then find it on the board, and what a status says of a root has been decided on.
            self.settle();
            if let Some(status) = status {
                self.publish_desired(status);
            }
        }
        for answer in answers {
            answer.give();
        }
        ControlFlow::Continue(())
    }

    fn publish_desired(&mut self, status: Arc<DesiredStatus>) {
        self.tally.desired(&status);
        self.board.publish_desired(Arc::clone(&status));
        let ready = status.is_ready();
        self.status.publish(StatusUpdate::Desired(status));
        self.status.publish(StatusUpdate::Ready(ready));
    }

    fn take_events(&mut self, event: Option<Event>, events: &mut mpsc::Receiver<Event>) -> ControlFlow<()> {
        let Some(first) = event else {
            self.silent = Some("the host");
            return ControlFlow::Break(());
        };
        let now = clock::now();
        self.note(&first, now);
        self.engine.handle(first, now, &mut self.dice);
        for _ in 1..EVENTS_PER_TURN {
            let Ok(event) = events.try_recv() else { break };
            self.note(&event, now);
            self.engine.handle(event, now, &mut self.dice);
        }
        ControlFlow::Continue(())
    }

    /// Counts an event, and keeps of it what people may ask for.
    fn note(&mut self, event: &Event, now: Moment) {
        self.tally.event(event);
        if let Event::Probed { key, run, outcome } = event
            && self.board.status(key).is_some()
        {
            self.board.probed(key, LastProbe { run: *run, outcome: outcome.clone(), at: now });
        }
    }

    /// Decides, has it carried out, and publishes what changed.
    fn settle(&mut self) {
        let now = clock::now();
        let mut notes = Vec::new();
        for effect in self.engine.pass(now, &mut self.dice) {
            if let Effect::Note(note) = &effect {
                notes.push(note.clone());
            }
            if let Effect::Failed { key, code } = &effect {
                self.tally.metrics().failed(key, *code);
            }
            if let Effect::Expire { key } = effect {
                self.store.expire(key);
            } else {
                self.host.carry_out(effect);
            }
        }
        let changed = self.engine.take_changed();
        self.publish(&changed, now);
        for note in notes {
            // Whoever hears of it then finds on the board what it speaks of.
            self.board.chronicle().note(&note, now, (self.wall_time)());
        }
        self.board.beat(now);
        self.tally.metrics().reconciled(clock::now().since(now));
        if self.engine.is_complete() && self.ending == Ending::No && self.convergence.reach() {
            tracing::info!(instances = self.engine.keys().count(), "converged: everything declared is as it should be");
        }
    }

    fn publish(&mut self, changed: &BTreeSet<Key>, now: Moment) {
        let mut changes: Vec<KeyChange> = Vec::with_capacity(changed.len());
        for key in changed {
            let (before, after) = (self.board.status(key), self.engine.status(key, now));
            self.convergence.note(key, after.as_ref());
            if before.as_deref() == after.as_ref() {
                continue;
            }
            let conditions_before = before.as_ref().map_or(&[][..], |status| &status.conditions);
            let conditions_after = after.as_ref().map_or(&[][..], |status| &status.conditions);
            report::conditions(key, conditions_before, conditions_after);
            let change = (key.clone(), after.map(Arc::new));
            self.tally.published(before.as_deref(), &change, now);
            changes.push(change);
        }
        if !changes.is_empty() {
            self.board.publish(&changes);
            self.status.publish(StatusUpdate::Keys(changes));
        }
    }
}

/// Ticks from one period on; ticks that were missed, such as while the machine slept, are one.
fn every(period: Duration) -> Interval {
    let mut interval = tokio::time::interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// Waits that long, or for ever.
async fn sleep(wait: Option<Duration>) {
    match wait {
        Some(wait) => tokio::time::sleep(wait).await,
        None => std::future::pending().await,
    }
}
