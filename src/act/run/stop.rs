//! Killing a tree, again and again until it is gone, and saying so when that takes long.

use super::{LOOK_LIMIT, Run};
use crate::act::clock;
use crate::act::tree::{Rest, Tree};
use crate::error::{Code, Error};
use crate::model::{Moment, ProcessIdentity};
use crate::observed::Event;
use std::time::Duration;

/// A process that does not end within this time after SIGKILL is in the kernel: a dead network disk, for example.
const STUCK_AFTER: Duration = Duration::from_secs(5);
/// And it is said again this often.
const STUCK_EVERY: Duration = Duration::from_secs(30);
/// The longest pause between two killings of a stuck tree.
const STUCK_PAUSE: Duration = Duration::from_secs(1);
/// How many of the processes that live are named.
const NAMED: usize = 8;

/// Whether a tree is being killed, and since when.
#[derive(Debug, Default)]
pub(crate) struct Killing {
    begun: Option<Moment>,
    times: u32,
    reports: u32,
}

impl Killing {
    /// From now on the tree is to be killed.
    pub(super) fn begin(&mut self) {
        self.begun.get_or_insert_with(clock::now);
    }

    /// Whether the tree is to be killed.
    pub(super) const fn is_due(&self) -> bool {
        self.begun.is_some()
    }

    /// The time until the next attempt; for ever if there is to be none.
    pub(super) async fn pause(&self) {
        if self.begun.is_none() {
            return std::future::pending().await;
        }
        let limit = if self.reports == 0 { LOOK_LIMIT } else { STUCK_PAUSE };
        tokio::time::sleep(Duration::from_millis(1 << self.times.min(10)).min(limit)).await;
    }

    /// Kills what lives of the tree now.
    pub(super) async fn again(&mut self, run: &Run, main: &ProcessIdentity, tree: &Tree) {
        let Some(begun) = self.begun else { return };
        self.times = self.times.saturating_add(1);
        let killed = tree.kill(run.key.namespace(), &run.shared).await;
        let due = STUCK_AFTER + STUCK_EVERY * self.reports;
        if clock::now().since(begun) >= due {
            self.reports = self.reports.saturating_add(1);
            let error = stuck(run, main, tree, killed.err()).await;
            run.shared.report(Event::KillStuck { key: run.key.clone(), run: run.id, error }).await;
        }
    }
}

async fn stuck(run: &Run, main: &ProcessIdentity, tree: &Tree, failure: Option<std::io::Error>) -> Error {
    let pid = main.pid;
    let mut living: Vec<i32> = match tree.rest(pid, &run.shared).await {
        Ok(Rest::Lives(pids) | Rest::Unclear(pids)) => pids.into_iter().collect(),
        Ok(Rest::Gone | Rest::Vanishing) | Err(_) => Vec::new(),
    };
    if living.is_empty() {
        living.push(pid);
    }
    let named: Vec<String> = living.iter().take(NAMED).map(i32::to_string).collect();
    let first = named.first().cloned().unwrap_or_default();
    let error = Error::new(Code::TerminationFailed, "The process tree was killed and still lives")
        .with("process_id", &run.key)
        .with("processes", living.len())
        .with("pids", named.join(" "))
        .suggest(format!(
            "see what it waits for in the kernel: cat /proc/{first}/stack /proc/{first}/wchan (a disk or network mount \
             that does not answer, often); it is killed again until it is gone"
        ));
    match failure {
        Some(failure) => error.caused_by(&failure),
        None => error,
    }
}
