//! The cgroup that each run is made in: what tells when its tree is gone, and what kills it whole. Limits are not set
//! here. Only the v2 hierarchy is used, which need not have any controller.

use super::host::CgroupChoice;
use super::identity::cgroup_of;
use crate::error::{Code, Error, Result};
use crate::model::id::short_hash;
use crate::model::{Key, RunId};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

/// What the kernel says is the type of a v2 cgroup file system.
const CGROUP2_MAGIC: i64 = 0x6367_7270;
/// The file of the state folder that names every folder of ours that may still hold something.
const BASES: &str = "cgroup-base";

/// The folder that the cgroups of this state folder's runs are made in.
#[derive(Debug)]
pub(crate) struct Base {
    path: PathBuf,
}

/// Why no cgroups are made, as a sentence.
pub(crate) type NoCgroups = String;

impl Base {
    /// Makes the folder where `choice` says. The inner error says why there is none and trees are tracked otherwise.
    pub(crate) fn set_up(choice: &CgroupChoice, state_dir: &Path) -> Result<std::result::Result<Self, NoCgroups>> {
        let parent = match choice {
            CgroupChoice::Off => return Ok(Err("cgroups are switched off in the configuration".to_owned())),
            CgroupChoice::Under(path) => Ok(path.clone()),
            CgroupChoice::Auto => own_cgroup(),
        };
        let made = parent.and_then(|parent| Self::make(&parent, state_dir));
        match (made, choice) {
            (Ok(base), _) => Ok(Ok(base)),
            (Err(error), CgroupChoice::Under(path)) => {
                Err(Error::new(Code::InvalidConfiguration, "No cgroups can be made where the configuration says")
                    .with("path", path.display())
                    .caused_by(&error)
                    .suggest(format!(
                        "check that {} is a v2 cgroup that this user may write to, or leave its choice to the launcher",
                        path.display()
                    )))
            }
            (Err(error), _) => Ok(Err(format!("the launcher's own cgroup cannot be used: {error}"))),
        }
    }

    fn make(parent: &Path, state_dir: &Path) -> io::Result<Self> {
        if !is_cgroup2(parent)? {
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is not in a v2 cgroup hierarchy"));
        }
        let path = parent.join(base_name(state_dir)?);
        make_folder(&path)?;
        // The one thing that clone needs besides the folder, and what a hierarchy that is mounted read-only denies.
        rustix::fs::access(path.join("cgroup.procs"), rustix::fs::Access::WRITE_OK)?;
        remember(state_dir, &path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the cgroup of a run.
    pub(crate) fn create(&self, key: &Key, run: RunId) -> io::Result<RunCgroup> {
        let path = self.path.join(run_name(key, run));
        match std::fs::create_dir(&path) {
            // Somebody tidied up around us.
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_folder(&self.path)?;
                std::fs::create_dir(&path)?;
            }
            made => made?,
        }
        Ok(RunCgroup { path })
    }

    /// Removes the folder if nothing is in it.
    pub(crate) fn remove_if_empty(&self) {
        // It is not empty while runs go on, which is the common case.
        drop(std::fs::remove_dir(&self.path));
    }
}

/// The cgroups that were ever made for this state folder, in whatever cgroup its launchers ran. Folders that are gone
/// are forgotten.
pub(crate) fn all_ours(state_dir: &Path) -> Vec<RunCgroup> {
    let Ok(name) = base_name(state_dir) else { return Vec::new() };
    bases(state_dir)
        .into_iter()
        .filter(|base| {
            base.file_name().is_some_and(|found| found == name.as_str()) && is_cgroup2(base).unwrap_or(false)
        })
        .flat_map(|base| std::fs::read_dir(base).into_iter().flatten().filter_map(io::Result::ok))
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| RunCgroup { path: entry.path() })
        .collect()
}

/// The cgroup that a record names, if it can be one that was made for exactly that run. Nothing else is ever killed on
/// the word of a file.
pub(crate) fn recorded(state_dir: &Path, path: &Path, key: &Key, run: RunId) -> std::result::Result<RunCgroup, String> {
    let name = base_name(state_dir).map_err(|e| e.to_string())?;
    let plain = path.is_absolute() && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    let parent = path.parent().and_then(Path::file_name);
    let ours = plain
        && path.file_name().is_some_and(|found| found == run_name(key, run).as_str())
        && parent.is_some_and(|found| found == name.as_str());
    // A folder that is gone is empty.
    let in_hierarchy = is_cgroup2(path).unwrap_or_else(|error| error.kind() == ErrorKind::NotFound);
    if ours && in_hierarchy {
        Ok(RunCgroup { path: path.to_owned() })
    } else {
        Err(format!("its record names {}, which is not a cgroup made for this run", path.display()))
    }
}

/// The cgroup of one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunCgroup {
    path: PathBuf,
}

impl RunCgroup {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// [`Key::file_name`] of the key it was made for, as far as its name says.
    pub(crate) fn key_file_name(&self) -> String {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.rsplit_once('.').map_or(name.clone(), |(key, _)| key.to_owned())
    }

    /// Whether any process is in it or below it. A zombie is not, nor is anything in a cgroup that is gone.
    pub(crate) fn is_populated(&self) -> io::Result<bool> {
        match std::fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(events) => Ok(!events.lines().any(|line| line == "populated 0")),
            Err(gone) if is_gone(&gone) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The processes in it and below it, without those that are just ending.
    pub(crate) fn processes(&self) -> io::Result<BTreeSet<i32>> {
        let mut found = BTreeSet::new();
        for folder in self.folders()? {
            match std::fs::read_to_string(folder.join("cgroup.procs")) {
                Ok(pids) => found.extend(pids.lines().filter_map(|pid| pid.parse::<i32>().ok())),
                Err(gone) if is_gone(&gone) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Kills everything in it and below it, once. What lives afterwards is killed by calling this again.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match std::fs::write(self.path.join("cgroup.kill"), "1") {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound && self.path.exists() => self.kill_one_by_one(),
            Err(gone) if is_gone(&gone) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// For kernels before 5.14: frozen, nothing can fork while it is being killed.
    fn kill_one_by_one(&self) -> io::Result<()> {
        let freezer = self.path.join("cgroup.freeze");
        // Where it cannot be frozen, repeating has to do.
        drop(std::fs::write(&freezer, "1"));
        let opened: Vec<_> = self
            .processes()?
            .into_iter()
            .filter_map(|pid| Some((pid, pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()?)))
            .collect();
        // Only what is still in it now that it is held: a pid could have been given to another between the two.
        let still = self.processes()?;
        for (_, pidfd) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
        }
        drop(std::fs::write(&freezer, "0"));
        Ok(())
    }

    /// Removes it and what is below it; fails while anything is in it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for folder in self.folders()?.iter().rev() {
            match std::fs::remove_dir(folder) {
                Err(error) if !is_gone(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// It and every cgroup below it, parents first.
    fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut found = vec![self.path.clone()];
        let mut next = 0;
        while let Some(folder) = found.get(next) {
            match std::fs::read_dir(folder) {
                Ok(entries) => {
                    let below: Vec<PathBuf> = entries
                        .filter_map(io::Result::ok)
                        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                        .map(|entry| entry.path())
                        .collect();
                    found.extend(below);
                }
                Err(gone) if is_gone(&gone) => {}
                Err(error) => return Err(error),
            }
            next += 1;
        }
        Ok(found)
    }
}

/// What reading a cgroup says that is being removed, or has been.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}

fn run_name(key: &Key, run: RunId) -> String {
    format!("{}.{run}", key.file_name())
}

/// One per state folder, so that two launchers in one cgroup keep apart.
fn base_name(state_dir: &Path) -> io::Result<String> {
    let resolved = std::fs::canonicalize(state_dir)?;
    Ok(format!("pattern-launcher-{}", short_hash(resolved.as_os_str().as_bytes())))
}

fn make_folder(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn is_cgroup2(path: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(path)?.f_type == CGROUP2_MAGIC)
}

/// The cgroup of this process as a path of the file system.
fn own_cgroup() -> io::Result<PathBuf> {
    let own = cgroup_of("self")?;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    mounts
        .lines()
        .find_map(|line| locate(line, &own))
        .ok_or_else(|| io::Error::new(ErrorKind::NotFound, "no v2 cgroup hierarchy is mounted that shows it"))
}

/// Where a line of `mountinfo` shows the cgroup `own`, if it is of a v2 hierarchy and does.
fn locate(line: &str, own: &str) -> Option<PathBuf> {
    let (mount, file_system) = line.split_once(" - ")?;
    if file_system.split(' ').next() != Some("cgroup2") {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    let (root, point) = (fields.next()?, fields.next()?);
    let below = Path::new(own).strip_prefix(root).ok()?;
    Some(Path::new(&point.replace("\\040", " ")).join(below))
}

fn bases(state_dir: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(state_dir.join(BASES)).unwrap_or_default();
    text.lines().map(PathBuf::from).collect()
}

/// Notes down a folder of ours before anything is made in it, and forgets those that are gone.
fn remember(state_dir: &Path, base: &Path) -> io::Result<()> {
    let known = bases(state_dir);
    let mut kept: Vec<&Path> = known.iter().map(PathBuf::as_path).filter(|known| known.exists()).collect();
    if !kept.contains(&base) {
        kept.push(base);
    }
    if kept.len() == known.len() {
        return Ok(());
    }
    let lines: Vec<String> = kept.iter().map(|path| format!("{}\n", path.display())).collect();
    let draft = state_dir.join(format!(".{BASES}.new"));
    std::fs::write(&draft, lines.concat())?;
    std::fs::rename(&draft, state_dir.join(BASES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_wherever_the_hierarchy_is_mounted() {
        let hybrid = "34 25 0:28 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(locate(hybrid, "/a/b"), Some(PathBuf::from("/sys/fs/cgroup/unified/a/b")));
        let container = "34 25 0:28 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup rw";
        assert_eq!(locate(container, "/docker/1"), Some(PathBuf::from("/sys/fs/cgroup/")));
        assert_eq!(locate(container, "/elsewhere"), None);
        assert_eq!(locate("34 25 0:28 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu", "/"), None);
    }

    #[test]
    fn a_record_cannot_name_a_cgroup_that_is_not_its_own() {
        let state = tempfile::tempdir().expect("a folder");
        let key = Key::parse("shared:p").expect("a key");
        let run = RunId::from_random(7);
        let name = base_name(state.path()).expect("a name");
        let own = format!("/nowhere/{name}/{}", run_name(&key, run));
        assert!(recorded(state.path(), Path::new(&own), &key, run).is_ok());
        for forged in [
            "/sys/fs/cgroup".to_owned(),
            format!("/nowhere/{name}"),
            format!("/nowhere/{name}/../{name}/{}", run_name(&key, run)),
            format!("/nowhere/other/{}", run_name(&key, run)),
            format!("/nowhere/{name}/{}", run_name(&key, RunId::from_random(8))),
            // It exists and is no cgroup.
            state.path().display().to_string(),
        ] {
            assert!(recorded(state.path(), Path::new(&forged), &key, run).is_err(), "{forged}");
        }
    }
}
