//! `confirm-prune`: lets a held-back mass deletion happen.
//!
//! The token is left in a folder that the launcher looks into. That needs the right to write to the state folder, which
//! is the right to do everything that the launcher does.

use crate::act::records::{AUDIT_LOG, note_command};
use crate::act::status_file::STATUS_FILE;
use crate::desired::store::confirm_dir;
use crate::error::{Code, Error, Result};
use crate::model::Caller;
use crate::telemetry::wall_time;
use rustix::process::getuid;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

/// What stands before a token in the message of a condition.
const COMMAND: &str = "confirm-prune ";

/// Leaves the confirmation if a deletion of that token is held back; the text says what happens next.
pub(super) fn confirm(state_dir: &Path, token: &str) -> Result<String> {
    let held = held_back(state_dir)?;
    if !held.contains(token) {
        return Err(unknown_token(state_dir, token, &held));
    }
    let (by, path) = (Caller::Peer { uid: getuid().as_raw(), pid: None }, state_dir.join(AUDIT_LOG));
    let what = format!("token {token}");
    note_command(&path, &wall_time(), &by, "confirm-prune", &what).map_err(|cause| {
        Error::new(Code::StoreUnavailable, "the confirmation cannot be put on record")
            .with("file", path.display())
            .caused_by(&cause)
            .suggest("run the command as the user that the launcher runs as, and see that there is room on the disk")
    })?;
    leave(state_dir, token).map_err(|cause| {
        Error::new(Code::StoreUnavailable, "the confirmation cannot be written")
            .with("folder", confirm_dir(state_dir).display())
            .caused_by(&cause)
            .suggest("run the command as the user that the launcher runs as")
    })?;
    Ok(format!("confirmed {token}: the launcher ends these processes when it next looks, within its resync interval\n"))
}

fn leave(state_dir: &Path, token: &str) -> io::Result<()> {
    let folder = confirm_dir(state_dir);
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        Ok(()) | Err(_) => {}
    }
    fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(folder.join(token))?;
    Ok(())
}

fn unknown_token(state_dir: &Path, token: &str, held: &BTreeSet<String>) -> Error {
    let error = Error::new(Code::InvalidInstance, "no held-back deletion has that token")
        .with("token", format!("'{}'", Error::echo(token)))
        .with("state_dir", state_dir.display());
    if held.is_empty() {
        return error.because("no deletion is held back").suggest(format!(
            "look for PruneBlocked in {}; a token names exactly one set of instances and changes with it",
            state_dir.join(STATUS_FILE).display()
        ));
    }
    let tokens: Vec<&str> = held.iter().map(String::as_str).collect();
    error.because(format!("held back now: {}", tokens.join(", "))).suggest(format!(
        "pattern-launcher confirm-prune {} --state-dir {}",
        tokens[0],
        state_dir.display()
    ))
}

/// The tokens of the deletions that are held back now, read from the status file.
fn held_back(state_dir: &Path) -> Result<BTreeSet<String>> {
    let path = state_dir.join(STATUS_FILE);
    let unreadable = |cause: &dyn std::error::Error| {
        Error::new(Code::StoreUnavailable, "the launcher's status file cannot be read")
            .with("file", path.display())
            .caused_by(cause)
            .suggest("give the launcher's own --state-dir, and run the command as its user")
    };
    let text = fs::read(&path).map_err(|e| unreadable(&e))?;
    let status: Value = serde_json::from_slice(&text).map_err(|e| unreadable(&e))?;
    let mut tokens = BTreeSet::new();
    collect(&status, &mut tokens);
    Ok(tokens)
}

/// Walks every condition, wherever the status file has it.
fn collect(value: &Value, tokens: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let (Some("PruneBlocked"), Some(message)) =
                (fields.get("kind").and_then(Value::as_str), fields.get("message").and_then(Value::as_str))
            {
                tokens.extend(token_in(message));
            }
            fields.values().for_each(|field| collect(field, tokens));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, tokens)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn token_in(message: &str) -> Option<String> {
    let (_, rest) = message.split_once(COMMAND)?;
    let token: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_')).collect();
    (!token.is_empty() && !token.starts_with('-')).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const STATUS: &str = r#"{"desired": {"roots": [{"path": "desired", "conditions": [
        {"kind": "PruneBlocked", "message": "5 of 6 would go; Suggestion: pattern-launcher confirm-prune 1f0e-a --state-dir x"},
        {"kind": "ScanFailed", "message": "confirm-prune nonsense"}]}]}}"#;

    #[test]
    fn a_token_that_is_held_back_is_left_for_the_launcher() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(STATUS_FILE), STATUS).unwrap();
        for _ in 0..2 {
            assert!(confirm(folder.path(), "1f0e-a").unwrap().contains("confirmed 1f0e-a"));
        }
        let left = fs::metadata(folder.path().join("confirm-prune/1f0e-a")).unwrap();
        assert_eq!(left.permissions().mode() & 0o777, 0o600);
        let audit = fs::read_to_string(folder.path().join(AUDIT_LOG)).unwrap();
        let line: Value = serde_json::from_str(audit.lines().next().unwrap()).unwrap();
        assert_eq!((&line["action"], &line["what"]), (&"confirm-prune".into(), &"token 1f0e-a".into()));
        assert_eq!(line["uid"], getuid().as_raw());
    }

    #[test]
    fn any_other_token_is_refused_and_the_right_ones_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(STATUS_FILE), STATUS).unwrap();
        for wrong in ["nonsense", "../../etc", ""] {
            let error = confirm(folder.path(), wrong).unwrap_err();
            assert!(error.cause().unwrap().contains("1f0e-a"), "{error}");
            assert!(error.suggestion().unwrap().contains("confirm-prune 1f0e-a"), "{error}");
        }
        assert!(!confirm_dir(folder.path()).exists());
    }

    #[test]
    fn without_a_status_file_it_says_what_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(confirm(folder.path(), "x").unwrap_err().code(), Code::StoreUnavailable);
    }
}
