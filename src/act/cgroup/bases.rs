//! Which folders of ours may still hold something, whatever cgroup the launchers of a state folder ran in.

use super::hierarchy::Hierarchy;
use crate::model::id::short_hash;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// The file of the state folder that names them.
const BASES: &str = "cgroup-base";

/// The name of a folder of ours: one per state folder and kind of hierarchy, so that two launchers in one cgroup keep
/// apart, and a path says by what its cgroup is killed.
pub(super) fn base_name(state_dir: &Path, hierarchy: Hierarchy) -> io::Result<String> {
    let resolved = std::fs::canonicalize(state_dir)?;
    let prefix = match hierarchy {
        Hierarchy::V2 => crate::model::V2_BASE,
        Hierarchy::Freezer => crate::model::FREEZER_BASE,
    };
    Ok(format!("{prefix}{}", short_hash(resolved.as_os_str().as_bytes())))
}

/// Which kind of hierarchy a folder is said to be in by its name, if that is one of ours.
pub(super) fn kind_of(base: &Path, state_dir: &Path) -> io::Result<Option<Hierarchy>> {
    for hierarchy in [Hierarchy::V2, Hierarchy::Freezer] {
        let name = base_name(state_dir, hierarchy)?;
        if base.file_name().is_some_and(|found| found == name.as_str()) {
            return Ok(Some(hierarchy));
        }
    }
    Ok(None)
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
    std::fs::write(&draft, lines.concat())?;
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
