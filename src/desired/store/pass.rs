//! One pass of the store: everything that blocks, in one place and in one order.

use super::confirm::Confirmations;
use super::dropped::Dropped;
use super::ended::Ended;
use super::files::{Writer, remove_drafts};
use super::inhabited::Inhabited;
use super::refusals::{no_launch_dir, unmounted, unreachable};
use super::{AFTER_WRITING, StoreSettings, confirm_dir};
use crate::desired::registry::{Lookup, PatternBook, Registry};
use crate::desired::resolve::resolve;
use crate::desired::root::RootSpec;
use crate::desired::scan::{Folder, Identity, Scanner};
use crate::desired::set::{Desired, Patterns};
use crate::desired::sight::{Emptiness, Outcome, Scan};
use crate::desired::spec::{Defaults, InstanceSpec};
use crate::desired::watch::{Connect, Interest, Watch, has_events, waypoints};
use crate::error::{Error, Result};
use crate::model::{Instance, Moment, Origin};
use crate::observed::event::DesiredChange;
use arc_swap::ArcSwap;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

/// What cannot be watched is looked at this often: a stat for each of 10,000 files takes some hundredths of it.
const POLL: Duration = Duration::from_secs(2);
/// A root that is being changed is looked at again after this long, then twice as long, up to [`BUSY_CAP`].
const BUSY_FIRST: Duration = Duration::from_millis(25);
const BUSY_CAP: Duration = Duration::from_secs(1);

/// All that the store knows. Every method may block on the file system.
pub(super) struct Pass {
    pub(super) settings: StoreSettings,
    pub(super) desired: Desired,
    pub(super) roots: Vec<Reader>,
    pub(super) registry: Registry,
    pub(super) watch: Watch,
    pub(super) writer: Writer,
    confirmations: Confirmations,
    inhabited: Inhabited,
    dropped: Dropped,
    pub(super) ended: Ended,
    pub(super) clock: fn() -> Moment,
    busy_for: u32,
    pub(super) published: Arc<ArcSwap<PatternBook>>,
    /// The launch directory from which what a dead launcher left was removed.
    tidied: Option<Identity>,
}

/// A root, and what it takes to read it.
pub(super) struct Reader {
    pub(super) scanner: Scanner,
    others: Vec<PathBuf>,
    /// Which folder is locked, and its lock.
    lock: Option<(Identity, Box<dyn Send>)>,
}

/// What a pass came to.
pub(super) struct Ran {
    /// What changed.
    pub(super) change: Option<DesiredChange>,
    /// When to look again although nothing is noticed.
    pub(super) again: Duration,
    /// How long it took.
    pub(super) took: Duration,
}

/// The patterns as instances see them.
pub(in crate::desired) struct Book<'a> {
    pub(in crate::desired) registry: &'a Registry,
    pub(in crate::desired) defaults: &'a Defaults,
}

impl Patterns for Book<'_> {
    fn resolve(&self, spec: &InstanceSpec, origin: Origin) -> Result<(Instance, Option<Error>)> {
        let at = origin.to_string();
        let (manifest, concern) = match self.registry.lookup(&spec.pattern) {
            Lookup::Found(manifest) => (manifest, None),
            Lookup::LastGood(manifest, error) => (manifest, Some(error)),
            Lookup::Invalid(error) | Lookup::Gone(error) | Lookup::Unknown(error) => {
                return Err(error.with("declared_at", at));
            }
        };
        let instance = resolve(spec, &manifest, self.defaults, origin)?;
        Ok((instance, concern.map(|error| error.with("declared_at", at))))
    }
}

impl Pass {
    pub(super) fn new(
        settings: StoreSettings,
        restored: &[Arc<Instance>],
        clock: fn() -> Moment,
        connect: Connect,
        published: Arc<ArcSwap<PatternBook>>,
    ) -> Self {
        let dropped = Dropped::read(&settings.state_dir);
        let mut desired = Desired::new(settings.roots.clone(), restored);
        desired.restore_dropped(dropped.known());
        let ended = Ended::read(&settings.state_dir);
        for instance in ended.among(restored) {
            desired.expect_deletion(&instance.origin.path());
        }
        let inhabited = Inhabited::read(&settings.state_dir);
        let mut pass = Self {
            desired,
            roots: Vec::new(),
            registry: Registry::open(settings.patterns_dir.clone()),
            watch: Watch::new(connect),
            writer: Writer::default(),
            confirmations: Confirmations::new(confirm_dir(&settings.state_dir)),
            inhabited,
            dropped,
            ended,
            clock,
            busy_for: 0,
            published,
            tidied: None,
            settings,
        };
        pass.make_readers();
        pass
    }

    /// Told whenever it is time for a pass.
    pub(super) fn wake(&self) -> Arc<Notify> {
        self.watch.wake()
    }

    /// Takes new settings.
    pub(super) fn reconfigure(&mut self, settings: StoreSettings) {
        let patterns_moved = settings.patterns_dir != self.settings.patterns_dir;
        let resolve_again = patterns_moved || settings.defaults != self.settings.defaults;
        self.settings = settings;
        if patterns_moved {
            self.registry = Registry::open(self.settings.patterns_dir.clone());
            self.registry.refresh((self.clock)());
        }
        let book = Book { registry: &self.registry, defaults: &self.settings.defaults };
        self.desired.configure(self.settings.roots.clone(), &book);
        if resolve_again {
            let problems = self.registry.problems().iter().map(|problem| problem.error.clone()).collect();
            self.desired.patterns_changed(None, problems, &book);
        }
        self.make_readers();
        self.publish_patterns();
    }

    /// Lets everybody see the patterns as they are now.
    pub(super) fn publish_patterns(&self) {
        let launch_dir = self.settings.launch_dir().to_path_buf();
        self.published.store(Arc::new(PatternBook::of(&self.registry, self.settings.defaults.clone(), launch_dir)));
    }

    fn make_readers(&mut self) {
        let mut before = std::mem::take(&mut self.roots);
        for spec in &self.settings.roots {
            let others = others(&self.settings.roots, spec);
            let known = before.iter().position(|root| root.scanner.spec().path == spec.path);
            let mut reader = known.map(|index| before.swap_remove(index));
            let unchanged = |reader: &Reader| reader.scanner.spec() == spec && reader.others == others;
            if !reader.as_ref().is_some_and(unchanged) {
                let remembered = self.desired.files(&spec.path);
                let inhabited = self.inhabited.of(&spec.path);
                let scanner = Scanner::new(spec.clone(), others.clone(), remembered, inhabited);
                reader = Some(Reader { scanner, others, lock: reader.and_then(|reader| reader.lock) });
            }
            self.roots.extend(reader);
        }
    }

    /// Looks at everything once, and says what changed.
    pub(super) fn run(&mut self) -> Ran {
        let began = (self.clock)();
        let patterns_again = self.refresh_patterns(began);
        let arrived = self.watch.take_arrived();
        self.watch.forget_expected();
        let mut busy = false;
        for index in 0..self.roots.len() {
            busy |= self.scan(index, &arrived);
        }
        let (fresh, deaf) = self.arm();
        self.confirmations.apply(&mut self.desired, (self.clock)());
        let now = (self.clock)();
        let change = self.desired.decide(now);
        self.tidy_launch_dir();
        let change = self.set_aside(change);
        self.write_down();
        self.busy_for = if busy { self.busy_for.saturating_add(1) } else { 0 };
        let resync = if deaf { self.settings.resync.min(POLL) } else { self.settings.resync };
        let mut again = resync;
        for sooner in [
            patterns_again,
            self.desired.due(now).map(|due| now.until(due)),
            // What happened in a folder between its scan and its watch went unnoticed.
            (fresh > 0).then_some(Duration::ZERO),
            busy.then(|| BUSY_CAP.min(BUSY_FIRST * 2_u32.saturating_pow(self.busy_for.min(10)))),
            self.confirmations.due(now),
            self.watch.is_expecting().then_some(AFTER_WRITING),
        ] {
            again = again.min(sooner.unwrap_or(resync));
        }
        Ran { change, again, took: now.since(began) }
    }

    /// Puts into the state folder what the next launcher has to know, as far as it is not there. Nothing is written while
    /// the folder is another launcher's.
    fn write_down(&mut self) {
        if !self.holds_state() {
            return;
        }
        self.dropped.write(self.desired.dropped());
        self.inhabited.write(self.roots.iter().map(|root| (&root.scanner.spec().path, root.scanner.inhabited())));
        self.ended.mend();
        self.confirmations.mend();
    }

    /// Whether the state folder may be written.
    pub(super) fn holds_state(&self) -> bool {
        self.settings.locks.as_ref().is_none_or(|locks| locks.hold_state().is_ok())
    }

    pub(super) fn refresh_patterns(&mut self, now: Moment) -> Option<Duration> {
        let refreshed = self.registry.refresh(now);
        if !refreshed.changed.is_empty() || refreshed.problems_changed {
            let problems = self.registry.problems().iter().map(|problem| problem.error.clone()).collect();
            let book = Book { registry: &self.registry, defaults: &self.settings.defaults };
            self.desired.patterns_changed(Some(&refreshed.changed), problems, &book);
            self.publish_patterns();
        }
        refreshed.look_again
    }

    /// Scans one root. Returns whether it was being changed meanwhile.
    fn scan(&mut self, index: usize, arrived: &HashSet<PathBuf>) -> bool {
        let root = &mut self.roots[index];
        let path = root.scanner.spec().path.clone();
        let rereads = self.desired.rereads(&path, (self.clock)());
        let scan = match root.keep_lock(&self.settings, &path) {
            Ok(()) => root.scanner.scan(&rereads, arrived),
            Err(error) => Scan { outcome: Outcome::Failed(error), emptiness: Emptiness::Ordinary, seen: Vec::new() },
        };
        let book = Book { registry: &self.registry, defaults: &self.settings.defaults };
        let scanner = &root.scanner;
        self.desired.apply(&path, &scan, &|file| scanner.knows(file), &book, (self.clock)());
        matches!(scan.outcome, Outcome::Busy(_))
    }

    /// Sees to it that launched files can be written now, and says where. A launch directory that has disappeared is not
    /// made: it may be on a file system that is not mounted.
    pub(super) fn prepare_launch_dir(&mut self) -> Result<PathBuf> {
        let launched = self.roots.iter().position(|root| root.scanner.spec().api_managed);
        let index = launched.ok_or_else(no_launch_dir)?;
        let root = &mut self.roots[index];
        let path = root.scanner.spec().path.clone();
        let identity = Identity::of(&path).map_err(|cause| unreachable(&path, &cause))?;
        root.keep_lock(&self.settings, &path)?;
        if root.scanner.folders().first().is_none_or(|folder| folder.identity != identity) {
            self.scan(index, &HashSet::new());
        }
        if self.desired.is_suspicious(&path) {
            return Err(unmounted(&path, self.desired.held_token(&path)));
        }
        Ok(path)
    }

    /// Removes what a launcher that died has left unfinished in the launch directory, once.
    fn tidy_launch_dir(&mut self) {
        let Some(root) = self.roots.iter().find(|root| root.scanner.spec().api_managed) else { return };
        let Some(identity) = root.scanner.folders().first().map(|folder| folder.identity) else { return };
        let is_ours = self.settings.locks.is_none() || root.lock.as_ref().is_some_and(|(held, _)| *held == identity);
        if !is_ours || self.tidied == Some(identity) {
            return;
        }
        self.tidied = Some(identity);
        let removed: usize = root.scanner.folders().iter().map(|folder| remove_drafts(&folder.real)).sum();
        if removed > 0 {
            let path = root.scanner.spec().path.display();
            tracing::info!(launch_dir = %path, removed, "unfinished launches of an earlier launcher were removed");
        }
    }

    /// Watches what was scanned. Returns how many folders are newly watched, and whether some cannot be.
    fn arm(&mut self) -> (usize, bool) {
        let mut wanted: HashMap<PathBuf, Interest> = HashMap::new();
        let mut paths: Vec<PathBuf> = self.settings.roots.iter().map(|root| root.path.clone()).collect();
        paths.push(self.settings.patterns_dir.clone());
        for path in &paths {
            for (folder, names) in waypoints(path) {
                match wanted.entry(folder).or_insert_with(|| Interest::Names(names.clone())) {
                    Interest::Names(known) => known.extend(names),
                    Interest::Everything => {}
                }
            }
        }
        let patterns = pattern_folders(&self.settings.patterns_dir);
        let own = std::fs::canonicalize(self.confirmations.folder()).ok();
        for folder in patterns.into_iter().chain(own) {
            wanted.insert(folder, Interest::Everything);
        }
        let mut folders: HashMap<Folder, Interest> = HashMap::new();
        for root in &self.roots {
            for folder in root.scanner.folders() {
                wanted.remove(&folder.real);
                folders.insert(folder.clone(), Interest::Everything);
            }
        }
        for (real, interest) in wanted {
            if let Ok(identity) = Identity::of(&real) {
                folders.insert(Folder { real, identity }, interest);
            }
        }
        let armed = self.watch.arm(folders);
        let mut deaf = !armed.deaf.is_empty();
        for root in &self.roots {
            let path = &root.scanner.spec().path;
            let polled = root.scanner.folders().iter().any(|folder| armed.deaf.contains(&folder.real));
            let polled = polled || root.scanner.folders().is_empty() || !has_events(path);
            deaf |= polled;
            self.desired.watching(path, if polled { "polling" } else { "events" });
        }
        (armed.fresh, deaf)
    }
}

impl Reader {
    /// Sees to it that the folder behind the path is locked. Its former lock is kept until the new one is held.
    fn keep_lock(&mut self, settings: &StoreSettings, path: &Path) -> Result<()> {
        let Some(locks) = &settings.locks else { return Ok(()) };
        let Ok(identity) = Identity::of(path) else {
            // The scan says what is wrong with it.
            return Ok(());
        };
        if self.lock.as_ref().is_none_or(|(locked, _)| *locked != identity) {
            self.lock = Some((identity, locks.hold(path)?));
        }
        Ok(())
    }
}

/// The paths of all roots but one.
pub(super) fn others(roots: &[RootSpec], one: &RootSpec) -> Vec<PathBuf> {
    roots.iter().map(|root| root.path.clone()).filter(|path| *path != one.path).collect()
}

/// The patterns directory and the folders in it, by their real paths.
fn pattern_folders(dir: &Path) -> Vec<PathBuf> {
    let Ok(real) = std::fs::canonicalize(dir) else { return Vec::new() };
    let entries = std::fs::read_dir(&real).into_iter().flatten().flatten();
    let folders = entries.filter_map(|entry| std::fs::canonicalize(entry.path()).ok().filter(|path| path.is_dir()));
    let folders: Vec<PathBuf> = folders.collect();
    std::iter::once(real).chain(folders).collect()
}
