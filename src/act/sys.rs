//! The few system calls that have no safe wrapper. Everything unsafe of the crate is in this file.
#![expect(unsafe_code, reason = "clone3, execve and their surroundings have no safe wrapper")]

use rustix::io::Errno;
use std::ffi::{CStr, CString, c_char};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// `CLONE_INTO_CGROUP`, which does not fit the type that libc gives it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// The size of a set of signals in the kernel.
const SIGSET_LEN: usize = 8;
/// The highest signal number of Linux.
const LAST_SIGNAL: i32 = 64;
/// The exit code of a child that was let go of or could not be executed.
const NEVER_RAN: i32 = 127;
/// What is closed one by one where `close_range` is missing (before Linux 5.9).
const FALLBACK_FDS: RawFd = 4096;

/// Proof that this process has one thread, so that a clone of it is a whole process and not one with locks held by
/// threads that it has not got.
#[derive(Debug)]
pub(crate) struct SingleThreaded(());

impl SingleThreaded {
    /// Counts the threads. Whoever holds the proof starts none.
    pub(crate) fn prove() -> io::Result<Self> {
        let threads = std::fs::read_dir("/proc/self/task")?.count();
        if threads == 1 { Ok(Self(())) } else { Err(io::Error::other(format!("it has {threads} threads"))) }
    }
}

/// Strings in the form that `execve` takes: a null-terminated array of pointers.
#[derive(Debug)]
pub(crate) struct CStrings {
    pointers: Vec<*const c_char>,
    _strings: Vec<CString>,
}

impl From<Vec<CString>> for CStrings {
    fn from(strings: Vec<CString>) -> Self {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        Self { pointers, _strings: strings }
    }
}

/// Makes a sibling of this process, in `cgroup` from its first instruction, runs `child` in it, and ends it then.
pub(crate) fn clone_sibling(
    _proof: &SingleThreaded,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce(),
) -> Result<(i32, OwnedFd), Errno> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is a plain record of integers, for which all zeros is a valid value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = (libc::CLONE_PARENT | libc::CLONE_PIDFD).cast_unsigned().into();
    arguments.pidfd = ptr::from_mut(&mut pidfd).addr() as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: without CLONE_VM the child has a copy of this address space and stack; the process has one thread (see
    // the proof), so no lock is held in the copy; `arguments` and `pidfd` outlive the call.
    let result = unsafe { libc::syscall(libc::SYS_clone3, ptr::from_mut(&mut arguments), size_of_val(&arguments)) };
    match result {
        -1 => Err(last_errno()),
        0 => {
            child();
            exit_now(NEVER_RAN)
        }
        pid => {
            // SAFETY: the kernel has just opened this descriptor for us, and nobody else knows of it.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            i32::try_from(pid).map(|pid| (pid, pidfd)).map_err(|_| Errno::OVERFLOW)
        }
    }
}

/// Gives every signal its default disposition and unblocks all.
pub(crate) fn reset_signals() {
    // The kernel's own record: disposition SIG_DFL, no flags, no restorer, empty mask.
    let default = [0_u64; 4];
    // SAFETY: the system call reads a record of that size and nothing else. It is called directly since libc keeps two
    // signals for itself, which its posix_spawn leaves ignored; SIGKILL and SIGSTOP cannot be changed and need not be.
    // For sigset_t all zeros is valid, and the other calls read or write that and nothing else.
    unsafe {
        for signal in 1..=LAST_SIGNAL {
            libc::syscall(libc::SYS_rt_sigaction, signal, &raw const default, ptr::null_mut::<u64>(), SIGSET_LEN);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, ptr::null_mut());
    }
}

/// Makes this process deaf to what a terminal or a service manager sends to whole groups.
pub(crate) fn ignore_stop_signals() {
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: SIG_IGN installs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// Closes every descriptor but the three standard ones and the two given.
pub(crate) fn close_all_but(keep: [BorrowedFd<'_>; 2]) {
    let [a, b] = keep.map(|fd| fd.as_raw_fd());
    let (low, high) = (a.min(b), a.max(b));
    for (first, last) in [(3, low - 1), (low + 1, high - 1), (high + 1, RawFd::MAX)] {
        if first <= last {
            close_range(first, last);
        }
    }
}

fn close_range(first: RawFd, last: RawFd) {
    // SAFETY: close_range touches no memory. Called only where nothing uses or will drop any of these descriptors: in a
    // child that has just been cloned, and in a spawner that has opened nothing yet.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first.cast_unsigned(), last.cast_unsigned(), 0) };
    if result == -1 {
        for fd in first..=last.min(FALLBACK_FDS) {
            // SAFETY: as above.
            unsafe { libc::close(fd) };
        }
    }
}

/// A child that is made without being a copy of this process.
#[derive(Debug)]
pub(crate) struct PlainChild<'a> {
    /// The file to execute.
    pub(crate) program: &'a CStr,
    /// Its arguments, the first being its own name.
    pub(crate) arguments: &'a CStrings,
    /// Its whole environment.
    pub(crate) environment: &'a CStrings,
    /// Its working directory.
    pub(crate) folder: &'a CStr,
    /// Takes its output.
    pub(crate) log: &'a CStr,
    /// Becomes its descriptor 3.
    pub(crate) hold: BorrowedFd<'a>,
    /// Becomes its descriptor 4.
    pub(crate) report: BorrowedFd<'a>,
}

/// Makes a child in a session of its own, with default signals, by posix_spawn. Works in a program with many threads.
pub(crate) fn spawn_plain(child: &PlainChild<'_>) -> Result<i32, Errno> {
    let wanted = |error: i32| if error == 0 { Ok(()) } else { Err(Errno::from_raw_os_error(error)) };
    let flags =
        libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK | libc::c_int::from(libc::POSIX_SPAWN_SETSID);
    let flags = libc::c_short::try_from(flags).map_err(|_| Errno::INVAL)?;
    let append = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT | libc::O_NOFOLLOW | libc::O_NOCTTY;
    // Above those that the child is given, so that giving one does not overwrite another.
    let hold = rustix::io::fcntl_dupfd_cloexec(child.hold, 5)?;
    let report = rustix::io::fcntl_dupfd_cloexec(child.report, 5)?;
    // SAFETY: each object is initialized before it is used and destroyed once; the strings and descriptors outlive the
    // call; both arrays end with a null pointer, see `CStrings`. For a sigset_t all zeros is valid.
    unsafe {
        let mut actions: libc::posix_spawn_file_actions_t = std::mem::zeroed();
        wanted(libc::posix_spawn_file_actions_init(&raw mut actions))?;
        let mut attributes: libc::posix_spawnattr_t = std::mem::zeroed();
        let made = wanted(libc::posix_spawnattr_init(&raw mut attributes)).and_then(|()| {
            let mut signals: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut signals);
            wanted(libc::posix_spawnattr_setsigmask(&raw mut attributes, &raw const signals))?;
            libc::sigfillset(&raw mut signals);
            wanted(libc::posix_spawnattr_setsigdefault(&raw mut attributes, &raw const signals))?;
            wanted(libc::posix_spawnattr_setflags(&raw mut attributes, flags))?;
            let open = |fd, path: &CStr, how, actions: *mut libc::posix_spawn_file_actions_t| {
                wanted(libc::posix_spawn_file_actions_addopen(actions, fd, path.as_ptr(), how, 0o600))
            };
            let give = |from: i32, to, actions: *mut libc::posix_spawn_file_actions_t| {
                wanted(libc::posix_spawn_file_actions_adddup2(actions, from, to))
            };
            wanted(libc::posix_spawn_file_actions_addchdir_np(&raw mut actions, child.folder.as_ptr()))?;
            open(0, c"/dev/null", libc::O_RDONLY, &raw mut actions)?;
            open(1, child.log, append, &raw mut actions)?;
            give(1, 2, &raw mut actions)?;
            give(hold.as_raw_fd(), 3, &raw mut actions)?;
            give(report.as_raw_fd(), 4, &raw mut actions)?;
            let mut pid = 0;
            let spawned = libc::posix_spawn(
                &raw mut pid,
                child.program.as_ptr(),
                &raw const actions,
                &raw const attributes,
                child.arguments.pointers.as_ptr().cast(),
                child.environment.pointers.as_ptr().cast(),
            );
            libc::posix_spawnattr_destroy(&raw mut attributes);
            wanted(spawned).map(|()| pid)
        });
        libc::posix_spawn_file_actions_destroy(&raw mut actions);
        made
    }
}

/// Becomes another program; returns only if that fails.
pub(crate) fn execve(program: &CStr, arguments: &CStrings, environment: &CStrings) -> Errno {
    // SAFETY: both arrays end with a null pointer and point to strings that `CStrings` keeps alive.
    unsafe { libc::execve(program.as_ptr(), arguments.pointers.as_ptr(), environment.pointers.as_ptr()) };
    last_errno()
}

/// Ends this process without running anything that belongs to the process it is a copy of.
fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not return and runs no handlers.
    unsafe { libc::_exit(code) }
}

/// A user of this machine: its id, the id of its group, and the ids of all groups that it is in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its id.
    pub(crate) uid: u32,
    /// Its group.
    pub(crate) gid: u32,
    /// All its groups.
    pub(crate) groups: Vec<u32>,
}

/// What a record of the user or group database may take: the most that glibc itself asks for.
const RECORD_LIMIT: usize = 64 << 10;
/// The most groups that the kernel gives a process.
const GROUPS_LIMIT: libc::c_int = 65_536;

/// A user by name, from whatever databases the machine has. May block.
pub(crate) fn account(name: &CStr) -> io::Result<Option<Account>> {
    let mut buffer = vec![0; RECORD_LIMIT];
    // SAFETY: passwd is a plain record of integers and pointers, for which all zeros is a valid value.
    let mut record: libc::passwd = unsafe { std::mem::zeroed() };
    let mut found: *mut libc::passwd = ptr::null_mut();
    // SAFETY: all pointers are to live objects, and the buffer's length is its own.
    let error =
        unsafe { libc::getpwnam_r(name.as_ptr(), &raw mut record, buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
    match (error, found.is_null()) {
        (0, true) => return Ok(None),
        (0, false) => {}
        (error, _) => return Err(io::Error::from_raw_os_error(error)),
    }
    let mut count = GROUPS_LIMIT;
    let mut groups = vec![0; RECORD_LIMIT];
    // SAFETY: the array has room for as many groups as `count` says.
    let listed = unsafe { libc::getgrouplist(name.as_ptr(), record.pw_gid, groups.as_mut_ptr(), &raw mut count) };
    groups.truncate(usize::try_from(count).unwrap_or(0));
    if listed == -1 {
        return Err(io::Error::other("it is in more groups than a process can have"));
    }
    Ok(Some(Account { uid: record.pw_uid, gid: record.pw_gid, groups }))
}

/// A group by name. May block.
pub(crate) fn group_id(name: &CStr) -> io::Result<Option<u32>> {
    let mut buffer = vec![0; RECORD_LIMIT];
    // SAFETY: group is a plain record of integers and pointers, for which all zeros is a valid value.
    let mut record: libc::group = unsafe { std::mem::zeroed() };
    let mut found: *mut libc::group = ptr::null_mut();
    // SAFETY: all pointers are to live objects, and the buffer's length is its own.
    let error =
        unsafe { libc::getgrnam_r(name.as_ptr(), &raw mut record, buffer.as_mut_ptr(), buffer.len(), &raw mut found) };
    match error {
        0 => Ok((!found.is_null()).then_some(record.gr_gid)),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// `struct pidfd_info` of `linux/pidfd.h` in its first version.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// `_IOWR(0xFF, 11, struct pidfd_info)`.
const PIDFD_GET_INFO: libc::c_ulong = 0xC040_FF0B;
/// Asks for, and confirms, the exit code.
const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// The wait status of a process that has been reaped by whoever its parent was; needs Linux 6.15.
pub(crate) fn status_of_reaped(pidfd: BorrowedFd<'_>) -> Option<i32> {
    let mut answer = PidfdInfo { mask: PIDFD_INFO_EXIT, ..PidfdInfo::default() };
    // SAFETY: the request's number says the size of the record, which is that of PidfdInfo (64 bytes).
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, &raw mut answer) };
    (result == 0 && answer.mask & PIDFD_INFO_EXIT != 0).then_some(answer.exit_code)
}

/// Takes a pidfd into the runtime, where it becomes readable when its process has ended.
pub(crate) fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd names the same descriptor for as long as it lives, and closes it only when it is dropped, which
    // AsyncFd does after it has taken it out of the runtime.
    Ok(unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }?)
}

fn last_errno() -> Errno {
    Errno::from_raw_os_error(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}
