//! Where limits can be written: by the controllers of the hierarchy that trees are tracked in, else by those of v1
//! hierarchies; and the reason where neither is possible.

use super::hierarchy::{self, Hierarchy};
use crate::model::limits::Controller;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

/// The leaf that a launcher sits in, so that the group it was started in can have others with controllers below it. It is
/// also what `DelegateSubgroup=` of its systemd unit names.
const LEAF: &str = "launcher";

/// Whether the process may be moved into another cgroup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Process {
    /// It is the launcher's own.
    Ours,
    /// It is a program that the launcher is a part of.
    Embedding,
}

/// By what the limits of runs are enforced.
#[derive(Debug, Default)]
pub(crate) struct Controllers {
    /// Those that the cgroup of a run has which its tree is tracked by.
    tracking: BTreeSet<Controller>,
    /// Of others, the launcher's own cgroup in the v1 hierarchy that has it.
    v1: BTreeMap<Controller, PathBuf>,
    /// Why there is neither.
    missing: BTreeMap<Controller, String>,
}

impl Controllers {
    /// Finds them for runs in `base`, which is below `parent`. What can be is switched on for both.
    pub(super) fn find(parent: &Path, base: &Path, hierarchy: Hierarchy) -> Self {
        let v2 = match hierarchy {
            Hierarchy::V2 => switch_on(parent).and_then(|()| switch_on(base)).map_err(|error| error.to_string()),
            Hierarchy::Freezer | Hierarchy::Limits => Err("trees are tracked by a v1 hierarchy".to_owned()),
        };
        let mut found = Self::default();
        for controller in Controller::ALL {
            if has(base, hierarchy, controller) {
                found.tracking.insert(controller);
                continue;
            }
            match writable_v1(controller) {
                Ok(own) => drop(found.v1.insert(controller, own)),
                Err(v1) => {
                    let name = controller.as_str();
                    let v2 = v2.as_ref().err().map_or_else(
                        || format!("the v2 cgroup {} has no {name} controller", parent.display()),
                        Clone::clone,
                    );
                    found.missing.insert(controller, format!("{v2}, and of v1: {v1}"));
                }
            }
        }
        found
    }

    /// The launcher's cgroups of v1 in which runs that need these controllers have cgroups besides that of their tree.
    pub(super) fn v1_of(&self, needed: &BTreeSet<Controller>) -> BTreeSet<&Path> {
        needed.iter().filter_map(|controller| self.v1.get(controller)).map(PathBuf::as_path).collect()
    }

    /// Whether any is that of the hierarchy that trees are tracked in.
    pub(super) fn track(&self) -> bool {
        !self.tracking.is_empty()
    }

    /// Why a controller cannot be used; `None` when it can.
    pub(super) fn missing(&self, controller: Controller) -> Option<&str> {
        self.missing.get(&controller).map(String::as_str)
    }
}

/// The cgroup that ours may be made in so that they can have controllers, for a process in `own`. It is `own` itself where
/// nothing better is possible.
pub(super) fn domain(own: PathBuf, process: Process) -> PathBuf {
    if words(&own, "cgroup.controllers").is_empty() || is_root(&own) {
        return own;
    }
    if own.file_name().is_some_and(|name| name == LEAF)
        && let Some(parent) = own.parent()
        && members(parent).is_some_and(|pids| pids.is_empty())
        && rustix::fs::access(parent.join("cgroup.subtree_control"), rustix::fs::Access::WRITE_OK).is_ok()
    {
        return parent.to_owned();
    }
    // With others in it, it is not the launcher's own, and they would be in the way of controllers.
    let alone = members(&own).is_some_and(|pids| pids == [std::process::id()]);
    if process == Process::Ours && alone {
        let leaf = own.join(LEAF);
        let moved = super::make_folder(&leaf)
            .and_then(|()| std::fs::write(leaf.join("cgroup.procs"), std::process::id().to_string()));
        if let Err(error) = moved {
            tracing::warn!(cgroup = %leaf.display(), %error, "the launcher cannot move into a cgroup of its own");
        }
    }
    own
}

/// Switches on what is used and is there, for the cgroups below this one. What is on already costs a read.
pub(super) fn switch_on(folder: &Path) -> io::Result<()> {
    let available = words(folder, "cgroup.controllers");
    let on = words(folder, "cgroup.subtree_control");
    let mut failure = None;
    for controller in Controller::ALL.map(Controller::as_str) {
        if available.iter().any(|word| word == controller) && !on.iter().any(|word| word == controller) {
            // One by one: one that cannot be used must not keep the others off.
            if let Err(error) = std::fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}")) {
                let reason = format!("controllers cannot be switched on in {}: {error}", folder.display());
                failure = Some(io::Error::new(error.kind(), reason));
            }
        }
    }
    failure.map_or(Ok(()), Err)
}

/// Whether cgroups below `base` have this controller's files.
fn has(base: &Path, hierarchy: Hierarchy, controller: Controller) -> bool {
    match hierarchy {
        Hierarchy::V2 => words(base, "cgroup.subtree_control").iter().any(|word| word == controller.as_str()),
        // Controllers that are mounted together have their files in one folder.
        Hierarchy::Freezer | Hierarchy::Limits => base.join(probe_file(controller)).exists(),
    }
}

/// The launcher's own cgroup of v1 for a controller, if cgroups can be made below it.
fn writable_v1(controller: Controller) -> io::Result<PathBuf> {
    let own = hierarchy::own_of_v1(controller)?;
    let denied = |error: rustix::io::Errno| {
        io::Error::new(io::ErrorKind::PermissionDenied, format!("{} cannot be written: {error}", own.display()))
    };
    rustix::fs::access(&own, rustix::fs::Access::WRITE_OK).map_err(denied)?;
    rustix::fs::access(own.join("cgroup.procs"), rustix::fs::Access::WRITE_OK).map_err(denied)?;
    Ok(own)
}

/// A file that a v1 cgroup has if its hierarchy has the controller.
const fn probe_file(controller: Controller) -> &'static str {
    match controller {
        Controller::Cpu => "cpu.shares",
        Controller::Memory => "memory.limit_in_bytes",
        Controller::Pids => "pids.current",
    }
}

/// Whether it is the first of its hierarchy, which alone may have processes beside cgroups with controllers.
fn is_root(folder: &Path) -> bool {
    !folder.join("cgroup.type").exists()
}

fn members(folder: &Path) -> Option<Vec<u32>> {
    let pids = std::fs::read_to_string(folder.join("cgroup.procs")).ok()?;
    pids.lines().map(|pid| pid.parse().ok()).collect()
}

fn words(folder: &Path, file: &str) -> Vec<String> {
    let text = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a cgroup.
    fn fake(path: &Path, files: &[(&str, &str)]) -> PathBuf {
        std::fs::create_dir_all(path).expect("a folder");
        for (file, text) in files {
            std::fs::write(path.join(file), text).expect("a file");
        }
        path.to_owned()
    }

    #[test]
    fn cgroups_are_made_where_they_can_have_controllers() {
        let folder = tempfile::tempdir().expect("a folder");
        let none = fake(&folder.path().join("none"), &[("cgroup.controllers", ""), ("cgroup.type", "domain\n")]);
        assert_eq!(domain(none.clone(), Process::Ours), none);
        let root =
            fake(&folder.path().join("root"), &[("cgroup.controllers", "cpu memory\n"), ("cgroup.procs", "1\n")]);
        assert_eq!(domain(root.clone(), Process::Ours), root);
        assert!(!root.join(LEAF).exists(), "the root may have processes");
        // A unit with DelegateSubgroup=launcher.
        let domain_files =
            [("cgroup.controllers", "memory\n"), ("cgroup.type", "domain\n"), ("cgroup.subtree_control", "")];
        let unit = fake(&folder.path().join("unit"), &domain_files);
        fake(&unit, &[("cgroup.procs", "")]);
        let leaf = fake(&unit.join(LEAF), &domain_files);
        fake(&leaf, &[("cgroup.procs", "17\n18\n")]);
        assert_eq!(domain(leaf.clone(), Process::Ours), unit);
        // Somebody else sits in it.
        fake(&unit, &[("cgroup.procs", "16\n")]);
        assert_eq!(domain(leaf.clone(), Process::Ours), leaf);
    }

    #[test]
    fn a_launcher_that_is_alone_moves_aside_and_no_other_does() {
        let folder = tempfile::tempdir().expect("a folder");
        let own = std::process::id().to_string();
        for (procs, process, moves) in [
            (own.clone(), Process::Ours, true),
            (own.clone(), Process::Embedding, false),
            (format!("{own}\n1"), Process::Ours, false),
        ] {
            let group = folder.path().join(format!("{process:?}{}", procs.len()));
            fake(&group, &[("cgroup.controllers", "pids\n"), ("cgroup.type", "domain\n"), ("cgroup.procs", &procs)]);
            assert_eq!(domain(group.clone(), process), group);
            let moved = std::fs::read_to_string(group.join(LEAF).join("cgroup.procs")).ok();
            assert_eq!(moved, moves.then(|| own.clone()), "{procs} {process:?}");
        }
    }

    #[test]
    fn only_what_is_used_is_switched_on_and_only_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let files = [("cgroup.controllers", "cpuset io memory\n"), ("cgroup.subtree_control", "")];
        let group = fake(folder.path(), &files);
        switch_on(&group).expect("on");
        let control = group.join("cgroup.subtree_control");
        assert_eq!(std::fs::read_to_string(&control).expect("text"), "+memory");
        std::fs::write(&control, "memory\n").expect("as the kernel tells it");
        switch_on(&group).expect("on");
        assert_eq!(std::fs::read_to_string(&control).expect("text"), "memory\n");
    }
}
