//! The single-threaded process that makes children, so that the launcher never forks.
//!
//! The launcher runs its own executable again as the spawner and talks to it over a socket pair. For each request the
//! spawner clones a sibling of itself, so that the child is the launcher's own, in its cgroup from the first
//! instruction, and held on a pipe until its record is written. Whoever dies meanwhile closes an end of that pipe, and
//! the child exits. The spawner keeps nothing between requests and ends when its socket closes.

pub(crate) mod child;
pub(crate) mod client;
mod plain;
pub(crate) mod privileges;
pub(crate) mod protocol;

pub(crate) use client::{Client, HeldChild, SpawnFailure};
pub(crate) use privileges::{ChildPrivileges, ChildUser};
pub(crate) use protocol::{SpawnRequest, Stage};

use crate::act::sys::{self, SingleThreaded};
use crate::model::{Confinement, Protection};
use child::{Child, Join};
use protocol::{REPLY_FDS, REQUEST_LIMIT, Reply};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use rustix::pipe::{PipeFlags, pipe_with};
use std::ffi::{CString, OsString};
use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

/// The first argument of a process that is to be a spawner. Its standard input is its socket.
pub(crate) const SUBCOMMAND: &str = "__spawner";
/// The number of the cgroup that a tree is tracked by, among those that a child joins by itself.
const TRACKING: u8 = u8::MAX;
/// The first argument of a process that is to become another one, confined as its second argument says: an exec probe.
const CONFINED: &str = "__confined";
/// The exit code of one that could not.
const NOT_CONFINED: u8 = 126;
/// The type of a v2 cgroup file system.
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// Whether `main` began with [`run_if_spawner`], so that running this executable again gives a spawner.
static ENTERED: AtomicBool = AtomicBool::new(false);

/// Runs the spawner and returns its exit code if this process was started as one, else returns `None` at once.
/// It is the first line of `main`, before any thread is started.
///
/// ```
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     if let Some(code) = pattern_launcher::run_if_spawner() {
///         return code;
///     }
///     // The program itself.
///     ExitCode::SUCCESS
/// }
/// ```
pub fn run_if_spawner() -> Option<ExitCode> {
    ENTERED.store(true, Ordering::Relaxed);
    let argument = std::env::args_os().nth(1)?;
    if argument == CONFINED {
        // What failed is read by whoever waits for the probe.
        let failure = become_confined();
        let _ = rustix::io::write(rustix::stdio::stderr(), format!("{failure}\n").as_bytes());
        return Some(ExitCode::from(NOT_CONFINED));
    }
    if argument != SUBCOMMAND {
        return None;
    }
    Some(match serve_launcher() {
        Ok(()) => ExitCode::SUCCESS,
        // There is nobody to tell but the launcher, who sees the socket close.
        Err(_) => ExitCode::FAILURE,
    })
}

/// Whether this executable can be run as a spawner.
pub(crate) fn was_entered() -> bool {
    ENTERED.load(Ordering::Relaxed)
}

/// The words that run what follows them confined like a process; `None` where that is no difference.
pub(crate) fn confined(confinement: &Confinement) -> Option<[OsString; 3]> {
    let (uid, gid) = (confinement.uid?, confinement.gid?);
    let has = |protection| confinement.protections.contains(&protection);
    let privileges = ChildPrivileges {
        user: Some(ChildUser { uid, gid, groups: Vec::new() }),
        no_new_privileges: has(Protection::NoNewPrivileges),
        no_capabilities: has(Protection::NoCapabilities),
        ..ChildPrivileges::default()
    };
    let privileges = serde_json::to_string(&privileges).unwrap_or_default();
    Some([client::executable().into(), CONFINED.into(), privileges.into()])
}

/// Becomes what its arguments say; returns only when that fails.
fn become_confined() -> std::io::Error {
    let mut arguments = std::env::args_os().skip(2);
    let alone = SingleThreaded::prove().map(drop);
    let privileges = arguments.next().and_then(|text| serde_json::from_slice(text.as_encoded_bytes()).ok());
    let (Ok(()), Some(privileges), Some(program)) = (alone, privileges, arguments.next()) else {
        return std::io::Error::from(Errno::INVAL);
    };
    let privileges: ChildPrivileges = privileges;
    if let Err((_, errno)) = privileges.assume() {
        return errno.into();
    }
    #[expect(clippy::disallowed_methods, reason = "it becomes the program and starts none")]
    let mut command = std::process::Command::new(program);
    std::os::unix::process::CommandExt::exec(command.args(arguments))
}

fn serve_launcher() -> std::io::Result<()> {
    let alone = SingleThreaded::prove()?;
    sys::ignore_stop_signals();
    // Fails when this process already leads a group, in which case it has a session of its own or nobody cares.
    let _ = rustix::process::setsid();
    let mut socket = UnixStream::from(rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)?);
    // What whoever started the launcher left open is not kept open from here.
    sys::close_all_but([socket.as_fd(); 2]);
    let nothing = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&nothing)?;
    drop(nothing);
    let mut body = Vec::new();
    loop {
        let mut len = [0; 4];
        match socket.read_exact(&mut len) {
            Ok(()) => {}
            Err(end) if end.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(error),
        }
        let len = usize::try_from(u32::from_le_bytes(len)).unwrap_or(usize::MAX);
        if len > REQUEST_LIMIT {
            return Err(std::io::Error::other("a request is over its limit"));
        }
        body.resize(len, 0);
        socket.read_exact(&mut body)?;
        let made = SpawnRequest::decode(&body).ok_or((Stage::Request, Errno::INVAL)).and_then(|r| make(&alone, r));
        reply(socket.as_fd(), &made)?;
    }
}

/// A child and the launcher's ends of its pipes.
struct Made {
    pid: i32,
    in_cgroup: bool,
    joined: u8,
    pidfd: OwnedFd,
    release: OwnedFd,
    outcome: OwnedFd,
}

fn make(alone: &SingleThreaded, request: SpawnRequest) -> Result<Made, (Stage, Errno)> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let log = rustix::fs::open(&*request.log, flags, Mode::RUSR | Mode::WUSR).map_err(|e| (Stage::Log, e))?;
    let (hold, release) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| (Stage::Pipes, e))?;
    let (outcome, report) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| (Stage::Pipes, e))?;
    let cgroup = request.cgroup.clone();
    let folder = cgroup.as_deref().and_then(|path| {
        rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()
    });
    let mut joins: Vec<(u8, CString)> = (0..).zip(request.limits.iter().cloned()).collect();
    let child = Child::new(request, log, hold, report);
    let mut made = None;
    if let Some(folder) = folder.as_ref().filter(|folder| is_v2(folder)) {
        match clone_child(alone, Some(folder), &joins, &child) {
            Ok((pid, pidfd, numbers)) => made = Some((pid, pidfd, numbers, true)),
            Err(errno @ (Errno::AGAIN | Errno::NOMEM)) => return Err((Stage::Clone, errno)),
            // The kernel cannot do it (before 5.7), or not from here.
            Err(_) => {}
        }
    }
    let (pid, pidfd, numbers, cloned_into) = if let Some(made) = made {
        made
    } else {
        joins.extend(cgroup.map(|path| (TRACKING, path)));
        let (pid, pidfd, numbers) = clone_child(alone, None, &joins, &child).map_err(|e| (Stage::Clone, e))?;
        (pid, pidfd, numbers, false)
    };
    // What is tracked and limited how is the launcher's business, so a child that could not join is made and said to be so.
    let in_cgroup = cloned_into || numbers.contains(&TRACKING);
    let joined = numbers.iter().filter(|number| **number != TRACKING).fold(0, |mask, number| mask | (1 << number));
    Ok(Made { pid, in_cgroup, joined, pidfd, release, outcome })
}

/// Makes a child in a cgroup, and waits until it has tried to join others; says which of them it has joined.
fn clone_child(
    alone: &SingleThreaded,
    cgroup: Option<&OwnedFd>,
    joins: &[(u8, CString)],
    child: &Child,
) -> Result<(i32, OwnedFd, Vec<u8>), Errno> {
    let cgroup = cgroup.map(AsFd::as_fd);
    if joins.is_empty() {
        let (pid, pidfd) = sys::clone_sibling(alone, cgroup, || child.live(None))?;
        return Ok((pid, pidfd, Vec::new()));
    }
    let (told, join) = Join::new(joins)?;
    let (pid, pidfd) = sys::clone_sibling(alone, cgroup, || child.live(Some(&join)))?;
    // The end that this process has itself.
    drop(join);
    Ok((pid, pidfd, child::joined(&told)))
}

/// Whether a child can be made in it; it must join any other by itself.
fn is_v2(folder: &OwnedFd) -> bool {
    rustix::fs::fstatfs(folder).is_ok_and(|system| system.f_type == CGROUP2_MAGIC)
}

fn reply(socket: BorrowedFd<'_>, made: &Result<Made, (Stage, Errno)>) -> std::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(REPLY_FDS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: [BorrowedFd<'_>; REPLY_FDS];
    let bytes = match made {
        Ok(Made { pid, in_cgroup, joined, pidfd, release, outcome }) => {
            descriptors = [pidfd.as_fd(), release.as_fd(), outcome.as_fd()];
            control.push(SendAncillaryMessage::ScmRights(&descriptors));
            Reply::Made { pid: *pid, in_cgroup: *in_cgroup, joined: *joined }.encode()
        }
        Err((stage, errno)) => Reply::Failed { stage: *stage, errno: errno.raw_os_error() }.encode(),
    };
    // A reply is far smaller than the socket's buffer, so it is sent whole or not at all.
    rustix::io::retry_on_intr(|| sendmsg(socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL))?;
    Ok(())
}
