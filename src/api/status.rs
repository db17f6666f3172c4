//! An error as a gRPC status: the fitting code, the whole printed form, and its parts as `google.rpc.ErrorInfo`.
//!
//! A status travels in HTTP headers, and clients refuse headers over 8 KiB, so long parts are cut until it fits.

use crate::error::{Code, Error};
use crate::observed::ask::shutting_down;
use std::collections::HashMap;
use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt as _};

/// Whose reasons these are, as `google.rpc.ErrorInfo` has it.
pub const DOMAIN: &str = "pattern-launcher";

/// What a status may take in the headers: gRPC's advice is 8 KiB for all of them, and a few others are sent, too.
const HEADERS_LIMIT: usize = 7 * 1024;
/// Parts longer than this are cut, the first that fits being taken. At the last, a status with [`CONTEXT_LIMIT`] pairs
/// has less than 6 KiB.
const PART_LIMITS: [usize; 6] = [2048, 1024, 512, 256, 128, 48];
/// The most pairs of context; errors have a handful.
const CONTEXT_LIMIT: usize = 12;

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        with_code(&error, code_of(error.code()))
    }
}

/// The gRPC code of an error, as the contract lists them.
pub const fn code_of(code: Code) -> tonic::Code {
    match code {
        Code::PatternNotFound | Code::ProcessNotFound => tonic::Code::NotFound,
        Code::InvalidInstance | Code::InvalidIsolationLevel | Code::MissingNamespace | Code::MissingSessionId => {
            tonic::Code::InvalidArgument
        }
        Code::InvalidManifest
        | Code::ExecutableNotFound
        | Code::ExecutableNotRunnable
        | Code::MaxErrorsExceeded
        | Code::DeclaredByFile
        | Code::DuplicateInstance
        | Code::InvalidConfiguration
        | Code::ProcessStartFailed
        | Code::ProcessCrashed
        | Code::HealthCheckFailed
        | Code::AlreadyRunning => tonic::Code::FailedPrecondition,
        Code::ResourceLimitExceeded | Code::PortAllocationFailed => tonic::Code::ResourceExhausted,
        Code::StoreUnavailable => tonic::Code::Unavailable,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::TerminationFailed | Code::InternalError => tonic::Code::Internal,
    }
}

/// A status with another code than the error's own, as for a deadline that has passed.
pub(super) fn with_code(error: &Error, code: tonic::Code) -> Status {
    let fitting = PART_LIMITS.iter().map(|limit| cut(error, *limit)).find(|error| header_bytes(error) <= HEADERS_LIMIT);
    let error = fitting.unwrap_or_else(|| Error::new(error.code(), shorten(error.message(), PART_LIMITS[5])));
    let details = ErrorDetails::with_error_info(error.code().as_str(), DOMAIN, metadata(&error));
    Status::with_error_details(code, error.to_string(), details)
}

/// The launcher ends.
pub(super) fn closing() -> Status {
    shutting_down().into()
}

/// More is asked at once than the launcher serves.
pub(super) fn crowded(what: &str, limit: usize) -> Status {
    Error::new(Code::ResourceLimitExceeded, format!("more than {limit} {what} are being served"))
        .with("limit", limit)
        .suggest("ask again when some of them have ended")
        .into()
}

/// The parts of an error by their names.
fn metadata(error: &Error) -> HashMap<String, String> {
    let own = [("cause", error.cause()), ("suggestion", error.suggestion())];
    let own = own.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    error.context().iter().cloned().chain(own).collect()
}

/// The error with every part cut to so many bytes.
fn cut(error: &Error, limit: usize) -> Error {
    let mut short = Error::new(error.code(), shorten(error.message(), limit));
    for (key, value) in error.context().iter().take(CONTEXT_LIMIT) {
        short = short.with(&shorten(key, limit), shorten(value, limit));
    }
    if let Some(cause) = error.cause() {
        short = short.because(shorten(cause, limit));
    }
    match error.suggestion() {
        Some(suggestion) => short.suggest(shorten(suggestion, limit)),
        None => short,
    }
}

fn shorten(text: &str, limit: usize) -> String {
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = (0..=limit).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &text[..end])
}

/// What the status takes in the headers: its message percent-encoded, and message and details as base64.
fn header_bytes(error: &Error) -> usize {
    let message = error.to_string();
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:/,;=[]()'!*+@&$|~^\\".contains(byte);
    let encoded: usize = message.bytes().map(|byte| if plain(&byte) { 1 } else { 3 }).sum();
    // Six bytes for the tags and lengths of a pair, and a hundred for those around them and the type's name.
    let pairs: usize = metadata(error).iter().map(|(key, value)| key.len() + value.len() + 6).sum();
    encoded + (message.len() + pairs + 100).div_ceil(3) * 4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(status: Status) -> usize {
        let response = status.into_http::<tonic::body::Body>();
        response.headers().iter().map(|(name, value)| name.as_str().len() + value.len() + 32).sum()
    }

    #[test]
    fn a_status_has_every_part() {
        let error = Error::new(Code::PatternNotFound, "Pattern 'x' not found")
            .with("pattern_name", "x")
            .because("no such folder")
            .suggest("ls ./patterns");
        let status = Status::from(error.clone());
        assert_eq!(status.code(), tonic::Code::NotFound);
        assert_eq!(status.message(), error.to_string());
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("PATTERN_NOT_FOUND", DOMAIN));
        let named = |name: &str| info.metadata.get(name).map(String::as_str);
        assert_eq!(named("pattern_name"), Some("x"));
        assert_eq!(named("cause"), Some("no such folder"));
        assert_eq!(named("suggestion"), Some("ls ./patterns"));
    }

    #[test]
    fn whatever_an_error_holds_its_status_fits_the_headers() {
        for unit in ["x", " ", "ß", "\n", "🚀"] {
            let long = unit.repeat(20_000);
            let mut error = Error::new(Code::InvalidManifest, long.clone()).because(long.clone()).suggest(long.clone());
            for n in 0..50 {
                error = error.with(&format!("key{n}{long}"), &long);
            }
            let size = headers(error.into());
            assert!(size < 8 * 1024, "{size} bytes of {unit:?}");
        }
    }

    #[test]
    fn an_error_of_usual_size_is_not_cut() {
        let cause = "  3 |   memory-limit: 1Gi\n    |   ^ ".repeat(10);
        let error = Error::new(Code::InvalidManifest, "patterns/a/manifest.yaml:3:3: unknown key 'memory-limit'")
            .because(cause)
            .suggest("write 'memory_limit' in place of 'memory-limit'");
        assert_eq!(Status::from(error.clone()).message(), error.to_string());
    }
}
