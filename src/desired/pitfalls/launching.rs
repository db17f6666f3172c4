//! The store as it runs, asked to launch and to end: real events, real time.

use super::world::{defaults, instance, make_patterns};
use crate::act::clock;
use crate::desired::root::RootSpec;
use crate::desired::spec::InstanceSpec;
use crate::desired::store::{Delivery, Launch, LaunchedFile, StoreHandle, StoreSettings, spawn_with};
use crate::desired::watch::{Backend, Connect, connect};
use crate::error::{Code, Result};
use crate::model::{Caller, DesiredState, Key, Namespace, PatternName, Resources};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// Far longer than anything here takes, also on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(30);

/// A store, and a loop that takes in what it delivers.
struct Running {
    folder: TempDir,
    handle: StoreHandle,
    declared: Arc<Mutex<BTreeSet<Key>>>,
}

impl Running {
    fn start() -> Self {
        Self::noticing(connect)
    }

    fn noticing(connect: Connect) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        make_patterns(&folder.path().join("patterns"));
        fs::create_dir_all(folder.path().join("desired/launched")).expect("roots");
        let path = |name: &str| folder.path().join(name);
        let settings = StoreSettings {
            roots: vec![
                RootSpec::open(path("desired")),
                RootSpec { api_managed: true, ..RootSpec::open(path("desired/launched")) },
            ],
            patterns_dir: path("patterns"),
            defaults: defaults(),
            resync: Duration::from_secs(3_600),
            state_dir: path("state"),
            locks: None,
        };
        let (sender, deliveries) = mpsc::channel(16);
        let handle = spawn_with(settings, Vec::new(), clock::now, sender, connect);
        let declared = Arc::default();
        tokio::spawn(take_in(deliveries, Arc::clone(&declared)));
        Self { folder, handle, declared }
    }

    fn launched(&self) -> std::path::PathBuf {
        self.folder.path().join("desired/launched")
    }

    fn declares(&self, key: &Key) -> bool {
        self.declared.lock().expect("keys").contains(key)
    }

    fn launch(&self, namespace: &str) -> impl Future<Output = Result<LaunchedFile>> + use<> {
        let (handle, launch) = (self.handle.clone(), Launch { spec: spec(namespace), by: Caller::Program });
        async move { handle.launch(launch).await }
    }

    async fn until(&self, what: &str, reached: impl Fn(&BTreeSet<Key>) -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !reached(&self.declared.lock().expect("keys")) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        assert!(waited.await.is_ok(), "waited for {what}: {:?}", self.declared);
    }
}

/// Takes in changes as the loop does: an answer is given once its change has been.
async fn take_in(mut deliveries: mpsc::Receiver<Delivery>, declared: Arc<Mutex<BTreeSet<Key>>>) {
    while let Some(Delivery { change, answers }) = deliveries.recv().await {
        if let Some(change) = change {
            let mut declared = declared.lock().expect("keys");
            for key in &change.withdrawn {
                declared.remove(key);
            }
            declared.extend(change.declared.iter().map(|instance| instance.key.clone()));
        }
        for answer in answers {
            answer.give();
        }
    }
}

fn spec(namespace: &str) -> InstanceSpec {
    InstanceSpec {
        pattern: PatternName::new("p").expect("a name"),
        isolation: None,
        namespace: Some(Namespace::new(namespace).expect("a namespace")),
        session: None,
        config: BTreeMap::new(),
        slots: BTreeMap::new(),
        credentials: BTreeMap::new(),
        resources: Resources::default(),
        grace_period: None,
        state: DesiredState::Running,
        ttl: None,
        line: 1,
    }
}

#[tokio::test]
async fn whoever_is_answered_finds_it_declared() {
    let running = Running::start();
    let mut launches = JoinSet::new();
    for number in 0..300 {
        launches.spawn(running.launch(&format!("t{}", number % 100)));
    }
    let mut created = 0;
    while let Some(told) = launches.join_next().await {
        let told = told.expect("no panic").expect("launched");
        assert!(running.declares(&told.key), "{} was answered and is not declared", told.key);
        assert!(told.instance.origin.path().exists());
        created += usize::from(told.created);
    }
    assert_eq!(created, 100);
    for number in 0..100 {
        let key = Key::parse(&format!("ns:t{number}:p")).expect("a key");
        running.handle.remove(key.clone(), None, Caller::Program).await.expect("removed");
        assert!(!running.declares(&key));
    }
    assert_eq!(fs::read_dir(running.launched()).expect("a folder").count(), 0);
}

#[tokio::test]
async fn a_wait_that_is_given_up_takes_nothing_back() {
    let running = Running::start();
    let launch = running.launch("a");
    let begun = tokio::time::timeout(Duration::ZERO, launch).await;
    drop(begun);
    running.until("the launch", |keys| keys.len() == 1).await;
}

#[tokio::test]
async fn what_is_over_is_removed_however_often_that_is_asked() {
    let running = Running::start();
    let told = running.launch("a").await.expect("launched");
    for _ in 0..3 {
        running.handle.expire(told.key.clone());
    }
    running.until("the end", BTreeSet::is_empty).await;
    assert!(!told.instance.origin.path().exists());
    let error = running.handle.remove(told.key, None, Caller::Program).await.expect_err("it is gone");
    assert_eq!(error.code(), Code::ProcessNotFound);
}

#[tokio::test]
async fn what_people_do_among_launches_is_noticed_within_a_second_or_so() {
    let running = Running::start();
    let told = running.launch("a").await.expect("launched");
    let file = told.instance.origin.path();
    fs::write(&file, "pattern: q\nisolation: namespace\nnamespace: a\n").expect("edited");
    running.until("the edit", |keys| keys.iter().any(|key| key.as_str() == "ns:a:q")).await;
    drop_in(&running.launched(), "b.yaml", &instance("b"));
    running.until("a file by hand", |keys| keys.iter().any(|key| key.as_str() == "ns:b:p")).await;
}

#[tokio::test]
async fn after_writing_it_looks_although_nothing_is_noticed() {
    struct Deaf;
    impl Backend for Deaf {
        fn watch(&mut self, _: &Path) -> notify::Result<()> {
            Ok(())
        }
        fn unwatch(&mut self, _: &Path) -> notify::Result<()> {
            Ok(())
        }
    }
    let running = Running::noticing(|_| Ok(Box::new(Deaf)));
    // The first looks are over by the time that these are on disk.
    for number in 0..20 {
        running.launch(&format!("t{number}")).await.expect("launched");
    }
    drop_in(&running.launched(), "b.yaml", &instance("b"));
    running.until("a file by hand", |keys| keys.iter().any(|key| key.as_str() == "ns:b:p")).await;
}

fn drop_in(folder: &Path, file: &str, content: &str) {
    let staged = folder.join(".staged");
    fs::write(&staged, content).expect("written");
    fs::rename(staged, folder.join(file)).expect("renamed");
}

#[tokio::test]
async fn patterns_are_there_for_anyone_to_read() {
    let running = Running::start();
    running.launch("a").await.expect("launched");
    let book = running.handle.patterns();
    let names: Vec<_> = book.manifests().map(|manifest| manifest.name.to_string()).collect();
    assert_eq!(names, ["p", "q"]);
    assert_eq!(book.key(&spec("a")).expect("a key").as_str(), "ns:a:p");
    assert!(book.problems().is_empty());
}
