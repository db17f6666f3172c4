//! Why something that was asked for is not done, and what to do about it.

use super::Engine;
use super::enact::last_lines;
use crate::error::{Code, Error};
use crate::model::{Circuit, DesiredState, Key, Memory, Moment, Suspension};
use crate::observed::ask::not_declared;

/// It is stopped by request.
fn suspended(key: &Key, suspension: &Suspension, now: Moment) -> Error {
    let Suspension { reason, by, since, until, lasting: _ } = suspension;
    let since = if since.boot == now.boot {
        format!("for {:.0} s", now.since(*since).as_secs_f64())
    } else {
        "since before the machine was restarted".to_owned()
    };
    let mut error = Error::new(Code::ProcessStartFailed, format!("'{key}' has been suspended {since} by {by}"))
        .with("process_id", key)
        .with("suspended_by", by);
    if let Some(until) = until {
        error = error.with("ends_in_seconds", now.until(*until).as_secs());
    }
    if !reason.is_empty() {
        error = error.because(Error::echo(reason));
    }
    error.suggest(format!("prismctl pattern resume {}", Error::word(key.as_str())))
}

/// Its file says that it should not run.
fn stopped(key: &Key, memory: &Memory) -> Error {
    let origin = &memory.instance.origin;
    Error::new(Code::ProcessStartFailed, format!("'{key}' is declared as stopped"))
        .with("process_id", key)
        .with("declared_at", origin)
        .suggest(format!(
            "write 'state: running' in {} (the document of line {})",
            origin.path().display(),
            origin.line
        ))
}

/// Its circuit is open.
fn circuit_open(key: &Key, memory: &Memory, now: Moment) -> Error {
    let error = Error::new(
        Code::MaxErrorsExceeded,
        format!("'{key}' failed {} times in a row and is not restarted", memory.streak),
    )
    .with("process_id", key)
    .with("declared_at", &memory.instance.origin);
    let error = match memory.circuit {
        Circuit::Open { retry_at: Some(at), .. } => error.with("next_trial_in_seconds", now.until(at).as_secs()),
        Circuit::Open { retry_at: None, .. } | Circuit::HalfOpen { .. } | Circuit::Closed => error,
    };
    let error = match &memory.last_error {
        // The failure that opened the circuit is the cause of the error that says so.
        Some(last) if last.code() == Code::MaxErrorsExceeded => match last.cause() {
            Some(cause) => error.because(cause),
            None => error,
        },
        Some(last) => error.because(last.summary()),
        None => error,
    };
    error.suggest(format!(
        "find out why with {}, then prismctl pattern reset {} starts it again",
        last_lines(key),
        Error::word(key.as_str())
    ))
}

/// There is nothing to give up: its process is known and looked after.
pub(super) fn verified(key: &Key, pid: Option<i32>) -> Error {
    let error = Error::new(Code::AlreadyRunning, format!("The process of '{key}' is verified and is looked after"))
        .with("process_id", key);
    let error = match pid {
        Some(pid) => error.with("pid", pid),
        None => error,
    };
    error.suggest(format!("end it with prismctl pattern suspend {} --reason TEXT", Error::word(key.as_str())))
}

/// There is nothing to give up: nothing of it lives.
pub(super) fn nothing_to_abandon(key: &Key) -> Error {
    Error::new(Code::ProcessNotFound, format!("Nothing of '{key}' is there to be given up"))
        .with("process_id", key)
        .suggest(format!("prismctl pattern explain {} says why it is as it is", Error::word(key.as_str())))
}

impl Engine {
    /// Why a declared key is not going to be started although somebody asks for it.
    pub(super) fn refuse_start(&self, key: &Key, now: Moment) -> Result<(), Error> {
        let Some(entry) = self.entries.get(key) else { return Err(not_declared(key, self.entries.keys())) };
        let memory = &entry.observed.memory;
        if let Some(error) = &entry.observed.blocked {
            return Err(error.clone());
        }
        if let Some(suspension) = &memory.suspension {
            return Err(suspended(key, suspension, now));
        }
        if memory.instance.content.state == DesiredState::Stopped {
            return Err(stopped(key, memory));
        }
        if matches!(memory.circuit, Circuit::Open { .. }) {
            return Err(circuit_open(key, memory, now));
        }
        Ok(())
    }
}
