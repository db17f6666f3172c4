//! What the machine can do with no launcher at all: posix_spawn in a loop.

use crate::e2e::world::example_program;
use crate::measure::{StartLog, monotonic};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Starts one sleeper that logs its start under an id. The standard library takes the posix_spawn path.
#[expect(clippy::disallowed_methods, reason = "what the launcher is compared with")]
fn spawn(log: &StartLog, id: &str) -> Child {
    Command::new(example_program("sleeper"))
        .arg("--log")
        .arg(log.path())
        .env("PROCESS_ID", id)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn end(children: Vec<Child>) {
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

/// The time from the first call to the last process running, for so many processes.
pub(crate) fn start_all(folder: &Path, count: usize) -> Duration {
    let folder = tempfile::tempdir_in(folder).unwrap();
    let log = StartLog::new(folder.path().join("starts"));
    let begun = monotonic();
    let children = (0..count).map(|n| spawn(&log, &n.to_string())).collect();
    let last = log.wait(count);
    end(children);
    last.saturating_sub(begun)
}

/// The times from one call to that process running.
pub(crate) fn one_by_one(folder: &Path, count: usize) -> Vec<Duration> {
    let folder = tempfile::tempdir_in(folder).unwrap();
    let log = StartLog::new(folder.path().join("starts"));
    let mut children = Vec::new();
    let mut times = Vec::new();
    for n in 0..count {
        let begun = monotonic();
        children.push(spawn(&log, &n.to_string()));
        times.push(log.wait(n + 1).saturating_sub(begun));
    }
    end(children);
    times
}
