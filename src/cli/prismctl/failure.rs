//! Why a command failed: as lines for people or JSON for programs, and as the exit code.

use super::text::{escaped, escaped_json};
use serde_json::json;
use std::fmt::Write as _;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The daemon refused, or the process failed.
pub(super) const REFUSED: u8 = 1;
/// The command line cannot be used.
pub(super) const USAGE: u8 = 2;
/// What was named does not exist.
pub(super) const NOT_FOUND: u8 = 3;
/// The daemon cannot be reached.
pub(super) const UNREACHABLE: u8 = 4;
/// It took longer than `--timeout`.
pub(super) const DEADLINE: u8 = 5;

/// What tonic says when a deadline passes on this side.
const EXPIRED: &str = "Timeout expired";

/// Why a command ended early.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody reads its output any more, which is no failure of the command.
    Unread,
    /// For the user.
    Told(Box<Told>),
}

/// The result of a part of a command.
pub(super) type Result<T> = std::result::Result<T, Failure>;

/// What is told to the user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// For the shell.
    pub(super) exit: u8,
    /// The launcher's code, or gRPC's where the launcher gave none; empty for failures of this program.
    pub(super) code: String,
    /// What failed.
    pub(super) message: String,
    /// The details.
    pub(super) context: Vec<(String, String)>,
    /// The underlying failure.
    pub(super) cause: Option<String>,
    /// What to do.
    pub(super) suggestion: Option<String>,
}

impl From<Told> for Failure {
    fn from(told: Told) -> Self {
        Self::Told(Box::new(told))
    }
}

impl Told {
    /// A failure of this program, without a code.
    pub(super) fn new(exit: u8, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), ..Self::default() }
    }

    /// Adds one pair to the context.
    pub(super) fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.context.push((key.to_owned(), value.into()));
        self
    }

    /// Sets the cause.
    pub(super) fn because(mut self, cause: impl Into<String>) -> Self {
        self.cause = Some(cause.into());
        self
    }

    /// Sets what to do.
    pub(super) fn suggest(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    /// Reads an error as the launcher prints it. The context stays one text, since its values may contain anything.
    pub(super) fn parse(exit: u8, text: &str) -> Self {
        let (code, rest) = split_code(text);
        let (rest, suggestion) = split_off(rest.rsplit_once("; Suggestion: "), rest);
        let (rest, cause) = split_off(rest.split_once("; Cause: "), rest);
        let (message, context) = split_off(rest.split_once("; Context: "), rest);
        let context = context.map(|context| ("context".to_owned(), context)).into_iter().collect();
        Self { exit, code: code.to_owned(), message: message.to_owned(), context, cause, suggestion }
    }

    /// What the daemon at `address` answered, or why no answer came from it.
    pub(super) fn from_status(status: &Status, address: &str) -> Self {
        let mut told = Self::parse(exit_of(status.code()), status.message());
        if let Some(reason) = status.get_details_error_info() {
            let mut metadata = reason.metadata;
            // These two are no context, and here they are whole, whatever is in them.
            told.cause = metadata.remove("cause").or(told.cause);
            told.suggestion = metadata.remove("suggestion").or(told.suggestion);
            let mut context: Vec<(String, String)> = metadata.into_iter().collect();
            // The details have no order; the message has one.
            context.sort_by_key(|(key, _)| (status.message().find(&format!("{key}=")), key.clone()));
            told.context = context;
            told.code = reason.reason;
        }
        if !told.code.is_empty() {
            return told;
        }
        grpc_name(status.code()).clone_into(&mut told.code);
        if is_expired(status) {
            return Self::expired();
        }
        // What did not come from the daemon has a source; what came from it without a code is about the connection.
        if std::error::Error::source(status).is_some() || status.code() == Code::Unavailable {
            return lost(address, status);
        }
        if status.code() == Code::Unimplemented {
            return told.suggest("this daemon is older than this prismctl; use those of one version");
        }
        told
    }

    /// That the daemon took longer than it was given.
    pub(super) fn expired() -> Self {
        Self { code: grpc_name(Code::DeadlineExceeded).to_owned(), ..Self::new(DEADLINE, "no answer came in time") }
            .suggest("wait longer with --timeout; what was asked for may be going on")
    }

    /// The failure for a terminal or a file of people.
    pub(super) fn text(&self, colours: bool) -> String {
        let head = if colours { "\u{1b}[1;31merror:\u{1b}[0m" } else { "error:" };
        let mut text = format!("{head} {}\n", escaped(&self.message));
        let mut add = |name: &str, value: &str| {
            writeln!(text, "  {}: {}", escaped(name), escaped(value)).unwrap_or_default();
        };
        if !self.code.is_empty() {
            add("code", &self.code);
        }
        self.context.iter().for_each(|(key, value)| add(key, value));
        if let Some(cause) = &self.cause {
            add("cause", cause);
        }
        if let Some(suggestion) = &self.suggestion {
            add("try", suggestion);
        }
        text
    }

    /// The failure for programs, in one line.
    pub(super) fn json(&self) -> String {
        let Self { exit, code, message, context, cause, suggestion } = self;
        let context: serde_json::Map<String, serde_json::Value> =
            context.iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
        let code = (!code.is_empty()).then_some(code);
        let error = json!({
            "code": code, "message": message, "context": context, "cause": cause, "suggestion": suggestion,
            "exit_code": exit,
        });
        escaped_json(&json!({ "error": error }).to_string()) + "\n"
    }
}

/// The connection broke, or the daemon is going.
fn lost(address: &str, status: &Status) -> Told {
    Told { code: grpc_name(Code::Unavailable).to_owned(), ..Told::new(UNREACHABLE, "the daemon does not answer") }
        .with("address", address)
        .because(status.message())
        .suggest("see whether it runs (its log says when it ends), and ask again")
}

fn is_expired(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded || (status.code() == Code::Cancelled && status.message() == EXPIRED)
}

/// The code in brackets that begins a text of the launcher, and the rest.
fn split_code(text: &str) -> (&str, &str) {
    match text.strip_prefix('[').and_then(|text| text.split_once("] ")) {
        Some((code, rest)) if code.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') => (code, rest),
        _ => ("", text),
    }
}

fn split_off<'a>(split: Option<(&'a str, &'a str)>, whole: &'a str) -> (&'a str, Option<String>) {
    split.map_or((whole, None), |(rest, part)| (rest, Some(part.to_owned())))
}

/// The exit code for an answer with this gRPC code.
const fn exit_of(code: Code) -> u8 {
    match code {
        Code::NotFound => NOT_FOUND,
        Code::DeadlineExceeded => DEADLINE,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => REFUSED,
    }
}

/// The name of a gRPC code as its specification writes it.
const fn grpc_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use tonic_types::ErrorDetails;

    const TEXT: &str = "[PATTERN_NOT_FOUND] Pattern 'x' not found; Context: pattern_name=x, folder=./p, q; \
                        Cause: no such folder; Suggestion: ls ./p; or make one";

    #[test]
    fn an_error_with_details_is_told_in_lines() {
        let metadata = [("folder", "./p, q"), ("pattern_name", "x"), ("cause", "no such folder")];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let details = ErrorDetails::with_error_info("PATTERN_NOT_FOUND", "prism.launcher", HashMap::from(metadata));
        let status = Status::with_error_details(Code::NotFound, TEXT, details);
        let told = Told::from_status(&status, "unix:/s");
        assert_eq!(told.exit, NOT_FOUND);
        let expected = "\
error: Pattern 'x' not found
  code: PATTERN_NOT_FOUND
  pattern_name: x
  folder: ./p, q
  cause: no such folder
  try: ls ./p; or make one
";
        assert_eq!(told.text(false), expected);
        let json: serde_json::Value = serde_json::from_str(&told.json()).unwrap();
        assert_eq!(json["error"]["context"]["folder"], "./p, q");
        assert_eq!(json["error"]["exit_code"], 3);
    }

    #[test]
    fn an_error_without_details_is_read_from_its_text() {
        let told = Told::from_status(&Status::failed_precondition(TEXT), "unix:/s");
        assert_eq!((told.exit, told.code.as_str()), (REFUSED, "PATTERN_NOT_FOUND"));
        assert_eq!(told.context, [("context".to_owned(), "pattern_name=x, folder=./p, q".to_owned())]);
        let plain = Told::from_status(&Status::internal("[odd] ; Cause: "), "unix:/s");
        assert_eq!((plain.code.as_str(), plain.message.as_str()), ("INTERNAL", "[odd] "));
    }

    #[test]
    fn exit_codes_follow_what_happened() {
        let exit = |status: Status| Told::from_status(&status, "unix:/s").exit;
        assert_eq!(exit(Status::not_found("x")), NOT_FOUND);
        assert_eq!(exit(Status::deadline_exceeded("x")), DEADLINE);
        assert_eq!(exit(Status::cancelled(EXPIRED)), DEADLINE);
        assert_eq!(exit(Status::unavailable("going away")), UNREACHABLE);
        assert_eq!(exit(Status::unavailable("[STORE_UNAVAILABLE] the disk is full")), REFUSED);
        assert_eq!(exit(Status::invalid_argument("x")), REFUSED);
        assert_eq!(exit(Status::unimplemented("x")), REFUSED);
        let broken = Status::from_error(Box::new(std::io::Error::from(std::io::ErrorKind::ConnectionReset)));
        assert_eq!(exit(broken), UNREACHABLE);
    }

    #[test]
    fn nothing_that_is_told_reaches_the_terminal_as_an_escape() {
        let evil = "\u{1b}[2J\r\n\u{9b}";
        let told = Told::new(1, evil).with(evil, evil).because(evil).suggest(evil);
        assert!(told.text(false).chars().all(|c| c == '\n' || !c.is_control()));
        assert_eq!(told.text(false).lines().count(), 4);
        assert!(told.json().trim_end().chars().all(|c| !c.is_control()));
        assert!(told.text(true).starts_with("\u{1b}[1;31merror:\u{1b}[0m \\u{1b}[2J"));
    }
}
