//! A cgroup for one test, so that what a killed daemon leaves can be found and removed.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A v2 cgroup below the one that the tests run in. Dropping it kills what is in it and removes it.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one; `None` where no v2 hierarchy can be written.
    pub(crate) fn create() -> Option<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = own()?.join(format!("launcher-e2e-{}-{number}", own_name()));
        match fs::create_dir(&path) {
            Ok(()) => Some(Self(path)),
            Err(error) => {
                eprintln!("no cgroup for this test ({error}): the daemon tracks by process group");
                None
            }
        }
    }

    /// Where it is in the file system.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Absent before Linux 5.14; then only what lives keeps the folder, and the world has killed that.
        drop(fs::write(self.0.join("cgroup.kill"), "1"));
        let gone = super::within(Duration::from_secs(5), || {
            remove(&self.0);
            !self.0.exists()
        });
        if !gone {
            eprintln!("{} cannot be removed", self.0.display());
        }
    }
}

/// Groups in the hierarchies of v1 that have these controllers, below those that the tests run in; only where there are
/// any. Dropping it removes them.
pub(crate) struct V1Groups(Vec<PathBuf>);

impl V1Groups {
    /// Makes them.
    pub(crate) fn create(controllers: &[&str]) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("launcher-e2e-{}-{number}", own_name());
        let all = controllers.iter().filter_map(|controller| Some(own_of_v1(controller)?.join(&name)));
        Self(all.filter(|path| fs::create_dir(path).is_ok()).collect())
    }

    /// Where they are.
    pub(crate) fn paths(&self) -> &[PathBuf] {
        &self.0
    }
}

impl Drop for V1Groups {
    fn drop(&mut self) {
        for path in &self.0 {
            if !super::within(Duration::from_secs(5), || {
                remove(path);
                !path.exists()
            }) {
                eprintln!("{} cannot be removed", path.display());
            }
        }
    }
}

/// Gives a group to a user, as delegation does: those below it are then the user's to make.
pub(crate) fn delegate(group: &Path, user: u32) {
    let own = |path: &Path| std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    own(group);
    for file in ["cgroup.procs", "cgroup.threads", "cgroup.subtree_control", "tasks"] {
        if group.join(file).exists() {
            own(&group.join(file));
        }
    }
}

/// The v1 cgroup that this process is in.
fn own_of_v1(controller: &str) -> Option<PathBuf> {
    let has = |list: &str| list.split(',').any(|word| word == controller);
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mounts.find(|fields| fields[2] == "cgroup" && has(fields[3]))?;
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mut fields = cgroups.lines().map(|line| line.splitn(3, ':').collect::<Vec<_>>());
    let own = fields.find(|fields| has(fields[1]))?;
    Some(Path::new(mount[1]).join(own[2].trim_start_matches('/')))
}

/// Removes a cgroup and those below it, as far as they are empty.
pub(crate) fn remove(cgroup: &Path) {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove(&entry.path());
        }
    }
    drop(fs::remove_dir(cgroup));
}

/// What this process is known by on the whole machine: in a pid namespace its pid is the number of others too.
fn own_name() -> String {
    let namespace = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let digits: String = namespace.to_string_lossy().chars().filter(char::is_ascii_digit).collect();
    format!("{digits}-{}", std::process::id())
}

/// The v2 cgroup that this process is in, as a path of the file system.
fn own() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).find(|fields| fields[2] == "cgroup2")?;
    let cgroups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let within = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    Some(Path::new(mount[1]).join(within))
}

/// A cgroup of the v1 freezer: a place for a launcher, or for one process that is to stand still. Dropping it thaws and
/// removes it.
pub(crate) struct V1Freezer(PathBuf);

impl V1Freezer {
    /// Makes one; `None` where there is no v1 freezer that can be written.
    pub(crate) fn create() -> Option<Self> {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = PathBuf::from(format!("/sys/fs/cgroup/freezer/launcher-e2e-{}-{number}", own_name()));
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }

    /// Where it is in the file system.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Takes a process in and holds it still: it does not even die of SIGKILL.
    pub(crate) fn freeze(&self, pid: i32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
        fs::write(self.0.join("freezer.state"), "FROZEN").unwrap();
    }

    /// Lets what is held go on.
    pub(crate) fn thaw(&self) {
        fs::write(self.0.join("freezer.state"), "THAWED").unwrap();
    }
}

impl Drop for V1Freezer {
    fn drop(&mut self) {
        drop(fs::write(self.0.join("freezer.state"), "THAWED"));
        let gone = super::within(Duration::from_secs(5), || {
            remove(&self.0);
            !self.0.exists()
        });
        if !gone {
            eprintln!("{} cannot be removed", self.0.display());
        }
    }
}
