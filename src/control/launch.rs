//! Get or create.

use super::{Control, LaunchSpec};
use crate::act::clock;
use crate::desired::store::Launch;
use crate::error::{Code, Error, Result};
use crate::model::{Caller, Condition, DesiredState, Instance, Key, KeyStatus, Load, Moment, ProcessState};
use crate::observed::Ask;
use crate::plan::Ledger;
use std::sync::Arc;
use std::time::Duration;

/// A key that is declared and ended over and over meanwhile is given up after this many attempts: somebody else is
/// ending it as fast as it is launched.
const ATTEMPTS: usize = 8;
/// The longest wait between two attempts.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a launch came to.
#[derive(Debug, Clone)]
pub struct Launched {
    /// Where the key stands.
    pub status: Arc<KeyStatus>,
    /// Whether this launch declared it; false when it was declared before.
    pub created: bool,
    /// Whether it was declared with other config or slots than this launch names.
    pub config_differs: bool,
}

impl Launched {
    /// Its process id.
    pub fn process_id(&self) -> &Key {
        &self.status.process_id
    }

    /// Where its gRPC listens, once it has a port.
    pub fn address(&self) -> Option<&str> {
        self.status.address.as_deref()
    }

    /// The kernel's id of its process, while it has one.
    pub fn pid(&self) -> Option<i32> {
        self.status.pid
    }
}

impl Control {
    /// Gets the process of the isolation key that `spec` names, or creates it. Any number of callers get one process.
    ///
    /// Waits until the process is healthy, unless it runs already, its circuit opens, or it has finished; with
    /// [`LaunchSpec::no_wait`] only until the launch is on disk.
    ///
    /// # Errors
    /// What is wrong with `spec` (`INVALID_INSTANCE`, `INVALID_ISOLATION_LEVEL`, `MISSING_NAMESPACE`,
    /// `MISSING_SESSION_ID`, `PATTERN_NOT_FOUND`, `INVALID_MANIFEST`), before anything is written; `STORE_UNAVAILABLE`
    /// when it cannot be written down or the launcher ends; `MAX_ERRORS_EXCEEDED` when its circuit is open or opens;
    /// `PROCESS_START_FAILED` when it is stopped or suspended, or is terminated meanwhile; `RESOURCE_LIMIT_EXCEEDED` when
    /// it would be more than its namespace or the launcher may have, before anything is written.
    pub async fn launch(&self, spec: &LaunchSpec, by: &Caller) -> Result<Launched> {
        let begun = clock::now();
        let checked = spec.check()?;
        let patterns = self.patterns();
        if let Ok(key) = patterns.key(&checked)
            && let Some(status) = self.board.status(&key).filter(needs_nothing)
        {
            let names_values = !(checked.config.is_empty() && checked.slots.is_empty());
            let config_differs = names_values && differs(&patterns.resolve_request(&checked)?, &status);
            return Ok(Launched { config_differs, status, created: false });
        }
        let wanted = match patterns.resolve_request(&checked) {
            Ok(wanted) => wanted,
            // The store looks once more: the pattern may have been put there this very moment.
            Err(error) if error.code() == Code::PatternNotFound => {
                let launched = self.store.launch(Launch { spec: checked, by: by.clone() }).await?;
                let created = launched.created;
                self.board.chronicle().audited().await;
                return self.launched(&launched.instance, created, spec, begun).await;
            }
            Err(error) => return Err(error),
        };
        let key = &wanted.key;
        for _ in 0..ATTEMPTS {
            let mut published = self.board.subscribe(key);
            // What is about to end since its file was deleted is written again.
            if let Some(status) = self.board.status(key).filter(|status| is_declared(status)) {
                if needs_nothing(&status) {
                    return Ok(Launched { config_differs: differs(&wanted, &status), status, created: false });
                }
                match self.ask(key, Ask::Launch, by).await {
                    Ok(_) => return self.launched(&wanted, false, spec, begun).await,
                    // It was ended at this very moment, or its ttl is over and its file is about to be removed.
                    Err(error) if error.code() == Code::ProcessNotFound => {}
                    Err(error) => return Err(error),
                }
            }
            self.has_room(&wanted)?;
            let launched = self.store.launch(Launch { spec: checked.clone(), by: by.clone() }).await?;
            if launched.created {
                self.board.chronicle().audited().await;
                return self.launched(&wanted, true, spec, begun).await;
            }
            // A file declares it as yet; what becomes of that is about to be published.
            drop(tokio::time::timeout(LOOK_AGAIN, published.changed()).await);
        }
        Err(Error::new(Code::ProcessStartFailed, format!("'{key}' is terminated as fast as it is launched"))
            .with("process_id", key)
            .suggest(format!("find out who terminates it: prismctl events --process-id {}", Error::word(key.as_str()))))
    }

    /// Whether the ceilings leave room for one more, beside what runs or is on its way to running. Launches at the very
    /// same moment do not see one another: what is too much of them waits for quota.
    fn has_room(&self, wanted: &Instance) -> Result<()> {
        let ceilings = self.board.ceilings();
        if !ceilings.bound(wanted.key.namespace()) {
            return Ok(());
        }
        let mut ledger = Ledger::default();
        for status in self.board.statuses() {
            let counts = match status.state {
                ProcessState::Starting | ProcessState::Running | ProcessState::Terminating => true,
                ProcessState::Terminated | ProcessState::Failed | ProcessState::Finished => false,
            };
            if let Some(instance) = status.declared.as_ref().filter(|instance| counts && instance.key != wanted.key) {
                ledger.put(&instance.key, Some(Load::of(&instance.content.supervision.resources)));
            }
        }
        let load = Load::of(&wanted.content.supervision.resources);
        ledger.room(&wanted.key, load, &ceilings).map_err(|full| full.error(&wanted.key))
    }

    async fn launched(&self, wanted: &Instance, created: bool, spec: &LaunchSpec, begun: Moment) -> Result<Launched> {
        let status = if spec.waits() { self.wait_until_up(&wanted.key).await? } else { self.known(&wanted.key)? };
        if spec.waits() {
            self.metrics.launched(&wanted.key, clock::now().since(begun));
        }
        Ok(Launched { config_differs: !created && differs(wanted, &status), status, created })
    }

    /// Waits until a declared key runs, or is not going to.
    pub(super) async fn wait_until_up(&self, key: &Key) -> Result<Arc<KeyStatus>> {
        self.wait(key, |status| is_up(key, status)).await
    }
}

/// Whether a declared key runs or has run, or why it is not going to; `None` while that is open.
fn is_up(key: &Key, status: Option<&Arc<KeyStatus>>) -> Option<Result<Arc<KeyStatus>>> {
    let ended = |message: &str, suggestion: String| {
        let error = Error::new(Code::ProcessStartFailed, format!("'{key}' {message}")).with("process_id", key);
        Some(Err(error.suggest(suggestion)))
    };
    let Some(status) = status.filter(|status| status.desired.is_some()) else {
        return ended("was terminated while it was being started", "launch it again, if it is still wanted".to_owned());
    };
    if let Some(suspension) = &status.suspension {
        let message = format!("was suspended by {}: {}", suspension.by, suspension.reason);
        return ended(&message, format!("prismctl pattern resume {}", Error::word(key.as_str())));
    }
    if status.desired == Some(DesiredState::Stopped) {
        let place = status.declared_at.clone().unwrap_or_default();
        return ended("is declared as stopped", format!("write 'state: running' in {place}"));
    }
    match status.state {
        ProcessState::Running | ProcessState::Finished => Some(Ok(Arc::clone(status))),
        ProcessState::Failed => Some(Err(failure(key, status))),
        ProcessState::Starting | ProcessState::Terminating | ProcessState::Terminated => None,
    }
}

/// Why a key has failed for good.
fn failure(key: &Key, status: &KeyStatus) -> Error {
    status.failure.clone().unwrap_or_else(|| {
        Error::new(Code::MaxErrorsExceeded, format!("'{key}' failed too often and is not restarted"))
            .with("process_id", key)
            .suggest(format!("prismctl pattern explain {}", Error::word(key.as_str())))
    })
}

/// Whether a key is declared and stays so.
fn is_declared(status: &KeyStatus) -> bool {
    status.desired.is_some() && !status.conditions.iter().any(|condition| condition.kind == Condition::FILE_MISSING)
}

/// Whether a key runs, stays declared, and need not be told of another launch.
fn needs_nothing(status: &Arc<KeyStatus>) -> bool {
    status.state == ProcessState::Running && is_declared(status) && !status.wants_renewal(clock::now())
}

/// Whether the declared instance was given other config or slots than a launch that names some.
fn differs(wanted: &Instance, status: &KeyStatus) -> bool {
    let wanted = &wanted.content.launch.config;
    let declared = status.declared.as_ref().map(|instance| &instance.content.launch.config);
    !wanted.is_empty() && declared.is_some_and(|declared| declared != wanted)
}
