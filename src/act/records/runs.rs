//! Run records: one file for each run, named `<key's file name>.<run>.<boot>.<revision>.json`.
//!
//! Guarantees: a record is under its name whole or not at all, as long as the machine runs; at every instant at least
//! one revision of a record that was saved is there. What a crash of the machine leaves behind of unsynced files is
//! told by the boot in the name: nothing of an earlier boot lives, so a damaged record of one blocks nothing.

mod mending;

pub(crate) use mending::Stray;

use super::frame::{self, Unusable};
use super::{Loaded, RUNS_FOLDER, unavailable};
use crate::act::state_folder::StateFolder;
use crate::error::{Code, Error, Result};
use crate::model::{BootId, RunId, RunRecord};
use mending::Stamp;
use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// What the name of an unfinished file begins with.
const TEMPORARY: &str = ".tmp-";
/// What the name of a record ends with that a person gave up. It is kept for people, and removed by them.
const ABANDONED: &str = ".abandoned";

/// The longest file that is kept in memory although it is no record that can be read; a record has some two kilobytes.
const KEPT_BYTES: u64 = 64 << 10;
/// And as many of them at most: each stands for a process that somebody has to look at.
const KEPT_FILES: usize = 256;

/// The folder of run records.
#[derive(Debug)]
pub(super) struct RunFiles {
    state: Arc<StateFolder>,
    folder: PathBuf,
    /// What is recorded of each run that is not over, so that it can be written again when somebody has removed it, and
    /// that saving and removing need not list the folder.
    known: Mutex<HashMap<RunId, Known>>,
    /// Files that block a key or protect a cgroup and are about no run that is known, with what is in them.
    kept: Mutex<BTreeMap<String, Vec<u8>>>,
    /// What the last launcher left. Only this can be set aside: a run that was begun since is known.
    left: Vec<FileName>,
    /// Shared by whoever writes or removes the record of a run, and held alone by whoever writes one again, so that the
    /// record of a run that ends meanwhile does not come back.
    order: RwLock<()>,
    /// As what the folder was found whole, and how often.
    quiet: Mutex<Option<(Stamp, u8)>>,
}

/// What is recorded of a run.
#[derive(Debug, Clone)]
struct Known {
    /// Of the last file that was written of it.
    name: FileName,
    record: RunRecord,
    owed: Owed,
}

/// What has failed and is to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Nothing,
    /// The record is later than what is in the file.
    Writing,
    /// The run is over.
    Removal,
}

/// The parts of a file's name, from longest-lived to shortest-lived.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct FileName {
    key: String,
    run: String,
    boot: String,
    revision: u32,
}

impl FileName {
    fn parse(name: &str) -> Option<Self> {
        let mut parts = name.strip_suffix(".json")?.rsplitn(4, '.');
        let revision = parts.next()?.parse().ok()?;
        let boot = parts.next()?.to_owned();
        let run = parts.next()?.to_owned();
        Some(Self { key: parts.next()?.to_owned(), run, boot, revision })
    }

    fn print(&self) -> String {
        let Self { key, run, boot, revision } = self;
        format!("{key}.{run}.{boot}.{revision}.json")
    }
}

impl RunFiles {
    /// Reads the folder of a state folder into `loaded`, and removes what a crash left: unfinished files, superseded
    /// revisions, and unreadable records of other boots.
    pub(super) fn open(state: &Arc<StateFolder>, boot: BootId, loaded: &mut Loaded) -> Result<Self> {
        let folder = state.path().join(RUNS_FOLDER);
        let found = find(&folder, boot, loaded)?;
        for path in found.leftovers {
            if let Err(error) = std::fs::remove_file(&path) {
                loaded.notices.push(unavailable("A file that is no longer needed cannot be removed", &path, &error));
            }
        }
        Ok(Self {
            state: Arc::clone(state),
            folder,
            known: Mutex::new(found.known),
            kept: Mutex::new(found.kept),
            left: found.left,
            order: RwLock::default(),
            quiet: Mutex::default(),
        })
    }

    pub(super) fn save(&self, record: &RunRecord) -> Result<()> {
        let _shared = self.order.read().unwrap_or_else(PoisonError::into_inner);
        self.replace(record)
    }

    /// Writes the next revision of a record and removes the one before it.
    fn replace(&self, record: &RunRecord) -> Result<()> {
        let earlier = self.known().get(&record.run).map(|known| known.name.clone());
        let name = FileName {
            key: record.key.file_name(),
            run: record.run.to_string(),
            boot: record.process.boot.to_string(),
            revision: earlier.as_ref().map_or(0, |earlier| earlier.revision.wrapping_add(1)),
        };
        if let Err(error) = self.put(&name, record) {
            if let Some(known) = self.known().get_mut(&record.run) {
                known.record = record.clone();
                known.owed = Owed::Writing;
            }
            return Err(error);
        }
        self.known().insert(record.run, Known { name, record: record.clone(), owed: Owed::Nothing });
        if let Some(earlier) = earlier {
            // Were it to stay, the later revision would win all the same.
            drop(remove_file(&self.folder.join(earlier.print())));
        }
        Ok(())
    }

    pub(super) fn remove(&self, run: RunId) -> Result<()> {
        let _shared = self.order.read().unwrap_or_else(PoisonError::into_inner);
        self.discard(run)
    }

    /// Removes the record of a run that is over.
    fn discard(&self, run: RunId) -> Result<()> {
        let Some(Known { name, record, .. }) = self.known().get(&run).cloned() else { return Ok(()) };
        let path = self.folder.join(name.print());
        match remove_file(&path) {
            Ok(()) => {
                self.known().remove(&run);
                Ok(())
            }
            Err(error) => {
                if let Some(known) = self.known().get_mut(&run) {
                    known.owed = Owed::Removal;
                }
                let error = unavailable("The record of a run cannot be removed", &path, &error);
                Err(error.with("process_id", record.key))
            }
        }
    }

    pub(super) fn abandon(&self, key: &str, except: Option<RunId>) -> Result<()> {
        let except = except.map(|run| run.to_string());
        for name in self.left.iter().filter(|name| name.key == key && Some(&name.run) != except.as_ref()) {
            let _shared = self.order.read().unwrap_or_else(PoisonError::into_inner);
            let printed = name.print();
            let aside = format!("{printed}{ABANDONED}");
            let path = self.folder.join(&printed);
            match std::fs::rename(&path, self.folder.join(&aside)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(unavailable("The record of a run cannot be set aside", &path, &error));
                }
                // One that is gone blocks nothing.
                _ => {}
            }
            self.keep_aside(name, &printed, aside);
        }
        Ok(())
    }

    /// From now on a record counts under another name, under which it blocks nothing.
    fn keep_aside(&self, name: &FileName, printed: &str, aside: String) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let mut known = self.known();
        let run = known.iter().find(|(_, known)| known.name == *name).map(|(run, _)| *run);
        let mut bytes = kept.remove(printed);
        if let Some(Known { record, .. }) = run.and_then(|run| known.remove(&run)) {
            let mut encoded = Vec::new();
            // It was encoded before, or could not have been read.
            bytes = frame::encode(&record, &mut encoded).is_ok().then_some(encoded);
        }
        kept.extend(bytes.map(|bytes| (aside, bytes)));
    }

    /// The state folder.
    pub(super) fn state_folder(&self) -> Arc<StateFolder> {
        Arc::clone(&self.state)
    }

    /// Writes a record under its name, in the folder that this launcher holds.
    fn put(&self, name: &FileName, record: &RunRecord) -> Result<()> {
        let cannot = |error: &io::Error| {
            unavailable("The record of a run cannot be written", &self.folder, error).with("process_id", &record.key)
        };
        let mut bytes = Vec::new();
        frame::encode(record, &mut bytes).map_err(|error| cannot(&error))?;
        self.state.hold()?;
        let written = match self.write(name, &bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                super::make_folder(&self.folder)?;
                self.write(name, &bytes)
            }
            written => written,
        };
        written.map_err(|error| cannot(&error))
    }

    /// One write to a name that nothing reads, then a rename to a name that did not exist.
    fn write(&self, name: &FileName, bytes: &[u8]) -> io::Result<()> {
        let temporary = self.folder.join(format!("{TEMPORARY}{}", name.run));
        let written = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)
            .and_then(|mut file| file.write_all(bytes))
            .and_then(|()| std::fs::rename(&temporary, self.folder.join(name.print())));
        if written.is_err() {
            drop(remove_file(&temporary));
        }
        written
    }

    fn known(&self) -> MutexGuard<'_, HashMap<RunId, Known>> {
        // Each use of the map is one call, so that a panic elsewhere cannot leave it half changed.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the folder into `loaded` without changing anything.
pub(super) fn read(folder: &Path, boot: BootId, loaded: &mut Loaded) -> Result<()> {
    find(folder, boot, loaded).map(drop)
}

#[derive(Default)]
struct Found {
    known: HashMap<RunId, Known>,
    kept: BTreeMap<String, Vec<u8>>,
    left: Vec<FileName>,
    leftovers: Vec<PathBuf>,
}

fn find(folder: &Path, boot: BootId, loaded: &mut Loaded) -> Result<Found> {
    let cannot = |error: io::Error| unavailable("The folder of run records cannot be read", folder, &error);
    let mut found = Found::default();
    let mut latest: BTreeMap<(String, String), FileName> = BTreeMap::new();
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(cannot(error)),
    };
    for entry in entries {
        let entry = entry.map_err(cannot)?;
        let text = entry.file_name();
        let text = text.to_string_lossy();
        if text.ends_with(ABANDONED) {
            found.keep(folder, &text);
            continue;
        }
        if text.starts_with(TEMPORARY) {
            found.leftovers.push(entry.path());
        } else if let Some(name) = FileName::parse(&text) {
            let place = (name.key.clone(), name.run.clone());
            let superseded = match latest.remove(&place) {
                Some(other) if other.revision > name.revision => {
                    latest.insert(place, other);
                    Some(name)
                }
                other => {
                    latest.insert(place, name);
                    other
                }
            };
            found.leftovers.extend(superseded.map(|name| folder.join(name.print())));
        } else {
            loaded.notices.push(stranger(&entry.path()));
        }
    }
    for name in latest.into_values() {
        found.left.push(name.clone());
        take(folder, boot, name, loaded, &mut found);
    }
    Ok(found)
}

impl Found {
    /// Remembers what is in a file that must not be lost with the folder. One that is too long is of no launcher.
    fn keep(&mut self, folder: &Path, name: &str) {
        let path = folder.join(name);
        if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() <= KEPT_BYTES)
            && self.kept.len() < KEPT_FILES
            && let Ok(bytes) = std::fs::read(&path)
        {
            self.kept.insert(name.to_owned(), bytes);
        }
    }
}

/// Reads one record; one that cannot be read blocks its key if what it describes may live.
fn take(folder: &Path, boot: BootId, name: FileName, loaded: &mut Loaded, found: &mut Found) {
    let path = folder.join(name.print());
    let outcome = match std::fs::read(&path) {
        Ok(bytes) => decode(&bytes, &name),
        // A launcher that runs beside this reader has removed it: its run is over.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => Err(error.to_string()),
    };
    match outcome {
        Ok(record) => {
            found.known.insert(record.run, Known { name, record: record.clone(), owed: Owed::Nothing });
            loaded.runs.push(record);
        }
        Err(why) if name.boot == boot.to_string() => {
            found.keep(folder, &name.print());
            let error = unreadable(&path, why).suggest(format!(
                "find out whether a process of it lives (ps -eo pid,lstart,args) and end it; the record is {}",
                path.display()
            ));
            loaded.damaged.push((name.key, error));
        }
        Err(why) => {
            loaded.notices.push(
                unreadable(&path, why).suggest("nothing: the machine was restarted since, so nothing of it lives"),
            );
            found.leftovers.push(path);
        }
    }
}

fn decode(bytes: &[u8], name: &FileName) -> Result<RunRecord, String> {
    let line = bytes.strip_suffix(b"\n").ok_or("it is not whole")?;
    let record: RunRecord = frame::decode(line).map_err(|unusable| match unusable {
        Unusable::Damaged(why) => why,
        Unusable::Newer(version) => {
            format!("a newer launcher wrote it (version {version}, supported {})", frame::VERSION)
        }
    })?;
    if record.key.file_name() == name.key && record.run.to_string() == name.run {
        Ok(record)
    } else {
        Err(format!("it is about another run, {} of {}", record.run, record.key))
    }
}

fn unreadable(path: &Path, why: String) -> Error {
    Error::new(Code::StoreUnavailable, "The record of a run cannot be read").with("path", path.display()).because(why)
}

fn stranger(path: &Path) -> Error {
    Error::new(Code::StoreUnavailable, "A file among the run records is not one")
        .with("path", path.display())
        .suggest(format!("mv {} elsewhere", path.display()))
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
