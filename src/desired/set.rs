//! The desired set: what the files say, put together with the patterns and with what was in force before.
//!
//! Everything about absence, settling, ownership and held-back deletions is decided here. It reads no clock and does no
//! I/O: scans, patterns and moments are passed in, and [`Desired::decide`] gives what changed.

mod file;
mod keys;
mod status;
mod written;

pub use file::ABSENT_FOR;
pub use written::Standing;

use super::guard::Guard;
use super::root::RootSpec;
use super::sight::{Emptiness, Outcome, Scan};
use super::spec::InstanceSpec;
use crate::error::{Error, Result};
use crate::model::{Condition, DesiredStatus, Instance, Key, Moment, Origin, PatternName};
use crate::observed::event::DesiredChange;
use file::{Absence, Context, FileState};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A file that never holds still keeps the first decision about its root waiting for at most this long.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// What instances are resolved against.
pub trait Patterns {
    /// Resolves one wish. The second is what people should know although it could be resolved, such as a manifest that
    /// is wrong and whose last good version is used.
    fn resolve(&self, spec: &InstanceSpec, origin: Origin) -> Result<(Instance, Option<Error>)>;
}

/// A file of a root.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct FileId {
    root: Arc<Path>,
    file: PathBuf,
}

impl FileId {
    fn path(&self) -> PathBuf {
        self.root.join(&self.file)
    }

    fn origin(&self, line: u32, root: &RootSpec) -> Origin {
        Origin { root: self.root.to_path_buf(), file: self.file.clone(), line, api_managed: root.api_managed }
    }
}

/// One configured root.
#[derive(Debug)]
struct Root {
    spec: RootSpec,
    path: Arc<Path>,
    outcome: Option<Outcome>,
    emptiness: Emptiness,
    /// Since when its scans have been neither complete nor failed.
    busy_since: Option<Moment>,
    failures: u64,
    attempted_at: Option<Moment>,
    completed_at: Option<Moment>,
    ready: bool,
    watching: &'static str,
}

impl Root {
    fn new(spec: RootSpec) -> Self {
        Self {
            path: spec.path.as_path().into(),
            spec,
            outcome: None,
            emptiness: Emptiness::Ordinary,
            busy_since: None,
            failures: 0,
            attempted_at: None,
            completed_at: None,
            ready: false,
            watching: "polling",
        }
    }
}

/// What is known of one key.
#[derive(Debug, Default)]
struct KeyState {
    /// The files that declare it, or did.
    claims: BTreeSet<FileId>,
    /// What was said of it last.
    said: Option<Arc<Instance>>,
    conditions: Vec<Condition>,
    duplicates: Vec<Error>,
}

/// The desired set.
#[derive(Debug)]
pub struct Desired {
    roots: Vec<Root>,
    files: BTreeMap<FileId, FileState>,
    keys: BTreeMap<Key, KeyState>,
    /// Every root that anything is known of: ids of files share these paths.
    interned: BTreeSet<Arc<Path>>,
    guards: BTreeMap<PathBuf, Guard>,
    /// How many keys each root declares.
    counts: BTreeMap<PathBuf, usize>,
    /// Keys that nothing declares any more, every absence counting.
    going: BTreeSet<Key>,
    /// Keys that nothing that is there declares, and whose absence does not count yet.
    leaving: BTreeSet<Key>,
    /// Those of both that a file which waits for its pattern may have declared: their absence counts anew once none does.
    spared: BTreeMap<Key, Absence>,
    dirty: BTreeSet<Key>,
    /// Files that have to be looked at again although nothing seems to have changed.
    pending: BTreeSet<FileId>,
    troubled: BTreeSet<FileId>,
    /// Launched files that have lost a key to a person's file.
    contested: BTreeSet<FileId>,
    /// Files that wait for a pattern.
    unresolved: BTreeSet<FileId>,
    pattern_problems: Vec<Error>,
    status: Arc<DesiredStatus>,
    attempted: bool,
    complete: bool,
}

impl Desired {
    /// The set of `roots`, of which `restored` was in force when it was last written down.
    pub fn new(roots: Vec<RootSpec>, restored: &[Arc<Instance>]) -> Self {
        let mut desired = Self {
            roots: roots.into_iter().map(Root::new).collect(),
            files: BTreeMap::new(),
            keys: BTreeMap::new(),
            interned: BTreeSet::new(),
            guards: BTreeMap::new(),
            counts: BTreeMap::new(),
            going: BTreeSet::new(),
            leaving: BTreeSet::new(),
            spared: BTreeMap::new(),
            dirty: BTreeSet::new(),
            pending: BTreeSet::new(),
            troubled: BTreeSet::new(),
            contested: BTreeSet::new(),
            unresolved: BTreeSet::new(),
            pattern_problems: Vec::new(),
            status: Arc::default(),
            attempted: false,
            complete: false,
        };
        for instance in restored {
            desired.restore(instance);
        }
        desired
    }

    fn restore(&mut self, instance: &Arc<Instance>) {
        let origin = &instance.origin;
        let id = FileId { root: self.intern(&origin.root), file: origin.file.clone() };
        self.files.entry(id.clone()).or_default().restore(Arc::clone(instance));
        let key = self.keys.entry(instance.key.clone()).or_default();
        key.claims.insert(id);
        key.said = Some(Arc::clone(instance));
        *self.counts.entry(origin.root.clone()).or_default() += 1;
    }

    /// Keys of the restored set that their files no longer declared, as [`Desired::dropped`] told. Each is about to go
    /// unless its file, once it holds still, declares it again.
    pub fn restore_dropped(&mut self, dropped: &BTreeSet<Key>) {
        for key in dropped {
            let claims = self.keys.get(key).map(|state| state.claims.clone()).unwrap_or_default();
            for id in claims {
                self.change_file(&id, |file, _| file.restore_dropped(key));
            }
        }
    }

    /// Keys that are in force only because their end is held, or cannot be decided yet, and that their files no longer
    /// declare. A launcher that starts cannot tell that from the files: they may have become unreadable since.
    pub fn dropped(&self) -> BTreeSet<Key> {
        let is_dropped = |key: &&Key| {
            let origin = self.keys.get(*key).and_then(|state| state.said.as_ref()).map(|said| &said.origin);
            origin.is_some_and(|origin| {
                let id = FileId { root: origin.root.as_path().into(), file: origin.file.clone() };
                self.files.get(&id).is_some_and(|file| file.has_dropped(key))
            })
        };
        self.going.iter().filter(is_dropped).cloned().collect()
    }

    fn intern(&mut self, root: &Path) -> Arc<Path> {
        if let Some(known) = self.interned.get(root) {
            return Arc::clone(known);
        }
        let new: Arc<Path> = root.into();
        self.interned.insert(Arc::clone(&new));
        new
    }

    /// Takes other roots. Those whose path stays keep all that is known of them; those that go are guarded like any
    /// other deletion.
    pub fn configure(&mut self, roots: Vec<RootSpec>, patterns: &dyn Patterns) {
        let mut known = std::mem::take(&mut self.roots);
        for spec in roots {
            let mut root = match known.iter().position(|root| root.spec.path == spec.path) {
                Some(index) => known.swap_remove(index),
                None => Root::new(spec.clone()),
            };
            let rescoped = root.spec != spec;
            root.spec = spec;
            self.roots.push(root);
            if rescoped {
                self.rescope(self.roots.len() - 1, patterns);
            }
        }
        self.attempted = false;
        self.complete = false;
    }

    fn rescope(&mut self, index: usize, patterns: &dyn Patterns) {
        let ids: Vec<FileId> = self.files_of(&self.roots[index].path).map(|(id, _)| id.clone()).collect();
        for id in ids {
            self.change_file(&id, |file, root| {
                file.scope_changed(Context { root, id: &id, patterns });
                true
            });
        }
    }

    /// Takes note of a scan of the root at `path`. `present` tells of a file, by its path relative to the root, whether
    /// this scan, or an earlier one if this did not get that far, saw it.
    pub fn apply(
        &mut self,
        path: &Path,
        scan: &Scan,
        present: &dyn Fn(&Path) -> bool,
        patterns: &dyn Patterns,
        now: Moment,
    ) {
        let Some(root) = self.roots.iter_mut().find(|root| root.spec.path == path) else { return };
        root.attempted_at.get_or_insert(now);
        match &scan.outcome {
            Outcome::Complete => {
                root.completed_at.get_or_insert(now);
                root.emptiness = scan.emptiness;
                root.busy_since = None;
            }
            Outcome::Busy(_) => {
                root.busy_since.get_or_insert(now);
            }
            Outcome::Failed(_) => {
                root.failures += 1;
                root.busy_since = None;
            }
        }
        root.outcome = Some(scan.outcome.clone());
        let path = self.intern(path);
        for (file, sight) in &scan.seen {
            let id = FileId { root: Arc::clone(&path), file: file.clone() };
            self.files.entry(id.clone()).or_default();
            self.change_file(&id, |file, root| {
                let found = file.found();
                file.look(sight, Context { root, id: &id, patterns }, now) || found
            });
        }
        if scan.outcome == Outcome::Complete {
            self.note_absence(&path, present, now);
            self.note_roots_without_scans(now);
        }
    }

    /// After a complete scan: what it did not see is absent, and what was absent before has been for longer.
    fn note_absence(&mut self, root: &Arc<Path>, present: &dyn Fn(&Path) -> bool, now: Moment) {
        let absent = self.files_of(root).filter(|(id, _)| !present(&id.file)).map(|(id, _)| id.clone());
        let mut ids: BTreeSet<FileId> = absent.collect();
        ids.extend(self.pending.iter().filter(|id| id.root == *root).cloned());
        for id in ids {
            self.change_file(&id, |file, _| {
                let seen = if present(&id.file) { file.found() } else { file.not_found(now) };
                file.age(now) || seen
            });
        }
    }

    /// Files of roots that are not configured any more are absent, once every root that is has been read.
    fn note_roots_without_scans(&mut self, now: Moment) {
        if self.roots.iter().any(|root| root.completed_at.is_none()) {
            return;
        }
        let is_configured = |path: &Arc<Path>| self.roots.iter().any(|root| root.path == *path);
        let unconfigured = self.interned.iter().filter(|path| !is_configured(path));
        let beyond: Vec<FileId> = unconfigured.flat_map(|path| self.files_of(path)).map(|(id, _)| id.clone()).collect();
        for id in beyond {
            self.change_file(&id, |file, _| file.not_found(now));
        }
    }

    /// Applies `change` to a file, and keeps what is derived from files in step with it.
    fn change_file(&mut self, id: &FileId, change: impl FnOnce(&mut FileState, &RootSpec) -> bool) {
        let unconfigured = RootSpec::open(id.root.to_path_buf());
        let root = self.roots.iter().find(|root| root.path == id.root).map_or(&unconfigured, |root| &root.spec);
        let Some(file) = self.files.get_mut(id) else { return };
        let before: Vec<Key> = file.entries.iter().map(|entry| entry.instance.key.clone()).collect();
        if change(file, root) {
            for key in &before {
                if let Some(state) = self.keys.get_mut(key) {
                    state.claims.remove(id);
                }
            }
            self.dirty.extend(before);
            for entry in &file.entries {
                let key = &entry.instance.key;
                self.keys.entry(key.clone()).or_default().claims.insert(id.clone());
                self.dirty.insert(key.clone());
            }
        }
        let troubled = file.is_troubled();
        let unresolved = file.unresolved_patterns().next().is_some();
        let pending = file.due().is_some() || file.awaits_scan();
        if file.is_forgotten() {
            self.files.remove(id);
        }
        set_membership(&mut self.troubled, id, troubled);
        set_membership(&mut self.unresolved, id, unresolved);
        set_membership(&mut self.pending, id, pending);
    }

    /// Some patterns, or what is wrong with the patterns directory, are not what they were; `None` means any pattern may
    /// be another.
    pub fn patterns_changed(
        &mut self,
        changed: Option<&BTreeSet<PatternName>>,
        problems: Vec<Error>,
        patterns: &dyn Patterns,
    ) {
        self.pattern_problems = problems;
        if changed.is_some_and(BTreeSet::is_empty) {
            return;
        }
        let ids: Vec<FileId> = self.files.keys().cloned().collect();
        for id in ids {
            self.change_file(&id, |file, root| file.patterns_changed(changed, Context { root, id: &id, patterns }));
        }
    }

    /// How changes of a root are noticed: `events` or `polling`.
    pub fn watching(&mut self, path: &Path, how: &'static str) {
        if let Some(root) = self.roots.iter_mut().find(|root| root.spec.path == path) {
            root.watching = how;
        }
    }

    /// Lets a held-back deletion happen at the next [`Desired::decide`], if `token` names exactly what is held.
    pub fn confirm(&mut self, token: &str) -> bool {
        self.guards.values_mut().any(|guard| guard.confirm(token))
    }

    /// The launcher itself is about to delete the file at `path`: that is no loss, and counts at the next scan.
    pub fn expect_deletion(&mut self, path: &Path) {
        let expected = self.files.iter_mut().find(|(id, _)| id.path() == path);
        if let Some((_, file)) = expected {
            file.deletion_expected = true;
        }
    }

    /// The files of a root, by path relative to it, that are to be read although they seem unchanged.
    pub fn rereads(&self, root: &Path, now: Moment) -> BTreeSet<PathBuf> {
        let due = |id: &&FileId| {
            &*id.root == root && self.files.get(id).and_then(|file| file.settle.due()).is_some_and(|at| now.reached(at))
        };
        self.pending.iter().filter(due).map(|id| id.file.clone()).collect()
    }

    /// When the roots are to be scanned again although no file changes.
    pub fn due(&self, now: Moment) -> Option<Moment> {
        let files = self.pending.iter().filter_map(|id| {
            let due = self.files.get(id).and_then(FileState::due)?;
            // While its root cannot be read, looking sooner than usual would find out nothing about it.
            (!now.reached(due) || self.is_readable(&id.root)).then_some(due)
        });
        let firsts =
            self.roots.iter().filter(|root| !root.ready).flat_map(|root| [root.attempted_at, root.completed_at]);
        let firsts = firsts.flatten().map(|at| at.after(FIRST_LOOK));
        let busy = self.roots.iter().filter_map(|root| root.busy_since).map(|since| since.after(status::BUSY_FOR));
        let ahead = firsts.chain(busy).filter(|at| !now.reached(*at));
        let guards = self.guards.iter().filter(|(root, _)| self.is_readable(root));
        let spared = self.spared.values().filter_map(|absence| absence.due()).filter(|at| !now.reached(*at));
        let all = files.chain(guards.filter_map(|(_, guard)| guard.due())).chain(ahead).chain(spared);
        all.reduce(|a, b| if a.since_boot <= b.since_boot { a } else { b })
    }

    /// Whether what is missing from a root may lead to something now: its last scan was complete, or, for a root that is
    /// not configured any more, those of all others were.
    fn is_readable(&self, path: &Path) -> bool {
        let complete = |root: &Root| root.outcome == Some(Outcome::Complete);
        match self.roots.iter().find(|root| root.spec.path == path) {
            Some(root) => complete(root),
            None => self.roots.iter().all(complete),
        }
    }

    /// The files of a root that anything is known of, by path relative to it.
    pub fn files(&self, root: &Path) -> BTreeSet<PathBuf> {
        let Some(root) = self.interned.get(root) else { return BTreeSet::new() };
        self.files_of(root).map(|(id, _)| id.file.clone()).collect()
    }

    /// Everything that is in force.
    pub fn instances(&self) -> impl Iterator<Item = &Arc<Instance>> {
        self.keys.values().filter_map(|key| key.said.as_ref())
    }

    /// What changed since the last call; `None` when nothing did.
    pub fn decide(&mut self, now: Moment) -> Option<DesiredChange> {
        let mut change = DesiredChange::default();
        let mut touched = std::mem::take(&mut self.dirty);
        for key in &touched {
            self.decide_key(key, &mut change, now);
        }
        self.decide_absent(&mut change, &mut touched, now);
        for key in &touched {
            self.renew_conditions(key, &mut change);
        }
        let progressed = self.renew_progress(now);
        change.attempted = self.attempted;
        change.complete = self.complete;
        change.status = self.renew_status(now);
        let silent = change.declared.is_empty()
            && change.withdrawn.is_empty()
            && change.conditions.is_empty()
            && change.status.is_none();
        (!silent || progressed).then_some(change)
    }

    /// Which first looks are over. Returns whether that changed.
    fn renew_progress(&mut self, now: Moment) -> bool {
        let waiting = |root: &Root| {
            let mut files = self.pending.iter().filter(|id| id.root == root.path);
            files.any(|id| self.files.get(id).is_some_and(|file| file.settle.is_waiting()))
        };
        let over = |at: Option<Moment>, root: &Root| at.is_some_and(|at| now.since(at) >= FIRST_LOOK || !waiting(root));
        let before = (self.attempted, self.complete);
        if !self.attempted {
            self.attempted = self.roots.iter().all(|root| over(root.attempted_at, root));
        }
        let ready: Vec<bool> = self.roots.iter().map(|root| root.ready || over(root.completed_at, root)).collect();
        for (root, ready) in self.roots.iter_mut().zip(ready) {
            root.ready = ready;
        }
        self.complete = self.complete || self.roots.iter().all(|root| root.ready);
        before != (self.attempted, self.complete)
    }

    fn files_of<'a>(&'a self, root: &'a Arc<Path>) -> impl Iterator<Item = (&'a FileId, &'a FileState)> {
        let first = FileId { root: Arc::clone(root), file: PathBuf::new() };
        self.files.range(first..).take_while(move |(id, _)| id.root == *root)
    }
}

fn set_membership(set: &mut BTreeSet<FileId>, id: &FileId, member: bool) {
    if member {
        set.insert(id.clone());
    } else {
        set.remove(id);
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
