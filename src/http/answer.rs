//! What `/health` and `/ready` say.

use crate::health::{Vitals, distribution};
use crate::model::{KeyStatus, Moment, ProcessState};
use serde::Serialize;
use std::collections::BTreeMap;

/// Whether each process is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Listing {
    Full,
    Counts,
}

/// How the launcher itself is doing; how a tenant's process is doing never makes it unhealthy.
#[derive(Debug, Serialize)]
pub(super) struct Health {
    pub(super) healthy: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    total_processes: usize,
    running_processes: usize,
    terminating_processes: usize,
    failed_processes: usize,
    isolation_distribution: BTreeMap<&'static str, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<Vec<Process>>,
    uptime_seconds: u64,
}

impl Health {
    pub(super) fn of(vitals: &Vitals, now: Moment, listing: Listing) -> Self {
        let statuses = vitals.board.statuses();
        let in_state = |state| statuses.iter().filter(|status| status.state == state).count();
        let isolation_distribution = distribution(&statuses);
        let reasons = vitals.problems(now);
        let processes = (listing == Listing::Full).then(|| {
            let mut all: Vec<Process> = statuses.iter().map(|status| Process::of(status, now)).collect();
            all.sort_by(|a, b| a.id.cmp(&b.id));
            all
        });
        Self {
            healthy: reasons.is_empty(),
            reasons,
            total_processes: statuses.len(),
            running_processes: in_state(ProcessState::Running),
            terminating_processes: in_state(ProcessState::Terminating),
            failed_processes: in_state(ProcessState::Failed),
            isolation_distribution,
            processes,
            uptime_seconds: vitals.board.uptime(now).as_secs(),
        }
    }
}

/// One process, as the API lists it.
#[derive(Debug, Serialize)]
struct Process {
    pattern_name: String,
    #[serde(rename = "process_id")]
    id: String,
    state: ProcessState,
    address: String,
    healthy: bool,
    uptime_seconds: u64,
    namespace: String,
    session_id: String,
    /// Its code and message only: context and cause name files and repeat what a tenant's program said.
    last_error: String,
    error_count: u32,
    restart_count: u32,
    pid: i32,
}

impl Process {
    fn of(status: &KeyStatus, now: Moment) -> Self {
        Self {
            pattern_name: status.pattern_name.clone(),
            id: status.process_id.as_str().to_owned(),
            state: status.state,
            address: status.address.clone().unwrap_or_default(),
            healthy: status.healthy,
            uptime_seconds: status.uptime(now).unwrap_or_default().as_secs(),
            namespace: status.namespace.clone(),
            session_id: status.session_id.clone(),
            last_error: status
                .failure
                .as_ref()
                .map(|error| format!("[{}] {}", error.code(), error.message()))
                .unwrap_or_default(),
            error_count: status.error_count,
            restart_count: status.restart_count,
            pid: status.pid.unwrap_or(0),
        }
    }
}

/// Whether the launcher knows everything it needs to decide.
#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    pub(super) ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    waiting_for: Vec<String>,
}

impl Readiness {
    pub(super) fn of(vitals: &Vitals) -> Self {
        let waiting_for = vitals.waiting_for();
        Self { ready: waiting_for.is_empty(), waiting_for }
    }
}
