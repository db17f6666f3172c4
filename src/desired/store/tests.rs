//! The writing of launched files on the real file system.

mod damage;
mod racing;
mod removing;
mod setting_aside;

use super::files::Step;
use super::pass::Pass;
use super::request::{Delivery, Edit, Launch, LaunchedFile, Reply, Update, UpdateOutcome, What, Write};
use super::writing::Wrote;
use super::{AFTER_WRITING, StoreSettings};
use crate::act::clock;
use crate::desired::pitfalls::world::{defaults, instance, make_patterns};
use crate::desired::registry::{PatternBook, Registry};
use crate::desired::root::RootSpec;
use crate::desired::spec::InstanceSpec;
use crate::desired::watch::connect;
use crate::error::{Code, Error, Result};
use crate::model::{
    Caller, DesiredState, Instance, IsolationLevel, Key, Moment, Namespace, PatternName, Resources, Secret, SessionId,
};
use crate::observed::event::DesiredChange;
use arc_swap::ArcSwap;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::oneshot;

thread_local! {
    /// How far the clock of this test is ahead.
    static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

fn now() -> Moment {
    clock::now().after(AHEAD.get())
}

/// A store without its task, and what the loop would know.
struct Bench {
    folder: TempDir,
    pass: Pass,
    running: BTreeMap<Key, Arc<Instance>>,
    changes: Vec<DesiredChange>,
}

const BY: Caller = Caller::Program;

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        make_patterns(&folder.path().join("patterns"));
        fs::create_dir_all(folder.path().join("desired/launched")).expect("roots");
        Self::over(folder, &[])
    }

    fn over(folder: TempDir, restored: &[Arc<Instance>]) -> Self {
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
        let book = PatternBook::of(&Registry::open(path("patterns")), defaults(), path("desired/launched"));
        let published = Arc::new(ArcSwap::from_pointee(book));
        let pass = Pass::new(settings, restored, now, connect, published);
        let running = restored.iter().map(|one| (one.key.clone(), Arc::clone(one))).collect();
        let mut bench = Self { folder, pass, running, changes: Vec::new() };
        bench.look();
        bench
    }

    /// The launcher dies, and another begins with what this one told.
    fn restarted(self) -> Self {
        let restored: Vec<Arc<Instance>> = self.running.values().cloned().collect();
        drop(self.pass);
        Self::over(self.folder, &restored)
    }

    fn launched(&self) -> PathBuf {
        self.folder.path().join("desired/launched")
    }

    /// The names in the launch directory.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.launched()).expect("a folder");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The launched file of a key.
    fn file(&self, key: &str) -> PathBuf {
        self.launched().join(format!("{}.yaml", key_of(key).file_name()))
    }

    fn person(&self, file: &str, content: &str) {
        fs::write(self.folder.path().join("desired").join(file), content).expect("written");
    }

    fn look(&mut self) -> &mut Self {
        let ran = self.pass.run();
        self.take(ran.change);
        self
    }

    /// Looks until everything that has to settle or to be absent for a while has.
    fn settle(&mut self) -> &mut Self {
        for _ in 0..3 {
            AHEAD.set(AHEAD.get() + Duration::from_millis(600));
            self.look();
            AHEAD.set(AHEAD.get() + Duration::from_millis(2_100));
            self.look();
        }
        self
    }

    fn take(&mut self, change: Option<DesiredChange>) {
        let Some(change) = change else { return };
        for ended in &change.ended {
            assert!(change.withdrawn.contains(&ended.key), "what ended was withdrawn");
        }
        for key in &change.withdrawn {
            assert!(self.running.remove(key).is_some(), "{key} was withdrawn and never declared");
        }
        for instance in &change.declared {
            self.running.insert(instance.key.clone(), Arc::clone(instance));
        }
        for launched in &change.launched {
            assert!(change.declared.iter().any(|one| one.key == launched.key), "what was launched was declared");
        }
        self.changes.push(change);
    }

    /// Writes as the task does until nothing is left, and gives the answers.
    fn write(&mut self, writes: Vec<Write>) {
        let mut batch: Vec<Write> = writes;
        for _ in 0..10 {
            let Wrote { delivery: Delivery { change, answers }, backlog, look } = self.pass.write(batch);
            self.take(change);
            for answer in answers {
                answer.give();
            }
            if look {
                self.look();
            }
            if backlog.is_empty() {
                return;
            }
            batch = backlog;
        }
        panic!("a batch that never ends");
    }

    fn launch(&mut self, spec: InstanceSpec) -> Result<LaunchedFile> {
        let (write, answer) = launch(spec);
        self.write(vec![write]);
        answer.get()
    }

    fn remove(&mut self, key: &str) -> Result<()> {
        let (write, answer) = remove(key);
        self.write(vec![write]);
        answer.get()
    }

    fn update(&mut self, key: &str, edit: Edit, expected: Option<Arc<Instance>>) -> Result<UpdateOutcome> {
        let update = Update { key: key_of(key), edit, expected, by: BY };
        let (write, answer) = asked(|reply| What::Update { update, reply });
        self.write(vec![write]);
        answer.get()
    }

    fn keys(&self) -> Vec<&str> {
        self.running.keys().map(Key::as_str).collect()
    }

    fn config(&self, key: &str, name: &str) -> Option<&str> {
        let instance = self.running.get(&key_of(key))?;
        instance.content.launch.config.get(name).map(Secret::reveal)
    }

    fn syncs(&mut self) -> usize {
        std::mem::take(&mut self.pass.writer.syncs)
    }
}

/// What will be answered.
struct Awaited<T>(oneshot::Receiver<Result<T>>);

impl<T> Awaited<T> {
    fn get(mut self) -> Result<T> {
        self.0.try_recv().expect("an answer")
    }
}

fn asked<T>(what: impl FnOnce(Reply<T>) -> What) -> (Write, Awaited<T>) {
    let (reply, answer) = oneshot::channel();
    (what(reply).into(), Awaited(answer))
}

fn launch(spec: InstanceSpec) -> (Write, Awaited<LaunchedFile>) {
    asked(|reply| What::Launch { launch: Launch { spec, by: BY }, reply })
}

fn remove(key: &str) -> (Write, Awaited<()>) {
    asked(|reply| What::Remove { key: key_of(key), grace: None, by: BY, reply: Some(reply) })
}

fn key_of(key: &str) -> Key {
    Key::parse(key).expect("a key")
}

/// A launch of `p` for a tenant.
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

fn with_config(spec: InstanceSpec, value: &str) -> InstanceSpec {
    InstanceSpec { config: BTreeMap::from([("X".to_owned(), Secret::new(value))]), ..spec }
}

fn config(value: &str) -> Edit {
    Edit { config: Some(BTreeMap::from([("X".to_owned(), Secret::new(value))])), ..Edit::default() }
}

#[test]
fn what_is_done_to_a_file_after_it_was_written_is_looked_for_until_it_is_told_again() {
    let mut bench = Bench::new();
    bench.settle();
    assert!(bench.pass.run().again > AFTER_WRITING, "nothing was written");
    bench.launch(spec("a")).expect("launched");
    assert_eq!(bench.pass.run().again, AFTER_WRITING, "events of the writing may still come, and hide others");
    assert!(bench.pass.run().again > AFTER_WRITING);
}

#[test]
fn a_launch_is_a_file_that_counts_at_once_and_a_scan_finds_nothing_new() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut bench = Bench::new();
    let told = bench.launch(spec("a")).expect("launched");
    assert_eq!((told.key.as_str(), told.created), ("ns:a:p", true));
    assert_eq!(bench.running.get(&told.key), Some(&told.instance));
    assert!(told.instance.origin.api_managed);
    let file = bench.file("ns:a:p");
    assert_eq!(told.instance.origin.path(), file);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).expect("text");
    assert!(text.starts_with("# Launched on request by this program."), "{text}");
    assert_eq!(bench.names().len(), 1, "nothing else is left");
    let changes = bench.changes.len();
    bench.settle();
    assert_eq!(bench.changes.len(), changes, "{:?}", bench.changes.last());
    let mut bench = bench.restarted();
    assert_eq!(bench.settle().keys(), ["ns:a:p"]);
}

#[test]
fn what_is_resolved_for_a_request_is_what_its_file_declares() {
    let mut bench = Bench::new();
    let session = InstanceSpec {
        isolation: Some(IsolationLevel::Session),
        session: Some(SessionId::new("auth0|a:b/c 'd\" #%").expect("a session")),
        ..with_config(spec("a"), "line\none\ttab \u{85}\u{2028} \u{1} ~")
    };
    let wished = bench.pass.published.load().resolve_request(&session).expect("resolved");
    assert_eq!(bench.pass.published.load().key(&session), Ok(wished.key.clone()));
    let told = bench.launch(session).expect("launched");
    assert_eq!(*told.instance, wished);
}

#[test]
fn a_launch_of_what_is_declared_writes_nothing() {
    let mut bench = Bench::new();
    bench.person("b.yaml", &instance("b"));
    bench.settle();
    bench.launch(with_config(spec("a"), "1")).expect("launched");
    bench.syncs();
    let again = bench.launch(with_config(spec("a"), "2")).expect("found");
    assert!(!again.created);
    assert_eq!(bench.config("ns:a:p", "X"), Some("1"));
    let persons = bench.launch(spec("b")).expect("found");
    assert_eq!((persons.created, persons.instance.origin.api_managed), (false, false));
    assert_eq!((bench.names().len(), bench.syncs()), (1, 0));
}

#[test]
fn a_pattern_that_was_dropped_a_moment_ago_is_looked_for() {
    let mut bench = Bench::new();
    let unknown = InstanceSpec { pattern: PatternName::new("later").expect("a name"), ..spec("a") };
    let error = bench.launch(unknown.clone()).expect_err("unknown");
    assert_eq!(error.code(), Code::PatternNotFound);
    assert!(error.suggestion().is_some(), "{error}");
    fs::create_dir(bench.folder.path().join("patterns/later")).expect("a pattern");
    let manifest = "name: later\nversion: 1.0.0\nexecutable: sh\n";
    fs::write(bench.folder.path().join("patterns/later/manifest.yaml"), manifest).expect("a manifest");
    let error = bench.launch(unknown.clone()).expect_err("it may be half-written");
    assert!(error.to_string().contains("only just appeared"), "{error}");
    AHEAD.set(AHEAD.get() + Duration::from_secs(1));
    assert!(bench.launch(unknown).expect("settled").created);
    assert!(bench.names().len() == 1);
}

#[test]
fn a_refused_launch_leaves_nothing() {
    let mut bench = Bench::new();
    let nameless = InstanceSpec { namespace: None, ..spec("a") };
    assert_eq!(bench.launch(nameless).expect_err("no namespace").code(), Code::MissingNamespace);
    let huge = with_config(spec("a"), &"x".repeat(300_000));
    assert_eq!(bench.launch(huge).expect_err("too large").code(), Code::InvalidInstance);
    let nul = with_config(spec("a"), "a\0b");
    assert_eq!(bench.launch(nul).expect_err("a NUL").code(), Code::InvalidInstance);
    assert!(bench.names().is_empty() && bench.running.is_empty());
}

#[test]
fn an_update_changes_the_file_and_keeps_the_rest() {
    let mut bench = Bench::new();
    let ttl = Some(Duration::from_secs(60));
    let told = bench.launch(InstanceSpec { ttl, ..with_config(spec("a"), "1") }).expect("launched");
    let edit = Edit { grace_period: Some(Duration::from_secs(3)), ..config("2") };
    let outcome = bench.update("ns:a:p", edit.clone(), Some(Arc::clone(&told.instance))).expect("updated");
    assert_eq!(outcome, UpdateOutcome::Done(Arc::clone(&bench.running[&told.key])));
    assert_eq!(bench.config("ns:a:p", "X"), Some("2"));
    assert_eq!(bench.running[&told.key].content.supervision.grace_period, Duration::from_secs(3));
    let text = fs::read_to_string(bench.file("ns:a:p")).expect("text");
    assert!(text.contains("ttl: 1m") && text.starts_with("# Changed on request by this program."), "{text}");
    assert_eq!(bench.names().len(), 1);
    let moved = bench.update("ns:a:p", config("3"), Some(told.instance)).expect("an outcome");
    assert!(matches!(moved, UpdateOutcome::Moved(now) if now == bench.running[&told.key]));
    bench.syncs();
    bench.update("ns:a:p", edit, None).expect("nothing to do");
    assert_eq!(bench.syncs(), 0);
    assert_eq!(bench.config("ns:a:p", "X"), Some("2"));
}

#[test]
fn an_update_is_for_launched_instances_only() {
    let mut bench = Bench::new();
    bench.person("b.yaml", &instance("b"));
    bench.settle();
    let error = bench.update("ns:b:p", config("1"), None).expect_err("a person's");
    assert_eq!(error.code(), Code::DeclaredByFile);
    assert!(error.to_string().contains("desired/b.yaml:1"), "{error}");
    assert_eq!(bench.update("ns:c:p", config("1"), None).expect_err("nobody's").code(), Code::ProcessNotFound);
}

#[test]
fn names_that_try_to_be_paths_stay_names() {
    let mut bench = Bench::new();
    for session in ["../../etc/passwd", "/etc/passwd", "..", ".", "~", "a/../b", "con", "x".repeat(128).as_str()] {
        let spec = InstanceSpec {
            isolation: Some(IsolationLevel::Session),
            session: Some(SessionId::new(session).expect("a session")),
            ..spec("a")
        };
        let told = bench.launch(spec).expect(session);
        let file = told.instance.origin.path();
        assert_eq!(file.parent(), Some(bench.launched().as_path()), "{session}");
        assert!(file.exists(), "{session}");
    }
    assert_eq!((bench.names().len(), bench.running.len()), (8, 8));
}

#[test]
fn many_launches_cost_few_waits_for_the_disk() {
    let mut bench = Bench::new();
    bench.syncs();
    let (writes, answers): (Vec<_>, Vec<_>) = (0..100).map(|n| launch(spec(&format!("t{n}")))).unzip();
    bench.write(writes);
    for answer in answers {
        assert!(answer.get().expect("launched").created);
    }
    assert_eq!(bench.syncs(), 101, "one for each file and one for the folder");
    let (writes, answers): (Vec<_>, Vec<_>) = (0..100).map(|n| remove(&format!("ns:t{n}:p"))).unzip();
    bench.write(writes);
    for answer in answers {
        answer.get().expect("removed");
    }
    assert_eq!(bench.syncs(), 1);
    assert!(bench.names().is_empty() && bench.running.is_empty());
    assert!(bench.settle().running.is_empty());
}
