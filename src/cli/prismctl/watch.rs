//! `--watch`: the same again whenever something happens.

use super::connection::Connection;
use super::failure::Result;
use super::screen::Screen;
use crate::api::proto::{WatchEventsRequest, WatchEventsResponse};
use std::convert::Infallible;
use std::time::Duration;
use tonic::{Response, Streaming};

/// How often to look when nothing is heard: times go on, and events may be missed.
const EVERY: Duration = Duration::from_secs(2);
/// How long to gather events before looking: they come in bursts.
const GATHER: Duration = Duration::from_millis(100);

/// One look at the daemon.
#[derive(Debug)]
pub(super) struct Sight {
    /// What to print.
    pub(super) text: String,
    /// The same without what time alone changes. Where there is no terminal, a sight is printed when this differs.
    pub(super) lasting: String,
}

/// Looks again and again. It ends only when looking fails or nobody reads.
pub(super) async fn watch(
    connection: &Connection,
    filter: WatchEventsRequest,
    screen: &mut Screen,
    mut look: impl AsyncFnMut(&Screen) -> Result<Sight>,
) -> Result<u8> {
    // Before the first look, so that nothing happens unnoticed in between. Without events it looks by the clock.
    let mut events = connection.client().watch_events(connection.asking(filter)).await.ok().map(Response::into_inner);
    let mut seen: Option<String> = None;
    loop {
        screen.resize();
        let sight = look(screen).await?;
        if screen.look.terminal.is_some() {
            screen.redraw(&sight.text, seen.is_none())?;
        } else if seen.as_ref() != Some(&sight.lasting) {
            screen.print(&sight.text)?;
        }
        seen = Some(sight.lasting);
        if tokio::time::timeout(EVERY, next(&mut events)).await.is_ok() {
            drop(tokio::time::timeout(GATHER, take(&mut events)).await);
        }
    }
}

/// Waits for an event; for ever when none will come.
async fn next(events: &mut Option<Streaming<WatchEventsResponse>>) {
    if let Some(stream) = events {
        if let Ok(Some(_)) = stream.message().await {
            return;
        }
        *events = None;
    }
    std::future::pending::<()>().await;
}

/// Takes events, whatever they are, until it is dropped.
async fn take(events: &mut Option<Streaming<WatchEventsResponse>>) -> Infallible {
    loop {
        next(events).await;
    }
}
