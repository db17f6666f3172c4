//! Looks, again and again, for processes in our cgroups that nothing accounts for.
//!
//! A start in flight can never be among them: its run has a task before its cgroup is made, and the cgroups are listed
//! before the tasks are. Nor can what a launcher leaves running when it ends: that has a record, and nobody looks any
//! more once the tasks begin to go.

use super::cgroup::RunCgroup;
use super::shared::Shared;
use super::sweep::{Orphans, unrecorded};
use crate::observed::Event;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Looks every so often until the runs are left alone, and says how many there are when that changes.
pub(super) async fn watch(shared: Arc<Shared>, state_dir: PathBuf, mode: Orphans, every: Duration) {
    let mut known = Vec::new();
    loop {
        tokio::select! {
            // Cancel-safe: a sleep.
            () = tokio::time::sleep(every) => {}
            // Cancel-safe: a token.
            () = shared.leave.cancelled() => return,
        }
        let found = look(&shared, &state_dir).await;
        let left = tokio::select! {
            left = mode.deal(found) => left.into_iter().map(|(cgroup, _)| cgroup).collect::<Vec<_>>(),
            // What has been signalled ends; the rest is found by the next launcher.
            () = shared.leave.cancelled() => return,
        };
        if left != known {
            for cgroup in left.iter().filter(|cgroup| !known.contains(cgroup)) {
                tell(cgroup);
            }
            shared.report(Event::Orphans { count: left.len() }).await;
            known = left;
        }
    }
}

async fn look(shared: &Arc<Shared>, state_dir: &Path) -> Vec<RunCgroup> {
    let (own, state_dir) = (Arc::clone(shared), state_dir.to_owned());
    shared
        .blocking("", move || {
            let mut found = unrecorded(&state_dir);
            found.retain(|cgroup| !own.has_task(&cgroup.run_name()));
            if own.leave.is_cancelled() { Vec::new() } else { found }
        })
        .await
}

fn tell(cgroup: &RunCgroup) {
    let pids: Vec<i32> = cgroup.processes().unwrap_or_default().into_iter().take(8).collect();
    tracing::error!(cgroup = %cgroup.path().display(), ?pids, "processes in a cgroup of ours have no record");
}
