//! Between what is on the wire and what the launcher works with. What cannot be used is refused here, with the
//! launcher's own errors.

use super::proto;
use crate::control::LaunchSpec;
use crate::desired::{Lookup, PatternBook};
use crate::error::{Code, Error, Result};
use crate::model::{
    Condition, Difference, IsolationLevel, Key, KeyStatus, LimitsEffective, Manifest, Moment, ProcessState,
    RestartPolicy, Secret, SuspensionStatus,
};
use crate::plan::NoteLevel;
use crate::reconciler::Happening;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// Bound backends: slot name, then key, then value.
pub(super) type Slots = BTreeMap<String, BTreeMap<String, Secret>>;

/// What a launch asks for.
pub(super) fn launch_spec(request: proto::LaunchRequest) -> Result<LaunchSpec> {
    let proto::LaunchRequest {
        pattern_name,
        isolation,
        namespace,
        session_id,
        config,
        grace_period_secs,
        ttl_secs,
        no_wait,
        slots,
    } = request;
    let mut spec = LaunchSpec::new(pattern_name).namespace(namespace).session(session_id);
    if let Some(level) = level(isolation)? {
        spec = spec.isolation(level);
    }
    for (name, value) in config {
        spec = spec.config(name, value);
    }
    for (name, value) in slots {
        let (slot, key) = slot_key(&name)?;
        spec = spec.slot(slot, key, value);
    }
    if let Some(grace) = span("grace_period_secs", grace_period_secs)? {
        spec = spec.grace_period(grace);
    }
    if let Some(ttl) = span("ttl_secs", ttl_secs)? {
        spec = spec.ttl(ttl);
    }
    Ok(if no_wait { spec.no_wait() } else { spec })
}

/// Environment variables, their values kept from being printed.
pub(super) fn config(config: HashMap<String, String>) -> BTreeMap<String, Secret> {
    config.into_iter().map(|(name, value)| (name, Secret::new(value))).collect()
}

/// Bound backends, from names such as `storage.url`.
pub(super) fn slots(slots: HashMap<String, String>) -> Result<Slots> {
    let mut bound = Slots::new();
    for (name, value) in slots {
        let (slot, key) = slot_key(&name)?;
        bound.entry(slot.to_owned()).or_default().insert(key.to_owned(), Secret::new(value));
    }
    Ok(bound)
}

/// The slot is what stands before the first dot.
fn slot_key(name: &str) -> Result<(&str, &str)> {
    name.split_once('.').ok_or_else(|| {
        let shown = Error::echo(name);
        Error::new(Code::InvalidInstance, "a value in 'slots' names no key of its slot")
            .with("slots", &shown)
            .suggest(format!("name the slot and the key with a dot between, such as '{shown}.url'"))
    })
}

/// A level; `None` leaves it to the manifest.
pub(super) fn level(number: i32) -> Result<Option<IsolationLevel>> {
    Ok(match proto::IsolationLevel::try_from(number) {
        Ok(proto::IsolationLevel::Unspecified) => None,
        Ok(proto::IsolationLevel::IsolationNone) => Some(IsolationLevel::None),
        Ok(proto::IsolationLevel::IsolationNamespace) => Some(IsolationLevel::Namespace),
        Ok(proto::IsolationLevel::IsolationSession) => Some(IsolationLevel::Session),
        Err(_) => {
            return Err(Error::new(Code::InvalidIsolationLevel, "there is no isolation level of that number")
                .with("isolation", number)
                .suggest(
                    "send 1 (ISOLATION_NONE), 2 (ISOLATION_NAMESPACE), 3 (ISOLATION_SESSION), or 0 for the manifest's",
                ));
        }
    })
}

/// A state to look for; `None` is any.
pub(super) fn state_filter(number: i32) -> Result<Option<ProcessState>> {
    Ok(match proto::ProcessState::try_from(number) {
        Ok(proto::ProcessState::StateUnspecified) => None,
        Ok(proto::ProcessState::StateStarting) => Some(ProcessState::Starting),
        Ok(proto::ProcessState::StateRunning) => Some(ProcessState::Running),
        Ok(proto::ProcessState::StateTerminating) => Some(ProcessState::Terminating),
        Ok(proto::ProcessState::StateTerminated) => Some(ProcessState::Terminated),
        Ok(proto::ProcessState::StateFailed) => Some(ProcessState::Failed),
        Ok(proto::ProcessState::StateFinished) => Some(ProcessState::Finished),
        Err(_) => {
            return Err(Error::new(Code::InvalidInstance, "there is no process state of that number")
                .with("state", number)
                .suggest("send a number from 1 (STATE_STARTING) to 6 (STATE_FINISHED), or 0 for any"));
        }
    })
}

/// Whole seconds; 0 is none.
pub(super) fn span(field: &str, seconds: i64) -> Result<Option<Duration>> {
    match u64::try_from(seconds) {
        Ok(0) => Ok(None),
        Ok(seconds) => Ok(Some(Duration::from_secs(seconds))),
        Err(_) => Err(Error::new(Code::InvalidInstance, format!("'{field}' is negative"))
            .with(field, seconds)
            .suggest(format!("send '{field}' as a number of seconds, or 0 to leave it out"))),
    }
}

/// A process id. One that cannot be any is as unknown as one that nothing declares.
pub(super) fn key(process_id: &str) -> Result<Key> {
    Key::parse(process_id).map_err(|reason| {
        Error::new(Code::ProcessNotFound, "there is no process of that id")
            .with("process_id", Error::echo(process_id))
            .because(reason)
            .suggest("prismctl pattern list shows the ids of all processes")
    })
}

/// A filter of lists and streams; an empty field is any.
#[derive(Debug, Clone, Default)]
pub(super) struct Filter {
    pub(super) pattern: String,
    pub(super) namespace: String,
    pub(super) process_id: String,
}

impl Filter {
    /// Whether a key passes.
    pub(super) fn passes(&self, key: &Key) -> bool {
        let fits = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
        fits(&self.pattern, key.pattern())
            && fits(&self.namespace, key.namespace())
            && fits(&self.process_id, key.as_str())
    }
}

/// A state as it is sent.
pub(super) const fn state(state: ProcessState) -> proto::ProcessState {
    match state {
        ProcessState::Starting => proto::ProcessState::StateStarting,
        ProcessState::Running => proto::ProcessState::StateRunning,
        ProcessState::Terminating => proto::ProcessState::StateTerminating,
        ProcessState::Terminated => proto::ProcessState::StateTerminated,
        ProcessState::Failed => proto::ProcessState::StateFailed,
        ProcessState::Finished => proto::ProcessState::StateFinished,
    }
}

const fn wire_level(level: IsolationLevel) -> proto::IsolationLevel {
    match level {
        IsolationLevel::None => proto::IsolationLevel::IsolationNone,
        IsolationLevel::Namespace => proto::IsolationLevel::IsolationNamespace,
        IsolationLevel::Session => proto::IsolationLevel::IsolationSession,
    }
}

/// Where one instance stands.
pub(super) fn pattern_info(status: &KeyStatus, now: Moment) -> proto::PatternInfo {
    proto::PatternInfo {
        pattern_name: status.pattern_name.clone(),
        process_id: status.process_id.as_str().to_owned(),
        state: state(status.state).into(),
        address: status.address.clone().unwrap_or_default(),
        healthy: status.healthy,
        uptime_seconds: seconds(status.uptime(now).unwrap_or_default()),
        namespace: status.namespace.clone(),
        session_id: status.session_id.clone(),
        last_error: status.last_error.clone().unwrap_or_default(),
        error_count: number(status.error_count),
        restart_count: number(status.restart_count),
        pid: status.pid.unwrap_or(0),
        isolation: wire_level(status.isolation).into(),
        run_id: status.run_id.map(|run| run.to_string()).unwrap_or_default(),
        generation: whole(status.generation.0),
        observed_generation: whole(status.observed_generation.0),
        declared_at: status.declared_at.clone().unwrap_or_default(),
        api_managed: status.api_managed,
        asked_by: status.asked_by.clone().unwrap_or_default(),
        circuit_open: status.circuit_open,
        suspension: status.suspension.as_ref().map(|suspension| wire_suspension(suspension, now)),
        expires_in_seconds: status.expires_at_boot_seconds.map(|at| seconds_until(at, now)),
        action: status.verdict.action.clone(),
        reason: status.verdict.reason.clone(),
        conditions: status.conditions.iter().map(condition).collect(),
        grpc_port: status.ports.map_or(0, |ports| ports.grpc.into()),
        health_port: status.ports.map_or(0, |ports| ports.health.into()),
        limits_effective: status.limits_effective.as_ref().map(wire_limits),
        isolation_effective: status.isolation_effective.clone(),
    }
}

fn wire_limits(limits: &LimitsEffective) -> proto::LimitsEffective {
    let LimitsEffective { in_force, not_enforced } = limits;
    let missing = not_enforced.iter().map(|missing| proto::LimitNotEnforced {
        limit: missing.limit.to_string(),
        wanted: whole(missing.wanted),
        reason: missing.reason.clone(),
    });
    proto::LimitsEffective {
        cpu_limit_millis: in_force.cpu_limit_millis.map(whole),
        memory_limit_bytes: in_force.memory_limit.map(whole),
        pids_limit: in_force.pids_limit.map(whole),
        cpu_request_millis: in_force.cpu_request_millis.map(whole),
        memory_request_bytes: in_force.memory_request.map(whole),
        not_enforced: missing.collect(),
        oom_policy: in_force.oom_policy.map(|policy| policy.as_str().to_owned()),
    }
}

fn wire_suspension(suspension: &SuspensionStatus, now: Moment) -> proto::Suspension {
    proto::Suspension {
        reason: suspension.reason.clone(),
        by: suspension.by.clone(),
        ends_in_seconds: suspension.ends_at_boot_seconds.map(|at| seconds_until(at, now)),
    }
}

fn condition(condition: &Condition) -> proto::Condition {
    proto::Condition { kind: condition.kind.clone(), message: condition.message.clone() }
}

/// A field that differs.
pub(super) fn difference(difference: &Difference) -> proto::Difference {
    let Difference { field, before, after } = difference.clone();
    proto::Difference { field, before, after }
}

/// What happened.
pub(super) fn event(happening: &Happening) -> proto::Event {
    let level = match happening.level {
        NoteLevel::Info => "info",
        NoteLevel::Warn => "warn",
        NoteLevel::Error => "error",
    };
    proto::Event {
        process_id: happening.key.as_str().to_owned(),
        run_id: happening.run.map(|run| run.to_string()).unwrap_or_default(),
        message: happening.message.clone().into_owned(),
        reason: happening.reason.clone(),
        level: level.to_owned(),
        time: happening.wall.clone(),
        by: happening.by.as_ref().map(ToString::to_string).unwrap_or_default(),
        last_lines: Vec::new(),
    }
}

/// The patterns that fit, or that cannot be used and why.
pub(super) fn manifests(book: &PatternBook, wanted: &str) -> Vec<proto::Manifest> {
    let mut all: BTreeMap<String, proto::Manifest> = BTreeMap::new();
    for manifest in book.manifests() {
        let mut entry = wire_manifest(manifest);
        if let Lookup::LastGood(_, error) = book.lookup(&manifest.name) {
            entry.problem = error.to_string();
        }
        all.insert(entry.name.clone(), entry);
    }
    for problem in book.problems() {
        let Some(name) = &problem.pattern else { continue };
        let entry = all
            .entry(name.clone())
            .or_insert_with(|| proto::Manifest { name: name.clone(), ..proto::Manifest::default() });
        entry.problem = problem.error.to_string();
    }
    all.into_values().filter(|manifest| wanted.is_empty() || manifest.name == wanted).collect()
}

fn wire_manifest(manifest: &Manifest) -> proto::Manifest {
    let revision = &manifest.revision;
    let level = |level: Option<IsolationLevel>| level.map_or(0, |level| wire_level(level).into());
    let probe = manifest.healthcheck.as_ref().map_or("", |check| check.target.as_str());
    let slots = manifest.slots.iter().map(|slot| proto::Slot {
        name: slot.name.clone(),
        r#type: slot.kind.clone().unwrap_or_default(),
        required: slot.required,
    });
    let restart = match manifest.lifecycle.restart {
        RestartPolicy::Always => "always",
        RestartPolicy::OnFailure => "on-failure",
        RestartPolicy::Never => "never",
    };
    proto::Manifest {
        name: manifest.name.to_string(),
        version: revision.version.clone(),
        executable: revision.executable.clone(),
        description: manifest.description.clone().unwrap_or_default(),
        author: manifest.author.clone().unwrap_or_default(),
        isolation: level(manifest.isolation_level),
        minimum_isolation: level(manifest.minimum_isolation),
        healthcheck: probe.to_owned(),
        slots: slots.collect(),
        restart: restart.to_owned(),
        folder: revision.folder.display().to_string(),
        problem: String::new(),
        usable: true,
    }
}

fn seconds_until(at_boot_seconds: f64, now: Moment) -> i64 {
    let at = Duration::try_from_secs_f64(at_boot_seconds).unwrap_or(Duration::ZERO);
    let left = at.saturating_sub(now.since_boot);
    // A part of a second is one: 0 would say that it is over.
    seconds(left + Duration::from_millis(999))
}

/// Whole seconds, as they are sent.
pub(super) fn seconds(span: Duration) -> i64 {
    whole(span.as_secs())
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count, as it is sent.
pub(super) fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn number(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
