//! The launcher as a library: what a program asks of the launcher it embeds, in its own name.

use super::Launcher;
use crate::control::{Explanation, LaunchSpec, Launched, Suspend, Termination, Update, Updated, Wait};
use crate::error::Result;
use crate::metrics::MetricsSnapshot;
use crate::model::{Caller, Key, KeyStatus};
use crate::reconciler::Happening;
use std::sync::Arc;
use tokio::sync::broadcast;

/// In whose name.
const BY: Caller = Caller::Program;

impl Launcher {
    /// Gets the process that `spec` names, or creates it, and waits until it is healthy; see
    /// [`crate::control::Control::launch`].
    ///
    /// # Errors
    /// As there.
    pub async fn launch(&self, spec: LaunchSpec) -> Result<Launched> {
        self.control.launch(&spec, &BY).await
    }

    /// Ends what was launched, and waits until its whole process tree is gone; see
    /// [`crate::control::Control::terminate`].
    ///
    /// # Errors
    /// As there.
    pub async fn terminate(&self, key: &Key, how: Termination) -> Result<()> {
        self.control.terminate(key, how, &BY).await
    }

    /// Everything that is declared, in the order of the process ids.
    pub fn list(&self) -> Vec<Arc<KeyStatus>> {
        self.control.list()
    }

    /// Where a key stands; `None` for one that nobody declares and of which nothing lives.
    pub fn status(&self, key: &Key) -> Option<Arc<KeyStatus>> {
        self.control.status(key)
    }

    /// Why a key is as it is.
    pub fn explain(&self, key: &Key) -> Explanation {
        self.control.explain(key)
    }

    /// What was counted and measured since this launcher was started: `metrics().launch_duration.p95` and so on.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.control.metrics()
    }

    /// The metrics in the text format of Prometheus.
    pub fn export_prometheus(&self) -> String {
        self.control.prometheus()
    }

    /// The metrics as JSON.
    pub fn export_json(&self) -> String {
        self.control.metrics().json()
    }

    /// What happens from now on. Who is more than 4,096 events behind is told how many were missed.
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Happening>> {
        self.control.subscribe()
    }

    /// Stops an instance visibly; see [`crate::control::Control::suspend`].
    ///
    /// # Errors
    /// As there.
    pub async fn suspend(&self, key: &Key, how: Suspend, wait: Wait) -> Result<Arc<KeyStatus>> {
        self.control.suspend(key, how, wait, &BY).await
    }

    /// Ends a suspension; see [`crate::control::Control::resume`].
    ///
    /// # Errors
    /// As there.
    pub async fn resume(&self, key: &Key, wait: Wait) -> Result<Arc<KeyStatus>> {
        self.control.resume(key, wait, &BY).await
    }

    /// Ends a process and starts another; see [`crate::control::Control::restart`].
    ///
    /// # Errors
    /// As there.
    pub async fn restart(&self, key: &Key, wait: Wait) -> Result<Arc<KeyStatus>> {
        self.control.restart(key, wait, &BY).await
    }

    /// Forgets failures and closes a circuit; see [`crate::control::Control::reset`].
    ///
    /// # Errors
    /// As there.
    pub async fn reset(&self, key: &Key) -> Result<Arc<KeyStatus>> {
        self.control.reset(key, &BY).await
    }

    /// Changes what was launched; see [`crate::control::Control::update`].
    ///
    /// # Errors
    /// As there.
    pub async fn update(&self, key: &Key, change: Update, wait: Wait) -> Result<Updated> {
        self.control.update(key, change, wait, &BY).await
    }

    /// Gives up a process whose identity cannot be verified; see [`crate::control::Control::abandon`].
    ///
    /// # Errors
    /// As there.
    pub async fn abandon(&self, key: &Key) -> Result<String> {
        self.control.abandon(key, &BY).await
    }
}
