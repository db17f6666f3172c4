//! Reaps orphans of runs, which become children of the launcher when it is their subreaper.
//!
//! A zombie is taken only if nobody here waits for it, and if it comes from a run, whose processes all have sessions
//! other than ours, or from the command of an exec probe, whose process group is not ours. Other children are those of
//! a program that embeds the launcher.

use super::identity::{ProcessStat, all_processes};
use super::known::KnownPids;
use crate::probe::ProbeChildren;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Time for the owners of children to take theirs, so that all processes are listed seldom.
const AFTER: Duration = Duration::from_millis(200);

/// Children that somebody here waits for.
#[derive(Debug, Clone)]
pub(super) struct Owned {
    pub(super) runs: Arc<KnownPids>,
    pub(super) probes: Arc<ProbeChildren>,
}

impl Owned {
    fn contains(&self, pid: i32) -> bool {
        self.runs.contains(pid) || self.probes.contains(pid)
    }
}

/// Reaps until it is cancelled.
pub(super) async fn reap_orphans(owned: Owned, leave: CancellationToken) {
    let Ok(mut children) = signal(SignalKind::child()) else {
        tracing::warn!("orphans of processes are not reaped: no signal can be waited for");
        return;
    };
    loop {
        tokio::select! {
            // Cancel-safe: a signal that is not taken stays.
            _ = children.recv() => {}
            () = leave.cancelled() => return,
        }
        tokio::time::sleep(AFTER).await;
        let owned = owned.clone();
        // It lists all processes, which takes milliseconds when there are thousands. Its panic would be its own.
        drop(tokio::task::spawn_blocking(move || reap(&owned)).await);
    }
}

fn reap(owned: &Owned) {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if !matches!(waitid(WaitId::All, peek), Ok(Some(_))) {
        return;
    }
    let Ok(all) = all_processes() else { return };
    let Ok(own) = ProcessStat::read(rustix::process::getpid().as_raw_nonzero().get()) else { return };
    for orphan in all.iter().filter(|stat| is_orphan(stat, &own)) {
        if let Some(pid) = Pid::from_raw(orphan.pid).filter(|_| !owned.contains(orphan.pid)) {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }
}

/// Whether a process, unless somebody waits for it, is one that only we can reap.
const fn is_orphan(stat: &ProcessStat, own: &ProcessStat) -> bool {
    stat.parent == own.pid && stat.has_ended() && (stat.session != own.session || stat.group != own.group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32, group: i32, session: i32, state: u8) -> ProcessStat {
        ProcessStat { pid, state, parent, group, session, threads: 1, start_time: 1, exit_status: 0 }
    }

    #[test]
    fn what_runs_and_probes_leave_behind_is_reaped_and_nothing_else() {
        let own = process(10, 1, 10, 5, b'S');
        assert!(is_orphan(&process(20, 10, 19, 19, b'Z'), &own), "of a run");
        assert!(is_orphan(&process(20, 10, 19, 5, b'Z'), &own), "of a probe");
        assert!(!is_orphan(&process(20, 10, 10, 5, b'Z'), &own), "a child of the program that embeds us");
        assert!(!is_orphan(&process(20, 11, 19, 19, b'Z'), &own), "somebody else's child");
        assert!(!is_orphan(&process(20, 10, 19, 19, b'S'), &own), "it lives");
    }
}
