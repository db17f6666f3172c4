//! Random histories of files and scans, checked against what must never go wrong.

use super::*;
use crate::desired::sight::{Sight, Stillness};
use crate::model::{
    BootId, Content, Isolation, Lifecycle, Namespace, PatternRevision, Privileges, RestartPolicy, StartSpec,
    StopSignal, Supervision,
};
use proptest::prelude::*;
use std::cell::Cell;

const ROOT: &str = "/desired";

/// Resolves everything, except while it is switched off.
#[derive(Default)]
struct AnyPattern {
    gone: Cell<bool>,
}

impl Patterns for AnyPattern {
    fn resolve(&self, spec: &InstanceSpec, origin: Origin) -> Result<(Instance, Option<Error>)> {
        if self.gone.get() {
            return Err(Error::new(crate::error::Code::PatternNotFound, "gone"));
        }
        let isolation = Isolation::Namespace(spec.namespace.clone().unwrap_or_else(Namespace::default_namespace));
        let lifecycle = Lifecycle {
            stop_signal: StopSignal::Term,
            grace_period: Duration::from_secs(10),
            restart: RestartPolicy::Always,
        };
        let pattern = PatternRevision {
            version: "1".to_owned(),
            folder: PathBuf::new(),
            executable: "sh".to_owned(),
            digest: None,
            args: Vec::new(),
            environment: BTreeMap::new(),
            preferred_port: None,
            privileges: Privileges::default(),
        };
        let instance = Instance {
            key: isolation.key(&spec.pattern),
            pattern: spec.pattern.clone(),
            isolation,
            content: Content {
                launch: Arc::new(StartSpec { pattern, config: BTreeMap::new(), credentials: BTreeMap::new() }),
                supervision: Supervision {
                    healthcheck: None,
                    stop_signal: lifecycle.stop_signal,
                    grace_period: lifecycle.grace_period,
                    restart: lifecycle.restart,
                    resources: crate::model::Resources::default(),
                },
                state: spec.state,
                ttl: None,
            },
            origin,
            defaulted: Vec::new(),
        };
        Ok((instance, None))
    }
}

/// What a file may contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Text {
    Declares(BTreeSet<u8>, bool),
    Wrong,
    Empty,
}

impl Text {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Declares(keys, running) => {
                let names: Vec<String> = keys.iter().map(|key| format!("t{key}")).collect();
                let state = if *running { "running" } else { "stopped" };
                format!("pattern: p\nnamespaces: [{}]\nstate: {state}\n", names.join(", ")).into_bytes()
            }
            Self::Wrong => b"pattern: [".to_vec(),
            Self::Empty => Vec::new(),
        }
    }
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Write(u8, Text),
    Delete(u8),
    Rename(u8, u8),
    Scan { millis: u64, complete: bool },
    Pattern { gone: bool },
}

fn texts() -> impl Strategy<Value = Text> {
    prop_oneof![
        6 => (prop::collection::btree_set(0_u8..6, 1..4), any::<bool>()).prop_map(|(keys, run)| Text::Declares(keys, run)),
        1 => Just(Text::Wrong),
        1 => Just(Text::Empty),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0_u8..5, texts()).prop_map(|(file, text)| Step::Write(file, text)),
        2 => (0_u8..5).prop_map(Step::Delete),
        1 => (0_u8..5, 0_u8..5).prop_map(|(from, to)| Step::Rename(from, to)),
        6 => (prop_oneof![1_u64..900, 1_900_u64..3_000, Just(61_000)], prop::bool::weighted(0.8))
            .prop_map(|(millis, complete)| Step::Scan { millis, complete }),
        1 => any::<bool>().prop_map(|gone| Step::Pattern { gone }),
    ];
    prop::collection::vec(step, 1..60)
}

/// The files, what reads them, and what is known to have happened.
pub(super) struct History {
    desired: Desired,
    patterns: AnyPattern,
    files: BTreeMap<u8, Text>,
    /// What scans read of each file, since when it has been the same, and when it was read last.
    seen: BTreeMap<u8, (Text, Moment, Moment)>,
    now: Moment,
    pub(super) running: BTreeMap<Key, Arc<Instance>>,
    /// When a complete scan first found no file that declares the key, of those that did so in every scan since.
    undeclared: BTreeMap<Key, Moment>,
}

impl History {
    pub(super) fn new() -> Self {
        Self {
            desired: Desired::new(vec![RootSpec::open(ROOT.into())], &[]),
            patterns: AnyPattern::default(),
            files: BTreeMap::new(),
            seen: BTreeMap::new(),
            now: Moment::new(BootId::from_u128(1), Duration::from_secs(10_000)),
            running: BTreeMap::new(),
            undeclared: BTreeMap::new(),
        }
    }

    pub(super) fn step(&mut self, step: &Step) {
        match step {
            Step::Write(file, text) => drop(self.files.insert(*file, text.clone())),
            Step::Delete(file) => drop(self.files.remove(file)),
            Step::Rename(from, to) => {
                if let Some(text) = self.files.remove(from) {
                    self.files.insert(*to, text);
                }
            }
            Step::Scan { millis, complete } => self.scan(*millis, *complete),
            Step::Pattern { gone } => {
                self.patterns.gone.set(*gone);
                self.desired.patterns_changed(None, Vec::new(), &self.patterns);
            }
        }
    }

    pub(super) fn scan(&mut self, millis: u64, complete: bool) {
        self.now = self.now.after(Duration::from_millis(millis));
        let rereads = self.desired.rereads(Path::new(ROOT), self.now);
        // A scan that fails gets no further than the second file.
        let reached = if complete { 5 } else { 2 };
        let mut seen = Vec::new();
        for (file, text) in self.files.range(..reached) {
            let name = PathBuf::from(format!("{file}.yaml"));
            let known = self.seen.get(file).filter(|(known, ..)| known == text);
            if known.is_none() || rereads.contains(&name) {
                seen.push((name, Sight::content(text.bytes(), Stillness::Unknown)));
            }
            let since = known.map_or(self.now, |(_, since, _)| *since);
            self.seen.insert(*file, (text.clone(), since, self.now));
        }
        if complete {
            self.seen.retain(|file, _| self.files.contains_key(file));
            self.note_undeclared();
        }
        let outcome = if complete {
            Outcome::Complete
        } else {
            Outcome::Failed(Error::new(crate::error::Code::StoreUnavailable, "unreadable"))
        };
        let scan = Scan { outcome, emptiness: Emptiness::Ordinary, seen };
        let present: BTreeSet<PathBuf> = self.seen.keys().map(|file| format!("{file}.yaml").into()).collect();
        self.desired.apply(Path::new(ROOT), &scan, &|file| present.contains(file), &self.patterns, self.now);
        if let Some(change) = self.desired.decide(self.now) {
            self.take(&change, complete);
        }
    }

    fn note_undeclared(&mut self) {
        for number in 0..6_u8 {
            let key = Key::parse(&format!("ns:t{number}:p")).expect("a key");
            // What has not held still yet is no declaration yet.
            let declared = self.seen.values().any(|(text, since, last)| {
                last.since(*since) >= Duration::from_millis(500)
                    && matches!(text, Text::Declares(keys, _) if keys.contains(&number))
            });
            if declared {
                self.undeclared.remove(&key);
            } else {
                self.undeclared.entry(key).or_insert(self.now);
            }
        }
    }

    fn take(&mut self, change: &DesiredChange, complete: bool) {
        assert!(complete || change.withdrawn.is_empty(), "a scan that is not complete ended {:?}", change.withdrawn);
        let before = self.running.len();
        for instance in &change.declared {
            self.running.insert(instance.key.clone(), Arc::clone(instance));
        }
        let most = self.running.len().max(before);
        for key in &change.withdrawn {
            let since = self.undeclared.get(key).expect("what a file declares is not ended");
            assert!(self.now.since(*since) >= ABSENT_FOR, "{key} was ended too early");
            assert!(self.running.remove(key).is_some(), "{key} was ended twice");
        }
        if !change.withdrawn.is_empty() {
            assert!(change.withdrawn.len() < 3 || change.withdrawn.len() < most, "all of at least three were ended");
            let many = change.withdrawn.len() >= 4 && change.withdrawn.len() * 2 > most;
            assert!(!many, "{} of {most} were ended at once", change.withdrawn.len());
        }
        let said: BTreeMap<Key, Arc<Instance>> =
            self.desired.instances().map(|one| (one.key.clone(), Arc::clone(one))).collect();
        assert_eq!(said, self.running, "what was said is what is in force");
    }

    /// The keys whose end is held.
    pub(super) fn held(&self) -> BTreeSet<Key> {
        self.desired.guards.values().filter_map(|guard| guard.held()).flat_map(|held| held.keys.clone()).collect()
    }

    /// Another launcher goes on with what is in force. It is `told` what the last one wrote down of held deletions,
    /// unless that was lost.
    pub(super) fn restart(&mut self, told: bool) {
        let restored: Vec<Arc<Instance>> = self.running.values().cloned().collect();
        let dropped = if told { self.desired.dropped() } else { BTreeSet::new() };
        self.desired = Desired::new(vec![RootSpec::open(ROOT.into())], &restored);
        self.desired.restore_dropped(&dropped);
        self.seen.clear();
    }

    /// Complete scans until nothing has to settle, be absent or be held for a while any more.
    pub(super) fn come_to_rest(&mut self) {
        for _ in 0..4 {
            self.scan(600, true);
            self.scan(2_100, true);
            self.scan(61_000, true);
        }
    }
}

proptest! {
    // As many histories as a debug build checks in some seconds, or as many as `PROPTEST_CASES` asks for.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens to the files: nothing ends by a scan that is not complete, or earlier than two seconds after
    /// the first complete scan without it, or past the guard.
    #[test]
    fn nothing_ends_without_proof(steps in steps()) {
        let mut history = History::new();
        for step in &steps {
            history.step(step);
        }
    }

    /// Once the files stay as they are, and none is wrong, what is desired is what they say; and then silence.
    #[test]
    fn what_the_files_say_comes_true_in_the_end(steps in steps()) {
        let mut history = History::new();
        for step in &steps {
            history.step(step);
        }
        history.step(&Step::Pattern { gone: false });
        let all_good = |text: &mut Text| {
            if !matches!(text, Text::Declares(..)) {
                *text = Text::Declares(BTreeSet::from([0]), true);
            }
        };
        history.files.values_mut().for_each(all_good);
        history.come_to_rest();
        let held = history.held();
        for number in 0..6_u8 {
            let key = Key::parse(&format!("ns:t{number}:p")).expect("a key");
            let claims: Vec<(String, bool)> = history.files.iter().filter_map(|(file, text)| match text {
                Text::Declares(keys, running) if keys.contains(&number) => Some((format!("{file}.yaml"), *running)),
                Text::Declares(..) | Text::Wrong | Text::Empty => None,
            }).collect();
            match history.running.get(&key) {
                None => prop_assert!(claims.is_empty(), "{} is declared by {:?} and does not run", key, claims),
                Some(_) if claims.is_empty() => prop_assert!(held.contains(&key), "{} runs for nobody", key),
                Some(one) => {
                    let running = one.content.state == crate::model::DesiredState::Running;
                    let owner = (one.origin.file.display().to_string(), running);
                    prop_assert!(claims.contains(&owner), "{} is said to be {:?} of {:?}", key, owner, claims);
                }
            }
        }
        history.desired.patterns_changed(Some(&BTreeSet::new()), Vec::new(), &history.patterns);
        prop_assert!(history.desired.decide(history.now).is_none());
        let running = history.running.clone();
        history.come_to_rest();
        prop_assert_eq!(running, history.running);
    }

    /// A wrong, empty or half-written file changes nothing that runs.
    #[test]
    fn a_wrong_file_never_changes_what_runs(steps in steps(), wrong in prop::collection::vec(0_u8..5, 1..5)) {
        let mut history = History::new();
        for step in &steps {
            history.step(step);
        }
        history.step(&Step::Pattern { gone: false });
        history.come_to_rest();
        let running = history.running.clone();
        for file in wrong {
            if let Some(text) = history.files.get_mut(&file) {
                *text = if *text == Text::Wrong { Text::Empty } else { Text::Wrong };
            }
            history.scan(300, true);
        }
        history.come_to_rest();
        prop_assert_eq!(running, history.running);
    }

    /// A launcher that is restarted at any time goes on with the same, if the files stay as they are.
    #[test]
    fn a_restart_changes_nothing(steps in steps()) {
        let mut history = History::new();
        for step in &steps {
            history.step(step);
        }
        history.step(&Step::Pattern { gone: false });
        history.come_to_rest();
        let (before, held) = (history.running.clone(), history.held());
        history.restart(true);
        history.come_to_rest();
        prop_assert_eq!((before, held), (history.running.clone(), history.held()));
    }
}
