//! A folder, what reads it, and a clock that moves when it is told to.

use crate::desired::registry::Registry;
use crate::desired::root::RootSpec;
use crate::desired::scan::Scanner;
use crate::desired::set::Desired;
use crate::desired::sight::Outcome;
use crate::desired::spec::Defaults;
use crate::desired::store::Book;
use crate::model::{BootId, Condition, DesiredStatus, Instance, IsolationLevel, Key, Moment, Resources};
use crate::observed::event::DesiredChange;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// The desired set as the loop would know it, over real files.
pub(super) struct World {
    pub(super) folder: TempDir,
    pub(super) root: PathBuf,
    pub(super) scanner: Scanner,
    pub(super) desired: Desired,
    registry: Registry,
    defaults: Defaults,
    now: Moment,
    arrived: HashSet<PathBuf>,
    /// What runs, as far as the loop was told.
    pub(super) running: BTreeMap<Key, Arc<Instance>>,
    pub(super) conditions: BTreeMap<Key, Vec<Condition>>,
    pub(super) status: Arc<DesiredStatus>,
    /// Messages that the loop was sent.
    pub(super) messages: usize,
    pub(super) restarts: usize,
    pub(super) outcome: Outcome,
}

pub(in crate::desired) fn defaults() -> Defaults {
    Defaults { isolation: IsolationLevel::Namespace, resources: Resources::default(), unwritten: Vec::new() }
}

/// A patterns directory with the patterns `p` and `q`.
pub(in crate::desired) fn make_patterns(dir: &Path) {
    for name in ["p", "q"] {
        fs::create_dir_all(dir.join(name)).expect("a pattern's folder");
        let manifest = format!("name: {name}\nversion: 1.0.0\nexecutable: sh\n");
        fs::write(dir.join(name).join("manifest.yaml"), manifest).expect("a manifest");
    }
}

/// A file that declares `ns:<namespace>:p`.
pub(in crate::desired) fn instance(namespace: &str) -> String {
    format!("pattern: p\nnamespace: {namespace}\n")
}

impl World {
    /// A root at `desired` in a temporary folder, which `prepare` fills.
    pub(super) fn new(prepare: impl FnOnce(&Path)) -> Self {
        Self::narrowed(RootSpec::open(PathBuf::new()), prepare)
    }

    /// As [`World::new`], with the root narrowed as `spec` says; its path is put in.
    pub(super) fn narrowed(spec: RootSpec, prepare: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        make_patterns(&folder.path().join("patterns"));
        let root = folder.path().join("desired");
        prepare(&root);
        Self::at(folder, RootSpec { path: root, ..spec }, &[])
    }

    /// The world of a launcher that has just started over what the last one left.
    pub(super) fn restarted(self) -> Self {
        let restored: Vec<Arc<Instance>> = self.running.values().cloned().collect();
        let inhabited = self.scanner.inhabited();
        let dropped = self.desired.dropped();
        let mut next = Self::at(self.folder, self.scanner.spec().clone(), &restored);
        let remembered = next.desired.files(&next.root);
        next.desired.restore_dropped(&dropped);
        next.scanner = Scanner::new(self.scanner.spec().clone(), Vec::new(), remembered, inhabited);
        next.now = self.now.after(Duration::from_secs(3_600));
        next
    }

    /// A root that is somewhere else in the folder.
    pub(super) fn over(folder: TempDir, spec: RootSpec) -> Self {
        make_patterns(&folder.path().join("patterns"));
        Self::at(folder, spec, &[])
    }

    /// The launcher is restarted with another root in the place of this one.
    pub(super) fn moved_to(self, root: PathBuf) -> Self {
        let restored: Vec<Arc<Instance>> = self.running.values().cloned().collect();
        Self::at(self.folder, RootSpec::open(root), &restored)
    }

    fn at(folder: TempDir, spec: RootSpec, restored: &[Arc<Instance>]) -> Self {
        let now = Moment::new(BootId::from_u128(1), Duration::from_secs(1_000));
        let mut registry = Registry::open(folder.path().join("patterns"));
        registry.refresh(now);
        let desired = Desired::new(vec![spec.clone()], restored);
        let remembered = desired.files(&spec.path);
        Self {
            root: spec.path.clone(),
            folder,
            scanner: Scanner::new(spec, Vec::new(), remembered, None),
            desired,
            registry,
            defaults: defaults(),
            now,
            arrived: HashSet::new(),
            running: restored.iter().map(|one| (one.key.clone(), Arc::clone(one))).collect(),
            conditions: BTreeMap::new(),
            status: Arc::default(),
            messages: 0,
            restarts: 0,
            outcome: Outcome::Complete,
        }
    }

    pub(super) fn path(&self, file: &str) -> PathBuf {
        self.root.join(file)
    }

    pub(super) fn write(&self, file: &str, content: impl AsRef<[u8]>) {
        let path = self.path(file);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, content).expect("written");
    }

    /// One scan, `millis` later.
    pub(super) fn look(&mut self, millis: u64) -> &mut Self {
        self.now = self.now.after(Duration::from_millis(millis));
        let book = Book { registry: &self.registry, defaults: &self.defaults };
        let rereads = self.desired.rereads(&self.root, self.now);
        let scan = self.scanner.scan(&rereads, &self.arrived);
        let scanner = &self.scanner;
        self.desired.apply(&self.root, &scan, &|file| scanner.knows(file), &book, self.now);
        self.outcome = scan.outcome;
        if let Some(change) = self.desired.decide(self.now) {
            self.take(change);
        }
        self
    }

    /// Scans until everything that has to settle or to be absent for a while has, and a minute beyond.
    pub(super) fn settle(&mut self) -> &mut Self {
        for _ in 0..3 {
            self.look(600).look(2_100);
        }
        self.look(61_000)
    }

    /// The patterns directory has changed, and that has settled.
    pub(super) fn refresh_patterns(&mut self) {
        for _ in 0..3 {
            self.now = self.now.after(Duration::from_secs(1));
            let changed = self.registry.refresh(self.now).changed;
            let book = Book { registry: &self.registry, defaults: &self.defaults };
            self.desired.patterns_changed(Some(&changed), Vec::new(), &book);
        }
    }

    fn take(&mut self, change: DesiredChange) {
        self.messages += 1;
        for instance in change.declared {
            let before = self.running.insert(instance.key.clone(), Arc::clone(&instance));
            self.restarts += usize::from(before.is_some_and(|before| before.content != instance.content));
        }
        for key in change.withdrawn {
            assert!(self.running.remove(&key).is_some(), "{key} was withdrawn and never declared");
            self.conditions.remove(&key);
        }
        self.conditions.extend(change.conditions);
        if let Some(status) = change.status {
            self.status = status;
        }
    }

    /// The process ids of what runs.
    pub(super) fn keys(&self) -> Vec<&str> {
        self.running.keys().map(Key::as_str).collect()
    }

    /// The kinds of the conditions of a key.
    pub(super) fn kinds(&self, key: &str) -> Vec<&str> {
        let key = Key::parse(key).expect("a key");
        self.conditions.get(&key).into_iter().flatten().map(|condition| condition.kind.as_str()).collect()
    }

    /// All condition texts there are.
    pub(super) fn complaints(&self) -> String {
        let roots = self.status.roots.iter().flat_map(|root| &root.conditions);
        let all = roots.chain(&self.status.conditions).chain(self.conditions.values().flatten());
        all.map(|condition| format!("{}: {}", condition.kind, condition.message)).collect::<Vec<_>>().join("\n")
    }
}

/// Whether this process may do what only root may; says what is skipped otherwise.
pub(in crate::desired) fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: {what} takes root");
    }
    root
}
