//! The turns of the store: when it looks, and when it writes.

use super::journal::Journal;
use super::pass::{Pass, Ran};
use super::request::Write;
use super::writing::Wrote;
use super::{AFTER_WRITING, BATCH, Command, Delivery, Inbox, LONGEST_PAUSE, PAUSE, StoreSettings, blocking};
use std::pin::Pin;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Sleep, sleep};

/// What the store does next.
enum Turn {
    Look,
    Write(Vec<Write>),
    Reconfigure(Box<StoreSettings>),
    End,
}

/// What the store was woken by.
enum Woken {
    Rested,
    Noticed,
    Command(Option<Command>),
    Write(Option<Box<Write>>),
    /// Nobody takes what it would say.
    Alone,
}

/// When it looks again.
struct Pace {
    /// Until this is over it does not look, whatever is noticed.
    rest: Pin<Box<Sleep>>,
    /// When it looks although nothing is noticed.
    again: Pin<Box<Sleep>>,
    rested: bool,
    wanted: bool,
}

impl Pace {
    fn after(ran: &Ran) -> Self {
        Self {
            rest: Box::pin(sleep((ran.took * 2).clamp(PAUSE, LONGEST_PAUSE))),
            again: Box::pin(sleep(ran.again)),
            rested: false,
            wanted: false,
        }
    }

    /// It looks within this time.
    fn within(&mut self, time: Duration) {
        let sooner = sleep(time);
        if sooner.deadline() < self.again.deadline() {
            self.again.set(sooner);
        }
    }

    /// It looks before anything else.
    fn now(&mut self) {
        self.rested = true;
        self.wanted = true;
    }

    async fn next(&mut self, events: &Notify, inbox: &mut Inbox, deliveries: &mpsc::Sender<Delivery>) -> Turn {
        loop {
            if self.rested && self.wanted {
                return Turn::Look;
            }
            if !inbox.backlog.is_empty() {
                return Turn::Write(inbox.batch(None));
            }
            // Each arm may be dropped without loss: a permit, a command and a write stay where they are until they are
            // taken, the two sleeps go on, and a loop that has ended stays so.
            let woken = tokio::select! {
                () = &mut self.rest, if !self.rested => Woken::Rested,
                () = events.notified(), if !self.wanted => Woken::Noticed,
                () = &mut self.again, if !self.wanted => Woken::Noticed,
                command = inbox.commands.recv() => Woken::Command(command),
                write = inbox.writes.recv() => Woken::Write(write.map(Box::new)),
                () = deliveries.closed() => Woken::Alone,
            };
            match woken {
                Woken::Rested => self.rested = true,
                Woken::Noticed | Woken::Command(Some(Command::Poke)) => self.wanted = true,
                Woken::Command(Some(Command::Reconfigure(settings))) => return Turn::Reconfigure(settings),
                Woken::Write(Some(write)) => return Turn::Write(inbox.batch(Some(*write))),
                Woken::Command(None) | Woken::Write(None) | Woken::Alone => return Turn::End,
            }
        }
    }
}

impl Inbox {
    /// All that waits, as far as one batch takes it, the oldest first.
    fn batch(&mut self, first: Option<Write>) -> Vec<Write> {
        let mut batch: Vec<Write> = self.backlog.drain(..self.backlog.len().min(BATCH)).collect();
        batch.extend(first);
        while batch.len() < BATCH {
            let Ok(write) = self.writes.try_recv() else { break };
            batch.push(write);
        }
        batch
    }
}

/// What is done on a thread that may block; `None` when the store is to look next.
type Work = Box<dyn FnOnce(&mut Pass) -> Option<Wrote> + Send>;

/// Looks and writes until the last handle is dropped or the loop ends.
pub(super) async fn run(mut pass: Pass, mut inbox: Inbox, deliveries: mpsc::Sender<Delivery>) {
    let events = pass.wake();
    let mut journal = Journal::default();
    loop {
        let Some((returned, ran)) = blocking(move || (pass.run(), pass)).await.map(|(ran, pass)| (pass, ran)) else {
            return;
        };
        pass = returned;
        let mut pace = Pace::after(&ran);
        if let Some(change) = ran.change {
            let delivery = Delivery { change: Some(change), answers: Vec::new() };
            if !deliver(delivery, &mut journal, &deliveries).await {
                return;
            }
        }
        loop {
            let work: Work = match pace.next(&events, &mut inbox, &deliveries).await {
                Turn::Look => break,
                Turn::Write(batch) => Box::new(move |pass| Some(pass.write(batch))),
                Turn::Reconfigure(settings) => Box::new(move |pass| {
                    pass.reconfigure(*settings);
                    None
                }),
                Turn::End => return,
            };
            let Some((returned, wrote)) = blocking(move || (work(&mut pass), pass)).await.map(|(w, pass)| (pass, w))
            else {
                return;
            };
            pass = returned;
            let Some(Wrote { delivery, backlog, look }) = wrote else { break };
            inbox.backlog.extend(backlog);
            if !deliver(delivery, &mut journal, &deliveries).await {
                return;
            }
            pace.within(AFTER_WRITING);
            if look {
                pace.now();
            }
        }
    }
}

/// Logs what is news and sends it to the loop. False when the loop has ended.
async fn deliver(delivery: Delivery, journal: &mut Journal, deliveries: &mpsc::Sender<Delivery>) -> bool {
    if let Some(change) = &delivery.change {
        journal.note(change);
    }
    deliveries.send(delivery).await.is_ok()
}
