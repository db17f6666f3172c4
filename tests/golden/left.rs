//! What a launcher left, in a folder of this test's own.

use pattern_launcher::act::{Loaded, Records};
use pattern_launcher::model::{BootId, Instance, Memory, Moment, RunRecord};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// Where the launcher that wrote it found its folders.
const THEN: &str = "/srv/golden";

/// Everything that the launcher of one version left.
pub(crate) struct Left {
    folder: TempDir,
    pub(crate) records: Records,
    pub(crate) loaded: Loaded,
    pub(crate) boot: BootId,
}

impl Left {
    /// Reads what the launchers of version 1 left, as one that starts does.
    pub(crate) fn by_version_1() -> Self {
        let folder = tempfile::tempdir().unwrap();
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1"), folder.path());
        let state = folder.path().join("state");
        let boot: String = serde_json::from_slice(&fs::read(state.join("boot-id.json")).unwrap()).unwrap();
        let boot = boot.parse().unwrap();
        let (records, loaded) = Records::open(&state, boot).unwrap();
        Self { folder, records, loaded, boot }
    }

    /// A folder of the world that was left.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The moment after the last thing that happened.
    pub(crate) fn now(&self) -> Moment {
        self.loaded.events.last().unwrap().at.after(Duration::from_secs(1))
    }

    /// The memories, as they would be had the world stood where it stands now.
    pub(crate) fn memories(&self) -> Vec<Memory> {
        let here = |memory: &Memory| Memory { instance: self.here(&memory.instance), ..memory.clone() };
        self.loaded.memories.iter().map(here).collect()
    }

    /// The records of the runs, likewise.
    pub(crate) fn runs(&self) -> Vec<RunRecord> {
        let mut runs = self.loaded.runs.clone();
        for run in &mut runs {
            let launch = Arc::make_mut(&mut run.launch);
            launch.pattern.folder = self.moved(&launch.pattern.folder);
        }
        runs
    }

    fn here(&self, instance: &Instance) -> Arc<Instance> {
        let mut instance = instance.clone();
        let launch = Arc::make_mut(&mut instance.content.launch);
        launch.pattern.folder = self.moved(&launch.pattern.folder);
        instance.origin.root = self.moved(&instance.origin.root);
        Arc::new(instance)
    }

    fn moved(&self, path: &Path) -> PathBuf {
        self.folder.path().join(path.strip_prefix(THEN).unwrap())
    }
}

/// Copies a folder with its modes.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}
