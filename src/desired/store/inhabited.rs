//! Which folder each root was when it last had a file in it, kept across restarts: an empty root that is another folder
//! than that may be a mount point without its file system.

use super::replace::replace;
use crate::desired::scan::Identity;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(super) struct Inhabited {
    file: PathBuf,
    known: BTreeMap<PathBuf, Identity>,
    /// Which file says so, if one does.
    on_disk: Option<Identity>,
    /// Whether the last attempt to write failed; told once.
    failed: bool,
}

impl Inhabited {
    /// What the last launcher wrote. When that is lost, an empty root is believed unless the guard holds it.
    pub(super) fn read(state_dir: &Path) -> Self {
        let file = state_dir.join("desired-roots.json");
        let known = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let on_disk = Identity::of(&file).ok();
        Self { file, known, on_disk, failed: false }
    }

    pub(super) fn of(&self, root: &Path) -> Option<Identity> {
        self.known.get(root).copied()
    }

    /// Writes what is known now, if that is news, or if somebody has removed what was written.
    pub(super) fn write<'a>(&mut self, roots: impl Iterator<Item = (&'a PathBuf, Option<Identity>)>) {
        let mut known = self.known.clone();
        known.extend(roots.filter_map(|(path, identity)| Some((path.clone(), identity?))));
        if known == self.known && self.on_disk == Identity::of(&self.file).ok() {
            return;
        }
        let written = serde_json::to_vec(&known).map_err(std::io::Error::from);
        match written.and_then(|bytes| replace(&self.file, &bytes)) {
            Ok(identity) => {
                self.known = known;
                self.on_disk = Some(identity);
                self.failed = false;
            }
            // It is news until it is on disk.
            Err(error) if !self.failed => {
                self.failed = true;
                tracing::warn!(file = %self.file.display(), %error, "which folders the roots are could not be written");
            }
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt as _;

    #[test]
    fn s14_what_is_on_disk_already_is_not_written_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let (state, root) = (folder.path().join("state"), folder.path().join("root"));
        std::fs::create_dir(&root).expect("a root");
        let identity = Identity::of(&root).expect("it is there");
        let written = || std::fs::metadata(state.join("desired-roots.json")).expect("it is there").ino();
        let mut inhabited = Inhabited::read(&state);
        inhabited.write([(&root, Some(identity))].into_iter());
        std::fs::create_dir(&state).expect("there is space again");
        inhabited.write([(&root, Some(identity))].into_iter());
        let before = written();
        inhabited.write([(&root, Some(identity))].into_iter());
        inhabited.write([(&root, None)].into_iter());
        let mut next = Inhabited::read(&state);
        next.write([(&root, Some(identity))].into_iter());
        assert_eq!((written(), next.of(&root)), (before, Some(identity)));
        std::fs::remove_file(state.join("desired-roots.json")).expect("somebody removes it");
        next.write([(&root, None)].into_iter());
        assert_eq!(Inhabited::read(&state).of(&root), Some(identity), "it is made again");
        let before = written();
        let other = Identity::of(&state).expect("it is there");
        next.write([(&root, Some(other))].into_iter());
        assert_ne!(written(), before);
    }

    #[test]
    fn what_launchers_of_version_1_wrote_is_read() {
        let then = Inhabited::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/v1/state")));
        let known = |root: &str| then.of(Path::new(root)).is_some();
        assert!(["/srv/golden/desired", "/srv/golden/tenants", "/srv/golden/launched"].into_iter().all(known));
        let identity = serde_json::to_value(then.of(Path::new("/srv/golden/desired"))).expect("JSON");
        assert_eq!(identity, serde_json::json!({ "device": 65024, "inode": 836_400 }));
    }
}
