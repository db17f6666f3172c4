//! An upgrade of the launcher: it takes over what the last one left, and restarts nothing.

use crate::left::Left;
use pattern_launcher::act::clock;
use pattern_launcher::desired::root::RootSpec;
use pattern_launcher::desired::spec::Defaults;
use pattern_launcher::desired::store::{self, StoreSettings};
use pattern_launcher::model::{Circuit, IsolationLevel, Key, Memory, Policy, Resources, RunId, RunRecord};
use pattern_launcher::observed::{DesiredChange, Event, Restored, RestoredRun};
use pattern_launcher::plan::Effect;
use pattern_launcher::reconciler::engine::{Dice, Engine};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// The keys that were suspended, stopped, open or finished: nothing of them runs, and nothing is to be started.
const AT_REST: [&str; 5] =
    ["ns:briefly:plain", "ns:suspended:plain", "ns:tenant-a:crasher", "ns:tenant-a:job", "ns:tenant-c:web"];
/// What was being ended by request.
const ENDING: &str = "ns:ending:stubborn";

/// No start is expected, so no chance is either.
struct Never;

impl Dice for Never {
    fn jitter(&mut self) -> f64 {
        0.0
    }

    fn run_id(&mut self) -> RunId {
        RunId::from_random(1)
    }
}

#[test]
fn what_is_remembered_means_what_it_meant() {
    let left = Left::by_version_1();
    assert_eq!((left.loaded.damaged.len(), left.loaded.notices.len()), (0, 0), "{:?}", left.loaded.notices);
    let memories: BTreeMap<&str, &Memory> =
        left.loaded.memories.iter().map(|memory| (memory.instance.key.as_str(), memory)).collect();
    let running: BTreeSet<&str> = left.loaded.runs.iter().map(|run| run.key.as_str()).collect();
    let resting: BTreeSet<&str> = memories.keys().copied().filter(|key| !running.contains(key)).collect();
    assert_eq!(resting, BTreeSet::from(AT_REST));
    assert_eq!(memories.len(), 20);
    assert!(running.iter().all(|key| memories.contains_key(key)), "{running:?}");

    let crasher = memories["ns:tenant-a:crasher"];
    assert!(matches!(crasher.circuit, Circuit::Open { retry_at: Some(_), failed_trials: 0 }));
    assert_eq!((crasher.streak, crasher.restarts), (5, 4));
    assert!(crasher.last_error.as_ref().unwrap().to_string().contains("exit code 3"));
    assert!(memories["ns:tenant-a:job"].finished.is_some());
    let suspension = memories["ns:suspended:plain"].suspension.as_ref().unwrap();
    assert_eq!((suspension.reason.as_str(), suspension.until), ("upgrade of the \"disk\"", None));
    let briefly = memories["ns:briefly:plain"].suspension.as_ref().unwrap();
    assert_eq!(briefly.until, Some(briefly.since.after(Duration::from_secs(7_200))));
    let launched = memories["ns:launched:plain"];
    assert_eq!(launched.instance.content.ttl, Some(Duration::from_secs(1_800)));
    assert!(launched.renewed.is_some() && launched.asked_by.is_some() && launched.instance.origin.api_managed);
    assert_eq!(memories["ns:tenant-b:web"].restarts, 1);

    let ending = left.loaded.runs.iter().find(|run| run.key.as_str() == ENDING).unwrap();
    let stop = ending.stop.unwrap();
    assert_eq!((stop.signalled, stop.deadline), (true, stop.since.after(Duration::from_secs(3_600))));
    assert!(left.loaded.runs.iter().all(|run| run.executed && run.process.boot == left.boot));
}

#[test]
fn what_happened_is_told_as_it_was() {
    let left = Left::by_version_1();
    let events = &left.loaded.events;
    assert!(events.is_sorted_by_key(|event| event.at.since_boot));
    let of = |key: &str| -> Vec<(String, bool)> {
        let about = events.iter().filter(|event| event.key.as_str() == key);
        about.map(|event| (event.message.to_string(), event.by.is_some())).collect()
    };
    let told = |text: &str, asked| (text.to_owned(), asked);
    let ended = [
        told("launched", true),
        told("process started", false),
        told("process asked to end", false),
        told("launch ended", true),
        told("process ended", false),
    ];
    assert_eq!(of("ns:ended:plain"), ended);
    assert_eq!(of("ns:tenant-a:crasher").last(), Some(&told("circuit opened", false)));
    assert!(!format!("{events:?}").contains("s3cret"), "a secret is in the history");
}

/// Whether it tells that a deletion of a root is held.
fn holds(change: &DesiredChange, root: &Path) -> bool {
    let roots = change.status.iter().flat_map(|status| &status.roots);
    let mut told = roots.filter(|told| told.path == root).flat_map(|root| &root.conditions);
    told.any(|condition| condition.kind == "PruneBlocked")
}

/// What today's store says first about what was declared, over what was restored.
async fn declared_now(left: &Left, resources: Resources) -> Vec<DesiredChange> {
    let root = |name: &str, api_managed| RootSpec { api_managed, ..RootSpec::open(left.path(name)) };
    let settings = StoreSettings {
        roots: vec![root("desired", false), root("tenants", false), root("launched", true)],
        patterns_dir: left.path("patterns"),
        defaults: Defaults { isolation: IsolationLevel::Namespace, resources, unwritten: Vec::new() },
        resync: Duration::from_millis(200),
        state_dir: left.path("state"),
        locks: None,
    };
    let restored = left.memories().iter().map(|memory| Arc::clone(&memory.instance)).collect();
    let (deliveries, mut delivered) = mpsc::channel(16);
    let _store = store::spawn(settings, restored, clock::now, deliveries);
    let mut changes = Vec::new();
    // Until the deletion is held that was held before: whatever would have gone by mistake has gone by then.
    while !changes.iter().any(|change: &DesiredChange| holds(change, &left.path("tenants"))) {
        let next = tokio::time::timeout(Duration::from_secs(30), delivered.recv()).await.unwrap();
        changes.extend(next.unwrap().change);
    }
    changes
}

/// What today's engine does about it, apart from looking after what runs.
fn done_about(left: &Left, memories: Vec<Memory>, runs: Vec<RunRecord>, changes: Vec<DesiredChange>) -> Vec<Effect> {
    let mut engine = Engine::new(Policy::default());
    let now = left.now();
    engine.restore(Restored { memories, runs: runs.into_iter().map(RestoredRun::Alive).collect() }, now, &mut Never);
    let mut effects = engine.pass(now, &mut Never);
    for change in changes {
        engine.handle(Event::Desired(change), now, &mut Never);
        effects.extend(engine.pass(now, &mut Never));
    }
    effects.retain(|effect| !matches!(effect, Effect::Probe { .. } | Effect::StopProbe { .. } | Effect::Note(_)));
    effects
}

#[tokio::test]
async fn s14_an_upgrade_restarts_nothing_and_writes_nothing() {
    let left = Left::by_version_1();
    let changes = declared_now(&left, Resources::default()).await;
    let declared: Vec<&Key> = changes.iter().flat_map(|change| &change.declared).map(|found| &found.key).collect();
    assert!(declared.is_empty(), "the same files are something else: {declared:?}");
    let withdrawn: Vec<&str> = changes.iter().flat_map(|change| &change.withdrawn).map(Key::as_str).collect();
    assert_eq!(withdrawn, [ENDING], "what was held is held");
    let done = done_about(&left, left.memories(), left.runs(), changes);
    assert!(done.is_empty(), "{done:#?}");
}

#[tokio::test]
async fn s14_other_defaults_restart_nothing() {
    let left = Left::by_version_1();
    let limits = Resources { cpu_limit_millis: Some(2_000), memory_limit: Some(1 << 30), ..Resources::default() };
    let changes = declared_now(&left, limits.clone()).await;
    let effects = done_about(&left, left.memories(), left.runs(), changes);
    let (mut looked_after, mut limited) = (0, 0);
    for effect in &effects {
        if let Effect::SaveMemory(memory) = effect {
            assert_eq!(memory.instance.content.supervision.resources.memory_limit, limits.memory_limit);
        } else if let Effect::SaveRun(run) = effect {
            looked_after += 1;
            assert_eq!(run.supervision.resources.memory_limit, limits.memory_limit);
        } else if let Effect::Limit { resources, .. } = effect {
            limited += 1;
            assert_eq!(resources.memory_limit, limits.memory_limit);
        } else if let Effect::Prepare(request) = effect {
            // A change of what it may use is one of those that close a circuit, whoever makes it.
            assert_eq!(request.key.as_str(), "ns:tenant-a:crasher");
        } else {
            panic!("{effect:?}");
        }
    }
    assert_eq!((looked_after, limited), (9, 9), "every process that a file declares");
}

#[test]
fn records_are_written_as_they_were() {
    let left = Left::by_version_1();
    let read = |name: &std::path::Path| std::fs::read_to_string(name).unwrap();
    let before: BTreeSet<String> =
        std::fs::read_dir(left.path("state/runs")).unwrap().map(|entry| read(&entry.unwrap().path())).collect();
    for run in &left.loaded.runs {
        left.records.save_run(run).unwrap();
    }
    let after: BTreeSet<String> =
        std::fs::read_dir(left.path("state/runs")).unwrap().map(|entry| read(&entry.unwrap().path())).collect();
    assert_eq!(before, after, "an earlier launcher of the same version can read them");
}
