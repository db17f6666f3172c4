//! The task of one run: from the making of its child to the removal of its record.
//!
//! Spawned and adopted runs are the same here: a pidfd, an identity, a tree. Nothing is signalled but through the
//! pidfd or as a member of the tree.

pub(crate) mod limit;
pub(crate) mod start;
pub(crate) mod stop;

use super::cgroup::RunCgroup;
use super::exit::{self, Reaping, Waited};
use super::mailbox::{Mailbox, Orders};
use super::shared::Shared;
use super::sys;
use super::tree::{Rest, Tree};
use crate::model::{ExitReason, Key, ProcessIdentity, RunId, RunRecord, StopSignal};
use crate::observed::Event;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::process::{Signal, pidfd_send_signal};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use stop::Killing;
use tokio::io::unix::AsyncFd;

/// How long the exit of somebody else's child is looked for, in milliseconds: its reaper is on its way.
const EXIT_TRIES: u32 = 50;
/// How long processes that are ending are given to be gone before the loop is told that something lives, in
/// milliseconds.
const VANISHING_TRIES: u32 = 5;
/// Between two looks whether what is remembered can be written again.
const REMEMBERED_PAUSE: Duration = Duration::from_millis(500);
/// The longest pause between two looks at what lives of a tree.
const LOOK_LIMIT: Duration = Duration::from_millis(100);

/// Which run it is, and what its task works with.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// What all runs share.
    pub(crate) shared: Arc<Shared>,
    /// Whose it is.
    pub(crate) key: Key,
    /// Which lifetime.
    pub(crate) id: RunId,
    /// What it has been told.
    pub(crate) mailbox: Arc<Mailbox>,
}

/// A process that is owned by its pidfd, and its tree.
#[derive(Debug)]
pub(crate) struct Watched {
    /// Which process.
    pub(crate) identity: ProcessIdentity,
    /// Becomes readable when the process has ended, all its threads included.
    pub(crate) pidfd: AsyncFd<OwnedFd>,
    /// What belongs to it.
    pub(crate) tree: Tree,
}

/// A run whose main process has ended.
#[derive(Debug)]
pub(crate) struct Remains {
    /// Which process it was.
    pub(crate) identity: ProcessIdentity,
    /// While it is here the pid is not given to another.
    pub(crate) pidfd: Option<AsyncFd<OwnedFd>>,
    /// What belonged to it.
    pub(crate) tree: Tree,
}

impl Watched {
    /// Takes a pidfd into the runtime.
    pub(crate) fn new(identity: ProcessIdentity, pidfd: OwnedFd, tree: Tree) -> io::Result<Self> {
        let pidfd = sys::watch(pidfd)?;
        Ok(Self { identity, pidfd, tree })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.pidfd.get_ref().as_fd()
    }

    /// Waits for the end of the main process. Cancel-safe: an end stays readable.
    pub(crate) async fn ended(&self) {
        // An error here would be the runtime's own end.
        drop(self.pidfd.readable().await);
    }

    /// How it ended; call once it has.
    async fn exit(&self) -> ExitReason {
        for _ in 0..EXIT_TRIES {
            match exit::wait(self.fd(), Reaping::Leave) {
                Waited::Ended(exit) => return exit,
                Waited::Running => {}
                Waited::NotOurs => {
                    if let Some(exit) = exit::of_stranger(self.fd(), &self.identity) {
                        return exit;
                    }
                }
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        ExitReason::Unknown
    }

    fn signal(&self, signal: Signal) {
        // It can have ended by itself.
        let _ = pidfd_send_signal(self.fd(), signal);
    }
}

impl Remains {
    /// Reaps the main process if it is our child; until then its pid stands for its session.
    fn reap(&mut self, shared: &Shared) {
        if let Some(pidfd) = self.pidfd.take() {
            exit::wait(pidfd.get_ref().as_fd(), Reaping::Reap);
            shared.known.remove(self.identity.pid);
        }
    }
}

/// Looks after a process until it has ended, nothing of its tree lives and its record is removed.
///
/// What is seldom done is boxed: the future of each process that runs is kept for as long as it does.
pub(crate) async fn look_after(run: Run, watched: Watched, first: Orders) {
    let mut killing = Killing::default();
    let mut dropped = Box::pin(obey(&run, Some(&watched), first, &mut killing)).await;
    loop {
        tokio::select! {
            // Cancel-safe: an end stays readable.
            () = watched.ended() => break,
            // Cancel-safe: see there.
            orders = run.mailbox.take() => dropped |= Box::pin(obey(&run, Some(&watched), orders, &mut killing)).await,
            // Cancel-safe: a sleep.
            () = killing.pause() => {
                watched.signal(Signal::KILL);
                Box::pin(killing.again(&run, &watched.identity, &watched.tree)).await;
            }
            // Cancel-safe: a token.
            () = run.shared.leave.cancelled() => return,
        }
    }
    Box::pin(see_out(run, watched, killing, dropped)).await;
}

/// Tells of the end of a process, and sees what is left of its tree through to its own.
async fn see_out(run: Run, watched: Watched, killing: Killing, dropped: bool) {
    let exit = watched.exit().await;
    // From memory, like what lives of the tree.
    let oom = watched.tree.oom();
    run.shared.meters.main_ended(run.id);
    let Watched { identity, pidfd, tree } = watched;
    let mut remains = Remains { identity, pidfd: Some(pidfd), tree };
    if matches!(remains.tree, Tree::Cgroup(_)) {
        remains.reap(&run.shared);
    }
    let tree_gone = look(&run, &remains).await;
    let Run { shared, key, id, .. } = &run;
    shared.report(Event::Exited { key: key.clone(), run: *id, exit, oom, tree_gone }).await;
    clear_away(run, remains, tree_gone, killing, dropped).await;
}

/// Sees what is left of a run through to its end. `tree_gone` says what the loop has been told.
pub(crate) async fn clear_away(
    run: Run,
    mut remains: Remains,
    tree_gone: bool,
    mut killing: Killing,
    mut dropped: bool,
) {
    let mut pause = Duration::from_millis(1);
    let mut gone = tree_gone;
    while !gone {
        tokio::select! {
            // What was ordered before the launcher leaves is still done, so that nothing empty is left behind.
            biased;
            // Cancel-safe: see there.
            orders = run.mailbox.take() => {
                dropped |= obey(&run, None, orders, &mut killing).await;
                if killing.is_due() {
                    killing.again(&run, &remains.identity, &remains.tree).await;
                }
            }
            // Cancel-safe: a sleep.
            () = tokio::time::sleep(pause) => {
                if killing.is_due() {
                    killing.again(&run, &remains.identity, &remains.tree).await;
                }
                pause = (pause * 2).min(LOOK_LIMIT);
            }
            // Cancel-safe: a token.
            () = run.shared.leave.cancelled() => return,
        }
        gone = look(&run, &remains).await;
    }
    remains.reap(&run.shared);
    if !tree_gone {
        run.shared.report(Event::TreeGone { key: run.key.clone(), run: run.id }).await;
    }
    while !dropped {
        tokio::select! {
            // What was ordered before the launcher leaves is still done, so that nothing empty is left behind.
            biased;
            // Cancel-safe: see there.
            orders = run.mailbox.take() => dropped |= obey(&run, None, orders, &mut killing).await,
            // Cancel-safe: a token.
            () = run.shared.leave.cancelled() => return,
        }
    }
    forget(&run, cgroup_of(&remains.tree)).await;
}

/// Carries out what has been told, but for the last: true when the record is to be removed once everything is gone.
async fn obey(run: &Run, alive: Option<&Watched>, orders: Orders, killing: &mut Killing) -> bool {
    let Orders { discard, commit, limit, save, signals, sent, kill, drop: dropped } = orders;
    if discard || commit.is_some() {
        tracing::error!(run = %run.id, "a run that was released was told to begin or not to begin");
    }
    write_again(run, save).await;
    if let Some(watched) = alive {
        if let Some(wanted) = limit {
            limit::again(run, &watched.tree, wanted).await;
        }
        for signal in signals {
            watched.signal(to_signal(signal));
        }
        write_again(run, sent).await;
        if kill {
            watched.signal(Signal::KILL);
            killing.begin();
            killing.again(run, &watched.identity, &watched.tree).await;
        }
    } else if kill {
        killing.begin();
    }
    dropped
}

/// Writes the record of a run again. That it cannot be written keeps nobody from ending it.
async fn write_again(run: &Run, record: Option<Box<RunRecord>>) {
    let Some(record) = record else { return };
    let records = Arc::clone(&run.shared.records);
    if let Err(error) = run.shared.blocking(run.key.namespace(), move || records.save_run(&record)).await {
        Shared::note_failure(run.id, "the record of a run could not be written again", &error);
    }
}

/// Whether nothing of the tree lives. What is ending at this moment is waited for briefly.
async fn look(run: &Run, remains: &Remains) -> bool {
    for _ in 0..VANISHING_TRIES {
        match remains.tree.rest(remains.identity.pid, &run.shared).await {
            Ok(Rest::Gone) => return true,
            Ok(Rest::Vanishing) => tokio::time::sleep(Duration::from_millis(1)).await,
            Ok(Rest::Lives(_) | Rest::Unclear(_)) => return false,
            Err(error) => {
                // What cannot be seen counts as alive; it is looked at again.
                tracing::warn!(run = %run.id, %error, "the tree of a run cannot be seen");
                return false;
            }
        }
    }
    false
}

/// Removes the record and the cgroup of a run of which nothing lives, once what its end means for the key is on disk: else
/// a launcher that dies meanwhile would count it again, or not at all. Where that cannot be written the record stays.
pub(crate) async fn forget(run: &Run, cgroup: Option<RunCgroup>) {
    let records = &run.shared.records;
    while records.flush().await.is_err() {
        // The memories are tried again by themselves, and asking would only make that more often.
        loop {
            tokio::select! {
                // Cancel-safe: a sleep.
                () = tokio::time::sleep(REMEMBERED_PAUSE) => {}
                // Cancel-safe: a token. The next launcher finds the record.
                () = run.shared.leave.cancelled() => return,
            }
            if records.health().is_writable() {
                break;
            }
        }
    }
    remove_traces(run, cgroup).await;
}

/// Removes the record and the cgroup of a run of which nothing lives.
pub(crate) async fn remove_traces(run: &Run, cgroup: Option<RunCgroup>) {
    let (records, key, id) = (Arc::clone(&run.shared.records), run.key.clone(), run.id);
    let shared = Arc::clone(&run.shared);
    run.shared
        .blocking(run.key.namespace(), move || {
            shared.meters.end(id);
            shared.output.over(&key, id);
            if let Err(error) = records.drop_run(id) {
                Shared::note_failure(id, "the record of a run could not be removed", &error);
            }
            if let Err(error) = shared.surroundings.tenants.clear(&key, id) {
                // What is for one run is emptied before the next.
                tracing::debug!(run = %id, %error, "the folders of a run could not be removed");
            }
            clear_credentials(&shared, &key, id);
            if let Some(Err(error)) = cgroup.map(|cgroup| cgroup.remove()) {
                // It is empty, and the next launcher removes what is.
                tracing::debug!(run = %id, %error, "the cgroup of a run could not be removed");
            }
        })
        .await;
}

/// Removes what a run of which nothing lives was given to read.
fn clear_credentials(shared: &Shared, key: &Key, run: RunId) {
    if let Err(error) = shared.surroundings.credentials.clear(key, run) {
        tracing::warn!(%run, %error, "the credentials of a run could not be removed; the next launcher tries it again");
    }
}

/// The cgroup of a tree that has one.
pub(crate) fn cgroup_of(tree: &Tree) -> Option<RunCgroup> {
    match tree {
        Tree::Cgroup(cgroup) => Some(cgroup.clone()),
        Tree::Group(_) => None,
    }
}

const fn to_signal(signal: StopSignal) -> Signal {
    match signal {
        StopSignal::Hup => Signal::HUP,
        StopSignal::Int => Signal::INT,
        StopSignal::Quit => Signal::QUIT,
        StopSignal::Term => Signal::TERM,
        StopSignal::Usr1 => Signal::USR1,
        StopSignal::Usr2 => Signal::USR2,
        StopSignal::Winch => Signal::WINCH,
        StopSignal::Kill => Signal::KILL,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_of_a_process_that_runs_is_small() {
        const fn size<F>(_: fn(Run, Watched, Orders) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(look_after);
        assert!(size <= 1_536, "{size} bytes for each process");
    }
}
