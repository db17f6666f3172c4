//! What is shown on a terminal while the daemon takes its time.

use super::connection::Connection;
use super::screen::Screen;
use super::text::{escaped, lasting};
use super::views::state;
use crate::api::proto::{GetProcessStatusRequest, PatternInfo};
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt::Write as _;
use std::future::Future;
use std::time::Duration;

/// How often the process is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(120);
/// How long looking at a process may take when it is only for a better message.
const GLANCE: Duration = Duration::from_secs(2);

/// Waits for the answer and meanwhile shows where the process stands.
pub(super) async fn while_waiting<T>(
    screen: &Screen,
    connection: &Connection,
    doing: &str,
    process_id: Option<&str>,
    answer: impl Future<Output = T>,
) -> T {
    if !screen.progress {
        return answer.await;
    }
    let style =
        ProgressStyle::with_template("{spinner} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
    let bar = ProgressBar::new_spinner().with_style(style).with_message(escaped(doing).into_owned());
    bar.enable_steady_tick(TURN);
    // The answer may be lost by nothing here: looking at the process ends with it.
    let answer = tokio::select! {
        answer = answer => answer,
        never = keep_looking(connection, &bar, doing, process_id) => match never {},
    };
    bar.finish_and_clear();
    answer
}

async fn keep_looking(
    connection: &Connection,
    bar: &ProgressBar,
    doing: &str,
    process_id: Option<&str>,
) -> std::convert::Infallible {
    let mut waited = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        waited += 1;
        let process = match process_id {
            Some(id) => glance(connection, id).await,
            None => None,
        };
        bar.set_message(message(doing, waited, process.as_ref()));
    }
}

fn message(doing: &str, waited: i64, process: Option<&PatternInfo>) -> String {
    let mut said = format!("{doing} ({})", lasting(waited));
    if let Some(process) = process {
        write!(said, ": {}", state(process.state)).unwrap_or_default();
        if !process.last_error.is_empty() {
            write!(said, "; {}", process.last_error).unwrap_or_default();
        }
    }
    escaped(&said).into_owned()
}

/// Where a process stands, if that can be said at once.
pub(super) async fn glance(connection: &Connection, process_id: &str) -> Option<PatternInfo> {
    let mut request = tonic::Request::new(GetProcessStatusRequest { process_id: process_id.to_owned() });
    request.set_timeout(GLANCE);
    connection.client().get_process_status(request).await.ok()?.into_inner().process
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_says_where_the_process_stands() {
        let process = PatternInfo { state: 1, last_error: "exit 1\u{1b}".to_owned(), ..PatternInfo::default() };
        assert_eq!(message("launching x", 75, Some(&process)), "launching x (1m 15s): starting; exit 1\\u{1b}");
        assert_eq!(message("launching x", 1, None), "launching x (1s)");
    }
}
