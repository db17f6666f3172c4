//! What programs read with `-o json|yaml`: the fields of the proto by their names, enums in lower case.

use crate::api::proto;
use serde::Serialize;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The state in lower case.
pub(super) fn state(number: i32) -> Cow<'static, str> {
    use proto::ProcessState as State;
    Cow::Borrowed(match State::try_from(number) {
        Ok(State::StateUnspecified) => "unspecified",
        Ok(State::StateStarting) => "starting",
        Ok(State::StateRunning) => "running",
        Ok(State::StateTerminating) => "terminating",
        Ok(State::StateTerminated) => "terminated",
        Ok(State::StateFailed) => "failed",
        Ok(State::StateFinished) => "finished",
        Err(_) => return Cow::Owned(format!("state-{number}")),
    })
}

/// The isolation level in lower case.
pub(super) fn isolation(number: i32) -> Cow<'static, str> {
    use proto::IsolationLevel as Level;
    Cow::Borrowed(match Level::try_from(number) {
        Ok(Level::Unspecified) => "unspecified",
        Ok(Level::IsolationNone) => "none",
        Ok(Level::IsolationNamespace) => "namespace",
        Ok(Level::IsolationSession) => "session",
        Err(_) => return Cow::Owned(format!("level-{number}")),
    })
}

#[derive(Debug, Serialize)]
pub(super) struct Launched<'a> {
    process_id: &'a str,
    state: Cow<'static, str>,
    address: &'a str,
    healthy: bool,
    error: &'a str,
    created: bool,
    config_differs: bool,
}

impl<'a> From<&'a proto::LaunchResponse> for Launched<'a> {
    fn from(response: &'a proto::LaunchResponse) -> Self {
        let proto::LaunchResponse { process_id, state: number, address, healthy, error, created, config_differs } =
            response;
        let (healthy, created, config_differs) = (*healthy, *created, *config_differs);
        Self { process_id, state: state(*number), address, healthy, error, created, config_differs }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Process<'a> {
    pattern_name: &'a str,
    #[serde(rename = "process_id")]
    id: &'a str,
    state: Cow<'static, str>,
    address: &'a str,
    healthy: bool,
    uptime_seconds: i64,
    namespace: &'a str,
    session_id: &'a str,
    last_error: &'a str,
    error_count: i32,
    restart_count: i32,
    pid: i32,
    isolation: Cow<'static, str>,
    run_id: &'a str,
    generation: i64,
    observed_generation: i64,
    declared_at: &'a str,
    api_managed: bool,
    asked_by: &'a str,
    circuit_open: bool,
    suspension: Option<Suspension<'a>>,
    expires_in_seconds: Option<i64>,
    action: &'a str,
    reason: &'a str,
    conditions: Vec<Condition<'a>>,
    grpc_port: i32,
    health_port: i32,
    limits_effective: Option<Limits<'a>>,
    /// Only in the answer to a question about one process.
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    last_lines: &'a [String],
    isolation_effective: &'a [String],
}

#[derive(Debug, Serialize)]
struct Limits<'a> {
    cpu_limit_millis: Option<i64>,
    memory_limit_bytes: Option<i64>,
    pids_limit: Option<i64>,
    cpu_request_millis: Option<i64>,
    memory_request_bytes: Option<i64>,
    oom_policy: Option<&'a str>,
    not_enforced: Vec<NotEnforced<'a>>,
}

#[derive(Debug, Serialize)]
struct NotEnforced<'a> {
    limit: &'a str,
    wanted: i64,
    reason: &'a str,
}

impl<'a> From<&'a proto::LimitsEffective> for Limits<'a> {
    fn from(limits: &'a proto::LimitsEffective) -> Self {
        let missing = limits.not_enforced.iter();
        Self {
            cpu_limit_millis: limits.cpu_limit_millis,
            memory_limit_bytes: limits.memory_limit_bytes,
            pids_limit: limits.pids_limit,
            cpu_request_millis: limits.cpu_request_millis,
            memory_request_bytes: limits.memory_request_bytes,
            oom_policy: limits.oom_policy.as_deref(),
            not_enforced: missing
                .map(|missing| NotEnforced { limit: &missing.limit, wanted: missing.wanted, reason: &missing.reason })
                .collect(),
        }
    }
}

impl<'a> Process<'a> {
    /// The same, with what it printed last before it failed last.
    pub(super) fn with_last_lines(self, last_lines: &'a [String]) -> Self {
        Self { last_lines, ..self }
    }
}

#[derive(Debug, Serialize)]
struct Suspension<'a> {
    reason: &'a str,
    by: &'a str,
    ends_in_seconds: Option<i64>,
}

#[derive(Debug, Serialize)]
struct Condition<'a> {
    kind: &'a str,
    message: &'a str,
}

impl<'a> From<&'a proto::PatternInfo> for Process<'a> {
    fn from(process: &'a proto::PatternInfo) -> Self {
        let suspension = process.suspension.as_ref().map(|suspension| Suspension {
            reason: &suspension.reason,
            by: &suspension.by,
            ends_in_seconds: suspension.ends_in_seconds,
        });
        let conditions = process.conditions.iter();
        Self {
            pattern_name: &process.pattern_name,
            id: &process.process_id,
            state: state(process.state),
            address: &process.address,
            healthy: process.healthy,
            uptime_seconds: process.uptime_seconds,
            namespace: &process.namespace,
            session_id: &process.session_id,
            last_error: &process.last_error,
            error_count: process.error_count,
            restart_count: process.restart_count,
            pid: process.pid,
            isolation: isolation(process.isolation),
            run_id: &process.run_id,
            generation: process.generation,
            observed_generation: process.observed_generation,
            declared_at: &process.declared_at,
            api_managed: process.api_managed,
            asked_by: &process.asked_by,
            circuit_open: process.circuit_open,
            suspension,
            expires_in_seconds: process.expires_in_seconds,
            action: &process.action,
            reason: &process.reason,
            conditions: conditions.map(|c| Condition { kind: &c.kind, message: &c.message }).collect(),
            grpc_port: process.grpc_port,
            health_port: process.health_port,
            limits_effective: process.limits_effective.as_ref().map(Limits::from),
            last_lines: &[],
            isolation_effective: &process.isolation_effective,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Listed<'a> {
    patterns: Vec<Process<'a>>,
    total_count: i32,
}

impl<'a> From<&'a proto::ListPatternsResponse> for Listed<'a> {
    fn from(response: &'a proto::ListPatternsResponse) -> Self {
        Self { patterns: response.patterns.iter().map(Process::from).collect(), total_count: response.total_count }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Terminated<'a> {
    pub(super) success: bool,
    pub(super) error: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct Abandoned<'a> {
    pub(super) abandoned: &'a str,
}

#[derive(Debug, Serialize)]
pub(super) struct Health<'a> {
    healthy: bool,
    total_processes: i32,
    running_processes: i32,
    terminating_processes: i32,
    failed_processes: i32,
    isolation_distribution: BTreeMap<&'a str, i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<Vec<Process<'a>>>,
    uptime_seconds: i64,
    problems: &'a [String],
}

impl<'a> Health<'a> {
    /// With its processes where they were asked for.
    pub(super) fn of(response: &'a proto::HealthResponse, processes: bool) -> Self {
        let distribution = response.isolation_distribution.iter();
        Self {
            healthy: response.healthy,
            total_processes: response.total_processes,
            running_processes: response.running_processes,
            terminating_processes: response.terminating_processes,
            failed_processes: response.failed_processes,
            isolation_distribution: distribution.map(|(level, count)| (level.as_str(), *count)).collect(),
            processes: processes.then(|| response.processes.iter().map(Process::from).collect()),
            uptime_seconds: response.uptime_seconds,
            problems: &response.problems,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Manifests<'a> {
    manifests: Vec<Manifest<'a>>,
}

#[derive(Debug, Serialize)]
struct Manifest<'a> {
    name: &'a str,
    version: &'a str,
    executable: &'a str,
    description: &'a str,
    author: &'a str,
    isolation: Cow<'static, str>,
    minimum_isolation: Cow<'static, str>,
    healthcheck: &'a str,
    slots: Vec<Slot<'a>>,
    restart: &'a str,
    folder: &'a str,
    problem: &'a str,
    usable: bool,
}

#[derive(Debug, Serialize)]
struct Slot<'a> {
    name: &'a str,
    r#type: &'a str,
    required: bool,
}

impl<'a> From<&'a proto::ListManifestsResponse> for Manifests<'a> {
    fn from(response: &'a proto::ListManifestsResponse) -> Self {
        Self { manifests: response.manifests.iter().map(Manifest::from).collect() }
    }
}

impl<'a> From<&'a proto::Manifest> for Manifest<'a> {
    fn from(manifest: &'a proto::Manifest) -> Self {
        let slots = manifest.slots.iter();
        Self {
            name: &manifest.name,
            version: &manifest.version,
            executable: &manifest.executable,
            description: &manifest.description,
            author: &manifest.author,
            isolation: isolation(manifest.isolation),
            minimum_isolation: isolation(manifest.minimum_isolation),
            healthcheck: &manifest.healthcheck,
            slots: slots.map(|s| Slot { name: &s.name, r#type: &s.r#type, required: s.required }).collect(),
            restart: &manifest.restart,
            folder: &manifest.folder,
            problem: &manifest.problem,
            usable: manifest.usable,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Explained<'a> {
    process: Option<Process<'a>>,
    lines: &'a [String],
    events: Vec<Event<'a>>,
    printed: &'a [String],
}

impl<'a> From<&'a proto::ExplainResponse> for Explained<'a> {
    fn from(response: &'a proto::ExplainResponse) -> Self {
        Self {
            process: response.process.as_ref().map(Process::from),
            lines: &response.lines,
            events: response.events.iter().map(Event::from).collect(),
            printed: &response.printed,
        }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Event<'a> {
    process_id: &'a str,
    run_id: &'a str,
    message: &'a str,
    reason: &'a str,
    level: &'a str,
    time: &'a str,
    by: &'a str,
    last_lines: &'a [String],
}

impl<'a> From<&'a proto::Event> for Event<'a> {
    fn from(event: &'a proto::Event) -> Self {
        let proto::Event { process_id, run_id, message, reason, level, time, by, last_lines } = event;
        Self { process_id, run_id, message, reason, level, time, by, last_lines }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Watched<'a> {
    event: Option<Event<'a>>,
    missed: u64,
}

impl<'a> From<&'a proto::WatchEventsResponse> for Watched<'a> {
    fn from(response: &'a proto::WatchEventsResponse) -> Self {
        Self { event: response.event.as_ref().map(Event::from), missed: response.missed }
    }
}

#[derive(Debug, Serialize)]
pub(super) struct Logged<'a> {
    pub(super) data: Cow<'a, str>,
    /// How many bytes just before were given up before they were read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) missed: Option<u64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Planned<'a> {
    actions: Vec<PlannedAction<'a>>,
}

#[derive(Debug, Serialize)]
struct PlannedAction<'a> {
    process_id: &'a str,
    action: &'a str,
    reason: &'a str,
    differences: Vec<Difference<'a>>,
}

#[derive(Debug, Serialize)]
struct Difference<'a> {
    field: &'a str,
    before: Option<&'a str>,
    after: Option<&'a str>,
}

impl<'a> From<&'a proto::Difference> for Difference<'a> {
    fn from(difference: &'a proto::Difference) -> Self {
        let proto::Difference { field, before, after } = difference;
        Self { field, before: before.as_deref(), after: after.as_deref() }
    }
}

impl<'a> From<&'a proto::PlanResponse> for Planned<'a> {
    fn from(response: &'a proto::PlanResponse) -> Self {
        let actions = response.actions.iter();
        let actions = actions.map(|a| PlannedAction {
            process_id: &a.process_id,
            action: &a.action,
            reason: &a.reason,
            differences: a.differences.iter().map(Difference::from).collect(),
        });
        Self { actions: actions.collect() }
    }
}
