//! What is in our cgroups without a record: children that were held when their launcher died, and empty folders.

use super::cgroup::{RunCgroup, all_ours};
use super::records::RUNS_FOLDER;
use crate::error::{Code, Error};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long held children are given to notice that their launcher is gone, in milliseconds.
const NOTICE: u32 = 100;
/// How long what was killed is waited for, in milliseconds; beyond that its key is blocked.
const KILLED: u32 = 5_000;

/// What becomes of processes in our cgroups that have no record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Orphans {
    /// They are ended.
    End,
    /// They are told of, and their keys are blocked.
    Report,
}

impl Orphans {
    /// How often they are looked for. Listing our cgroups and records costs some milliseconds with a thousand runs, and
    /// what is found has done without an owner for as long already.
    pub const INTERVAL: Duration = Duration::from_secs(60);

    /// Does with them as it says; returns those in which something goes on living, and why their keys must not be started.
    pub(super) async fn deal(self, strays: Vec<RunCgroup>) -> Vec<(RunCgroup, Error)> {
        match self {
            Self::End => sweep(strays).await,
            Self::Report => report(strays),
        }
    }
}

/// The cgroups of which no run has a record, not even one that was set aside. None when that cannot be said.
pub(super) fn unrecorded(state_dir: &Path) -> Vec<RunCgroup> {
    let found = all_ours(state_dir);
    // Read after the cgroups: a record is written while its cgroup is there.
    let Ok(entries) = std::fs::read_dir(state_dir.join(RUNS_FOLDER)) else { return Vec::new() };
    let Ok(entries) = entries.collect::<io::Result<Vec<_>>>() else { return Vec::new() };
    // In order, so that a thousand cgroups are not each compared with a thousand records on the way to an adoption.
    let records: BTreeSet<String> =
        entries.iter().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let has_record = |cgroup: &RunCgroup| {
        let own = format!("{}.", cgroup.name());
        records.range(own.clone()..).next().is_some_and(|record| record.starts_with(&own))
    };
    found.into_iter().filter(|cgroup| !has_record(cgroup)).collect()
}

/// The cgroups that nothing accounts for when a launcher starts.
pub(super) fn strays(state_dir: &Path, recorded: &BTreeSet<PathBuf>, damaged: &BTreeSet<String>) -> Vec<RunCgroup> {
    unrecorded(state_dir)
        .into_iter()
        .filter(|cgroup| !recorded.contains(cgroup.path()) && !damaged.contains(&cgroup.key_file_name()))
        .collect()
}

/// Ends and removes them; returns those in which something goes on living, and why their keys must not be started.
async fn sweep(mut strays: Vec<RunCgroup>) -> Vec<(RunCgroup, Error)> {
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

/// Tells of them instead; those in which nothing is are removed.
fn report(strays: Vec<RunCgroup>) -> Vec<(RunCgroup, Error)> {
    let left = strays.into_iter().filter(|cgroup| !removed(cgroup));
    left.map(|cgroup| {
        let error = found("Processes of an earlier launcher have no record, and are only reported", &cgroup);
        let kill = format!("look at them, and end them: kill -9 $(cat {}/cgroup.procs)", cgroup.path().display());
        (cgroup, error.suggest(kill))
    })
    .collect()
}

/// Whether nothing is in it any more; it is then gone.
fn removed(cgroup: &RunCgroup) -> bool {
    let gone = cgroup
        .is_populated()
        .and_then(|populated| if populated { Err(io::ErrorKind::ResourceBusy.into()) } else { cgroup.remove() });
    gone.is_ok()
}

fn stuck(cgroup: &RunCgroup) -> Error {
    let path = cgroup.path().display().to_string();
    found("Processes of an earlier launcher have no record and cannot be ended", cgroup)
        .suggest(format!("see what they wait for (cat {path}/cgroup.procs)"))
}

fn found(message: &'static str, cgroup: &RunCgroup) -> Error {
    let pids: Vec<String> = cgroup.processes().unwrap_or_default().iter().take(8).map(i32::to_string).collect();
    Error::new(Code::TerminationFailed, message).with("cgroup", cgroup.path().display()).with("pids", pids.join(" "))
}
