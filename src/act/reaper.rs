//! Reaps orphans of runs, which become children of the launcher when it is their subreaper.
//!
//! A zombie is taken only if nobody here waits for it and it has a session other than ours: a probe's child, which
//! tokio waits for, shares ours, and every run's processes do not.

use super::identity::{ProcessStat, all_processes};
use super::known::KnownPids;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Time for the owners of children to take theirs, so that all processes are listed seldom.
const AFTER: Duration = Duration::from_millis(200);

/// Reaps until it is cancelled.
pub(super) async fn reap_orphans(known: Arc<KnownPids>, leave: CancellationToken) {
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
        let known = Arc::clone(&known);
        // It lists all processes, which takes milliseconds when there are thousands. Its panic would be its own.
        drop(tokio::task::spawn_blocking(move || reap(&known)).await);
    }
}

fn reap(known: &KnownPids) {
    let peek = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if !matches!(waitid(WaitId::All, peek), Ok(Some(_))) {
        return;
    }
    let own = rustix::process::getpid().as_raw_nonzero().get();
    let Ok(all) = all_processes() else { return };
    let Ok(session) = ProcessStat::read(own).map(|stat| stat.session) else { return };
    for orphan in all.iter().filter(|stat| stat.parent == own && stat.has_ended() && stat.session != session) {
        if let Some(pid) = Pid::from_raw(orphan.pid).filter(|_| !known.contains(orphan.pid)) {
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        }
    }
}
