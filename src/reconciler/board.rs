//! What the loop has published: anyone may read it at any time, without waiting for the loop.
//!
//! The keys lie in many small maps, each replaced as a whole: a change copies some forty pointers when there are ten
//! thousand keys, and a reader takes no lock.

use super::chronicle::Chronicle;
use crate::metrics::Standing;
use crate::model::{Ceilings, DesiredStatus, Key, KeyStatus, Moment, RunId};
use crate::observed::ProbeOutcome;
use arc_swap::ArcSwap;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How many maps: at ten thousand keys each has about forty.
const SHARDS: usize = 256;

type Shard = HashMap<Key, Arc<KeyStatus>>;

/// A change of one key: its status now, or that it is gone.
pub type KeyChange = (Key, Option<Arc<KeyStatus>>);

/// The last probe of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastProbe {
    /// Which run was asked.
    pub run: RunId,
    /// What came of it.
    pub outcome: ProbeOutcome,
    /// When that was known.
    pub at: Moment,
}

/// The published view of everything. One writer, any number of readers.
#[derive(Debug)]
pub struct Board {
    shards: Box<[ArcSwap<Shard>]>,
    /// For each map, how often it was replaced.
    replaced: Box<[watch::Sender<u64>]>,
    chronicle: Chronicle,
    /// For who asks why a key is as it is. Most probes change nothing, so that no status tells of them.
    probes: Mutex<HashMap<Key, LastProbe>>,
    desired: ArcSwap<DesiredStatus>,
    ceilings: ArcSwap<Ceilings>,
    adopted: AtomicBool,
    started: Moment,
    /// Milliseconds from the start to the last turn of the loop.
    beat: AtomicU64,
}

impl Board {
    /// An empty board of a launcher that started at `started`.
    pub fn new(started: Moment) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| ArcSwap::default()).collect(),
            replaced: (0..SHARDS).map(|_| watch::Sender::new(0)).collect(),
            chronicle: Chronicle::default(),
            probes: Mutex::default(),
            desired: ArcSwap::default(),
            ceilings: ArcSwap::default(),
            adopted: AtomicBool::new(false),
            started,
            beat: AtomicU64::new(0),
        }
    }

    /// Where a key stands.
    pub fn status(&self, key: &Key) -> Option<Arc<KeyStatus>> {
        self.shards[shard_of(key)].load().get(key).map(Arc::clone)
    }

    /// Where every key stands, in no order.
    pub fn statuses(&self) -> Vec<Arc<KeyStatus>> {
        self.shards.iter().flat_map(|shard| shard.load().values().map(Arc::clone).collect::<Vec<_>>()).collect()
    }

    /// Begins to wait for changes of a key. Look at its status after this, and again after every
    /// [`Subscription::changed`]: no change falls in between. A waiter costs nothing but its place in a list, and is woken
    /// for the few keys that share its map.
    pub fn subscribe(&self, key: &Key) -> Subscription {
        Subscription(self.replaced[shard_of(key)].subscribe())
    }

    /// What happened.
    pub const fn chronicle(&self) -> &Chronicle {
        &self.chronicle
    }

    /// The last probe of a key's processes; also of the one before, until the first of the one that runs.
    pub fn last_probe(&self, key: &Key) -> Option<LastProbe> {
        self.probes().get(key).cloned()
    }

    /// Takes in a probe.
    pub(super) fn probed(&self, key: &Key, probe: LastProbe) {
        self.probes().insert(key.clone(), probe);
    }

    fn probes(&self) -> MutexGuard<'_, HashMap<Key, LastProbe>> {
        // Nothing that can panic runs while it is held.
        self.probes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What may run at once.
    pub fn ceilings(&self) -> Arc<Ceilings> {
        self.ceilings.load_full()
    }

    /// Publishes what may run at once.
    pub(super) fn set_ceilings(&self, ceilings: &Ceilings) {
        self.ceilings.store(Arc::new(ceilings.clone()));
    }

    /// How the reading of the desired directories went.
    pub fn desired(&self) -> Arc<DesiredStatus> {
        self.desired.load_full()
    }

    /// Whether what the last launcher left has been taken over.
    pub fn adopted(&self) -> bool {
        self.adopted.load(Ordering::Acquire)
    }

    /// How long the launcher has been running.
    pub fn uptime(&self, now: Moment) -> Duration {
        now.since(self.started)
    }

    /// Tells where everything stands, as it is measured.
    pub fn standing<T>(&self, now: Moment, tell: impl FnOnce(&Standing<'_>) -> T) -> T {
        let (statuses, desired) = (self.statuses(), self.desired());
        let ready = self.adopted() && desired.is_ready();
        tell(&Standing { statuses: &statuses, desired: &desired, ready, uptime: self.uptime(now) })
    }

    /// How long ago the loop last turned.
    pub fn since_last_turn(&self, now: Moment) -> Duration {
        self.uptime(now).saturating_sub(Duration::from_millis(self.beat.load(Ordering::Relaxed)))
    }

    /// Takes in changes of keys.
    pub(crate) fn publish(&self, changes: &[KeyChange]) {
        let mut by_shard: HashMap<usize, Vec<&KeyChange>> = HashMap::new();
        for change in changes {
            by_shard.entry(shard_of(&change.0)).or_default().push(change);
        }
        for (shard, changes) in by_shard {
            let mut next = Shard::clone(&self.shards[shard].load());
            for (key, status) in changes {
                if let Some(status) = status {
                    next.insert(key.clone(), Arc::clone(status));
                } else {
                    next.remove(key);
                    self.probes().remove(key);
                }
            }
            self.shards[shard].store(Arc::new(next));
            self.replaced[shard].send_modify(|times| *times = times.wrapping_add(1));
        }
    }

    /// Takes in how the reading of the desired directories went.
    pub(crate) fn publish_desired(&self, desired: Arc<DesiredStatus>) {
        self.desired.store(desired);
    }

    /// Says that what the last launcher left has been taken over.
    pub(crate) fn set_adopted(&self) {
        self.adopted.store(true, Ordering::Release);
    }

    /// Says that the loop turns.
    pub(crate) fn beat(&self, now: Moment) {
        let millis = u64::try_from(self.uptime(now).as_millis()).unwrap_or(u64::MAX);
        self.beat.store(millis, Ordering::Relaxed);
    }
}

/// Waits for changes of one key, see [`Board::subscribe`].
#[derive(Debug, Clone)]
pub struct Subscription(watch::Receiver<u64>);

impl Subscription {
    /// Waits until the key may have changed since this was last asked, or since the subscription began. Waits for ever
    /// once the board is gone. Cancel-safe: a change that came is still there when it is asked again.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn shard_of(key: &Key) -> usize {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    usize::try_from(hasher.finish() % SHARDS as u64).unwrap_or(0)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::model::{BootId, DesiredState, Generation, IsolationLevel, ProcessState, VerdictStatus};

    /// A running key.
    pub(crate) fn running(id: &str) -> KeyStatus {
        let key = Key::parse(id).unwrap();
        KeyStatus {
            pattern_name: key.pattern().to_owned(),
            namespace: key.namespace().to_owned(),
            session_id: String::new(),
            isolation: IsolationLevel::Namespace,
            desired: Some(DesiredState::Running),
            state: ProcessState::Running,
            healthy: true,
            pid: Some(4711),
            run_id: None,
            started_at_boot_seconds: Some(10.0),
            ports: None,
            address: Some("127.0.0.1:15000".to_owned()),
            limits_effective: None,
            tracking: None,
            isolation_effective: Vec::new(),
            generation: Generation(1),
            observed_generation: Generation(1),
            error_count: 0,
            restart_count: 0,
            circuit_open: false,
            last_error: None,
            declared_at: None,
            api_managed: false,
            asked_by: None,
            suspension: None,
            expires_at_boot_seconds: None,
            differences: Vec::new(),
            failed_run: None,
            failure: None,
            declared: None,
            verdict: VerdictStatus { action: "none".to_owned(), reason: String::new(), looks_again_in_seconds: None },
            conditions: Vec::new(),
            process_id: key,
        }
    }

    /// A moment of the only boot of these tests.
    pub(crate) fn at(seconds: u64) -> Moment {
        Moment::new(BootId::from_u128(1), Duration::from_secs(seconds))
    }

    #[test]
    fn what_is_published_is_read_and_what_is_gone_is_not() {
        let board = Board::new(at(0));
        let statuses: Vec<Arc<KeyStatus>> = (0..1_000).map(|n| Arc::new(running(&format!("ns:t{n}:a")))).collect();
        let changes: Vec<KeyChange> =
            statuses.iter().map(|status| (status.process_id.clone(), Some(Arc::clone(status)))).collect();
        board.publish(&changes);
        assert_eq!(board.statuses().len(), 1_000);
        let first = &changes[0].0;
        assert_eq!(board.status(first).map(|status| status.pid), Some(Some(4711)));
        board.publish(&[(first.clone(), None)]);
        assert_eq!(board.status(first), None);
        assert_eq!(board.statuses().len(), 999);
    }

    #[tokio::test]
    async fn no_change_falls_between_a_look_and_the_wait_for_the_next() {
        let board = Arc::new(Board::new(at(0)));
        let status = Arc::new(running("ns:a:a"));
        let key = status.process_id.clone();
        let mut subscription = board.subscribe(&key);
        assert_eq!(board.status(&key), None);
        board.publish(&[(key.clone(), Some(Arc::clone(&status)))]);
        subscription.changed().await;
        assert!(board.status(&key).is_some());
        let still = tokio::time::timeout(Duration::from_millis(20), subscription.changed()).await;
        assert!(still.is_err(), "one change is told once");
        let waiters: Vec<_> = (0..1_000)
            .map(|_| {
                let (board, key) = (Arc::clone(&board), key.clone());
                tokio::spawn(async move {
                    let mut subscription = board.subscribe(&key);
                    while board.status(&key).is_some() {
                        subscription.changed().await;
                    }
                })
            })
            .collect();
        tokio::task::yield_now().await;
        board.publish(&[(key.clone(), None)]);
        for waiter in waiters {
            tokio::time::timeout(Duration::from_secs(10), waiter).await.expect("all are woken").unwrap();
        }
    }

    #[test]
    fn a_loop_that_stands_still_is_seen() {
        let board = Board::new(at(100));
        board.beat(at(130));
        assert_eq!(board.since_last_turn(at(131)), Duration::from_secs(1));
        assert_eq!(board.since_last_turn(at(190)), Duration::from_secs(60));
    }
}
