//! Killing what is in a cgroup, on each rung.

use super::RunCgroup;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::path::Path;

/// How often one killing looks again for what was forked before everything was frozen. A process that sleeps in the
/// kernel cannot be frozen, so this is not waited for without end: whoever kills comes back.
const ROUNDS: usize = 64;

/// By what a tree in a cgroup is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CgroupRung {
    /// In one stroke by the file `cgroup.kill` (v2, Linux 5.14).
    KillFile,
    /// Frozen, so that nothing forks, and killed one by one: a v2 hierarchy before that.
    FreezeAndLoop,
    /// The same by the freezer of v1, where what is frozen dies once it is thawed.
    V1Freezer,
}

/// Kills everything in a cgroup and below it, once.
pub(super) fn kill(cgroup: &RunCgroup) -> io::Result<()> {
    match cgroup.rung {
        CgroupRung::KillFile => match std::fs::write(cgroup.path.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == ErrorKind::NotFound && cgroup.path.exists() => {
                one_by_one(cgroup, Freezer::V2)
            }
            killed => killed,
        },
        CgroupRung::FreezeAndLoop => one_by_one(cgroup, Freezer::V2),
        CgroupRung::V1Freezer => one_by_one(cgroup, Freezer::V1),
    }
}

/// Frozen, nothing can fork while it is being killed. Where it cannot be frozen, repeating has to do.
fn one_by_one(cgroup: &RunCgroup, freezer: Freezer) -> io::Result<()> {
    drop(freezer.freeze(&cgroup.path));
    let killed = kill_members(cgroup, freezer);
    // Also when that failed, and below as well: a run can have frozen a cgroup of its own.
    for folder in cgroup.folders()? {
        drop(freezer.thaw(&folder));
    }
    killed
}

fn kill_members(cgroup: &RunCgroup, freezer: Freezer) -> io::Result<()> {
    let mut killed = BTreeSet::new();
    for _ in 0..ROUNDS {
        // Asked before the list is read, so that the last list is one of which nothing can have forked.
        let settled = freezer.is_frozen(&cgroup.path);
        let opened: Vec<_> = cgroup
            .processes()?
            .difference(&killed)
            .filter_map(|pid| Some((*pid, pidfd_open(Pid::from_raw(*pid)?, PidfdFlags::empty()).ok()?)))
            .collect();
        // Only what is still in it now that it is held: a pid could have been given to another between the two.
        let still = if opened.is_empty() { BTreeSet::new() } else { cgroup.processes()? };
        for (pid, pidfd) in opened.iter().filter(|(pid, _)| still.contains(pid)) {
            let _ = pidfd_send_signal(pidfd, Signal::KILL);
            killed.insert(*pid);
        }
        if settled {
            break;
        }
    }
    Ok(())
}

/// The files by which a cgroup is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Freezer {
    V2,
    V1,
}

impl Freezer {
    fn freeze(self, folder: &Path) -> io::Result<()> {
        match self {
            Self::V2 => std::fs::write(folder.join("cgroup.freeze"), "1"),
            Self::V1 => std::fs::write(folder.join("freezer.state"), "FROZEN"),
        }
    }

    fn thaw(self, folder: &Path) -> io::Result<()> {
        match self {
            Self::V2 => std::fs::write(folder.join("cgroup.freeze"), "0"),
            Self::V1 => std::fs::write(folder.join("freezer.state"), "THAWED"),
        }
    }

    /// Whether everything in it has come to a halt.
    fn is_frozen(self, folder: &Path) -> bool {
        let (file, line) = match self {
            Self::V2 => ("cgroup.events", "frozen 1"),
            Self::V1 => ("freezer.state", "FROZEN"),
        };
        std::fs::read_to_string(folder.join(file)).is_ok_and(|text| text.lines().any(|found| found == line))
    }
}
