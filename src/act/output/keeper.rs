//! The keeper: the thread that looks at logs.

use super::ledger::{Cause, Ledger, Loss};
use super::log::{Log, Means, QUIET};
use super::{Shared, Told, files, lock, now};
use crate::act::clock;
use crate::model::Key;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

/// Logs that are looked at before it is asked again whose turn it is: few enough that one that grows quickly is not
/// overlooked for long while others are copied.
const AT_ONCE: usize = 64;
/// Slow logs are looked at together, so that the thread sleeps in between.
const TOGETHER: Duration = Duration::from_millis(250);
/// Between two messages of the same kind.
const SAID: Duration = Duration::from_secs(60);
/// At the most so much of a file system is kept free.
const RESERVE_SHARE: u64 = 4;
/// When logs are looked for that nobody needs any more: a while after the start, when what is declared is known,
const FIRST_SWEEP: Duration = Duration::from_secs(60);
/// and then this often.
const SWEEP: Duration = Duration::from_secs(3_600);
/// Logs of keys that are gone are kept for this long after the last that was printed, in milliseconds: a week.
const GONE_FOR: u64 = 7 * 86_400_000;
/// And at the most so many of them.
const GONE_COUNT: usize = 4_096;
/// Losses in one turn; what is still too much then is given up in the next.
const LOSSES: usize = 256;

/// Looks at logs, as long as the launcher runs.
#[derive(Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
    ledger: Ledger,
    /// When something was last said, by what it is about.
    said: HashMap<&'static str, Duration>,
    next_sweep: Duration,
    room: Room,
}

/// The free disk as it was when all logs were last looked at because of it, or more if it was more since, and when that was.
#[derive(Debug, Default)]
struct Room {
    free: u64,
    at: Duration,
}

impl Room {
    /// Whether so much has gone that all logs are to be looked at: a log's size, and not just now.
    fn is_going(&mut self, free: u64, now: Duration, size: u64) -> bool {
        if free >= self.free {
            self.free = free;
            return false;
        }
        let going = self.free - free >= size && now >= self.at + QUIET;
        if going {
            *self = Self { free, at: now };
        }
        going
    }
}

/// What the keeper wakes up for.
struct Turn {
    told: HashMap<Key, Told>,
    due: Vec<String>,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let next_sweep = clock::now().since_boot + FIRST_SWEEP;
        Self { shared, ledger: Ledger::default(), said: HashMap::new(), next_sweep, room: Room::default() }
    }

    pub(super) fn run(mut self) {
        self.find_out();
        self.take_stock();
        while let Some(Turn { told, due }) = self.wait() {
            let mut names: Vec<String> = told.into_iter().map(|(key, told)| self.take_in(&key, told)).collect();
            names.extend(due);
            for name in self.in_turns(names) {
                self.look(&name);
            }
            self.keep_within();
            if clock::now().since_boot >= self.next_sweep {
                self.next_sweep = clock::now().since_boot + SWEEP;
                self.sweep(now());
            }
        }
        for log in self.shared.all() {
            drop(lock(&log).write_down(now()));
        }
    }

    /// Finds out what the file system can do.
    fn find_out(&mut self) {
        match files::can_punch(&self.shared.folder) {
            Ok(true) => {}
            Ok(false) => {
                self.shared.punching.store(false, Ordering::Relaxed);
                tracing::warn!(
                    log_dir = %self.shared.folder.display(),
                    "this file system cannot punch holes, so logs are rotated when a process starts, and emptied when they \
                     have become too long meanwhile"
                );
            }
            // Each rotation says so again.
            Err(error) => tracing::debug!(%error, "whether holes can be punched could not be found out"),
        }
    }

    /// Looks once at every log that there is, since they count against the ceilings.
    fn take_stock(&mut self) {
        let names: Vec<String> = lock(&self.shared.found).keys().cloned().collect();
        for name in names {
            if lock(&self.shared.schedule).closing {
                return;
            }
            self.look(&name);
        }
    }

    /// Waits until something is to be done; `None` at the end.
    fn wait(&self) -> Option<Turn> {
        let mut schedule = lock(&self.shared.schedule);
        let regular = clock::now().since_boot + QUIET;
        loop {
            if schedule.closing {
                return None;
            }
            let now = clock::now().since_boot;
            let due: Vec<String> = std::iter::from_fn(|| schedule.take(now)).take(AT_ONCE).collect();
            if !(due.is_empty() && schedule.told.is_empty()) || now >= regular {
                return Some(Turn { told: std::mem::take(&mut schedule.told), due });
            }
            let next = schedule.due.first().map_or(regular, |(at, _)| regular.min(*at));
            let waited = self.shared.wake.wait_timeout(schedule, next.saturating_sub(now));
            schedule = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn take_in(&self, key: &Key, told: Told) -> String {
        let name = key.file_name();
        let log = self.shared.log(&name);
        let mut log = lock(&log);
        log.key.get_or_insert_with(|| key.clone());
        let over = match told {
            Told::Runs(run, pid) => {
                log.process = Some((run, pid));
                false
            }
            Told::Over(run) => log.process.is_some_and(|(current, _)| current == run),
            Told::Gone => true,
        };
        if over && let Err(error) = log.settle(now()) {
            tracing::debug!(%key, %error, "the end of a run could not be noted in its log");
        }
        if matches!(told, Told::Gone) {
            lock(&self.shared.declared).remove(&name);
        } else {
            lock(&self.shared.declared).insert(name.clone());
        }
        name
    }

    /// One log of each namespace after the other: what copying costs is shared, too.
    pub(super) fn in_turns(&self, names: Vec<String>) -> Vec<String> {
        let mut by_namespace: BTreeMap<String, VecDeque<String>> = BTreeMap::new();
        for name in names {
            let namespace = namespace_of(&lock(&self.shared.log(&name)));
            by_namespace.entry(namespace).or_default().push_back(name);
        }
        let mut ordered = Vec::new();
        while !by_namespace.is_empty() {
            by_namespace.retain(|_, names| {
                ordered.extend(names.pop_front());
                !names.is_empty()
            });
        }
        ordered
    }

    /// Looks at one log, and says when to look again if somebody writes it.
    fn look(&mut self, name: &str) {
        let log = self.shared.log(name);
        let mut log = lock(&log);
        let at = clock::now().since_boot;
        let pace = match log.look(at, now(), &self.shared.means()) {
            Ok(pace) => pace,
            Err(error) => {
                let key = log.key.as_ref().map(tracing::field::display);
                if self.may_say("rotation") {
                    tracing::warn!(key, %error, "a log cannot be rotated; it is tried again");
                }
                QUIET
            }
        };
        self.ledger.hold(name, &namespace_of(&log), log.bytes());
        if log.process.is_some() {
            let next = at + pace;
            let next = if pace < 2 * TOGETHER { next } else { together(next) };
            lock(&self.shared.schedule).put(name, next);
        }
    }

    /// Sees to the ceilings, to the reserve and to the folder.
    fn keep_within(&mut self) {
        self.shared.notice_folder();
        let means = self.shared.means();
        let mut lacking = match self.lacking(&means) {
            Ok(lacking) => lacking,
            Err(error) => {
                tracing::debug!(%error, "the free disk of the log folder cannot be told");
                0
            }
        };
        let mut spent = HashSet::new();
        for _ in 0..LOSSES {
            let Some(loss) = self.ledger.loss(&means.limits, lacking, &spent) else { return };
            let freed = self.lose(&loss, &means).unwrap_or_else(|error| {
                tracing::debug!(%error, namespace = loss.namespace, "the oldest output of a log could not be given up");
                0
            });
            lacking = lacking.saturating_sub(freed);
            if freed == 0 {
                spent.insert(loss.log);
            }
        }
    }

    fn lose(&mut self, loss: &Loss, means: &Means) -> io::Result<u64> {
        let log = self.shared.log(&loss.log);
        let mut log = lock(&log);
        let freed = log.shed(loss.bytes, means.punching);
        self.ledger.hold(&loss.log, &namespace_of(&log), log.bytes());
        let freed = freed?;
        let (about, why) = match loss.cause {
            Cause::Namespace => ("log_max_namespace", "the logs of this namespace hold more than log_max_namespace"),
            Cause::Total => ("log_max_total", "all logs hold more than log_max_total"),
            Cause::Reserve => ("log_disk_reserve", "there is less free disk than log_disk_reserve"),
        };
        if freed > 0 && self.may_say(about) {
            let key = log.key.as_ref().map(tracing::field::display);
            tracing::warn!(
                key,
                namespace = loss.namespace,
                bytes = freed,
                reason = why,
                "the oldest output is given up"
            );
        }
        Ok(freed)
    }

    /// How much the free disk is short of; and whether there is room for archives. Where a log's size has gone from it, all
    /// logs are looked at: it may be one that was silent.
    fn lacking(&mut self, means: &Means) -> io::Result<u64> {
        let disk = rustix::fs::statvfs(&self.shared.folder)?;
        let (free, now) = (disk.f_bavail.saturating_mul(disk.f_frsize), clock::now().since_boot);
        if self.room.is_going(free, now, means.limits.max_size) {
            lock(&self.shared.schedule).hurry(now);
        }
        let Some(reserve) = means.limits.reserve else {
            self.shared.archiving.store(true, Ordering::Relaxed);
            return Ok(0);
        };
        let reserve = reserve.min(disk.f_blocks.saturating_mul(disk.f_frsize) / RESERVE_SHARE);
        self.shared.archiving.store(free >= reserve.saturating_add(means.limits.max_size), Ordering::Relaxed);
        Ok(reserve.saturating_sub(free))
    }

    /// Removes logs of keys that nothing declares any more.
    pub(super) fn sweep(&mut self, now: u64) {
        let declared = lock(&self.shared.declared).clone();
        let names: Vec<String> =
            lock(&self.shared.logs).keys().filter(|name| !declared.contains(*name)).cloned().collect();
        let mut gone: Vec<(u64, String)> =
            names.into_iter().map(|name| (lock(&self.shared.log(&name)).last_written(), name)).collect();
        gone.sort_unstable_by(|a, b| b.cmp(a));
        let late = gone.iter().position(|(written, _)| now.saturating_sub(*written) > GONE_FOR);
        for (_, name) in gone.drain(late.unwrap_or(GONE_COUNT).min(GONE_COUNT).min(gone.len())..) {
            let log = self.shared.log(&name);
            let mut log = lock(&log);
            // It may have been declared again, and then its log is waited for here.
            if lock(&self.shared.declared).contains(&name) {
                continue;
            }
            if let Err(error) = log.remove() {
                tracing::debug!(%error, name, "the log of a key that is gone could not be removed");
                continue;
            }
            self.ledger.forget(&name);
            lock(&self.shared.logs).remove(&name);
        }
    }

    fn may_say(&mut self, about: &'static str) -> bool {
        let now = clock::now().since_boot;
        let silent = self.said.get(about).is_none_or(|before| now.saturating_sub(*before) >= SAID);
        if silent {
            self.said.insert(about, now);
        }
        silent
    }
}

/// The next of the moments at which slow logs are looked at.
fn together(at: Duration) -> Duration {
    let step = TOGETHER.as_millis();
    Duration::from_millis(u64::try_from(at.as_millis().div_ceil(step) * step).unwrap_or(u64::MAX))
}

/// Whose ceiling a log counts against; those whose key is not known share one.
fn namespace_of(log: &Log) -> String {
    log.key.as_ref().map_or_else(String::new, |key| key.namespace().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_logs_are_looked_at_once_a_logs_size_of_free_disk_has_gone() {
        let at = Duration::from_secs;
        let mut room = Room::default();
        assert!(!room.is_going(100, at(10), 16), "nothing is known");
        assert!(!room.is_going(90, at(20), 16), "a little");
        assert!(room.is_going(84, at(30), 16), "little by little");
        assert!(!room.is_going(60, at(31), 16), "just now");
        assert!(room.is_going(60, at(32), 16));
        assert!(!room.is_going(200, at(40), 16) && !room.is_going(190, at(50), 16), "more, and a little less");
    }
}
