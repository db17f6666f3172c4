//! A world of its own for each test: folders, ports, programs, a daemon; and the certainty that nothing is left of it.

pub(crate) mod api;
pub(crate) mod cgroup;
pub(crate) mod command;
pub(crate) mod daemon;
pub(crate) mod dice;
pub(crate) mod disk;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod ports;
pub(crate) mod prismctl;
pub(crate) mod processes;
pub(crate) mod status;
pub(crate) mod wait;

pub(crate) use daemon::{Daemon, Launch};
pub(crate) use prismctl::Prismctl;
pub(crate) use processes::{alive, signal};
pub(crate) use status::Status;
pub(crate) use wait::{holds_for, wait_for, within};

use cgroup::Cgroup;
use disk::Disk;
use pattern_launcher::model::id::short_hash;
use ports::Ports;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;

/// How many instances most tests have at most.
const FEW: u16 = 100;

/// The folders of one test. Dropping it ends every process of its programs.
pub(crate) struct World {
    /// Unmounted before the folder is removed.
    disk: Option<Disk>,
    folder: TempDir,
    ports: Ports,
    cgroup: Option<Cgroup>,
    written: AtomicU32,
}

impl World {
    /// A world with an empty patterns folder, an empty desired folder and room for a hundred instances.
    pub(crate) fn new() -> Self {
        Self::for_instances(FEW)
    }

    /// A world with room for so many instances.
    pub(crate) fn for_instances(count: u16) -> Self {
        Self::within(&std::env::temp_dir(), count)
    }

    /// A world in a folder of `parent`, which decides on which file system it lies.
    pub(crate) fn within(parent: &Path, instances: u16) -> Self {
        let folder = tempfile::Builder::new().prefix("launcher-e2e-").tempdir_in(parent).unwrap();
        // The path without links, since the kernel tells the paths of programs like that.
        let world = Self {
            disk: None,
            folder,
            ports: Ports::reserve(instances),
            cgroup: Cgroup::create(),
            written: AtomicU32::new(0),
        };
        fs::create_dir(world.patterns()).unwrap();
        fs::create_dir(world.desired()).unwrap();
        world
    }

    /// A world whose state folder is a small file system of its own; `None`, said loudly, where none can be mounted.
    pub(crate) fn on_small_disk() -> Option<Self> {
        let mut world = Self::new();
        world.disk = Some(Disk::mount(&world.root().join("disk"), &world.state())?);
        Some(world)
    }

    /// The small file system.
    pub(crate) fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }

    /// The folder that everything lies in.
    pub(crate) fn root(&self) -> PathBuf {
        fs::canonicalize(self.folder.path()).unwrap()
    }

    /// The patterns folder.
    pub(crate) fn patterns(&self) -> PathBuf {
        self.root().join("patterns")
    }

    /// The desired folder.
    pub(crate) fn desired(&self) -> PathBuf {
        self.root().join("desired")
    }

    /// The state folder.
    pub(crate) fn state(&self) -> PathBuf {
        self.root().join("state")
    }

    /// The folder that launched instances are kept in.
    pub(crate) fn launched(&self) -> PathBuf {
        self.root().join("launched")
    }

    /// The names in the folder of launched instances, in order.
    pub(crate) fn launched_files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.launched()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The copies of credentials that there are.
    pub(crate) fn copies(&self) -> Vec<PathBuf> {
        let places = copies_of(&self.state()).into_iter().filter_map(|place| fs::read_dir(place).ok());
        places.flatten().map(|entry| entry.unwrap().path()).collect()
    }

    /// The ports of this world.
    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Where a program of the world is: in its pattern's folder, under the pattern's name.
    pub(crate) fn program(&self, pattern: &str) -> PathBuf {
        self.patterns().join(pattern).join(pattern)
    }

    /// Makes a pattern that runs the example program `example`; `more` is the rest of its manifest.
    pub(crate) fn pattern(&self, name: &str, example: &str, more: &str) {
        fs::create_dir_all(self.patterns().join(name)).unwrap();
        fs::copy(example_program(example), self.program(name)).unwrap();
        self.manifest(name, more);
    }

    /// Writes the manifest of a pattern, in one step.
    pub(crate) fn manifest(&self, name: &str, more: &str) {
        let text = format!("name: {name}\nversion: 1.0.0\nexecutable: ./{name}\n{more}\n");
        self.put(&self.patterns().join(name).join("manifest.yaml"), &text);
    }

    /// Writes a file of instances, in one step.
    pub(crate) fn desire(&self, file: &str, text: &str) {
        self.put(&self.desired().join(file), text);
    }

    /// Declares a pattern for so many namespaces, `n0`, `n1` and on, in one file; `more` is the rest of it.
    pub(crate) fn desire_many(&self, file: &str, pattern: &str, count: usize, more: &str) {
        let names: Vec<String> = (0..count).map(|n| format!("n{n}")).collect();
        self.desire(file, &format!("pattern: {pattern}\nnamespaces: [{}]\n{more}\n", names.join(", ")));
    }

    /// Removes a file of instances.
    pub(crate) fn undesire(&self, file: &str) {
        fs::remove_file(self.desired().join(file)).unwrap();
    }

    /// Writes a file as careful programs do: beside it, then renamed.
    pub(crate) fn put(&self, path: &Path, text: &str) {
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let beside = self.root().join(format!("put-{number}"));
        fs::write(&beside, text).unwrap();
        fs::rename(&beside, path).unwrap();
    }

    /// A daemon that is about to be started on this world's folders.
    pub(crate) fn launch(&self) -> Launch<'_> {
        Launch::new(self)
    }

    /// A daemon on this world's folders, ready.
    pub(crate) fn start(&self) -> Daemon {
        self.launch().start()
    }

    /// The processes of a pattern that live, by their process ids (the launcher's word for keys).
    pub(crate) fn processes(&self, pattern: &str) -> processes::ByKey {
        processes::of_program(&self.program(pattern))
    }

    /// The cgroup that the daemon is told to use.
    pub(crate) fn cgroup(&self) -> Option<&Path> {
        self.cgroup.as_ref().map(Cgroup::path)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let root = self.root();
        // Processes go on making others until they are dead themselves, so look until none is left.
        let gone = within(std::time::Duration::from_secs(10), || {
            let left = processes::with_programs_below(&root);
            for pid in &left {
                signal(*pid, "KILL");
            }
            left.is_empty()
        });
        if !gone {
            eprintln!("processes of {} are still there", root.display());
        }
        clear_up(&root);
    }
}

/// Where the launcher of a state folder puts the copies of credentials.
fn copies_of(state: &Path) -> [PathBuf; 3] {
    let name = format!("pattern-launcher-credentials-{}", short_hash(state.as_os_str().as_encoded_bytes()));
    [Path::new("/run").join(&name), Path::new("/dev/shm").join(&name), state.join("credentials")]
}

/// Removes what launchers that were killed, and that no other has taken over, have outside of their state folders: cgroups,
/// which are empty by now, and copies of credentials. They are found by the state folders below `folder`.
fn clear_up(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name() == "cgroup-base" {
            let Ok(bases) = fs::read_to_string(&path) else { continue };
            bases.lines().for_each(|base| cgroup::remove(Path::new(base)));
        } else if entry.file_name() == "memory.log" {
            // Most were never given any.
            for place in copies_of(folder) {
                drop(fs::remove_dir_all(place));
            }
        } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            clear_up(&path);
        }
    }
}

/// A program of `examples/`, which the build puts beside the daemon.
pub(crate) fn example_program(name: &str) -> PathBuf {
    let daemon = Path::new(env!("CARGO_BIN_EXE_pattern-launcher"));
    let program = daemon.parent().unwrap().join("examples").join(name);
    assert!(program.exists(), "{} is not built: cargo build --examples", program.display());
    program
}
