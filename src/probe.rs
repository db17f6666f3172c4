//! Asking processes for their health: one worker for each probed run.
//!
//! A worker asks quickly until its process has been healthy once, then at the interval. It only reports: thresholds,
//! and what follows from an outcome, are the planner's. What keeps one tenant's slow answers from being felt by
//! another: a worker has at most one probe under way, and a namespace at most a quarter of all there may be.
//!
//! Deliberately absent: a connection that is kept. Each probe opens its own, as the kubelet's do, so that it finds out
//! whether connections are accepted, and a server that closes an idle one at the wrong moment is not taken for ill.

mod exec;
mod grpc;
mod http;
mod pace;
mod target;
mod tcp;
mod thread;
mod watch;
mod worker;

pub use exec::ProbeChildren;

use crate::error::Result;
use crate::model::{Confinement, HealthCheck, Instance, Key, Mask, Moment, Ports, RunId};
use crate::observed::Event;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use target::Target;
use thread::ProbeThread;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::task::AbortOnDropHandle;
use watch::Clock;
use worker::{Slots, Worker};

/// The most probes under way at once. Each holds a file descriptor or two, of which a process has 1,024 unless it is
/// given more, and lasts well under a millisecond unless the one asked is slow.
const IN_FLIGHT: usize = 256;
/// The most probes of one namespace under way at once, so that slow answers of one leave room for the others.
const IN_FLIGHT_PER_NAMESPACE: usize = IN_FLIGHT / 4;

/// What is probed.
#[derive(Debug)]
pub struct Probed {
    /// From what it was started.
    pub instance: Arc<Instance>,
    /// Where it listens.
    pub ports: Ports,
    /// The variables that it was given before its own, which exec probes get too.
    pub inherited: BTreeMap<String, String>,
    /// As whom it runs, and exec probes with it.
    pub confinement: Confinement,
    /// What it must not be quoted with.
    pub mask: Mask,
    /// Whether it is the process itself that answers.
    pub rightful: Rightful,
}

type Asking = Pin<Box<dyn Future<Output = Option<String>> + Send>>;

/// Asks whether what has answered is the process itself, or else in words who.
#[derive(Clone)]
pub struct Rightful(Arc<dyn Fn() -> Asking + Send + Sync>);

impl Rightful {
    /// By this way of asking.
    pub fn new(ask: impl Fn() -> Asking + Send + Sync + 'static) -> Self {
        Self(Arc::new(ask))
    }

    async fn ask(&self) -> Option<String> {
        (self.0)().await
    }
}

impl fmt::Debug for Rightful {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rightful")
    }
}

/// Probes runs, and sends each outcome as [`Event::Probed`].
pub struct Prober {
    events: mpsc::Sender<Event>,
    clock: Clock,
    children: Arc<ProbeChildren>,
    all: Arc<Semaphore>,
    namespaces: HashMap<String, Weak<Semaphore>>,
    workers: HashMap<(Key, RunId), AbortOnDropHandle<()>>,
    thread: ProbeThread,
}

impl fmt::Debug for Prober {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prober").field("probed", &self.workers.keys()).finish_non_exhaustive()
    }
}

impl Prober {
    /// A prober that reports to `events`; `clock` tells the time, sleep and suspension included.
    ///
    /// # Errors
    /// `INTERNAL_ERROR` when there can be no thread for it.
    pub fn new(events: mpsc::Sender<Event>, clock: impl Fn() -> Moment + Send + Sync + 'static) -> Result<Self> {
        Ok(Self {
            events,
            clock: Arc::new(clock),
            children: Arc::default(),
            all: Arc::new(Semaphore::new(IN_FLIGHT)),
            namespaces: HashMap::new(),
            workers: HashMap::new(),
            thread: ProbeThread::start()?,
        })
    }

    /// Begins to probe a run, in place of any probe of it: quickly until it has been healthy, then at the interval.
    pub fn begin(&mut self, key: Key, run: RunId, check: HealthCheck, probed: Probed) {
        let children = Arc::clone(&self.children);
        // Whatever the level is now, it may be changed later, and then what is logged should say what it is about.
        let span = tracing::error_span!("probe", %key, %run);
        let worker = Worker {
            rightful: probed.rightful.clone(),
            target: Target::new(&check.target, probed, run, children),
            slots: Slots { namespace: self.namespace(key.namespace()), all: Arc::clone(&self.all) },
            key: key.clone(),
            run,
            check,
            events: self.events.clone(),
            clock: Arc::clone(&self.clock),
            span,
        };
        let working = self.thread.runtime().spawn(worker.work());
        self.workers.insert((key, run), AbortOnDropHandle::new(working));
    }

    /// Stops probing a run; a probe under way is given up, and the process of an exec probe is killed.
    pub fn end(&mut self, key: &Key, run: RunId) {
        drop(self.workers.remove(&(key.clone(), run)));
    }

    /// The processes of exec probes: children of this process that whoever reaps orphans must leave alone.
    pub fn children(&self) -> Arc<ProbeChildren> {
        Arc::clone(&self.children)
    }

    fn namespace(&mut self, namespace: &str) -> Arc<Semaphore> {
        if let Some(slots) = self.namespaces.get(namespace).and_then(Weak::upgrade) {
            return slots;
        }
        self.namespaces.retain(|_, slots| slots.strong_count() > 0);
        let slots = Arc::new(Semaphore::new(IN_FLIGHT_PER_NAMESPACE));
        self.namespaces.insert(namespace.to_owned(), Arc::downgrade(&slots));
        slots
    }
}

#[cfg(test)]
mod tests;
