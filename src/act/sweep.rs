//! What is in our cgroups without a record: children that were held when their launcher died, and empty folders.

use super::cgroup::{RunCgroup, all_ours};
use crate::error::{Code, Error};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long held children are given to notice that their launcher is gone, in milliseconds.
const NOTICE: u32 = 100;
/// How long what was killed is waited for, in milliseconds; beyond that its key is blocked.
const KILLED: u32 = 5_000;

/// The cgroups that nothing accounts for.
pub(super) fn strays(state_dir: &Path, recorded: &BTreeSet<PathBuf>, damaged: &BTreeSet<String>) -> Vec<RunCgroup> {
    all_ours(state_dir)
        .into_iter()
        .filter(|cgroup| !recorded.contains(cgroup.path()) && !damaged.contains(&cgroup.key_file_name()))
        .collect()
}

/// Ends and removes them; returns those in which something goes on living, and why their keys must not be started.
pub(super) async fn sweep(mut strays: Vec<RunCgroup>) -> Vec<(RunCgroup, Error)> {
    strays.retain(|cgroup| !removed(cgroup));
    for round in 0..KILLED {
        if strays.is_empty() {
            return Vec::new();
        }
        // Made by us and without a record, so nobody counts on it.
        if round >= NOTICE && round.is_multiple_of(NOTICE) {
            for cgroup in &strays {
                tracing::warn!(cgroup = %cgroup.path().display(), "killing processes without a record");
                if let Err(error) = cgroup.kill() {
                    tracing::error!(cgroup = %cgroup.path().display(), %error, "a cgroup could not be killed");
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        strays.retain(|cgroup| !removed(cgroup));
    }
    strays.into_iter().map(|cgroup| (cgroup.clone(), stuck(&cgroup))).collect()
}

fn removed(cgroup: &RunCgroup) -> bool {
    let gone = cgroup
        .is_populated()
        .and_then(|populated| if populated { Err(io::ErrorKind::ResourceBusy.into()) } else { cgroup.remove() });
    gone.is_ok()
}

fn stuck(cgroup: &RunCgroup) -> Error {
    let path = cgroup.path().display().to_string();
    let pids: Vec<String> = cgroup.processes().unwrap_or_default().iter().take(8).map(i32::to_string).collect();
    Error::new(Code::TerminationFailed, "Processes of an earlier launcher have no record and cannot be ended")
        .with("cgroup", &path)
        .with("pids", pids.join(" "))
        .suggest(format!("see what they wait for (cat {path}/cgroup.procs)"))
}
