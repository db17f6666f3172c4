//! The launcher as a library: what a program asks of the launcher it embeds, in its own name.

use super::Launcher;
use crate::control::{
    Explanation, LaunchSpec, Launched, Logs, LogsWanted, Suspend, Termination, Update, Updated, Wait,
};
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
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// let process = launcher.launch(pattern_launcher::LaunchSpec::new("consumer").namespace("tenant-a")).await?;
    /// println!("{} at {:?}", process.process_id(), process.address());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub async fn launch(&self, spec: LaunchSpec) -> Result<Launched> {
        self.control.launch(&spec, &BY).await
    }

    /// Ends what was launched, and waits until its whole process tree is gone; see
    /// [`crate::control::Control::terminate`].
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// launcher.terminate(key, pattern_launcher::control::Termination::graceful()).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub async fn terminate(&self, key: &Key, how: Termination) -> Result<()> {
        self.control.terminate(key, how, &BY).await
    }

    /// Everything that is declared, in the order of the process ids.
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// for status in launcher.list() {
    ///     println!("{} is {}", status.process_id, status.state.as_str());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list(&self) -> Vec<Arc<KeyStatus>> {
        self.control.list()
    }

    /// Where a key stands; `None` for one that nobody declares and of which nothing lives.
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// let healthy = launcher.status(key).is_some_and(|status| status.healthy);
    /// # Ok(())
    /// # }
    /// ```
    pub fn status(&self, key: &Key) -> Option<Arc<KeyStatus>> {
        self.control.status(key)
    }

    /// Begins to read what a process printed; see [`crate::control::Control::logs`].
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// let mut logs = launcher.logs(key, pattern_launcher::control::LogsWanted::default()).await?;
    /// while let Some(piece) = logs.next().await? {
    ///     println!("{}", String::from_utf8_lossy(&piece.data));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub async fn logs(&self, key: &Key, wanted: LogsWanted) -> Result<Logs> {
        self.control.logs(key, wanted).await
    }

    /// The last lines of the run that failed last; see [`crate::control::Control::last_lines`].
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// println!("{}", launcher.last_lines(key).await?.join("\n"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub async fn last_lines(&self, key: &Key) -> Result<Vec<String>> {
        self.control.last_lines(key).await
    }

    /// Why a key is as it is.
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// println!("{}", launcher.explain(key).await.lines.join("\n"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn explain(&self, key: &Key) -> Explanation {
        self.control.explain(key).await
    }

    /// What was counted and measured since this launcher was started: `metrics().launch_duration.p95` and so on.
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// println!("{} s", launcher.metrics().launch_duration.p95);
    /// # Ok(())
    /// # }
    /// ```
    pub fn metrics(&self) -> MetricsSnapshot {
        self.control.metrics()
    }

    /// The metrics in the text format of Prometheus.
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// assert!(launcher.export_prometheus().contains("pattern_launcher_uptime_seconds"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn export_prometheus(&self) -> String {
        self.control.prometheus()
    }

    /// The metrics as JSON.
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// assert!(launcher.export_json().starts_with('{'));
    /// # Ok(())
    /// # }
    /// ```
    pub fn export_json(&self) -> String {
        self.control.json()
    }

    /// What happens from now on. Who is more than 4,096 events behind is told how many were missed.
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// let mut events = launcher.subscribe();
    /// while let Ok(event) = events.recv().await {
    ///     println!("{}: {} ({})", event.key, event.message, event.reason);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<Happening>> {
        self.control.subscribe()
    }

    /// Stops an instance visibly; see [`crate::control::Control::suspend`].
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// use pattern_launcher::control::{Suspend, Wait};
    /// let why = Suspend { reason: "disk replacement".to_owned(), lasting: None };
    /// launcher.suspend(key, why, Wait::ForOutcome).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub async fn suspend(&self, key: &Key, how: Suspend, wait: Wait) -> Result<Arc<KeyStatus>> {
        self.control.suspend(key, how, wait, &BY).await
    }

    /// Ends a suspension; see [`crate::control::Control::resume`].
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// launcher.resume(key, pattern_launcher::control::Wait::ForOutcome).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub async fn resume(&self, key: &Key, wait: Wait) -> Result<Arc<KeyStatus>> {
        self.control.resume(key, wait, &BY).await
    }

    /// Ends a process and starts another; see [`crate::control::Control::restart`].
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// launcher.restart(key, pattern_launcher::control::Wait::ForOutcome).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub async fn restart(&self, key: &Key, wait: Wait) -> Result<Arc<KeyStatus>> {
        self.control.restart(key, wait, &BY).await
    }

    /// Forgets failures and closes a circuit; see [`crate::control::Control::reset`].
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// launcher.reset(key).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub async fn reset(&self, key: &Key) -> Result<Arc<KeyStatus>> {
        self.control.reset(key, &BY).await
    }

    /// Changes what was launched; see [`crate::control::Control::update`].
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// use pattern_launcher::control::{Update, Updated, Wait};
    /// use std::time::Duration;
    /// let change = Update { grace_period: Some(Duration::from_secs(60)), ..Update::default() };
    /// assert!(matches!(launcher.update(key, change, Wait::ForOutcome).await?, Updated::Applied(_)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub async fn update(&self, key: &Key, change: Update, wait: Wait) -> Result<Updated> {
        self.control.update(key, change, wait, &BY).await
    }

    /// Gives up a process whose identity cannot be verified; see [`crate::control::Control::abandon`].
    ///
    /// ```no_run
    /// # async fn f(launcher: &pattern_launcher::Launcher, key: &pattern_launcher::model::Key) -> pattern_launcher::Result<()> {
    /// println!("given up: {}", launcher.abandon(key).await?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As there.
    pub async fn abandon(&self, key: &Key) -> Result<String> {
        self.control.abandon(key, &BY).await
    }
}
