//! The cgroup of one run.

use super::hierarchy::Hierarchy;
use super::killing::{self, CgroupRung};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

/// A cgroup that was made for one run, and those that the run has made below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RunCgroup {
    pub(super) path: PathBuf,
    pub(super) rung: CgroupRung,
    /// Those by which it is limited besides.
    pub(super) limits: Vec<PathBuf>,
}

impl RunCgroup {
    /// One that is there, or was: a folder that is gone is empty.
    pub(in crate::act) const fn found(path: PathBuf, hierarchy: Hierarchy, limits: Vec<PathBuf>) -> Self {
        let rung = match hierarchy {
            Hierarchy::V2 => CgroupRung::KillFile,
            Hierarchy::Freezer | Hierarchy::Limits => CgroupRung::V1Freezer,
        };
        Self { path, rung, limits }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Those by which it is limited besides, which its main process joins by itself.
    pub(crate) fn limits(&self) -> &[PathBuf] {
        &self.limits
    }

    /// [`Key::file_name`](crate::model::Key::file_name) of the key it was made for, as far as its name says.
    pub(crate) fn key_file_name(&self) -> String {
        let name = self.name();
        name.rsplit_once('.').map_or(name.clone(), |(key, _)| key.to_owned())
    }

    /// The run it was made for, as far as its name says.
    pub(crate) fn run_name(&self) -> String {
        let name = self.name();
        name.rsplit_once('.').map_or(name.clone(), |(_, run)| run.to_owned())
    }

    /// Its own name: that of its key and of its run, with a dot between, as the name of a record begins.
    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    /// Whether it tells what its processes have used of CPU time, also when they are gone: a v2 cgroup does without any
    /// controller.
    pub(crate) fn tells_cpu(&self) -> bool {
        self.rung != CgroupRung::V1Freezer
    }

    /// Whether any process is in it or below it. A zombie is not, nor is anything in a cgroup that is gone.
    pub(crate) fn is_populated(&self) -> io::Result<bool> {
        if self.rung == CgroupRung::V1Freezer {
            return Ok(!self.processes()?.is_empty());
        }
        match std::fs::read_to_string(self.path.join("cgroup.events")) {
            Ok(events) => Ok(!events.lines().any(|line| line == "populated 0")),
            Err(gone) if is_gone(&gone) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The processes in it and below it, without those that are just ending.
    pub(crate) fn processes(&self) -> io::Result<BTreeSet<i32>> {
        let folders = self.folders()?;
        let mut found = BTreeSet::new();
        // When there are several a process can go from one that has not been read to one that has, so they are read
        // again in the other order.
        let again = folders.iter().rev().skip(1);
        for folder in folders.iter().chain(again) {
            match std::fs::read_to_string(folder.join("cgroup.procs")) {
                // 0 is what a process of another pid namespace is shown as.
                Ok(pids) => found.extend(pids.lines().filter_map(|pid| pid.parse::<i32>().ok())),
                Err(gone) if is_gone(&gone) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Kills everything in it and below it, once. What lives afterwards is killed by calling this again.
    pub(crate) fn kill(&self) -> io::Result<()> {
        match killing::kill(self) {
            Err(gone) if is_gone(&gone) => Ok(()),
            killed => killed,
        }
    }

    /// Removes it, what is below it, and those beside it; fails while anything is in it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // What it is tracked by comes last: as long as that is there, the rest is found by it.
        for folder in self.limits.iter().chain([&self.path]) {
            remove_whole(folder)?;
        }
        Ok(())
    }

    /// Of those beside it only these were joined; the others are removed.
    pub(crate) fn keep_limits(&mut self, joined: impl Fn(usize) -> bool) {
        let all = std::mem::take(&mut self.limits).into_iter().enumerate();
        let (kept, left): (Vec<_>, Vec<_>) = all.partition(|(number, _)| joined(*number));
        self.limits = kept.into_iter().map(|(_, folder)| folder).collect();
        for (_, folder) in left {
            // It is empty, and is removed with what is empty otherwise.
            drop(std::fs::remove_dir(folder));
        }
    }

    /// It and every cgroup below it, parents first.
    pub(super) fn folders(&self) -> io::Result<Vec<PathBuf>> {
        below(&self.path)
    }
}

fn remove_whole(cgroup: &Path) -> io::Result<()> {
    for folder in below(cgroup)?.iter().rev() {
        match std::fs::remove_dir(folder) {
            Err(error) if !is_gone(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// A cgroup and every one below it, parents first.
fn below(cgroup: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = vec![cgroup.to_owned()];
    let mut next = 0;
    while let Some(folder) = found.get(next) {
        match std::fs::read_dir(folder) {
            Ok(entries) => {
                let below: Vec<PathBuf> = entries
                    .filter_map(io::Result::ok)
                    .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                    .map(|entry| entry.path())
                    .collect();
                found.extend(below);
            }
            Err(gone) if is_gone(&gone) => {}
            Err(error) => return Err(error),
        }
        next += 1;
    }
    Ok(found)
}

/// What reading a cgroup says that is being removed, or has been.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ENODEV)
}
