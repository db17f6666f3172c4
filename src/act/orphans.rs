//! Looks, again and again, for processes in our cgroups that nothing accounts for, and for records that no run does.
//!
//! A start in flight can never be among them: its run has a task before its cgroup is made, and the cgroups are listed
//! before the tasks are. Nor can what a launcher leaves running when it ends: that has a record, and nobody looks any
//! more once the tasks begin to go.

use super::adopt::{Found, Verifier};
use super::cgroup::{RunCgroup, tidy};
use super::clock;
use super::records::Stray;
use super::shared::Shared;
use super::sweep::{Orphans, unrecorded};
use crate::observed::Event;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Looks every so often until the runs are left alone, and says how many there are when that changes.
pub(super) async fn watch(shared: Arc<Shared>, state_dir: PathBuf, mode: Orphans, every: Duration) {
    let mut told = BTreeSet::new();
    loop {
        tokio::select! {
            // Cancel-safe: a sleep.
            () = tokio::time::sleep(every) => {}
            // Cancel-safe: see there.
            () = shared.records.strays_wanted() => {}
            // Cancel-safe: a token.
            () = shared.leave.cancelled() => return,
        }
        let found = look(&shared, &state_dir).await;
        let left = tokio::select! {
            left = mode.deal(found) => left,
            // What has been signalled ends; the rest is found by the next launcher.
            () = shared.leave.cancelled() => return,
        };
        let cgroups: Vec<RunCgroup> = left.iter().map(|(cgroup, _)| cgroup.clone()).collect();
        let known = shared.set_orphans(cgroups.clone());
        if cgroups != known {
            for cgroup in cgroups.iter().filter(|cgroup| !known.contains(cgroup)) {
                tell(cgroup);
            }
            let left = left.into_iter().map(|(cgroup, error)| (cgroup.key_file_name(), error)).collect();
            shared.report(Event::Orphans { left }).await;
        }
        told = look_for_records(&shared, &state_dir, told).await;
    }
}

/// Removes the records that no run accounts for and whose runs are provably over: a folder that came back under its name
/// has brought them. Of the others it tells once; gives those that are left. Nothing is signalled on their word: whoever
/// left them may look after what they name.
async fn look_for_records(shared: &Arc<Shared>, state_dir: &Path, told: BTreeSet<PathBuf>) -> BTreeSet<PathBuf> {
    let records = Arc::clone(&shared.records);
    let Ok(strays) = shared.blocking("", move || records.stray_runs()).await else { return told };
    let boot = clock::now().boot;
    let verifier = Verifier::new(state_dir.to_owned(), boot);
    let mut left = BTreeSet::new();
    for Stray { path, boot: of, record } in strays {
        let why_not = match &record {
            _ if of != boot.to_string() => None,
            Ok(record) => match verifier.verify(record).await {
                Found::Rebooted | Found::Ended { tree_gone: true, .. } => None,
                Found::Alive(_) | Found::Ended { tree_gone: false, .. } => Some("what it names lives".to_owned()),
                Found::Unverifiable(error) => Some(error.summary()),
            },
            Err(why) => Some(why.clone()),
        };
        match why_not {
            None => match std::fs::remove_file(&path) {
                Ok(()) => tracing::info!(record = %path.display(), "a record of a run that is over was removed"),
                Err(error) => tracing::debug!(record = %path.display(), %error, "a record could not be removed"),
            },
            Some(why) => {
                if !told.contains(&path) {
                    tracing::error!(record = %path.display(), why, "a record belongs to no run of this launcher");
                }
                left.insert(path);
            }
        }
    }
    left
}

async fn look(shared: &Arc<Shared>, state_dir: &Path) -> Vec<RunCgroup> {
    let (own, state_dir) = (Arc::clone(shared), state_dir.to_owned());
    shared
        .blocking("", move || {
            let mut found = unrecorded(&state_dir);
            found.retain(|cgroup| !own.has_task(&cgroup.run_name()));
            tidy(&state_dir, |run| own.has_task(run));
            if own.leave.is_cancelled() { Vec::new() } else { found }
        })
        .await
}

fn tell(cgroup: &RunCgroup) {
    let pids: Vec<i32> = cgroup.processes().unwrap_or_default().into_iter().take(8).collect();
    tracing::error!(cgroup = %cgroup.path().display(), ?pids, "processes in a cgroup of ours have no record");
}
