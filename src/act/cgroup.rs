//! The cgroup that each run is made in: what tells when its tree is gone, what kills it whole, and what limits it. The v2
//! hierarchy is used, which need not have any controller; where it cannot be written, the v1 freezer. Controllers that
//! neither has are those of v1: a run that needs one is in a cgroup of it besides.
//!
//! ```text
//! <the launcher's own>/pattern-launcher-<state folder>/namespace.<namespace>/<key>.<run>
//!                                                      shared/<key>.<run>                  (level none)
//! ```

mod bases;
mod controllers;
mod hierarchy;
mod killing;
mod limits;
mod run;
mod tenants;
mod used;

pub use killing::CgroupRung;

pub(crate) use controllers::Process;
pub(crate) use hierarchy::Hierarchy;
pub(crate) use limits::{enforce, needed, unlimited};
pub(crate) use run::RunCgroup;
pub(crate) use used::{Counters, Pressure};

use super::host::CgroupChoice;
use super::state_folder::Presence;
use crate::error::{Code, Error, Result};
use crate::model::limits::Controller;
use crate::model::{Ceilings, Key, RunId};
use controllers::Controllers;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// How often a cgroup is tried to be made that somebody tidies up around.
const TRIES: usize = 3;

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
    controllers: Controllers,
    /// Other folders of ours that were made by this launcher, in v1 hierarchies. Held while any is made and noted down.
    made: Mutex<Vec<PathBuf>>,
    /// What the groups of namespaces are held to.
    ceilings: Mutex<Ceilings>,
}

/// Why no cgroups are made, as a sentence.
pub(crate) type NoCgroups = String;

impl Base {
    /// Makes the folder where `choice` says. The inner error says why there is none and trees are tracked otherwise.
    pub(crate) fn set_up(
        choice: &CgroupChoice,
        process: Process,
        state_dir: &Path,
    ) -> Result<std::result::Result<Self, NoCgroups>> {
        let own = |hierarchy: Hierarchy| {
            let own = hierarchy.own()?;
            let parent = if hierarchy == Hierarchy::V2 { controllers::domain(own, process) } else { own };
            Self::make(&parent, hierarchy, state_dir)
        };
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
            Hierarchy::Freezer | Hierarchy::Limits => CgroupRung::V1Freezer,
        };
        let controllers = Controllers::find(parent, &path, hierarchy);
        let state_dir = state_dir.to_owned();
        let (made, ceilings) = (Mutex::default(), Mutex::default());
        Ok(Self { path, hierarchy, rung, state_dir, real, earlier, controllers, made, ceilings })
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
        let made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        for base in self.earlier.iter().chain(&*made).filter(|base| base.exists()).chain([&self.path]) {
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

    /// Why a controller cannot be used; `None` when it can.
    pub(crate) fn missing(&self, controller: Controller) -> Option<&str> {
        self.controllers.missing(controller)
    }

    /// Whether the kernel may hold a run to anything: not one of ours that no controller is beside or above.
    pub(crate) fn may_limit(&self, run: &RunCgroup) -> bool {
        !run.limits.is_empty() || self.controllers.track() || !run.path.starts_with(&self.path)
    }

    /// Makes the cgroup of a run, and those beside it that it needs to have these controllers. One of those that cannot be
    /// made is left out: the limit is then not in force, which is told.
    pub(crate) fn create(&self, key: &Key, run: RunId, needed: &BTreeSet<Controller>) -> io::Result<RunCgroup> {
        let path = self.make_run(&self.path, self.hierarchy, key, run)?;
        let mut limits = Vec::new();
        let needed = &self.needed_by(key.namespace()) | needed;
        for parent in self.controllers.v1_of(&needed) {
            let made = bases::base_name(&self.state_dir, Hierarchy::Limits)
                .and_then(|name| self.make_run(&parent.join(name), Hierarchy::Limits, key, run));
            match made {
                Ok(folder) => limits.push(folder),
                Err(error) => {
                    tracing::warn!(%key, parent = %parent.display(), %error, "a cgroup that limits a run cannot be made");
                }
            }
        }
        Ok(RunCgroup { path, rung: self.rung, limits })
    }

    /// The folders above it are there but for the first run of a namespace, or when somebody has tidied up around us.
    fn make_run(&self, base: &Path, hierarchy: Hierarchy, key: &Key, run: RunId) -> io::Result<PathBuf> {
        let tenant = base.join(bases::tenant_name(key.namespace()));
        let path = tenant.join(run_name(key, run));
        for _ in 1..TRIES {
            match std::fs::create_dir(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => self.make_tenant(base, hierarchy, &tenant)?,
                made => return made.map(|()| path),
            }
        }
        std::fs::create_dir(&path).map(|()| path)
    }

    fn make_tenant(&self, base: &Path, hierarchy: Hierarchy, tenant: &Path) -> io::Result<()> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if !base.exists() {
            bases::remember(&self.state_dir, base)?;
            make_folder(base)?;
        }
        if base != self.path && made.iter().all(|known| known != base) {
            made.push(base.to_owned());
        }
        if hierarchy == Hierarchy::V2 {
            drop(controllers::switch_on(base));
        }
        match make_folder(tenant) {
            // Removed again in this moment: whoever makes a run tries again.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            made => made?,
        }
        if hierarchy == Hierarchy::V2 {
            // What is missing below shows in what is read back.
            drop(controllers::switch_on(tenant));
        }
        self.bound(tenant, hierarchy);
        Ok(())
    }

    /// Removes every folder of this state folder in which nothing is.
    pub(crate) fn remove_if_empty(&self) {
        tidy(&self.state_dir, |_| false);
        for (base, _) in bases::present(&self.state_dir) {
            // It is not empty while runs go on, which is the common case.
            drop(std::fs::remove_dir(base));
        }
    }
}

/// Removes what nothing is in any more: cgroups beside that of a run that is gone, as a launcher leaves them that dies in
/// between, and groups of namespaces without a run. `is_busy` says of which runs something is still to be read or made.
pub(crate) fn tidy(state_dir: &Path, is_busy: impl Fn(&str) -> bool) {
    for (base, hierarchy) in bases::present(state_dir) {
        if hierarchy == Hierarchy::Limits {
            let left = bases::runs_in(&base).map(|path| RunCgroup::found(path, hierarchy, Vec::new()));
            for run in left.filter(|run| !is_busy(&run.run_name())) {
                drop(run.remove());
            }
        }
        for tenant in bases::tenants_in(&base) {
            // The kernel keeps those in which there is something.
            drop(std::fs::remove_dir(tenant));
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

/// The cgroups of runs that were ever made for this state folder, in whatever cgroup its launchers ran.
pub(crate) fn all_ours(state_dir: &Path) -> Vec<RunCgroup> {
    let beside = Beside::of(state_dir);
    let tracking = bases::present(state_dir).into_iter().filter(|(_, hierarchy)| *hierarchy != Hierarchy::Limits);
    tracking
        .flat_map(|(base, hierarchy)| bases::runs_in(&base).map(move |path| (path, hierarchy)))
        .map(|(path, hierarchy)| beside.found(path, hierarchy))
        .collect()
}

/// Where the cgroups can be that runs have beside that of their tree.
#[derive(Debug)]
pub(crate) struct Beside(Vec<PathBuf>);

impl Beside {
    /// For the runs of a state folder.
    pub(crate) fn of(state_dir: &Path) -> Self {
        let present = bases::present(state_dir).into_iter();
        Self(present.filter(|(_, hierarchy)| *hierarchy == Hierarchy::Limits).map(|(base, _)| base).collect())
    }

    /// A cgroup that is there, or was, with those beside it.
    fn found(&self, path: PathBuf, hierarchy: Hierarchy) -> RunCgroup {
        let mut names = path.iter().rev();
        let limits = match (names.next(), names.next()) {
            (Some(run), Some(tenant)) => {
                self.0.iter().map(|base| base.join(tenant).join(run)).filter(|folder| folder.exists()).collect()
            }
            _ => Vec::new(),
        };
        RunCgroup::found(path, hierarchy, limits)
    }
}

/// The cgroup that a record names, if it can be one that was made for exactly that run. Nothing else is ever killed on
/// the word of a file.
pub(crate) fn recorded(
    state_dir: &Path,
    beside: &Beside,
    path: &Path,
    key: &Key,
    run: RunId,
) -> std::result::Result<RunCgroup, String> {
    let plain = path.is_absolute() && path.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    let named = plain && path.file_name().is_some_and(|found| found == run_name(key, run).as_str());
    let base = bases::base_of(path, key.namespace()).filter(|_| named);
    let kind = base.map(|base| bases::kind_of(base, state_dir)).transpose().map_err(|error| error.to_string())?;
    let kind = kind.flatten().filter(|kind| *kind != Hierarchy::Limits);
    // A folder that is gone is empty.
    let kind = kind.filter(|kind| kind.has(path).unwrap_or_else(|error| error.kind() == ErrorKind::NotFound));
    kind.map(|kind| beside.found(path.to_owned(), kind))
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
        let beside = Beside::of(state.path());
        let recorded =
            |state_dir: &Path, path: &Path, key: &Key, run| super::recorded(state_dir, &beside, path, key, run);
        let limits = bases::base_name(state.path(), Hierarchy::Limits).expect("a name");
        for hierarchy in [Hierarchy::V2, Hierarchy::Freezer] {
            let name = bases::base_name(state.path(), hierarchy).expect("a name");
            let own = format!("/nowhere/{name}/{}", run_name(&key, run));
            assert!(recorded(state.path(), Path::new(&own), &key, run).is_ok());
            let grouped = format!("/nowhere/{name}/shared/{}", run_name(&key, run));
            assert!(recorded(state.path(), Path::new(&grouped), &key, run).is_ok());
            // A folder of the right name that is no cgroup, or one of another hierarchy.
            let plain = state.path().join(&name).join(run_name(&key, run));
            std::fs::create_dir_all(&plain).expect("a folder");
            for forged in [
                "/sys/fs/cgroup".to_owned(),
                format!("/nowhere/{name}"),
                format!("/nowhere/{name}/../{name}/{}", run_name(&key, run)),
                format!("/nowhere/other/{}", run_name(&key, run)),
                // The group of another namespace, and a hierarchy in which nothing is tracked.
                format!("/nowhere/{name}/namespace.a/{}", run_name(&key, run)),
                format!("/nowhere/{limits}/shared/{}", run_name(&key, run)),
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
