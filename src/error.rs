//! The one error type that users see: a code, a message, its context, its cause, and what to do.
//!
//! Printed as `[CODE] message; Context: k=v, k=v; Cause: …; Suggestion: …`. Each part can be read by programs.
//! Values that callers sent are escaped and cut where they are put into the context, see [`Error::echo`].

use serde::{Deserialize, Serialize};
use std::fmt;

/// What kind of failure it is. Names are part of the product contract and never change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// No pattern of that name is in the patterns directory.
    PatternNotFound,
    /// A `manifest.yaml` cannot be used.
    InvalidManifest,
    /// The manifest's executable does not exist.
    ExecutableNotFound,
    /// The manifest's executable exists and cannot be run.
    ExecutableNotRunnable,
    /// The process could not be started, or did not become healthy within its `startup_timeout`.
    ProcessStartFailed,
    /// The process ended although nobody asked for it.
    ProcessCrashed,
    /// A process that had been healthy failed its health check `failure_threshold` times in a row.
    HealthCheckFailed,
    /// The process tree could not be ended.
    TerminationFailed,
    /// The circuit is open: `max_errors` failures in a row.
    MaxErrorsExceeded,
    /// The launcher's own configuration cannot be used.
    InvalidConfiguration,
    /// The isolation level is unknown, or less than the manifest's `minimum_isolation`.
    InvalidIsolationLevel,
    /// The isolation level needs a namespace and there is none.
    MissingNamespace,
    /// The isolation level is `session` and there is no session.
    MissingSessionId,
    /// No free port is left in `port_range`.
    PortAllocationFailed,
    /// A quota is used up.
    ResourceLimitExceeded,
    /// A defect of the launcher.
    InternalError,
    /// An instance document cannot be used.
    InvalidInstance,
    /// Another document declares the same process.
    DuplicateInstance,
    /// No process has that id.
    ProcessNotFound,
    /// A person's file declares the instance, so it is changed there.
    DeclaredByFile,
    /// A folder of the store or the state folder cannot be read or written.
    StoreUnavailable,
    /// Another launcher holds the state folder or the desired root.
    AlreadyRunning,
    /// The root may not declare this, or the caller may not do this.
    PermissionDenied,
}

impl Code {
    /// The code as it is printed, such as `PATTERN_NOT_FOUND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PatternNotFound => "PATTERN_NOT_FOUND",
            Self::InvalidManifest => "INVALID_MANIFEST",
            Self::ExecutableNotFound => "EXECUTABLE_NOT_FOUND",
            Self::ExecutableNotRunnable => "EXECUTABLE_NOT_RUNNABLE",
            Self::ProcessStartFailed => "PROCESS_START_FAILED",
            Self::ProcessCrashed => "PROCESS_CRASHED",
            Self::HealthCheckFailed => "HEALTH_CHECK_FAILED",
            Self::TerminationFailed => "TERMINATION_FAILED",
            Self::MaxErrorsExceeded => "MAX_ERRORS_EXCEEDED",
            Self::InvalidConfiguration => "INVALID_CONFIGURATION",
            Self::InvalidIsolationLevel => "INVALID_ISOLATION_LEVEL",
            Self::MissingNamespace => "MISSING_NAMESPACE",
            Self::MissingSessionId => "MISSING_SESSION_ID",
            Self::PortAllocationFailed => "PORT_ALLOCATION_FAILED",
            Self::ResourceLimitExceeded => "RESOURCE_LIMIT_EXCEEDED",
            Self::InternalError => "INTERNAL_ERROR",
            Self::InvalidInstance => "INVALID_INSTANCE",
            Self::DuplicateInstance => "DUPLICATE_INSTANCE",
            Self::ProcessNotFound => "PROCESS_NOT_FOUND",
            Self::DeclaredByFile => "DECLARED_BY_FILE",
            Self::StoreUnavailable => "STORE_UNAVAILABLE",
            Self::AlreadyRunning => "ALREADY_RUNNING",
            Self::PermissionDenied => "PERMISSION_DENIED",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A failure that a user can act on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    code: Code,
    message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    context: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    suggestion: Option<String>,
}

/// The longest echo of a value that a caller sent, in bytes.
const ECHO_LIMIT: usize = 64;

impl Error {
    /// An error with a code and a message; the message names what failed, without a full stop.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), context: Vec::new(), cause: None, suggestion: None }
    }

    /// Adds one pair to the context.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.context.push((key.to_owned(), value.to_string()));
        self
    }

    /// Sets the cause: the chain of `source`s, joined by `: `.
    #[must_use]
    pub fn caused_by(mut self, cause: &dyn std::error::Error) -> Self {
        let mut text = cause.to_string();
        let mut next = cause.source();
        while let Some(source) = next {
            text.push_str(": ");
            text.push_str(&source.to_string());
            next = source.source();
        }
        self.cause = Some(text);
        self
    }

    /// Sets the cause as text.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Sets what the user can do: a command or an edit that fixes this case.
    #[must_use]
    pub fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// What failed and why, without context and suggestion: how it reads as the cause of another error.
    pub fn summary(&self) -> String {
        match &self.cause {
            Some(cause) => format!("[{}] {}: {cause}", self.code, self.message),
            None => format!("[{}] {}", self.code, self.message),
        }
    }

    /// The kind of failure.
    pub const fn code(&self) -> Code {
        self.code
    }

    /// What failed, without context.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The details, in the order they were added.
    pub fn context(&self) -> &[(String, String)] {
        &self.context
    }

    /// One detail by its name.
    pub fn context_value(&self, key: &str) -> Option<&str> {
        self.context.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The underlying failure.
    pub fn cause(&self) -> Option<&str> {
        self.cause.as_deref()
    }

    /// What to do about it.
    pub fn suggestion(&self) -> Option<&str> {
        self.suggestion.as_deref()
    }

    /// A caller's value made safe to print: control characters and quotes escaped, cut to 64 bytes.
    pub fn echo(value: &str) -> String {
        let mut out = String::new();
        for c in value.chars() {
            let escaped: String = c.escape_debug().collect();
            if out.len() + escaped.len() > ECHO_LIMIT {
                out.push('…');
                break;
            }
            out.push_str(&escaped);
        }
        out
    }

    /// A text as one word of a shell's command line, for suggestions.
    pub fn word(text: &str) -> String {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.:%@+=,/".contains(c);
        if !text.is_empty() && text.chars().all(is_plain) {
            text.to_owned()
        } else {
            format!("'{}'", text.replace('\'', r"'\''"))
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.code, self.message)?;
        for (i, (key, value)) in self.context.iter().enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { "; Context: " } else { ", " })?;
        }
        if let Some(cause) = &self.cause {
            write!(f, "; Cause: {cause}")?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "; Suggestion: {suggestion}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// The result of what can fail in a way users see.
pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_one_word_for_a_shell() {
        for (text, expected) in [
            ("ns:tenant-a:consumer", "ns:tenant-a:consumer"),
            ("session:a:auth0|123:p", "'session:a:auth0|123:p'"),
            ("session:a:o'neil:p", r"'session:a:o'\''neil:p'"),
            ("", "''"),
        ] {
            assert_eq!(Error::word(text), expected);
        }
    }

    #[test]
    fn prints_every_part_in_the_contracts_order() {
        let error = Error::new(Code::PatternNotFound, "Pattern 'x' not found")
            .with("pattern_name", "x")
            .with("patterns_dir", "./patterns")
            .because("no such folder")
            .suggest("ls ./patterns");
        assert_eq!(
            error.to_string(),
            "[PATTERN_NOT_FOUND] Pattern 'x' not found; Context: pattern_name=x, patterns_dir=./patterns; \
             Cause: no such folder; Suggestion: ls ./patterns"
        );
    }

    #[test]
    fn an_echo_is_escaped_and_short() {
        assert_eq!(Error::echo("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert!(Error::echo(&"x".repeat(1000)).len() <= ECHO_LIMIT + '…'.len_utf8());
    }
}
