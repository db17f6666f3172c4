//! The single-threaded process that makes children.

use std::process::ExitCode;

/// Runs the spawner and returns its exit code if this process was started as one, else returns `None` at once.
/// The first line of `main`, before any thread is started:
/// `if let Some(code) = run_if_spawner() { return code; }`
pub fn run_if_spawner() -> Option<ExitCode> {
    unimplemented!()
}
