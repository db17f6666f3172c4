//! What a reboot of the machine ends: the launched instances of sessions, since whoever opened a session has gone too.
//!
//! Which boot a launcher last ran in is in a small file in the state folder. Without it nothing is known, and nothing is
//! dropped.

use super::files::{Deed, Writer};
use super::planning::render;
use super::refusals::unwritable;
use super::replace::replace;
use crate::desired::instance_file::{Author, parse_instances};
use crate::desired::root::RootSpec;
use crate::desired::scan::Scanner;
use crate::desired::sight::{Outcome, Sight};
use crate::desired::spec::InstanceSpec;
use crate::error::{Code, Error, Result};
use crate::model::{BootId, Instance, IsolationLevel};
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

/// The name of the file in the state folder.
const FILE: &str = "boot-id.json";

/// In which boot a launcher last ran, and in which this one does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boots {
    file: PathBuf,
    last: Option<BootId>,
    now: BootId,
}

impl Boots {
    /// Reads in which boot a launcher last ran.
    pub fn read(state_dir: &Path, now: BootId) -> Self {
        let file = state_dir.join(FILE);
        let text = std::fs::read(&file).ok();
        let last =
            text.and_then(|text| serde_json::from_slice::<String>(&text).ok()).and_then(|text| text.parse().ok());
        Self { file, last, now }
    }

    /// Whether the machine is known to have been restarted since.
    pub fn differ(&self) -> bool {
        self.last.is_some_and(|last| last != self.now)
    }

    /// Notes that a launcher runs in this boot, on disk. To be called once what the reboot ends has ended, and before
    /// anything is launched.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub fn note(&self) -> Result<()> {
        if self.last == Some(self.now) {
            return Ok(());
        }
        self.write()
    }

    /// Notes it once more where somebody has removed it. The state folder is held.
    ///
    /// # Errors
    /// `STORE_UNAVAILABLE`.
    pub fn note_again(&self) -> Result<()> {
        self.write()
    }

    /// Whether the file is there.
    pub fn is_noted(&self) -> bool {
        self.file.exists()
    }

    fn write(&self) -> Result<()> {
        let written = serde_json::to_vec(&self.now.to_string()).map_err(std::io::Error::from);
        written.and_then(|bytes| replace(&self.file, &bytes)).map(drop).map_err(|cause| {
            Error::new(Code::StoreUnavailable, format!("{} cannot be written", self.file.display()))
                .with("file", self.file.display())
                .caused_by(&cause)
                .suggest("make the state folder writable, or give another --state-dir")
        })
    }
}

/// Whether a reboot ends an instance.
pub fn ends_with_boot(instance: &Instance) -> bool {
    instance.origin.api_managed && instance.isolation.level() == IsolationLevel::Session
}

/// Removes what declares sessions from the launch directory, and returns from how many files. Blocks on the file system;
/// when it returns, they are gone from the disk.
///
/// # Errors
/// `STORE_UNAVAILABLE` when the folder cannot be read or a file cannot be removed; others may have been.
pub fn drop_sessions(launch_dir: &Path) -> Result<usize> {
    let spec = RootSpec { api_managed: true, ..RootSpec::open(launch_dir.to_path_buf()) };
    let mut scanner = Scanner::new(spec, Vec::new(), BTreeSet::new(), None);
    let scan = scanner.scan(&BTreeSet::new(), &HashSet::new());
    if let Outcome::Failed(error) = scan.outcome {
        return Err(error);
    }
    let mut deeds = Vec::new();
    for (file, sight) in &scan.seen {
        // What cannot be used declares nothing; it says so in a condition once the store reads it.
        let Sight::Content { bytes, .. } = sight else { continue };
        let Ok(specs) = parse_instances(&launch_dir.join(file), bytes, Author::Launcher) else { continue };
        deeds.extend(without_sessions(file, specs)?);
    }
    for (deed, result) in deeds.iter().zip(Writer::default().carry_out(launch_dir, &deeds)) {
        result.map_err(|failure| unwritable(launch_dir, deed.file(), failure))?;
    }
    Ok(deeds.len())
}

/// What is to be done to a file so that it declares no session; `None` when it does not.
fn without_sessions(file: &Path, specs: Vec<InstanceSpec>) -> Result<Option<Deed>> {
    let declared = specs.len();
    // A document that names a session is of that level, or an error.
    let rest: Vec<InstanceSpec> = specs.into_iter().filter(|spec| spec.session.is_none()).collect();
    let file = file.to_path_buf();
    Ok(if rest.len() == declared {
        None
    } else if rest.is_empty() {
        Some(Deed::Remove { file })
    } else {
        let remark = "Rewritten when the machine had been restarted, which ends sessions.";
        Some(Deed::Replace { file, bytes: render(&rest, remark)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_reboot_is_known_by_another_boot_id_and_only_once() {
        let state = tempfile::tempdir().expect("a folder");
        let boots = |number| Boots::read(state.path(), BootId::from_u128(number));
        assert!(!boots(1).differ(), "nothing is known of the last launcher");
        boots(1).note().expect("noted");
        assert!(!boots(1).differ(), "the same boot");
        assert!(boots(2).differ());
        assert!(boots(2).differ(), "until it is noted");
        boots(2).note().expect("noted");
        assert!(!boots(2).differ());
        fs::write(state.path().join(FILE), "half").expect("written");
        assert!(!boots(3).differ(), "what cannot be read is unknown");
    }

    #[test]
    fn sessions_are_dropped_and_nothing_else() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).expect("written");
        write("session.yaml", "pattern: p\nisolation: session\nnamespace: a\nsession: s\n");
        write("tenant.yaml", "pattern: p\nisolation: namespace\nnamespace: a\n");
        write("both.yaml", "pattern: p\nsession: s\n---\npattern: p\nisolation: none\n");
        write("wrong.yaml", "pattern: [");
        assert_eq!(drop_sessions(folder.path()), Ok(2));
        let mut names: Vec<_> =
            fs::read_dir(folder.path()).expect("a folder").map(|entry| entry.expect("one").file_name()).collect();
        names.sort();
        assert_eq!(names, ["both.yaml", "tenant.yaml", "wrong.yaml"]);
        let left = fs::read(folder.path().join("both.yaml")).expect("text");
        let specs = parse_instances(Path::new("both.yaml"), &left, Author::Launcher).expect("valid");
        assert_eq!(specs.iter().map(|spec| spec.isolation).collect::<Vec<_>>(), [Some(IsolationLevel::None)]);
        assert_eq!(drop_sessions(folder.path()), Ok(0));
    }

    #[test]
    fn a_launch_directory_that_is_not_there_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = drop_sessions(&folder.path().join("missing")).expect_err("missing");
        assert_eq!(error.code(), Code::StoreUnavailable);
    }
}
