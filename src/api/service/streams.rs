//! The methods that answer with streams.

use super::{Call, Outcome, READERS, Sent, WATCHERS};
use crate::api::convert::{self, Filter};
use crate::api::events::{EVENTS, Watching};
use crate::api::logs::{CHUNKS, Reading};
use crate::api::{proto, status};
use crate::error::{Code, Error};
use std::sync::Arc;
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
    let proto::StreamLogsRequest { process_id, tail_lines, follow } = request;
    let key = convert::key(&process_id)?;
    let tail = u64::try_from(tail_lines).map_err(|_| {
        Error::new(Code::InvalidInstance, "'tail_lines' is negative")
            .with("tail_lines", tail_lines)
            .suggest("send how many of the last lines are wanted, or 0 for all")
    })?;
    let office = &call.office;
    let Ok(slot) = Arc::clone(&office.readers).try_acquire_owned() else {
        return Err(status::crowded("clients that read logs", READERS));
    };
    let reading = Reading {
        path: office.log_dir.join(format!("{}.log", key.file_name())),
        key,
        tail: Some(tail).filter(|lines| *lines > 0),
        follow,
        board: Arc::clone(call.control().board()),
        closing: office.closing.clone(),
        _slot: slot,
    };
    reading.check()?;
    let (sender, sent) = mpsc::channel(CHUNKS);
    tokio::spawn(reading.run(sender));
    Ok(ReceiverStream::new(sent))
}
