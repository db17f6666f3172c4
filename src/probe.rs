//! Asking processes for their health: one worker per probed run.

use crate::model::{HealthCheck, Instance, Key, Moment, Ports, RunId};
use crate::observed::Event;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Probes runs, and sends each outcome as an event.
#[derive(Debug)]
pub struct Prober {}

impl Prober {
    /// A prober that reports to `events`. Exec probes inherit `inherited_env` as processes do; `clock` tells the time,
    /// sleep and suspension included. Must be called within a tokio runtime.
    pub fn new(
        events: mpsc::Sender<Event>,
        inherited_env: BTreeMap<String, String>,
        clock: impl Fn() -> Moment + Send + Sync + 'static,
    ) -> Self {
        drop((events, inherited_env, clock));
        unimplemented!()
    }

    /// Begins to probe a run, in place of any probe of it: quickly until it has been healthy, then at the interval.
    pub fn begin(&mut self, key: Key, run: RunId, check: HealthCheck, instance: Arc<Instance>, ports: Ports) {
        drop((key, run, check, instance, ports));
        unimplemented!()
    }

    /// Stops probing a run; a probe under way is given up.
    pub fn end(&mut self, key: &Key, run: RunId) {
        let _ = (key, run);
        unimplemented!()
    }
}
