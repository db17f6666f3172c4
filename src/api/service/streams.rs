//! The methods that answer with streams.

use super::{Call, Outcome, READERS, Sent, WATCHERS};
use crate::act::clock;
use crate::act::output::Section;
use crate::api::convert::{self, Filter};
use crate::api::events::{EVENTS, Watching};
use crate::api::logs::{CHUNKS, Reading};
use crate::api::{proto, status};
use crate::control::LogsWanted;
use crate::error::{Code, Error};
use crate::model::units;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

pub(super) async fn watch_events(
    call: Call,
    request: proto::WatchEventsRequest,
) -> Outcome<Sent<proto::WatchEventsResponse>> {
    let proto::WatchEventsRequest { pattern_name, namespace, process_id } = request;
    let office = &call.office;
    let Ok(slot) = Arc::clone(&office.watchers).try_acquire_owned() else {
        return Err(status::crowded("clients that watch events", WATCHERS));
    };
    let watching = Watching {
        filter: Filter { pattern: pattern_name, namespace, process_id },
        happenings: call.control().board().chronicle().listen(),
        control: call.control().clone(),
        closing: office.closing.clone(),
        _slot: slot,
    };
    let (sender, sent) = mpsc::channel(EVENTS);
    tokio::spawn(watching.run(sender));
    Ok(ReceiverStream::new(sent))
}

pub(super) async fn stream_logs(
    call: Call,
    request: proto::StreamLogsRequest,
) -> Outcome<Sent<proto::StreamLogsResponse>> {
    let proto::StreamLogsRequest { process_id, tail_lines, follow, since, previous } = request;
    let key = convert::key(&process_id)?;
    let tail = u64::try_from(tail_lines).map_err(|_| {
        Error::new(Code::InvalidInstance, "'tail_lines' is negative")
            .with("tail_lines", tail_lines)
            .suggest("send how many of the last lines are wanted, or 0 for all")
    })?;
    if follow && previous {
        return Err(Error::new(Code::InvalidInstance, "'follow' and 'previous' exclude each other")
            .because("an earlier run prints nothing more")
            .suggest("leave one of them out")
            .into());
    }
    let section = Section { since: since_of(&since)?, previous, tail: Some(tail).filter(|lines| *lines > 0) };
    let office = &call.office;
    let Ok(slot) = Arc::clone(&office.readers).try_acquire_owned() else {
        return Err(status::crowded("clients that read logs", READERS));
    };
    let logs = call.control().logs(&key, LogsWanted { section, follow }).await?;
    let reading = Reading { logs, closing: office.closing.clone(), _slot: slot };
    let (sender, sent) = mpsc::channel(CHUNKS);
    tokio::spawn(reading.run(sender));
    Ok(ReceiverStream::new(sent))
}

/// Reads a time, or how long ago it was; empty is no time.
fn since_of(text: &str) -> Outcome<Option<SystemTime>> {
    if text.is_empty() {
        return Ok(None);
    }
    let ago = units::parse_duration(text).ok().map(|ago| clock::wall().checked_sub(ago).unwrap_or(UNIX_EPOCH));
    let at = || units::parse_time(text).ok().and_then(|at| UNIX_EPOCH.checked_add(Duration::from_millis(at)));
    ago.or_else(at).map(Some).ok_or_else(|| {
        Error::new(Code::InvalidInstance, "'since' is neither a time nor a duration")
            .with("since", Error::echo(text))
            .suggest("write it as 10m or as 2031-05-01T12:00:00Z")
            .into()
    })
}
