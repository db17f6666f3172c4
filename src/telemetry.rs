//! The log: text for people or JSON for programs, on standard error.
//!
//! What a run's task or a probe logs stands in a span with key and run. The level can be changed while it is written.
//!
//! Deliberately absent: what is logged. The executor logs what it carries out, the shell what it is told.

use crate::config::{Config, LogFormat};
use crate::error::{Code, Error, Result};
use std::io::IsTerminal as _;
use std::sync::OnceLock;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::{EnvFilter, reload};

/// Changes the level of the log that this process has; there is one in a process.
type ChangeLevel = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

static LEVEL: OnceLock<ChangeLevel> = OnceLock::new();

/// Starts the log for this process.
///
/// # Errors
/// `INVALID_CONFIGURATION` when the level cannot be read, `INTERNAL_ERROR` when the process already has a log.
pub fn start(config: &Config) -> Result<()> {
    let filter = filter(&config.log_level)?;
    let terminal = std::io::stderr().is_terminal();
    let text = match config.log_format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let (started, change): (_, ChangeLevel) = if text {
        let lines = lines.with_ansi(terminal).with_target(false).with_filter_reloading();
        let handle = lines.reload_handle();
        (lines.try_init(), Box::new(move |filter| handle.reload(filter)))
    } else {
        // The innermost span says which key and run it is about.
        let lines = lines.json().flatten_event(true).with_span_list(false).with_filter_reloading();
        let handle = lines.reload_handle();
        (lines.try_init(), Box::new(move |filter| handle.reload(filter)))
    };
    started.map_err(|cause| {
        Error::new(Code::InternalError, "the log cannot be started")
            .because(cause.to_string())
            .suggest("start one launcher in a process, before anything else starts a log")
    })?;
    // It was started just now, so that nobody else has set it.
    drop(LEVEL.set(change));
    Ok(())
}

/// Changes what is logged from now on; `level` is one such as `debug`, or several such as `info,pattern_launcher::probe=debug`.
///
/// # Errors
/// `INVALID_CONFIGURATION` when the level cannot be read, `INTERNAL_ERROR` when this process has a log that it did not
/// start here.
pub fn set_level(level: &str) -> Result<()> {
    let filter = filter(level)?;
    let changed = LEVEL.get().map(|change| change(filter));
    changed.and_then(Result::ok).ok_or_else(|| {
        Error::new(Code::InternalError, "the level of the log cannot be changed")
            .with("log_level", Error::echo(level))
            .suggest("restart the launcher")
    })
}

fn filter(level: &str) -> Result<EnvFilter> {
    EnvFilter::builder().parse(level).map_err(|cause| {
        Error::new(Code::InvalidConfiguration, "the log level cannot be used")
            .with("log_level", Error::echo(level))
            .caused_by(&cause)
            .suggest("use error, warn, info, debug or trace")
    })
}

/// The time of day as RFC 3339, as the log has it.
pub fn wall_time() -> String {
    let mut text = String::new();
    SystemTime.format_time(&mut Writer::new(&mut text)).unwrap_or_default();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_time_is_rfc_3339() {
        let now = wall_time();
        assert!(now.len() >= 20 && now.ends_with('Z') && now.as_bytes()[10] == b'T', "{now}");
    }
}
