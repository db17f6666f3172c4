//! Which folders of ours may still hold something, whatever cgroup the launchers of a state folder ran in.

use super::hierarchy::Hierarchy;
use crate::model::id::short_hash;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// The kinds of folders of ours.
const KINDS: [Hierarchy; 3] = [Hierarchy::V2, Hierarchy::Freezer, Hierarchy::Limits];
/// The group of the runs that are in no namespace.
const SHARED: &str = "shared";
/// How the name of a namespace's group begins.
const TENANT: &str = "namespace.";
/// The file of the state folder that names them.
const BASES: &str = "cgroup-base";

/// The name of a folder of ours: one per state folder and kind of hierarchy, so that two launchers in one cgroup keep
/// apart, and a path says by what its cgroup is killed.
pub(super) fn base_name(state_dir: &Path, hierarchy: Hierarchy) -> io::Result<String> {
    let resolved = std::fs::canonicalize(state_dir)?;
    let prefix = match hierarchy {
        Hierarchy::V2 => crate::model::V2_BASE,
        Hierarchy::Freezer => crate::model::FREEZER_BASE,
        Hierarchy::Limits => crate::model::LIMITS_BASE,
    };
    Ok(format!("{prefix}{}", short_hash(resolved.as_os_str().as_bytes())))
}

/// Which kind of hierarchy a folder is said to be in by its name, if that is one of ours.
pub(super) fn kind_of(base: &Path, state_dir: &Path) -> io::Result<Option<Hierarchy>> {
    for hierarchy in KINDS {
        let name = base_name(state_dir, hierarchy)?;
        if base.file_name().is_some_and(|found| found == name.as_str()) {
            return Ok(Some(hierarchy));
        }
    }
    Ok(None)
}

/// The name of the group that the cgroups of a namespace's runs are in; of level `none` it is `shared`. No name of a run's
/// own cgroup begins like it.
pub(super) fn tenant_name(namespace: &str) -> String {
    if namespace.is_empty() { SHARED.to_owned() } else { format!("{TENANT}{namespace}") }
}

/// The namespace of a group of that name; `None` if it is not one.
pub(super) fn tenant_of(name: &str) -> Option<&str> {
    if name == SHARED { Some("") } else { name.strip_prefix(TENANT) }
}

/// The folders below a cgroup.
pub(super) fn folders_in(cgroup: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(cgroup).into_iter().flatten().filter_map(io::Result::ok);
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// The groups of namespaces in a folder of ours.
pub(super) fn tenants_in(base: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    folders_in(base).filter(|folder| is_tenant(folder))
}

/// The cgroups of runs in a folder of ours. Those of launchers that made no groups of namespaces are in it directly.
pub(super) fn runs_in(base: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    folders_in(base).flat_map(|folder| {
        let (run, below) = if is_tenant(&folder) { (None, Some(folders_in(&folder))) } else { (Some(folder), None) };
        run.into_iter().chain(below.into_iter().flatten())
    })
}

fn is_tenant(folder: &Path) -> bool {
    folder.file_name().is_some_and(|name| tenant_of(&name.to_string_lossy()).is_some())
}

/// The folder of ours that the cgroup of a run must be in for its name to be believed: the run is in the group of its
/// namespace, or directly in it.
pub(super) fn base_of<'a>(run: &'a Path, namespace: &str) -> Option<&'a Path> {
    let parent = run.parent()?;
    let grouped = parent.file_name().is_some_and(|name| name == tenant_name(namespace).as_str());
    if grouped { parent.parent() } else { Some(parent) }
}

/// Those of the named folders that are there, with what they are.
pub(super) fn present(state_dir: &Path) -> Vec<(PathBuf, Hierarchy)> {
    let is_ours = |base: PathBuf| {
        let hierarchy = kind_of(&base, state_dir).ok()??;
        hierarchy.has(&base).unwrap_or(false).then_some((base, hierarchy))
    };
    noted(state_dir).into_iter().filter_map(is_ours).collect()
}

/// Notes down a folder of ours before anything is made in it, and forgets those that are gone.
pub(super) fn remember(state_dir: &Path, base: &Path) -> io::Result<()> {
    let known = noted(state_dir);
    let mut kept: Vec<&Path> = known.iter().map(PathBuf::as_path).filter(|known| known.exists()).collect();
    if !kept.contains(&base) {
        kept.push(base);
    }
    if kept.iter().eq(known.iter()) {
        return Ok(());
    }
    let lines: Vec<String> = kept.iter().map(|path| format!("{}\n", path.display())).collect();
    let draft = state_dir.join(format!(".{BASES}.new"));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(lines.concat().as_bytes())?;
    std::fs::rename(&draft, state_dir.join(BASES))
}

pub(super) fn noted(state_dir: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string(state_dir.join(BASES)).unwrap_or_default();
    text.lines().map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_noted_once_and_forgotten_when_it_is_gone() {
        let state = tempfile::tempdir().expect("a folder");
        let [old, new] = ["old", "new"].map(|name| state.path().join(name));
        for folder in [&old, &new] {
            std::fs::create_dir(folder).expect("a folder");
            remember(state.path(), folder).expect("noted");
            remember(state.path(), folder).expect("noted");
        }
        assert_eq!(noted(state.path()), [old.clone(), new.clone()]);
        // One goes as another comes.
        std::fs::remove_dir(&old).expect("removed");
        let newest = state.path().join("newest");
        std::fs::create_dir(&newest).expect("a folder");
        remember(state.path(), &newest).expect("noted");
        assert_eq!(noted(state.path()), [new, newest]);
    }

    #[test]
    fn no_run_is_taken_for_a_group_and_no_group_for_a_run() {
        for namespace in ["", "a", "shared", "x.6f9619ff-8b86-d011-b42d-00c04fc964ff", "namespace.a"] {
            assert_eq!(tenant_of(&tenant_name(namespace)), Some(namespace));
        }
        for key in ["shared:p", "ns:shared:p", "session:a:s:p"] {
            let key = crate::model::Key::parse(key).expect("a key");
            assert_eq!(tenant_of(&format!("{}.x", key.file_name())), None);
        }
        let folder = tempfile::tempdir().expect("a folder");
        for made in ["namespace.a/ns-a-p.1", "shared/shared-p.2", "ns-b-p.3"] {
            std::fs::create_dir_all(folder.path().join(made)).expect("folders");
        }
        let mut runs: Vec<_> = runs_in(folder.path()).filter_map(|run| Some(run.file_name()?.to_owned())).collect();
        runs.sort();
        assert_eq!(runs, ["ns-a-p.1", "ns-b-p.3", "shared-p.2"]);
        assert_eq!(base_of(Path::new("/b/namespace.a/r"), "a"), Some(Path::new("/b")));
        assert_eq!(base_of(Path::new("/b/namespace.a/r"), "b"), Some(Path::new("/b/namespace.a")), "not its own");
        assert_eq!(base_of(Path::new("/b/r"), "a"), Some(Path::new("/b")));
    }

    #[test]
    fn what_launchers_of_version_1_wrote_is_read() {
        let state = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1/state"));
        let then = "/sys/fs/cgroup/unified/pattern-launcher-b466be765bc7e6321e6e17f91228913c";
        assert_eq!(noted(state), [PathBuf::from(then)]);
        // Of /srv/golden/state: a name that is made otherwise would leave what is in there to nobody.
        assert_eq!(
            format!("{}{}", crate::model::V2_BASE, short_hash(b"/srv/golden/state")),
            then.rsplit('/').next().expect("a name")
        );
    }
}
