//! Why a key is as it is, in sentences: where it is declared, what it does, what its last probe and its program said,
//! what was decided, what happens next, and what somebody can do about it.
//!
//! Deliberately absent: secrets. What its program printed, answered or was told is shown without the values that its
//! declaration gives it under names of secrets.

mod advice;
mod places;
mod unknown;

use super::Control;
use crate::act::{Output, clock};
use crate::metrics::Usage;
use crate::model::{
    Condition, DesiredState, Key, KeyStatus, LimitsEffective, Mask, Moment, ProbeTarget, ProcessState, VerdictStatus,
};
use crate::observed::ProbeOutcome;
use crate::reconciler::{Happening, LastProbe};
use places::Places;
use std::sync::Arc;
use std::time::Duration;

/// Why a key is as it is.
#[derive(Debug, Clone)]
pub struct Explanation {
    /// Where it stands; `None` for a key that nobody declares and of which nothing lives.
    pub status: Option<Arc<KeyStatus>>,
    /// Sentences for people, in reading order. Of a key that nobody declares it is one: a printed error.
    pub lines: Vec<String>,
    /// What happened lately, oldest first.
    pub events: Vec<Arc<Happening>>,
    /// The last lines that its program printed, oldest first, whichever of its processes that was.
    pub printed: Vec<String>,
}

impl Control {
    /// Explains a key that exists, waits, has failed, or was never declared.
    pub async fn explain(&self, key: &Key) -> Explanation {
        let events = self.board.chronicle().lately(key);
        let Some(status) = self.status(key) else {
            let lines = vec![self.unknown(key, events.last().map(Arc::as_ref)).to_string()];
            return Explanation { status: None, lines, events, printed: Vec::new() };
        };
        let places =
            Places::look(&self.output, key, status.declared.as_ref().map(|instance| instance.origin.path())).await;
        let told = Told {
            status: &status,
            probe: self.board.last_probe(key),
            places: &places,
            events: &events,
            usage: self.metrics.usage(key),
        };
        let mask = mask(&status, &self.output);
        Explanation {
            lines: told.sentences(clock::now()).iter().map(|line| mask.applied(line).into_owned()).collect(),
            printed: places.printed.iter().map(|line| mask.applied(line).into_owned()).collect(),
            events: events.iter().map(|happening| masked_event(happening, &mask)).collect(),
            status: Some(masked_status(status, &mask)),
        }
    }
}

/// What it has had to wait for, if it was more than a moment.
fn waited(usage: Usage) -> Option<String> {
    let parts = [
        (usage.throttled_seconds, "was held back by its cpu_limit for"),
        (usage.cpu_pressure_seconds, "waited for CPU time for"),
        (usage.memory_pressure_seconds, "waited for memory for"),
    ];
    let said: Vec<String> = parts
        .into_iter()
        .filter(|(seconds, _)| *seconds >= 1.0)
        .map(|(seconds, what)| format!("{what} {}", span(seconds)))
        .collect();
    (!said.is_empty()).then(|| format!("Since the launcher was started it {}.", said.join(", ")))
}

/// What is known of a key that is declared, or of which something lives.
struct Told<'a> {
    status: &'a KeyStatus,
    probe: Option<LastProbe>,
    places: &'a Places,
    events: &'a [Arc<Happening>],
    usage: Option<Usage>,
}

impl Told<'_> {
    fn sentences(&self, now: Moment) -> Vec<String> {
        let status = self.status;
        let mut lines = vec![self.declared(), observed(status, now)];
        lines.extend(tracked(status));
        if !status.isolation_effective.is_empty() {
            lines.push(format!("It is confined by: {}.", status.isolation_effective.join(", ")));
        }
        if let Some(suspension) = &status.suspension {
            let ends = suspension.ends_at_boot_seconds.map(|at| left(at, now));
            let ends = ends.map_or_else(|| "until it is resumed".to_owned(), |left| format!("for another {left}"));
            lines.push(format!("It is suspended by {} {ends}: {}.", suspension.by, suspension.reason));
        }
        if let Some(at) = status.expires_at_boot_seconds {
            lines.push(format!("Its ttl ends it in {}, unless it is launched again.", left(at, now)));
        }
        let limits = status.limits_effective.as_ref().map(LimitsEffective::in_words);
        lines.extend(limits.filter(|words| !words.is_empty()).map(|words| format!("Its limits in force: {words}.")));
        lines.extend(self.usage.and_then(waited));
        if status.error_count > 0 {
            lines.push(format!(
                "It has failed {} in a row, and was restarted {} since it was declared.",
                times(status.error_count),
                times(status.restart_count)
            ));
        }
        lines.extend(last_failure(status));
        lines.extend(status.differences.iter().map(|one| format!("It is to be replaced, for it differs in {one}.")));
        lines.extend(self.probe.as_ref().map(|probe| probed(probe, status, now)));
        lines.extend(status.conditions.iter().map(condition));
        lines.push(next(&status.verdict));
        lines.extend(advice::of(status).map(|advice| format!("What to do: {advice}.")));
        lines
    }

    fn declared(&self) -> String {
        let status = self.status;
        let Some(place) = &status.declared_at else { return "Nothing declares it any more.".to_owned() };
        let commit = self.places.checkout.as_ref().map(|checkout| {
            let commit = checkout.commit.get(..12).unwrap_or(&checkout.commit);
            match &checkout.branch {
                Some(branch) => format!(", in a git work tree at commit {commit} of {branch}"),
                None => format!(", in a git work tree at commit {commit}"),
            }
        });
        let by = status.asked_by.as_ref().map(|by| match self.launched_at() {
            Some(when) => format!(", launched by {by} at {when}"),
            None => format!(", launched by {by}"),
        });
        let off = if status.desired == Some(DesiredState::Running) { "" } else { ", and should not run" };
        format!("It is declared in {place}{}{}{off}.", commit.unwrap_or_default(), by.unwrap_or_default())
    }

    /// When it was launched or changed by request, as the events tell.
    fn launched_at(&self) -> Option<&str> {
        let launched =
            self.events.iter().rfind(|happening| happening.message == "launched" || happening.message == "updated")?;
        Some(&launched.wall)
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

/// How its processes are told from others.
fn tracked(status: &KeyStatus) -> Option<String> {
    let tracking = match status.tracking.as_deref()? {
        "process-group" => "its process group, which a process can leave",
        "v1-freezer" => "a cgroup of the v1 freezer, which no process leaves",
        _ => "a cgroup, which no process leaves",
    };
    Some(format!("Its processes are tracked by {tracking}."))
}

/// The last failure without what to do about it, which is told at the end.
fn last_failure(status: &KeyStatus) -> Option<String> {
    let Some(error) = &status.failure else {
        return status.last_error.as_ref().map(|error| format!("The last failure: {error}"));
    };
    let context: Vec<String> = error.context().iter().map(|(name, value)| format!("{name}={value}")).collect();
    let context = if context.is_empty() { String::new() } else { format!("; Context: {}", context.join(", ")) };
    let cause = error.cause().map(|cause| format!("; Cause: {cause}")).unwrap_or_default();
    Some(format!("The last failure: [{}] {}{context}{cause}", error.code(), error.message()))
}

fn probed(probe: &LastProbe, status: &KeyStatus, now: Moment) -> String {
    let ago = span(now.since(probe.at).as_secs_f64());
    let whose = if status.run_id == Some(probe.run) { "" } else { " of the process before" };
    match &probe.outcome {
        ProbeOutcome::Success => format!("The last probe{whose}, {ago} ago, found it healthy{}.", asked(status)),
        ProbeOutcome::Failure(why) => format!("The last probe{whose}, {ago} ago, failed: {why}."),
        ProbeOutcome::Error(why) => format!("The last probe{whose}, {ago} ago, could not be carried out: {why}."),
    }
}

/// How its health is asked for.
fn asked(status: &KeyStatus) -> String {
    let check = status.declared.as_ref().and_then(|instance| instance.content.supervision.healthcheck.as_ref());
    match check.map(|check| &check.target) {
        Some(ProbeTarget::Http { path }) => format!(": GET {path} answered"),
        Some(ProbeTarget::Exec { .. } | ProbeTarget::Tcp | ProbeTarget::Grpc) | None => String::new(),
    }
}

/// On one line: an error may show a line of a file.
fn condition(condition: &Condition) -> String {
    let words: Vec<&str> = condition.message.split_whitespace().collect();
    format!("{}: {}", condition.kind, words.join(" "))
}

fn next(verdict: &VerdictStatus) -> String {
    let again = verdict.looks_again_in_seconds.map(|seconds| format!("; it is looked at again in {}", span(seconds)));
    match verdict.action.as_str() {
        "none" => format!("Nothing is done: {}{}.", verdict.reason, again.unwrap_or_default()),
        action => format!("What is done: {action}, since {}{}.", verdict.reason, again.unwrap_or_default()),
    }
}

/// What its program must not be quoted with.
pub(super) fn mask(status: &KeyStatus, output: &Output) -> Mask {
    status.declared.as_ref().map(|instance| output.mask(instance)).unwrap_or_default()
}

fn masked_event(happening: &Arc<Happening>, mask: &Mask) -> Arc<Happening> {
    match mask.applied(&happening.reason) {
        std::borrow::Cow::Borrowed(_) => Arc::clone(happening),
        std::borrow::Cow::Owned(reason) => Arc::new(Happening { reason, ..Happening::clone(happening) }),
    }
}

/// What its program may have said is in failures and conditions.
fn masked_status(status: Arc<KeyStatus>, mask: &Mask) -> Arc<KeyStatus> {
    let error = status.last_error.as_deref().map(|error| mask.applied(error).into_owned());
    let conditions: Vec<Condition> = status
        .conditions
        .iter()
        .map(|one| Condition { kind: one.kind.clone(), message: mask.applied(&one.message).into_owned() })
        .collect();
    if error == status.last_error && conditions == status.conditions {
        return status;
    }
    Arc::new(KeyStatus { last_error: error, conditions, failure: None, ..KeyStatus::clone(&status) })
}

fn times(count: u32) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
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
