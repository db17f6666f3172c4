//! The kinds of hierarchy that cgroups of runs are made in, and where this process is in them.

use crate::model::limits::Controller;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What the kernel says is the type of a v2 cgroup file system.
const CGROUP2_MAGIC: i64 = 0x6367_7270;
/// And of a v1 one, whatever its controllers.
const CGROUP1_MAGIC: i64 = 0x0027_e0eb;

/// A kind of hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// The unified one, which need not have any controller.
    V2,
    /// A v1 hierarchy that has the freezer.
    Freezer,
    /// A v1 hierarchy by which runs are limited that are tracked in another.
    Limits,
}

/// What a hierarchy is looked for by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    V2,
    V1(&'static str),
}

impl Hierarchy {
    /// Whether a folder that exists is a cgroup of this kind, and not the first of its hierarchy.
    pub(super) fn has(self, path: &Path) -> io::Result<bool> {
        let magic = rustix::fs::statfs(path)?.f_type;
        Ok(match self {
            Self::V2 => magic == CGROUP2_MAGIC,
            Self::Freezer => magic == CGROUP1_MAGIC && path.join("freezer.state").exists(),
            Self::Limits => magic == CGROUP1_MAGIC,
        })
    }

    /// Which kind a folder can only be of; `None` when it is in no hierarchy of cgroups.
    pub(super) fn presumed(path: &Path) -> io::Result<Option<Self>> {
        Ok(match rustix::fs::statfs(path)?.f_type {
            CGROUP2_MAGIC => Some(Self::V2),
            CGROUP1_MAGIC => Some(Self::Freezer),
            _ => None,
        })
    }

    /// The cgroup of this process as a path of the file system, in a hierarchy that trees can be tracked in.
    pub(super) fn own(self) -> io::Result<PathBuf> {
        match self {
            Self::V2 => Wanted::V2.own(),
            Self::Freezer => Wanted::V1("freezer").own(),
            Self::Limits => Err(io::Error::new(ErrorKind::Unsupported, "trees are not tracked in it")),
        }
    }
}

/// The cgroup of this process in the v1 hierarchy of a controller, as a path of the file system.
pub(super) fn own_of_v1(controller: Controller) -> io::Result<PathBuf> {
    Wanted::V1(controller.as_str()).own()
}

impl Wanted {
    fn own(self) -> io::Result<PathBuf> {
        let cgroups = std::fs::read_to_string("/proc/self/cgroup")?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
        let (absent, hidden) = match self {
            Self::V2 => (
                "the kernel has no v2 hierarchy mounted".to_owned(),
                "no v2 hierarchy is mounted that shows it".to_owned(),
            ),
            Self::V1(controller) => (
                format!("the kernel has no v1 {controller} hierarchy mounted"),
                format!("no v1 {controller} hierarchy is mounted that shows it"),
            ),
        };
        let own = cgroups.lines().find_map(|line| self.membership(line));
        let own = own.ok_or_else(|| io::Error::new(ErrorKind::Unsupported, absent))?;
        let found = mounts.lines().find_map(|line| self.locate(line, own));
        found.ok_or_else(|| io::Error::new(ErrorKind::NotFound, hidden))
    }

    /// What a line of `/proc/PID/cgroup` says, if it is about such a hierarchy.
    fn membership(self, line: &str) -> Option<&str> {
        let (_, named) = line.split_once(':')?;
        let (controllers, path) = named.split_once(':')?;
        let right = match self {
            Self::V2 => line.starts_with("0::"),
            Self::V1(wanted) => controllers.split(',').any(|controller| controller == wanted),
        };
        right.then_some(path)
    }

    /// Where a line of `mountinfo` shows the cgroup `own`, if it is of such a hierarchy and does.
    fn locate(self, line: &str, own: &str) -> Option<PathBuf> {
        let (mount, file_system) = line.split_once(" - ")?;
        let mut system = file_system.split(' ');
        let (kind, options) = (system.next()?, system.nth(1)?);
        let right = match self {
            Self::V2 => kind == "cgroup2",
            Self::V1(wanted) => kind == "cgroup" && options.split(',').any(|option| option == wanted),
        };
        if !right {
            return None;
        }
        let mut fields = mount.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let below = Path::new(own).strip_prefix(root).ok()?;
        Some(Path::new(&point.replace("\\040", " ")).join(below))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_cgroup_is_found_wherever_the_hierarchy_is_mounted() {
        let v2 = Wanted::V2;
        let hybrid = "34 25 0:28 / /sys/fs/cgroup/unified rw,relatime shared:9 - cgroup2 cgroup2 rw";
        assert_eq!(v2.locate(hybrid, "/a/b"), Some(PathBuf::from("/sys/fs/cgroup/unified/a/b")));
        let container = "34 25 0:28 /docker/1 /sys/fs/cgroup rw - cgroup2 cgroup rw";
        assert_eq!(v2.locate(container, "/docker/1"), Some(PathBuf::from("/sys/fs/cgroup/")));
        assert_eq!(v2.locate(container, "/elsewhere"), None);
        let [cpu, freezer] = ["cpu", "freezer"]
            .map(|controller| format!("34 25 0:28 / /sys/fs/cgroup/{controller} rw - cgroup cgroup rw,{controller},x"));
        assert_eq!(v2.locate(&cpu, "/"), None);
        assert_eq!(Wanted::V1("freezer").locate(&cpu, "/"), None);
        assert_eq!(Wanted::V1("freezer").locate(&freezer, "/a"), Some(PathBuf::from("/sys/fs/cgroup/freezer/a")));
        assert_eq!(Wanted::V1("freezer").locate(hybrid, "/a"), None);
    }

    #[test]
    fn a_process_is_in_one_cgroup_of_each_hierarchy() {
        let lines = ["6:freezer,pids:/a:b", "4:memory:/m", "1:name=systemd:/s", "0::/u"];
        let find = |wanted: Wanted| lines.iter().find_map(|line| wanted.membership(line));
        assert_eq!(find(Wanted::V2), Some("/u"));
        assert_eq!(find(Wanted::V1("freezer")), Some("/a:b"));
        assert_eq!(find(Wanted::V1("cpu")), None);
    }
}
