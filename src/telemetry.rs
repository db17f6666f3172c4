//! The log: text for people or JSON for programs, on standard error.
//!
//! Deliberately absent: what is logged. The executor logs what it carries out, the shell what it is told.

use crate::config::{Config, LogFormat};
use crate::error::{Code, Error, Result};
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};

/// Starts the log for this process.
///
/// # Errors
/// `INVALID_CONFIGURATION` when the level cannot be read, `INTERNAL_ERROR` when the process already has a log.
pub fn start(config: &Config) -> Result<()> {
    let filter = EnvFilter::builder().parse(&config.log_level).map_err(|cause| {
        Error::new(Code::InvalidConfiguration, "the log level cannot be used")
            .with("log_level", Error::echo(&config.log_level))
            .caused_by(&cause)
            .suggest("use error, warn, info, debug or trace")
    })?;
    let terminal = std::io::stderr().is_terminal();
    let text = match config.log_format {
        LogFormat::Auto => terminal,
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if text {
        lines.with_ansi(terminal).with_target(false).try_init()
    } else {
        lines.json().flatten_event(true).try_init()
    };
    started.map_err(|cause| {
        Error::new(Code::InternalError, "the log cannot be started")
            .because(cause.to_string())
            .suggest("start one launcher in a process, before anything else starts a log")
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
