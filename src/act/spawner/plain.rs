//! Children without a spawner, for a program that embeds the launcher and does not begin with `run_if_spawner`.
//!
//! A shell stands in for the child: it is started by posix_spawn in a session of its own, waits on a pipe until its
//! record is written, and becomes the program. So a child is held here as well, and exits when its launcher dies.
//!
//! What this cannot do: change the user, the priority or a limit other than that of core dumps, which is why none of them
//! may be asked for (`act/privileges`), say why the exec itself failed (it shows as exit code 126 or 127), give the program another
//! name than its path, and keep back descriptors that the embedding program has opened without close-on-exec. A shell
//! that is bash adds `PWD`, `SHLVL` and `_` to the environment, and signals 32 and 33 stay ignored.

use super::client::{HeldChild, SpawnFailure};
use super::protocol::{SpawnRequest, Stage};
use crate::act::known::KnownPids;
use crate::act::sys::{self, CStrings, PlainChild};
use crate::model::LimitName;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::{CStr, CString};
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// The shell that POSIX promises.
const SHELL: &CStr = c"/bin/sh";
/// Waits for a word on descriptor 3, restores the limit of open files `$1`, forbids core dumps where `$2` says so, and
/// becomes the rest.
const SCRIPT: &CStr = c"read -r go <&3
[ -n \"$go\" ] || exit 127
ulimit -S -n \"$1\" 2>/dev/null
[ -z \"$2\" ] || ulimit -c 0 || exit 126
shift 2
exec \"$@\" 3<&- 4>&-";

/// Makes a child, which is then held. Blocks for as long as a spawn takes.
pub(super) fn spawn(request: SpawnRequest, known: &KnownPids) -> Result<HeldChild, SpawnFailure> {
    let at = |stage| move |errno| SpawnFailure { stage, errno };
    let SpawnRequest { program, arguments, environment, folder, log, cgroup, limits, open_files, privileges } = request;
    let place = rustix::fs::open(&*folder, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    place.map_err(at(Stage::Folder))?;
    let (hold, release) = pipe_with(PipeFlags::CLOEXEC).map_err(at(Stage::Pipes))?;
    let (outcome, report) = pipe_with(PipeFlags::CLOEXEC).map_err(at(Stage::Pipes))?;
    let limit = CString::new(open_files.to_string()).map_err(|_| at(Stage::Request)(Errno::INVAL))?;
    let name = CString::from(c"sh");
    let no_core = privileges.rlimits.iter().any(|(name, _)| *name == LimitName::Core);
    let no_core = CString::from(if no_core { c"0" } else { c"" });
    let own = [name.clone(), CString::from(c"-c"), CString::from(SCRIPT), name, limit, no_core, program];
    let arguments: Vec<CString> = own.into_iter().chain(arguments.into_iter().skip(1)).collect();
    let child = PlainChild {
        program: SHELL,
        arguments: &CStrings::from(arguments),
        environment: &CStrings::from(environment),
        folder: &folder,
        log: &log,
        hold: hold.as_fd(),
        report: report.as_fd(),
    };
    let pid = sys::spawn_plain(&child).map_err(at(Stage::Clone))?;
    known.add(pid);
    let held = Pid::from_raw(pid).ok_or(Errno::SRCH).and_then(|own| pidfd_open(own, PidfdFlags::empty()));
    let pidfd = held.map_err(|errno| {
        known.abandon(pid);
        at(Stage::HandOver)(errno)
    })?;
    // It is a child of this process that nobody has reaped, so its pid is its own.
    let joins = |folder: &CStr| {
        let procs = Path::new(std::ffi::OsStr::from_bytes(folder.to_bytes())).join("cgroup.procs");
        std::fs::write(procs, pid.to_string()).is_ok()
    };
    let joined = limits.iter().enumerate().fold(0, |mask, (number, limit)| mask | (u8::from(joins(limit)) << number));
    let in_cgroup = cgroup.is_some_and(|folder| joins(&folder));
    Ok(HeldChild { pid, pidfd, release, outcome, in_cgroup, joined })
}
