//! Why something that was asked for is not done, and what to do about it.

use super::Engine;
use crate::error::{Code, Error};
use crate::model::{Circuit, DesiredState, Key, Memory, Moment, Suspension};
use std::collections::BTreeMap;

/// Why nothing may be started beside what a record of the key names; says how the key is freed.
pub(super) fn blockage(blocked: &BTreeMap<String, Error>, key: &Key) -> Option<Error> {
    let error = blocked.get(&key.file_name())?.clone();
    let first = error.suggestion().map_or_else(String::new, |first| format!("{first}; "));
    let way = format!(
        "{first}once nothing of it lives, prismctl pattern abandon {} frees its key",
        Error::word(key.as_str())
    );
    Some(error.suggest(way))
}

/// The launcher takes no orders any more.
pub(super) fn shutting_down(key: &Key) -> Error {
    Error::new(Code::StoreUnavailable, "The launcher is shutting down")
        .with("process_id", key)
        .suggest("start it again with pattern-launcher run, then ask again")
}

/// Nothing declares the key, or nothing knows it.
pub(super) fn not_declared<'a>(key: &Key, known: impl Iterator<Item = &'a Key>) -> Error {
    let error = Error::new(Code::ProcessNotFound, format!("No process '{}' is declared", Error::echo(key.as_str())))
        .with("process_id", Error::echo(key.as_str()));
    match known.into_iter().find(|other| is_near(key.as_str(), other.as_str())) {
        Some(meant) => {
            error.suggest(format!("did you mean {}? prismctl pattern list shows them all", Error::word(meant.as_str())))
        }
        None => error.suggest("prismctl pattern list shows what is declared"),
    }
}

/// Whether two ids differ in up to two characters that stand together. It looks at each character once, since all keys
/// are compared.
fn is_near(one: &str, other: &str) -> bool {
    const APART: usize = 2;
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    if long.len() - short.len() > APART || short == long {
        return false;
    }
    let (a, b) = (short.as_bytes(), long.as_bytes());
    let front = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let back = a[front..].iter().rev().zip(b[front..].iter().rev()).take_while(|(a, b)| a == b).count();
    long.len() - front - back <= APART
}

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
fn circuit_open(key: &Key, memory: &Memory, now: Moment, log_file: &str) -> Error {
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
        "find out why with tail -n 20 {log_file}, then prismctl pattern reset {} starts it again",
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
            return Err(circuit_open(key, memory, now, &self.log_file(key)));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_id_is_one_edit_away() {
        for (one, other, near) in [
            ("ns:a:consumer", "ns:a:consmer", true),
            ("ns:a:consumer", "ns:a:consumre", true),
            ("ns:a:consumer", "ns:b:consumer", true),
            ("ns:aaaa:aaaa", "ns:aaa:aaaa", true),
            ("ns:a:consumer", "ns:b:consumes", false),
            ("ns:a:consumer", "ns:a:consumer", false),
            ("ns:a:consumer", "ns:a:producer", false),
            ("shared:p", "ns:tenant:p", false),
        ] {
            assert_eq!(is_near(one, other), near, "{one} {other}");
        }
    }
}
