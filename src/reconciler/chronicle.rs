//! What happened: every note of the engine, told to whoever listens, and the last ones of each key kept for whoever asks
//! later. It is all in memory and begins with the launcher; the log is what lasts.

use crate::model::{Caller, Key, Moment, RunId};
use crate::plan::{Note, NoteLevel};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;

/// How many happenings a listener may be behind before it misses the oldest: a restart of a thousand instances is some
/// four thousand notes within a second.
const BEHIND: usize = 4096;
/// How many are kept of one key: a crash-looping one fills half of that until its circuit opens.
const KEPT_PER_KEY: usize = 50;
/// How many are kept of all keys together, the latest ones: about two of each of ten thousand keys, and some five
/// megabytes.
const KEPT: usize = 20_000;

/// Something that happened to a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happening {
    /// Which key.
    pub key: Key,
    /// Which run, where it is about one.
    pub run: Option<RunId>,
    /// How much it matters.
    pub level: NoteLevel,
    /// A constant text, such as `process started`.
    pub message: &'static str,
    /// Why, as a sentence or as a printed error.
    pub reason: String,
    /// Who asked for it, where somebody did.
    pub by: Option<Caller>,
    /// When.
    pub at: Moment,
    /// The time of day then, as RFC 3339.
    pub wall: String,
}

/// What happened, to be listened to and to be asked. One writer, any number of readers.
#[derive(Debug)]
pub struct Chronicle {
    listeners: broadcast::Sender<Arc<Happening>>,
    lately: Mutex<Lately>,
}

impl Default for Chronicle {
    fn default() -> Self {
        Self { listeners: broadcast::Sender::new(BEHIND), lately: Mutex::default() }
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

    /// Takes in what the engine tells people.
    pub(crate) fn note(&self, note: &Note, at: Moment, wall: String) {
        let Note { level, key, run, message, reason, by } = note.clone();
        let happening = Arc::new(Happening { key, run, level, message, reason, by, at, wall });
        self.lock().keep(Arc::clone(&happening));
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
}
