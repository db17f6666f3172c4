//! Notices that something may have changed. Nothing is concluded from an event but that it is time to look.
//!
//! Folders are watched by their real paths, and so are the folders that hold the links on the way to a root: a watch on
//! a link is silent when the link flips. What cannot be watched is polled.

use super::scan::{Folder, Identity, is_hidden, is_instance_file};
use super::store::files::is_draft;
use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind, RenameMode};
use notify::{Event, RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// Arrivals that are remembered between two scans; those beyond it wait to hold still like any other file.
const ARRIVAL_LIMIT: usize = 20_000;
/// As many links are followed on the way to a root as the kernel follows.
const LINK_LIMIT: usize = 40;

/// Which events of a folder matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interest {
    /// Those of anything in it that may be read.
    Everything,
    /// Those of these names only.
    Names(BTreeSet<OsString>),
}

/// What reports events.
pub trait Backend: Send {
    /// Begins to report what happens directly in a folder.
    fn watch(&mut self, folder: &Path) -> notify::Result<()>;
    /// Ends it.
    fn unwatch(&mut self, folder: &Path) -> notify::Result<()>;
}

impl<W: Watcher + Send> Backend for W {
    fn watch(&mut self, folder: &Path) -> notify::Result<()> {
        Watcher::watch(self, folder, RecursiveMode::NonRecursive)
    }

    fn unwatch(&mut self, folder: &Path) -> notify::Result<()> {
        Watcher::unwatch(self, folder)
    }
}

/// Makes a backend that reports to a [`Listener`].
pub type Connect = fn(Listener) -> notify::Result<Box<dyn Backend>>;

/// The operating system's events.
pub fn connect(listener: Listener) -> notify::Result<Box<dyn Backend>> {
    Ok(Box::new(notify::recommended_watcher(move |event| listener.hear(event))?))
}

/// Watches a set of folders.
pub struct Watch {
    connect: Connect,
    backend: Option<Box<dyn Backend>>,
    armed: HashMap<PathBuf, Identity>,
    listener: Listener,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("armed", &self.armed).finish_non_exhaustive()
    }
}

/// Takes the events, on the thread of the backend.
#[derive(Debug, Clone, Default)]
pub struct Listener {
    wake: Arc<Notify>,
    heard: Arc<Mutex<Heard>>,
}

#[derive(Debug, Default)]
struct Heard {
    interests: HashMap<PathBuf, Interest>,
    arrived: HashSet<PathBuf>,
    /// Files that the launcher itself is writing, by their real paths, and those that it wrote before the last look.
    expected: HashSet<PathBuf>,
    expected_before: HashSet<PathBuf>,
    /// Watched folders that were removed or renamed: their watches are dead or tell of something else.
    lost: HashSet<PathBuf>,
}

/// What arming came to.
#[derive(Debug, Default)]
pub struct Armed {
    /// Folders are watched that were not before: what happened in them until now went unnoticed.
    pub fresh: usize,
    /// Folders that cannot be watched.
    pub deaf: HashSet<PathBuf>,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new(connect: Connect) -> Self {
        Self { connect, backend: None, armed: HashMap::new(), listener: Listener::default() }
    }

    /// Told whenever it is time to look.
    pub fn wake(&self) -> Arc<Notify> {
        Arc::clone(&self.listener.wake)
    }

    /// The real paths of what arrived by rename since the last call.
    pub fn take_arrived(&self) -> HashSet<PathBuf> {
        std::mem::take(&mut self.listener.heard().arrived)
    }

    /// The launcher itself writes these files, given by their real paths: that is no reason to look.
    pub fn expect(&self, files: impl Iterator<Item = PathBuf>) {
        self.listener.heard().expected.extend(files);
    }

    /// A look begins: what happens to the files that were expected before the last one is told again. One more look is
    /// waited for since events come later than what they tell of.
    pub fn forget_expected(&self) {
        let mut heard = self.listener.heard();
        heard.expected_before = std::mem::take(&mut heard.expected);
    }

    /// Whether files are expected still: what somebody else does to them meanwhile is not told, and only looking finds it.
    pub fn is_expecting(&self) -> bool {
        let heard = self.listener.heard();
        !heard.expected.is_empty() || !heard.expected_before.is_empty()
    }

    /// Watches exactly these folders from now on.
    pub fn arm(&mut self, wanted: HashMap<Folder, Interest>) -> Armed {
        let mut armed = Armed::default();
        if self.backend.is_none() {
            self.backend = (self.connect)(self.listener.clone()).ok();
        }
        let Some(backend) = &mut self.backend else {
            armed.deaf = wanted.into_keys().map(|folder| folder.real).collect();
            return armed;
        };
        let lost = std::mem::take(&mut self.listener.heard().lost);
        let identities: HashMap<&Path, Identity> =
            wanted.keys().map(|folder| (folder.real.as_path(), folder.identity)).collect();
        self.armed.retain(|path, identity| {
            let stays = identities.get(path.as_path()) == Some(identity) && !lost.contains(path);
            if !stays {
                // It fails when the folder is gone, and with it the watch.
                drop(backend.unwatch(path));
            }
            stays
        });
        for folder in wanted.keys() {
            if self.armed.contains_key(&folder.real) {
                continue;
            }
            match backend.watch(&folder.real) {
                Ok(()) => {
                    armed.fresh += 1;
                    self.armed.insert(folder.real.clone(), folder.identity);
                }
                Err(_) => drop(armed.deaf.insert(folder.real.clone())),
            }
        }
        self.listener.heard().interests = wanted.into_iter().map(|(folder, what)| (folder.real, what)).collect();
        armed
    }
}

impl Listener {
    fn heard(&self) -> MutexGuard<'_, Heard> {
        // Nothing that holds the lock can leave it half-changed.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes one event, and wakes the store if it may matter.
    pub fn hear(&self, event: notify::Result<Event>) {
        let matters = match event {
            Ok(event) => event.need_rescan() || self.heard().take(&event),
            // Whatever was missed, a look finds it.
            Err(_) => true,
        };
        if matters {
            self.wake.notify_one();
        }
    }
}

impl Heard {
    fn take(&mut self, event: &Event) -> bool {
        let renamed = matches!(event.kind, EventKind::Modify(ModifyKind::Name(_)));
        let structural = renamed || matches!(event.kind, EventKind::Create(_) | EventKind::Remove(_));
        // Looking opens and closes files: that must not be a reason to look. Closing what was written may be.
        let written = EventKind::Access(AccessKind::Close(AccessMode::Write));
        if matches!(event.kind, EventKind::Access(_)) && event.kind != written {
            return false;
        }
        for path in &event.paths {
            if structural && self.interests.contains_key(path) && !matches!(event.kind, EventKind::Create(_)) {
                self.lost.insert(path.clone());
            }
        }
        let arrival = if let EventKind::Modify(ModifyKind::Name(RenameMode::To)) = event.kind {
            event.paths.first()
        } else if let EventKind::Modify(ModifyKind::Name(RenameMode::Both)) = event.kind {
            event.paths.get(1)
        } else {
            None
        };
        if let Some(path) = arrival.filter(|_| self.arrived.len() < ARRIVAL_LIMIT) {
            self.arrived.insert(path.clone());
        }
        event.paths.iter().any(|path| self.concerns(path, structural))
    }

    fn concerns(&self, path: &Path, structural: bool) -> bool {
        if self.interests.contains_key(path) {
            return true;
        }
        if self.expected.contains(path) || self.expected_before.contains(path) {
            return false;
        }
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return false };
        match self.interests.get(folder) {
            None => false,
            Some(Interest::Names(names)) => names.contains(name),
            // A name that is not read may be a link that others lead through, such as `..data`.
            Some(Interest::Everything) => (structural && !is_draft(name)) || may_be_read(name),
        }
    }
}

fn may_be_read(name: &OsStr) -> bool {
    is_instance_file(name) && !is_hidden(name)
}

/// The folders that hold the names through which `path` leads, and these names: its own, and those of all links on the
/// way to it.
pub fn waypoints(path: &Path) -> BTreeMap<PathBuf, BTreeSet<OsString>> {
    let mut points: BTreeMap<PathBuf, BTreeSet<OsString>> = BTreeMap::new();
    let start = if path.is_absolute() { PathBuf::from("/") } else { std::fs::canonicalize(".").unwrap_or_default() };
    let mut rest: Vec<OsString> = components(path);
    let (mut folder, mut links) = (start, 0);
    while let Some(name) = rest.pop() {
        if name == ".." {
            folder.pop();
            continue;
        }
        let next = folder.join(&name);
        let target = std::fs::read_link(&next).ok().filter(|_| links < LINK_LIMIT);
        if target.is_some() || rest.is_empty() {
            points.entry(folder.clone()).or_default().insert(name);
        }
        if let Some(target) = target {
            links += 1;
            if target.is_absolute() {
                folder = PathBuf::from("/");
            }
            rest.extend(components(&target));
        } else {
            folder = next;
        }
    }
    points
}

/// The parts of a path, the last first.
fn components(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    parts.map(|part| part.as_os_str().to_owned()).rev().collect()
}

/// Whether the file system of `path` reports what happens in it. Those whose changes may be made by other machines, or
/// that make up their content, do not.
pub fn has_events(path: &Path) -> bool {
    const SILENT: [i128; 11] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x0102_1997, // 9P
        0x6573_5546, // FUSE
        0x00c3_6400, // Ceph
        0x5346_414f, // AFS
        0x786f_4256, // VirtualBox shared folders
        0x9fa0,      // proc
        0x6265_6572, // sysfs
    ];
    // The type is a magic number of 32 bits, whatever the width and sign of the field are.
    rustix::fs::statfs(path).map_or(true, |fs| !SILENT.contains(&(i128::from(fs.f_type) & 0xffff_ffff)))
}

#[cfg(test)]
mod tests;
