//! The cgroup that each run is made in: what tells when its tree is gone, and what kills it whole. Limits are not set
//! here. The v2 hierarchy is used, which need not have any controller; where it cannot be written, the v1 freezer.

mod bases;
mod hierarchy;
mod killing;
mod run;

pub use killing::CgroupRung;

pub(crate) use hierarchy::Hierarchy;
pub(crate) use run::RunCgroup;

use super::host::CgroupChoice;
use super::state_folder::Presence;
use crate::error::{Code, Error, Result};
use crate::model::{Key, RunId};
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

/// The folder that the cgroups of this state folder's runs are made in.
#[derive(Debug)]
pub(crate) struct Base {
    path: PathBuf,
    hierarchy: Hierarchy,
    rung: CgroupRung,
    state_dir: PathBuf,
    /// Where the state folder really was.
    real: PathBuf,
    /// Those that launchers before this one used: what lives may be in them.
    earlier: Vec<PathBuf>,
}

/// Why no cgroups are made, as a sentence.
pub(crate) type NoCgroups = String;

impl Base {
    /// Makes the folder where `choice` says. The inner error says why there is none and trees are tracked otherwise.
    pub(crate) fn set_up(choice: &CgroupChoice, state_dir: &Path) -> Result<std::result::Result<Self, NoCgroups>> {
        let own = |hierarchy: Hierarchy| hierarchy.own().and_then(|parent| Self::make(&parent, hierarchy, state_dir));
        let unusable = |error: io::Error| format!("the launcher's own cgroup cannot be used: {error}");
        Ok(match choice {
            CgroupChoice::Off => Err("cgroups are switched off in the configuration".to_owned()),
            CgroupChoice::Under(path) => {
                return Self::under(path, state_dir).map(Ok).map_err(|cause| no_cgroups(path, &cause));
            }
            CgroupChoice::Auto => own(Hierarchy::V2).or_else(|v2| {
                own(Hierarchy::Freezer).map_err(|v1| unusable(io::Error::other(format!("{v2}, and of v1: {v1}"))))
            }),
            CgroupChoice::On(CgroupRung::V1Freezer) => own(Hierarchy::Freezer).map_err(unusable),
            CgroupChoice::On(rung) => own(Hierarchy::V2).map_err(unusable).and_then(|base| base.on(*rung)),
        })
    }

    fn under(path: &Path, state_dir: &Path) -> io::Result<Self> {
        let hierarchy = Hierarchy::presumed(path)?;
        let hierarchy = hierarchy.ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "it is no cgroup"))?;
        Self::make(path, hierarchy, state_dir)
    }

    fn make(parent: &Path, hierarchy: Hierarchy, state_dir: &Path) -> io::Result<Self> {
        let path = parent.join(bases::base_name(state_dir, hierarchy)?);
        make_folder(&path)?;
        if !hierarchy.has(&path)? {
            // It was just made, or is somebody else's and not empty.
            drop(std::fs::remove_dir(&path));
            return Err(io::Error::new(ErrorKind::InvalidInput, "it is in a v1 hierarchy without the freezer"));
        }
        // The one thing that joining needs besides the folder, and what a hierarchy that is mounted read-only denies.
        rustix::fs::access(path.join("cgroup.procs"), rustix::fs::Access::WRITE_OK)?;
        bases::remember(state_dir, &path)?;
        let real = std::fs::canonicalize(state_dir)?;
        let earlier = bases::noted(state_dir).into_iter().filter(|noted| *noted != path).collect();
        let rung = match hierarchy {
            Hierarchy::V2 if path.join("cgroup.kill").exists() => CgroupRung::KillFile,
            Hierarchy::V2 => CgroupRung::FreezeAndLoop,
            Hierarchy::Freezer => CgroupRung::V1Freezer,
        };
        Ok(Self { path, hierarchy, rung, state_dir: state_dir.to_owned(), real, earlier })
    }

    /// The same with this rung, if the kernel has it.
    fn on(self, rung: CgroupRung) -> std::result::Result<Self, NoCgroups> {
        if rung == CgroupRung::KillFile && self.rung != rung {
            return Err("the kernel has no cgroup.kill, which it has since Linux 5.14".to_owned());
        }
        Ok(Self { rung, ..self })
    }

    /// Notes down once more which folders are in use, where that was removed. The state folder is held.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE` when it cannot be written, or the state folder has come to be at another real path: the names of
    /// cgroups hang on that, so that the next launcher would not take over what is in these.
    pub(crate) fn mend(&self) -> Result<Presence> {
        let shown = self.state_dir.display().to_string();
        let unwritten = |cause: io::Error| {
            Error::new(Code::StoreUnavailable, "Which cgroups are in use cannot be written down")
                .with("state_dir", &shown)
                .caused_by(&cause)
                .suggest(format!("df -h {shown}; ls -ld {shown}"))
        };
        let real = std::fs::canonicalize(&self.state_dir).map_err(&unwritten)?;
        if real != self.real {
            let was = self.real.display().to_string();
            return Err(Error::new(Code::StoreUnavailable, "The state folder has come to be at another path")
                .with("was", &was)
                .with("is", real.display())
                .because("the next launcher could not tell that the cgroups of what runs are its own")
                .suggest(format!("put it back at {was}, or end what runs before the launcher is started again")));
        }
        let noted = bases::noted(&self.state_dir);
        let mut presence = Presence::Whole;
        for base in self.earlier.iter().filter(|base| base.exists()).chain([&self.path]) {
            if !noted.contains(base) {
                bases::remember(&self.state_dir, base).map_err(&unwritten)?;
                presence = Presence::Made;
            }
        }
        Ok(presence)
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// In which kind of hierarchy.
    pub(crate) const fn hierarchy(&self) -> Hierarchy {
        self.hierarchy
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
        Ok(RunCgroup { path, rung: self.rung })
    }

    /// Removes every folder of this state folder in which nothing is.
    pub(crate) fn remove_if_empty(&self) {
        for (base, _) in bases::present(&self.state_dir) {
            // It is not empty while runs go on, which is the common case.
            drop(std::fs::remove_dir(base));
        }
    }
}

fn no_cgroups(path: &Path, cause: &io::Error) -> Error {
    Error::new(Code::InvalidConfiguration, "No cgroups can be made where the configuration says")
        .with("path", path.display())
        .caused_by(cause)
        .suggest(format!(
            "check that {} is a v2 cgroup, or one of a v1 freezer, that this user may write to, or leave its choice to \
             the launcher",
            path.display()
        ))
}

/// The cgroups that were ever made for this state folder, in whatever cgroup its launchers ran. Folders that are gone
/// are forgotten.
pub(crate) fn all_ours(state_dir: &Path) -> Vec<RunCgroup> {
    let within = |(base, hierarchy): (PathBuf, Hierarchy)| {
        std::fs::read_dir(base)
            .into_iter()
            .flatten()
            .filter_map(io::Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(move |entry| RunCgroup::found(entry.path(), hierarchy))
    };
    bases::present(state_dir).into_iter().flat_map(within).collect()
}

/// The cgroup that a record names, if it can be one that was made for exactly that run. Nothing else is ever killed on
/// the word of a file.
pub(crate) fn recorded(state_dir: &Path, path: &Path, key: &Key, run: RunId) -> std::result::Result<RunCgroup, String> {
    let plain = path.is_absolute() && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    let named = plain && path.file_name().is_some_and(|found| found == run_name(key, run).as_str());
    let base = path.parent().filter(|_| named).map(|base| bases::kind_of(base, state_dir)).transpose();
    let kind = base.map_err(|error| error.to_string())?.flatten();
    // A folder that is gone is empty.
    let kind = kind.filter(|kind| kind.has(path).unwrap_or_else(|error| error.kind() == ErrorKind::NotFound));
    kind.map(|kind| RunCgroup::found(path.to_owned(), kind))
        .ok_or_else(|| format!("its record names {}, which is not a cgroup made for this run", path.display()))
}

fn run_name(key: &Key, run: RunId) -> String {
    format!("{}.{run}", key.file_name())
}

fn make_folder(path: &Path) -> io::Result<()> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_cannot_name_a_cgroup_that_is_not_its_own() {
        let state = tempfile::tempdir().expect("a folder");
        let key = Key::parse("shared:p").expect("a key");
        let run = RunId::from_random(7);
        for hierarchy in [Hierarchy::V2, Hierarchy::Freezer] {
            let name = bases::base_name(state.path(), hierarchy).expect("a name");
            let own = format!("/nowhere/{name}/{}", run_name(&key, run));
            assert!(recorded(state.path(), Path::new(&own), &key, run).is_ok());
            // A folder of the right name that is no cgroup, or one of another hierarchy.
            let plain = state.path().join(&name).join(run_name(&key, run));
            std::fs::create_dir_all(&plain).expect("a folder");
            for forged in [
                "/sys/fs/cgroup".to_owned(),
                format!("/nowhere/{name}"),
                format!("/nowhere/{name}/../{name}/{}", run_name(&key, run)),
                format!("/nowhere/other/{}", run_name(&key, run)),
                format!("/nowhere/{name}/{}", run_name(&key, RunId::from_random(8))),
                // They exist and are no cgroups.
                state.path().display().to_string(),
                plain.display().to_string(),
            ] {
                assert!(recorded(state.path(), Path::new(&forged), &key, run).is_err(), "{forged}");
            }
        }
    }
}
