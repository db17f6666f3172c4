//! What comes bit by bit: events, and what processes print.

use super::DONE;
use super::arguments::{Events, Format};
use super::connection::Connection;
use super::failure::Result;
use super::render;
use super::screen::Screen;
use super::text::escaped_log;
use super::views::{Logged, Watched};
use crate::api::proto::{StreamLogsRequest, WatchEventsRequest};

/// Prints what happens until the daemon ends or nobody reads.
pub(super) async fn events(connection: &Connection, filter: Events, screen: &mut Screen) -> Result<u8> {
    let filter = WatchEventsRequest {
        pattern_name: filter.pattern.unwrap_or_default(),
        namespace: filter.namespace.unwrap_or_default(),
        process_id: filter.process_id.unwrap_or_default(),
    };
    let mut stream = connection.answer(connection.client().watch_events(connection.asking(filter)).await)?;
    while let Some(response) = stream.message().await.map_err(|status| connection.failed(&status))? {
        if response.missed > 0 {
            screen.note(&format!("{} events were missed: this reader is too slow", response.missed));
        }
        let text = || response.event.as_ref().map(render::event).unwrap_or_default();
        let shown = screen.look.shown_in_a_row(&Watched::from(&response), text);
        screen.print(shown)?;
    }
    Ok(DONE)
}

/// Prints what a process printed: byte by byte where no terminal reads it.
pub(super) async fn logs(connection: &Connection, wanted: StreamLogsRequest, screen: &mut Screen) -> Result<u8> {
    let mut stream = connection.answer(connection.client().stream_logs(connection.asking(wanted)).await)?;
    while let Some(response) = stream.message().await.map_err(|status| connection.failed(&status))? {
        if response.missed > 0 {
            screen
                .note(&format!("{} bytes are missing here: they were given up before they were read", response.missed));
        }
        match (screen.look.format, screen.look.terminal) {
            (Format::Table, Some(_)) => screen.print(escaped_log(&response.data))?,
            (Format::Table, None) => screen.print(&response.data)?,
            (Format::Json | Format::Yaml, _) => {
                let mut missed = Some(response.missed).filter(|missed| *missed > 0);
                for line in response.data.split_inclusive(|byte| *byte == b'\n') {
                    let data = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
                    let logged = Logged { data, missed: missed.take() };
                    let shown = screen.look.shown_in_a_row(&logged, String::new);
                    screen.print(shown)?;
                }
            }
        }
    }
    Ok(DONE)
}
