//! The five methods whose names and numbers are fixed.

use super::{Call, Outcome};
use crate::act::clock;
use crate::api::convert::{self, Filter, count, pattern_info};
use crate::api::proto;
use crate::control::Termination;
use crate::error::Code;
use crate::health::distribution;
use crate::model::{Key, ProcessState};

pub(super) async fn launch(call: Call, request: proto::LaunchRequest) -> Outcome<proto::LaunchResponse> {
    let spec = convert::launch_spec(request)?;
    let key = || spec.check().and_then(|checked| call.control().patterns().key(&checked)).ok();
    let launching = async { Ok(call.control().launch(&spec, &call.caller).await?) };
    let launched = call.in_time(key, Code::ProcessStartFailed, launching).await?;
    let status = &launched.status;
    Ok(proto::LaunchResponse {
        process_id: status.process_id.as_str().to_owned(),
        state: convert::state(status.state).into(),
        address: status.address.clone().unwrap_or_default(),
        healthy: status.healthy,
        error: status.last_error.clone().filter(|_| !status.healthy).unwrap_or_default(),
        created: launched.created,
        config_differs: launched.config_differs,
    })
}

pub(super) async fn list(call: Call, request: proto::ListPatternsRequest) -> Outcome<proto::ListPatternsResponse> {
    let proto::ListPatternsRequest { pattern_name, namespace, state } = request;
    let wanted = convert::state_filter(state)?;
    let filter = Filter { pattern: pattern_name, namespace, process_id: String::new() };
    let now = clock::now();
    let all = call.control().list();
    let fitting = all
        .iter()
        .filter(|status| filter.passes(&status.process_id) && wanted.is_none_or(|wanted| status.state == wanted));
    Ok(proto::ListPatternsResponse {
        patterns: fitting.map(|status| pattern_info(status, now)).collect(),
        total_count: count(all.len()),
    })
}

pub(super) async fn terminate(call: Call, request: proto::TerminateRequest) -> Outcome<proto::TerminateResponse> {
    let proto::TerminateRequest { process_id, grace_period_secs, force } = request;
    let key = convert::key(&process_id)?;
    let how = match convert::span("grace_period_secs", grace_period_secs)? {
        _ if force => Termination::forced(),
        Some(grace) => Termination::within(grace),
        None => Termination::graceful(),
    };
    let terminating = async {
        match call.control().terminate(&key, how, &call.caller).await {
            Ok(()) => Ok(proto::TerminateResponse { success: true, error: String::new() }),
            Err(error) if error.code() == Code::TerminationFailed => {
                Ok(proto::TerminateResponse { success: false, error: error.to_string() })
            }
            Err(error) => Err(error.into()),
        }
    };
    call.in_time(|| Some(key.clone()), Code::TerminationFailed, terminating).await
}

pub(super) async fn health(call: Call, request: proto::HealthRequest) -> Outcome<proto::HealthResponse> {
    let now = clock::now();
    let vitals = &call.office.vitals;
    let mut statuses = vitals.board.statuses();
    statuses.sort_by(|a, b| a.process_id.cmp(&b.process_id));
    let in_state = |state| count(statuses.iter().filter(|status| status.state == state).count());
    let problems = vitals.problems(now);
    let processes = statuses.iter().filter(|_| request.include_processes).map(|status| pattern_info(status, now));
    Ok(proto::HealthResponse {
        healthy: problems.is_empty(),
        total_processes: count(statuses.len()),
        running_processes: in_state(ProcessState::Running),
        terminating_processes: in_state(ProcessState::Terminating),
        failed_processes: in_state(ProcessState::Failed),
        isolation_distribution: distribution(&statuses)
            .into_iter()
            .map(|(level, number)| (level.to_owned(), count(number)))
            .collect(),
        processes: processes.collect(),
        uptime_seconds: convert::seconds(vitals.board.uptime(now)),
        problems,
    })
}

pub(super) async fn process_status(
    call: Call,
    request: proto::GetProcessStatusRequest,
) -> Outcome<proto::GetProcessStatusResponse> {
    // An id that cannot be any is that of no process.
    let key = Key::parse(&request.process_id).ok();
    let status = key.as_ref().and_then(|key| call.control().status(key));
    let last_lines = match &key {
        Some(key) => call.last_lines(key).await,
        None => Vec::new(),
    };
    Ok(proto::GetProcessStatusResponse {
        last_lines,
        not_found: status.is_none(),
        process: status.map(|status| pattern_info(&status, clock::now())),
    })
}
