//! What happened: every note of the engine, told to whoever listens, and the last ones of each key kept for whoever asks
//! later, also of the next launcher.

pub use crate::act::records::Happening;

use crate::act::records::{AuditLog, EventLog};
use crate::act::state_folder::Presence;
use crate::model::{Key, Moment};
use crate::plan::Note;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::broadcast;

/// How many happenings a listener may be behind before it misses the oldest: a restart of a thousand instances is some
/// four thousand notes within a second.
const BEHIND: usize = 4096;
/// How many are kept of one key: a crash-looping one fills half of that until its circuit opens.
const KEPT_PER_KEY: usize = 50;
/// How many are kept of all keys together, the latest ones: about two of each of ten thousand keys, and some five
/// megabytes.
const KEPT: usize = 20_000;

/// What happened, to be listened to and to be asked. One writer, any number of readers.
#[derive(Debug)]
pub struct Chronicle {
    listeners: broadcast::Sender<Arc<Happening>>,
    lately: Mutex<Lately>,
    /// Where it is written down; nowhere in tests and simulations.
    log: OnceLock<Arc<EventLog>>,
    /// Where it is written down what somebody asked for; nowhere in tests and simulations.
    audit: OnceLock<Arc<AuditLog>>,
}

impl Default for Chronicle {
    fn default() -> Self {
        Self {
            listeners: broadcast::Sender::new(BEHIND),
            lately: Mutex::default(),
            log: OnceLock::new(),
            audit: OnceLock::new(),
        }
    }
}

impl Chronicle {
    /// Listens to what happens from now on. A listener that is too slow is told how many it missed.
    pub fn listen(&self) -> broadcast::Receiver<Arc<Happening>> {
        self.listeners.subscribe()
    }

    /// What happened to a key lately, oldest first; up to fifty.
    pub fn lately(&self, key: &Key) -> Vec<Arc<Happening>> {
        let lately = self.lock();
        lately.by_key.get(key).into_iter().flatten().map(|(_, happening)| Arc::clone(happening)).collect()
    }

    /// Goes on from what happened under earlier launchers, and writes down what happens from now on.
    pub(crate) fn go_on(&self, earlier: Vec<Happening>, log: Arc<EventLog>) {
        let mut lately = self.lock();
        for happening in earlier {
            lately.keep(Arc::new(happening));
        }
        drop(lately);
        // A chronicle goes on once, before anything happens.
        drop(self.log.set(log));
    }

    /// Has all that is kept written down once more where somebody has removed the file.
    pub(crate) fn mend(&self) -> Presence {
        let Some(log) = self.log.get().filter(|log| log.is_displaced()) else { return Presence::Whole };
        let lately = self.lock();
        log.rewrite(lately.all());
        Presence::Pending
    }

    /// Writes down what somebody asks for from now on.
    pub(crate) fn audit_in(&self, audit: Arc<AuditLog>) {
        drop(self.audit.set(audit));
    }

    /// Waits until what was asked for so far stands in the audit log: an answer is given only then.
    pub(crate) async fn audited(&self) {
        if let Some(audit) = self.audit.get() {
            audit.written().await;
        }
    }

    /// Takes in what the engine tells people.
    pub(crate) fn note(&self, note: &Note, at: Moment, wall: String) {
        let Note { level, key, run, message, reason, by } = note.clone();
        let happening = Arc::new(Happening { key, run, level, message: Cow::Borrowed(message), reason, by, at, wall });
        if let Some(audit) = self.audit.get() {
            audit.push(&happening);
        }
        let mut lately = self.lock();
        lately.keep(Arc::clone(&happening));
        if let Some(log) = self.log.get()
            && log.push(Arc::clone(&happening))
        {
            log.rewrite(lately.all());
        }
        drop(lately);
        // Nobody may be listening.
        drop(self.listeners.send(happening));
    }

    fn lock(&self) -> MutexGuard<'_, Lately> {
        // What panicked while it was held can have left a count out of step, and no more.
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last happenings, by number: in the order of their happening, and by key.
#[derive(Debug, Default)]
struct Lately {
    next: u64,
    order: BTreeMap<u64, Key>,
    by_key: HashMap<Key, VecDeque<(u64, Arc<Happening>)>>,
}

impl Lately {
    /// Everything that is kept, oldest first.
    fn all(&self) -> Vec<Arc<Happening>> {
        let mut all: Vec<_> = self.by_key.values().flatten().collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, happening)| Arc::clone(happening)).collect()
    }

    fn keep(&mut self, happening: Arc<Happening>) {
        self.next += 1;
        self.order.insert(self.next, happening.key.clone());
        let own = self.by_key.entry(happening.key.clone()).or_default();
        own.push_back((self.next, happening));
        if own.len() > KEPT_PER_KEY
            && let Some((number, _)) = own.pop_front()
        {
            self.order.remove(&number);
        }
        if self.order.len() > KEPT
            && let Some((_, key)) = self.order.pop_first()
            && let Some(own) = self.by_key.get_mut(&key)
        {
            // The oldest of all is the oldest of its key.
            own.pop_front();
            if own.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::board::tests::at;
    use super::*;
    use crate::act::records::{EVENT_LOG, Records};
    use crate::model::{BootId, Caller};
    use crate::plan::NoteLevel;
    use std::path::Path;

    fn note(key: &str, number: usize) -> Note {
        let key = Key::parse(key).unwrap();
        let reason = number.to_string();
        Note { level: NoteLevel::Info, key, run: None, message: "process started", reason, by: Some(Caller::Program) }
    }

    #[test]
    fn the_last_fifty_of_a_key_are_kept_oldest_first() {
        let chronicle = Chronicle::default();
        for number in 0..120 {
            chronicle.note(&note("ns:a:p", number), at(1), String::new());
        }
        let kept: Vec<String> =
            chronicle.lately(&Key::parse("ns:a:p").unwrap()).iter().map(|happening| happening.reason.clone()).collect();
        assert_eq!((kept.len(), kept[0].as_str(), kept[49].as_str()), (50, "70", "119"));
        assert!(chronicle.lately(&Key::parse("ns:b:p").unwrap()).is_empty());
    }

    #[test]
    fn what_is_kept_of_all_keys_is_bounded() {
        let chronicle = Chronicle::default();
        for number in 0..KEPT + 500 {
            chronicle.note(&note(&format!("ns:t{}:p", number / 2), number), at(1), String::new());
        }
        let lately = chronicle.lock();
        assert_eq!(lately.order.len(), KEPT);
        assert_eq!(lately.by_key.values().map(VecDeque::len).sum::<usize>(), KEPT);
        assert_eq!(lately.by_key.len(), KEPT / 2, "keys of which nothing is kept are forgotten");
    }

    #[tokio::test]
    async fn a_listener_that_is_too_slow_is_told_how_many_it_missed() {
        let chronicle = Chronicle::default();
        let mut listener = chronicle.listen();
        for number in 0..BEHIND + 7 {
            chronicle.note(&note("ns:a:p", number), at(1), String::new());
        }
        let missed = listener.recv().await.unwrap_err();
        assert_eq!(missed, broadcast::error::RecvError::Lagged(7));
        assert_eq!(listener.recv().await.unwrap().reason, "7");
    }

    /// A chronicle that goes on from what is in a folder, and what it found there to be wrong.
    fn reopened(folder: &Path) -> (Chronicle, Vec<String>) {
        let (records, loaded) = Records::open(folder, BootId::from_u128(1)).unwrap();
        let chronicle = Chronicle::default();
        chronicle.go_on(loaded.events, records.events());
        (chronicle, loaded.notices.iter().map(ToString::to_string).collect())
    }

    fn reasons(chronicle: &Chronicle, key: &str) -> Vec<String> {
        let lately = chronicle.lately(&Key::parse(key).unwrap());
        lately.iter().map(|happening| happening.reason.clone()).collect()
    }

    #[test]
    fn the_next_launcher_goes_on_from_what_happened_before_it() {
        let folder = tempfile::tempdir().unwrap();
        let (chronicle, notices) = reopened(folder.path());
        assert_eq!((reasons(&chronicle, "ns:a:p"), notices), (vec![], vec![]));
        for number in 0..120 {
            chronicle.note(&note("ns:a:p", number), at(7), format!("wall {number}"));
        }
        chronicle.note(&note("ns:b:p", 1), at(8), String::new());
        let told = chronicle.lately(&Key::parse("ns:a:p").unwrap());
        drop(chronicle);
        let (chronicle, notices) = reopened(folder.path());
        assert_eq!((chronicle.lately(&Key::parse("ns:a:p").unwrap()), notices), (told, vec![]));
        chronicle.note(&note("ns:a:p", 120), at(9), String::new());
        let kept = reasons(&chronicle, "ns:a:p");
        assert_eq!((kept.len(), kept[0].as_str(), kept[49].as_str()), (50, "71", "120"));
        assert_eq!(reasons(&chronicle, "ns:b:p"), ["1"]);
    }

    /// Waits for the thread that writes.
    #[expect(clippy::disallowed_methods, reason = "what is waited for is a thread, and this is no loop of a runtime")]
    fn until(what: &str, condition: impl Fn() -> bool) {
        for _ in 0..5_000 {
            if condition() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        panic!("{what} did not come about");
    }

    fn length(path: &Path) -> u64 {
        std::fs::metadata(path).map_or(0, |metadata| metadata.len())
    }

    #[test]
    fn the_file_is_bounded_and_keeps_what_is_quiet() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(EVENT_LOG);
        let (chronicle, _) = reopened(folder.path());
        chronicle.note(&note("ns:quiet:p", 7), at(1), String::new());
        let mut longest = 0;
        for number in 0..100 {
            let before = length(&path);
            for _ in 0..100 {
                let long = Note { reason: "x".repeat(2_000), ..note("ns:loud:p", number) };
                chronicle.note(&long, at(1), String::new());
            }
            until("a writing", || length(&path) != before);
            longest = longest.max(length(&path));
        }
        drop(chronicle);
        // Twenty megabytes were told; a few groups may be written before the rewriting that has been asked for.
        assert!(longest < 8 << 20, "{longest} bytes");
        let (chronicle, notices) = reopened(folder.path());
        assert_eq!(reasons(&chronicle, "ns:quiet:p"), ["7"]);
        assert_eq!((reasons(&chronicle, "ns:loud:p").len(), notices), (KEPT_PER_KEY, vec![]));
    }

    #[test]
    fn a_file_that_was_removed_is_written_again_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(EVENT_LOG);
        let (chronicle, _) = reopened(folder.path());
        chronicle.note(&note("ns:a:p", 1), at(1), String::new());
        until("the first", || length(&path) > 0);
        std::fs::remove_file(&path).unwrap();
        // This one finds that the file is gone, and the one after it has everything written anew.
        chronicle.note(&note("ns:a:p", 2), at(1), String::new());
        until("another file", || length(&path) > 0);
        until("the whole", || {
            chronicle.note(&note("ns:a:p", 3), at(1), String::new());
            std::fs::read_to_string(&path).is_ok_and(|text| text.contains(r#""reason":"1""#))
        });
    }

    #[test]
    fn a_disk_that_cannot_be_written_keeps_nobody_waiting_and_loses_nothing_in_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        let (chronicle, _) = reopened(&state);
        // Nothing can be made below a file.
        std::fs::remove_dir_all(&state).unwrap();
        std::fs::write(&state, "").unwrap();
        for number in 0..30 {
            chronicle.note(&note("ns:a:p", number), at(1), String::new());
        }
        std::fs::remove_file(&state).unwrap();
        drop(chronicle);
        let (chronicle, _) = reopened(&state);
        assert_eq!(reasons(&chronicle, "ns:a:p").len(), 30);
    }

    #[test]
    fn what_is_torn_or_damaged_is_left_out_and_a_newer_file_is_kept_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(EVENT_LOG);
        let (chronicle, _) = reopened(folder.path());
        for number in 0..3 {
            chronicle.note(&note("ns:a:p", number), at(1), String::new());
        }
        drop(chronicle);
        let whole = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, whole.replacen("\"reason\":\"1\"", "\"reason\":\"9\"", 1) + "{\"version\":1,\"check")
            .unwrap();
        let (chronicle, notices) = reopened(folder.path());
        assert_eq!(reasons(&chronicle, "ns:a:p"), ["0", "2"]);
        assert!(notices.len() == 1 && notices[0].contains("1 lines are damaged"), "{notices:?}");
        chronicle.note(&note("ns:a:p", 3), at(1), String::new());
        drop(chronicle);
        let (chronicle, _) = reopened(folder.path());
        assert_eq!(reasons(&chronicle, "ns:a:p"), ["0", "2", "3"]);
        drop(chronicle);
        std::fs::write(&path, "{\"version\":2,\"anything\":[]}\n").unwrap();
        let (chronicle, notices) = reopened(folder.path());
        assert!(reasons(&chronicle, "ns:a:p").is_empty() && notices[0].contains("newer launcher"), "{notices:?}");
        assert!(folder.path().join("events.log.newer").exists());
        drop(chronicle);
    }
}
