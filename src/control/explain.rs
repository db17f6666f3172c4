//! Why a key is as it is, in sentences.

use super::Control;
use crate::act::clock;
use crate::model::{DesiredState, Key, KeyStatus, Moment, ProcessState};
use crate::reconciler::Happening;
use std::sync::Arc;
use std::time::Duration;

/// Why a key is as it is.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// Where it stands; `None` for a key that nobody declares and of which nothing lives.
    pub status: Option<Arc<KeyStatus>>,
    /// Sentences for people, in reading order.
    pub lines: Vec<String>,
    /// What happened lately, oldest first.
    pub events: Vec<Arc<Happening>>,
}

impl Control {
    /// Explains a key that exists, waits, has failed, or was never declared.
    pub fn explain(&self, key: &Key) -> Explanation {
        let status = self.status(key);
        let lines = match &status {
            Some(status) => sentences(status, clock::now()),
            None => vec![self.not_found(key).to_string()],
        };
        Explanation { status, lines, events: self.board.chronicle().lately(key) }
    }
}

fn sentences(status: &KeyStatus, now: Moment) -> Vec<String> {
    let mut lines = vec![declared(status), observed(status, now)];
    if let Some(suspension) = &status.suspension {
        let ends = suspension.ends_at_boot_seconds.map(|at| left(at, now));
        let ends = ends.map_or_else(|| "until it is resumed".to_owned(), |left| format!("for another {left}"));
        lines.push(format!("It is suspended by {} {ends}: {}.", suspension.by, suspension.reason));
    }
    if let Some(at) = status.expires_at_boot_seconds {
        lines.push(format!("Its ttl ends it in {}, unless it is launched again.", left(at, now)));
    }
    if status.error_count > 0 {
        lines.push(format!(
            "It has failed {} times in a row, and was restarted {} times since it was declared.",
            status.error_count, status.restart_count
        ));
    }
    lines.extend(status.last_error.iter().map(|error| format!("The last failure: {error}")));
    lines.extend(status.conditions.iter().map(|condition| format!("{}: {}", condition.kind, condition.message)));
    lines.push(next(status));
    lines
}

fn declared(status: &KeyStatus) -> String {
    let by = status.asked_by.as_ref().map(|by| format!(", launched by {by}")).unwrap_or_default();
    match (&status.declared_at, status.desired) {
        (Some(place), Some(DesiredState::Running)) => format!("It is declared in {place}{by}."),
        (Some(place), _) => format!("It is declared in {place}{by}, and should not run."),
        (None, _) => "Nothing declares it any more.".to_owned(),
    }
}

fn observed(status: &KeyStatus, now: Moment) -> String {
    let up = status.uptime(now).map(|up| span(up.as_secs_f64()));
    match (status.state, status.pid, up) {
        (ProcessState::Running, Some(pid), Some(up)) => {
            let health = if status.healthy { "healthy" } else { "not healthy" };
            format!("It runs as pid {pid} for {up} and is {health}.")
        }
        (state, Some(pid), Some(up)) => format!("It is {}; pid {pid} was started {up} ago.", state.as_str()),
        (state, ..) => format!("It is {}, and has no process.", state.as_str()),
    }
}

fn next(status: &KeyStatus) -> String {
    let verdict = &status.verdict;
    let again = verdict.looks_again_in_seconds.map(|seconds| format!("; it is looked at again in {}", span(seconds)));
    match verdict.action.as_str() {
        "none" => format!("Nothing is done: {}{}.", verdict.reason, again.unwrap_or_default()),
        action => format!("What is done: {action}, since {}{}.", verdict.reason, again.unwrap_or_default()),
    }
}

fn left(at_boot_seconds: f64, now: Moment) -> String {
    span(at_boot_seconds - now.since_boot.as_secs_f64())
}

/// A duration for people, to the second, or to the millisecond below a second.
fn span(seconds: f64) -> String {
    let exact = Duration::try_from_secs_f64(seconds).unwrap_or_default();
    let step = if exact < Duration::from_secs(1) { Duration::from_millis(1) } else { Duration::from_secs(1) };
    let rounded = exact.as_millis() / step.as_millis() * step.as_millis();
    crate::model::units::format_duration(Duration::from_millis(u64::try_from(rounded).unwrap_or(u64::MAX)))
}
