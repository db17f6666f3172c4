//! What happens in a child before it becomes another program: system calls only, everything was made ready before.

use super::privileges::ChildPrivileges;
use super::protocol::{LIMITS, SpawnRequest, Stage};
use crate::act::sys::{self, CStrings};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::ffi::{CStr, CString};

/// What a held child needs. Its descriptors close on exec; standard input is `/dev/null`, as it is the spawner's.
#[derive(Debug)]
pub(super) struct Child {
    program: CString,
    arguments: CStrings,
    environment: CStrings,
    folder: CString,
    open_files: u64,
    privileges: ChildPrivileges,
    log: OwnedFd,
    hold: OwnedFd,
    report: OwnedFd,
}

/// How a child joins cgroups that it cannot be made in. It joins by itself: whoever names it by its pid can hit
/// another, should it die in this moment.
#[derive(Debug)]
pub(super) struct Join {
    /// Each with the number that it is told by.
    files: Vec<(u8, OwnedFd)>,
    report: OwnedFd,
}

impl Join {
    /// For one child. What is read by the spawner comes first. A cgroup that cannot be joined at all is left out.
    ///
    /// Through `tasks`, which only v1 has, a process that has one thread and names nobody but itself joins without the
    /// kernel's lock of all forks and exits, for which it would wait several milliseconds (`cgroup_procs_write_start`).
    pub(super) fn new(cgroups: &[(u8, CString)]) -> Result<(OwnedFd, Self), Errno> {
        let (joined, report) = pipe_with(PipeFlags::CLOEXEC)?;
        let open = |folder: &CString| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let folder = rustix::fs::open(&**folder, flags, Mode::empty())?;
            let file = |name: &CStr| rustix::fs::openat(&folder, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
            file(c"tasks").or_else(|_| file(c"cgroup.procs"))
        };
        let files = cgroups.iter().filter_map(|(number, folder)| Some((*number, open(folder).ok()?))).collect();
        Ok((joined, Self { files, report }))
    }

    /// 0 is the process that writes.
    fn join(&self) {
        for (number, file) in &self.files {
            if rustix::io::write(file, b"0").is_ok() {
                let _ = rustix::io::write(&self.report, &[*number]);
            }
        }
    }
}

/// The numbers of the cgroups that a child has joined; waits until it has tried. The spawner has no other end of this
/// pipe any more, and the child closes its own.
pub(super) fn joined(report: &OwnedFd) -> Vec<u8> {
    let mut numbers = Vec::new();
    let mut some = [0; LIMITS + 1];
    while let Ok(read @ 1..) = rustix::io::retry_on_intr(|| rustix::io::read(report, &mut some)) {
        numbers.extend(some.iter().take(read));
    }
    numbers
}

impl Child {
    /// Makes everything ready. `hold` is read by the child, `report` is written by it.
    pub(super) fn new(request: SpawnRequest, log: OwnedFd, hold: OwnedFd, report: OwnedFd) -> Self {
        let SpawnRequest { program, arguments, environment, folder, open_files, privileges, .. } = request;
        let (arguments, environment) = (arguments.into(), environment.into());
        Self { program, arguments, environment, folder, open_files, privileges, log, hold, report }
    }

    /// The life of a child up to its exec, which begins with joining a cgroup. When it returns the child is to end.
    pub(super) fn live(&self, join: Option<&Join>) {
        if let Some(join) = join {
            join.join();
        }
        let (stage, errno) = match self.settle_in() {
            Err(errno) => (Stage::SetUp, errno),
            Ok(()) if !self.released() => return,
            Ok(()) => self.become_program(),
        };
        let [a, b, c, d] = errno.raw_os_error().to_le_bytes();
        // Nobody is left to be told when this fails.
        let _ = rustix::io::write(&self.report, &[stage as u8, a, b, c, d]);
    }

    /// Leaves behind what it has of the spawner: session, signals, descriptors, limit of open files.
    fn settle_in(&self) -> Result<(), Errno> {
        rustix::process::setsid()?;
        sys::reset_signals();
        rustix::stdio::dup2_stdout(&self.log)?;
        rustix::stdio::dup2_stderr(&self.log)?;
        // Among others the writing end of the hold: a copy of it here would keep this child waiting for ever.
        sys::close_all_but([self.hold.as_fd(), self.report.as_fd()]);
        let limit = getrlimit(Resource::Nofile);
        let soft = limit.maximum.map_or(self.open_files, |hard| hard.min(self.open_files));
        setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum: limit.maximum })
    }

    /// Waits until the record is written. False when the launcher let go or is gone.
    fn released(&self) -> bool {
        let mut byte = [0];
        loop {
            match rustix::io::read(&self.hold, &mut byte) {
                Ok(read) => return read == 1,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Returns only when that fails. Whoever it is by then has to be able to enter its folder.
    fn become_program(&self) -> (Stage, Errno) {
        if let Err(failure) = self.privileges.assume() {
            return failure;
        }
        match rustix::process::chdir(&*self.folder) {
            Err(errno) => (Stage::Folder, errno),
            Ok(()) => (Stage::Exec, sys::execve(&self.program, &self.arguments, &self.environment)),
        }
    }
}
