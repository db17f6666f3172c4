//! What somebody can do about a key that is not as it should be.

use crate::error::Error;
use crate::model::{DesiredState, KeyStatus, ProbeTarget, ProcessState};

/// What to do, without a full stop; `None` when it is as it should be, or will be by itself.
pub(super) fn of(status: &KeyStatus) -> Option<String> {
    let id = Error::word(status.process_id.as_str());
    if let Some(suspension) = &status.suspension {
        let ends = suspension.ends_at_boot_seconds.map_or("", |_| ", or wait");
        return Some(format!("prismctl pattern resume {id}{ends}"));
    }
    if status.desired == Some(DesiredState::Stopped) {
        let place = status.declared_at.as_deref()?;
        return Some(format!("to have it run, remove 'state: stopped' from the document at {place}"));
    }
    if status.healthy && status.state == ProcessState::Running {
        return None;
    }
    if let Some(suggestion) = status.failure.as_ref().and_then(Error::suggestion) {
        return Some(suggestion.to_owned());
    }
    match status.state {
        ProcessState::Finished => Some(format!("to have it run again: prismctl pattern restart {id}")),
        ProcessState::Starting | ProcessState::Running => try_probe(status),
        ProcessState::Terminating | ProcessState::Terminated | ProcessState::Failed => None,
    }
}

/// How to ask a process for its health by hand.
fn try_probe(status: &KeyStatus) -> Option<String> {
    let (pid, health) = (status.pid?, status.ports?.health);
    let check = status.declared.as_ref()?.content.supervision.healthcheck.as_ref()?;
    let ask = match &check.target {
        ProbeTarget::Http { path } => format!("curl -i {}", Error::word(&format!("http://127.0.0.1:{health}{path}"))),
        ProbeTarget::Tcp | ProbeTarget::Grpc => format!("ss -ltnp 'sport = :{health}' shows who listens"),
        ProbeTarget::Exec { command } => format!("run the command by hand: {}", Error::word(command.first()?)),
    };
    Some(format!("it must serve its health check on HEALTH_PORT {health}; ask it yourself while pid {pid} runs: {ask}"))
}
