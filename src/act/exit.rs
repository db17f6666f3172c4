//! How a process ended: from the kernel if it is our child, else as far as it can be found out. Never guessed.

use super::identity::{ProcessStat, may_read_exit};
use super::sys;
use crate::model::{ExitReason, ProcessIdentity};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// What can be said about a process that is owned by a pidfd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    /// It is a child of this process and has not ended.
    Running,
    /// It is a child of this process and has ended so.
    Ended(ExitReason),
    /// It is somebody else's child, or was reaped.
    NotOurs,
}

/// Whether a child that has ended stays a zombie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reaping {
    /// It is reaped.
    Reap,
    /// It stays, and so does its pid.
    Leave,
}

/// Asks about a process without waiting.
pub(crate) fn wait(pidfd: BorrowedFd<'_>, reaping: Reaping) -> Waited {
    let mut options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    if reaping == Reaping::Leave {
        options |= WaitIdOptions::NOWAIT;
    }
    match rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), options)) {
        Ok(None) => Waited::Running,
        Ok(Some(status)) => Waited::Ended(match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => ExitReason::Code(code),
            (None, Some(signal)) => ExitReason::Signal(signal),
            (None, None) => ExitReason::Unknown,
        }),
        Err(_) => Waited::NotOurs,
    }
}

/// How a process ended that is not our child: while it is a zombie from `/proc`, afterwards from its pidfd.
/// `None` when it is a zombie whose exit may not be read: its reaping is worth waiting for.
pub(crate) fn of_stranger(pidfd: BorrowedFd<'_>, identity: &ProcessIdentity) -> Option<ExitReason> {
    let zombie = ProcessStat::read(identity.pid).ok().filter(|stat| stat.is(identity) && stat.has_ended());
    match zombie {
        Some(stat) if may_read_exit(identity.pid) => Some(from_status(stat.exit_status)),
        Some(_) => None,
        None => Some(sys::status_of_reaped(pidfd).map_or(ExitReason::Unknown, from_status)),
    }
}

/// Whether the process of a pidfd has ended, threads and all.
pub(crate) fn has_ended(pidfd: BorrowedFd<'_>) -> Result<bool, Errno> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let mut polled = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    Ok(rustix::io::retry_on_intr(|| poll(&mut polled, Some(&now)))? > 0)
}

/// Reads a wait status as `wait(2)` gives it.
const fn from_status(status: i32) -> ExitReason {
    match status & 0x7f {
        0 => ExitReason::Code((status >> 8) & 0xff),
        signal => ExitReason::Signal(signal),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_status_is_read_as_the_manual_says() {
        assert_eq!(from_status(0), ExitReason::Code(0));
        assert_eq!(from_status(3 << 8), ExitReason::Code(3));
        assert_eq!(from_status(9), ExitReason::Signal(9));
        assert_eq!(from_status(0x8b), ExitReason::Signal(11));
    }
}
