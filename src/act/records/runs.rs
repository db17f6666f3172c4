//! Run records: one file for each run, named `<key's file name>.<run>.<boot>.<revision>.json`.
//!
//! Guarantees: a record is under its name whole or not at all, as long as the machine runs; at every instant at least
//! one revision of a record that was saved is there. What a crash of the machine leaves behind of unsynced files is
//! told by the boot in the name: nothing of an earlier boot lives, so a damaged record of one blocks nothing.

use super::frame::{self, Unusable};
use super::{Loaded, unavailable};
use crate::error::{Code, Error, Result};
use crate::model::{BootId, Key, RunId, RunRecord};
use std::collections::{BTreeMap, HashMap};
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the name of an unfinished file begins with.
const TEMPORARY: &str = ".tmp-";
/// What the name of a record ends with that a person gave up. It is kept for people, and removed by them.
const ABANDONED: &str = ".abandoned";

/// The folder of run records.
#[derive(Debug)]
pub(super) struct RunFiles {
    folder: PathBuf,
    /// The revision that is on disk of each run, so that saving and removing need not list the folder.
    names: Mutex<HashMap<RunId, FileName>>,
    /// What the last launcher left. Only this can be set aside: a run that was begun since is known.
    left: Vec<FileName>,
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
    /// Reads the folder into `loaded`, and removes what a crash left: unfinished files, superseded revisions, and
    /// unreadable records of other boots.
    pub(super) fn open(folder: &Path, boot: BootId, loaded: &mut Loaded) -> Result<Self> {
        let found = find(folder, boot, loaded)?;
        for path in found.leftovers {
            if let Err(error) = std::fs::remove_file(&path) {
                loaded.notices.push(unavailable("A file that is no longer needed cannot be removed", &path, &error));
            }
        }
        Ok(Self { folder: folder.to_owned(), left: found.left, names: Mutex::new(found.names) })
    }

    pub(super) fn save(&self, record: &RunRecord) -> Result<()> {
        let cannot = |error: &io::Error| {
            unavailable("The record of a run cannot be written", &self.folder, error).with("process_id", &record.key)
        };
        let earlier = self.names().get(&record.run).cloned();
        let name = FileName {
            key: record.key.file_name(),
            run: record.run.to_string(),
            boot: record.process.boot.to_string(),
            revision: earlier.as_ref().map_or(0, |earlier| earlier.revision.wrapping_add(1)),
        };
        let mut bytes = Vec::new();
        frame::encode(record, &mut bytes).map_err(|error| cannot(&error))?;
        let written = match self.write(&name, &bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                super::make_folder(&self.folder)?;
                self.write(&name, &bytes)
            }
            written => written,
        };
        written.map_err(|error| cannot(&error))?;
        self.names().insert(record.run, name);
        if let Some(earlier) = earlier {
            // Were it to stay, the later revision would win all the same.
            drop(remove_file(&self.folder.join(earlier.print())));
        }
        Ok(())
    }

    pub(super) fn remove(&self, key: &Key, run: RunId) -> Result<()> {
        let cannot = |path: &Path, error: &io::Error| unavailable("The record of a run cannot be removed", path, error);
        let name = self.names().get(&run).cloned();
        if let Some(name) = name {
            let path = self.folder.join(name.print());
            remove_file(&path).map_err(|error| cannot(&path, &error).with("process_id", key))?;
            self.names().remove(&run);
        }
        Ok(())
    }

    pub(super) fn abandon(&self, key: &str, except: Option<RunId>) -> Result<()> {
        let except = except.map(|run| run.to_string());
        for name in self.left.iter().filter(|name| name.key == key && Some(&name.run) != except.as_ref()) {
            let path = self.folder.join(name.print());
            let mut aside = path.clone().into_os_string();
            aside.push(ABANDONED);
            match std::fs::rename(&path, &aside) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(unavailable("The record of a run cannot be set aside", &path, &error));
                }
                // One that is gone blocks nothing.
                _ => {}
            }
        }
        Ok(())
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

    fn names(&self) -> MutexGuard<'_, HashMap<RunId, FileName>> {
        // Each use of the map is one call, so that a panic elsewhere cannot leave it half changed.
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads the folder into `loaded` without changing anything.
pub(super) fn read(folder: &Path, boot: BootId, loaded: &mut Loaded) -> Result<()> {
    find(folder, boot, loaded).map(drop)
}

#[derive(Default)]
struct Found {
    names: HashMap<RunId, FileName>,
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
            found.names.insert(record.run, name);
            loaded.runs.push(record);
        }
        Err(why) if name.boot == boot.to_string() => {
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
