//! The methods that earlier versions did not have, but for the streams.

use super::{Call, Outcome};
use crate::act::clock;
use crate::api::convert::{self, Filter, pattern_info};
use crate::api::{proto, status};
use crate::control::{Suspend, Update, Updated, Wait};
use crate::error::{Code, Error};
use crate::model::{Generation, Key, KeyStatus};
use std::sync::Arc;
use tonic::Status;

pub(super) async fn restart(call: Call, request: proto::RestartRequest) -> Outcome<proto::RestartResponse> {
    let proto::RestartRequest { process_id, no_wait } = request;
    let key = convert::key(&process_id)?;
    let restarting = async { Ok(call.control().restart(&key, waiting(no_wait), &call.caller).await?) };
    let status = call.in_time(|| Some(key.clone()), Code::ProcessStartFailed, restarting).await?;
    Ok(proto::RestartResponse { process: Some(shown(&status)) })
}

pub(super) async fn reset(call: Call, request: proto::ResetRequest) -> Outcome<proto::ResetResponse> {
    let key = convert::key(&request.process_id)?;
    let status = call.control().reset(&key, &call.caller).await?;
    Ok(proto::ResetResponse { process: Some(shown(&status)) })
}

pub(super) async fn suspend(call: Call, request: proto::SuspendRequest) -> Outcome<proto::SuspendResponse> {
    let proto::SuspendRequest { process_id, reason, duration_secs, no_wait } = request;
    let key = convert::key(&process_id)?;
    let how = Suspend { reason, lasting: convert::span("duration_secs", duration_secs)? };
    let suspending = async { Ok(call.control().suspend(&key, how, waiting(no_wait), &call.caller).await?) };
    let status = call.in_time(|| Some(key.clone()), Code::TerminationFailed, suspending).await?;
    Ok(proto::SuspendResponse { process: Some(shown(&status)) })
}

pub(super) async fn resume(call: Call, request: proto::ResumeRequest) -> Outcome<proto::ResumeResponse> {
    let proto::ResumeRequest { process_id, no_wait } = request;
    let key = convert::key(&process_id)?;
    let resuming = async { Ok(call.control().resume(&key, waiting(no_wait), &call.caller).await?) };
    let status = call.in_time(|| Some(key.clone()), Code::ProcessStartFailed, resuming).await?;
    Ok(proto::ResumeResponse { process: Some(shown(&status)) })
}

pub(super) async fn update(call: Call, request: proto::UpdateRequest) -> Outcome<proto::UpdateResponse> {
    let proto::UpdateRequest {
        process_id,
        config,
        replace_config,
        slots,
        replace_slots,
        grace_period_secs,
        expected_generation,
        no_wait,
    } = request;
    let key = convert::key(&process_id)?;
    let config = (replace_config || !config.is_empty()).then(|| convert::config(config));
    let slots = (replace_slots || !slots.is_empty()).then(|| convert::slots(slots)).transpose()?;
    let grace = convert::span("grace_period_secs", grace_period_secs)?;
    let change = Update { config, slots, grace_period: grace, expected: generation(expected_generation)? };
    let updating = async { Ok(call.control().update(&key, change, waiting(no_wait), &call.caller).await?) };
    match call.in_time(|| Some(key.clone()), Code::ProcessStartFailed, updating).await? {
        Updated::Applied(status) => Ok(proto::UpdateResponse { process: Some(shown(&status)) }),
        Updated::Moved(now) => Err(moved(&key, expected_generation, now)),
    }
}

pub(super) async fn abandon(call: Call, request: proto::AbandonRequest) -> Outcome<proto::AbandonResponse> {
    let key = convert::key(&request.process_id)?;
    Ok(proto::AbandonResponse { abandoned: call.control().abandon(&key, &call.caller).await? })
}

pub(super) async fn manifests(
    call: Call,
    request: proto::ListManifestsRequest,
) -> Outcome<proto::ListManifestsResponse> {
    let manifests = convert::manifests(&call.control().patterns(), &request.pattern_name);
    Ok(proto::ListManifestsResponse { manifests })
}

pub(super) async fn explain(call: Call, request: proto::ExplainRequest) -> Outcome<proto::ExplainResponse> {
    let key = convert::key(&request.process_id)?;
    let explanation = call.control().explain(&key).await;
    Ok(proto::ExplainResponse {
        process: explanation.status.as_ref().map(shown),
        lines: explanation.lines,
        events: explanation.events.iter().map(|happening| convert::event(happening)).collect(),
        printed: explanation.printed,
    })
}

pub(super) async fn plan(call: Call, request: proto::PlanRequest) -> Outcome<proto::PlanResponse> {
    let filter = Filter { pattern: request.pattern_name, namespace: request.namespace, process_id: String::new() };
    let mut statuses = call.control().board().statuses();
    statuses.retain(|status| filter.passes(&status.process_id));
    statuses.sort_by(|a, b| a.process_id.cmp(&b.process_id));
    let planned = statuses.iter().map(|status| proto::PlannedAction {
        process_id: status.process_id.as_str().to_owned(),
        action: status.verdict.action.clone(),
        reason: status.verdict.reason.clone(),
        differences: status.differences.iter().map(convert::difference).collect(),
    });
    Ok(proto::PlanResponse { actions: planned.collect() })
}

const fn waiting(no_wait: bool) -> Wait {
    if no_wait { Wait::No } else { Wait::ForOutcome }
}

fn shown(status: &Arc<KeyStatus>) -> proto::PatternInfo {
    pattern_info(status, clock::now())
}

fn generation(number: i64) -> Outcome<Option<Generation>> {
    match u64::try_from(number) {
        Ok(0) => Ok(None),
        Ok(number) => Ok(Some(Generation(number))),
        Err(_) => Err(Error::new(Code::InvalidInstance, "'expected_generation' is negative")
            .with("expected_generation", number)
            .suggest("send the generation that prismctl pattern status shows, or 0 for any")
            .into()),
    }
}

/// Somebody else was faster.
fn moved(key: &Key, expected: i64, now: Generation) -> Status {
    let error = Error::new(Code::InvalidInstance, format!("'{key}' has been changed by somebody else"))
        .with("process_id", key)
        .with("expected_generation", expected)
        .with("generation", now.0)
        .suggest(format!(
            "look at it again, and make the change from generation {}: prismctl pattern status {}",
            now.0,
            Error::word(key.as_str())
        ));
    status::with_code(&error, tonic::Code::Aborted)
}
